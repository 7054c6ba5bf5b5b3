/*
 * harness: what the tests of the C core share: checks that abort with their line, an allocator that can
 * fail, and random numbers that are the same in every run.
 *
 * Include it first, then define NATS_REALLOC as failing_realloc, then include the .c file under test.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) check((condition) != 0, #condition, __FILE__, __LINE__)
#define RUN(test) (test(), printf("%s\n", #test))

static long allocations;          /* asked for so far */
static long fail_allocation = -1; /* how many succeed before all others fail; -1: none fails */

static inline void *failing_realloc(void *memory, size_t n)
{
    allocations++;
    if (fail_allocation == 0)
        return NULL;
    if (fail_allocation > 0)
        fail_allocation--;
    return realloc(memory, n);
}

static inline void check(int condition, const char *text, const char *file, int line)
{
    if (condition)
        return;
    fprintf(stderr, "%s:%d: %s\n", file, line, text);
    abort();
}

/* The next number of the sequence that `state` stands for; never begin with 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 16;
}

#endif
