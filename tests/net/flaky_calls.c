/*
 * flaky_calls: a library to preload, which makes send() or recv() fail, or do less than it was asked for, on
 * the non-blocking internet sockets of a process. `test_syscalls.py` compiles it.
 *
 * FLAKY_CALL   send or recv
 * FLAKY_ERRNO  what the call fails with; 0: it does less
 * FLAKY_MOST   the most bytes that a call does then
 * FLAKY_ONCE   set: when this file exists the next call shuts the socket down, removes the file and fails;
 *              not set: seven calls of ten are flaky
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned seed = 1;

static int is_clients(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &len) == 0 && address.ss_family == AF_INET &&
           (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

/* Return -1 when the call is to fail, with errno set, or how many bytes it may do. */
static ssize_t allowed(const char *call, int fd, size_t n)
{
    const char *name = getenv("FLAKY_CALL"), *once = getenv("FLAKY_ONCE");
    int code = atoi(getenv("FLAKY_ERRNO"));
    size_t most = (size_t)atoi(getenv("FLAKY_MOST"));
    if (name == NULL || strcmp(name, call) != 0 || !is_clients(fd))
        return (ssize_t)n;
    if (once != NULL) {
        if (access(once, F_OK) != 0)
            return (ssize_t)n;
        unlink(once);
        shutdown(fd, SHUT_RDWR);
    } else {
        seed = seed * 1103515245 + 12345;
        if ((seed >> 16) % 10 < 3)
            return (ssize_t)n;
    }
    errno = code;
    return code != 0 ? -1 : (ssize_t)(n < most ? n : most);
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
    static ssize_t (*real)(int, const void *, size_t, int);
    ssize_t most = allowed("send", fd, n);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "send");
    return most < 0 ? -1 : real(fd, data, (size_t)most, flags);
}

ssize_t recv(int fd, void *data, size_t n, int flags)
{
    static ssize_t (*real)(int, void *, size_t, int);
    ssize_t most = allowed("recv", fd, n);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "recv");
    return most < 0 ? -1 : real(fd, data, (size_t)most, flags);
}
