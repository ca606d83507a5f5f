//! Whose log a directory holds, and which process may write to it.

use std::{
    io::{self, ErrorKind, IoSlice},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    OpenError,
    format::{
        FORMAT_VERSION, IDENTITY_FILE, IDENTITY_FILE_NEW, LOCK_FILE, SEGMENT_HEADER, SegmentHeader,
        SegmentHeaderFault, parse_segment_name, parse_set_aside_name, segment_name,
    },
};
use crate::{
    io::{Access, Env, FileLock, LockAttempt},
    reserve::{LEDGER_RESERVE, is_out_of_space},
    types::{Epoch, SegmentId, TableName},
};

/// An identity file is a few lines; what is longer is not ours.
const IDENTITY_BYTES_MAX: usize = 64 * 1024;

/// Where the batches of a log go. It stands in the log, so that a log can be drained without the
/// program that filled it. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The table.
    pub table: TableName,
    /// The service.
    pub endpoint: String,
    /// The workspace whose Unity Catalog has the table, and that gives out tokens.
    pub unity_catalog_url: Option<String>,
}

/// What stands in the identity file.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: u32,
    epoch: Epoch,
    #[serde(flatten)]
    destination: Destination,
    created_unix_micros: i64,
}

/// A process that owns a writer directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// The name of its executable, if it could be told.
    pub program: Option<String>,
}

/// A writer directory that is ours alone until this value is dropped.
#[derive(Debug)]
pub struct LogDirectory {
    path: PathBuf,
    epoch: Epoch,
    destination: Destination,
    _lock: Box<dyn FileLock>,
}

impl LogDirectory {
    /// Takes a directory into possession; what is missing of it is created.
    ///
    /// If the table is the same but the service is reached differently than before, the log goes to
    /// where it is asked to go now.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] names the process that owns the directory, [`OpenError::OtherTable`]
    /// the table whose batches are in it.
    pub fn open(env: &Env, dir: &Path, destination: &Destination) -> Result<LogDirectory, OpenError> {
        LogDirectory::take(env, dir, destination, true)
    }

    /// The same for somebody who delivers this log and has not filled it: whose log it is, and where it goes otherwise, stays
    /// as it is written. Only a log that does not say it is given the destination, and one that is made now.
    ///
    /// # Errors
    ///
    /// As [`LogDirectory::open`].
    pub(crate) fn open_unchanged(
        env: &Env,
        dir: &Path,
        destination: &Destination,
    ) -> Result<LogDirectory, OpenError> {
        LogDirectory::take(env, dir, destination, false)
    }

