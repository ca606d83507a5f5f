//! Logs whose owners are gone: which there are, and live wrappers that are told to look for them now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::socket::{self, Answer, Question};
use super::{StatusError, find_logs, status};
use crate::error::chain;
use crate::types::TableName;
use crate::wrapper::Status;

/// Version of [`Orphan`] as JSON; grows when a field changes its meaning or goes away.
pub const ADOPT_VERSION: u32 = 1;

/// A log with rows that wait and without an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The writer directory.
    pub directory: PathBuf,
    /// The table.
    pub table: TableName,
    /// Rows that wait in it.
    pub waiting_rows: u64,
    /// A process that looks for it now, and adopts it unless another one is faster.
    pub adopter_pid: Option<u32>,
    /// Why nobody adopts it, and what to do.
    pub left: Option<String>,
}

/// Tells live wrappers to look now for logs whose owners are gone, at and below a directory; returns those logs. A wrapper
/// looks by itself every few seconds, and leaves alone for a minute what it could not open.
///
/// # Errors
///
/// [`StatusError`] if a directory cannot be listed, or a log that is named alone cannot be read.
pub fn adopt(root: &Path) -> Result<Vec<Orphan>, StatusError> {
    let mut orphans = Vec::new();
    let mut tables: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for directory in find_logs(root)? {
        let table_directory = directory.parent().unwrap_or(root).to_owned();
        tables.entry(table_directory).or_default().push(directory);
    }
    for (table_directory, wanted) in tables {
        let mut dead = Vec::new();
        for directory in &wanted {
            match status(directory) {
                Ok(log) if log.owner_pid.is_none() && log.rows.waiting > 0 => dead.push(log),
                Ok(_) => {}
                // One that cannot be read hides no other; alone, it is the answer.
                Err(error) if wanted.len() == 1 => return Err(error),
                Err(error) => tracing::warn!(error = chain(&error), "a log is left out"),
            }
        }
        if dead.is_empty() {
            continue;
        }
        let siblings = find_logs(&table_directory)?;
        let living: Vec<Status> = siblings
            .iter()
            .filter_map(|directory| status(directory).ok())
            .filter(|log| log.owner_pid.is_some())
            .collect();
        orphans.extend(dead.into_iter().map(|log| given_to(log, &living)));
    }
    Ok(orphans)
}

/// Asks one of those that live after the other to look for a log.
fn given_to(log: Status, living: &[Status]) -> Orphan {
    let drain = format!("zerobus-wal drain {}", log.directory.display());
    let mut left = match &log.paused {
        Some(pause) => Some(pause.to_string()),
        None if living.is_empty() => {
            Some(format!("no wrapper of this table lives; start the program, or: {drain}"))
        }
        None => None,
    };
    let mut adopter_pid = None;
    if left.is_none() {
        let goes_there =
            |it: &&Status| it.endpoint == log.endpoint && it.unity_catalog_url == log.unity_catalog_url;
        left =
            Some(format!("its rows are for {}, where no wrapper that lives delivers: {drain}", log.endpoint));
        for owner in living.iter().filter(goes_there) {
            match socket::ask(&owner.directory, &Question::Adopt) {
                Ok(Answer::Looks) => {
                    (adopter_pid, left) = (owner.owner_pid, None);
                    break;
                }
                Ok(other) => left = Some(chain(&socket::unexpected(&owner.directory, &other))),
                Err(error) => left = Some(chain(&error)),
            }
        }
    }
    Orphan { directory: log.directory, table: log.table, waiting_rows: log.rows.waiting, adopter_pid, left }
}
