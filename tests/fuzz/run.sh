#!/bin/sh
# Runs each fuzz target, or those that the arguments name, for FUZZ_SECONDS (60), bounded in memory. Findings
# stay in .cache/fuzz/TARGET/; the corpus of the tree is only read.
set -eu
cd "$(dirname "$0")/../.."
seconds=${FUZZ_SECONDS:-60}
clang=${CLANG:-clang}
python=$PWD/.venv/bin/python
work=.cache/fuzz
[ $# -gt 0 ] || set -- parser roundtrip wbuf inbound outbound

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

# Compile the module in a copy of the tree, with coverage counters.
build_tree() {
    rm -rf "$work/tree"
    mkdir -p "$work/tree"
    for name in nats_ev csrc _parser_build.py _build_flags.py; do
        cp -R "$name" "$work/tree/"
    done
    rm -f "$work"/tree/nats_ev/*.so
    (cd "$work/tree" && CC="$clang" LDSHARED="$clang -shared" NATS_EV_DEBUG=1 \
        CFLAGS="-g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -w" \
        "$python" _parser_build.py >build.log 2>&1) || { cat "$work/tree/build.log" >&2; exit 1; }
}

# Compile what calls the targets of lab/fuzz_targets.py.
build_python_target() {
    [ -e "$work/tree/nats_ev/compiled.py" ] || build_tree
    # shellcheck disable=SC2046
    "$clang" -g -O1 -std=c11 -fsanitize=fuzzer,address,undefined -rdynamic "-DTARGET=\"$1\"" \
        tests/fuzz/fuzz_python.c -o "$work/fuzz_$1" $("$python" -c '
import sysconfig
get = sysconfig.get_config_var
lib = get("LIBDIR")
print("-I" + get("INCLUDEPY"), "-L" + lib, "-Wl,-rpath," + lib, "-lpython" + get("LDVERSION"))')
}

# Python's own packages, the instrumented copy before the tree, and no search for leaks in the interpreter.
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
paths=$PWD/$work/tree:$PWD/tests:$site
rm -rf "$work/tree"
for target in "$@"; do
    mkdir -p "$work/$target/corpus"
    leaks=detect_leaks=1
    case $target in
    inbound | outbound)
        build_python_target "$target"
        leaks=detect_leaks=0
        ;;
    *)
        sources=tests/fuzz/fuzz_$target.c
        [ "$target" != roundtrip ] || sources="$sources csrc/nats_wbuf.c csrc/nats_unsent.c"
        # shellcheck disable=SC2086
        "$clang" -g -O1 -std=c11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
            -Icsrc -Itests/csrc $sources -o "$work/fuzz_$target"
        ;;
    esac
    echo "== $target: $seconds s"
    status=0
    PYTHONPATH=$paths PYTHONMALLOC=malloc ASAN_OPTIONS=$leaks \
        "$work/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=1024 \
        -dict=tests/fuzz/nats.dict -artifact_prefix="$work/$target/" -print_final_stats=1 -verbosity=0 \
        "$work/$target/corpus" "tests/fuzz/corpus/$target" >"$work/$target/log" 2>&1 || status=$?
    grep -E '^stat::|SUMMARY|artifact|\.[ch]:[0-9]+: ' "$work/$target/log" || true
    if [ "$status" != 0 ]; then
        echo "$target: found something; input and log are in $work/$target/" >&2
        exit 1
    fi
done