    fn take(
        env: &Env,
        dir: &Path,
        destination: &Destination,
        moves: bool,
    ) -> Result<LogDirectory, OpenError> {
        env.storage.create_dir_all(dir).map_err(storage("create", dir))?;
        let lock = take_lock(env, dir)?;
        let stored = read_identity(env, dir)?;
        let epoch = match &stored {
            Some(stored) if stored.destination.table != destination.table => {
                return Err(OpenError::OtherTable {
                    dir: dir.to_owned(),
                    stored: stored.destination.table.clone(),
                    asked: destination.table.clone(),
                });
            }
            Some(stored) => {
                refuse_newest_of_the_future(env, dir)?;
                stored.epoch
            }
            None => epoch_of_segments(env, dir)?.unwrap_or_else(|| Epoch::new(env.rng.next_u64())),
        };
        let destination = match &stored {
            Some(stored) if !moves => &stored.destination,
            _ => destination,
        };
        if stored.as_ref().is_none_or(|stored| stored.destination != *destination) {
            let identity = Identity {
                format: FORMAT_VERSION,
                epoch,
                destination: destination.clone(),
                created_unix_micros: stored
                    .as_ref()
                    .map_or_else(|| env.clock.unix_micros(), |stored| stored.created_unix_micros),
            };
            write_identity(env, dir, &identity)?;
        }
        Ok(LogDirectory { path: dir.to_owned(), epoch, destination: destination.clone(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where the log's batches go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }
}

/// The live owner of a writer directory, if it has one. Takes no lock.
pub fn owner(env: &Env, dir: &Path) -> io::Result<Option<Owner>> {
    let note = env.storage.lock_note(&dir.join(LOCK_FILE))?;
    Ok(note.map(|note| parse_note(&note).unwrap_or(Owner { pid: 0, program: None })))
}

/// The same for those who only tell of it. A lock that cannot be read counts as one that somebody has, process 0: that it has
/// none is not known.
pub(crate) fn owner_as_far_as_known(env: &Env, dir: &Path) -> Option<Owner> {
    owner(env, dir).unwrap_or(Some(Owner { pid: 0, program: None }))
}

/// Whether there is a log in this directory.
pub fn is_log(env: &Env, dir: &Path) -> bool {
    matches!(find_log(env, dir), Ok(true))
}

/// Whether there is a log in this directory, if that can be told.
///
/// # Errors
///
/// [`OpenError::Storage`] if the directory, or the file that says whose log it is, cannot be read.
pub(crate) fn find_log(env: &Env, dir: &Path) -> Result<bool, OpenError> {
    match look(env, dir) {
        Err(OpenError::NoLog { .. }) => Ok(false),
        Err(OpenError::Storage { source, .. })
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error @ OpenError::Storage { .. }) => Err(error),
        // A log whose identity cannot be understood is still one.
        _ => Ok(true),
    }
}

/// Whose log this is, for those who only look.
pub(super) fn look(env: &Env, dir: &Path) -> Result<(Epoch, Option<Destination>), OpenError> {
    match read_identity(env, dir)? {
        Some(identity) => Ok((identity.epoch, Some(identity.destination))),
        None => {
            let epoch = epoch_of_segments(env, dir)?;
            epoch.map(|epoch| (epoch, None)).ok_or_else(|| OpenError::NoLog { dir: dir.to_owned() })
        }
    }
}

/// The segments in a directory, by number.
pub(super) struct Segments {
    pub(super) ids: Vec<SegmentId>,
    /// Those that are marked as damaged, and what was set aside of others before.
    pub(super) marked: Vec<SegmentId>,
}

/// Which segments there are.
pub(super) fn segments(env: &Env, dir: &Path) -> Result<Segments, OpenError> {
    let names = env.storage.list(dir).map_err(storage("list", dir))?;
    let sorted = |parse: fn(&str) -> Option<SegmentId>| {
        let mut ids: Vec<SegmentId> = names.iter().filter_map(|name| parse(name.to_str()?)).collect();
        ids.sort_unstable();
        ids
    };
    Ok(Segments { ids: sorted(parse_segment_name), marked: sorted(parse_set_aside_name) })
}

pub(super) fn storage(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Storage { action, path: path.to_owned(), source }
}

fn take_lock(env: &Env, dir: &Path) -> Result<Box<dyn FileLock>, OpenError> {
    let path = dir.join(LOCK_FILE);
    let program = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.file_name()?.to_string_lossy().into_owned()));
    let note = Owner { pid: std::process::id(), program };
    let note = serde_json::to_vec(&note).map_err(|error| storage("lock", &path)(error.into()))?;
    match env.storage.lock(&path, &note).map_err(storage("lock", &path))? {
        LockAttempt::Held(lock) => Ok(lock),
        LockAttempt::Busy { note } => {
            let owner = parse_note(&note);
            Err(OpenError::Locked {
                dir: dir.to_owned(),
                pid: owner.as_ref().map(|owner| owner.pid),
                program: owner.and_then(|owner| owner.program),
            })
        }
    }
}

fn parse_note(note: &[u8]) -> Option<Owner> {
    serde_json::from_slice(note).ok()
}

fn read_identity(env: &Env, dir: &Path) -> Result<Option<Identity>, OpenError> {
    let path = dir.join(IDENTITY_FILE);
    let file = match env.storage.open(&path, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(storage("open", &path))?,
    };
    let mut text = vec![0; IDENTITY_BYTES_MAX];
    let length = file.read_at(&mut text, 0).map_err(storage("read", &path))?;
    text.truncate(length);

    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let unclear =
        |error: serde_json::Error| OpenError::Identity { path: path.clone(), reason: error.to_string() };
    let Version { format } = serde_json::from_slice(&text).map_err(unclear)?;
    if format != FORMAT_VERSION {
        return Err(OpenError::UnsupportedVersion { path, version: format, known: FORMAT_VERSION });
    }
    serde_json::from_slice(&text).map(Some).map_err(unclear)
}

/// Writes the identity beside the old one and gives it its name when it is durable: a crash leaves
/// the one or the other. On a full disk the ledger's reserve makes room, which the ledger takes again as soon as it can.
fn write_identity(env: &Env, dir: &Path, identity: &Identity) -> Result<(), OpenError> {
    let path = dir.join(IDENTITY_FILE);
    let new = dir.join(IDENTITY_FILE_NEW);
    let mut text = serde_json::to_vec_pretty(identity)
        .map_err(|error| OpenError::Identity { path: path.clone(), reason: error.to_string() })?;
    text.push(b'\n');
    let write = || -> io::Result<()> {
        match env.storage.remove(&new) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result?,
        }
        let file = env.storage.open(&new, Access::New)?;
        file.write_at(&mut [IoSlice::new(&text)], 0)?;
        file.sync_all()?;
        env.storage.rename(&new, &path)?;
        env.storage.sync_dir(dir)
    };
    let mut written = write();
    if written.as_ref().is_err_and(is_out_of_space) && env.storage.remove(&dir.join(LEDGER_RESERVE)).is_ok() {
        written = write();
    }
    written.map_err(storage("write", &path))
}

