/* What a process does to the files below one folder, in the order in which it does it (LD_PRELOAD).

     RECORDER_ROOT   the folder; paths in the log are relative to it
     RECORDER_LOG    the log, appended to, so that several runs make one history

   An entry of the log is a line of text, for a write followed by its bytes:

     D PATH                   a folder was made
     C INODE PATH             a file was made                     (open with O_CREAT)
     W INODE OFFSET LENGTH    LENGTH bytes follow the line
     T INODE SIZE             the size was set                    (truncate, fallocate)
     U PATH                   a name was removed
     R PATH|PATH              a name was changed
     S INODE                  what was written to the file is on the disk
     F PATH                   the names in the folder are on the disk
     M TEXT                   the process itself said so          (recorder_mark)

   One lock around each call and its entry: the order of the log is the order of the calls, and a mark stands
   behind everything that was done before it. A sync's entry is written when it has come back.

   SQLite's -shm is not recorded: it is mapped, never synced, and made anew by whoever opens the database
   first. What this file does not know of (fopen, sendfile, a mapped database) is not missed silently: whoever
   reads the log compares the files that it builds with those that are there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 256

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static int log_fd = -1;
static struct { dev_t dev; ino_t ino; } known[FILES];
static int known_count;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_open)(const char *, int, ...);

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void die(const char *what)
{
    fprintf(stderr, "recorder: %s: %s\n", what, strerror(errno));
    _exit(99);
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("RECORDER_ROOT"), *log = getenv("RECORDER_LOG");
    real_write = NEXT(write);
    real_pwrite = NEXT(pwrite);
    real_open = NEXT(open);
    if (!folder || !log)
        return;
    snprintf(root, sizeof root, "%s/", folder);
    log_fd = real_open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0)
        die(log);
}

static void put(const void *data, size_t length)
{
    const char *next = data;
    while (length) {
        ssize_t written = real_write(log_fd, next, length);
        if (written < 0)
            die("log");
        next += written;
        length -= written;
    }
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[2 * PATH_MAX + 64];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line - 1, format, values);
    va_end(values);
    line[length++] = '\n';
    put(line, length);
}

/* The path relative to the root; NULL when it is none of ours. */
static const char *ours(const char *path)
{
    size_t length = strlen(root);
    if (log_fd < 0 || strncmp(path, root, length))
        return NULL;
    size_t end = strlen(path);
    if (end > 4 && !strcmp(path + end - 4, "-shm"))
        return NULL;
    return path + length;
}

static int is_known(int fd, ino_t *inode)
{
    struct stat status;
    if (log_fd < 0 || fstat(fd, &status))
        return 0;
    *inode = status.st_ino;
    for (int i = 0; i < known_count; i++)
        if (known[i].ino == status.st_ino && known[i].dev == status.st_dev)
            return 1;
    return 0;
}

static void learn(int fd, int is_new, const char *path)
{
    struct stat status;
    ino_t inode;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode))
        return;
    if (!is_known(fd, &inode)) {
        if (known_count == FILES)
            die("more files than expected");
        known[known_count].dev = status.st_dev;
        known[known_count++].ino = status.st_ino;
    }
    if (is_new)
        say("C %lu %s", (unsigned long)status.st_ino, path);
}

