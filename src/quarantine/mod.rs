//! Rows that were refused for good, kept as Arrow IPC files with the reason.
//!
//! A durable file in quarantine *is* the settlement of its rows: what it holds is not delivered any more, whatever the
//! ledger knows of it. So a crash between the two neither loses such a row nor delivers it. The ledger counts them
//! when the log is settled past them \[I6\].
//!
//! ```text
//!  <n>.arrow.new ─ write, sync ─► rename to <lsn>-<row>.arrow ─ sync the directory ─► settled
//!        └ a crash: removed by the next owner     └ a crash: there and settled, or the row is tried again
//! ```

mod checksum;
mod error;
mod file;
#[cfg(feature = "cli")]
pub(crate) mod look;
mod rows;
mod told;
#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use self::file::FileName;
use crate::error::chain;
use crate::io::{Access, Env, Storage};
use crate::reserve::Reserve;
use crate::types::Lsn;

pub(crate) use error::{FileError, PutError};
#[cfg(feature = "cli")]
pub(crate) use file::{ADDED_COLUMNS, free_name, is_ours, rows_of};
pub(crate) use file::{Refusal, RefusedRows, Source};
pub(crate) use rows::Rows;
pub(crate) use told::{LookedFile, look, rows_in_quarantine};

/// Name of the directory in a writer directory.
const DIRECTORY: &str = "quarantine";
/// Name of the file that keeps space for it.
const RESERVE_FILE: &str = "quarantine.reserve";
/// Room for some bad rows; more of them wait until the log has made room.
const RESERVE_BYTES: u64 = 256 * 1024;
/// How much of it is given up at once, for a file and for its name: what is free, others may take.
const GIVEN_UP_BYTES: u64 = 16 * 1024;
const NEW_EXTENSION: &str = ".arrow.new";
/// What a file takes on the disk is a multiple of this, as far as the quota goes.
const BLOCK_BYTES: u64 = 4096;

/// The quarantine of one log. Clones are handles of the same one.
#[derive(Clone, Debug)]
pub(crate) struct Quarantine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    env: Env,
    directory: PathBuf,
    source: Source,
    max_bytes: u64,
    /// Whether rows of frames that are not settled may be here: most logs have none, and every frame asks.
    has_rows: AtomicBool,
    /// What is missing in the reserve: every batch asks.
    missing_bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Every file of ours by name, with its bytes.
    files: BTreeMap<FileName, u64>,
    /// What they take of the quota.
    used_bytes: u64,
    /// The rows of frames that are not settled.
    rows: BTreeMap<Lsn, Arc<Rows>>,
    reserve: Reserve,
}

/// What there is in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineReport {
    /// The directory; it is there once something was put into it.
    pub directory: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes there may be; `None` when nobody owns the log.
    pub max_bytes: Option<u64>,
}

/// The rows of one frame that are in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameReport {
    pub(crate) rows: Rows,
    /// Why the first of them is there.
    pub(crate) reason: String,
    /// The first file.
    pub(crate) path: PathBuf,
}

