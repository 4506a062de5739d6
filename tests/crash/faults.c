/* Faults of a disk on demand, for the files below one folder (LD_PRELOAD).

     FAULTS_ROOT      the folder
     FAULTS_CONTROL   a file of 4096 bytes, mapped; the test writes what is to happen into it, as text:

       "1 KIND SUFFIX ERRNO SKIP COUNT DELAY_MS DROP"     anything but a 1 in front: nothing happens

     KIND      open, read, write, sync, size (truncate, allocate), unlink
     SUFFIX    how the path of the file ends; "*" for any
     ERRNO     what the call fails with; 0: it does not fail, it is only late
     SKIP      so many calls go well first, counted from the moment the text changes
     COUNT     so many calls fail
     DELAY_MS  before each of these calls
     DROP      1: with a sync that fails, everything that was written to the file since the last one that did
               not is undone. That is what Linux does: pages that could not be written are marked clean, and
               when memory is needed they go, and what was on the disk before comes back. */

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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct undo { struct undo *next; dev_t dev; ino_t ino; off_t offset, size; size_t length; char old[]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *control;
static char root[PATH_MAX], seen[4096];
static long calls;
static struct undo *undos;
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("FAULTS_ROOT"), *path = getenv("FAULTS_CONTROL");
    real_pwrite = NEXT(pwrite);
    real_pread = NEXT(pread);
    real_write = NEXT(write);
    real_open = NEXT(open);
    if (!folder || !path)
        return;
    snprintf(root, sizeof root, "%s/", folder);
    int fd = real_open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (control = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED) {
        perror("faults: control");
        _exit(99);
    }
    close(fd);
}

static int is_ours(const char *path) { return control && !strncmp(path, root, strlen(root)); }

static const char *path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

/* 0, or the errno that this call is to fail with. */
static int fault(const char *kind, const char *path, int *drop)
{
    char what[16], suffix[256], now[4096];
    int error, delay, dropping;
    long skip, count;
    if (!control || control[0] != '1' || !is_ours(path))
        return 0;
    strncpy(now, control, sizeof now - 1);
    now[sizeof now - 1] = 0;
    if (sscanf(now, "1 %15s %255s %d %ld %ld %d %d", what, suffix, &error, &skip, &count, &delay, &dropping) != 7)
        return 0;
    size_t length = strlen(path), end = strlen(suffix);
    if (strcmp(what, kind) || (strcmp(suffix, "*") && (end > length || strcmp(path + length - end, suffix))))
        return 0;
    pthread_mutex_lock(&lock);
    if (strcmp(now, seen)) {
        strcpy(seen, now);
        calls = 0;
    }
    long call = calls++;
    pthread_mutex_unlock(&lock);
    if (call < skip || call >= skip + count)
        return 0;
    usleep(1000 * delay);
    if (drop)
        *drop = dropping;
    return error;
}

static int fault_at(const char *kind, int fd, int *drop)
{
    char path[PATH_MAX];
    return control ? fault(kind, path_of(fd, path), drop) : 0;
}

/* Note what stands where `length` bytes are about to be written. */
static void remember(int fd, off_t offset, size_t length)
{
    char path[PATH_MAX];
    struct stat status;
    if (!control || !is_ours(path_of(fd, path)) || strstr(path, "-shm") || fstat(fd, &status))
        return;
    struct undo *undo = calloc(1, sizeof *undo + length);
    *undo = (struct undo){undos, status.st_dev, status.st_ino, offset, status.st_size, 0};
    ssize_t there = real_pread(fd, undo->old, length, offset);
    undo->length = there > 0 ? there : 0;
    pthread_mutex_lock(&lock);
    undo->next = undos;
    undos = undo;
    pthread_mutex_unlock(&lock);
}

/* Forget what was noted of a file, newest first; undo it before that, where it is to be dropped. */
static void forget(int fd, int drop)
{
    struct stat status;
    if (!control || fstat(fd, &status))
        return;
    pthread_mutex_lock(&lock);
    for (struct undo **place = &undos; *place;) {
        struct undo *undo = *place;
        if (undo->ino != status.st_ino || undo->dev != status.st_dev) {
            place = &undo->next;
            continue;
        }
        if (drop) {
            if (real_pwrite(fd, undo->old, undo->length, undo->offset) < 0 || NEXT(ftruncate)(fd, undo->size)) {
                perror("faults: undo");
                _exit(99);
            }
        }
        *place = undo->next;
        free(undo);
    }
    pthread_mutex_unlock(&lock);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & O_CREAT) { va_list values; va_start(values, flags); mode = va_arg(values, mode_t); va_end(values); }

static int opened(const char *path, int flags, mode_t mode)
{
    int error = fault("open", path, NULL);
    if (error) {
        errno = error;
        return -1;
    }
    struct stat status;
    int is_new = (flags & O_CREAT) && is_ours(path) && stat(path, &status);
    int fd = real_open(path, flags, mode);
    if (fd >= 0 && is_new)
        forget(fd, 0);  /* its inode's number may have been another file's */
    return fd;
}

int open(const char *path, int flags, ...) { MODE(flags) return opened(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(path, flags, mode); }

ssize_t pread64(int fd, void *data, size_t length, off_t offset)
{
    int error = fault_at("read", fd, NULL);
    if (error) {
        errno = error;
        return -1;
    }
    return real_pread(fd, data, length, offset);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset) { return pread64(fd, data, length, offset); }

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset)
{
    int error = fault_at("write", fd, NULL);
    if (error) {
        errno = error;
        return -1;
    }
    remember(fd, offset, length);
    return real_pwrite(fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length)
{
    int error = fault_at("write", fd, NULL);
    if (error) {
        errno = error;
        return -1;
    }
    return (real_write ? real_write : NEXT(write))(fd, data, length);
}

#define SYNC(name) \
    int name(int fd) \
    { \
        int drop = 0, error = fault_at("sync", fd, &drop); \
        if (error) { \
            forget(fd, drop); \
            errno = error; \
            return -1; \
        } \
        int status = NEXT(name)(fd); \
        if (!status) \
            forget(fd, 0); \
        return status; \
    }

SYNC(fsync)
SYNC(fdatasync)

#define SIZING(name, parameters, arguments, failed) \
    int name parameters \
    { \
        int error = fault_at("size", fd, NULL); \
        if (error) { \
            errno = error; \
            return failed; \
        } \
        return NEXT(name) arguments; \
    }

SIZING(ftruncate, (int fd, off_t size), (fd, size), -1)
SIZING(ftruncate64, (int fd, off_t size), (fd, size), -1)
SIZING(fallocate, (int fd, int how, off_t offset, off_t size), (fd, how, offset, size), -1)
SIZING(fallocate64, (int fd, int how, off_t offset, off_t size), (fd, how, offset, size), -1)
SIZING(posix_fallocate, (int fd, off_t offset, off_t size), (fd, offset, size), error)
SIZING(posix_fallocate64, (int fd, off_t offset, off_t size), (fd, offset, size), error)

int unlink(const char *path)
{
    int error = fault("unlink", path, NULL);
    if (error) {
        errno = error;
        return -1;
    }
    return NEXT(unlink)(path);
}
