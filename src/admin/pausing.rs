//! Pausing the delivery of a log, and ending that: by its live owner, or for its next one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::protocol::{Answer, AskError, Question};
use super::socket;
use super::{StatusError, status};
use crate::drain::LaneState;
use crate::error::{Coded, ErrorCode};
use crate::io::Env;
use crate::pause::{self, Pause};
use crate::types::TableName;
use crate::wrapper::Status;

/// Version of [`PauseChange`] as JSON; grows when a field changes its meaning or goes away.
pub const PAUSE_VERSION: u32 = 1;

/// What became of a wish to pause delivery, or to go on with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseChange {
    /// The writer directory.
    pub directory: PathBuf,
    /// The table.
    pub table: TableName,
    /// The process that owns the log and was asked; `None` if nobody does, and the mark is for the next owner.
    pub owner_pid: Option<u32>,
    /// The pause before, if there was one.
    pub before: Option<Pause>,
    /// The pause now, if there is one.
    pub now: Option<Pause>,
    /// What the lane was doing before; `None` when nobody owns the log.
    pub lane: Option<LaneState>,
    /// Rows that wait.
    pub waiting_rows: u64,
}

impl PauseChange {
    fn new(before: Status, now: Option<Pause>) -> PauseChange {
        PauseChange {
            directory: before.directory,
            table: before.table,
            owner_pid: before.owner_pid.filter(|_| before.lane.is_some()),
            before: before.paused,
            now,
            lane: before.lane.map(|lane| lane.state),
            waiting_rows: before.rows.waiting,
        }
    }
}

/// A pause that was not begun, or not ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// There is an owner, and it did not do it; or nobody delivers what waits.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The log cannot be looked at.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The mark cannot be written or removed.
    #[error("cannot {action} the mark of a pause in {directory}", directory = .directory.display())]
    Mark {
        /// What was tried.
        action: &'static str,
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Coded for PauseError {
    fn code(&self) -> ErrorCode {
        match self {
            PauseError::Ask(error) => error.code(),
            PauseError::Status(error) => error.code(),
            PauseError::Mark { .. } => ErrorCode::Storage,
        }
    }
}

/// Sends nothing of this log from now on, until [`resume`]; batches are stored all the same. What is in flight is waited
/// for, so a lane may go on for a moment. It outlives restarts; the next owner keeps to it.
///
/// # Errors
///
/// [`PauseError`]; with a live owner that does not answer, delivery may be paused or not.
pub fn pause(directory: &Path, reason: Option<&str>) -> Result<PauseChange, PauseError> {
    let question = Question::Pause { reason: reason.map(str::to_owned) };
    if let Some(change) = ask(directory, &question)? {
        return Ok(change);
    }
    let env = Env::os();
    let before = status(directory)?;
    let now = Pause::new(&env, reason).after(before.paused.as_ref());
    let failed = |source| mark_error("write", directory, source);
    pause::mark(&env, directory, &now).map_err(failed)?;
    // Somebody may have taken the log meanwhile, who looked for the mark before it was there.
    let taken = ask(directory, &question)?;
    Ok(taken.unwrap_or_else(|| PauseChange::new(before, Some(now))))
}

/// Ends a pause if there is one, and lets the owner try to deliver now, with a fresh token.
///
/// # Errors
///
/// [`PauseError`]; [`AskError::NoOwner`] if nobody owns the log and it was not paused: then there is nothing to do.
pub fn resume(directory: &Path) -> Result<PauseChange, PauseError> {
    if let Some(change) = ask(directory, &Question::Resume)? {
        return Ok(change);
    }
    let before = status(directory)?;
    let failed = |source| mark_error("remove", directory, source);
    let was_there = pause::clear(&Env::os(), directory).map_err(failed)?;
    match ask(directory, &Question::Resume)? {
        Some(change) => Ok(change),
        None if was_there => Ok(PauseChange::new(before, None)),
        None => Err(AskError::NoOwner { directory: directory.to_owned() }.into()),
    }
}

/// Asks the owner; `None` if there is none.
fn ask(directory: &Path, question: &Question) -> Result<Option<PauseChange>, AskError> {
    match socket::ask(directory, question) {
        Ok(Answer::Status { status }) => Ok(Some(PauseChange::new(*status, None))),
        Ok(Answer::Paused { pause, status }) => Ok(Some(PauseChange::new(*status, Some(pause)))),
        Ok(other) => Err(socket::unexpected(directory, &other)),
        Err(AskError::NoOwner { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn mark_error(action: &'static str, directory: &Path, source: std::io::Error) -> PauseError {
    PauseError::Mark { action, directory: directory.to_owned(), source }
}