impl Quarantine {
    /// The quarantine of the log in this writer directory, whose frames up to `settled` are settled.
    ///
    /// Reads the names of all files and the ends of those that are about other frames. What is no file of ours is
    /// reported and left alone.
    ///
    /// # Errors
    ///
    /// [`PutError`] if the directory cannot be read.
    pub(crate) fn open(
        env: &Env,
        writer_directory: &Path,
        source: Source,
        settled: Lsn,
        max_bytes: u64,
    ) -> Result<Quarantine, PutError> {
        let directory = writer_directory.join(DIRECTORY);
        let names = list(env.storage.as_ref(), &directory)?;
        if let Some(names) = &names {
            for name in names.iter().filter(|name| name.ends_with(NEW_EXTENSION)) {
                // An owner died over it, so nobody relies on it.
                let _ = env.storage.remove(&directory.join(name));
            }
            // A killed owner may have renamed a file and not synced the name.
            env.storage.sync_dir(&directory).map_err(PutError::io("sync", &directory))?;
        }
        let mut files = BTreeMap::new();
        let mut rows: BTreeMap<Lsn, Rows> = BTreeMap::new();
        for name in names.iter().flatten() {
            let path = directory.join(name);
            let Some(parsed) = FileName::parse(name) else {
                if !name.ends_with(NEW_EXTENSION) {
                    tracing::warn!(path = %path.display(), "a file in quarantine that is not ours is left alone");
                }
                continue;
            };
            files.insert(parsed, length(env.storage.as_ref(), &path));
            if parsed.lsn <= settled {
                continue;
            }
            match file::read(env.storage.as_ref(), &path, source.epoch) {
                Ok((told, _)) if told.lsn == parsed.lsn => {
                    rows.entry(told.lsn).or_default().merge(&told.rows)
                }
                Ok((told, _)) => {
                    tracing::warn!(path = %path.display(), lsn = %told.lsn, "a file in quarantine has a wrong name");
                }
                Err(error) => tracing::warn!(reason = chain(&error), "a file in quarantine is left alone"),
            }
        }
        let mut reserve =
            Reserve::of(&env.storage, writer_directory.join(RESERVE_FILE), RESERVE_BYTES.min(max_bytes));
        reserve.hold();
        let rows: BTreeMap<Lsn, Arc<Rows>> = rows.into_iter().map(|(lsn, rows)| (lsn, rows.into())).collect();
        Ok(Quarantine {
            shared: Arc::new(Shared {
                env: env.clone(),
                directory,
                source,
                max_bytes,
                has_rows: AtomicBool::new(!rows.is_empty()),
                missing_bytes: AtomicU64::new(reserve.missing_bytes()),
                state: Mutex::new(State { used_bytes: used_bytes(&files), files, rows, reserve }),
            }),
        })
    }

    /// The rows of a frame that are here, if any are. Not to be asked of frames that are settled.
    pub(crate) fn rows_of(&self, lsn: Lsn) -> Option<Arc<Rows>> {
        if !self.shared.has_rows.load(Ordering::Acquire) {
            return None;
        }
        self.shared.state().rows.get(&lsn).cloned()
    }

    /// The highest frame that is not settled and has rows here; [`Lsn::ZERO`] if none has.
    pub(crate) fn highest(&self) -> Lsn {
        self.shared.state().rows.last_key_value().map_or(Lsn::ZERO, |(lsn, _)| *lsn)
    }

    /// Forgets the rows of frames up to here, for they are settled; their files stay.
    pub(crate) fn settled(&self, through: Lsn) {
        if !self.shared.has_rows.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.shared.state();
        state.rows = state.rows.split_off(&through.next());
        self.shared.has_rows.store(!state.rows.is_empty(), Ordering::Release);
    }

    /// Puts rows into quarantine: all of them, or none as far as anybody relies on it.
    ///
    /// # Errors
    ///
    /// [`PutError`]; the rows are still to be delivered then, or to be put here.
    ///
    /// # Durability
    ///
    /// When this returns, the rows are here after a power cut.
    pub(crate) fn put(&self, refused: &[RefusedRows]) -> Result<(), PutError> {
        let mut state = self.shared.state();
        let mut put = self.shared.put(&mut state, refused);
        if put.as_ref().is_err_and(PutError::is_out_of_space) {
            // What comes free now is for these rows, and the next ones.
            self.shared.missing_bytes.store(RESERVE_BYTES, Ordering::Release);
            let mut bytes = GIVEN_UP_BYTES;
            while put.as_ref().is_err_and(PutError::is_out_of_space) && state.reserve.give_up(bytes) {
                put = self.shared.put(&mut state, refused);
                bytes *= 2;
            }
        }
        self.shared.take_back_reserve(&mut state);
        let written = put?;
        for ((name, bytes), refused) in written.into_iter().zip(refused) {
            state.files.insert(name, bytes);
            state.used_bytes += on_disk(bytes);
            let mut rows = state.rows.get(&refused.lsn).map(|rows| (**rows).clone()).unwrap_or_default();
            rows.merge(&refused.numbers());
            state.rows.insert(refused.lsn, rows.into());
            tracing::warn!(
                lsn = %refused.lsn,
                rows = refused.rows.len(),
                path = %self.shared.directory.join(name.to_string()).display(),
                reason = refused.rows.first().map_or("", |(_, why)| &why.reason),
                "refused rows are in quarantine and will not be delivered"
            );
        }
        self.shared.has_rows.store(!state.rows.is_empty(), Ordering::Release);
        Ok(())
    }

