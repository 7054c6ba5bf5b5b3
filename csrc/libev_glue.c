#include <Python.h>

#include "libev_glue.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * Only polling and sleeping block, and only they release the interpreter lock. PyPy has neither of
 * these functions: its CFFI releases the lock around every call.
 */
#ifdef PYPY_VERSION
typedef void interpreter_state;
#define interpreter_release() NULL
#define interpreter_retake(state) ((void)(state))
#else
typedef PyThreadState interpreter_state;
#define interpreter_release() PyEval_SaveThread()
#define interpreter_retake(state) PyEval_RestoreThread(state)
#endif

/* A run on the stack of a thread: Loop.start(), Loop.invoke(), Watcher.invoke(), Embed.sweep(). */
struct run {
    nats_ev_loop *loop;          /* the loop that start() runs; NULL for a run that only delivers */
    struct run *outer;           /* the thread's run that this one is nested in */
    struct run *outer_of_loop;   /* the loop's run that this one is nested in */
    interpreter_state *released; /* not NULL while this thread has released the interpreter lock */
    int in_python;               /* how many callbacks of this run are on the stack */
    int holds;    /* keep the lock between callbacks: a prepare phase comes before the next poll */
    int waits;    /* whether the run may block at all */
    int was_busy; /* a callback ran since the last poll, so Python has looked for signals */
    int aborting; /* Python has asked for a stop: set aside what libev still delivers */
    nats_ev_watcher *deferred; /* the watchers that were set aside, newest first */
};

struct nats_ev_loop {
    struct ev_loop *ev;
    atomic_int references; /* the owner's, and one for each watcher */
    int is_default;
    int is_borrowed; /* the host owns libev's loop: never destroyed here */
    int is_gone;     /* the host has destroyed libev's loop: ev is one that nobody runs */
    uintptr_t hook_key;
    uintptr_t owner_key; /* not 0: gone is active */
    atomic_ulong
        foreign_thread; /* the last in which libev delivered an event without a run of ours */
    struct run *run;
    nats_ev_watcher *watchers; /* all of this loop */
    ev_cleanup gone;           /* the owner destroys libev's loop */
    ev_timer resuming; /* active since an exception has ended a host's run, until the next */
    nats_ev_watcher *deferred; /* meanwhile: the watchers that were set aside, newest first */
    ev_io wake;                /* readable when the interpreter has caught a signal */
    ev_prepare polling;        /* lowest priority: runs last before libev polls */
    ev_check polled;           /* highest priority: runs first after a poll */
    nats_ev_loop *next_doomed; /* see doomed_loops */
};

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
    nats_ev_loop *loop;
    void *object; /* Python's, for nats_ev_on_event; NULL: it gets no events */
    uintptr_t key;
    int type;
    int deferred_events;
    nats_ev_watcher *next_deferred, **deferred_link; /* NULL: not set aside */
    nats_ev_watcher *next, **link;                   /* in the loop's list */
};

static _Thread_local struct run *current_run;

/* Loops whose last reference was dropped while libev was inside them. */
static pthread_mutex_t doomed_lock = PTHREAD_MUTEX_INITIALIZER;
static nats_ev_loop *doomed_loops;

/* libev allows a signal in one loop at a time, and forgets the action that it replaced. */
static struct {
    struct ev_loop *loop;
    unsigned int watchers;
    struct sigaction replaced;  /* before the first watcher was started */
    struct sigaction installed; /* by libev, or still the same if libev uses a signalfd */
} signals[NATS_EV_NSIG];

/* libev's own watcher of SIGCHLD, which reaps every child of the process. libev starts it with the
   default loop. Here it is active only while a child watcher is. NULL: another binding has made
   the default loop and decides, or this libev has no child watchers. */
static struct {
    ev_signal *watcher;
    unsigned int users;
} reaper;

/* ---- runs ---- */

