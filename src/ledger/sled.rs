//! The ledger's store in sled: the only file that knows it.
//!
//! sled's own `flush` only starts write-back (`sync_file_range`): what makes a record durable is `sync_all` on the
//! file that sled keeps everything in.

#![expect(clippy::disallowed_methods, reason = "sled does its own input and output; this only frames it")]

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{DIRECTORY, LedgerError, LedgerPlace, LedgerStore};
use crate::io::{OsStorage, Storage};
use crate::platform::files;
use crate::reserve::{LEDGER_RESERVE, Reserve};

/// The file in which sled 0.34 keeps everything.
const SLED_FILE: &str = "db";
/// How the names of its snapshots begin, and how they end until they are whole.
const SNAPSHOT: &str = "snap.";
const UNFINISHED: &str = ".generating";
/// The tree of what is large and changes rarely. sled writes what goes into any of its trees into one log, in order.
const LARGE_TREE: &[u8] = b"large";
/// Enough for a handful of records; sled's default of 1 GiB is meant for databases.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Room for a new sled and many checkpoints.
const RESERVE_BYTES: u64 = 2 * 1024 * 1024;
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
const LOCK_TRIES: u32 = 2000;
/// How many set-aside ledgers are kept before the oldest name is used again.
const SET_ASIDE_MAX: u32 = 8;

/// A sled in a directory below the writer directory.
#[derive(Debug)]
pub(super) struct SledPlace {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    path: PathBuf,
    reserve: Reserve,
}

impl SledPlace {
    pub(super) fn of(writer_directory: &Path) -> SledPlace {
        let storage: Arc<dyn Storage> = Arc::new(OsStorage);
        let reserve = Reserve::of(&storage, writer_directory.join(LEDGER_RESERVE), RESERVE_BYTES);
        let (directory, path) = (writer_directory.to_owned(), writer_directory.join(DIRECTORY));
        SledPlace { storage, directory, path, reserve }
    }
}

impl LedgerPlace for SledPlace {
    fn path(&self) -> &Path {
        &self.path
    }

    fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn is_there(&self) -> bool {
        self.path.exists()
    }

    fn open(&self) -> Result<Box<dyn LedgerStore>, LedgerError> {
        refuse_others(&self.path)?;
        wait_for_lock(&self.path)?;
        believe_the_disk(&self.path)?;
        guarded(&self.path, || Ok(Box::new(SledStore::open(&self.path)?) as _))
    }

    /// Renames the ledger's directory to the first free name, or to the last one if all are taken.
    fn move_aside(&self) -> Result<PathBuf, LedgerError> {
        let path = &self.path;
        let name = |n| path.with_file_name(format!("{DIRECTORY}.set-aside-{n}"));
        let target = (1..SET_ASIDE_MAX).map(name).find(|candidate| !candidate.exists());
        let target = match target {
            Some(free) => free,
            None => {
                let last = name(SET_ASIDE_MAX);
                if last.exists() {
                    fs::remove_dir_all(&last)
                        .map_err(LedgerError::io("replace the set-aside copy of", path))?;
                }
                last
            }
        };
        match fs::rename(path, &target) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(LedgerError::io("move aside", path)(error))
            }
            _ => Ok(target),
        }
    }

    fn hold_reserve(&mut self) {
        self.reserve.hold();
    }

    fn give_up_reserve(&mut self) -> bool {
        self.reserve.give_up(RESERVE_BYTES)
    }

    fn missing_reserve_bytes(&self) -> u64 {
        self.reserve.missing_bytes()
    }
}

/// A handle of sled. Where the last one is let go, sled syncs its file once more, and panics if that fails. Nothing rests
/// on that sync, for what has to be durable was synced before: so it is a failed sync like any other, and no end of
/// whoever lets go.
#[derive(Debug)]
struct Handle<T>(Option<T>);

impl<T> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(handle) => handle,
            None => unreachable!("a handle is taken where it is dropped, and nowhere else"),
        }
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let handle = self.0.take();
        if panic::catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err() {
            tracing::warn!("the ledger was closed without its last sync, which failed");
        }
    }
}

#[derive(Debug)]
struct SledStore {
    path: PathBuf,
    db: Handle<sled::Db>,
    /// Holds the table and the descriptors of streams. sled writes all values of a page anew after a few changes of any
    /// one of them: what is small and changes with every checkpoint lies elsewhere.
    large: Handle<sled::Tree>,
    file: File,
}

impl SledStore {
    fn open(path: &Path) -> Result<SledStore, LedgerError> {
        remove_unfinished_snapshots(path).map_err(LedgerError::io("open", path))?;
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = Handle(Some(config.open().map_err(failure("open", path))?));
        let large = Handle(Some(db.open_tree(LARGE_TREE).map_err(failure("open", path))?));
        // Windows syncs only what may be written.
        let file = File::options().read(true).write(true).open(path.join(SLED_FILE));
        let file = file.map_err(LedgerError::io("open", path))?;
        sync_directory(path)?;
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
        Ok(SledStore { path: path.to_owned(), db, large, file })
    }

