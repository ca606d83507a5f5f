//! What the file system of a log promises, by its kind, as Linux tells it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor, statfs};

use super::Finding;
use crate::error::ErrorCode;

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

/// With which options the file system of this place is mounted.
fn options(place: &Path) -> Option<String> {
    let device = fs::metadata(place).ok()?.dev();
    let device = format!("{}:{}", major(device), minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of_device = |line: &&str| line.split(' ').nth(2) == Some(&device);
    let (_, of_file_system) = mounts.lines().find(of_device)?.split_once(" - ")?;
    of_file_system.split(' ').nth(2).map(ToOwned::to_owned)
}

fn journals_data(options: String) -> bool {
    options.split(',').any(|option| option == "data=journal")
}

pub(super) fn examine(place: &Path) -> Finding {
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
        Promise::Keeps if name == "ext4" && options(place).is_some_and(journals_data) => {
            let found = "ext4 with data=journal: it tells nobody when a write of its journal fails";
            let advice = "mount it without data=journal: a sync is as good, and takes less";
            Finding::warning("file_system", place.display(), found, advice)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::doctor::Verdict;

    #[test]
    fn the_options_of_a_mount_are_those_of_its_file_system() {
        assert!(journals_data("rw,data=journal".into()));
        assert!(!journals_data("rw,data=ordered".into()));
        let proc = Path::new("/proc/self");
        if proc.is_dir() {
            assert!(options(proc).unwrap().starts_with("rw"));
        }
    }

    #[test]
    fn memory_and_servers_are_told_from_disks() {
        assert!(matches!(promise(0xef53), ("ext4", Promise::Keeps)));
        assert!(matches!(promise(0x0102_1994), ("tmpfs", Promise::Loses(_))));
        assert!(matches!(promise(0x6969), ("nfs", Promise::Server)));
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            assert_eq!(examine(shm).verdict, Verdict::Warning);
        }
    }
}
