#!/bin/sh
# Runs each fuzz target, or those that the arguments name, for FUZZ_SECONDS (60), bounded in memory. Findings
# stay in .cache/fuzz/TARGET/; the corpus of the tree is only read.
set -eu
cd "$(dirname "$0")/../.."
seconds=${FUZZ_SECONDS:-60}
clang=${CLANG:-clang}
work=.cache/fuzz
[ $# -gt 0 ] || set -- parser roundtrip wbuf

mkdir -p "$work"
if ! command -v "$clang" >/dev/null 2>&1; then
    echo "fuzzing needs clang, and there is no $clang: Debian has it in the package clang" >&2
    exit 1
fi
echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p == 0 && n; }' >"$work/probe.c"
if ! "$clang" -fsanitize=fuzzer,address,undefined "$work/probe.c" -o "$work/probe" 2>"$work/probe.log"; then
    cat "$work/probe.log" >&2
    echo "$clang cannot link libFuzzer: Debian has it in the package libclang-rt-14-dev" >&2
    exit 1
fi

for target in "$@"; do
    mkdir -p "$work/$target/corpus"
    sources=tests/fuzz/fuzz_$target.c
    [ "$target" != roundtrip ] || sources="$sources csrc/nats_wbuf.c csrc/nats_unsent.c"
    # shellcheck disable=SC2086
    "$clang" -g -O1 -std=c11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
        -Icsrc -Itests/csrc $sources -o "$work/fuzz_$target"
    echo "== $target: $seconds s"
    status=0
    "$work/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=1024 \
        -dict=tests/fuzz/nats.dict -artifact_prefix="$work/$target/" -print_final_stats=1 -verbosity=0 \
        "$work/$target/corpus" "tests/fuzz/corpus/$target" >"$work/$target/log" 2>&1 || status=$?
    grep -E '^stat::|SUMMARY|artifact|\.[ch]:[0-9]+: ' "$work/$target/log" || true
    if [ "$status" != 0 ]; then
        echo "$target: found something; input and log are in $work/$target/" >&2
        exit 1
    fi
done
