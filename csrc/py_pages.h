/*
 * py_pages: fewer page faults for memory of tens of megabytes.
 *
 * The kernel zeroes fresh memory page by page. For a message of 60 MiB that is 39 ms in pages of 4 KiB and 8 ms
 * in huge ones, which Linux uses when it is asked, by default. Below 32 MiB the C library keeps freed memory, and
 * a page there may belong to others.
 */
#ifndef NATS_PY_PAGES_H
#define NATS_PY_PAGES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

enum { NATS_PAGES_LEAST = 33 * 1024 * 1024, NATS_PAGE_SIZE = 4096 };

/* Ask for huge pages if there is so much memory. The pages at its ends are included: the memory is then one
   mapping for the kernel, as before, and realloc can move it without a copy. */
static inline void nats_py_use_huge_pages(void *memory, size_t size)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    size_t before = (uintptr_t)memory % NATS_PAGE_SIZE;
    size_t pages = (before + size + NATS_PAGE_SIZE - 1) / NATS_PAGE_SIZE;
    if (size >= NATS_PAGES_LEAST)
        (void)madvise((char *)memory - before, pages * NATS_PAGE_SIZE, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)size;
#endif
}

#endif
