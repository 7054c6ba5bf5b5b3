// One run of one row with libnats, the official client for C. See benchmark.py.
//
//   cc -O2 -o client_libnats client_libnats.c -lnats
//   ./client_libnats ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED [NUMBER]
//
// libnats delivers on a thread of its own. It has no requests that are answered by callback: the rows with many
// requests in flight are missing.
#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NO_ROW = 64 };
static const char *const SUBJECT = "bench.subject";

static natsConnection *nats;
static const char *row;
static int number = 1;

// What the delivering thread has counted; the main thread waits for `mark`.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t reached = PTHREAD_COND_INITIALIZER;
static long received, mark;
// The check: how many messages differed from what was sent.
static long wrong, size_of_check;
static int checking;

static void must(natsStatus status, const char *what)
{
    if (status != NATS_OK) {
        fprintf(stderr, "libnats: %s: %s\n", what, natsStatus_GetText(status));
        exit(1);
    }
}

static long long now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int headers_differ(natsMsg *message)
{
    for (int i = 0; i < number; i++) {
        char name[32], value[32];
        const char *found = NULL;
        snprintf(name, sizeof name, "X-Header-%d", i);
        snprintf(value, sizeof value, "value-%d", i);
        if (natsMsgHeader_Get(message, name, &found) != NATS_OK || strcmp(found, value) != 0)
            return 1;
    }
    return 0;
}

static void numbered(char *payload, long size, long index)
{
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%ld", index);
    for (long i = 0; i < size; i++) {
        long from_end = size - 1 - i;
        payload[i] = from_end < length ? digits[length - 1 - from_end] : '0';
    }
}

static void subject_of(char *subject, size_t room, long index)
{
    if (strcmp(row, "subjects") == 0)
        snprintf(subject, room, "bench.many.%ld", index % number);
    else
        snprintf(subject, room, "%s", SUBJECT);
}

static void check_one(natsMsg *message)
{
    char *payload = malloc((size_t)size_of_check + 1), subject[64];
    numbered(payload, size_of_check, received);
    subject_of(subject, sizeof subject, received);
    wrong += natsMsg_GetDataLength(message) != size_of_check ||
             memcmp(natsMsg_GetData(message), payload, (size_t)size_of_check) != 0 ||
             strcmp(natsMsg_GetSubject(message), subject) != 0 ||
             natsMsg_GetReply(message) != NULL ||
             (strstr(row, "headers") != NULL && headers_differ(message));
    free(payload);
}

static void on_message(natsConnection *connection, natsSubscription *sub, natsMsg *message,
                       void *closure)
{
    (void)connection, (void)sub, (void)closure;
    if (checking)
        check_one(message);
    natsMsg_Destroy(message);
    pthread_mutex_lock(&mutex);
    if (++received == mark)
        pthread_cond_signal(&reached);
    pthread_mutex_unlock(&mutex);
}

