/* What does the process ask for? A system call becomes an operation on a path. */

#include "intercept.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int read_memory(pid_t thread, uint64_t address, void *into, size_t length) {
    struct iovec here = {into, length}, there = {(void *)(uintptr_t)address, length};
    return process_vm_readv(thread, &here, 1, &there, 1, 0) == (ssize_t)length;
}

/* A path argument. Memory is read up to the ends of pages, for what lies behind may not be there. */
static int read_string(pid_t thread, uint64_t address, char *into, size_t size) {
    size_t done = 0;
    while (done < size) {
        size_t piece = 4096 - (address + done) % 4096;
        if (piece > size - done)
            piece = size - done;
        if (!read_memory(thread, address + done, into + done, piece))
            return 0;
        if (memchr(into + done, 0, piece))
            return 1;
        done += piece;
    }
    return 0;
}

static int link_of(pid_t thread, const char *name, int file, char *into, size_t size) {
    char link[64];
    if (file == -1)
        snprintf(link, sizeof link, "/proc/%d/%s", thread, name);
    else
        snprintf(link, sizeof link, "/proc/%d/fd/%d", thread, file);
    ssize_t length = readlink(link, into, size - 1);
    if (length < 0)
        return 0;
    into[length] = 0;
    return 1;
}

int path_at(struct request *request, int directory, uint64_t address) {
    char given[PATH_BYTES], base[PATH_BYTES];
    if (!read_string(request->thread, address, given, sizeof given))
        return 0;
    if (given[0] == '/') {
        memcpy(request->path, given, sizeof given);
        return 1;
    }
    int known = directory == AT_FDCWD ? link_of(request->thread, "cwd", -1, base, sizeof base)
                                      : link_of(request->thread, "", directory, base, sizeof base);
    return known && snprintf(request->path, PATH_BYTES, "%s/%s", base, given) < PATH_BYTES;
}

/* Finds out what is asked for. False if it is none of our business. */
int understand(struct request *request, const struct seccomp_notif *notice) {
    const uint64_t *arguments = (const uint64_t *)notice->data.args;
    request->id = notice->id;
    request->thread = (pid_t)notice->pid;
    request->number = notice->data.nr;
    request->file = -1;
    int known;
    switch (request->number) {
#ifdef __NR_open
    case __NR_open:
        request->operation = arguments[1] & O_CREAT ? CREATE : OPEN;
        known = path_at(request, AT_FDCWD, arguments[0]);
        break;
    case __NR_rename:
        request->operation = RENAME;
        known = path_at(request, AT_FDCWD, arguments[0]);
        break;
    case __NR_unlink:
        request->operation = UNLINK;
        known = path_at(request, AT_FDCWD, arguments[0]);
        break;
    case __NR_mkdir:
        request->operation = MAKE_DIRECTORY;
        known = path_at(request, AT_FDCWD, arguments[0]);
        break;
#endif
    case __NR_openat:
        request->operation = arguments[2] & O_CREAT ? CREATE : OPEN;
        known = path_at(request, (int)arguments[0], arguments[1]);
        break;
#ifdef __NR_renameat
    case __NR_renameat:
#endif
    case __NR_renameat2:
        request->operation = RENAME;
        known = path_at(request, (int)arguments[0], arguments[1]);
        break;
    case __NR_unlinkat:
        request->operation = UNLINK;
        known = path_at(request, (int)arguments[0], arguments[1]);
        break;
    case __NR_mkdirat:
        request->operation = MAKE_DIRECTORY;
        known = path_at(request, (int)arguments[0], arguments[1]);
        break;
    default:
        request->file = (int)arguments[0];
        known = link_of(request->thread, "", request->file, request->path, PATH_BYTES);
        switch (request->number) {
        case __NR_pwritev2: request->operation = arguments[5] & RWF_DSYNC ? DURABLE_WRITE : WRITE; break;
        case __NR_fsync:
        case __NR_fdatasync: request->operation = SYNC; break;
        case __NR_sync_file_range: request->operation = SYNC_RANGE; break;
        case __NR_ftruncate: request->operation = TRUNCATE; break;
        case __NR_fallocate: request->operation = ALLOCATE; break;
        case __NR_read:
        case __NR_pread64:
        case __NR_readv:
        case __NR_preadv:
        case __NR_preadv2: request->operation = READ; break;
        default: request->operation = WRITE;
        }
    }
    size_t length = strlen(control->prefix);
    if (!known || strncmp(request->path, control->prefix, length))
        return 0;
    if (request->operation == SYNC) {
        struct stat stat_;
        if (!stat(request->path, &stat_) && S_ISDIR(stat_.st_mode))
            request->operation = SYNC_DIRECTORY;
    }
    return 1;
}
