/* A disk that fails: preload this library (LD_PRELOAD), and the k-th disk operation below a folder goes wrong.

   Counted are the calls that change something below the folder: open or create for writing, write, truncate, fsync,
   chmod, rename, mkdir, link, symlink. Removals (unlink, rmdir) are counted where the fault can hit them: on a read-only
   disk and when the process is killed. Reading is never counted. On a full disk a file may still be made shorter.

   Environment: FAIL_UNDER the folder (absolute, without symbolic links), FAIL_AT k from 1 (0 only counts), FAIL_HOW one of

       full, io, read-only              ENOSPC, EIO, EROFS from the k-th operation on
       full-once, io-once               the k-th operation alone
       half                             the k-th operation, if it writes, takes half of its bytes; then the disk is full
       kill-before, kill-half, kill-after   SIGKILL before, in the middle of (a write) or after the k-th operation

   FAIL_COUNTER is a file of 16 bytes in which the processes of a family count together. A process that tries many
   faults calls failing_disk_arm and failing_disk_disarm instead; forked children count together with it.

   A flush that does not fail takes no time: nothing is flushed. What a C program writes through fwrite is not seen, only its fopen: glibc's own calls do not pass through here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum verdict { PASS, FAIL, HALF, DIE };
struct counter { long count, fired; };

static struct counter alone, *shared = &alone;
static char under[PATH_MAX], how[32];
static long at;

#define REAL(name) \
    ({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

static int is(const char *kind) { return strncmp(how, kind, strlen(kind)) == 0; }
static int counts_removals(void) { return is("read-only") || is("kill"); }

/* Control */

void failing_disk_arm(const char *folder, long number, const char *kind) {
    shared->count = shared->fired = 0;
    at = number;
    snprintf(how, sizeof how, "%s", kind);
    snprintf(under, sizeof under, "%s", folder);
}
void failing_disk_disarm(void) { under[0] = 0; }
long failing_disk_count(void) { return shared->count; }
long failing_disk_fired(void) { return shared->fired; }

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAIL_COUNTER"), *folder = getenv("FAIL_UNDER");
    int fd = file ? REAL(open)(file, O_RDWR) : -1;
    int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (fd >= 0) close(fd);
    if (memory != MAP_FAILED) shared = memory;
    if (!folder) return;
    at = atol(getenv("FAIL_AT") ?: "0");
    snprintf(how, sizeof how, "%s", getenv("FAIL_HOW") ?: "");
    snprintf(under, sizeof under, "%s", folder);
}

/* Which operations matter */

