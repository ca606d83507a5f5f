/* What becomes of an operation? Looks for the rule that hits it, and answers the kernel. */

#include "intercept.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PENDING = 256 };

struct pending {
    uint64_t id;
    struct timespec due;
};

static struct pending pending[PENDING];
static size_t pending_count;

/* ---- files that have failed ---- */

static struct failed_file *find_failed(const struct stat *file) {
    for (size_t i = 0; i < control->failed_now; i++)
        if (control->failed_file[i].device == file->st_dev && control->failed_file[i].inode == file->st_ino)
            return &control->failed_file[i];
    return NULL;
}

static int stat_request(const struct request *request, struct stat *file) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/fd/%d", request->thread, request->file);
    return !(request->file == -1 ? lstat(request->path, file) : stat(link, file));
}

static int changes_contents(enum operation operation) {
    return operation == WRITE || operation == DURABLE_WRITE || operation == SYNC || operation == SYNC_RANGE;
}

static void watch_failed(const struct request *request) {
    struct stat file;
    if (!control->failed_now || !stat_request(request, &file))
        return;
    struct failed_file *found = find_failed(&file);
    if (!found)
        return;
    if (request->operation == UNLINK && file.st_nlink == 1) {
        /* Its number may be given to another file. */
        *found = control->failed_file[--control->failed_now];
    } else if (changes_contents(request->operation)) {
        if (!control->touched)
            memcpy(control->touched_path, request->path, PATH_BYTES);
        add(&control->touched);
    }
}

static void note_failed(const struct request *request) {
    struct stat file;
    if (!changes_contents(request->operation) || !strstr(request->path, control->guarded) || !stat_request(request, &file))
        return;
    if (find_failed(&file))
        return;
    if (control->failed_now == FAILED_FILES) {
        add(&control->trouble);
        return;
    }
    control->failed_file[control->failed_now++] = (struct failed_file){file.st_dev, file.st_ino};
    add(&control->failed);
}

/* ---- answers ---- */

static void answer(uint64_t id, int64_t value, int error, int goes_on) {
    struct seccomp_notif_resp response = {
        .id = id, .val = value, .error = -error, .flags = goes_on ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0};
    /* It fails when the process was killed meanwhile, which is nobody's fault. */
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static void delay(uint64_t id, uint64_t delay_us) {
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    due.tv_sec += (time_t)(delay_us / 1000000);
    due.tv_nsec += (long)(delay_us % 1000000 * 1000);
    if (due.tv_nsec >= 1000000000) {
        due.tv_sec += 1;
        due.tv_nsec -= 1000000000;
    }
    if (pending_count == PENDING) {
        add(&control->trouble);
        answer(id, 0, 0, 1);
        return;
    }
    pending[pending_count++] = (struct pending){id, due};
}

/* Lets pass what has waited long enough. Returns how many milliseconds the next one has, or -1. */
int let_pass(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t next_ms = -1;
    for (size_t i = 0; i < pending_count;) {
        int64_t left_ms = (pending[i].due.tv_sec - now.tv_sec) * 1000 + (pending[i].due.tv_nsec - now.tv_nsec) / 1000000;
        if (left_ms <= 0) {
            answer(pending[i].id, 0, 0, 1);
            pending[i] = pending[--pending_count];
            continue;
        }
        if (next_ms < 0 || left_ms < next_ms)
            next_ms = left_ms;
        i++;
    }
    return (int)next_ms;
}

pid_t process_of(pid_t thread) {
    char path[64], line[256];
    pid_t process = -1;
    snprintf(path, sizeof path, "/proc/%d/status", thread);
    FILE *status = fopen(path, "re");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "Tgid: %d", &process) == 1)
            break;
    if (status)
        fclose(status);
    return process;
}

static void hit(const struct request *request, const struct seccomp_notif *notice, struct rule *rule) {
    add(&rule->hit);
    switch (rule->action) {
    case FAIL:
        note_failed(request);
        perform(request, notice, rule);
        answer(request->id, 0, (int)rule->error, 0);
        break;
    case SHORTEN: {
        ssize_t done = perform(request, notice, rule);
        if (done < 0)
            answer(request->id, 0, 0, 1);
        else
            answer(request->id, done, 0, 0);
        break;
    }
    case KILL: {
        perform(request, notice, rule);
        pid_t process = process_of(request->thread);
        if (process <= 0 || kill(process, SIGKILL))
            add(&control->trouble);
        break;
    }
    default:
        delay(request->id, rule->delay_us);
    }
}

void handle(const struct seccomp_notif *notice) {
    struct request request;
    if (!understand(&request, notice)) {
        answer(notice->id, 0, 0, 1);
        return;
    }
    add(&control->counts[request.operation]);
    watch_failed(&request);
    for (uint64_t i = 0; i < control->rules && i < RULES; i++) {
        struct rule *rule = &control->rule[i];
        if (!(rule->operations & BIT(request.operation)) || !strstr(request.path, rule->part))
            continue;
        uint64_t number = __atomic_add_fetch(&rule->seen, 1, __ATOMIC_SEQ_CST);
        if (number < rule->first || number > rule->last)
            continue;
        hit(&request, notice, rule);
        return;
    }
    answer(notice->id, 0, 0, 1);
}
