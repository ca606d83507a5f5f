//! The destination table was renamed, or the service moved: what waits for it goes there.
//!
//! ```text
//!  <old>/writer-001 ─► copies ─► <new>/writer-004.remap ─► ledger: columns and stream forgotten ─► LOG: new ─► <new>/writer-004
//! ```
//!
//! Each arrow is one durable step. A log in between is found by every command under the name that it has then, belongs to the
//! old table until its identity file says the new one, and is taken by no wrapper: its name is none of a writer. A second run
//! goes on where the first one ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StatusError, find_logs, status};
use crate::deaths::{Death, reached};
use crate::error::{Coded, ErrorCode};
use crate::io::Env;
use crate::ledger::{self, Ledger, LedgerError, LedgerOpened, Streams};
use crate::types::{Epoch, TableName};
use crate::wal::{self, Destination, OpenError};
use crate::wrapper::{WRITERS_MAX, table_directory, writer_name};

/// Version of [`Remap`] as JSON; grows when a field changes its meaning or goes away.
pub const REMAP_VERSION: u32 = 1;

/// The name of a directory on its way has this at its end.
const ON_ITS_WAY: &str = ".remap";
/// Where copies of what is changed are, in the writer directory.
const COPIES: &str = "before-remap-";

/// A log that goes to another table, or another service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remap {
    /// Where it is, or was.
    pub directory: PathBuf,
    /// Where it will be, or is.
    pub to: PathBuf,
    /// Where its batches go until then.
    pub before: Destination,
    /// Where they go after that.
    pub after: Destination,
    /// Rows that wait.
    pub waiting_rows: u64,
    /// Of these, rows that may be in the old table already: they were sent on a persistent stream of it, and nobody has said
    /// what became of them. They are counted as doubtful.
    pub doubtful_rows: u64,
    /// Whether it was done, and is no plan.
    pub executed: bool,
    /// Where the copies of what was changed are; `None` in a plan.
    pub copies: Option<PathBuf>,
}

/// Where the service is; what is not given stays.
#[derive(Clone, Debug, Default)]
pub struct RemapOptions {
    /// The endpoint.
    pub endpoint: Option<String>,
    /// The workspace.
    pub unity_catalog_url: Option<String>,
}

