#!/bin/sh
# Compiles the C core and installs its public headers, a static library and a file for pkg-config:
# make install-core. Needs no Python. CC, AR, CFLAGS are those of the environment; DESTDIR is put before
# PREFIX where files are written, and not in what they say.
set -eu
prefix=${PREFIX:-/usr/local}
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
target=${DESTDIR:-}$prefix
source=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source/../nats_ev/_version.py")
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT

cd "$objects"
for name in nats_parser nats_wbuf nats_unsent; do
    # CC and CFLAGS are words. shellcheck disable=SC2086
    ${CC:-cc} -std=c11 -O3 -DNDEBUG -fPIC ${CFLAGS:-} -c "$source/$name.c" -o $name.o
done
${AR:-ar} rcs libnats_ev_core.a nats_parser.o nats_wbuf.o nats_unsent.o
quoted=$(printf '%s' "$prefix" | sed 's/ /\\ /g')
cat >nats-ev-core.pc <<END
prefix=$quoted
includedir=\${prefix}/include/nats_ev
libdir=\${prefix}/lib

Name: nats-ev-core
Description: Parser and write buffer of the NATS protocol, without I/O
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lnats_ev_core
END

mkdir -p "$target/include/nats_ev" "$target/lib/pkgconfig"
for name in nats_attributes nats_parser nats_wbuf; do
    install -m 644 "$source/$name.h" "$target/include/nats_ev/"
done
install -m 644 libnats_ev_core.a "$target/lib/"
install -m 644 nats-ev-core.pc "$target/lib/pkgconfig/"
echo "installed the C core $version in $target"
