/*
 * nats_wbuf: bounded write buffer that validates and frames what a NATS client sends.
 *
 * One call checks the arguments and appends one whole frame; a call that fails leaves the buffer as
 * it was. The unsent bytes are contiguous: the caller writes them and says how many the kernel
 * took. Because frames describe themselves, the buffer finds their boundaries again when it must
 * (a lost connection, a request that timed out) and pays nothing for them on the way in.
 *
 * No I/O, no callbacks, no globals.
 */
#ifndef NATS_WBUF_H
#define NATS_WBUF_H

#include <stddef.h>
#include <stdint.h>

typedef struct nats_wbuf nats_wbuf;

/* What a framing call returns: bits when >= 0, else one error. */
enum nats_wbuf_code {
    NATS_WBUF_FIRST = 1, /* the buffer was empty: somebody must see to a flush */
    NATS_WBUF_HIGH = 2,  /* another high_water bytes were queued since the last nats_wbuf_sent */
    NATS_WBUF_SLOW = 4,  /* unsent bytes rose above slow_mark (once, until they fell below again) */

    NATS_WBUF_LINE_TOO_LONG = -201, /* control line above max_control_line */
    NATS_WBUF_PAYLOAD_TOO_LONG = -202, /* headers + payload above max_payload */
    NATS_WBUF_FULL = -203,          /* a message that does not fit below max_pending */
    NATS_WBUF_CLOSED = -204,        /* messages are not taken: no connection and none coming */
    NATS_WBUF_BAD_SUBJECT = -301,   /* empty, or a byte <= 0x20, or 0x7f */
    NATS_WBUF_BAD_REPLY = -302,
    NATS_WBUF_BAD_QUEUE = -303,
    NATS_WBUF_BAD_HEADERS = -304,   /* does not begin with NATS/1.0 or end with an empty line */
    NATS_WBUF_NO_MEMORY = -401
};

/* Bounds and counters that the caller reads and sets directly. Sizes in bytes, 0 = unlimited. */
typedef struct nats_wbuf_limits {
    size_t max_payload;      /* headers + payload of one message */
    size_t max_control_line; /* CRLF excluded */
    size_t max_pending;      /* unsent bytes; messages only, control frames always fit */
    size_t high_water;
    size_t slow_mark;
    int closed;              /* messages are refused with NATS_WBUF_CLOSED */
    int held;                /* nothing may be sent now: FIRST and HIGH are not reported; who clears
                                it flushes */
} nats_wbuf_limits;

typedef struct nats_wbuf_counts {
    uint64_t msgs_out;  /* messages accepted and their header + payload bytes; zeroed at will */
    uint64_t bytes_out;
    uint64_t accepted;  /* messages: accepted == written + waiting + discarded, always */
    uint64_t written;   /* the kernel took their last byte */
    uint64_t waiting;
    uint64_t discarded; /* removed by nats_wbuf_remove, _drop_messages or _take_back */
} nats_wbuf_counts;

nats_wbuf *nats_wbuf_new(void); /* NULL when out of memory; limits: max_control_line 4096, rest 0 */
void nats_wbuf_free(nats_wbuf *w);
nats_wbuf_limits *nats_wbuf_get_limits(nats_wbuf *w);
/* Brings written and waiting up to date (they are found by walking the frames) and returns them. */
nats_wbuf_counts *nats_wbuf_get_counts(nats_wbuf *w);

/*
 * Remember a subject: validates it and keeps its framed prefix. Returns an index for nats_wbuf_pub,
 * valid until nats_wbuf_forget, or an error. The caller bounds the number.
 */
int nats_wbuf_intern(nats_wbuf *w, const void *subject, size_t subject_len);
void nats_wbuf_forget(nats_wbuf *w);

/* The hot path: PUB without reply or headers to a remembered subject. */
int nats_wbuf_pub(nats_wbuf *w, int subject, const void *payload, size_t payload_len);