/* Set an event aside until the run has returned. */
static void defer(nats_ev_watcher **list, nats_ev_watcher *self, int revents)
{
    self->deferred_events |= revents;
    if (self->deferred_link)
        return;
    self->next_deferred = *list;
    if (*list)
        (*list)->deferred_link = &self->next_deferred;
    *list = self;
    self->deferred_link = list;
}

/* Take a watcher off the list of its run. */
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

/* Feed the events that were set aside. libev delivers the newest event first. So does this list, and
   the order of events is kept. */
static void feed_deferred(nats_ev_watcher **list)
{
    while (*list) {
        nats_ev_watcher *self = *list;
        int revents = self->deferred_events;
        undefer(self);
        ev_feed_event(self->loop->ev, &self->ev.base, revents);
    }
}

/* Begin a run of this thread; `loop` is NULL when the run only delivers. */
static void run_enter(struct run *run, nats_ev_loop *loop, int waits)
{
    assert(!waits || loop);
    *run =
        (struct run){.loop = loop, .outer = current_run, .waits = waits, .holds = 1, .was_busy = 1};
    /* This run may use up the prepare event after which the outer run would release the lock. */
    if (current_run)
        current_run->holds = 0;
    current_run = run;
    if (loop) {
        run->outer_of_loop = loop->run;
        loop->run = run;
    }
}

/* End a run, with the lock held, and feed its loop the events that were set aside. */
static void run_leave(struct run *run)
{
    assert(current_run == run && run->in_python == 0);
    if (run->released)
        interpreter_retake(run->released);
    run->released = NULL;
    current_run = run->outer;
    if (run->loop)
        run->loop->run = run->outer_of_loop;
    feed_deferred(&run->deferred);
}

/* Make a run return as soon as libev's pending events have been set aside. */
static void run_abort(struct run *run, struct ev_loop *ev)
{
    if (!run)
        return;
    run->aborting = 1;
    if (run->loop) {
        ev_break(run->loop->ev, EVBREAK_ONE);
        /* An embedded loop is run by libev itself, on behalf of the loop around it. */
        if (ev != run->loop->ev)
            ev_break(ev, EVBREAK_ONE);
    }
}

/*
 * Take the lock before a call of Python. Without a run of ours, another binding has started libev,
 * and what is called takes and releases the lock. The same is true for another binding's run inside
 * one of our callbacks, during which in_python is not 0: that binding may have released the lock.
 */
static void python_enter(struct run *run)
{
    if (!run)
        return;
    run->in_python++;
    run->was_busy = 1;
    if (run->released) {
        interpreter_retake(run->released);
        run->released = NULL;
    }
}

/* Release the lock after a call of Python, unless it is held between callbacks. */
static void python_leave(struct run *run)
{
    assert(!run || run->in_python > 0);
    if (run && --run->in_python == 0 && !run->holds && run->waits)
        run->released = interpreter_release();
}

/* ---- what libev calls ---- */

/*
 * Make a host's ev_run return, to which no exception can be raised, as soon as libev's pending
 * events have been set aside. Nothing says when the run has returned. A run that ends looks at no
 * timer any more, but it may begin a prepare phase: it delivers what was pending before that.
 */
static void foreign_abort(nats_ev_loop *loop)
{
    ev_break(loop->ev, EVBREAK_ONE);
    if (!ev_is_active(&loop->resuming)) {
        /* It repeats, so that it is active until its callback: events before that are deferred. */
        ev_timer_set(&loop->resuming, 0., 1.);
        ev_timer_start(loop->ev, &loop->resuming);
        ev_unref(loop->ev);
    }
}

static void stop_resuming(nats_ev_loop *loop)
{
    if (!ev_is_active(&loop->resuming))
        return;
    ev_ref(loop->ev);
    ev_timer_stop(loop->ev, &loop->resuming);
}

/* A run has begun after the one that an exception has ended. */
static void resuming_cb(struct ev_loop *ev, ev_timer *watcher, int revents)
{
    nats_ev_loop *loop = watcher->data;
    (void)ev;
    (void)revents;
    stop_resuming(loop);
    feed_deferred(&loop->deferred);
}

