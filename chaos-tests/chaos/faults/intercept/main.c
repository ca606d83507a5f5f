/* Which system calls of a process fail, and how?
 *
 *     intercept CONTROL COMMAND [ARGUMENT...]
 *
 * starts COMMAND under a seccomp filter that reports its file operations to a supervisor, which lets them pass, delays them, answers
 * them with an error, does a part of them, or kills the process. A preloaded library would not do: the log is written with
 * `pwritev2` and `fallocate` of the rustix crate, which calls the kernel without libc. COMMAND keeps the process id of `intercept`, so
 * whoever started it can kill it and wait for it; the supervisor is a process of its own that ends with the last process
 * under the filter.
 *
 * CONTROL is a file of the layout in intercept.h, which intercept.py writes and reads. Its counters go on over restarts. Nothing
 * needs root.
 */

#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "intercept knows the system calls of x86_64 and aarch64 only"
#endif

struct control *control;
int listener = -1;

static void die(const char *what) {
    fprintf(stderr, "intercept: %s: %s\n", what, strerror(errno));
    exit(125);
}

static const struct { int number; uint64_t operations; } CALLS[] = {
    {__NR_write, BIT(WRITE)},
    {__NR_writev, BIT(WRITE)},
    {__NR_pwrite64, BIT(WRITE)},
    {__NR_pwritev, BIT(WRITE)},
    {__NR_pwritev2, BIT(WRITE) | BIT(DURABLE_WRITE)},
    {__NR_fsync, BIT(SYNC) | BIT(SYNC_DIRECTORY)},
    {__NR_fdatasync, BIT(SYNC) | BIT(SYNC_DIRECTORY)},
    {__NR_sync_file_range, BIT(SYNC_RANGE)},
    {__NR_openat, BIT(CREATE) | BIT(OPEN)},
    {__NR_renameat2, BIT(RENAME)},
    {__NR_unlinkat, BIT(UNLINK)},
    {__NR_ftruncate, BIT(TRUNCATE)},
    {__NR_fallocate, BIT(ALLOCATE)},
    {__NR_mkdirat, BIT(MAKE_DIRECTORY)},
    {__NR_read, BIT(READ)},
    {__NR_pread64, BIT(READ)},
    {__NR_readv, BIT(READ)},
    {__NR_preadv, BIT(READ)},
    {__NR_preadv2, BIT(READ)},
#ifdef __NR_renameat
    {__NR_renameat, BIT(RENAME)},
#endif
#ifdef __NR_open
    {__NR_open, BIT(CREATE) | BIT(OPEN)},
    {__NR_rename, BIT(RENAME)},
    {__NR_unlink, BIT(UNLINK)},
    {__NR_mkdir, BIT(MAKE_DIRECTORY)},
#endif
};
enum { CALL_COUNT = sizeof CALLS / sizeof *CALLS };

static int install_filter(void) {
    struct sock_filter code[CALL_COUNT * 2 + 16];
    size_t n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    /* What goes through a ring would pass by the filter. */
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    for (size_t i = 0; i < CALL_COUNT; i++) {
        if (!(CALLS[i].operations & control->operations))
            continue;
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)CALLS[i].number, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("no_new_privs");
    int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    int file = (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (file < 0)
        die("seccomp");
    return file;
}

static void supervise(void) {
    struct seccomp_notif_sizes sizes;
    if (syscall(__NR_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes))
        die("sizes");
    struct seccomp_notif *notice = malloc(sizes.seccomp_notif);
    if (!notice)
        die("memory");
    for (;;) {
        struct pollfd wanted = {.fd = listener, .events = POLLIN};
        int ready = poll(&wanted, 1, let_pass());
        if (ready < 0 && errno != EINTR)
            die("poll");
        if (ready <= 0)
            continue;
        if (wanted.revents & POLLIN) {
            memset(notice, 0, sizes.seccomp_notif);
            if (!ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notice))
                handle(notice);
            else if (errno != EINTR && errno != ENOENT)
                die("receive");
        } else if (wanted.revents & (POLLHUP | POLLERR)) {
            exit(0); /* nobody is left under the filter */
        }
    }
}

static void send_file(int socket, int file) {
    char byte = 0;
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } ancillary = {0};
    struct iovec content = {&byte, 1};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1, .msg_control = &ancillary, .msg_controllen = sizeof ancillary};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &file, sizeof file);
    if (sendmsg(socket, &message, 0) != 1)
        die("handing the listener over");
}

static int receive_file(int socket) {
    char byte;
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } ancillary;
    struct iovec content = {&byte, 1};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1, .msg_control = &ancillary, .msg_controllen = sizeof ancillary};
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
        return -1;
    int file;
    memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof file);
    return file;
}

static void become_supervisor(int socket) {
    listener = receive_file(socket);
    if (listener < 0)
        exit(125);
    /* Its pipes must end with the process, not with us. */
    int nothing = open("/dev/null", O_RDWR);
    for (int file = 0; file < 3; file++)
        dup2(nothing, file);
    for (int file = 3; file < 1024; file++)
        if (file != listener)
            close(file);
    setsid();
    supervise();
}

int main(int count, char **words) {
    if (count < 3) {
        fprintf(stderr, "usage: intercept CONTROL COMMAND [ARGUMENT...]\n");
        return 125;
    }
    int file = open(words[1], O_RDWR | O_CLOEXEC);
    control = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (control == MAP_FAILED)
        die(words[1]);
    close(file);
    /* For Yama, which lets only ancestors look into a process. */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
        die("socketpair");
    pid_t middle = fork();
    if (middle < 0)
        die("fork");
    if (middle == 0) {
        /* A grandchild, so that the command has no child that it does not know of. */
        if (fork() == 0)
            become_supervisor(sockets[1]);
        _exit(0);
    }
    siginfo_t ended;
    waitid(P_PID, (id_t)middle, &ended, WEXITED);
    close(sockets[1]);
    int file_of_filter = install_filter();
    send_file(sockets[0], file_of_filter);
    close(file_of_filter);
    close(sockets[0]);
    execvp(words[2], words + 2);
    die(words[2]);
}
