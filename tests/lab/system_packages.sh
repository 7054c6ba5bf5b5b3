#!/bin/sh
# Sees to it that a C compiler, libev's headers and Python's venv are there: installs them where it may
# (root, apt-get), otherwise names them.
set -eu
python=${PYTHON:-python3}
missing=""

need() { missing="$missing $1"; }

command -v "$python" >/dev/null 2>&1 || { echo "no $python: install Python 3.10 or later" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    { echo "$python is too old: Python 3.10 or later is needed" >&2; exit 1; }
# CC, CPPFLAGS and CFLAGS are words as for a shell, as they are for setup.py: CC="gcc -m64".
eval "set -- ${CC:-cc} ${CPPFLAGS:-} ${CFLAGS:-}"
command -v "$1" >/dev/null 2>&1 || need gcc
case ${LIBEV_PREFIX:-} in "~/"*) LIBEV_PREFIX=$HOME/${LIBEV_PREFIX#"~/"} ;; esac
[ -z "${LIBEV_PREFIX:-}" ] || set -- "$@" "-I$LIBEV_PREFIX/include"
set -- "$@" -I/opt/homebrew/include -I/usr/local/include -I/opt/local/include # as _libev_build.py
printf '#include <ev.h>\n' | "$@" -E -x c - >/dev/null 2>&1 || need libev-dev
"$python" -c 'import venv, ensurepip' 2>/dev/null || need python3-venv
header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"] + "/Python.h")')
test -e "$header" || need python3-dev
# Not needed to build: a test of Unix sockets, the C and C++ tests, and the cross tests with Node.js use them.
command -v npm >/dev/null 2>&1 || node="nodejs npm"
optional="socat clang g++ pkg-config ${node:-}"

[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$missing $optional"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing libc6-dev $optional
    exit 0
fi
echo "Please install, then try again:" >&2
for package in $missing; do
    case $package in
        gcc) echo "  a C compiler${CC:+ (there is no $1, which CC names)}: Debian gcc libc6-dev, Fedora gcc, macOS xcode-select --install" ;;
        libev-dev) echo "  libev's headers: Debian libev-dev, Fedora libev-devel, macOS brew install libev" ;;
        python3-venv) echo "  Python's venv: Debian python3-venv" ;;
        python3-dev) echo "  Python's headers: Debian python3-dev, Fedora python3-devel" ;;
    esac
done >&2
exit 1
