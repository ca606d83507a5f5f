/* A disk that fails on demand, for a loop device to stand on.
 *
 *     blockdev MOUNT_POINT PLATTER SECTOR
 *
 * mounts a file system with one file, `disk`, at MOUNT_POINT, over /dev/fuse itself. SECTOR is what it writes as a whole or not at all, 512 or
 * 4096 bytes. The file has two contents: the platter, which is the file
 * PLATTER, and the drive's volatile cache above it. Writes go to the cache, a flush (the loop device sends it as an fsync) carries
 * them down. What the drive does wrong is told on standard input, one command per line, each answered with one line:
 *
 *     cut PERCENT SEED   the power goes: each sector that was not flushed survives with that chance; all requests fail
 *     power              the power is back, with what is on the platter
 *     eio_write N [1]    the N-th write from now fails, once; with 1 only writes of a log's frames count
 *     eio_flush N        the N-th flush from now fails, once, and what it should have carried down is gone
 *     eio_read A B       reads that touch the bytes from A up to B fail
 *     swallow 1|0        flushes say that all is well and do nothing (1), or work again (0)
 *     heal               everything above is forgotten, but for what a cut has taken
 *     counts             reads, writes, flushes, failures that were injected, sectors that a cut has taken, sectors in the cache
 *
 * It ends when its standard input does.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FRAME_ALIGN = 512, MAX_WRITE = 1 << 20, DISK = 2 };

static int fuse;
static char *platter, *cache;       /* the same bytes, below and above the volatile cache */
static uint8_t *volatile_sectors;   /* one byte for each: is it different above? */
static uint64_t size_bytes, sector_bytes, sectors;

static int no_power, swallow, frames_only;
static uint64_t eio_write, eio_flush, eio_read_from, eio_read_to;
static uint64_t reads, writes, flushes, injected, taken, cached;

static void die(const char *what) {
    fprintf(stderr, "blockdev: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the drive ---- */

static int disk_read(uint64_t offset, uint64_t length) {
    reads++;
    if (no_power)
        return EIO;
    if (offset < eio_read_to && offset + length > eio_read_from) {
        injected++;
        return EIO;
    }
    return 0;
}

/* Whether a block of the write begins with the magic of a segment or of a frame. */
static int holds_frames(const char *content, uint64_t length) {
    for (uint64_t at = 0; at + FRAME_ALIGN <= length; at += FRAME_ALIGN)
        if (!memcmp(content + at, "ZBfr", 4) || !memcmp(content + at, "ZBWALSEG", 8))
            return 1;
    return 0;
}

static int disk_write(const char *content, uint64_t offset, uint64_t length) {
    writes++;
    if (no_power)
        return EIO;
    if (eio_write && (!frames_only || holds_frames(content, length)) && --eio_write == 0) {
        injected++;
        return EIO;
    }
    if (offset > size_bytes || length > size_bytes - offset)
        return ENOSPC;
    memcpy(cache + offset, content, length);
    for (uint64_t sector = offset / sector_bytes; sector * sector_bytes < offset + length; sector++) {
        cached += !volatile_sectors[sector];
        volatile_sectors[sector] = 1;
    }
    return 0;
}

/* Carries sectors down with a chance in percent; those that stay behind are gone. */
static void settle(unsigned percent) {
    for (uint64_t sector = 0; sector < sectors; sector++) {
        if (!volatile_sectors[sector])
            continue;
        char *above = cache + sector * sector_bytes, *below = platter + sector * sector_bytes;
        if (percent == 100 || (unsigned)(random() % 100) < percent) {
            memcpy(below, above, sector_bytes);
        } else {
            memcpy(above, below, sector_bytes);
            taken++;
        }
        volatile_sectors[sector] = 0;
        cached--;
    }
}

static int disk_flush(void) {
    flushes++;
    if (no_power)
        return EIO;
    if (eio_flush && --eio_flush == 0) {
        injected++;
        settle(0);
        return EIO;
    }
    if (!swallow)
        settle(100);
    return 0;
}

/* ---- the file system ---- */

static void reply(uint64_t unique, int error, const void *content, size_t length) {
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof header + (error ? 0 : length)), .error = -error, .unique = unique};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)(uintptr_t)content, error ? 0 : length}};
    if (writev(fuse, parts, 2) < 0 && errno != ENOENT)
        die("reply");
}

static struct fuse_attr attributes(uint64_t node) {
    struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = 4096};
    attr.mode = node == DISK ? S_IFREG | 0600 : S_IFDIR | 0700;
    attr.size = node == DISK ? size_bytes : 0;
    attr.blocks = attr.size / 512;
    return attr;
}

static void start(uint64_t unique, const struct fuse_init_in *wanted) {
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = wanted->max_readahead,
        .max_background = 16, .congestion_threshold = 12, .max_write = MAX_WRITE, .time_gran = 1};
    out.flags = wanted->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES);
    out.max_pages = MAX_WRITE / 4096;
    reply(unique, 0, &out, sizeof out);
}

