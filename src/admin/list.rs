//! Which logs there are below a directory, and which of them nobody looks after.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::status::{StatusError, status};
use crate::error::{Coded, chain};
use crate::io::Env;
use crate::wal;
use crate::wrapper::Status;

/// `<wal_dir>/<table>/writer-NNN` is two levels down; one more finds it from where `wal_dir` lies.
const DEPTH_MAX: usize = 3;

/// One log, or a directory of which nobody can say what is in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedLog {
    /// The writer directory.
    pub directory: PathBuf,
    /// Its name.
    pub writer: String,
    /// Target table; `None` where the log cannot be read.
    pub table: Option<String>,
    /// Zerobus endpoint; `None` where the log cannot be read.
    pub endpoint: Option<String>,
    /// Process that owns the log; `None` if there is none.
    pub owner_pid: Option<u32>,
    /// Whether nobody owns the log. Its rows wait until a wrapper of the table adopts it, or somebody drains it.
    pub is_orphan: bool,
    /// Frames that wait; `None` where the log cannot be read.
    pub waiting_frames: Option<u64>,
    /// Rows that wait.
    pub waiting_rows: Option<u64>,
    /// Bytes of the log.
    pub log_bytes: Option<u64>,
    /// Age in seconds of the oldest frame that waits; `None` if none does.
    pub oldest_waiting_secs: Option<f64>,
    /// Why the log cannot be read; `None` where it can.
    pub reason: Option<String>,
    /// The error code of that.
    pub code: Option<&'static str>,
}

/// Every log at and below a directory, in the order of their names. One that cannot be read is an entry with its reason.
/// Takes no lock and writes nothing.
///
/// # Errors
///
/// [`StatusError::NoDirectory`] if there is no such directory, [`StatusError::List`] if it cannot be listed.
pub fn list(root: &Path) -> Result<Vec<ListedLog>, StatusError> {
    let listed = search(root).into_iter().map(|found| {
        let told = found.and_then(|directory| status(&directory));
        match told {
            Ok(status) => Ok(of_status(&status)),
            Err(error @ (StatusError::NoDirectory { .. } | StatusError::List { .. }))
                if error.directory() == root =>
            {
                Err(error)
            }
            Err(error) => Ok(unreadable(&error)),
        }
    });
    listed.collect()
}

/// The status of every log at and below a directory, in the order of their names.
///
/// # Errors
///
/// [`StatusError`] if a directory or a log cannot be read.
pub fn statuses(root: &Path) -> Result<Vec<Status>, StatusError> {
    search(root).into_iter().map(|found| found.and_then(|directory| status(&directory))).collect()
}

fn of_status(status: &Status) -> ListedLog {
    ListedLog {
        directory: status.directory.clone(),
        writer: writer_of(&status.directory),
        table: Some(status.table.to_string()),
        endpoint: Some(status.endpoint.clone()),
        owner_pid: status.owner_pid,
        is_orphan: status.owner_pid.is_none(),
        waiting_frames: Some(status.frames.waiting),
        waiting_rows: Some(status.rows.waiting),
        log_bytes: Some(status.log_bytes),
        oldest_waiting_secs: status.oldest_waiting_secs,
        reason: None,
        code: None,
    }
}

fn unreadable(error: &StatusError) -> ListedLog {
    let directory = error.directory().to_owned();
    let owner = wal::owner_as_far_as_known(&Env::os(), &directory);
    ListedLog {
        writer: writer_of(&directory),
        directory,
        table: None,
        endpoint: None,
        owner_pid: owner.map(|owner| owner.pid),
        is_orphan: false,
        waiting_frames: None,
        waiting_rows: None,
        log_bytes: None,
        oldest_waiting_secs: None,
        reason: Some(chain(error)),
        code: Some(error.code().info().name),
    }
}

fn writer_of(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The writer directories at and below a directory, in the order of their names.
///
/// # Errors
///
/// [`StatusError`] if a directory cannot be listed, or a log in it not be read.
pub fn find_logs(root: &Path) -> Result<Vec<PathBuf>, StatusError> {
    search(root).into_iter().collect()
}

/// The same; a directory that cannot be read stands among the others with its reason.
pub fn search(root: &Path) -> Vec<Result<PathBuf, StatusError>> {
    let mut found = Vec::new();
    walk(&Env::os(), root, 0, &mut found);
    let name_of = |found: &Result<PathBuf, StatusError>| match found {
        Ok(directory) => directory.clone(),
        Err(error) => error.directory().to_owned(),
    };
    found.sort_by_cached_key(name_of);
    found
}

fn walk(env: &Env, directory: &Path, depth: usize, found: &mut Vec<Result<PathBuf, StatusError>>) {
    match wal::find_log(env, directory) {
        Ok(true) => return found.push(Ok(directory.to_owned())),
        Ok(false) if depth == DEPTH_MAX => return,
        Ok(false) => {}
        Err(source) => {
            return found.push(Err(StatusError::Log { directory: directory.to_owned(), source }));
        }
    }
    let listed = std::fs::read_dir(directory).and_then(|entries| {
        let mut below = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                below.push(entry.path());
            }
        }
        Ok(below)
    });
    match listed {
        Ok(below) => below.iter().for_each(|below| walk(env, below, depth + 1, found)),
        // One that went away meanwhile is none.
        Err(error) if error.kind() == ErrorKind::NotFound && depth > 0 => {}
        Err(error)
            if depth == 0 && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            found.push(Err(StatusError::NoDirectory { directory: directory.to_owned() }));
        }
        Err(source) => found.push(Err(StatusError::List { directory: directory.to_owned(), source })),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{append, open};
    use super::*;

    #[test]
    fn every_log_is_listed_and_one_that_cannot_be_read_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        let table = root.path().join("main.default.events");
        let live = open(&table.join("writer-000"));
        append(&live, 1..=3);
        open(&table.join("writer-001")).close();
        std::fs::create_dir_all(table.join("writer-002/LOG")).unwrap();
        let listed = list(root.path()).unwrap();
        let told: Vec<_> =
            listed.iter().map(|it| (&*it.writer, it.owner_pid, it.is_orphan, it.waiting_rows)).collect();
        let me = Some(std::process::id());
        assert_eq!(
            told,
            [
                ("writer-000", me, false, Some(30)),
                ("writer-001", None, true, Some(0)),
                ("writer-002", None, false, None)
            ]
        );
        assert_eq!((listed[2].code, listed[0].code), (Some("storage"), None));
        assert!(
            listed[2].reason.as_ref().is_some_and(|reason| reason.contains("LOG")),
            "{:?}",
            listed[2].reason
        );
        assert!(listed[0].oldest_waiting_secs.is_some() && listed[1].oldest_waiting_secs.is_none());
        assert!(matches!(list(&root.path().join("gone")), Err(StatusError::NoDirectory { .. })));
    }
}
