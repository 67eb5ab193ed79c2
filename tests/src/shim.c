/*
 * Stands between the program and libc (LD_PRELOAD), and fails what it is told to fail.
 *
 * $SHIM_DIR holds one file for each fault, named after the call; its text is the errno that the
 * call fails with from then on. Only files below $SHIM_FILES are concerned. The file `clock` holds
 * seconds that are added to the wall clock. The file `loaded` is made when the shim is in place.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static const char *dir, *files;

/* Says what the file of that name holds, or nothing. It must not call what it stands before. */
static int text(const char *name, char *out, size_t size) {
    char path[PATH_MAX];
    if (!dir || snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return 0;
    int saved = errno;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : syscall(SYS_read, fd, out, size - 1);
    if (fd >= 0) syscall(SYS_close, fd);
    errno = saved;
    if (count <= 0) return 0;
    out[count] = 0;
    return 1;
}

static int below(const char *path) {
    return files && strncmp(path, files, strlen(files)) == 0;
}

static int fault(const char *name, int fd) {
    char number[32], link[64], path[PATH_MAX];
    if (!text(name, number, sizeof number)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path) ? atoi(number) : 0;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define FAIL(name, fd) \
    do { int number = fault(name, fd); if (number) { errno = number; return -1; } } while (0)

__attribute__((constructor)) static void start(void) {
    char path[PATH_MAX];
    dir = getenv("SHIM_DIR");
    files = getenv("SHIM_FILES");
    if (!dir) return;
    snprintf(path, sizeof path, "%s/loaded", dir);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) syscall(SYS_close, fd);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    FAIL("pwrite", fd);
    return real(fd, data, size, at);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    FAIL("fdatasync", fd);
    return real(fd);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    FAIL("fsync", fd);
    return real(fd);
}

/* Fails to make files, not to open those that are there. */
int open64(const char *path, int flags, ...) {
    REAL(int, "open64", const char *, int, ...);
    char number[32];
    unsigned mode = 0;
    if (flags & O_CREAT) {
        __builtin_va_list rest;
        __builtin_va_start(rest, flags);
        mode = __builtin_va_arg(rest, unsigned);
        __builtin_va_end(rest);
        if (below(path) && text("open", number, sizeof number) &&
            syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0) {
            errno = atoi(number);
            return -1;
        }
    }
    return real(path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    char seconds[32];
    int failed = real(clock, time);
    if (!failed && clock == CLOCK_REALTIME && text("clock", seconds, sizeof seconds))
        time->tv_sec += atoll(seconds);
    return failed;
}
