#!/bin/sh
# Removes what install.sh has installed: ./uninstall.sh [--prefix DIR]
#
# The configuration in /etc/pannier, the data in /var/lib/pannier and the user pannier stay.
set -eu
cd "$(dirname "$0")"

prefix=/usr/local
if [ "${1-}" = --prefix ] && [ -n "${2-}" ]; then
    prefix=${2%/}
elif [ $# -gt 0 ]; then
    echo "usage: $0 [--prefix DIR]" >&2
    exit 2
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "$0: needs root: sudo $0" >&2
    exit 1
fi

if [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now pannier.service || true
fi
rm -f /etc/systemd/system/pannier.service
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
# What the tarball holds, and nothing else.
find bin share -type f | while IFS= read -r file; do
    rm -f "$prefix/$file"
done
rmdir "$prefix/share/doc/pannier/examples" "$prefix/share/doc/pannier" 2>/dev/null || true
echo "Removed. Kept: /etc/pannier, /var/lib/pannier and the user pannier."
