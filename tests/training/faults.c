/* Lets the n-th write, fsync or rename under a folder fail, or kills the process in the middle of it.
   Preloaded by fault_driver.py: cc -shared -fPIC -O1 -o faults.so faults.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long countdown = 0, seen = 0;
static int kills = 0;

void faults_arm(const char *under, long number, int kill_instead) {
    snprintf(folder, sizeof folder, "%s", under);
    countdown = number; kills = kill_instead; seen = 0;
}

long faults_seen(void) { return seen; }

/* Whether this call is the one: it counts the calls under the folder. */
static int due(const char *path) {
    if (!folder[0] || strncmp(path, folder, strlen(folder))) return 0;
    seen++;
    return countdown > 0 && --countdown == 0;
}

static int due_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return due(path);
}

static int fail(void) {
    if (kills) raise(SIGKILL);
    errno = ENOSPC;
    return -1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Half of the bytes reach the file before the fault. */
ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    if (due_fd(fd)) { if (count > 1) real(fd, bytes, count / 2); return fail(); }
    return real(fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(pwrite64);
    if (due_fd(fd)) { if (count > 1) real(fd, bytes, count / 2, at); return fail(); }
    return real(fd, bytes, count, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (due_fd(fd)) { if (count > 1) real(fd, parts, count / 2); return fail(); }
    return real(fd, parts, count);
}

int ftruncate64(int fd, off64_t length) { REAL(ftruncate64); return due_fd(fd) ? fail() : real(fd, length); }
int fsync(int fd) { REAL(fsync); return due_fd(fd) ? fail() : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return due_fd(fd) ? fail() : real(fd); }
int rename(const char *from, const char *to) { REAL(rename); return due(to) ? fail() : real(from, to); }
