//! Can batches be stored here, how fast, and what does this file system promise?

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{StatVfs, statfs, statvfs};

use super::Finding;
use crate::config::WrapperConfiguration;
use crate::error::ErrorCode;
use crate::io::{BLOCK, Env};

/// So many syncs are timed.
const SYNCS: usize = 21;
/// A disk whose syncs take longer is felt by every sender.
const SLOW: Duration = Duration::from_millis(50);
/// No disk is faster: what answers sooner has it in memory.
const TOO_FAST: Duration = Duration::from_micros(10);
/// With fewer free inodes segments and the ledger may not be made.
const INODES_MIN: u64 = 1_000;

pub(super) fn examine(
    env: &Env,
    directory: &Path,
    configuration: &WrapperConfiguration,
    findings: &mut Vec<Finding>,
) {
    let place = existing(directory);
    findings.push(space(env, &place, configuration));
    findings.push(file_system(&place));
    findings.push(syncs(env, &place));
}

/// The directory itself or, if it is not there yet, the one in which it would be made.
fn existing(directory: &Path) -> PathBuf {
    directory.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(directory).to_owned()
}

fn space(env: &Env, place: &Path, configuration: &WrapperConfiguration) -> Finding {
    let failed = |found: String| {
        let advice = "make the directory one that this user may read, or give another wal_dir";
        Finding::failed("disk", place.display(), ErrorCode::Storage, found, advice)
    };
    let free = match env.storage.free_bytes(place) {
        Ok(free) => free,
        Err(error) => return failed(format!("how much is free cannot be told: {error}")),
    };
    let StatVfs { f_files: inodes, f_favail: free_inodes, .. } = match statvfs(place) {
        Ok(found) => found,
        Err(error) => return failed(format!("its file system cannot be asked: {error}")),
    };
    let least = configuration.wal_min_free_bytes;
    let found = format!("{free} bytes and {free_inodes} inodes are free, wal_min_free_bytes is {least}");
    let counts_inodes = inodes > 0;
    if free <= least {
        let advice = "free space on this disk, give another wal_dir, or set wal_min_free_bytes lower; until then \
                      on_full decides what becomes of batches";
        return Finding::failed("disk", place.display(), ErrorCode::BufferFull, found, advice);
    }
    if counts_inodes && free_inodes < INODES_MIN {
        let advice = "remove files from this file system: each segment and each refused frame needs an inode";
        return Finding::warning("disk", place.display(), found, advice);
    }
    if free - least < configuration.wal_max_bytes {
        let advice = "none is needed: the log is full before it has used its quota, wal_max_bytes, unless the disk \
                      gets more room";
        return Finding::warning("disk", place.display(), found, advice);
    }
    Finding::ok("disk", place.display(), found)
}

