# Sourced by the scripts that build and test, in the repository's folder: finds what they need, and
# installs what is missing.
# shellcheck shell=sh

# rustup's own installation, where the shell has not been told of it yet; and Debian's place for
# servers, which users don't have.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

say() { echo "$0: $*" >&2; }

# apt_get ARGUMENTS...: runs apt-get as root.
apt_get() {
    if [ "$(id -u)" -eq 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
    elif command -v sudo >/dev/null; then
        sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
    else
        say "apt-get needs root, and there is no sudo: install the packages as root, or install sudo"
        return 1
    fi
}

# install_packages PACKAGE...: asks apt-get for them. No other package is removed for them.
install_packages() {
    if ! command -v apt-get >/dev/null; then
        say "needs $*, and there is no apt-get: install them with your system's package manager"
        return 1
    fi
    say "installs with apt-get: $*"
    if ! { apt_get update && apt_get install -y --no-install-recommends --no-remove "$@"; }; then
        say "apt-get failed to install $*, see above"
        name_what_is_in_the_way "$@"
        return 1
    fi
}

# name_what_is_in_the_way PACKAGE...: names the packages that can't be installed beside these.
name_what_is_in_the_way() {
    others=$(LC_ALL=C apt-get install -s --no-install-recommends "$@" 2>/dev/null |
        sed -n 's/^Remv \([^ ]*\).*/\1/p' | paste -s -d ' ')
    [ -z "$others" ] || say "other packages are in the way, remove them first: apt-get remove $others"
}

# need PROGRAM PACKAGE...: the packages are installed where there is no such program.
need() {
    if ! command -v "$1" >/dev/null; then
        shift
        install_packages "$@"
    fi
}

# A C compiler is of no use without the library's headers.
need_c() {
    need cc gcc libc6-dev
    [ -e /usr/include/stdlib.h ] || install_packages libc6-dev
}

# Finds a Rust that is new enough for Cargo.toml, or installs one.
need_rust() {
    least=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    pinned=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
    if rust_suffices; then
        return
    fi
    say "needs Rust $least or later, and finds ${rust_found:-none}"
    if install_rust && rust_suffices; then
        say "uses $rust_found"
        return
    fi
    say "failed to install Rust: install $least or later from https://rustup.rs, and start this again"
    return 1
}

# Succeeds if the first cargo and rustc in PATH are new enough; sets `rust_found` to what was found.
rust_suffices() {
    rust_found=
    for tool in cargo rustc; do
        command -v $tool >/dev/null || return 1
        # rustup would download a missing toolchain unannounced, just to answer --version.
        if is_rustups $tool && ! rustup_has_toolchain; then
            rust_found="rustup without Rust ${RUSTUP_TOOLCHAIN:-$pinned}"
            return 1
        fi
        rust_found=$($tool --version 2>/dev/null)
        is_at_least "$least" "$(echo "$rust_found" | cut -d ' ' -f 2)" || return 1
    done
}

# is_rustups PROGRAM: succeeds if it is one of rustup's, which starts that of a toolchain.
is_rustups() { [ -x "$(dirname "$(command -v "$1")")/rustup" ]; }

rustup_has_toolchain() { rustup toolchain list 2>/dev/null | grep -q "^${RUSTUP_TOOLCHAIN:-$pinned}"; }

is_at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# Tries rustup where it is installed, then Debian's Rust, then Debian's rustup. Debian's Rust comes first
# because it needs no other server than apt-get, and its version is known before it is installed.
install_rust() {
    if command -v rustup >/dev/null && install_toolchain; then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        return 1
    fi
    apt_get update || return 1
    if is_at_least "$least" "$(candidate rustc-web)"; then
        say "installs Rust $(candidate rustc-web): downloads up to 170 MB, fills 730 MB, takes about a minute"
        install_packages rustc-web cargo-web ca-certificates || return 1
        PATH="/usr/bin:$PATH"
    elif ! command -v rustup >/dev/null && [ -n "$(candidate rustup)" ]; then
        install_packages rustup ca-certificates && install_toolchain
    else
        say "apt-get offers no Rust $least or later (rustc-web), and no rustup"
        return 1
    fi
}

# candidate PACKAGE: prints the version that apt-get would install, if there is one.
candidate() { LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Candidate: \([0-9].*\)/\1/p'; }

install_toolchain() {
    say "installs Rust $pinned with rustup: downloads 130 MB, fills 620 MB, takes about a minute"
    rustup toolchain install "$pinned" --profile minimal --component clippy,rustfmt --no-self-update || return 1
    PATH="$(dirname "$(command -v rustup)"):$PATH"
}
