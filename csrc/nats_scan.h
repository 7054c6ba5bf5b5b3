/*
 * nats_scan: the small scanners for control lines. Header only, pure functions over [p, end).
 */
#ifndef NATS_SCAN_H
#define NATS_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum { NATS_MAX_DIGITS = 20 }; /* of 2^64 - 1; leading zeros count */

static inline int nats_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline const char *nats_skip_blanks(const char *p, const char *end)
{
    while (p < end && nats_is_blank(*p))
        p++;
    return p;
}

static inline const char *nats_skip_token(const char *p, const char *end)
{
    for (;; p++) { /* most bytes take one comparison */
        while (p < end && (unsigned char)*p > ' ')
            p++;
        if (p == end || nats_is_blank(*p))
            return p;
    }
}

/*
 * Read a number: only digits, at least one, at most NATS_MAX_DIGITS. Return 0 when [p, end) is no
 * such number. A number above 2^64 - 1 sets *overflow; *value must not be used then.
 */
static inline int nats_decimal(const char *p, const char *end, uint64_t *value, int *overflow)
{
    uint64_t v = 0;
    *overflow = 0;
    if (p == end || end - p > NATS_MAX_DIGITS)
        return 0;
    for (; p < end; p++) {
        unsigned digit = (unsigned)(unsigned char)*p - '0';
        if (digit > 9)
            return 0;
        if (v > (UINT64_MAX - digit) / 10)
            *overflow = 1;
        v = v * 10 + digit;
    }
    *value = v;
    return 1;
}

#endif
