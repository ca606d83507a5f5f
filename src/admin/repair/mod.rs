//! Mending a log that cannot be opened, or that reports the same files at each opening. A plan first; nothing is ever
//! deleted, and the whole directory is copied before anything is changed.
//!
//! What the log deals with by itself is left to it: torn ends, damaged frames, a lost ledger. Mended is what it cannot
//! know: whose it is when its identity is lost, and what to do with files that are not what their names say.

mod backup;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Progress;
use super::verify::set_aside_segments;
use crate::error::{Coded, ErrorCode, chain};
use crate::io::Env;
use crate::ledger::{self, Ledger, LedgerError};
use crate::types::{Epoch, TableName};
use crate::wal::{self, Destination, OpenError, Stray, Strays};

/// Version of [`Repair`] as JSON; grows when a field changes its meaning or goes away.
pub const REPAIR_VERSION: u32 = 1;

/// Where files go that are no part of the log.
const SET_ASIDE: &str = "set-aside";

/// What is done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairAction {
    /// A segment gets its right name back.
    Rename,
    /// It is moved out of the log, and kept.
    SetAside,
    /// The identity file is written anew.
    WriteIdentity,
    /// The ledger is moved aside; the next one begins with what the log says.
    RenewLedger,
}

impl RepairAction {
    /// The words for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            RepairAction::Rename => "rename",
            RepairAction::SetAside => "set aside",
            RepairAction::WriteIdentity => "write anew",
            RepairAction::RenewLedger => "renew",
        }
    }
}

/// One step of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStep {
    /// What is done.
    pub action: RepairAction,
    /// To this file or directory.
    pub path: PathBuf,
    /// Where it goes, if it goes somewhere.
    pub to: Option<PathBuf>,
    /// Why.
    pub reason: String,
}

/// What is wrong with a log, and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The writer directory.
    pub directory: PathBuf,
    /// The table, as far as it is known.
    pub table: Option<TableName>,
    /// Whether it was done, and is no plan.
    pub executed: bool,
    /// The steps, in order; none if there is nothing to mend.
    pub steps: Vec<RepairStep>,
    /// What is wrong and is left as it is, with the reason.
    pub left: Vec<String>,
    /// The command that exports what can still be read of damaged frames, if there may be some.
    pub salvage: Option<String>,
    /// Bytes that are copied before anything is changed.
    pub backup_bytes: u64,
    /// Where they were copied to; `None` in a plan, or if nothing was to be done.
    pub backup: Option<PathBuf>,
}

/// What the one who repairs knows and the log may have lost.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Where the batches go; only used if the identity file is lost and no log beside it tells.
    pub endpoint: Option<String>,
    /// The workspace of that.
    pub unity_catalog_url: Option<String>,
    /// Where the copy goes; it must not exist. By default into the writer directory.
    pub backup: Option<PathBuf>,
}

/// A log that cannot be mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// There is a live owner, or the log cannot be looked at.
    #[error("the log in {directory} cannot be repaired", directory = .directory.display())]
    Log {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// Nothing says where its batches go.
    #[error(
        "the log in {directory} has lost its identity, and no log beside it says where its batches go; give --endpoint \
         and --unity-catalog-url",
        directory = .directory.display()
    )]
    UnknownDestination {
        /// The writer directory.
        directory: PathBuf,
    },
    /// The directory does not say which table it is for.
    #[error(
        "the log in {directory} has lost its identity, and {name:?}, the directory around it, is no name of a table; \
         move it to <wal_dir>/<catalog.schema.table>/writer-NNN",
        directory = .directory.display()
    )]
    UnknownTable {
        /// The writer directory.
        directory: PathBuf,
        /// The name of the directory around it.
        name: String,
    },
    /// There is no frame that says which log it was.
    #[error("nothing in {directory} can be made out: no segment header and no frame is whole", directory = .directory.display())]
    UnknownEpoch {
        /// The writer directory.
        directory: PathBuf,
    },
    /// The copy has no room.
    #[error(
        "the copy needs {needed_bytes} bytes in {path}, {free_bytes} are free; free space, or give --backup a directory on \
         another disk",
        path = .path.display()
    )]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// What it needs.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
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
        source: std::io::Error,
    },
    /// The ledger cannot be looked at.
    #[error("the ledger in {directory} cannot be renewed", directory = .directory.display())]
    Ledger {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// It was interrupted before anything was changed.
    #[error("interrupted while the log was copied; nothing of it was changed")]
    Stopped,
}