/*
 * Deliver an event where a host runs the loop. nats_ev_on_event takes the interpreter lock, unless the
 * host has it. The host may have finalised Python.
 */
static void foreign_event(nats_ev_watcher *self, int revents)
{
    nats_ev_loop *loop = self->loop;
    int state = ev_is_active(&self->ev.base) ? NATS_EV_ACTIVE : 0, verdict;
    if (!Py_IsInitialized())
        return;
    if (ev_is_active(&loop->resuming)) {
        defer(&loop->deferred, self, revents);
        return;
    }
    atomic_store_explicit(&loop->foreign_thread, PyThread_get_thread_ident(), memory_order_relaxed);
    atomic_fetch_add(&loop->references, 1); /* the callback may drop the loop */
    verdict = nats_ev_on_event(self->object, revents, state);
    if (verdict)
        foreign_abort(loop);
    if (verdict == NATS_EV_NOT_DELIVERED)
        defer(&loop->deferred, self, revents);
    nats_ev_loop_free(loop);
}

/* Deliver an event of a watcher of any type. */
static void event_cb(struct ev_loop *ev, ev_watcher *base, int revents)
{
    nats_ev_watcher *self = base->data;
    struct run *run = current_run;
    assert(&self->ev.base == base);
    if (!run) {
        foreign_event(self, revents);
        return;
    }
    if (run->aborting) {
        defer(&run->deferred, self, revents);
        return;
    }
    python_enter(run);
    int state = (ev_is_active(base) ? NATS_EV_ACTIVE : 0) | NATS_EV_CAN_STOP |
                (run->in_python == 1 ? NATS_EV_LOCKED : 0);
    int verdict = nats_ev_on_event(self->object, revents, state);
    if (verdict) {
        /* After a failed delivery Python still holds the watcher, so that self is valid. */
        if (verdict == NATS_EV_NOT_DELIVERED)
            defer(&run->deferred, self, revents);
        run_abort(run, ev);
    }
    python_leave(run);
}

/* Let Python call the handlers of the signals that it has caught. */
static void look_for_signals(struct run *run, struct ev_loop *ev)
{
    if (run && run->aborting)
        return;
    python_enter(run);
    if (nats_ev_on_wakeup())
        run_abort(run, ev);
    python_leave(run);
}

/* The wake-up descriptor is readable: Python has caught a signal. */
static void wake_cb(struct ev_loop *ev, ev_io *watcher, int revents)
{
    (void)watcher;
    (void)revents;
    look_for_signals(current_run, ev);
}

/*
 * libev is about to poll, after the prepare watchers that still follow. A poll after which no
 * callback ran may have been interrupted by a signal. Looking for signals here is a second way to
 * notice them, because foreign code may have replaced the wake-up descriptor.
 */
static void polling_cb(struct ev_loop *ev, ev_prepare *watcher, int revents)
{
    nats_ev_loop *loop = watcher->data;
    struct run *run = loop->run;
    (void)revents;
    if (!run)
        return;
    run->holds = 0;
    if (run != current_run || run->in_python || !run->waits)
        return;
    if (!run->was_busy && ev_is_active(&loop->wake))
        look_for_signals(run, ev);
    run->was_busy = 0;
    if (!run->released)
        run->released = interpreter_release();
}

/* libev is about to deliver the events of a poll: nothing blocks until the next prepare phase. */
static void polled_cb(struct ev_loop *ev, ev_check *watcher, int revents)
{
    struct run *run = ((nats_ev_loop *)watcher->data)->run;
    (void)ev;
    (void)revents;
    if (run && run == current_run && !run->in_python)
        run->holds = 1;
}