/// What is known of a kind of file system.
enum Promise {
    Keeps,
    /// Not over this.
    Loses(&'static str),
    /// Only as far as the server does.
    Server,
}

fn promise(magic: u64) -> (&'static str, Promise) {
    match magic {
        0xef53 => ("ext4", Promise::Keeps),
        0x5846_5342 => ("xfs", Promise::Keeps),
        0x9123_683e => ("btrfs", Promise::Keeps),
        0x2fc1_2fc1 => ("zfs", Promise::Keeps),
        0xf2f5_2010 => ("f2fs", Promise::Keeps),
        0x0102_1994 | 0x8584_58f6 => {
            ("tmpfs", Promise::Loses("it is memory: a restart of the machine takes everything"))
        }
        0x794c_7630 => {
            ("overlay", Promise::Loses("it is a container's own: what is written goes with the container"))
        }
        0x6969 => ("nfs", Promise::Server),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => ("smb", Promise::Server),
        0x0102_1997 => ("9p", Promise::Server),
        0x00c3_6400 => ("ceph", Promise::Server),
        0x6573_5546 => ("fuse", Promise::Server),
        _ => ("unknown", Promise::Keeps),
    }
}

fn file_system(place: &Path) -> Finding {
    let magic = match statfs(place) {
        Ok(found) => found.f_type as u64 & 0xffff_ffff,
        Err(error) => {
            let found = format!("its kind cannot be told: {error}");
            let advice = "give a wal_dir that this user may read";
            return Finding::failed("file_system", place.display(), ErrorCode::Storage, found, advice);
        }
    };
    let (name, promise) = promise(magic);
    match promise {
        Promise::Keeps if name == "unknown" => {
            Finding::ok("file_system", place.display(), format!("a kind that is not known here, {magic:#x}"))
        }
        Promise::Keeps => Finding::ok("file_system", place.display(), name),
        Promise::Loses(why) => {
            let advice = "give a wal_dir on a disk, or on a volume that outlives the container";
            Finding::warning("file_system", place.display(), format!("{name}: {why}"), advice)
        }
        Promise::Server => {
            let found =
                format!("{name}: a sync promises what its server keeps, and a lock what its server knows");
            let advice = "give a wal_dir on a local disk, or make sure that only one machine uses this one and that \
                          its server syncs";
            Finding::warning("file_system", place.display(), found, advice)
        }
    }
}

fn syncs(env: &Env, place: &Path) -> Finding {
    let times = match measure(env, place) {
        Ok(times) => times,
        Err(error) => {
            let found = format!("a file of {BLOCK} bytes cannot be written and synced: {error}");
            let advice = "give this user the right to write there, or free space, or give another wal_dir";
            return Finding::failed("sync", place.display(), ErrorCode::Storage, found, advice);
        }
    };
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    let a_second = (1.0 / median.as_secs_f64().max(1e-9)) as u64;
    let found = format!(
        "a sync of {BLOCK} bytes takes {:.2} ms (the median of {SYNCS}; the slowest took {:.2} ms): a sender that \
         waits for each batch stores at most {a_second} in a second, and more senders share syncs",
        median.as_secs_f64() * 1e3,
        slowest.as_secs_f64() * 1e3,
    );
    if median >= SLOW {
        let advice = "give a wal_dir on a faster disk, send larger batches, or from several tasks at once";
        return Finding::warning("sync", place.display(), found, advice);
    }
    if median < TOO_FAST {
        let advice = "nothing, if this is memory or a disk with a battery; otherwise the disk says that data is \
                      safe before it is, and a power cut may take what was promised";
        return Finding::warning("sync", place.display(), found, advice);
    }
    Finding::ok("sync", place.display(), found)
}

/// Ascending. The file has no name that anybody could take for one of the log.
fn measure(env: &Env, place: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(place)?;
    let block = [0xa5_u8; BLOCK];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let before = env.clock.monotonic();
        file.write_all(&block)?;
        file.as_file().sync_data()?;
        times.push(env.clock.monotonic().saturating_sub(before));
    }
    times.sort_unstable();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::doctor::Verdict;

    #[test]
    fn a_disk_with_less_than_is_to_be_left_free_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        let mut configuration = WrapperConfiguration::new("http://127.0.0.1:9", "a.b.c");
        configuration.wal_min_free_bytes = u64::MAX;
        let found = space(&Env::os(), dir.path(), &configuration);
        assert_eq!((found.verdict, found.code.as_deref()), (Verdict::Failed, Some("buffer_full")));
        configuration.wal_min_free_bytes = 0;
        configuration.wal_max_bytes = u64::MAX;
        assert_eq!(space(&Env::os(), dir.path(), &configuration).verdict, Verdict::Warning);
        configuration.wal_max_bytes = 1;
        assert_eq!(space(&Env::os(), dir.path(), &configuration).verdict, Verdict::Ok);
    }

    #[test]
    fn memory_and_servers_are_told_from_disks() {
        assert!(matches!(promise(0xef53), ("ext4", Promise::Keeps)));
        assert!(matches!(promise(0x0102_1994), ("tmpfs", Promise::Loses(_))));
        assert!(matches!(promise(0x6969), ("nfs", Promise::Server)));
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            assert_eq!(file_system(shm).verdict, Verdict::Warning);
        }
    }

    #[test]
    fn the_syncs_of_a_directory_that_is_there_are_timed_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("not/there/yet");
        assert_eq!(existing(&missing), dir.path());
        let times = measure(&Env::os(), dir.path()).unwrap();
        assert_eq!(times.len(), SYNCS);
        assert!(times.is_sorted());
        assert_eq!(Env::os().storage.list(dir.path()).unwrap().len(), 0);
        assert_eq!(syncs(&Env::os(), &missing).verdict, Verdict::Failed);
    }
}
