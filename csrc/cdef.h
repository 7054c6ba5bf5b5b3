/* What Python may see of csrc: read verbatim by _parser_build.py, included by nothing. The compiler
   checks it against the headers, which hold the documentation. */

enum { NATS_ROW_WIDTH = 9 };
enum nats_row_kind {
    NATS_ROW_MSG,
    NATS_ROW_RUN,
    NATS_ROW_INFO,
    NATS_ROW_ERR,
    NATS_ROW_PING,
    NATS_ROW_PONG,
    NATS_ROW_OK,
    NATS_ROW_ANSWER,
    NATS_ROW_REPLY_RUN,
    NATS_ROW_ANSWER_RUN
};

enum nats_parser_error {
    NATS_PARSER_OK = 0,
    NATS_PARSER_UNKNOWN_VERB = -101,
    NATS_PARSER_BAD_ARGS = -102,
    NATS_PARSER_BAD_SID = -103,
    NATS_PARSER_BAD_SIZE = -104,
    NATS_PARSER_BAD_HEADER_SIZE = -105,
    NATS_PARSER_BAD_LINE_END = -106,
    NATS_PARSER_BAD_PAYLOAD_END = -107,
    NATS_PARSER_LINE_TOO_LONG = -201,
    NATS_PARSER_MESSAGE_TOO_LONG = -202,
    NATS_PARSER_NO_MEMORY = -401
};

enum {
    NATS_MAX_CONTROL_LINE = 1048576,
    NATS_MAX_ERR_LINE = ...,
    NATS_MAX_INFO_LINE = ...,
    NATS_SNIPPET = ...
};

typedef struct nats_parser {
    size_t max_message;
    int32_t inbox_sid;
    size_t inbox_len;
    size_t max_control_line;

    size_t pos;
    const char *frame;
    size_t frame_len;
    int error;
    uint64_t error_offset;
    char snippet[...];
    size_t snippet_len;

    uint64_t msgs;
    uint64_t bytes;

    ...;
} nats_parser;

void nats_parser_init(nats_parser *parser, size_t max_message);
void nats_parser_destroy(nats_parser *parser);

int nats_parser_feed(nats_parser *parser, const void *data, size_t pos, size_t len, int32_t *rows,
                     int cap);

const char *nats_parser_strerror(int error);

typedef struct nats_wbuf nats_wbuf;

enum nats_wbuf_code {
    NATS_WBUF_FIRST = 1,
    NATS_WBUF_HIGH = 2,
    NATS_WBUF_SLOW = 4,

    NATS_WBUF_LINE_TOO_LONG = -201,
    NATS_WBUF_PAYLOAD_TOO_LONG = -202,
    NATS_WBUF_FULL = -203,
    NATS_WBUF_CLOSED = -204,
    NATS_WBUF_BAD_SUBJECT = -301,
    NATS_WBUF_BAD_REPLY = -302,
    NATS_WBUF_BAD_QUEUE = -303,
    NATS_WBUF_BAD_HEADERS = -304,
    NATS_WBUF_NO_MEMORY = -401,
    NATS_WBUF_LOCKED = -402
};

typedef struct nats_wbuf_limits {
    size_t max_payload;
    size_t max_control_line;
    size_t max_pending;
    size_t high_water;
    size_t slow_mark;
    int closed;
    int held;
} nats_wbuf_limits;

typedef struct nats_wbuf_counts {
    uint64_t msgs_out;
    uint64_t bytes_out;
    uint64_t accepted;
    uint64_t written;
    uint64_t waiting;
    uint64_t discarded;
} nats_wbuf_counts;

nats_wbuf *nats_wbuf_new(void);
void nats_wbuf_free(nats_wbuf *wbuf);
nats_wbuf_limits *nats_wbuf_get_limits(nats_wbuf *wbuf);
nats_wbuf_counts *nats_wbuf_get_counts(nats_wbuf *wbuf);

int nats_wbuf_publish(nats_wbuf *wbuf, const void *subject, size_t subject_len, const void *reply,
                      size_t reply_len, const void *headers, size_t headers_len,
                      const void *payload, size_t payload_len, uint64_t tag);

int nats_wbuf_set_inbox(nats_wbuf *wbuf, const void *inbox, size_t len);
int nats_wbuf_request(nats_wbuf *wbuf, const void *subject, size_t subject_len, const void *headers,
                      size_t headers_len, const void *payload, size_t payload_len, uint64_t tag);

int nats_wbuf_check_sub(const void *subject, size_t subject_len, const void *queue,
                        size_t queue_len, uint64_t sid, size_t max_control_line);
int nats_wbuf_sub(nats_wbuf *wbuf, const void *subject, size_t subject_len, const void *queue,
                  size_t queue_len, uint64_t sid);
int nats_wbuf_unsub(nats_wbuf *wbuf, uint64_t sid, uint64_t max_msgs);
int nats_wbuf_ping(nats_wbuf *wbuf);
int nats_wbuf_pong(nats_wbuf *wbuf);
int nats_wbuf_connect(nats_wbuf *wbuf, const void *json, size_t json_len);

const char *nats_wbuf_data(const nats_wbuf *wbuf);
size_t nats_wbuf_len(const nats_wbuf *wbuf);

void nats_wbuf_sent(nats_wbuf *wbuf, size_t n);

void nats_wbuf_lock(nats_wbuf *wbuf, int locked);
void nats_wbuf_pin(nats_wbuf *wbuf, size_t n);

void nats_wbuf_take_back(nats_wbuf *wbuf);

size_t nats_wbuf_remove(nats_wbuf *wbuf, const uint64_t *tags, size_t n);

void nats_wbuf_trim(nats_wbuf *wbuf);

size_t nats_wbuf_drop_messages(nats_wbuf *wbuf);

size_t nats_wbuf_recheck(nats_wbuf *wbuf, int headers, uint64_t *tags, size_t cap, size_t *n_tags);

size_t nats_wbuf_last_line(const nats_wbuf *wbuf, char *line, size_t cap);

const char *nats_wbuf_strerror(int error);

int nats_py_types(void *list);

void nats_ws_mask(char *data, size_t len, const void *key);
