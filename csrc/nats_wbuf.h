/*
 * nats_wbuf: bounded write buffer that validates and frames what a NATS client sends.
 *
 * One call checks the arguments and appends one whole frame; a call that fails leaves the buffer
 * unchanged. The unsent bytes are contiguous: the caller writes them and reports how many the
 * kernel took. No I/O, no callbacks, no globals. How the buffer keeps and takes back its frames
 * stands at the head of nats_wbuf_private.h.
 */
#ifndef NATS_WBUF_H
#define NATS_WBUF_H

#include "nats_attributes.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nats_wbuf nats_wbuf;

/* What a framing call returns: a set of bits when >= 0, else one error. */
enum nats_wbuf_code {
    NATS_WBUF_FIRST = 1, /* the buffer was empty: the caller must arrange a flush */
    NATS_WBUF_HIGH = 2,  /* another high_water bytes were queued since the last nats_wbuf_sent */
    NATS_WBUF_SLOW =
        4, /* unsent bytes rose above slow_mark; reported again only after a fall below */

    NATS_WBUF_LINE_TOO_LONG = -201,    /* control line above max_control_line */
    NATS_WBUF_PAYLOAD_TOO_LONG = -202, /* headers + payload above max_payload */
    NATS_WBUF_FULL = -203,             /* a message that does not fit below max_pending */
    NATS_WBUF_CLOSED = -204,      /* no connection, and none being made: no message is accepted */
    NATS_WBUF_BAD_SUBJECT = -301, /* empty, or a byte <= 0x20, or 0x7f */
    NATS_WBUF_BAD_REPLY = -302,
    NATS_WBUF_BAD_QUEUE = -303,
    NATS_WBUF_BAD_HEADERS = -304, /* does not begin with NATS/1.0 or end with an empty line */
    NATS_WBUF_NO_MEMORY = -401,
    NATS_WBUF_LOCKED = -402 /* another thread hands the buffer to the kernel just now */
};

/* Bounds and states that the caller reads and sets directly. Sizes in bytes, 0 = unlimited. */
typedef struct nats_wbuf_limits {
    size_t max_payload;      /* headers + payload of one message */
    size_t max_control_line; /* CRLF excluded */
    size_t max_pending;      /* unsent bytes; for messages only, control frames always fit */
    size_t high_water;
    size_t slow_mark;
    int closed; /* messages are refused with NATS_WBUF_CLOSED */
    int held;   /* nothing may be sent: FIRST and HIGH are not reported; who clears it flushes */
} nats_wbuf_limits;

typedef struct nats_wbuf_counts {
    uint64_t msgs_out; /* messages accepted, and their header + payload bytes: may be zeroed */
    uint64_t bytes_out;
    uint64_t accepted;  /* messages: accepted == written + waiting + discarded, always */
    uint64_t written;   /* the kernel took their last byte */
    uint64_t waiting;   /* at least one byte is unsent */
    uint64_t discarded; /* by nats_wbuf_remove, _drop_messages, _recheck or _take_back */
} nats_wbuf_counts;

/*
 * Return an empty buffer, or NULL when out of memory. Limits: max_control_line 4096, all others 0.
 * The bound on memory, max_pending, is no argument here because it changes with the state of the
 * connection; the owner sets it before the first message, and again at each change.
 */
NATS_MUST_CHECK nats_wbuf *nats_wbuf_new(void);
void nats_wbuf_free(nats_wbuf *wbuf);
nats_wbuf_limits *nats_wbuf_get_limits(nats_wbuf *wbuf);
/* Bring `written` and `waiting` up to date, which takes a walk over the frames, and return the
   counts. */
nats_wbuf_counts *nats_wbuf_get_counts(nats_wbuf *wbuf);

/*
 * Queue a PUB, or an HPUB when headers_len > 0. reply_len 0 means no reply. A message with tag != 0
 * can be removed again while no byte of it is sent, and nats_wbuf_take_back drops it. Tags should
 * increase: removing is slower while one that does not is unsent, as when a signal handler sends a
 * request between the choice of a tag and this call.
 */
NATS_MUST_CHECK int nats_wbuf_publish(nats_wbuf *wbuf, const void *subject, size_t subject_len,
                                      const void *reply, size_t reply_len, const void *headers,
                                      size_t headers_len, const void *payload, size_t payload_len,
                                      uint64_t tag);

/* Set what precedes the tag in the reply subject of a request; len 0 unsets it. */
NATS_MUST_CHECK int nats_wbuf_set_inbox(nats_wbuf *wbuf, const void *inbox, size_t len);