/* Let the user's callback deliver the pending events. */
static void invoke_hook(struct ev_loop *ev)
{
    struct run *run = current_run;
    nats_ev_loop *loop = ev_userdata(ev);
    if (run && run->aborting)
        return;
    python_enter(run);
    /* The user's callback may deliver nothing at all, and so not our prepare event either. */
    if (run)
        run->holds = 0;
    if (nats_ev_on_invoke(loop->hook_key))
        run_abort(run, ev);
    python_leave(run);
}

/* Ask a scheduler for its next time. */
static double reschedule_cb(ev_periodic *watcher, double now)
{
    nats_ev_watcher *self = watcher->data;
    struct run *run = current_run;
    if (!run && !Py_IsInitialized())
        return now + 1e30;
    python_enter(run);
    double at = nats_ev_on_reschedule(self->key, now);
    python_leave(run);
    /* False for a NaN, too. libev forbids stopping the watcher here; its error event does so. */
    if (at >= now)
        return at;
    ev_feed_event(self->loop->ev, watcher, EV_ERROR);
    return now + 1e30;
}

/* ---- loops ---- */

void nats_ev_sleep(double seconds)
{
    interpreter_state *state = interpreter_release();
    ev_sleep(seconds);
    interpreter_retake(state);
}

static void ignore_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
    (void)ev;
    (void)w;
    (void)revents;
}

/* Find the reaper and stop it. libev has no name for it, but lists the watchers of a signal newest
   first: a new watcher is followed by the reaper. */
static void stop_reaper(struct ev_loop *ev)
{
    ev_signal probe;
    ev_signal_init(&probe, ignore_signal, SIGCHLD);
    ev_signal_start(ev, &probe);
    reaper.watcher = (ev_signal *)probe.next;
    ev_signal_stop(ev, &probe);
    if (!reaper.watcher)
        return;
    ev_ref(ev); /* libev has dropped it, so that the reaper keeps no loop alive */
    ev_signal_stop(ev, reaper.watcher);
}

/* Make libev's default loop, and leave the process's action for SIGCHLD, and its mask, in place. */
static struct ev_loop *default_loop_get(unsigned int flags)
{
    sigset_t child, mask;
    struct sigaction action;
    struct ev_loop *ev;
    if (ev_default_loop_uc_())
        return ev_default_loop_uc_();
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, &mask);
    sigaction(SIGCHLD, NULL, &action);
    ev = ev_default_loop(flags);
    if (ev)
        stop_reaper(ev);
    sigaction(SIGCHLD, &action, NULL);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return ev;
}

/* Return a loop that nobody runs, for the watchers whose own loop is gone. There is one. */
static struct ev_loop *loop_of_the_dead(void)
{
    static struct ev_loop *made;
    pthread_mutex_lock(&doomed_lock);
    if (!made)
        made = ev_loop_new(EVBACKEND_SELECT | EVFLAG_NOENV); /* takes no descriptor */
    pthread_mutex_unlock(&doomed_lock);
    return made;
}

/*
 * The owner is inside ev_loop_destroy. Stop all watchers, which nothing would find afterwards, and
 * put a loop that nobody runs in the place of the host's: all other functions stay safe. The host
 * may have finalised Python by now.
 */
static void gone_cb(struct ev_loop *ev, ev_cleanup *cleanup, int revents)
{
    nats_ev_loop *loop = cleanup->data;
    (void)revents;
    for (nats_ev_watcher *self = loop->watchers; self; self = self->next)
        nats_ev_stop(self);
    stop_resuming(loop);
    ev_cleanup_stop(ev, cleanup);
    loop->ev = loop_of_the_dead();
    loop->is_gone = 1;
    loop->is_default = 0;
    if (Py_IsInitialized())
        nats_ev_on_gone(loop->owner_key);
}

