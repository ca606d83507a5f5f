/* What the parts of `intercept` share: the layout of the control file, and a request of the process. */

#ifndef INTERCEPT_H
#define INTERCEPT_H

#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* In the order of intercept.Operation. */
enum operation {
    WRITE, DURABLE_WRITE, SYNC, SYNC_DIRECTORY, SYNC_RANGE, CREATE, OPEN, RENAME, UNLINK, TRUNCATE, ALLOCATE, MAKE_DIRECTORY, READ,
    OPERATIONS
};

/* In the order of intercept.Action. */
enum action { FAIL, SHORTEN, KILL, DELAY };

enum { RULES = 8, FAILED_FILES = 64, PATH_BYTES = 1024, PART_BYTES = 64 };

struct rule {
    uint64_t operations;  /* one bit each */
    uint64_t first, last; /* of the operations that match, counted from 1: which are hit */
    uint64_t action;
    int64_t error;        /* the errno of FAIL */
    uint64_t bytes;       /* of the operation that are done before: of a write, or everything */
    uint64_t delay_us;
    uint64_t seen, hit;   /* how many operations matched, and how many were hit */
    char part[PART_BYTES];/* the path must hold it */
};

struct failed_file {
    uint64_t device, inode;
};

struct control {
    char prefix[PATH_BYTES];    /* only files below it count */
    char guarded[PART_BYTES];   /* of files with this in their path, none may be touched after it has failed */
    uint64_t operations;        /* which operations are reported to the supervisor at all */
    uint64_t rules;
    uint64_t counts[16];        /* by operation */
    uint64_t failed;            /* files on which an operation was failed, ever */
    uint64_t failed_now;        /* those of them that are there */
    struct failed_file failed_file[FAILED_FILES];
    uint64_t touched;           /* writes and syncs on such a file afterwards */
    char touched_path[PATH_BYTES];
    uint64_t trouble;           /* what the supervisor could not do; any is a fault of the test */
    struct rule rule[RULES];
};

struct request {
    uint64_t id;
    pid_t thread;
    enum operation operation;
    int number;
    int file;             /* or -1 */
    char path[PATH_BYTES];
};

#define BIT(operation) (UINT64_C(1) << (operation))

extern struct control *control;
extern int listener; /* where the kernel reports to */

static inline void add(uint64_t *counter) { __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST); }

/* request.c */
int understand(struct request *request, const struct seccomp_notif *notice);
int path_at(struct request *request, int directory, uint64_t address);
int read_memory(pid_t thread, uint64_t address, void *into, size_t length);

/* outcome.c */
void handle(const struct seccomp_notif *notice);
pid_t process_of(pid_t thread);
int let_pass(void);

/* perform.c */
ssize_t perform(const struct request *request, const struct seccomp_notif *notice, const struct rule *rule);

#endif
