/*
 * What Python may see of libev and of libev_glue.h. _libev_build.py reads this file; no C compiler
 * does. The functions that take void * are libev's macros for watchers of any type.
 */
enum {
    NATS_EV_TYPE_IO, NATS_EV_TYPE_TIMER, NATS_EV_TYPE_PERIODIC, NATS_EV_TYPE_SCHEDULER,
    NATS_EV_TYPE_SIGNAL, NATS_EV_TYPE_CHILD, NATS_EV_TYPE_IDLE, NATS_EV_TYPE_PREPARE,
    NATS_EV_TYPE_CHECK, NATS_EV_TYPE_EMBED, NATS_EV_TYPE_FORK, NATS_EV_TYPE_ASYNC, ...
};
enum { NATS_EV_ABORTED, NATS_EV_STOP, NATS_EV_NOT_DELIVERED, ... };
enum { NATS_EV_ACTIVE, NATS_EV_CAN_STOP, ... };
enum { NATS_EV_NO_LOOP, NATS_EV_IS_LOOP, NATS_EV_OTHER_COPY, ... };
enum { NATS_EV_BAD_FD, NATS_EV_OTHER_LOOP, NATS_EV_LOOP_GONE, ... };
enum {
    EV_UNDEF, EV_NONE, EV_READ, EV_WRITE, EV_IO, EV_TIMER, EV_PERIODIC, EV_SIGNAL, EV_CHILD,
    EV_STAT, EV_IDLE, EV_PREPARE, EV_CHECK, EV_EMBED, EV_FORK, EV_CLEANUP, EV_ASYNC, EV_CUSTOM,
    EV_ERROR,
    EVRUN_NOWAIT, EVRUN_ONCE, EVBREAK_CANCEL, EVBREAK_ONE, EVBREAK_ALL, ...
};
#define EV_MINPRI ...
#define EV_MAXPRI ...
#define EVFLAG_AUTO ...
#define EVFLAG_NOENV ...
#define EVFLAG_FORKCHECK ...
#define EVFLAG_NOINOTIFY ...
#define EVFLAG_SIGNALFD ...
#define EVFLAG_NOSIGMASK ...
#define EVFLAG_NOTIMERFD ...
#define EVBACKEND_SELECT ...
#define EVBACKEND_POLL ...
#define EVBACKEND_EPOLL ...
#define EVBACKEND_KQUEUE ...
#define EVBACKEND_DEVPOLL ...
#define EVBACKEND_PORT ...
#define EVBACKEND_LINUXAIO ...
#define EVBACKEND_IOURING ...
#define EVBACKEND_ALL ...
#define EVBACKEND_MASK ...
#define NATS_EV_NSIG ...

struct ev_loop;
typedef struct { double repeat; ...; } ev_timer;
typedef struct { double offset; double interval; ...; } ev_periodic;
typedef struct { int rpid; int rstatus; ...; } ev_child;
typedef struct nats_ev_loop nats_ev_loop;
typedef struct nats_ev_watcher nats_ev_watcher;

int ev_version_major(void);
int ev_version_minor(void);
unsigned int ev_supported_backends(void);
unsigned int ev_recommended_backends(void);
unsigned int ev_embeddable_backends(void);
double ev_time(void);
void ev_feed_signal(int signum);
void nats_ev_sleep(double seconds);

void ev_break(struct ev_loop *loop, int how);
void ev_loop_fork(struct ev_loop *loop);
double ev_now(struct ev_loop *loop);
void ev_now_update(struct ev_loop *loop);
void ev_suspend(struct ev_loop *loop);
void ev_resume(struct ev_loop *loop);
void ev_ref(struct ev_loop *loop);
void ev_unref(struct ev_loop *loop);
unsigned int ev_backend(struct ev_loop *loop);
unsigned int ev_depth(struct ev_loop *loop);
unsigned int ev_iteration(struct ev_loop *loop);
void ev_verify(struct ev_loop *loop);
void ev_set_io_collect_interval(struct ev_loop *loop, double seconds);
void ev_set_timeout_collect_interval(struct ev_loop *loop, double seconds);

nats_ev_loop *nats_ev_loop_new(unsigned int flags, int is_default);
nats_ev_loop *nats_ev_loop_borrow(uintptr_t address);
int nats_ev_is_loop(uintptr_t address);
void nats_ev_loop_watch_owner(nats_ev_loop *loop, uintptr_t key);
int nats_ev_loop_is_gone(nats_ev_loop *loop);
unsigned long nats_ev_loop_foreign_thread(nats_ev_loop *loop);
int nats_ev_loop_is_default(nats_ev_loop *loop);
uintptr_t nats_ev_loop_address(nats_ev_loop *loop);
void nats_ev_loop_free(nats_ev_loop *loop);
struct ev_loop *nats_ev_loop_get(nats_ev_loop *loop);
int nats_ev_loop_is_claimed(nats_ev_loop *loop);
int nats_ev_loop_run(nats_ev_loop *loop, int flags, int wake_fd);
int nats_ev_loop_invoke(nats_ev_loop *loop);
unsigned int nats_ev_loop_pending(nats_ev_loop *loop);
void nats_ev_loop_set_hook(nats_ev_loop *loop, uintptr_t key);

int ev_is_active(void *watcher);
int ev_is_pending(void *watcher);
int ev_priority(void *watcher);
void ev_set_priority(void *watcher, int priority);
int ev_clear_pending(struct ev_loop *loop, void *watcher);
double ev_timer_remaining(struct ev_loop *loop, ev_timer *watcher);
double ev_periodic_at(ev_periodic *watcher);

int nats_ev_watcher_type(void *list);
nats_ev_watcher *nats_ev_watcher_new(nats_ev_loop *loop, int type, uintptr_t key);
int nats_ev_start(nats_ev_watcher *watcher);
void nats_ev_stop(nats_ev_watcher *watcher);
void nats_ev_again(nats_ev_watcher *watcher);
int nats_ev_invoke(nats_ev_watcher *watcher, int revents);
void nats_ev_set_io(nats_ev_watcher *watcher, int fd, int events);
void nats_ev_set_times(nats_ev_watcher *watcher, double first, double interval);
void nats_ev_set_signal(nats_ev_watcher *watcher, int signum);
void nats_ev_keep_action(int signum);
void nats_ev_restore_action(int signum);
void nats_ev_set_child(nats_ev_watcher *watcher, int pid, int trace);
void nats_ev_set_embed(nats_ev_watcher *watcher, nats_ev_loop *other);
int nats_ev_embed_sweep(nats_ev_watcher *watcher);
void nats_ev_async_send(nats_ev_watcher *watcher);
int nats_ev_async_sent(nats_ev_watcher *watcher);

extern "Python+C" int nats_ev_on_wakeup(void);
extern "Python+C" int nats_ev_on_invoke(uintptr_t key);
extern "Python+C" double nats_ev_on_reschedule(uintptr_t key, double now);
extern "Python+C" int nats_ev_on_gone(uintptr_t key);
