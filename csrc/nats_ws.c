#include "nats_ws.h"

#include <stdint.h>
#include <string.h>

void nats_ws_mask(char *data, size_t len, const void *key)
{
    const char *byte = key;
    size_t i = 0;
    uint64_t wide;
    uint32_t narrow;

    memcpy(&narrow, key, sizeof narrow);
    wide = (uint64_t)narrow << 32 | narrow;
    for (; len - i >= sizeof wide; i += sizeof wide) { /* compilers use vectors for this */
        uint64_t word;
        memcpy(&word, data + i, sizeof word);
        word ^= wide;
        memcpy(data + i, &word, sizeof word);
    }
    for (; i < len; i++)
        data[i] = (char)(data[i] ^ byte[i & 3]);
}