    /// What of a frame is here; `None` if nothing is. Reads files.
    pub(crate) fn report_of(&self, lsn: Lsn) -> Option<FrameReport> {
        let Shared { env, directory, source, .. } = &*self.shared;
        let first = FileName { lsn, first_row: 0, number: 0 };
        let end = FileName { lsn: lsn.next(), ..first };
        let names: Vec<FileName> =
            self.shared.state().files.range(first..end).map(|(name, _)| *name).collect();
        let mut report: Option<FrameReport> = None;
        for name in names {
            let path = directory.join(name.to_string());
            let (rows, reason) = match file::read(env.storage.as_ref(), &path, source.epoch) {
                Ok((told, _)) => (told.rows, told.reason),
                // Somebody has taken it out. That its first row was here is certain.
                Err(error @ FileError::Io { .. }) => (Rows::of([name.first_row]), chain(&error)),
                Err(FileError::NotOurs { .. }) => continue,
            };
            match &mut report {
                Some(report) => report.rows.merge(&rows),
                None => report = Some(FrameReport { rows, reason, path }),
            }
        }
        report.filter(|report| !report.rows.is_empty())
    }

    /// How much space is missing in the reserve.
    pub(crate) fn missing_reserve_bytes(&self) -> u64 {
        self.shared.missing_bytes.load(Ordering::Acquire)
    }

    /// Takes back the space that is missing in the reserve, if it is to be had by now.
    pub(crate) fn take_back_reserve(&self) {
        if self.missing_reserve_bytes() > 0 {
            self.shared.take_back_reserve(&mut self.shared.state());
        }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// What there is. Files that somebody has taken out are noticed here.
    pub(crate) fn report(&self) -> QuarantineReport {
        let mut state = self.shared.state();
        self.shared.notice_removals(&mut state);
        QuarantineReport {
            directory: self.shared.directory.clone(),
            files: state.files.len() as u64,
            bytes: state.files.values().sum(),
            max_bytes: Some(self.shared.max_bytes),
        }
    }
}

/// What is in the quarantine of a log that nobody owns, or somebody else.
pub(crate) fn peek(env: &Env, writer_directory: &Path) -> QuarantineReport {
    let directory = writer_directory.join(DIRECTORY);
    let names = list(env.storage.as_ref(), &directory).ok().flatten().unwrap_or_default();
    let names: Vec<&String> = names.iter().filter(|name| FileName::parse(name).is_some()).collect();
    let bytes = names.iter().map(|name| length(env.storage.as_ref(), &directory.join(name))).sum();
    QuarantineReport { files: names.len() as u64, bytes, directory, max_bytes: None }
}

/// The names in the directory; `None` if there is none yet.
fn list(storage: &dyn Storage, directory: &Path) -> Result<Option<Vec<String>>, PutError> {
    match storage.list(directory) {
        // A name that is no text is none of ours.
        Ok(names) => Ok(Some(names.into_iter().filter_map(|name| name.into_string().ok()).collect())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PutError::io("list", directory)(error)),
    }
}

fn length(storage: &dyn Storage, path: &Path) -> u64 {
    storage.open(path, Access::Read).and_then(|file| file.length()).unwrap_or(0)
}

impl Shared {
    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_back_reserve(&self, state: &mut State) {
        state.reserve.hold();
        self.missing_bytes.store(state.reserve.missing_bytes(), Ordering::Release);
    }

