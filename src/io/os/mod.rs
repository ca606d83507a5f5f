//! The operating system behind the traits: the only module that calls it. What every system does alike is here.
#![expect(clippy::disallowed_methods, reason = "this is the one place that the rule protects")]

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{ErrorKind, IoSlice, Result},
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use super::{Access, BLOCK, Clock, FileLock, LockAttempt, Rng, Storage, StorageFile};
use crate::platform::files::{open_regular, open_regular_with, sync_directory};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// The most slices that one vectored write takes (`IOV_MAX`).
const SLICES_MAX: usize = 1024;
/// A holder's note is one line; what is longer is not ours.
const NOTE_BYTES_MAX: usize = 4096;
/// Somebody who only looks holds the lock for an instant; that is waited out.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_ATTEMPT_DELAY: Duration = Duration::from_millis(2);

/// The file systems of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsStorage;

impl Storage for OsStorage {
    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir_all(parent)?;
        }
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
            result => result?,
        }
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::Write => {
                options.write(true);
            }
            Access::New => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(OsFile(open_regular_with(&mut options, path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        sync_directory(dir)
    }

    fn lock(&self, path: &Path, note: &[u8]) -> Result<LockAttempt> {
        for _ in 1..LOCK_ATTEMPTS {
            if let Some(file) = system::lock(path)? {
                return held(file, note);
            }
            std::thread::sleep(LOCK_ATTEMPT_DELAY);
        }
        match system::lock(path)? {
            Some(file) => held(file, note),
            None => Ok(LockAttempt::Busy { note: read_note(&open_regular(path)?)? }),
        }
    }

    fn lock_note(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match system::is_locked(path) {
            Ok(true) => Ok(Some(read_note(&open_regular(path)?)?)),
            Ok(false) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        system::free_bytes(dir)
    }

    fn works_side_by_side(&self) -> bool {
        // The others have no direct writes, and a common one is a copy in memory.
        cfg!(target_os = "linux")
    }
}

fn held(file: File, note: &[u8]) -> Result<LockAttempt> {
    // In this order: a file that is cut to nothing is flushed when it is closed, on ext4.
    write_full(&mut [IoSlice::new(note)], 0, |slices, offset| system::write_at(&file, slices, offset))?;
    file.set_len(note.len() as u64)?;
    Ok(LockAttempt::Held(Box::new(OsLock { _file: file })))
}

fn read_note(file: &File) -> Result<Vec<u8>> {
    let mut note = vec![0; NOTE_BYTES_MAX];
    let length = read_full(file, &mut note, 0)?;
    note.truncate(length);
    Ok(note)
}

fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match system::read_at(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A direct read can only end within a block where the file does, and cannot go on there.
            Err(error) if error.kind() == ErrorKind::InvalidInput && !done.is_multiple_of(BLOCK) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn write_full(
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
    write: impl Fn(&[IoSlice<'_>], u64) -> Result<usize>,
) -> Result<()> {
    // Empty slices at the front would make a write of nothing look like a full disk.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let count = slices.len().min(SLICES_MAX);
        match write(&slices[..count], offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The lock lives as long as the open file; the kernel gives it back when the process dies.
#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl FileLock for OsLock {}

#[derive(Debug)]
struct OsFile(File);

impl StorageFile for OsFile {
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        write_full(slices, offset, |slices, offset| system::write_at(&self.0, slices, offset))
    }

    #[cfg(target_os = "linux")]
    fn write_durable_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        write_full(slices, offset, |slices, offset| linux::write_durable_at(&self.0, slices, offset))
    }

    #[cfg(target_os = "linux")]
    fn set_direct(&self, direct: bool) -> Result<()> {
        linux::set_direct(&self.0, direct)
    }

    #[cfg(not(target_os = "linux"))]
    fn set_direct(&self, direct: bool) -> Result<()> {
        if direct { Err(ErrorKind::Unsupported.into()) } else { Ok(()) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        read_full(&self.0, buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_sequentially(&self) {
        linux::read_sequentially(&self.0);
    }

    #[cfg(target_os = "linux")]
    fn prefetch(&self, range: Range<u64>) {
        linux::prefetch(&self.0, &range);
    }

    fn sync_data(&self) -> Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> Result<()> {
        self.0.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, offset: u64, length: u64) -> Result<()> {
        linux::allocate(&self.0, offset, length)
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _offset: u64, _length: u64) -> Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(target_os = "linux")]
    fn drop_page_cache(&self, range: Range<u64>) -> Result<()> {
        linux::drop_page_cache(&self.0, &range)
    }

    #[cfg(not(target_os = "linux"))]
    fn drop_page_cache(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsClock;

impl Clock for OsClock {
    fn unix_micros(&self) -> i64 {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// The random numbers of the `rand` crate, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vectored_write_of_more_slices_than_the_kernel_takes_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsStorage.open(&dir.path().join("file"), Access::New).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let mut slices = vec![IoSlice::new(&[])];
        slices.extend(parts.iter().flat_map(|part| [IoSlice::new(part), IoSlice::new(&[])]));
        file.write_at(&mut slices, 5).unwrap();
        assert_eq!(file.length().unwrap(), 5 + 12_000);
        let mut read = vec![0; 20_000];
        assert_eq!(file.read_at(&mut read, 5).unwrap(), 12_000);
        assert_eq!(read[..12_000], parts.concat());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_opened_and_nothing_waits_for_the_other_end_of_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, device) = (dir.path().join("pipe"), dir.path().join("device"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        for path in [&pipe, &device, dir.path()] {
            for access in [Access::Read, Access::Write] {
                assert!(OsStorage.open(path, access).is_err(), "{} for {access:?}", path.display());
            }
            OsStorage.lock(path, b"").unwrap_err();
            OsStorage.lock_note(path).unwrap_err();
        }
    }

    #[test]
    fn a_direct_read_ends_where_the_file_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsStorage.open(&dir.path().join("file"), Access::New).unwrap();
        let contents: Vec<u8> = (0..BLOCK + 700).map(|at| at as u8).collect();
        file.write_at(&mut [IoSlice::new(&contents)], 0).unwrap();
        // Where the system has no direct reads this is a common one.
        let _ = file.set_direct(true);
        let mut memory = vec![0; 4 * BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        let buffer = &mut memory[start..start + 3 * BLOCK];
        for (offset, left) in
            [(0, &contents[..]), (BLOCK as u64, &contents[BLOCK..]), (2 * BLOCK as u64, &[])]
        {
            assert_eq!(file.read_at(buffer, offset).unwrap(), left.len());
            assert_eq!(&buffer[..left.len()], left);
        }
    }

    #[test]
    fn a_held_lock_shows_its_note_and_a_dropped_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        assert_eq!(OsStorage.lock_note(&path).unwrap(), None);
        let held = OsStorage.lock(&path, b"first").unwrap();
        assert!(matches!(held, LockAttempt::Held(_)));
        assert_eq!(OsStorage.lock_note(&path).unwrap().as_deref(), Some(&b"first"[..]));
        assert!(
            matches!(OsStorage.lock(&path, b"second").unwrap(), LockAttempt::Busy { note } if note == b"first")
        );
        drop(held);
        assert_eq!(OsStorage.lock_note(&path).unwrap(), None);
        assert!(matches!(OsStorage.lock(&path, b"x").unwrap(), LockAttempt::Held(_)));
    }

    #[test]
    fn a_new_file_is_not_opened_over_an_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c/file");
        OsStorage.create_dir_all(path.parent().unwrap()).unwrap();
        OsStorage.open(&path, Access::New).unwrap();
        assert_eq!(OsStorage.open(&path, Access::New).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
