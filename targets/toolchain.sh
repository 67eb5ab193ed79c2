# Sourced by the scripts beside it after needs.sh, in the repository's folder: what builds a static
# binary without Docker. zig is the linker and the C compiler; the standard library is built from source.
# shellcheck shell=sh

# The first whose standard library can have a time_t of 64 bits on 32-bit ARM.
RUST=1.96.0
ZIGBUILD=0.24.0
# The version decides what musl is like inside: its allocator, and time_t.
ZIG=0.17.1

# Where cargo builds.
built=${CARGO_TARGET_DIR:-$PWD/target}

# Names the targets asked for, or all that have a folder; an unknown one is an error.
targets_of() {
    if [ $# -eq 0 ]; then
        for file in targets/*/target.sh; do
            basename "$(dirname "$file")"
        done
        return
    fi
    for target in "$@"; do
        if [ ! -e "targets/$target/target.sh" ]; then
            say "there is no target $target, its folder would be targets/$target"
            return 2
        fi
        echo "$target"
    done
}

# Installs zig and finds a compiler whose standard library's source is here.
find_toolchain() {
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    # Debian's python3 comes without what makes a venv.
    python3 -c 'import ensurepip' 2>/dev/null || install_packages python3 python3-venv
    zig=$built/zig-$ZIG-$ZIGBUILD
    if [ ! -x "$zig/bin/cargo-zigbuild" ]; then
        if ! { python3 -m venv "$zig" &&
            "$zig/bin/pip" install --quiet "cargo-zigbuild==$ZIGBUILD" "ziglang==$ZIG"; }; then
            rm -rf "$zig"
            say "needs PyPI to install zig"
            return 1
        fi
    fi
    PATH="$zig/bin:$PATH"
    # rustup's, or else Debian's.
    if command -v rustup >/dev/null && { has_source "$(rustup which --toolchain $RUST rustc 2>/dev/null)" ||
        rustup toolchain install $RUST --profile minimal --component rust-src; }; then
        CARGO=$(rustup which --toolchain $RUST cargo)
        RUSTC=$(rustup which --toolchain $RUST rustc)
    else
        CARGO=/usr/bin/cargo
        RUSTC=/usr/bin/rustc
        if ! has_source $RUSTC; then
            say "rustup has no Rust $RUST: installs Debian's"
            install_packages cargo-web rustc-web rust-web-src
        fi
    fi
    # For -Zbuild-std on a stable compiler.
    RUSTC_BOOTSTRAP=1
    export PATH CARGO RUSTC RUSTC_BOOTSTRAP
}

# Compiler and source must be of one version.
has_source() { [ -x "$1" ] && [ -e "$("$1" --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]; }

# build FLAGS...: cargo builds what the flags say, for each `--target TARGET` among them. All at once
# it is faster than one by one: while one links, which takes one core, another compiles.
build() {
    # link-self-contained: or rustc looks for the crt1.o that zig brings. force-unwind-tables: panics
    # abort, and nobody unwinds. libc_unstable_...: zig's musl is one with a time_t of 64 bits on
    # every target, 32-bit ARM too; the variable tells the libc within the standard library.
    # -u,getrandom: the standard library does without it, so that the linker may leave it out where
    # others call it: for RISC-V it does, and the call goes nowhere.
    flags="-Clink-self-contained=no -Cforce-unwind-tables=no"
    flags="$flags --cfg=libc_unstable_musl_v1_2 -Clink-arg=-Wl,-u,getrandom"
    RUSTFLAGS=$flags RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1 \
        cargo-zigbuild zigbuild --locked -Zbuild-std=std,panic_abort "$@"
}
