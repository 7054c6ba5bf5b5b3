/*
 * A host for tests: it runs a script of Python, which may use its loop, and then the loop.
 *
 *   embed SCRIPT release|poll|hold ORDER
 *
 * The script finds the loop's address in `ADDRESS`. ORDER is what happens when the script has ended,
 * a letter each: r runs the loop, f finalises Python, d destroys the loop, p calls the script's
 * function `after`, k forks and goes on in the child, whose status the parent returns.
 */
#include <Python.h>

#include <ev.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ev_loop *loop;
static PyThreadState *released;

static void release_lock(struct ev_loop *l)
{
    (void)l;
    released = PyEval_SaveThread();
}

static void acquire_lock(struct ev_loop *l)
{
    (void)l;
    PyEval_RestoreThread(released);
}

static void run(const char *mode)
{
    if (!Py_IsInitialized() || strcmp(mode, "hold") == 0) {
        ev_run(loop, 0);
    } else if (strcmp(mode, "release") == 0) {
        Py_BEGIN_ALLOW_THREADS;
        ev_run(loop, 0);
        Py_END_ALLOW_THREADS;
    } else {
        ev_set_loop_release_cb(loop, release_lock, acquire_lock);
        ev_run(loop, 0);
        ev_set_loop_release_cb(loop, NULL, NULL);
    }
}

/* The host's own: whatever the script leaves active, a run ends. */
static void on_end(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)w;
    (void)revents;
    ev_break(l, EVBREAK_ALL);
}

static int fork_and_wait(void)
{
    int status;
    pid_t pid = fork(); /* not Python's: its parent's objects stay as they are */
    if (pid == 0) {
        PyOS_AfterFork_Child();
        ev_loop_fork(loop);
        return -1;
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

int main(int argc, char **argv)
{
    ev_timer end;
    FILE *script;
    char head[64];
    int status;
    if (argc != 4 || (script = fopen(argv[1], "r")) == NULL)
        return 2;
    loop = ev_loop_new(EVFLAG_AUTO);
    Py_InitializeEx(1);
    snprintf(head, sizeof head, "ADDRESS = %llu", (unsigned long long)(uintptr_t)loop);
    if (PyRun_SimpleString(head) < 0 || PyRun_SimpleFile(script, argv[1]) < 0)
        return 1;
    fclose(script);
    ev_timer_init(&end, on_end, 5.0, 0.0);
    ev_timer_start(loop, &end);
    for (const char *step = argv[3]; *step; step++) {
        switch (*step) {
        case 'r':
            run(argv[2]);
            break;
        case 'f':
            Py_FinalizeEx();
            break;
        case 'd':
            ev_loop_destroy(loop);
            break;
        case 'p':
            if (PyRun_SimpleString("after()") < 0)
                return 1;
            break;
        case 'k':
            if ((status = fork_and_wait()) >= 0)
                return status;
        }
    }
    return 0;
}
