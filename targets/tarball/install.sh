#!/bin/sh
# Installs Pannier: ./install.sh [--prefix DIR]; and removes it: ./install.sh --remove [--prefix DIR]
#
# The program goes below the prefix, /usr/local unless another is named. Run again with a newer one,
# it upgrades: the configuration in /etc/pannier and the data in /var/lib/pannier stay as they are.
# Where systemd runs the machine, the service is enabled and started. A removal leaves the
# configuration, the data and the user pannier.
set -eu
cd "$(dirname "$0")"
umask 022

prefix=/usr/local
action=install_all
while [ $# -gt 0 ]; do
    case $1 in
    --remove) action=remove_all ;;
    --prefix)
        shift
        prefix=${1:?--prefix needs a directory}
        prefix=${prefix%/}
        ;;
    *)
        echo "usage: $0 [--remove] [--prefix DIR]" >&2
        exit 2
        ;;
    esac
    shift
done
if [ "$(id -u)" -ne 0 ]; then
    echo "$0: needs root: sudo $0" >&2
    exit 1
fi

add_user() {
    if grep -q '^pannier:' /etc/passwd; then
        return
    elif command -v useradd >/dev/null; then
        useradd --system --user-group --home-dir /var/lib/pannier --no-create-home \
            --shell /bin/false pannier
    elif command -v adduser >/dev/null; then
        # Busybox's
        addgroup -S pannier 2>/dev/null || true
        adduser -S -D -H -h /var/lib/pannier -s /bin/false -G pannier pannier
    else
        echo "$0: there is no useradd and no adduser: add the user and the group pannier, and run it again" >&2
        exit 1
    fi
}

install_all() {
    if ! ./bin/pannier --version >/dev/null; then
        echo "$0: the program doesn't run here: take the tarball for $(uname -m)" >&2
        exit 1
    fi
    add_user
    # The program is replaced as a whole: one that runs keeps its own.
    mkdir -p "$prefix/bin"
    cp bin/pannier "$prefix/bin/pannier.new"
    mv "$prefix/bin/pannier.new" "$prefix/bin/pannier"
    cp -R share "$prefix/"

    mkdir -p /etc/pannier
    chown root:pannier /etc/pannier
    chmod 0750 /etc/pannier
    if [ ! -e /etc/pannier/node.yaml ]; then
        cp node.yaml /etc/pannier/node.yaml
    fi
    mkdir -p /var/lib/pannier
    chown pannier:pannier /var/lib/pannier
    chmod 0700 /var/lib/pannier

    if command -v systemctl >/dev/null; then
        mkdir -p /etc/systemd/system
        sed "s|/usr/bin/pannier|$prefix/bin/pannier|" pannier.service >/etc/systemd/system/pannier.service
    fi
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable --quiet pannier.service
        systemctl restart pannier.service
        echo "Installed and started; see: systemctl status pannier"
    else
        echo "Installed. systemd doesn't run here, so let your system's init start, as the user pannier:"
        echo "    $prefix/bin/pannier run --resources-path /etc/pannier --data-dir /var/lib/pannier"
        echo "It stops on SIGTERM, and is to be started again when it ends with another status than 78."
    fi
}

remove_all() {
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
}

$action
