/*
 * libev_glue: the C between libev and nats_ev.pyev.
 *
 * What this layer does, so that Python need not:
 *  - Ownership in any order. Loops and watchers are C memory. A watcher may be freed before its
 *    loop or after its loop, active or not.
 *  - One trampoline. Watchers of every type call the same C callback, which calls that of the Python
 *    object (py_watcher.c).
 *  - The interpreter lock. libev polls without the lock; all callbacks that follow a poll run with
 *    the lock held, and the lock is taken once for all of them.
 *  - A host's runs. Where other code runs the loop, by itself, there is no run of ours: the lock
 *    is taken for each event if it is not held, an exception makes the host's ev_run return, and
 *    events that come after the host has finalised Python are dropped.
 *  - Stopping on an exception. When Python asks for a stop, the events that libev still has to
 *    deliver are set aside and are fed to the loop again after the run has returned. No event is
 *    lost.
 *
 * This layer must not set user data, an invoke-pending hook or a release hook on libev's default
 * loop: other bindings in the process share that loop, and may run it from inside our callbacks.
 *
 * All functions must be called with the interpreter lock held.
 */
#ifndef NATS_LIBEV_GLUE_H
#define NATS_LIBEV_GLUE_H

#if defined(__has_include)
#if !__has_include(<ev.h>)
#error                                                                                             \
    "libev's header ev.h is missing. Install libev-dev (Debian, Ubuntu), libev-devel (Fedora), \
libev (Alpine: libev-dev), or on macOS run: brew install libev"
#endif
#endif

#include "nats_attributes.h"

#include <ev.h>
#include <signal.h>
#include <stdint.h>

#if EV_VERSION_MAJOR < 4 || (EV_VERSION_MAJOR == 4 && EV_VERSION_MINOR < 11)
#error "libev 4.11 or later is needed"
#endif

/* Flags and backends that an older libev does not know read as 0. */
#ifndef EVFLAG_NOTIMERFD
#if EV_VERSION_MAJOR == 4 && EV_VERSION_MINOR < 31
#define EVBACKEND_LINUXAIO 0U
#define EVBACKEND_IOURING 0U
#define EVFLAG_NOTIMERFD 0U
#endif
#endif

#ifdef NSIG
#define NATS_EV_NSIG NSIG
#else
#define NATS_EV_NSIG 65
#endif

/* A run returns ABORTED when an exception ended it. Python answers an event with 0, STOP (end the
   run) or NOT_DELIVERED (end the run, the callback has not begun). */
enum { NATS_EV_ABORTED = -1, NATS_EV_STOP = 1, NATS_EV_NOT_DELIVERED = 2 };

/* State bits of an event: the watcher is active; a run of ours can be ended; the lock is held. */
enum { NATS_EV_ACTIVE = 1, NATS_EV_CAN_STOP = 2, NATS_EV_LOCKED = 4 };

/* What an address is that of. */
enum { NATS_EV_NO_LOOP = 0, NATS_EV_IS_LOOP = 1, NATS_EV_OTHER_COPY = 2 };

/* Why a watcher cannot be started. */
enum { NATS_EV_BAD_FD = 1, NATS_EV_OTHER_LOOP = 2, NATS_EV_LOOP_GONE = 3 };

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
/* Begins with libev's own watcher: libev's macros for any watcher accept a pointer to it. */
typedef struct nats_ev_watcher nats_ev_watcher;

/* ---- implemented in py_watcher.c ---- */

/* Call the callback of a watcher's Python object, with or without the lock. Return 0, NATS_EV_STOP or
   NATS_EV_NOT_DELIVERED. */
int nats_ev_on_event(void *object, int revents, int state);

/*
 * Append the base of pyev's watchers to a list of what `_glue` provides: caught, interrupted, take_interrupt and
 * the dict of `_interrupts`. Return 0, or -1 when there is no memory.
 */
int nats_ev_watcher_type(void *list);

/* ---- implemented in Python (nats_ev/pyev/_glue.py); none may raise ---- */

int nats_ev_on_wakeup(void);
int nats_ev_on_invoke(uintptr_t key);
double nats_ev_on_reschedule(uintptr_t key, double now);
int nats_ev_on_gone(uintptr_t key);

/* ---- loops ---- */

/* Sleep without the interpreter lock; a signal may end the sleep early. */
void nats_ev_sleep(double seconds);

/* Return a loop with one reference, or NULL when no backend that the flags allow works. */
NATS_MUST_CHECK nats_ev_loop *nats_ev_loop_new(unsigned int flags, int is_default);

/* Say what is at an address that can be read: a loop of this libev, one of another copy of libev
   that the process has loaded or linked statically, or neither, as far as can be seen. */
int nats_ev_is_loop(uintptr_t address);

/*
 * Return a loop around a struct ev_loop that the host owns, or NULL when out of memory. libev's
 * loop must outlive the result and all its watchers.
 */
NATS_MUST_CHECK nats_ev_loop *nats_ev_loop_borrow(uintptr_t address);