/*
 * Queue a request: a tagged message whose reply is the inbox followed by the tag's decimal digits.
 * NATS_WBUF_BAD_REPLY when no inbox is set.
 */
NATS_MUST_CHECK int nats_wbuf_request(nats_wbuf *wbuf, const void *subject, size_t subject_len,
                                      const void *headers, size_t headers_len, const void *payload,
                                      size_t payload_len, uint64_t tag);

/* Check a SUB as nats_wbuf_sub does, without a buffer: 0 or an error. max_control_line 0: no limit. */
NATS_MUST_CHECK int nats_wbuf_check_sub(const void *subject, size_t subject_len, const void *queue,
                                        size_t queue_len, uint64_t sid, size_t max_control_line);
NATS_MUST_CHECK int nats_wbuf_sub(nats_wbuf *wbuf, const void *subject, size_t subject_len,
                                  const void *queue, size_t queue_len, uint64_t sid);
/* max_msgs 0: at once. */
NATS_MUST_CHECK int nats_wbuf_unsub(nats_wbuf *wbuf, uint64_t sid, uint64_t max_msgs);
NATS_MUST_CHECK int nats_wbuf_ping(nats_wbuf *wbuf);
NATS_MUST_CHECK int nats_wbuf_pong(nats_wbuf *wbuf);
/* No length limit. Line breaks, which JSON has only between its tokens, become blanks. */
NATS_MUST_CHECK int nats_wbuf_connect(nats_wbuf *wbuf, const void *json, size_t json_len);

/* Return the unsent bytes. The pointer is valid until the next call that frames (also when that
   call fails), sends or removes. */
const char *nats_wbuf_data(const nats_wbuf *wbuf);
size_t nats_wbuf_len(const nats_wbuf *wbuf);

/* The kernel took the first n unsent bytes (0 <= n <= len). The count towards high_water starts
   again, as it does after nats_wbuf_take_back. An empty buffer frees memory beyond 2 MiB. */
void nats_wbuf_sent(nats_wbuf *wbuf, size_t n);

/* While locked, framing calls are refused and all unsent bytes are pinned, so that they stay where they are.
   The caller locks the buffer around a call to the kernel during which other threads may run. */
void nats_wbuf_lock(nats_wbuf *wbuf, int locked);

/* A layer below (TLS) already has the first n unsent bytes in its records: no message in them can
   be removed any more. nats_wbuf_sent lowers the number, nats_wbuf_take_back sets it to 0. */
void nats_wbuf_pin(nats_wbuf *wbuf, size_t n);

/*
 * The connection is gone. Keep, entire and in order, the untagged PUB and HPUB frames that the
 * kernel did not take whole. Drop everything else: tagged messages (counted as discarded) and
 * control frames. Afterwards nats_wbuf_data starts at the first byte of a frame.
 */
void nats_wbuf_take_back(nats_wbuf *wbuf);

/* Remove the unsent messages with these n tags (ascending), and return how many were removed. A
   message of which a byte is already sent or pinned stays. One pass, whatever n is. */
size_t nats_wbuf_remove(nats_wbuf *wbuf, const uint64_t *tags, size_t n);

/* Let the buffer call grown with its memory of bytes whenever that has grown, before it is written to. It must
   not call the buffer. NULL, as after nats_wbuf_new: nothing is called. */
void nats_wbuf_set_grown(nats_wbuf *wbuf, void (*grown)(void *memory, size_t size));

/* Give back memory beyond 2 MiB if the buffer is empty. For a timer: after a burst nothing else may come. */
void nats_wbuf_trim(nats_wbuf *wbuf);

/* Drop all messages of which no byte is sent or pinned; control frames stay. Return how many. */
size_t nats_wbuf_drop_messages(nats_wbuf *wbuf);

/*
 * Discard what a new server would refuse: of the messages of which no byte is sent or pinned, those
 * above max_payload, and those with headers while `headers` is 0. Return how many. The tags of the
 * first cap tagged messages among them go to tags, and the number of these tags to *n_tags.
 */
size_t nats_wbuf_recheck(nats_wbuf *wbuf, int headers, uint64_t *tags, size_t cap, size_t *n_tags);

/*
 * Copy the beginning of the control line of which the kernel took bytes last: at most cap bytes,
 * without CRLF. Return the length; 0 when nothing has been sent, or when the line is not known any
 * more because frames that followed it were removed.
 */
size_t nats_wbuf_last_line(const nats_wbuf *wbuf, char *line, size_t cap);

/* Return a short English phrase without a full stop; never NULL. */
const char *nats_wbuf_strerror(int error);

#ifdef __cplusplus
}
#endif

#endif