    fn get_from(&self, tree: &sled::Tree, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        guarded(&self.path, || {
            let value = tree.get(key).map_err(failure("read", &self.path))?;
            Ok(value.map(|bytes| bytes.to_vec()))
        })
    }
}

impl LedgerStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        self.get_from(&self.db, key)
    }

    fn get_large(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        self.get_from(&self.large, key)
    }

    fn insert(&mut self, records: &[(&[u8], &[u8])]) -> Result<(), LedgerError> {
        guarded(&self.path, || {
            let written = match records {
                [(key, value)] => self.db.insert(key, *value).map(drop),
                _ => {
                    let mut batch = sled::Batch::default();
                    records.iter().for_each(|(key, value)| batch.insert(*key, *value));
                    self.db.apply_batch(batch)
                }
            };
            written.map_err(failure("write", &self.path))
        })
    }

    fn insert_large(&mut self, key: &[u8], value: &[u8]) -> Result<(), LedgerError> {
        guarded(&self.path, || {
            self.large.insert(key, value).map(|_| ()).map_err(failure("write", &self.path))
        })
    }

    fn flush(&mut self) -> Result<(), LedgerError> {
        guarded(&self.path, || self.db.flush().map(|_| ()).map_err(failure("flush", &self.path)))
    }

    fn sync(&mut self) -> Result<(), LedgerError> {
        self.file.sync_all().map_err(LedgerError::io("sync", &self.path))
    }
}

/// Reads a copy of a store that somebody else may own: no lock is taken and nothing is written. `None` if there is
/// no store.
pub(super) fn peek<T>(
    writer_directory: &Path,
    read: impl FnOnce(&dyn LedgerStore, &Path) -> Result<T, LedgerError>,
) -> Result<Option<T>, LedgerError> {
    let path = writer_directory.join(DIRECTORY);
    match fs::symlink_metadata(path.join(SLED_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // One that may not be read is not one that is not there: then everything would seem to wait.
        found => found.map(drop).map_err(LedgerError::io("read", &path))?,
    };
    let copy = tempfile::tempdir().map_err(LedgerError::io("copy", &path))?;
    copy_tree(&path, copy.path()).map_err(LedgerError::io("copy", &path))?;
    read(&SledStore::open(copy.path())?, &path).map(Some)
}

/// sled 0.34 meets some damage with a panic; for us that is a ledger to move aside.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(LedgerError::Damaged { path: path.to_owned(), reason: "sled panicked".to_owned() })
    })
}

/// What sled says of the file system is an error of the file system; the rest is its own.
fn failure(action: &'static str, path: &Path) -> impl FnOnce(sled::Error) -> LedgerError {
    let path = path.to_owned();
    move |error| match error {
        sled::Error::Io(source) => LedgerError::Io { action, path, source },
        other => LedgerError::Store { action, path, source: Box::new(other) },
    }
}

/// Refuses what is neither a file nor a directory: sled would wait for the other end of a pipe, with the log locked.
fn refuse_others(directory: &Path) -> Result<(), LedgerError> {
    let unreadable = |error| LedgerError::io("list", directory)(error);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => refuse_others(&path)?,
            Ok(metadata) if !metadata.is_file() => {
                return Err(LedgerError::io("open", &path)(files::not_a_file()));
            }
            // A link to nowhere is nothing to sled either; another error is its own to meet.
            _ => {}
        }
    }
    Ok(())
}

/// Waits until nobody has sled's file locked.
///
/// The owner of the writer directory is alone, but threads of sled can outlive the handle that an earlier
/// owner dropped, by a moment. Without the wait a whole ledger would look like one that cannot be opened.
fn wait_for_lock(path: &Path) -> Result<(), LedgerError> {
    let file = match files::open_regular(&path.join(SLED_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.map_err(LedgerError::io("open", path))?,
    };
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            // Given back when the file is closed.
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_INTERVAL),
            Err(TryLockError::Error(error)) => return Err(LedgerError::io("lock", path)(error)),
        }
    }
    Err(LedgerError::io("lock", path)(ErrorKind::WouldBlock.into()))
}

/// Makes sled read what the disk has: a failed sync can have left records in the page cache that are nowhere else, and
/// what is freed because of them would be missing after a power cut \[I13\].
fn believe_the_disk(path: &Path) -> Result<(), LedgerError> {
    let file = match File::options().read(true).write(true).open(path.join(SLED_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.map_err(LedgerError::io("open", path))?,
    };
    file.sync_all().map_err(LedgerError::io("sync", path))?;
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
        .map_err(|errno| LedgerError::io("read", path)(errno.into()))?;
    Ok(())
}

/// sled writes a snapshot while it opens. One that the end of the process or a full disk has cut off would be its newest
/// the next time, and the whole ledger damaged; without it sled goes on from the one before, or from the log itself.
fn remove_unfinished_snapshots(path: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(SNAPSHOT) && name.ends_with(UNFINISHED)) {
            fs::remove_file(path.join(name))?;
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    files::sync_directory(path).map_err(LedgerError::io("sync", path))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else {
            // Not `fs::copy`: sled writes into the copy, which must not have the permissions of what may only be read.
            std::io::copy(&mut files::open_regular(&entry.path())?, &mut File::create(&target)?)?;
        }
    }
    Ok(())
}