static nats_ev_loop *loop_around(struct ev_loop *ev)
{
    nats_ev_loop *loop = ev ? calloc(1, sizeof *loop) : NULL;
    if (!loop)
        return NULL;
    loop->ev = ev;
    loop->is_default = ev == ev_default_loop_uc_();
    atomic_init(&loop->references, 1);
    ev_io_init(&loop->wake, wake_cb, 0, EV_READ);
    ev_set_priority(&loop->wake, EV_MAXPRI);
    ev_prepare_init(&loop->polling, polling_cb);
    ev_set_priority(&loop->polling, EV_MINPRI);
    loop->polling.data = loop;
    ev_check_init(&loop->polled, polled_cb);
    ev_set_priority(&loop->polled, EV_MAXPRI);
    loop->polled.data = loop;
    ev_cleanup_init(&loop->gone, gone_cb);
    ev_set_priority(&loop->gone, EV_MAXPRI);
    loop->gone.data = loop;
    ev_timer_init(&loop->resuming, resuming_cb, 0., 0.);
    ev_set_priority(&loop->resuming, EV_MAXPRI);
    loop->resuming.data = loop;
    return loop;
}

nats_ev_loop *nats_ev_loop_new(unsigned int flags, int is_default)
{
    struct ev_loop *ev = is_default ? default_loop_get(flags) : ev_loop_new(flags);
    nats_ev_loop *loop = loop_around(ev);
    if (!loop && ev && !is_default)
        ev_loop_destroy(ev);
    return loop;
}

/*
 * Return whether two loops of one backend were made by the same copy of libev: then they name the
 * same functions of that copy. `ours` is of the copy that this file is linked to. Its last function
 * is ev_invoke_pending, which a host may have replaced in its own loop, unlike those of the backend.
 */
static int have_a_copy_in_common(struct ev_loop *ours, struct ev_loop *theirs)
{
    const uintptr_t last = (uintptr_t)ev_invoke_pending, library = 1024 * 1024;
    for (size_t at = 0; at < 4096; at += sizeof(void *)) {
        uintptr_t a, b;
        memcpy(&a, (char *)ours + at, sizeof a);
        memcpy(&b, (char *)theirs + at, sizeof b);
        if (a == b && a - last + library < 2 * library)
            return 1;
        if (a == last)
            return 0;
    }
    return 1; /* a libev that keeps no such function: nobody knows */
}

int nats_ev_is_loop(uintptr_t address)
{
    struct ev_loop *theirs = (struct ev_loop *)address, *ours;
    unsigned int backend;
    int common;
    if (address % _Alignof(void *))
        return NATS_EV_NO_LOOP;
    backend = ev_backend(theirs); /* another version has something else at this place */
    if ((backend & (backend - 1)) != 0 || (backend & ev_supported_backends()) == 0)
        return NATS_EV_NO_LOOP;
    ours = ev_loop_new(backend | EVFLAG_NOENV);
    if (!ours)
        return NATS_EV_IS_LOOP; /* no descriptor is left */
    common = have_a_copy_in_common(ours, theirs);
    ev_loop_destroy(ours);
    return common ? NATS_EV_IS_LOOP : NATS_EV_OTHER_COPY;
}

nats_ev_loop *nats_ev_loop_borrow(uintptr_t address)
{
    nats_ev_loop *loop = loop_around((struct ev_loop *)address);
    if (loop)
        loop->is_borrowed = 1;
    return loop;
}

void nats_ev_loop_watch_owner(nats_ev_loop *loop, uintptr_t key)
{
    loop->owner_key = key;
    ev_cleanup_start(loop->ev, &loop->gone);
}

int nats_ev_loop_is_gone(nats_ev_loop *loop)
{
    return loop->is_gone;
}

unsigned long nats_ev_loop_foreign_thread(nats_ev_loop *loop)
{
    if (loop->is_gone || ev_depth(loop->ev) == 0)
        return 0;
    return atomic_load_explicit(&loop->foreign_thread, memory_order_relaxed);
}

int nats_ev_loop_is_default(nats_ev_loop *loop)
{
    return loop->is_default;
}

uintptr_t nats_ev_loop_address(nats_ev_loop *loop)
{
    return (uintptr_t)loop->ev;
}