    fn notice_removals(&self, state: &mut State) {
        if state.files.is_empty() {
            return;
        }
        if let Ok(names) = list(self.env.storage.as_ref(), &self.directory) {
            let names: BTreeSet<FileName> =
                names.iter().flatten().filter_map(|name| FileName::parse(name)).collect();
            state.files.retain(|name, _| names.contains(name));
            state.used_bytes = used_bytes(&state.files);
        }
    }

    /// Writes the files, and takes them away again if that fails half-way.
    fn put(&self, state: &mut State, refused: &[RefusedRows]) -> Result<Vec<(FileName, u64)>, PutError> {
        if self.max_bytes == 0 {
            return Err(PutError::Off);
        }
        self.env.storage.create_dir_all(&self.directory).map_err(PutError::io("create", &self.directory))?;
        let mut written: Vec<(FileName, u64)> = Vec::new();
        let done = self.write_all(state, refused, &mut written).and_then(|()| self.name_all(&written));
        if let Err(error) = done {
            for (name, _) in &written {
                // What stays is removed, or taken for what it is, by the next owner.
                let _ = self.env.storage.remove(&self.new_path(*name));
                let _ = self.env.storage.remove(&self.path(*name));
            }
            return Err(error);
        }
        Ok(written)
    }

    fn write_all(
        &self,
        state: &mut State,
        refused: &[RefusedRows],
        written: &mut Vec<(FileName, u64)>,
    ) -> Result<(), PutError> {
        self.check_quota(state, 1)?;
        for refused in refused {
            let mut name = FileName { lsn: refused.lsn, first_row: refused.first_row(), number: 0 };
            while state.files.contains_key(&name) || written.iter().any(|(other, _)| *other == name) {
                name.number += 1;
            }
            written.push((name, 0));
            let path = self.new_path(name);
            let _ = self.env.storage.remove(&path);
            let file = self.env.storage.open(&path, Access::New).map_err(PutError::io("create", &path))?;
            let bytes = file::write(file.as_ref(), refused, &self.source, self.env.clock.unix_micros())
                .map_err(|source| PutError::Encode { lsn: refused.lsn, source })?;
            if let Some(last) = written.last_mut() {
                last.1 = bytes;
            }
            self.check_quota(state, written.iter().map(|(_, bytes)| on_disk(*bytes)).sum())?;
        }
        Ok(())
    }

    /// Gives the files their names. From here on they are found.
    fn name_all(&self, written: &[(FileName, u64)]) -> Result<(), PutError> {
        for (name, _) in written {
            let (from, to) = (self.new_path(*name), self.path(*name));
            self.env.storage.rename(&from, &to).map_err(PutError::io("rename", &from))?;
        }
        self.env.storage.sync_dir(&self.directory).map_err(PutError::io("sync", &self.directory))
    }

    fn check_quota(&self, state: &mut State, needed_bytes: u64) -> Result<(), PutError> {
        if state.used_bytes + needed_bytes > self.max_bytes {
            self.notice_removals(state);
        }
        let used_bytes = state.used_bytes;
        if used_bytes + needed_bytes <= self.max_bytes {
            return Ok(());
        }
        let (directory, max_bytes) = (self.directory.clone(), self.max_bytes);
        Err(PutError::Full { directory, used_bytes, needed_bytes, max_bytes })
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.directory.join(name.to_string())
    }

    fn new_path(&self, name: FileName) -> PathBuf {
        let name = name.to_string();
        self.directory.join(format!("{}{NEW_EXTENSION}", name.trim_end_matches(".arrow")))
    }
}

fn used_bytes(files: &BTreeMap<FileName, u64>) -> u64 {
    files.values().map(|bytes| on_disk(*bytes)).sum()
}

fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}
