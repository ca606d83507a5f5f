//! Can batches be stored here, how fast, and what does this file system promise?

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    #[cfg(target_os = "linux")]
    findings.push(super::file_system::examine(&place));
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
    let free_inodes = match free_inodes(place) {
        Ok(free_inodes) => free_inodes,
        Err(error) => return failed(format!("its file system cannot be asked: {error}")),
    };
    let least = configuration.wal_min_free_bytes;
    let inodes = free_inodes.map_or(String::new(), |free| format!(" and {free} inodes"));
    let found = format!("{free} bytes{inodes} are free, wal_min_free_bytes is {least}");
    if free <= least {
        let advice = "free space on this disk, give another wal_dir, or set wal_min_free_bytes lower; until then \
                      on_full decides what becomes of batches";
        return Finding::failed("disk", place.display(), ErrorCode::BufferFull, found, advice);
    }
    if free_inodes.is_some_and(|free| free < INODES_MIN) {
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

/// None where the file system does not count them.
#[cfg(unix)]
fn free_inodes(place: &Path) -> std::io::Result<Option<u64>> {
    let found = rustix::fs::statvfs(place)?;
    Ok((found.f_files > 0).then_some(found.f_favail))
}

/// Windows counts none.
#[cfg(windows)]
fn free_inodes(_place: &Path) -> std::io::Result<Option<u64>> {
    Ok(None)
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