static void loop_destroy(nats_ev_loop *loop)
{
    ev_set_invoke_pending_cb(loop->ev, ev_invoke_pending);
    ev_loop_destroy(loop->ev);
    free(loop);
}

/* libev may be inside an embedded loop whose embedder was dropped by its own callback. */
void nats_ev_loop_free(nats_ev_loop *loop)
{
    if (atomic_fetch_sub(&loop->references, 1) != 1)
        return;
    if (loop->is_borrowed || loop->is_gone) {
        if (!loop->is_gone) {
            stop_resuming(loop);
            ev_cleanup_stop(loop->ev, &loop->gone);
        }
        free(loop);
        return;
    }
    if (loop->is_default)
        return;
    if (ev_depth(loop->ev) == 0) {
        loop_destroy(loop);
        return;
    }
    pthread_mutex_lock(&doomed_lock);
    loop->next_doomed = doomed_loops;
    doomed_loops = loop;
    pthread_mutex_unlock(&doomed_lock);
}

/* Destroy the doomed loops that libev has left. */
static void free_doomed_loops(void)
{
    nats_ev_loop *ready = NULL;
    pthread_mutex_lock(&doomed_lock);
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
    pthread_mutex_unlock(&doomed_lock);
    while (ready) {
        nats_ev_loop *loop = ready;
        ready = loop->next_doomed;
        loop_destroy(loop);
    }
}

struct ev_loop *nats_ev_loop_get(nats_ev_loop *loop)
{
    return loop->ev;
}

int nats_ev_loop_is_claimed(nats_ev_loop *loop)
{
    return (loop->is_default || loop->is_borrowed) && ev_userdata(loop->ev) != NULL;
}

/* Start this layer's own watchers, which do not keep the loop alive. */
static void watch_interpreter(nats_ev_loop *loop, int wake_fd)
{
    ev_prepare_start(loop->ev, &loop->polling);
    ev_unref(loop->ev);
    ev_check_start(loop->ev, &loop->polled);
    ev_unref(loop->ev);
    if (wake_fd >= 0) {
        ev_io_set(&loop->wake, wake_fd, EV_READ);
        ev_io_start(loop->ev, &loop->wake);
        ev_unref(loop->ev);
    }
}

/* Undo watch_interpreter. */
static void unwatch_interpreter(nats_ev_loop *loop)
{
    if (ev_is_active(&loop->wake)) {
        ev_ref(loop->ev);
        ev_io_stop(loop->ev, &loop->wake);
    }
    ev_ref(loop->ev);
    ev_check_stop(loop->ev, &loop->polled);
    ev_ref(loop->ev);
    ev_prepare_stop(loop->ev, &loop->polling);
}

int nats_ev_loop_run(nats_ev_loop *loop, int flags, int wake_fd)
{
    struct run run;
    int watches = !(flags & EVRUN_NOWAIT) && !ev_is_active(&loop->polling);
    run_enter(&run, loop, !(flags & EVRUN_NOWAIT));
    if (watches)
        watch_interpreter(loop, wake_fd);
    int active = ev_run(loop->ev, flags);
    run_leave(&run);
    if (watches)
        unwatch_interpreter(loop);
    if (doomed_loops)
        free_doomed_loops();
    return run.aborting ? NATS_EV_ABORTED : active != 0;
}

int nats_ev_loop_invoke(nats_ev_loop *loop)
{
    struct run run;
    run_enter(&run, NULL, 0);
    ev_invoke_pending(loop->ev);
    run_leave(&run);
    return run.aborting ? NATS_EV_ABORTED : 0;
}

unsigned int nats_ev_loop_pending(nats_ev_loop *loop)
{
    return ev_pending_count(loop->ev) - (ev_is_pending(&loop->wake) != 0) -
           (ev_is_pending(&loop->polling) != 0) - (ev_is_pending(&loop->polled) != 0) -
           (ev_is_pending(&loop->resuming) != 0) -
           (loop->is_default && reaper.watcher && ev_is_pending(reaper.watcher));
}

