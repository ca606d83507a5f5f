/* What time a process thinks it is.
 *
 * Preloaded into a victim (LD_PRELOAD), it answers `clock_gettime`, `gettimeofday` and `time` for the time of day from
 * the file that CHAOS_CLOCK names; the monotonic clocks are left alone. The file is mapped, so the clock jumps the moment the
 * file is written, and stays where it is over restarts. These calls never reach the kernel, so nothing else can change them.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { NANOS = 1000000000 };

/* The layout that preload.py writes. */
struct clock_file {
    int64_t offset_ns;  /* added to the time of day */
    int64_t frozen_ns;  /* unless zero: the time of day, which then stands still */
    uint64_t asked;     /* how often the time of day was asked for */
};

static struct clock_file *shared;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void map_file(void) {
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *at = mmap(NULL, sizeof(struct clock_file), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    shared = at == MAP_FAILED ? NULL : at;
}

static int time_of_day(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime)
        real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);
    if (result || !shared)
        return result;
    __atomic_fetch_add(&shared->asked, 1, __ATOMIC_RELAXED);
    int64_t frozen = __atomic_load_n(&shared->frozen_ns, __ATOMIC_RELAXED);
    int64_t offset = __atomic_load_n(&shared->offset_ns, __ATOMIC_RELAXED);
    int64_t ns = frozen ? frozen : (int64_t)now->tv_sec * NANOS + now->tv_nsec + offset;
    now->tv_sec = ns / NANOS;
    now->tv_nsec = ns % NANOS;
    if (now->tv_nsec < 0) {
        now->tv_sec -= 1;
        now->tv_nsec += NANOS;
    }
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        return time_of_day(clock, now);
    if (!real_clock_gettime)
        real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return real_clock_gettime(clock, now);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int result = time_of_day(CLOCK_REALTIME, &precise);
    if (!result) {
        now->tv_sec = precise.tv_sec;
        now->tv_usec = precise.tv_nsec / 1000;
    }
    return result;
}

time_t time(time_t *seconds) {
    struct timespec now;
    time_of_day(CLOCK_REALTIME, &now);
    if (seconds)
        *seconds = now.tv_sec;
    return now.tv_sec;
}