/*
 * Learn when the owner of a loop that is borrowed, or is the default one, destroys it: all watchers
 * are stopped then and cannot be started again, nats_ev_loop_get returns a loop that nobody runs,
 * and Python's nats_ev_on_gone(key) is called if there is a Python.
 */
void nats_ev_loop_watch_owner(nats_ev_loop *loop, uintptr_t key);

/* Return whether the owner has destroyed the loop. */
int nats_ev_loop_is_gone(nats_ev_loop *loop);

/* Return the thread in which a host runs the loop, as far as an event has shown it, else 0. */
unsigned long nats_ev_loop_foreign_thread(nats_ev_loop *loop);

/* Return whether this is libev's default loop. */
int nats_ev_loop_is_default(nats_ev_loop *loop);

/* Return the address of libev's own loop as a number. */
uintptr_t nats_ev_loop_address(nats_ev_loop *loop);

/*
 * Drop the owner's reference. The loop is destroyed with its last watcher. When libev is inside the
 * loop at that moment, the loop is destroyed after the run has left it. The default loop is never
 * destroyed, because others may use it, and a borrowed one by its owner only.
 */
void nats_ev_loop_free(nats_ev_loop *loop);

/* Return libev's own loop, for libev's functions. Valid as long as the loop. */
struct ev_loop *nats_ev_loop_get(nats_ev_loop *loop);

/* Return whether another binding has put its user data on this loop, the default or a borrowed one. */
int nats_ev_loop_is_claimed(nats_ev_loop *loop);

/*
 * Run the loop. While it may block, the loop also watches wake_fd (-1 for none), which becomes
 * readable when the interpreter has caught a signal. Return NATS_EV_ABORTED, or whether watchers
 * remain that keep the loop alive.
 */
NATS_MUST_CHECK int nats_ev_loop_run(nats_ev_loop *loop, int flags, int wake_fd);

/* Deliver the pending events. Return 0 or NATS_EV_ABORTED. */
NATS_MUST_CHECK int nats_ev_loop_invoke(nats_ev_loop *loop);

/* Count the user's pending events, without those of this layer's own watchers. */
unsigned int nats_ev_loop_pending(nats_ev_loop *loop);

/* Let Python's nats_ev_on_invoke(key) deliver pending events; key 0 gives the delivery back to
   libev. Must not be called for the default loop. */
void nats_ev_loop_set_hook(nats_ev_loop *loop, uintptr_t key);

/* ---- watchers ---- */

/* Return an inactive watcher, which holds a reference to its loop, or NULL when out of memory. */
NATS_MUST_CHECK nats_ev_watcher *nats_ev_watcher_new(nats_ev_loop *loop, int type, uintptr_t key);
void nats_ev_watcher_free(nats_ev_watcher *watcher);

/* Set the Python object that gets the events; NULL for none. */
void nats_ev_watcher_own(nats_ev_watcher *watcher, void *object);

/* Return 0 (also when the watcher is active already), NATS_EV_BAD_FD, NATS_EV_OTHER_LOOP or
   NATS_EV_LOOP_GONE. */
NATS_MUST_CHECK int nats_ev_start(nats_ev_watcher *watcher);

/* Stop the watcher: it is then neither active nor pending, nor set aside by an aborted run. */
void nats_ev_stop(nats_ev_watcher *watcher);

/* Restart a timer or a periodic. */
void nats_ev_again(nats_ev_watcher *watcher);
void nats_ev_feed(nats_ev_watcher *watcher, int revents);
int nats_ev_is_pending(const nats_ev_watcher *watcher);

/* Call the callback now. Return 0 or NATS_EV_ABORTED. */
NATS_MUST_CHECK int nats_ev_invoke(nats_ev_watcher *watcher, int revents);

/* Reconfigure an inactive watcher of the type in the name. */
void nats_ev_set_io(nats_ev_watcher *watcher, int fd, int events);
void nats_ev_set_signal(nats_ev_watcher *watcher, int signum);
void nats_ev_set_child(nats_ev_watcher *watcher, int pid, int trace);
void nats_ev_set_embed(nats_ev_watcher *watcher, nats_ev_loop *other);

/* Set after and repeat of a timer, offset and interval of a periodic. A scheduler ignores both. */
void nats_ev_set_times(nats_ev_watcher *watcher, double first, double interval);

/* Run the embedded loop once without blocking. Return 0 or NATS_EV_ABORTED. */
NATS_MUST_CHECK int nats_ev_embed_sweep(nats_ev_watcher *watcher);

/* May be called from any thread. */
void nats_ev_async_send(nats_ev_watcher *watcher);
int nats_ev_async_sent(nats_ev_watcher *watcher);

/* ---- signals ---- */

/*
 * Remember the process's action for a signal, and bring it back. Between the two calls Python may
 * change its own handler: signal.signal() also replaces the process's action, which belongs to the
 * signal's watchers.
 */
void nats_ev_keep_action(int signum);
void nats_ev_restore_action(int signum);

#endif
