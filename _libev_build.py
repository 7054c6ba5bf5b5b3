"""CFFI build of ``nats_ev._libev``: the system's libev and a thin layer of C over it.

What the layer is for, and what Python therefore need not do:

* *Ownership without order.* The memory of loops and watchers belongs to C. A watcher may be
  freed before its loop or after it, active or not, on any thread that holds the interpreter.
* *One trampoline.* Every watcher type calls ``event_cb``, which hands Python an integer key.
* *Stopping on an exception.* Once Python asks for a stop, the rest of libev's pending events
  are set aside instead of delivered, and are fed again when the run has returned.

It must not set user data, an invoke-pending or a release hook on libev's default loop: other
bindings in the process share that loop.
"""

from cffi import FFI

CDEF = """
enum {
    NATS_EV_TYPE_IO, NATS_EV_TYPE_TIMER, NATS_EV_TYPE_PERIODIC, NATS_EV_TYPE_SCHEDULER,
    NATS_EV_TYPE_SIGNAL, NATS_EV_TYPE_CHILD, NATS_EV_TYPE_IDLE, NATS_EV_TYPE_PREPARE,
    NATS_EV_TYPE_CHECK, NATS_EV_TYPE_EMBED, NATS_EV_TYPE_FORK, NATS_EV_TYPE_ASYNC, ...
};
enum { NATS_EV_ABORTED, NATS_EV_STOP, NATS_EV_NOT_DELIVERED, ... };
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

int ev_version_major(void);
int ev_version_minor(void);
unsigned int ev_supported_backends(void);
unsigned int ev_recommended_backends(void);
unsigned int ev_embeddable_backends(void);
double ev_time(void);
void ev_feed_signal(int signum);

typedef struct nats_ev_loop nats_ev_loop;
typedef struct nats_ev_watcher nats_ev_watcher;

void nats_ev_sleep(double seconds);

nats_ev_loop *nats_ev_loop_default(unsigned int flags);
nats_ev_loop *nats_ev_loop_new(unsigned int flags);
void nats_ev_loop_free(nats_ev_loop *loop);
int nats_ev_loop_is_claimed(nats_ev_loop *loop);
int nats_ev_loop_run(nats_ev_loop *loop, int flags, int wake_fd);
int nats_ev_loop_invoke(nats_ev_loop *loop);
void nats_ev_loop_break(nats_ev_loop *loop, int how);
void nats_ev_loop_fork(nats_ev_loop *loop);
double nats_ev_loop_now(nats_ev_loop *loop);
void nats_ev_loop_update(nats_ev_loop *loop);
void nats_ev_loop_suspend(nats_ev_loop *loop);
void nats_ev_loop_resume(nats_ev_loop *loop);
void nats_ev_loop_ref(nats_ev_loop *loop);
void nats_ev_loop_unref(nats_ev_loop *loop);
unsigned int nats_ev_loop_backend(nats_ev_loop *loop);
unsigned int nats_ev_loop_depth(nats_ev_loop *loop);
unsigned int nats_ev_loop_iteration(nats_ev_loop *loop);
unsigned int nats_ev_loop_pending(nats_ev_loop *loop);
void nats_ev_loop_verify(nats_ev_loop *loop);
void nats_ev_loop_set_intervals(nats_ev_loop *loop, double io, double timeout);
void nats_ev_loop_set_hook(nats_ev_loop *loop, uintptr_t key);

nats_ev_watcher *nats_ev_watcher_new(nats_ev_loop *loop, int type, uintptr_t key);
void nats_ev_watcher_free(nats_ev_watcher *self);
int nats_ev_start(nats_ev_watcher *self);
void nats_ev_stop(nats_ev_watcher *self);
void nats_ev_again(nats_ev_watcher *self);
void nats_ev_feed(nats_ev_watcher *self, int revents);
int nats_ev_clear(nats_ev_watcher *self);
int nats_ev_invoke(nats_ev_watcher *self, int revents);
int nats_ev_active(nats_ev_watcher *self);
int nats_ev_pending(nats_ev_watcher *self);
int nats_ev_priority(nats_ev_watcher *self);
void nats_ev_set_priority(nats_ev_watcher *self, int priority);
void nats_ev_set_io(nats_ev_watcher *self, int fd, int events);
int nats_ev_io_events(nats_ev_watcher *self);
void nats_ev_set_timer(nats_ev_watcher *self, double after, double repeat);
double nats_ev_timer_remaining(nats_ev_watcher *self);
double nats_ev_timer_repeat(nats_ev_watcher *self);
void nats_ev_timer_set_repeat(nats_ev_watcher *self, double repeat);
void nats_ev_set_periodic(nats_ev_watcher *self, double offset, double interval);
double nats_ev_periodic_at(nats_ev_watcher *self);
double nats_ev_periodic_offset(nats_ev_watcher *self);
void nats_ev_periodic_set_offset(nats_ev_watcher *self, double offset);
double nats_ev_periodic_interval(nats_ev_watcher *self);
void nats_ev_periodic_set_interval(nats_ev_watcher *self, double interval);
void nats_ev_set_signal(nats_ev_watcher *self, int signum);
void nats_ev_set_child(nats_ev_watcher *self, int pid, int trace);
int nats_ev_child_rpid(nats_ev_watcher *self);
void nats_ev_child_set_rpid(nats_ev_watcher *self, int rpid);
int nats_ev_child_rstatus(nats_ev_watcher *self);
void nats_ev_child_set_rstatus(nats_ev_watcher *self, int rstatus);
void nats_ev_set_embed(nats_ev_watcher *self, nats_ev_loop *other);
int nats_ev_embed_sweep(nats_ev_watcher *self);
void nats_ev_async_send(nats_ev_watcher *self);
int nats_ev_async_sent(nats_ev_watcher *self);

extern "Python" int nats_ev_on_event(uintptr_t key, int revents, int active);
extern "Python" int nats_ev_on_wakeup(void);
extern "Python" int nats_ev_on_invoke(uintptr_t key);
extern "Python" double nats_ev_on_reschedule(uintptr_t key, double now);
"""

