/*
 * nats_attributes: what a declaration can tell the compiler, where the compiler understands it.
 */
#ifndef NATS_ATTRIBUTES_H
#define NATS_ATTRIBUTES_H

/* The caller must look at the result: ignoring it would lose an error or data. */
#if defined(__GNUC__) || defined(__clang__)
#define NATS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define NATS_MUST_CHECK
#endif

/* Rarely called: kept out of its callers, so that their common path saves no registers for it. */
#if defined(__GNUC__) || defined(__clang__)
#define NATS_COLD __attribute__((cold, noinline))
#else
#define NATS_COLD
#endif

#endif
