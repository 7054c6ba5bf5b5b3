#!/bin/sh
# Runs the Python tests, or those that the arguments name, with both compiled modules under ASan and UBSan
# and with their assertions, built in a copy of the tree. memcheck.sh looks for leaks; here the
# interpreter's own would drown them.
set -eu
cd "$(dirname "$0")/../.."
python=$PWD/.venv/bin/python
copy=.cache/sanitized
rm -rf "$copy"
mkdir -p "$copy/.cache"
for name in nats_ev tests bench examples docs csrc _parser_build.py _libev_build.py _build_flags.py pyproject.toml README.md; do
    cp -R "$name" "$copy/"
done
rm -f "$copy"/nats_ev/*.so "$copy"/nats_ev/pyev/*.so
if [ -d .cache/nats-server ]; then
    ln -s "$PWD/.cache/nats-server" "$copy/.cache/nats-server"
fi
cd "$copy"
CFLAGS="-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -w"
export CFLAGS
export NATS_EV_DEBUG=1
"$python" _parser_build.py >build.log 2>&1 || { cat build.log >&2; exit 1; }
"$python" _libev_build.py >build.log 2>&1 || { cat build.log >&2; exit 1; }
unset CFLAGS NATS_EV_DEBUG
[ $# -gt 0 ] || set -- tests
preload=
for library in libasan.so libubsan.so; do
    preload="$preload $(${CC:-cc} -print-file-name=$library)"
done
# One test searches all memory for a secret, and ASan reserves 16 TiB; others copy the whole tree, or
# measure memory and time.
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1 \
    "$python" -c 'import sys, nats_ev, pytest
assert "/.cache/sanitized/" in nats_ev.__file__, nats_ev.__file__
sys.exit(pytest.main(sys.argv[1:]))' -q -p no:cacheprovider \
    --deselect tests/connection/test_auth.py::test_B14_seed_of_a_creds_file_is_not_left_in_memory \
    --deselect tests/pyev/test_life.py::test_memory_stays_flat_over_many_watchers_and_events \
    --ignore tests/repo/test_packaging.py --ignore tests/repo/test_csrc.py "$@"