static int below(const char *path) {
    size_t length = strlen(under);
    return strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int fd_matters(int fd) {
    char link[64], path[PATH_MAX];
    int kept = errno;
    if (!under[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

static int path_matters(int folder, const char *path) {
    char full[2 * PATH_MAX], parent[PATH_MAX], joined[3 * PATH_MAX], link[64], *name;
    int kept = errno;
    ssize_t size = 0;
    if (!under[0] || !path) return 0;
    if (path[0] != '/') {
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        size = readlink(link, full, PATH_MAX - 1);
        if (size < 0) size = 0;
        full[size++] = '/';
    }
    snprintf(full + size, sizeof full - size, "%s", path);
    name = strrchr(full, '/');
    *name++ = 0;
    int known = realpath(full[0] ? full : "/", parent) != NULL;
    snprintf(joined, sizeof joined, "%s/%s", known ? parent : full, name);
    errno = kept;
    return below(joined);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static enum verdict judge(int matters) {
    if (!matters) return PASS;
    long number = __sync_add_and_fetch(&shared->count, 1);
    if (at < 1 || number < at || (number > at && (strstr(how, "-once") || is("kill")))) return PASS;
    shared->fired = 1;
    if (is("kill-after")) return DIE;
    if ((is("half") || is("kill-half")) && number == at) return HALF;
    if (is("kill")) die();
    errno = is("io") ? EIO : is("read-only") ? EROFS : ENOSPC;
    return FAIL;
}

/* An operation that happens or does not. */
#define WHOLE(matters, failure, call)                     \
    enum verdict verdict = judge(matters);                \
    if (verdict == HALF && is("kill")) die();             \
    if (verdict == HALF) errno = ENOSPC;                  \
    if (verdict == HALF || verdict == FAIL) return failure; \
    __typeof__(call) result = call;                       \
    if (verdict == DIE) die();                            \
    return result

/* An operation that can happen by half: `call` takes `size` bytes. */
#define BY_HALF(fd, call)                                 \
    enum verdict verdict = judge(fd_matters(fd));         \
    if (verdict == FAIL) return -1;                       \
    if (verdict == HALF && (size /= 2) == 0) {            \
        if (is("kill")) die();                            \
        errno = ENOSPC;                                   \
        return -1;                                        \
    }                                                     \
    ssize_t result = call;                                \
    if (verdict == DIE || (verdict == HALF && is("kill"))) die(); \
    return result

/* Opening */

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

#define MODE(flags)                                       \
    mode_t mode = 0;                                      \
    if (flags & (O_CREAT | __O_TMPFILE)) {                \
        va_list rest;                                     \
        va_start(rest, flags);                            \
        mode = va_arg(rest, mode_t);                      \
        va_end(rest);                                     \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(writes(flags) && path_matters(AT_FDCWD, path), -1, REAL(open)(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(writes(flags) && path_matters(AT_FDCWD, path), -1, REAL(open64)(path, flags, mode));
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(writes(flags) && path_matters(folder, path), -1, REAL(openat)(folder, path, flags, mode));
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    WHOLE(writes(flags) && path_matters(folder, path), -1, REAL(openat64)(folder, path, flags, mode));
}
int creat(const char *path, mode_t mode) { WHOLE(path_matters(AT_FDCWD, path), -1, REAL(creat)(path, mode)); }
int creat64(const char *path, mode_t mode) { WHOLE(path_matters(AT_FDCWD, path), -1, REAL(creat64)(path, mode)); }
FILE *fopen(const char *path, const char *mode) {
    WHOLE(strpbrk(mode, "wa+") && path_matters(AT_FDCWD, path), NULL, REAL(fopen)(path, mode));
}
FILE *fopen64(const char *path, const char *mode) {
    WHOLE(strpbrk(mode, "wa+") && path_matters(AT_FDCWD, path), NULL, REAL(fopen64)(path, mode));
}

/* Writing */

ssize_t write(int fd, const void *data, size_t size) { BY_HALF(fd, REAL(write)(fd, data, size)); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    BY_HALF(fd, REAL(pwrite)(fd, data, size, offset));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    BY_HALF(fd, REAL(pwrite64)(fd, data, size, offset));
}
ssize_t sendfile(int fd, int from, off_t *offset, size_t size) { BY_HALF(fd, REAL(sendfile)(fd, from, offset, size)); }
ssize_t sendfile64(int fd, int from, off64_t *offset, size_t size) {
    BY_HALF(fd, REAL(sendfile64)(fd, from, offset, size));
}
ssize_t copy_file_range(int from, off64_t *start, int fd, off64_t *end, size_t size, unsigned flags) {
    BY_HALF(fd, REAL(copy_file_range)(from, start, fd, end, size, flags));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    WHOLE(fd_matters(fd), -1, REAL(writev)(fd, parts, count));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    WHOLE(fd_matters(fd), -1, REAL(pwritev)(fd, parts, count, offset));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    WHOLE(fd_matters(fd), -1, REAL(pwritev64)(fd, parts, count, offset));
}

/* Sizes and flushes */

static int size_matters(int fd, off_t size) {
    struct stat found;
    if (!fd_matters(fd)) return 0;
    return !(is("full") || is("half")) || fstat(fd, &found) < 0 || size > found.st_size;
}

int ftruncate(int fd, off_t size) { WHOLE(size_matters(fd, size), -1, REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { WHOLE(size_matters(fd, size), -1, REAL(ftruncate64)(fd, size)); }
int truncate(const char *path, off_t size) { WHOLE(path_matters(AT_FDCWD, path), -1, REAL(truncate)(path, size)); }
int truncate64(const char *path, off64_t size) {
    WHOLE(path_matters(AT_FDCWD, path), -1, REAL(truncate64)(path, size));
}
int posix_fallocate(int fd, off_t start, off_t size) {
    WHOLE(fd_matters(fd), errno, REAL(posix_fallocate)(fd, start, size));
}
int posix_fallocate64(int fd, off64_t start, off64_t size) {
    WHOLE(fd_matters(fd), errno, REAL(posix_fallocate64)(fd, start, size));
}
int fsync(int fd) { WHOLE(fd_matters(fd), -1, fd_matters(fd) ? 0 : REAL(fsync)(fd)); }
int fdatasync(int fd) { WHOLE(fd_matters(fd), -1, fd_matters(fd) ? 0 : REAL(fdatasync)(fd)); }
int chmod(const char *path, mode_t mode) { WHOLE(path_matters(AT_FDCWD, path), -1, REAL(chmod)(path, mode)); }
int fchmod(int fd, mode_t mode) { WHOLE(fd_matters(fd), -1, REAL(fchmod)(fd, mode)); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    WHOLE(path_matters(folder, path), -1, REAL(fchmodat)(folder, path, mode, flags));
}

/* Names */

int rename(const char *from, const char *to) { WHOLE(path_matters(AT_FDCWD, to), -1, REAL(rename)(from, to)); }
int renameat(int folder, const char *from, int other, const char *to) {
    WHOLE(path_matters(other, to), -1, REAL(renameat)(folder, from, other, to));
}
int renameat2(int folder, const char *from, int other, const char *to, unsigned flags) {
    WHOLE(path_matters(other, to), -1, REAL(renameat2)(folder, from, other, to, flags));
}
int mkdir(const char *path, mode_t mode) { WHOLE(path_matters(AT_FDCWD, path), -1, REAL(mkdir)(path, mode)); }
int mkdirat(int folder, const char *path, mode_t mode) {
    WHOLE(path_matters(folder, path), -1, REAL(mkdirat)(folder, path, mode));
}
int link(const char *from, const char *to) { WHOLE(path_matters(AT_FDCWD, to), -1, REAL(link)(from, to)); }
int linkat(int folder, const char *from, int other, const char *to, int flags) {
    WHOLE(path_matters(other, to), -1, REAL(linkat)(folder, from, other, to, flags));
}
int symlink(const char *target, const char *path) {
    WHOLE(path_matters(AT_FDCWD, path), -1, REAL(symlink)(target, path));
}
int symlinkat(const char *target, int folder, const char *path) {
    WHOLE(path_matters(folder, path), -1, REAL(symlinkat)(target, folder, path));
}
int unlink(const char *path) { WHOLE(counts_removals() && path_matters(AT_FDCWD, path), -1, REAL(unlink)(path)); }
int unlinkat(int folder, const char *path, int flags) {
    WHOLE(counts_removals() && path_matters(folder, path), -1, REAL(unlinkat)(folder, path, flags));
}
int rmdir(const char *path) { WHOLE(counts_removals() && path_matters(AT_FDCWD, path), -1, REAL(rmdir)(path)); }
