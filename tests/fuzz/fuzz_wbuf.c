/*
 * For any sequence of calls, the write buffer does what a plain list of frames does: the same result
 * of every call, the same unsent bytes after it, the same counters, and nothing changed by a call that
 * fails, out of memory included.
 *
 * Fuzz:   clang -g -O1 -std=c11 -fsanitize=fuzzer,address,undefined -Icsrc -Itests/csrc \
 *               tests/fuzz/fuzz_wbuf.c -o fuzz_wbuf && ./fuzz_wbuf -max_len=4096 tests/fuzz/corpus/wbuf
 * Replay: cc -g -std=c11 -DREPLAY -fsanitize=address,undefined -Icsrc -Itests/csrc \
 *               tests/fuzz/fuzz_wbuf.c -o replay_wbuf && ./replay_wbuf tests/fuzz/corpus/wbuf/...
 */
#include "wbuf_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_run(data, size);
    return 0;
}

#ifdef REPLAY
int main(int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++) {
        static unsigned char data[1024 * 1024];
        FILE *file = fopen(argv[i], "rb");
        size_t n;
        CHECK(file != NULL);
        n = fread(data, 1, sizeof data, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, n);
    }
    printf("%d inputs replayed\n", argc - 1);
    return 0;
}
#endif
