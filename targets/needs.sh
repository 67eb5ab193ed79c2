# Sourced by the scripts that build and test: finds what they need, and installs what is missing.
# shellcheck shell=sh

# rustup's own installation, where the shell has not been told of it yet; and Debian's place for
# servers, which users don't have.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

say() { echo "$0: $*" >&2; }

# install_packages PACKAGE...: asks apt-get for them.
install_packages() {
    if ! command -v apt-get >/dev/null; then
        say "needs $*, and there is no apt-get: install them with your system's package manager"
        return 1
    fi
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        as_root=sudo
    fi
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# need PROGRAM PACKAGE...: the packages are installed where there is no such program.
need() {
    if ! command -v "$1" >/dev/null; then
        shift
        install_packages "$@"
    fi
}

need_rust() {
    if ! command -v cargo >/dev/null; then
        say "needs Rust: install it from https://rustup.rs"
        return 1
    fi
}

# A C compiler is of no use without the library's headers.
need_c() {
    need cc gcc libc6-dev
    [ -e /usr/include/stdlib.h ] || install_packages libc6-dev
}