/// Logs that could not be given to another table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemapError {
    /// There is nothing to do.
    #[error("no log in or below {root} is for {table}; zerobus-wal status shows which there are", root = .root.display())]
    NoLog {
        /// Where was looked.
        root: PathBuf,
        /// For logs of this table.
        table: TableName,
    },
    /// Both names are the same, and nothing else is given.
    #[error("{table} is the table already; give another one, or --endpoint or --unity-catalog-url")]
    NothingChanges {
        /// The table.
        table: TableName,
    },
    /// The table has as many logs as it can have.
    #[error("{directory} has no free number for another writer", directory = .directory.display())]
    NoNumber {
        /// The directory of the new table.
        directory: PathBuf,
    },
    /// A log cannot be looked at.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// There is a live owner, or the identity cannot be written.
    #[error("the log in {directory} cannot be changed", directory = .directory.display())]
    Log {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// The ledger cannot be changed.
    #[error("the ledger in {directory} cannot be changed", directory = .directory.display())]
    Ledger {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// The file system failed.
    #[error("cannot {action} {path}", path = .path.display())]
    Storage {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl RemapError {
    fn storage(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RemapError {
        move |source| RemapError::Storage { action, path: path.to_owned(), source }
    }
}

impl Coded for RemapError {
    fn code(&self) -> ErrorCode {
        match self {
            RemapError::NoLog { .. } | RemapError::NothingChanges { .. } | RemapError::NoNumber { .. } => {
                ErrorCode::Configuration
            }
            RemapError::Status(error) => error.code(),
            RemapError::Log { source, .. } => source.code(),
            RemapError::Ledger { source, .. } => source.code(),
            RemapError::Storage { .. } => ErrorCode::Storage,
        }
    }
}

/// Gives the logs of a table, at and below a directory, to another one, or to another service; only tells which with
/// `executes` false. The next wrapper of the new table delivers what waits in them, or `zerobus-wal drain`.
///
/// # Errors
///
/// [`RemapError`]; [`OpenError::Locked`] in it if one of them has a live owner. Those before it are done.
pub fn remap(
    root: &Path,
    old: &TableName,
    new: &TableName,
    options: &RemapOptions,
    executes: bool,
) -> Result<Vec<Remap>, RemapError> {
    let env = Env::os();
    if old == new && options.endpoint.is_none() && options.unity_catalog_url.is_none() {
        return Err(RemapError::NothingChanges { table: old.clone() });
    }
    let mut remaps = Vec::new();
    let mut taken = Vec::new();
    for directory in find_logs(root)? {
        let found = wal::identity(&env, &directory);
        let log = |source| RemapError::Log { directory: directory.clone(), source };
        let Some((epoch, before)) = found.map_err(log)? else { continue };
        let is_on_its_way = directory.to_string_lossy().ends_with(ON_ITS_WAY);
        if before.table != *old && !(is_on_its_way && before.table == *new) {
            continue;
        }
        let mut remap = planned(&env, &directory, before, new, options, &taken)?;
        taken.push(remap.to.clone());
        if executes {
            execute(&env, &mut remap, epoch)?;
        }
        remaps.push(remap);
    }
    if remaps.is_empty() {
        return Err(RemapError::NoLog { root: root.to_owned(), table: old.clone() });
    }
    Ok(remaps)
}

fn planned(
    env: &Env,
    directory: &Path,
    before: Destination,
    new: &TableName,
    options: &RemapOptions,
    taken: &[PathBuf],
) -> Result<Remap, RemapError> {
    let log = |source| RemapError::Log { directory: directory.to_owned(), source };
    let owner = wal::owner(env, directory).map_err(RemapError::storage("read the lock in", directory))?;
    if let Some(owner) = owner {
        let dir = directory.to_owned();
        return Err(log(OpenError::Locked { dir, pid: Some(owner.pid), program: owner.program }));
    }
    let state = status(directory)?;
    let peeked = ledger::peek(directory, state.epoch);
    let peeked = peeked.map_err(|source| RemapError::Ledger { directory: directory.to_owned(), source })?;
    let streams = peeked.streams.read.unwrap_or_default();
    let to = match directory.to_string_lossy().strip_suffix(ON_ITS_WAY) {
        Some(place) if !Path::new(place).exists() => PathBuf::from(place),
        // Somebody has made a log there meanwhile.
        Some(place) => free_place(Path::new(place).parent().unwrap_or(directory), taken)?,
        None if before.table == *new => directory.to_owned(),
        None => {
            let around = directory.parent().and_then(Path::parent).unwrap_or(directory);
            free_place(&table_directory(around, new), taken)?
        }
    };
    let endpoint = options.endpoint.clone().unwrap_or_else(|| before.endpoint.clone());
    let unity_catalog_url = options.unity_catalog_url.clone().or_else(|| before.unity_catalog_url.clone());
    Ok(Remap {
        directory: directory.to_owned(),
        to,
        after: Destination { table: new.clone(), endpoint, unity_catalog_url },
        before,
        waiting_rows: state.rows.waiting,
        doubtful_rows: streams.current.as_ref().map_or(0, |current| current.tail_rows()),
        executed: false,
        copies: None,
    })
}

/// The first writer directory that is not there, nor on its way there.
fn free_place(table_directory: &Path, taken: &[PathBuf]) -> Result<PathBuf, RemapError> {
    let places = (1..=WRITERS_MAX).map(|number| table_directory.join(writer_name(number)));
    let is_free = |place: &PathBuf| !place.exists() && !on_its_way(place).exists() && !taken.contains(place);
    places
        .into_iter()
        .find(is_free)
        .ok_or_else(|| RemapError::NoNumber { directory: table_directory.to_owned() })
}

fn on_its_way(place: &Path) -> PathBuf {
    let mut name = place.to_owned().into_os_string();
    name.push(ON_ITS_WAY);
    name.into()
}

fn execute(env: &Env, remap: &mut Remap, epoch: Epoch) -> Result<(), RemapError> {
    let Remap { directory, to, before, after, .. } = &*remap;
    // It is that of the file, and stays ours whatever the directory is called.
    let lock = wal::lock(env, directory);
    let _lock = lock.map_err(|source| RemapError::Log { directory: directory.clone(), source })?;
    let mut place = directory.clone();
    let mut copies = None;
    if before != after {
        copies = Some(copy(env, directory)?);
        reached(Death::RemapStep);
        if place != *to && place != on_its_way(to) {
            rename(env, &place, &on_its_way(to))?;
            place = on_its_way(to);
            reached(Death::RemapStep);
        }
        forget(&place, epoch)?;
        reached(Death::RemapStep);
        let log = |source| RemapError::Log { directory: place.clone(), source };
        wal::write_new_identity(env, &place, epoch, after).map_err(log)?;
        reached(Death::RemapStep);
    }
    if place != *to {
        rename(env, &place, to)?;
    }
    let copied = |copies: PathBuf| copies.strip_prefix(directory).map(|name| to.join(name)).unwrap_or(copies);
    (remap.executed, remap.copies) = (true, copies.map(copied));
    Ok(())
}

fn rename(env: &Env, from: &Path, to: &Path) -> Result<(), RemapError> {
    let (from_parent, to_parent) = (from.parent().unwrap_or(from), to.parent().unwrap_or(to));
    env.storage.create_dir_all(to_parent).map_err(RemapError::storage("create", to_parent))?;
    env.storage.rename(from, to).map_err(RemapError::storage("rename", from))?;
    for parent in [to_parent, from_parent] {
        env.storage.sync_dir(parent).map_err(RemapError::storage("sync", parent))?;
    }
    Ok(())
}

/// The columns of the old table, and what was sent on a stream of it, are about another table.
fn forget(directory: &Path, epoch: Epoch) -> Result<(), RemapError> {
    let failed = |source| RemapError::Ledger { directory: directory.to_owned(), source };
    let LedgerOpened { mut ledger, record, ranges, streams, .. } =
        Ledger::open(directory, epoch).map_err(failed)?;
    let mut streams = streams.unwrap_or_default();
    let doubtful_rows = streams.current.as_ref().map_or(0, |current| current.tail_rows());
    streams = Streams { doubtful_rows: streams.doubtful_rows + doubtful_rows, current: None, ..streams };
    ledger.remember_ranges(&ranges);
    ledger.remember_table(None);
    ledger.remember_streams(&streams);
    ledger.checkpoint(&record).map_err(failed)
}

/// Copies what is changed: the identity and the ledger.
fn copy(env: &Env, directory: &Path) -> Result<PathBuf, RemapError> {
    fn copy_tree(env: &Env, from: &Path, to: &Path) -> Result<(), RemapError> {
        env.storage.create_dir_all(to).map_err(RemapError::storage("create", to))?;
        for name in env.storage.list(from).map_err(RemapError::storage("list", from))? {
            let (from, to) = (from.join(&name), to.join(&name));
            match from.is_dir() {
                true => copy_tree(env, &from, &to)?,
                false => copy_file(&from, &to)?,
            }
        }
        env.storage.sync_dir(to).map_err(RemapError::storage("sync", to))
    }
    fn copy_file(from: &Path, to: &Path) -> Result<(), RemapError> {
        fs::copy(from, to).map_err(RemapError::storage("copy", from))?;
        let synced = fs::File::open(to).and_then(|file| file.sync_all());
        synced.map_err(RemapError::storage("sync", to))
    }
    let names = (1_u32..).map(|number| directory.join(format!("{COPIES}{number:03}")));
    let target = names.into_iter().find(|path| !path.exists()).unwrap_or_default();
    env.storage.create_dir_all(&target).map_err(RemapError::storage("create", &target))?;
    let identity = wal::identity_path(directory);
    copy_file(&identity, &target.join(identity.file_name().unwrap_or_default()))?;
    let ledger = directory.join(ledger::DIRECTORY);
    if ledger.is_dir() {
        copy_tree(env, &ledger, &target.join(ledger::DIRECTORY))?;
    }
    // With the ledger: one that is put back without it would be older than its mark.
    let mark = directory.join(ledger::MARK_FILE);
    if mark.is_file() {
        copy_file(&mark, &target.join(ledger::MARK_FILE))?;
    }
    env.storage.sync_dir(&target).map_err(RemapError::storage("sync", &target))?;
    Ok(target)
}
