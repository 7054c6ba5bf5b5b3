#!/bin/sh
# Build the libev that a wheel carries: static, position-independent, exports nothing. Usage: libev.sh PREFIX
# Afterwards LIBEV_PREFIX=PREFIX links it into the module. Without PREFIX the source is only fetched. The source is LIBEV_SOURCE, if set; else what an
# earlier call has left in .cache, else the release from its author's site, else Debian's copy of it. CC and
# CFLAGS are those of the build; HOST, if set, is the machine to compile for (aarch64-linux-gnu).
set -eu
version=4.33
sha256=507eb7b8d1015fbec5b935f34ebed15bf346bed04a11ab82b8eee848c4205aea
site=http://dist.schmorp.de/libev/Attic
prefix=${1:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
kept=$root/.cache/libev-$version.tar.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sum() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

good() { [ -f "$1" ] && [ "$(sum "$1")" = "$sha256" ]; }

# Debian's mirror is the machine's own. Apt works in another folder: the machine's lists stay as they are.
from_debian() {
    command -v apt-get >/dev/null 2>&1 || return 1
    mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
    apt-get indextargets --format "deb-src \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' \
        'Origin: Debian' | sort -u >"$work/apt/list"
    set -- -qq -o Dir::State="$work/apt" -o Dir::Cache="$work/apt" -o Dir::Etc::sourceparts=/nonexistent \
        -o Dir::Etc::sourcelist="$work/apt/list" -o APT::Sandbox::User=root
    (cd "$work" && apt-get "$@" update && apt-get "$@" source --download-only libev) >&2 || return 1
    mv "$work/libev_$version.orig.tar.gz" "$work/libev.tar.gz"
}

from_site() {
    command -v curl >/dev/null 2>&1 &&
        curl --fail --silent --show-error --location --max-time 60 --retry 3 -o "$work/libev.tar.gz" \
            "$site/libev-$version.tar.gz"
}

if [ -n "${LIBEV_SOURCE:-}" ]; then
    good "$LIBEV_SOURCE" || { echo "LIBEV_SOURCE=$LIBEV_SOURCE is not libev-$version.tar.gz" >&2; exit 1; }
    cp "$LIBEV_SOURCE" "$work/libev.tar.gz"
elif good "$kept"; then
    cp "$kept" "$work/libev.tar.gz"
else
    { from_site && good "$work/libev.tar.gz"; } || { from_debian && good "$work/libev.tar.gz"; } || {
        echo "libev-$version.tar.gz cannot be fetched: LIBEV_SOURCE may name a copy (sha256 $sha256)" >&2
        exit 1
    }
    mkdir -p "$root/.cache" && cp "$work/libev.tar.gz" "$kept"
fi
[ -n "$prefix" ] || exit 0

mkdir "$work/source"
tar -xzf "$work/libev.tar.gz" -C "$work/source" --strip-components=1
cd "$work/source"
# Hidden: the module's own copy must not answer to the names of another libev in the process.
{
    ./configure --quiet --disable-shared --enable-static --with-pic ${HOST:+--host="$HOST"} \
        CFLAGS="-O2 -g0 -fvisibility=hidden ${CFLAGS:-}" && make --silent libev.la
} >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mkdir -p "$prefix/include" "$prefix/lib"
cp ev.h "$prefix/include/"
cp .libs/libev.a "$prefix/lib/"
# Its licence asks that the text goes with each binary; setup.py puts it into the wheel.
cp LICENSE "$prefix/LICENSE"