/* PUB without reply or headers to a subject that is not remembered: an answer's, say. */
int nats_wbuf_pub_to(nats_wbuf *w, const void *subject, size_t subject_len, const void *payload,
                     size_t payload_len);

/*
 * PUB, or HPUB when headers_len > 0. reply_len 0 means none. A message with tag != 0 can be removed
 * again while no byte of it is sent, and is dropped by nats_wbuf_take_back; tags must increase.
 */
int nats_wbuf_publish(nats_wbuf *w, const void *subject, size_t subject_len, const void *reply,
                      size_t reply_len, const void *headers, size_t headers_len,
                      const void *payload, size_t payload_len, uint64_t tag);

/*
 * A request: nats_wbuf_publish to a remembered subject with the tag's decimal digits behind the inbox as
 * reply. NATS_WBUF_BAD_REPLY when no inbox is set; len 0 unsets it.
 */
int nats_wbuf_set_inbox(nats_wbuf *w, const void *inbox, size_t len);
int nats_wbuf_request(nats_wbuf *w, int subject, const void *payload, size_t payload_len,
                      uint64_t tag);

int nats_wbuf_sub(nats_wbuf *w, const void *subject, size_t subject_len, const void *queue,
                  size_t queue_len, uint64_t sid);
int nats_wbuf_unsub(nats_wbuf *w, uint64_t sid, uint64_t max_msgs); /* max_msgs 0: now */
int nats_wbuf_ping(nats_wbuf *w);
int nats_wbuf_pong(nats_wbuf *w);
/* No length limit. Line breaks, which JSON has only between its tokens, become blanks. */
int nats_wbuf_connect(nats_wbuf *w, const void *json, size_t json_len);

/* The unsent bytes; the pointer holds until the next call that frames (also when that fails), sends
   or removes. */
const char *nats_wbuf_data(const nats_wbuf *w);
size_t nats_wbuf_len(const nats_wbuf *w);
/* The kernel took n of them (0 <= n <= len). The high-water mark counts anew, as it does after
   nats_wbuf_take_back. When all is sent memory beyond 2 MiB is given back. */
void nats_wbuf_sent(nats_wbuf *w, size_t n);
/* The first n unsent bytes are already with a layer below (a TLS record): no message in them can be
   removed any more. Lowered by nats_wbuf_sent, zeroed by nats_wbuf_take_back. */
void nats_wbuf_pin(nats_wbuf *w, size_t n);

/*
 * The connection is gone. Keeps the untagged PUB and HPUB frames that the kernel did not take
 * whole, entire and in order, and drops everything else: tagged messages (counted as discarded) and
 * control frames. The next nats_wbuf_data starts at the first byte of a frame.
 */
void nats_wbuf_take_back(nats_wbuf *w);

/* Remove the unsent messages with these tags (ascending); a message of which a byte is already sent
   stays. Returns how many were removed. One pass over the buffer whatever n is. */
size_t nats_wbuf_remove(nats_wbuf *w, const uint64_t *tags, size_t n);

/* Drop all messages that have not begun to go out; control frames stay. Returns how many. */
size_t nats_wbuf_drop_messages(nats_wbuf *w);

/*
 * A new server may take less than the one that messages were queued for: discard those that have
 * not begun to go out and are above max_payload, or have headers while `headers` is 0. Returns how many;
 * the tags of the first cap tagged ones among them go to tags, and their number to *n_tags.
 */
size_t nats_wbuf_recheck(nats_wbuf *w, int headers, uint64_t *tags, size_t cap, size_t *n_tags);

/*
 * The beginning, at most cap bytes and without CRLF, of the control line of which the kernel took
 * bytes last. Returns its length; 0 when nothing has been sent, or when frames behind it were removed
 * and it is not known any more.
 */
size_t nats_wbuf_last_line(const nats_wbuf *w, char *line, size_t cap);

const char *nats_wbuf_strerror(int error); /* as nats_parser_strerror */

#endif
