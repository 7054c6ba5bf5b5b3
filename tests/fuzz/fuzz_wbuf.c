/*
 * For any sequence of calls, the write buffer does what a plain list of frames does: the same
 * result of every call, the same unsent bytes after it, the same counters, and nothing changed by a
 * call that fails, out of memory included. How to run it: README.md.
 */
#include "wbuf_model.h"
#include "replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_run(data, size);
    return 0;
}
