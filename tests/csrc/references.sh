#!/bin/sh
# Runs drills/references on a debug build of CPython, which counts all references: DEBUG_PYTHON, or
# python3-dbg. The modules are compiled for it in a copy of the tree, and CFFI too, because code that was
# compiled for an ordinary CPython changes reference counts without telling the debug build's total.
set -eu
cd "$(dirname "$0")/../.."
python=${DEBUG_PYTHON:-python3-dbg}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "counting references needs a debug build of CPython, and there is no $python: Debian has it in the package python3-dbg" >&2
    exit 1
fi
"$python" -c 'import sys; sys.exit(not hasattr(sys, "gettotalrefcount"))' || {
    echo "$python is no debug build of CPython: it has no sys.gettotalrefcount" >&2
    exit 1
}
tree=$PWD
copy=.cache/references
rm -rf "$copy"
mkdir -p "$copy"
[ -d .cache/references-cffi ] || "$tree/.venv/bin/python" -m pip --python "$(command -v "$python")" install --quiet \
    --disable-pip-version-check --no-binary cffi --target .cache/references-cffi 'cffi>=1.16' 'setuptools>=77'
for name in nats_ev tests bench csrc _parser_build.py _libev_build.py _build_flags.py pyproject.toml; do
    cp -R "$name" "$copy/"
done
rm -f "$copy"/nats_ev/*.so "$copy"/nats_ev/pyev/*.so
cd "$copy"
PATH=$PATH:$tree/.venv/bin
PYTHONPATH=tests:.:$tree/.cache/references-cffi
export PATH PYTHONPATH
"$python" _parser_build.py >build.log 2>&1 || { cat build.log >&2; exit 1; }
"$python" _libev_build.py >build.log 2>&1 || { cat build.log >&2; exit 1; }
exec "$python" -m drills.references "$@"
