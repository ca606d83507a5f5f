/* How much of an operation happens before it fails, is cut short, or kills? That much is done here, for the process. */

#include "intercept.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE_BYTES_MAX = 16 << 20 };

static int open_file_of(const struct request *request, int flags) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/fd/%d", request->thread, request->file);
    /* A description of our own: without O_DIRECT any number of bytes can be written. */
    return open(link, flags | O_CLOEXEC);
}

/* The file of the process itself, with its position: for calls that move it. */
static int share_file_of(const struct request *request) {
    int process = (int)syscall(__NR_pidfd_open, process_of(request->thread), 0);
    int file = process < 0 ? -1 : (int)syscall(__NR_pidfd_getfd, process, request->file, 0);
    if (process >= 0)
        close(process);
    return file;
}

/* Writes the first bytes of what the process wants to write. Returns how many, or -1. */
static ssize_t write_part(const struct request *request, const struct seccomp_notif *notice, uint64_t bytes) {
    const uint64_t *arguments = (const uint64_t *)notice->data.args;
    struct iovec there[IOV_MAX];
    size_t slices = 1;
    if (request->number == __NR_write || request->number == __NR_pwrite64) {
        there[0] = (struct iovec){(void *)(uintptr_t)arguments[1], arguments[2]};
    } else {
        slices = arguments[2];
        if (slices > IOV_MAX || !read_memory(request->thread, arguments[1], there, slices * sizeof *there))
            return -1;
    }
    size_t total = 0;
    for (size_t i = 0; i < slices; i++) {
        if (there[i].iov_len > bytes - total)
            there[i].iov_len = bytes - total;
        total += there[i].iov_len;
    }
    if (total > WRITE_BYTES_MAX)
        return -1;
    char *content = malloc(total ? total : 1);
    struct iovec here = {content, total};
    ssize_t done = -1;
    if (content && process_vm_readv(request->thread, &here, 1, there, slices, 0) == (ssize_t)total) {
        int moves = request->number == __NR_write || request->number == __NR_writev;
        int file = moves ? share_file_of(request) : open_file_of(request, O_WRONLY);
        if (file >= 0) {
            done = moves ? write(file, content, total) : pwrite(file, content, total, (off_t)arguments[3]);
            close(file);
        }
    }
    free(content);
    return done;
}

/* Whether the process waits for an answer: one that was killed meanwhile has no memory and no files, which is nobody's fault. */
static int still_waits(uint64_t id) { return !ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id); }

/* Does the part of the operation that the rule lets happen. */
ssize_t perform(const struct request *request, const struct seccomp_notif *notice, const struct rule *rule) {
    if (!rule->bytes)
        return 0;
    ssize_t done = -1;
    switch (request->operation) {
    case WRITE:
    case DURABLE_WRITE:
        done = write_part(request, notice, rule->bytes);
        break;
    case SYNC:
    case SYNC_DIRECTORY: {
        int file = open_file_of(request, O_RDONLY);
        done = file < 0 ? -1 : fsync(file);
        if (file >= 0)
            close(file);
        break;
    }
    case RENAME: {
        /* The second path of the call, in the place that the first one leaves to it. */
        struct request other = *request;
        int at = request->number == __NR_renameat2;
#ifdef __NR_renameat
        at = at || request->number == __NR_renameat;
#endif
        const uint64_t *arguments = (const uint64_t *)notice->data.args;
        if (path_at(&other, at ? (int)arguments[2] : AT_FDCWD, arguments[at ? 3 : 1]))
            rename(request->path, other.path);
        done = 0; /* whether it succeeds is no matter of the test */
        break;
    }
    case UNLINK:
        unlink(request->path);
        done = 0;
        break;
    default:
        break;
    }
    if (done < 0 && still_waits(request->id))
        add(&control->trouble);
    return done;
}