void nats_ev_loop_set_hook(nats_ev_loop *loop, uintptr_t key)
{
    assert(!loop->is_default && !loop->is_borrowed);
    loop->hook_key = key;
    ev_set_userdata(loop->ev, loop);
    ev_set_invoke_pending_cb(loop->ev, key ? invoke_hook : ev_invoke_pending);
}

/* ---- watchers ---- */

nats_ev_watcher *nats_ev_watcher_new(nats_ev_loop *loop, int type, uintptr_t key)
{
    nats_ev_watcher *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    ev_init(&self->ev.base, event_cb);
    self->ev.base.data = self;
    self->loop = loop;
    self->type = type;
    self->key = key;
    self->next = loop->watchers;
    self->link = &loop->watchers;
    if (self->next)
        self->next->link = &self->next;
    loop->watchers = self;
    atomic_fetch_add(&loop->references, 1);
    return self;
}

void nats_ev_watcher_own(nats_ev_watcher *self, void *object)
{
    self->object = object;
}

NATS_MUST_CHECK static int io_start(nats_ev_watcher *self)
{
    /* libev aborts the process on a number that is too large for its tables. */
    if (fcntl(self->ev.io.fd, F_GETFD) < 0)
        return NATS_EV_BAD_FD;
    ev_io_start(self->loop->ev, &self->ev.io);
    return 0;
}

NATS_MUST_CHECK static int signal_start(nats_ev_loop *loop, ev_signal *w)
{
    int signum = w->signum;
    assert(signum > 0 && signum < NATS_EV_NSIG);
    if (signals[signum].watchers == 0)
        sigaction(signum, NULL, &signals[signum].replaced);
    else if (signals[signum].loop != loop->ev)
        return NATS_EV_OTHER_LOOP;
    ev_signal_start(loop->ev, w);
    if (signals[signum].watchers++ == 0)
        sigaction(signum, NULL, &signals[signum].installed);
    signals[signum].loop = loop->ev;
    return 0;
}

/* Stop, and undo that libev sets the default action after its last watcher: with that action
   Ctrl-C kills the process instead of interrupting it. What the program has set since the first
   watcher was started stays; otherwise the action from before comes back. */
static void signal_stop(nats_ev_loop *loop, ev_signal *w)
{
    struct sigaction before, after;
    int signum = w->signum;
    int was_active = ev_is_active(w);
    sigaction(signum, NULL, &before);
    ev_signal_stop(loop->ev, w);
    if (!was_active || --signals[signum].watchers)
        return;
    if (sigaction(signum, NULL, &after) || after.sa_handler != SIG_DFL)
        return; /* another binding still watches the signal */
    if (before.sa_handler == signals[signum].installed.sa_handler)
        before = signals[signum].replaced;
    sigaction(signum, &before, NULL);
}

NATS_MUST_CHECK static int child_start(nats_ev_watcher *self)
{
    struct ev_loop *ev = self->loop->ev;
    if (reaper.watcher && reaper.users == 0) {
        int failure = signal_start(self->loop, reaper.watcher);
        if (failure)
            return failure;
        ev_unref(ev);
        /* The child may have ended while the reaper was stopped. */
        ev_feed_event(ev, reaper.watcher, EV_SIGNAL);
    }
    reaper.users++;
    ev_child_start(ev, &self->ev.child);
    return 0;
}

static void child_stop(nats_ev_watcher *self)
{
    struct ev_loop *ev = self->loop->ev;
    int was_active = ev_is_active(&self->ev.child);
    ev_child_stop(ev, &self->ev.child);
    if (!was_active || --reaper.users || !reaper.watcher)
        return;
    ev_ref(ev);
    signal_stop(self->loop, reaper.watcher);
}

static struct sigaction kept; /* by nats_ev_keep_action */

void nats_ev_keep_action(int signum)
{
    sigaction(signum, NULL, &kept);
}

void nats_ev_restore_action(int signum)
{
    sigaction(signum, &kept, NULL);
}