impl RepairError {
    fn storage(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RepairError {
        move |source| RepairError::Storage { action, path: path.to_owned(), source }
    }
}

impl Coded for RepairError {
    fn code(&self) -> ErrorCode {
        match self {
            RepairError::Log { source, .. } => source.code(),
            RepairError::UnknownDestination { .. } | RepairError::UnknownTable { .. } => {
                ErrorCode::Configuration
            }
            RepairError::UnknownEpoch { .. } => ErrorCode::Corruption,
            RepairError::NoRoom { .. } | RepairError::Storage { .. } => ErrorCode::Storage,
            RepairError::Ledger { source, .. } => source.code(),
            RepairError::Stopped => ErrorCode::Closed,
        }
    }
}

/// Finds what is wrong with the log in this directory and, if `executes`, mends it: copies the directory first, counting
/// bytes in `progress`, then changes one file after the other. Each change is whole or not there, whenever this is killed;
/// a second run does what is left.
///
/// # Errors
///
/// [`RepairError`]; [`OpenError::Locked`] in it if the log has a live owner.
pub fn repair(
    directory: &Path,
    options: &RepairOptions,
    executes: bool,
    progress: &Progress,
) -> Result<Repair, RepairError> {
    let env = Env::os();
    let log = |source| RepairError::Log { directory: directory.to_owned(), source };
    // Beside a live owner files come and go, and nothing is wrong with that.
    let _lock = match executes {
        true => Some(wal::lock(&env, directory).map_err(log)?),
        false => {
            let owner =
                wal::owner(&env, directory).map_err(RepairError::storage("read the lock in", directory))?;
            if let Some(owner) = owner {
                let dir = directory.to_owned();
                return Err(log(OpenError::Locked { dir, pid: Some(owner.pid), program: owner.program }));
            }
            None
        }
    };
    let plan = plan(&env, directory, options)?;
    let Plan { mut repair, epoch, destination } = plan;
    if !executes || repair.steps.is_empty() {
        return Ok(repair);
    }
    repair.backup =
        Some(backup::copy(&env, directory, options.backup.as_deref(), repair.backup_bytes, progress)?);
    for step in &repair.steps {
        match (step.action, &step.to) {
            (RepairAction::WriteIdentity, _) => {
                wal::write_new_identity(&env, directory, epoch, &destination).map_err(log)?;
            }
            (RepairAction::RenewLedger, _) => {
                let ledger = |source| RepairError::Ledger { directory: directory.to_owned(), source };
                drop(Ledger::open(directory, epoch).map_err(ledger)?);
            }
            (RepairAction::Rename | RepairAction::SetAside, Some(to)) => {
                let parent = to.parent().unwrap_or(directory);
                env.storage.create_dir_all(parent).map_err(RepairError::storage("create", parent))?;
                env.storage.rename(&step.path, to).map_err(RepairError::storage("rename", &step.path))?;
                for dir in [parent, directory] {
                    env.storage.sync_dir(dir).map_err(RepairError::storage("sync", dir))?;
                }
            }
            (RepairAction::Rename | RepairAction::SetAside, None) => {}
        }
    }
    repair.executed = true;
    Ok(repair)
}

struct Plan {
    repair: Repair,
    epoch: Epoch,
    destination: Destination,
}

fn plan(env: &Env, directory: &Path, options: &RepairOptions) -> Result<Plan, RepairError> {
    let log = |source| RepairError::Log { directory: directory.to_owned(), source };
    let mut steps = Vec::new();
    let identity_path = wal::identity_path(directory);
    let (epoch, destination) = match wal::identity(env, directory) {
        Ok(Some(found)) => found,
        lost @ (Ok(None) | Err(OpenError::Identity { .. })) => {
            let unknown = || RepairError::UnknownEpoch { directory: directory.to_owned() };
            let epoch = wal::epoch(env, directory).map_err(log)?.ok_or_else(unknown)?;
            let destination = lost_destination(env, directory, options)?;
            let reason = match lost {
                Err(error) => {
                    let to = Some(free_name(&directory.join(SET_ASIDE), &identity_path));
                    let (action, path) = (RepairAction::SetAside, identity_path.clone());
                    steps.push(RepairStep { action, path, to, reason: chain(&error) });
                    "it cannot be understood"
                }
                Ok(_) => "it is missing",
            };
            let reason =
                format!("{reason}; its frames are for {}, {}", destination.table, destination.endpoint);
            let (action, path) = (RepairAction::WriteIdentity, identity_path);
            steps.push(RepairStep { action, path, to: None, reason });
            (epoch, destination)
        }
        Err(error) => return Err(log(error)),
    };
    let Strays { files, damage } = wal::strays(env, directory, epoch).map_err(log)?;
    let mut taken = Vec::new();
    for (path, stray) in files {
        let aside = || free_name(&directory.join(SET_ASIDE), &path);
        let (action, to, reason) = match stray {
            Stray::Misnamed { right } if !right.exists() && !taken.contains(&right) => {
                taken.push(right.clone());
                (RepairAction::Rename, right, "it is a segment of this log under another one's name")
            }
            Stray::Misnamed { .. } => {
                (RepairAction::SetAside, aside(), "it is a copy of a segment that is there")
            }
            Stray::Foreign => (RepairAction::SetAside, aside(), "it is a segment of another log"),
            Stray::Unreadable => (RepairAction::SetAside, aside(), "nothing in it can be made out"),
        };
        steps.push(RepairStep { action, path, to: Some(to), reason: reason.to_owned() });
    }
    let by_itself = |damage| format!("{damage}; it is stepped over and counted");
    let may_hold_damage =
        !steps.is_empty() || !damage.is_empty() || !set_aside_segments(env, directory).is_empty();
    let salvage = may_hold_damage.then(|| {
        format!("zerobus-wal export {} --state damaged --output damaged.parquet", directory.display())
    });
    let mut left: Vec<String> = damage.into_iter().map(by_itself).collect();
    match ledger::peek(directory, epoch) {
        Ok(remembered) => left.extend(remembered.streams.read.err().map(|reason| {
            format!(
                "which persistent stream was in use is not known ({reason}); the next owner begins a new one"
            )
        })),
        Err(error) if error.is_damage() => steps.push(RepairStep {
            action: RepairAction::RenewLedger,
            path: directory.join(ledger::DIRECTORY),
            to: None,
            reason: format!("{}; what was delivered and not freed is delivered again", chain(&error)),
        }),
        Err(error) => left.push(chain(&error)),
    }
    let backup_bytes = match steps.is_empty() {
        true => 0,
        false => backup::bytes(directory)?,
    };
    let repair = Repair {
        directory: directory.to_owned(),
        table: Some(destination.table.clone()),
        executed: false,
        steps,
        left,
        salvage,
        backup_bytes,
        backup: None,
    };
    Ok(Plan { repair, epoch, destination })
}

/// Where the batches of a log go: as it says itself, and if it has lost that, as a repair would find it. `place` is the endpoint
/// and the workspace that somebody has given.
///
/// # Errors
///
/// [`RepairError`] if its identity cannot be understood, or nothing says where its batches go.
#[cfg(feature = "cli")]
pub(crate) fn destination(
    directory: &Path,
    place: Option<(String, Option<String>)>,
) -> Result<Destination, RepairError> {
    let env = Env::os();
    let log = |source| RepairError::Log { directory: directory.to_owned(), source };
    if let Some((_, destination)) = wal::identity(&env, directory).map_err(log)? {
        return Ok(destination);
    }
    let (endpoint, unity_catalog_url) = place.unzip();
    let options = RepairOptions { endpoint, unity_catalog_url: unity_catalog_url.flatten(), backup: None };
    lost_destination(&env, directory, &options)
}

/// Where the batches of a log go that has forgotten it: the directory has the name of the table, and a log beside it goes
/// to the same service.
fn lost_destination(
    env: &Env,
    directory: &Path,
    options: &RepairOptions,
) -> Result<Destination, RepairError> {
    let around = directory.parent().unwrap_or(directory);
    let name = around.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unknown = |_| RepairError::UnknownTable { directory: directory.to_owned(), name: name.clone() };
    let table: TableName = name.parse().map_err(unknown)?;
    if let Some(endpoint) = &options.endpoint {
        let unity_catalog_url = options.unity_catalog_url.clone();
        return Ok(Destination { table, endpoint: endpoint.clone(), unity_catalog_url });
    }
    let names = env.storage.list(around).map_err(RepairError::storage("list", around))?;
    let beside = names.iter().map(|name| around.join(name)).filter(|path| path.as_path() != directory);
    let told = beside.filter_map(|path| wal::identity(env, &path).ok().flatten());
    let same = told.map(|(_, destination)| destination).find(|destination| destination.table == table);
    same.ok_or_else(|| RepairError::UnknownDestination { directory: directory.to_owned() })
}

/// A name in this directory that nothing has, after that of the file.
fn free_name(directory: &Path, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = directory.join(&*name);
    let numbered = (1_u32..).map(|number| directory.join(format!("{name}.{number}")));
    std::iter::once(plain).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
}