static void wait_for_mark(void)
{
    pthread_mutex_lock(&mutex);
    while (received < mark)
        pthread_cond_wait(&reached, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void set_mark(long at)
{
    pthread_mutex_lock(&mutex);
    mark = at;
    pthread_mutex_unlock(&mutex);
}

static natsSubscription *subscribe(const char *pattern)
{
    natsSubscription *sub = NULL;
    received = 0;
    must(natsConnection_Subscribe(&sub, nats, pattern, on_message, NULL), "subscribe");
    must(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
    return sub;
}

static void unsubscribe(natsSubscription *sub)
{
    natsSubscription_Unsubscribe(sub);
    natsSubscription_Destroy(sub);
}

static void flush(void)
{
    must(natsConnection_FlushTimeout(nats, 60000), "flush");
}

// Publish `count` messages from number `first` on, as the row does.
static void send_portion(long first, long count, const char *payload, int size, char **names)
{
    for (long i = first; i < first + count; i++) {
        const char *subject = names != NULL ? names[i % number] : SUBJECT;
        if (strstr(row, "headers") == NULL) {
            must(natsConnection_Publish(nats, subject, payload, size), "publish");
            continue;
        }
        natsMsg *message = NULL;
        must(natsMsg_Create(&message, subject, NULL, payload, size), "message");
        for (int h = 0; h < number; h++) {
            char name[32], value[32];
            snprintf(name, sizeof name, "X-Header-%d", h);
            snprintf(value, sizeof value, "value-%d", h);
            must(natsMsgHeader_Add(message, name, value), "header");
        }
        must(natsConnection_PublishMsg(nats, message), "publish");
        natsMsg_Destroy(message);
    }
}

static char **subject_names(void)
{
    if (strcmp(row, "subjects") != 0)
        return NULL;
    char **names = malloc(sizeof *names * (size_t)number);
    for (int i = 0; i < number; i++) {
        names[i] = malloc(64);
        subject_of(names[i], 64, i);
    }
    return names;
}

// pubsub, subjects, headers, raw_headers: at most `window` messages are on the way.
static void windowed(long count, const char *payload, int size, long window)
{
    char **names = subject_names();
    natsSubscription *sub = subscribe(names != NULL ? "bench.many.*" : SUBJECT);
    long sent = 0, portion = window;
    while (sent < count) {
        if (portion > count - sent)
            portion = count - sent;
        set_mark(sent + portion == count ? count : sent + portion - window / 2);
        send_portion(sent, portion, payload, size, names);
        sent += portion;
        portion = window / 2;
        wait_for_mark();
    }
    unsubscribe(sub);
}

static void pub(long count, const char *payload, int size, long window)
{
    (void)window;
    send_portion(0, count, payload, size, NULL);
    flush();
}

// The feeder, another process, publishes when asked.
static void sub_only(long count, const char *payload, int size, long window)
{
    (void)window, (void)payload;
    char order[64];
    set_mark(count);
    natsSubscription *sub = subscribe(SUBJECT);
    snprintf(order, sizeof order, "%ld %d", count, size);
    must(natsConnection_PublishString(nats, "bench.feed", order), "publish");
    wait_for_mark();
    unsubscribe(sub);
}

static int ascending(const void *a, const void *b)
{
    long long one = *(const long long *)a, other = *(const long long *)b;
    return (one > other) - (one < other);
}

static void on_request(natsConnection *connection, natsSubscription *sub, natsMsg *message,
                       void *closure)
{
    (void)sub, (void)closure;
    natsConnection_Publish(connection, natsMsg_GetReply(message), natsMsg_GetData(message),
                           natsMsg_GetDataLength(message));
    natsMsg_Destroy(message);
}

static long long p50, p99;

static void serial(long count, const char *payload, int size, long window)
{
    (void)window;
    natsSubscription *sub = NULL;
    must(natsConnection_Subscribe(&sub, nats, SUBJECT, on_request, NULL), "subscribe");
    long long *took = malloc(sizeof *took * (size_t)count);
    char *sent = malloc((size_t)size + 1);
    memcpy(sent, payload, (size_t)size);
    for (long i = 0; i < count; i++) {
        natsMsg *answer = NULL;
        long long begun = now(CLOCK_MONOTONIC);
        if (checking)
            numbered(sent, size, i);
        must(natsConnection_Request(&answer, nats, SUBJECT, sent, size, 10000), "request");
        took[i] = now(CLOCK_MONOTONIC) - begun;
        wrong += natsMsg_GetDataLength(answer) != size ||
                 memcmp(natsMsg_GetData(answer), sent, (size_t)size) != 0;
        natsMsg_Destroy(answer);
    }
    qsort(took, (size_t)count, sizeof *took, ascending);
    if (!checking)
        p50 = took[count / 2], p99 = took[count * 99 / 100];
    free(took);
    free(sent);
    unsubscribe(sub);
}

static void subscriptions(long count, const char *payload, int size, long window)
{
    (void)payload, (void)size, (void)window;
    for (long i = 0; i < count; i++) {
        char subject[64];
        natsSubscription *sub = NULL;
        snprintf(subject, sizeof subject, "bench.sub.%ld", i);
        must(natsConnection_Subscribe(&sub, nats, subject, on_message, NULL), "subscribe");
    }
    flush();
}

static void check(long count, int size)
{
    char *payload = malloc((size_t)size + 1);
    checking = 1;
    size_of_check = size;
    if (strcmp(row, "serial") == 0) {
        memset(payload, 'x', (size_t)size);
        serial(count, payload, size, 1);
    } else {
        char **names = subject_names();
        set_mark(count);
        natsSubscription *sub = subscribe(names != NULL ? "bench.many.*" : SUBJECT);
        for (long i = 0; i < count; i++) {
            numbered(payload, size, i);
            send_portion(i, 1, payload, size, names);
        }
        flush();
        wait_for_mark();
        unsubscribe(sub);
    }
    free(payload);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(long, const char *, int, long);
    } rows[] = {{"pub", pub},           {"pubsub", windowed},
                {"subjects", windowed}, {"raw_headers", windowed},
                {"headers", windowed},  {"sub", sub_only},
                {"serial", serial},     {"subscriptions", subscriptions}};
    void (*run)(long, const char *, int, long) = NULL;
    if (argc < 8)
        return puts(nats_GetVersion()) < 0;
    row = argv[1];
    long count = atol(argv[4]), window = atol(argv[6]), checked = atol(argv[7]);
    int size = atoi(argv[5]);
    if (argc > 8)
        number = atoi(argv[8]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, row) == 0)
            run = rows[i].run;
    if (run == NULL)
        return NO_ROW;
    char url[256], *payload = malloc((size_t)size + 1);
    snprintf(url, sizeof url, "nats://%s:%s", argv[2], argv[3]);
    natsOptions *options = NULL;
    must(natsOptions_Create(&options), "options");
    must(natsOptions_SetURL(options, url), "url");
    // Its default collects messages for a millisecond, which is right for every row but this one.
    if (strcmp(row, "serial") == 0)
        must(natsOptions_SetSendAsap(options, true), "options");
    must(natsConnection_Connect(&nats, options), "connect");
    memset(payload, 'x', (size_t)size);
    if (strcmp(row, "subscriptions") != 0)
        run(count / 10 > 0 ? count / 10 : 1, payload, size, window);
    long long cpu = now(CLOCK_PROCESS_CPUTIME_ID), start = now(CLOCK_MONOTONIC);
    run(count, payload, size, window);
    long long elapsed = now(CLOCK_MONOTONIC) - start;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    check(checked, size);
    printf("{\"ns\": %lld, \"cpu_ns\": %lld, \"wrong\": %ld", elapsed, cpu, wrong);
    if (p50 > 0)
        printf(", \"p50\": %lld, \"p99\": %lld", p50, p99);
    printf("}\n");
    return 0;
}
