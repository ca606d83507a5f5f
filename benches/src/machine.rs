//! What the machine says of a run: processor time, what went to the disk, memory, and what it is.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Advice, fadvise};

/// Processor time of this process, of all its threads, the ended ones too.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to the struct that it is given and keeps no pointer to it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let is_known = result == 0;
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    if is_known { Duration::new(seconds, nanos) } else { Duration::ZERO }
}

/// What went to a disk since some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskCounters {
    /// Bytes that were written to the device, by anyone.
    pub device_bytes: u64,
    /// Write requests of the device.
    pub device_writes: u64,
    /// Bytes of this process that had to go to the disk.
    pub process_bytes: u64,
}

impl std::ops::Sub for DiskCounters {
    type Output = DiskCounters;

    fn sub(self, earlier: DiskCounters) -> DiskCounters {
        DiskCounters {
            device_bytes: self.device_bytes.saturating_sub(earlier.device_bytes),
            device_writes: self.device_writes.saturating_sub(earlier.device_writes),
            process_bytes: self.process_bytes.saturating_sub(earlier.process_bytes),
        }
    }
}

/// The block device below a directory.
#[derive(Clone, Debug)]
pub struct Disk {
    stat: Option<PathBuf>,
    name: String,
}

impl Disk {
    /// The device that this directory is on.
    ///
    /// # Errors
    ///
    /// When the directory cannot be looked at.
    pub fn of(dir: &Path) -> io::Result<Disk> {
        let device = fs::metadata(dir)?.dev();
        let node = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let node = PathBuf::from(node);
        let name = fs::canonicalize(&node).ok().and_then(|path| path.file_name().map(ToOwned::to_owned));
        let stat = Some(node.join("stat")).filter(|stat| stat.exists());
        let name =
            name.map_or_else(|| "no block device".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Disk { stat, name })
    }

    /// Whether the device counts what is written to it.
    pub fn counts(&self) -> bool {
        self.stat.is_some()
    }

    /// How the counters stand.
    pub fn counters(&self) -> DiskCounters {
        const SECTOR: u64 = 512;
        let stat = self.stat.as_ref().and_then(|stat| fs::read_to_string(stat).ok()).unwrap_or_default();
        let fields: Vec<u64> = stat.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let field = |number: usize| fields.get(number).copied().unwrap_or(0);
        DiskCounters {
            device_bytes: field(6) * SECTOR,
            device_writes: field(4),
            process_bytes: number_in("/proc/self/io", "write_bytes:").unwrap_or(0),
        }
    }
}

/// Waits until this process and the disk have nothing left to do, three seconds at most.
pub fn wait_for_rest(disk: &Disk) {
    const STEP: Duration = Duration::from_millis(50);
    const STEPS_MAX: u32 = 60;
    for _ in 0..STEPS_MAX {
        let (processor, counters) = (processor_time(), disk.counters());
        std::thread::sleep(STEP);
        let busy = processor_time().saturating_sub(processor);
        if busy < STEP / 25 && (disk.counters() - counters).device_writes == 0 {
            return;
        }
    }
}

/// Memory of this process in bytes: what it has now, and the most that it had.
pub fn resident_bytes() -> (u64, u64) {
    let kib = |key| number_in("/proc/self/status", key).unwrap_or(0) * 1024;
    (kib("VmRSS:"), kib("VmHWM:"))
}

fn number_in(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Makes later reads of these files come from the disk. With `everything`, and as root, the names and inodes of
/// the whole machine are forgotten too; whoever shares the machine notices that.
///
/// # Errors
///
/// When a file cannot be opened or synced.
pub fn make_cold(files: &[PathBuf], everything: bool) -> io::Result<()> {
    for file in files {
        let file = File::open(file)?;
        // Pages that are not on the disk yet cannot be dropped.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    if everything {
        // Only root may; for others the pages of the files are what can be dropped.
        let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    }
    Ok(())
}

/// The files below a directory, in order.
///
/// # Errors
///
/// When a directory cannot be read.
pub fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One line that says what the figures were measured on.
pub fn description(disk: &Disk) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(": ")))
        .map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned());
    format!("{cores} cores of {processor}, Linux {}, {}", kernel.trim(), disk.name)
}
