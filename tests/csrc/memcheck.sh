#!/bin/sh
# Runs the C tests under valgrind's memcheck: no error, no leak. Skips with a message without valgrind.
set -eu
cd "$(dirname "$0")/../.."
if ! command -v valgrind >/dev/null 2>&1; then
    echo "memcheck: skipped, valgrind is not installed (Debian: valgrind)"
    exit 0
fi
work=.cache/memcheck
mkdir -p "$work"
for name in test_parser test_wbuf; do
    ${CC:-cc} -g -O1 -std=c11 -Icsrc -Itests/csrc "tests/csrc/$name.c" -o "$work/$name"
    valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite,indirect --error-exitcode=9 \
        "$work/$name" 20 >"$work/$name.log" 2>&1 || { cat "$work/$name.log" >&2; exit 1; }
    echo "memcheck: $name: no error, no leak"
done