/// Where the identity of a log stands.
pub(crate) fn identity_path(dir: &Path) -> PathBuf {
    dir.join(IDENTITY_FILE)
}

/// Whose log this is, by its identity file alone; none if that is missing.
///
/// # Errors
///
/// [`OpenError::Identity`] if it cannot be understood, [`OpenError::UnsupportedVersion`] if a later version wrote it.
pub(crate) fn identity(env: &Env, dir: &Path) -> Result<Option<(Epoch, Destination)>, OpenError> {
    Ok(read_identity(env, dir)?.map(|identity| (identity.epoch, identity.destination)))
}

/// Takes the lock of a writer directory, whatever is in it.
///
/// # Errors
///
/// [`OpenError::Locked`] names the process that has it.
pub(crate) fn lock(env: &Env, dir: &Path) -> Result<Box<dyn FileLock>, OpenError> {
    take_lock(env, dir)
}

/// Says whose log this is from now on. The caller has the lock.
///
/// # Errors
///
/// [`OpenError::Storage`] if the file system fails; then the one or the other is written.
pub(crate) fn write_new_identity(
    env: &Env,
    dir: &Path,
    epoch: Epoch,
    destination: &Destination,
) -> Result<(), OpenError> {
    let created_unix_micros = env.clock.unix_micros();
    let destination = destination.clone();
    write_identity(env, dir, &Identity { format: FORMAT_VERSION, epoch, destination, created_unix_micros })
}

/// A later version of this program was here last if it wrote the newest segment. That is to be known before anything of the
/// log is touched, such as the ledger, which changes its files when it is opened. What cannot be read is found by recovery.
fn refuse_newest_of_the_future(env: &Env, dir: &Path) -> Result<(), OpenError> {
    let Some(newest) = segments(env, dir)?.ids.last().copied() else { return Ok(()) };
    let path = dir.join(segment_name(newest));
    match read_segment_header(env, &path) {
        Ok(Err(SegmentHeaderFault::Version(version))) => {
            Err(OpenError::UnsupportedVersion { path, version, known: FORMAT_VERSION })
        }
        _ => Ok(()),
    }
}

/// The epoch in the newest segment whose header is whole; none if there are no segments.
fn epoch_of_segments(env: &Env, dir: &Path) -> Result<Option<Epoch>, OpenError> {
    let ids = segments(env, dir)?.ids;
    for id in ids.iter().rev() {
        let path = dir.join(segment_name(*id));
        let header = read_segment_header(env, &path).map_err(storage("read", &path))?;
        match header {
            Ok(header) => return Ok(Some(header.epoch)),
            Err(SegmentHeaderFault::Checksum) => {}
            Err(SegmentHeaderFault::Version(version)) => {
                return Err(OpenError::UnsupportedVersion { path, version, known: FORMAT_VERSION });
            }
        }
    }
    if ids.is_empty() {
        return Ok(None);
    }
    // Giving such a log a new epoch would make strangers of all its frames.
    Err(OpenError::Identity {
        path: dir.join(IDENTITY_FILE),
        reason: "it is missing, and no segment header is whole".to_owned(),
    })
}

pub(super) fn read_segment_header(
    env: &Env,
    path: &Path,
) -> io::Result<Result<SegmentHeader, SegmentHeaderFault>> {
    let file = env.storage.open(path, Access::Read)?;
    let mut block = vec![0; SEGMENT_HEADER];
    let length = file.read_at(&mut block, 0)?;
    Ok(SegmentHeader::decode(&block[..length]))
}
