# Sourced by the tests that need a Debian of their own, in the repository's folder.
# shellcheck shell=bash

# unpack_debian ARCHITECTURE PACKAGES DIRECTORY: a fresh Debian of this machine's release, from the
# mirror that its apt uses. It is made once for each list of packages (with commas) and kept. Fails
# with a word on what is missing. Needs root.
unpack_debian() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/pannier codename archive new mirror
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    archive=$cache/debian-$codename-$1-$2.tar
    if [ ! -e "$archive" ]; then
        # shellcheck disable=SC2016
        mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
            awk -v codename="$codename" '$1 == codename && $2 == "main" { print $3; exit }')
        if [ -z "$mirror" ]; then
            echo "apt names no mirror for $codename: run apt-get update"
            return 1
        fi
        mkdir -p "$cache"
        new=$3.new
        if ! debootstrap --arch="$1" --variant=minbase --include="$2" "$codename" "$new" "$mirror" >"$3.log" 2>&1; then
            echo "debootstrap can't make a Debian: $(tail -n 3 "$3.log")"
            return 1
        fi
        tar --one-file-system -C "$new" -cf "$archive.new" .
        mv "$archive.new" "$archive"
        rm -rf --one-file-system "$new"
    fi
    mkdir "$3"
    tar -C "$3" -xpf "$archive"
}