SOURCE = r"""
#if defined(__has_include)
#if !__has_include(<ev.h>)
#error "libev's header <ev.h> is missing: install libev-dev (Debian, Ubuntu), libev-devel \
(Fedora) or run brew install libev (macOS)"
#endif
#endif

#include <ev.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#if EV_VERSION_MAJOR < 4 || (EV_VERSION_MAJOR == 4 && EV_VERSION_MINOR < 11)
#error "libev 4.11 or later is needed"
#endif

/* Flags and backends that the installed libev is too old to know read as "none". */
#if EV_VERSION_MAJOR == 4 && EV_VERSION_MINOR < 31
#define EVBACKEND_LINUXAIO 0U
#define EVBACKEND_IOURING 0U
#define EVFLAG_NOTIMERFD 0U
#endif

/*
 * Only polling and sleeping block, and those release the interpreter lock themselves. Every
 * other call is shorter than releasing and taking the lock, and is made atomic by holding it.
 */
#ifdef PYPY_VERSION
#define RELEASE_INTERPRETER
#define RETAKE_INTERPRETER
#else
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
#define RELEASE_INTERPRETER PyThreadState *interpreter_ = PyEval_SaveThread()
#define RETAKE_INTERPRETER PyEval_RestoreThread(interpreter_)
#endif

#ifdef NSIG
#define NATS_EV_NSIG NSIG
#else
#define NATS_EV_NSIG 65
#endif

/* What a run returns when it was aborted, and what Python answers to an event. */
enum { NATS_EV_ABORTED = -1, NATS_EV_STOP = 1, NATS_EV_NOT_DELIVERED = 2 };

enum {
    NATS_EV_TYPE_IO,
    NATS_EV_TYPE_TIMER,
    NATS_EV_TYPE_PERIODIC,
    NATS_EV_TYPE_SCHEDULER,
    NATS_EV_TYPE_SIGNAL,
    NATS_EV_TYPE_CHILD,
    NATS_EV_TYPE_IDLE,
    NATS_EV_TYPE_PREPARE,
    NATS_EV_TYPE_CHECK,
    NATS_EV_TYPE_EMBED,
    NATS_EV_TYPE_FORK,
    NATS_EV_TYPE_ASYNC
};

typedef struct nats_ev_loop nats_ev_loop;
typedef struct nats_ev_watcher nats_ev_watcher;

struct nats_ev_watcher {
    union {
        ev_watcher base;
        ev_io io;
        ev_timer timer;
        ev_periodic periodic;
        ev_signal signal;
        ev_child child;
        ev_idle idle;
        ev_prepare prepare;
        ev_check check;
        ev_embed embed;
        ev_fork fork;
        ev_async async;
    } ev;
    nats_ev_loop *loop; /* NULL once the loop is gone */
    uintptr_t key;
    int type;
    int deferred_events;
    nats_ev_watcher *next, **link;                   /* the loop's list of all its watchers */
    nats_ev_watcher *next_deferred, **deferred_link; /* the aborted run's list; link NULL: not in it */
};

struct nats_ev_loop {
    struct ev_loop *ev;
    nats_ev_watcher *watchers;
    ev_io wake;    /* readable when the interpreter has caught a signal */
    ev_check tick; /* sees to it that an interrupted poll looks for signals too */
    uintptr_t hook_key;
    int is_default;
    nats_ev_loop *next_doomed;
};

/* One for each run on the C stack of a thread: start(), Loop.invoke(), Watcher.invoke(). */
struct run {
    nats_ev_loop *breaks; /* the loop to break out of on an abort; NULL: only drain */
    int aborting;
    int calls_since_tick;
    nats_ev_watcher *deferred;
    struct run *outer;
};

static _Thread_local struct run *current_run;

/* Guards the lists that finalizers change: those run on whichever thread collects garbage. */
static pthread_mutex_t lists_lock = PTHREAD_MUTEX_INITIALIZER;
static nats_ev_loop *doomed_loops;

/* libev allows a signal in one loop at a time and forgets the handler that it replaced. */
static struct {
    nats_ev_loop *loop;
    unsigned int watchers;
    struct sigaction replaced;
} signals[NATS_EV_NSIG];

static int nats_ev_on_event(uintptr_t key, int revents, int active);
static int nats_ev_on_wakeup(void);
static int nats_ev_on_invoke(uintptr_t key);
static double nats_ev_on_reschedule(uintptr_t key, double now);

static void loop_destroy(nats_ev_loop *loop);

static void defer(struct run *run, nats_ev_watcher *self, int revents)
{
    self->deferred_events |= revents;
    if (self->deferred_link)
        return;
    self->next_deferred = run->deferred;
    if (run->deferred)
        run->deferred->deferred_link = &self->next_deferred;
    run->deferred = self;
    self->deferred_link = &run->deferred;
}

static void undefer(nats_ev_watcher *self)
{
    if (!self->deferred_link)
        return;
    *self->deferred_link = self->next_deferred;
    if (self->next_deferred)
        self->next_deferred->deferred_link = self->deferred_link;
    self->deferred_link = NULL;
    self->deferred_events = 0;
}

static void run_enter(struct run *run, nats_ev_loop *breaks)
{
    run->breaks = breaks;
    run->aborting = 0;
    run->calls_since_tick = 0;
    run->deferred = NULL;
    run->outer = current_run;
    current_run = run;
}

/* Feeds again what the abort set aside. libev takes the newest event first, and so does the
   list, which keeps the order. */
static void run_leave(struct run *run)
{
    current_run = run->outer;
    while (run->deferred) {
        nats_ev_watcher *self = run->deferred;
        int revents = self->deferred_events;
        undefer(self);
        if (self->loop)
            ev_feed_event(self->loop->ev, &self->ev.base, revents);
    }
}

static void run_abort(struct run *run, struct ev_loop *ev)
{
    if (!run)
        return;
    run->aborting = 1;
    if (run->breaks) {
        ev_break(run->breaks->ev, EVBREAK_ONE);
        /* An embedded loop is run by libev itself, on behalf of the loop around it. */
        if (ev != run->breaks->ev)
            ev_break(ev, EVBREAK_ONE);
    }
}

static void event_cb(struct ev_loop *ev, ev_watcher *base, int revents)
{
    nats_ev_watcher *self = base->data;
    struct run *run = current_run;
    if (run && run->aborting) {
        defer(run, self, revents);
        return;
    }
    if (run)
        run->calls_since_tick++;
    int verdict = nats_ev_on_event(self->key, revents, ev_is_active(base));
    if (!verdict)
        return;
    /* Python dropped nothing on a failed delivery, so the watcher is still there. */
    if (verdict == NATS_EV_NOT_DELIVERED && run)
        defer(run, self, revents);
    run_abort(run, ev);
}

static void look_for_signals(struct ev_loop *ev)
{
    struct run *run = current_run;
    if (run && run->aborting)
        return;
    if (nats_ev_on_wakeup())
        run_abort(run, ev);
}

static void wake_cb(struct ev_loop *ev, ev_io *w, int revents)
{
    (void)w;
    (void)revents;
    look_for_signals(ev);
}

/* A poll that brought no Python callback to life may have been interrupted by a signal. This
   is the second line behind the wake-up descriptor, which foreign code may have replaced. */
static void tick_cb(struct ev_loop *ev, ev_check *w, int revents)
{
    (void)w;
    (void)revents;
    struct run *run = current_run;
    if (run && run->calls_since_tick == 0)
        look_for_signals(ev);
    else if (run)
        run->calls_since_tick = 0;
}

static void invoke_hook(struct ev_loop *ev)
{
    struct run *run = current_run;
    nats_ev_loop *loop = ev_userdata(ev);
    if (run && run->aborting)
        return;
    if (nats_ev_on_invoke(loop->hook_key))
        run_abort(run, ev);
}

static double reschedule_cb(ev_periodic *w, double now)
{
    nats_ev_watcher *self = w->data;
    double at = nats_ev_on_reschedule(self->key, now);
    /* Also false for a NaN. libev forbids stopping the watcher here: an error event does it. */
    if (at >= now)
        return at;
    ev_feed_event(self->loop->ev, w, EV_ERROR);
    return now + 1e30;
}

static void nats_ev_sleep(double seconds)
{
    RELEASE_INTERPRETER;
    ev_sleep(seconds);
    RETAKE_INTERPRETER;
}

static nats_ev_loop *loop_wrap(struct ev_loop *ev, int is_default)
{
    nats_ev_loop *loop = ev ? calloc(1, sizeof *loop) : NULL;
    if (!loop) {
        if (ev && !is_default)
            ev_loop_destroy(ev);
        return NULL;
    }
    loop->ev = ev;
    loop->is_default = is_default;
    ev_io_init(&loop->wake, wake_cb, 0, EV_READ);
    ev_set_priority(&loop->wake, EV_MAXPRI);
    ev_check_init(&loop->tick, tick_cb);
    ev_set_priority(&loop->tick, EV_MINPRI);
    return loop;
}

static nats_ev_loop *nats_ev_loop_default(unsigned int flags)
{
    return loop_wrap(ev_default_loop(flags), 1);
}

static nats_ev_loop *nats_ev_loop_new(unsigned int flags)
{
    return loop_wrap(ev_loop_new(flags), 0);
}

static int nats_ev_loop_is_claimed(nats_ev_loop *loop)
{
    return loop->is_default && ev_userdata(loop->ev) != NULL;
}

static void free_doomed_loops(void)
{
    nats_ev_loop *ready = NULL;
    pthread_mutex_lock(&lists_lock);
    for (nats_ev_loop **link = &doomed_loops; *link;) {
        nats_ev_loop *loop = *link;
        if (ev_depth(loop->ev)) {
            link = &loop->next_doomed;
            continue;
        }
        *link = loop->next_doomed;
        loop->next_doomed = ready;
        ready = loop;
    }
    pthread_mutex_unlock(&lists_lock);
    while (ready) {
        nats_ev_loop *loop = ready;
        ready = loop->next_doomed;
        loop_destroy(loop);
    }
}

static int nats_ev_loop_run(nats_ev_loop *loop, int flags, int wake_fd)
{
    struct run run;
    int watches = wake_fd >= 0 && !ev_is_active(&loop->wake);
    run_enter(&run, loop);
    if (watches) {
        ev_io_set(&loop->wake, wake_fd, EV_READ);
        ev_io_start(loop->ev, &loop->wake);
        ev_unref(loop->ev);
        ev_check_start(loop->ev, &loop->tick);
        ev_unref(loop->ev);
    }
    RELEASE_INTERPRETER;
    int active = ev_run(loop->ev, flags);
    RETAKE_INTERPRETER;
    if (watches) {
        ev_ref(loop->ev);
        ev_check_stop(loop->ev, &loop->tick);
        ev_ref(loop->ev);
        ev_io_stop(loop->ev, &loop->wake);
    }
    run_leave(&run);
    if (doomed_loops)
        free_doomed_loops();
    return run.aborting ? NATS_EV_ABORTED : active != 0;
}

static int nats_ev_loop_invoke(nats_ev_loop *loop)
{
    struct run run;
    run_enter(&run, NULL);
    ev_invoke_pending(loop->ev);
    run_leave(&run);
    return run.aborting ? NATS_EV_ABORTED : 0;
}

static void nats_ev_loop_break(nats_ev_loop *loop, int how)
{
    ev_break(loop->ev, how);
}

static void nats_ev_loop_fork(nats_ev_loop *loop)
{
    ev_loop_fork(loop->ev);
}

static double nats_ev_loop_now(nats_ev_loop *loop)
{
    return ev_now(loop->ev);
}

static void nats_ev_loop_update(nats_ev_loop *loop)
{
    ev_now_update(loop->ev);
}

static void nats_ev_loop_suspend(nats_ev_loop *loop)
{
    ev_suspend(loop->ev);
}

static void nats_ev_loop_resume(nats_ev_loop *loop)
{
    ev_resume(loop->ev);
}

static void nats_ev_loop_ref(nats_ev_loop *loop)
{
    ev_ref(loop->ev);
}

static void nats_ev_loop_unref(nats_ev_loop *loop)
{
    ev_unref(loop->ev);
}

static unsigned int nats_ev_loop_backend(nats_ev_loop *loop)
{
    return ev_backend(loop->ev);
}

static unsigned int nats_ev_loop_depth(nats_ev_loop *loop)
{
    return ev_depth(loop->ev);
}

static unsigned int nats_ev_loop_iteration(nats_ev_loop *loop)
{
    return ev_iteration(loop->ev);
}

static unsigned int nats_ev_loop_pending(nats_ev_loop *loop)
{
    return ev_pending_count(loop->ev);
}

static void nats_ev_loop_verify(nats_ev_loop *loop)
{
    ev_verify(loop->ev);
}

static void nats_ev_loop_set_intervals(nats_ev_loop *loop, double io, double timeout)
{
    ev_set_io_collect_interval(loop->ev, io);
    ev_set_timeout_collect_interval(loop->ev, timeout);
}

/* Key 0 gives the delivery of events back to libev. Never called for the default loop. */
static void nats_ev_loop_set_hook(nats_ev_loop *loop, uintptr_t key)
{
    loop->hook_key = key;
    ev_set_userdata(loop->ev, loop);
    ev_set_invoke_pending_cb(loop->ev, key ? invoke_hook : ev_invoke_pending);
}

static nats_ev_watcher *nats_ev_watcher_new(nats_ev_loop *loop, int type, uintptr_t key)
{
    nats_ev_watcher *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    ev_init(&self->ev.base, event_cb);
    self->ev.base.data = self;
    self->loop = loop;
    self->type = type;
    self->key = key;
    pthread_mutex_lock(&lists_lock);
    self->next = loop->watchers;
    self->link = &loop->watchers;
    if (self->next)
        self->next->link = &self->next;
    loop->watchers = self;
    pthread_mutex_unlock(&lists_lock);
    return self;
}

static int signal_start(nats_ev_watcher *self)
{
    int signum = self->ev.signal.signum;
    if (signals[signum].watchers == 0)
        sigaction(signum, NULL, &signals[signum].replaced);
    else if (signals[signum].loop != self->loop)
        return 0;
    signals[signum].loop = self->loop;
    signals[signum].watchers++;
    ev_signal_start(self->loop->ev, &self->ev.signal);
    return 1;
}

/* libev leaves the default action behind, with which Ctrl-C would kill instead of interrupt. */
static void signal_stop(nats_ev_watcher *self)
{
    struct sigaction now;
    int signum = self->ev.signal.signum;
    if (!ev_is_active(&self->ev.signal)) {
        ev_signal_stop(self->loop->ev, &self->ev.signal);
        return;
    }
    ev_signal_stop(self->loop->ev, &self->ev.signal);
    if (--signals[signum].watchers)
        return;
    if (sigaction(signum, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        sigaction(signum, &signals[signum].replaced, NULL);
}

/* Returns 0 for a signal that another loop watches, otherwise 1. */
static int nats_ev_start(nats_ev_watcher *self)
{
    struct ev_loop *ev = self->loop->ev;
    if (ev_is_active(&self->ev.base))
        return 1;
    switch (self->type) {
    case NATS_EV_TYPE_IO:
        ev_io_start(ev, &self->ev.io);
        break;
    case NATS_EV_TYPE_TIMER:
        ev_timer_start(ev, &self->ev.timer);
        break;
    case NATS_EV_TYPE_PERIODIC:
    case NATS_EV_TYPE_SCHEDULER:
        ev_periodic_start(ev, &self->ev.periodic);
        break;
    case NATS_EV_TYPE_SIGNAL:
        return signal_start(self);
    case NATS_EV_TYPE_CHILD:
        ev_child_start(ev, &self->ev.child);
        break;
    case NATS_EV_TYPE_IDLE:
        ev_idle_start(ev, &self->ev.idle);
        break;
    case NATS_EV_TYPE_PREPARE:
        ev_prepare_start(ev, &self->ev.prepare);
        break;
    case NATS_EV_TYPE_CHECK:
        ev_check_start(ev, &self->ev.check);
        break;
    case NATS_EV_TYPE_EMBED:
        ev_embed_start(ev, &self->ev.embed);
        break;
    case NATS_EV_TYPE_FORK:
        ev_fork_start(ev, &self->ev.fork);
        break;
    case NATS_EV_TYPE_ASYNC:
        ev_async_start(ev, &self->ev.async);
        break;
    default:
        break;
    }
    return 1;
}

/* Afterwards the watcher is neither active nor pending nor set aside. */
static void nats_ev_stop(nats_ev_watcher *self)
{
    undefer(self);
    if (!self->loop)
        return;
    struct ev_loop *ev = self->loop->ev;
    switch (self->type) {
    case NATS_EV_TYPE_IO:
        ev_io_stop(ev, &self->ev.io);
        break;
    case NATS_EV_TYPE_TIMER:
        ev_timer_stop(ev, &self->ev.timer);
        break;
    case NATS_EV_TYPE_PERIODIC:
    case NATS_EV_TYPE_SCHEDULER:
        ev_periodic_stop(ev, &self->ev.periodic);
        break;
    case NATS_EV_TYPE_SIGNAL:
        signal_stop(self);
        break;
    case NATS_EV_TYPE_CHILD:
        ev_child_stop(ev, &self->ev.child);
        break;
    case NATS_EV_TYPE_IDLE:
        ev_idle_stop(ev, &self->ev.idle);
        break;
    case NATS_EV_TYPE_PREPARE:
        ev_prepare_stop(ev, &self->ev.prepare);
        break;
    case NATS_EV_TYPE_CHECK:
        ev_check_stop(ev, &self->ev.check);
        break;
    case NATS_EV_TYPE_EMBED:
        ev_embed_stop(ev, &self->ev.embed);
        break;
    case NATS_EV_TYPE_FORK:
        ev_fork_stop(ev, &self->ev.fork);
        break;
    case NATS_EV_TYPE_ASYNC:
        ev_async_stop(ev, &self->ev.async);
        break;
    default:
        break;
    }
}

static void nats_ev_watcher_free(nats_ev_watcher *self)
{
    nats_ev_stop(self);
    pthread_mutex_lock(&lists_lock);
    if (self->loop) {
        *self->link = self->next;
        if (self->next)
            self->next->link = self->link;
    }
    pthread_mutex_unlock(&lists_lock);
    free(self);
}

static void loop_destroy(nats_ev_loop *loop)
{
    for (nats_ev_watcher *self = loop->watchers, *next; self; self = next) {
        next = self->next;
        nats_ev_stop(self);
        self->loop = NULL;
        self->next = NULL;
        self->link = NULL;
    }
    ev_set_invoke_pending_cb(loop->ev, ev_invoke_pending);
    ev_loop_destroy(loop->ev);
    free(loop);
}

/* A loop whose last reference goes while libev is inside it (an embedded one whose embedder
   was dropped by its own callback) is destroyed when that run has left it. */
static void nats_ev_loop_free(nats_ev_loop *loop)
{
    if (loop->is_default)
        return;
    if (ev_depth(loop->ev) == 0) {
        loop_destroy(loop);
        return;
    }
    pthread_mutex_lock(&lists_lock);
    loop->next_doomed = doomed_loops;
    doomed_loops = loop;
    pthread_mutex_unlock(&lists_lock);
}

static void nats_ev_again(nats_ev_watcher *self)
{
    if (self->type == NATS_EV_TYPE_TIMER)
        ev_timer_again(self->loop->ev, &self->ev.timer);
    else
        ev_periodic_again(self->loop->ev, &self->ev.periodic);
}

static void nats_ev_feed(nats_ev_watcher *self, int revents)
{
    ev_feed_event(self->loop->ev, &self->ev.base, revents);
}

static int nats_ev_clear(nats_ev_watcher *self)
{
    return ev_clear_pending(self->loop->ev, &self->ev.base);
}

static int nats_ev_invoke(nats_ev_watcher *self, int revents)
{
    struct run run;
    run_enter(&run, NULL);
    ev_invoke(self->loop->ev, &self->ev.base, revents);
    run_leave(&run);
    return run.aborting ? NATS_EV_ABORTED : 0;
}

static int nats_ev_active(nats_ev_watcher *self)
{
    return ev_is_active(&self->ev.base) != 0;
}

static int nats_ev_pending(nats_ev_watcher *self)
{
    return ev_is_pending(&self->ev.base) != 0;
}

static int nats_ev_priority(nats_ev_watcher *self)
{
    return ev_priority(&self->ev.base);
}

static void nats_ev_set_priority(nats_ev_watcher *self, int priority)
{
    ev_set_priority(&self->ev.base, priority);
}

static void nats_ev_set_io(nats_ev_watcher *self, int fd, int events)
{
    ev_io_set(&self->ev.io, fd, events);
}

static int nats_ev_io_events(nats_ev_watcher *self)
{
    return self->ev.io.events & (EV_READ | EV_WRITE);
}

static void nats_ev_set_timer(nats_ev_watcher *self, double after, double repeat)
{
    ev_timer_set(&self->ev.timer, after, repeat);
}

static double nats_ev_timer_remaining(nats_ev_watcher *self)
{
    return ev_timer_remaining(self->loop->ev, &self->ev.timer);
}

static double nats_ev_timer_repeat(nats_ev_watcher *self)
{
    return self->ev.timer.repeat;
}

static void nats_ev_timer_set_repeat(nats_ev_watcher *self, double repeat)
{
    self->ev.timer.repeat = repeat;
}

static void nats_ev_set_periodic(nats_ev_watcher *self, double offset, double interval)
{
    ev_periodic_set(&self->ev.periodic, offset, interval,
                    self->type == NATS_EV_TYPE_SCHEDULER ? reschedule_cb : NULL);
}

static double nats_ev_periodic_at(nats_ev_watcher *self)
{
    return ev_periodic_at(&self->ev.periodic);
}

static double nats_ev_periodic_offset(nats_ev_watcher *self)
{
    return self->ev.periodic.offset;
}

static void nats_ev_periodic_set_offset(nats_ev_watcher *self, double offset)
{
    self->ev.periodic.offset = offset;
}

static double nats_ev_periodic_interval(nats_ev_watcher *self)
{
    return self->ev.periodic.interval;
}

static void nats_ev_periodic_set_interval(nats_ev_watcher *self, double interval)
{
    self->ev.periodic.interval = interval;
}

static void nats_ev_set_signal(nats_ev_watcher *self, int signum)
{
    ev_signal_set(&self->ev.signal, signum);
}

static void nats_ev_set_child(nats_ev_watcher *self, int pid, int trace)
{
    ev_child_set(&self->ev.child, pid, trace);
}

static int nats_ev_child_rpid(nats_ev_watcher *self)
{
    return self->ev.child.rpid;
}

static void nats_ev_child_set_rpid(nats_ev_watcher *self, int rpid)
{
    self->ev.child.rpid = rpid;
}

static int nats_ev_child_rstatus(nats_ev_watcher *self)
{
    return self->ev.child.rstatus;
}

static void nats_ev_child_set_rstatus(nats_ev_watcher *self, int rstatus)
{
    self->ev.child.rstatus = rstatus;
}

static void nats_ev_set_embed(nats_ev_watcher *self, nats_ev_loop *other)
{
    ev_embed_set(&self->ev.embed, other->ev);
}

static int nats_ev_embed_sweep(nats_ev_watcher *self)
{
    struct run run;
    run_enter(&run, NULL);
    ev_embed_sweep(self->loop->ev, &self->ev.embed);
    run_leave(&run);
    return run.aborting ? NATS_EV_ABORTED : 0;
}

static void nats_ev_async_send(nats_ev_watcher *self)
{
    ev_async_send(self->loop->ev, &self->ev.async);
}

static int nats_ev_async_sent(nats_ev_watcher *self)
{
    return ev_async_pending(&self->ev.async) != 0;
}
"""

ffibuilder = FFI()
ffibuilder.cdef(CDEF)
ffibuilder.set_source("nats_ev._libev", SOURCE, libraries=["ev"])

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