int nats_ev_start(nats_ev_watcher *self)
{
    struct ev_loop *ev = self->loop->ev;
    if (ev_is_active(&self->ev.base))
        return 0;
    if (self->loop->is_gone)
        return NATS_EV_LOOP_GONE;
    switch (self->type) {
    case NATS_EV_TYPE_IO:
        return io_start(self);
    case NATS_EV_TYPE_TIMER:
        ev_timer_start(ev, &self->ev.timer);
        break;
    case NATS_EV_TYPE_PERIODIC:
    case NATS_EV_TYPE_SCHEDULER:
        ev_periodic_start(ev, &self->ev.periodic);
        break;
    case NATS_EV_TYPE_SIGNAL:
        return signal_start(self->loop, &self->ev.signal);
    case NATS_EV_TYPE_CHILD:
        return child_start(self);
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
    return 0;
}

void nats_ev_stop(nats_ev_watcher *self)
{
    struct ev_loop *ev = self->loop->ev;
    undefer(self);
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
        signal_stop(self->loop, &self->ev.signal);
        break;
    case NATS_EV_TYPE_CHILD:
        child_stop(self);
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

void nats_ev_watcher_free(nats_ev_watcher *self)
{
    nats_ev_loop *loop = self->loop;
    nats_ev_stop(self);
    *self->link = self->next;
    if (self->next)
        self->next->link = self->link;
    free(self);
    nats_ev_loop_free(loop);
}

void nats_ev_again(nats_ev_watcher *self)
{
    if (self->loop->is_gone)
        return;
    if (self->type == NATS_EV_TYPE_TIMER)
        ev_timer_again(self->loop->ev, &self->ev.timer);
    else
        ev_periodic_again(self->loop->ev, &self->ev.periodic);
}

void nats_ev_feed(nats_ev_watcher *self, int revents)
{
    ev_feed_event(self->loop->ev, &self->ev.base, revents);
}

int nats_ev_is_pending(const nats_ev_watcher *self)
{
    return ev_is_pending(&self->ev.base);
}

int nats_ev_invoke(nats_ev_watcher *self, int revents)
{
    struct run run;
    run_enter(&run, NULL, 0);
    ev_invoke(self->loop->ev, &self->ev.base, revents);
    run_leave(&run);
    return run.aborting ? NATS_EV_ABORTED : 0;
}

void nats_ev_set_io(nats_ev_watcher *self, int fd, int events)
{
    ev_io_set(&self->ev.io, fd, events);
}

void nats_ev_set_times(nats_ev_watcher *self, double first, double interval)
{
    if (self->type == NATS_EV_TYPE_TIMER)
        ev_timer_set(&self->ev.timer, first, interval);
    else
        ev_periodic_set(&self->ev.periodic, first, interval,
                        self->type == NATS_EV_TYPE_SCHEDULER ? reschedule_cb : NULL);
}

void nats_ev_set_signal(nats_ev_watcher *self, int signum)
{
    ev_signal_set(&self->ev.signal, signum);
}

void nats_ev_set_child(nats_ev_watcher *self, int pid, int trace)
{
    ev_child_set(&self->ev.child, pid, trace);
}

void nats_ev_set_embed(nats_ev_watcher *self, nats_ev_loop *other)
{
    ev_embed_set(&self->ev.embed, other->ev);
}

int nats_ev_embed_sweep(nats_ev_watcher *self)
{
    struct run run;
    run_enter(&run, NULL, 0);
    ev_embed_sweep(self->loop->ev, &self->ev.embed);
    run_leave(&run);
    return run.aborting ? NATS_EV_ABORTED : 0;
}

void nats_ev_async_send(nats_ev_watcher *self)
{
    if (self->loop->is_gone)
        return;
    ev_async_send(self->loop->ev, &self->ev.async);
}

int nats_ev_async_sent(nats_ev_watcher *self)
{
    return ev_async_pending(&self->ev.async) != 0;
}