static int opened(const char *path, int flags, mode_t mode)
{
    const char *name = ours(path);
    if (!name)
        return real_open(path, flags, mode);
    struct stat status;
    pthread_mutex_lock(&lock);
    int is_new = (flags & O_CREAT) && stat(path, &status);
    off_t size = is_new || stat(path, &status) ? 0 : status.st_size;
    int fd = real_open(path, flags, mode);
    int error = errno;
    if (fd >= 0) {
        learn(fd, is_new, name);
        if ((flags & O_TRUNC) && size)
            say("T %lu 0", (unsigned long)status.st_ino);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & O_CREAT) { va_list values; va_start(values, flags); mode = va_arg(values, mode_t); va_end(values); }

int open(const char *path, int flags, ...) { MODE(flags) return opened(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(path, flags, mode); }
int __open_2(const char *path, int flags) { return opened(path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static int opened_at(int folder, const char *path, int flags, mode_t mode)
{
    if (folder == AT_FDCWD || path[0] == '/')
        return opened(path, flags, mode);
    return NEXT(openat)(folder, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) { MODE(flags) return opened_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return opened_at(folder, path, flags, mode); }

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset)
{
    ino_t inode;
    if (!is_known(fd, &inode))
        return real_pwrite(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t written = real_pwrite(fd, data, length, offset);
    int error = errno;
    if (written > 0) {
        say("W %lu %ld %ld", (unsigned long)inode, (long)offset, (long)written);
        put(data, written);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length)
{
    ino_t inode;
    if (!real_write)
        real_write = NEXT(write);
    if (!is_known(fd, &inode))
        return real_write(fd, data, length);
    pthread_mutex_lock(&lock);
    ssize_t written = real_write(fd, data, length);
    int error = errno;
    if (written > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);  /* right with O_APPEND, too */
        say("W %lu %ld %ld", (unsigned long)inode, (long)(end - written), (long)written);
        put(data, written);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

/* In pieces: a short write is an answer that the caller must expect anyway. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ino_t inode;
    if (!is_known(fd, &inode))
        return NEXT(writev)(fd, parts, count);
    return count ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    ino_t inode;
    if (!is_known(fd, &inode))
        return NEXT(pwritev)(fd, parts, count, offset);
    return count ? pwrite64(fd, parts[0].iov_base, parts[0].iov_len, offset) : 0;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }

static int sized(int fd, ino_t inode, int status)
{
    int error = errno;
    struct stat now;
    if (!status && !fstat(fd, &now))
        say("T %lu %ld", (unsigned long)inode, (long)now.st_size);
    pthread_mutex_unlock(&lock);
    errno = error;
    return status;
}

#define SIZING(name, parameters, arguments) \
    int name parameters \
    { \
        ino_t inode; \
        if (!is_known(fd, &inode)) \
            return NEXT(name) arguments; \
        pthread_mutex_lock(&lock); \
        return sized(fd, inode, NEXT(name) arguments); \
    }

SIZING(ftruncate, (int fd, off_t size), (fd, size))
SIZING(ftruncate64, (int fd, off_t size), (fd, size))
SIZING(fallocate, (int fd, int how, off_t offset, off_t size), (fd, how, offset, size))
SIZING(fallocate64, (int fd, int how, off_t offset, off_t size), (fd, how, offset, size))
SIZING(posix_fallocate, (int fd, off_t offset, off_t size), (fd, offset, size))
SIZING(posix_fallocate64, (int fd, off_t offset, off_t size), (fd, offset, size))

static void synced(int fd)
{
    struct stat status;
    char link[64], path[PATH_MAX];
    if (log_fd < 0 || fstat(fd, &status))
        return;
    ino_t inode;
    if (is_known(fd, &inode)) {
        say("S %lu", (unsigned long)inode);
    } else if (S_ISDIR(status.st_mode)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 2);
        if (length < 0)
            die("readlink");
        strcpy(path + length, "/");  /* the root itself is recorded as an empty path */
        const char *name = ours(path);
        if (name)
            say("F %s", name);
    }
}

#define SYNC(name) \
    int name(int fd) \
    { \
        pthread_mutex_lock(&lock); \
        int status = NEXT(name)(fd), error = errno; \
        if (!status) \
            synced(fd); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return status; \
    }

SYNC(fsync)
SYNC(fdatasync)

#define NAMING(name, parameters, arguments, path, letter) \
    int name parameters \
    { \
        const char *own = ours(path); \
        if (!own) \
            return NEXT(name) arguments; \
        pthread_mutex_lock(&lock); \
        int status = NEXT(name) arguments, error = errno; \
        if (!status) \
            say(letter " %s", own); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return status; \
    }

NAMING(mkdir, (const char *path, mode_t mode), (path, mode), path, "D")
NAMING(unlink, (const char *path), (path), path, "U")
NAMING(unlinkat, (int folder, const char *path, int flags), (folder, path, flags), path, "U")

int rename(const char *from, const char *to)
{
    const char *old = ours(from), *new = ours(to);
    if (!old || !new)
        return NEXT(rename)(from, to);
    pthread_mutex_lock(&lock);
    int status = NEXT(rename)(from, to), error = errno;
    if (!status)
        say("R %s|%s", old, new);
    pthread_mutex_unlock(&lock);
    errno = error;
    return status;
}

void recorder_mark(const char *text)
{
    if (log_fd < 0)
        return;
    pthread_mutex_lock(&lock);
    put("M ", 2);
    put(text, strlen(text));
    put("\n", 1);
    pthread_mutex_unlock(&lock);
}