static void serve(char *request) {
    struct fuse_in_header *header = (struct fuse_in_header *)request;
    char *body = request + sizeof *header;
    switch (header->opcode) {
    case FUSE_INIT:
        start(header->unique, (struct fuse_init_in *)body);
        break;
    case FUSE_LOOKUP: {
        struct fuse_entry_out out = {.nodeid = DISK, .attr = attributes(DISK)};
        reply(header->unique, strcmp(body, "disk") ? ENOENT : 0, &out, sizeof out);
        break;
    }
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
        struct fuse_attr_out out = {.attr = attributes(header->nodeid)};
        reply(header->unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_OPEN: {
        struct fuse_open_out out = {0}; /* without FOPEN_KEEP_CACHE: each opening reads anew */
        reply(header->unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_READ: {
        struct fuse_read_in *in = (struct fuse_read_in *)body;
        uint64_t length = in->offset >= size_bytes ? 0 : in->size;
        if (length > size_bytes - in->offset)
            length = size_bytes - in->offset;
        reply(header->unique, disk_read(in->offset, length), cache + in->offset, length);
        break;
    }
    case FUSE_WRITE: {
        struct fuse_write_in *in = (struct fuse_write_in *)body;
        struct fuse_write_out out = {.size = in->size};
        reply(header->unique, disk_write(body + sizeof *in, in->offset, in->size), &out, sizeof out);
        break;
    }
    case FUSE_FSYNC:
        reply(header->unique, disk_flush(), NULL, 0);
        break;
    case FUSE_STATFS: {
        struct fuse_statfs_out out = {.st = {.bsize = 4096, .frsize = 4096, .namelen = 255}};
        reply(header->unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_OPENDIR: {
        struct fuse_open_out out = {0};
        reply(header->unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_READDIR: /* who lists the directory shall not read the disk */
    case FUSE_READDIRPLUS:
    case FUSE_RELEASEDIR:
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_ACCESS:
        reply(header->unique, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break; /* they have no answer */
    case FUSE_FALLOCATE:
        reply(header->unique, EOPNOTSUPP, NULL, 0); /* a discard is a hint */
        break;
    default:
        reply(header->unique, ENOSYS, NULL, 0);
    }
}

/* ---- the commands ---- */

static void obey(const char *line) {
    uint64_t first = 0, second = 0;
    char word[32] = "";
    sscanf(line, "%31s %" SCNu64 " %" SCNu64, word, &first, &second);
    if (!strcmp(word, "cut")) {
        srandom((unsigned)second);
        settle((unsigned)first);
        no_power = 1;
    } else if (!strcmp(word, "power")) {
        no_power = 0;
    } else if (!strcmp(word, "eio_write")) {
        eio_write = first;
        frames_only = second == 1;
    } else if (!strcmp(word, "eio_flush")) {
        eio_flush = first;
    } else if (!strcmp(word, "eio_read")) {
        eio_read_from = first;
        eio_read_to = second;
    } else if (!strcmp(word, "swallow")) {
        swallow = first != 0;
    } else if (!strcmp(word, "heal")) {
        eio_write = eio_flush = eio_read_from = eio_read_to = 0;
        no_power = swallow = 0;
    } else if (strcmp(word, "counts")) {
        printf("unknown command: %s\n", word);
        fflush(stdout);
        return;
    }
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", reads, writes, flushes, injected, taken, cached);
    fflush(stdout);
}

int main(int count, char **words) {
    sector_bytes = count == 4 ? strtoull(words[3], NULL, 10) : 0;
    if (sector_bytes != 512 && sector_bytes != 4096) {
        fprintf(stderr, "usage: blockdev MOUNT_POINT PLATTER 512|4096\n");
        return 2;
    }
    int file = open(words[2], O_RDWR | O_CLOEXEC);
    struct stat stat_;
    if (file < 0 || fstat(file, &stat_))
        die(words[2]);
    size_bytes = (uint64_t)stat_.st_size;
    sectors = size_bytes / sector_bytes;
    platter = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    /* Private: what is above never reaches the file by itself. */
    cache = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
    volatile_sectors = calloc(sectors, 1);
    char *request = malloc(MAX_WRITE + 65536), options[128];
    if (platter == MAP_FAILED || cache == MAP_FAILED || !volatile_sectors || !request)
        die("memory");
    fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse < 0)
        die("/dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (mount("blockdev", words[1], "fuse.blockdev", MS_NOSUID | MS_NODEV, options))
        die("mount");
    /* We stand below a block device: memory that we ask for must not wait for it. */
    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    printf("ready\n");
    fflush(stdout);
    char line[256];
    size_t length = 0;
    for (;;) {
        struct pollfd wanted[] = {{.fd = fuse, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        if (poll(wanted, 2, -1) < 0 && errno != EINTR)
            die("poll");
        if (wanted[0].revents) {
            ssize_t got = read(fuse, request, MAX_WRITE + 65536);
            if (got > 0)
                serve(request);
            else if (got < 0 && errno == ENODEV)
                return 0; /* unmounted */
        }
        if (wanted[1].revents) {
            ssize_t got = read(0, line + length, sizeof line - 1 - length);
            if (got <= 0)
                break;
            length += (size_t)got;
            line[length] = 0;
            char *end = strchr(line, '\n');
            if (end) {
                *end = 0;
                obey(line);
                length = 0;
            }
        }
    }
    umount2(words[1], MNT_DETACH);
    return 0;
}
