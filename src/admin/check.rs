//! Whether a log stands as somebody wants it to: what probes ask.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::inspect::InspectError;
use super::list::search;
use super::protocol::AskError;
use super::status::{StatusError, status_and_silence};
use super::verify::set_aside_segments;
use super::word;
use crate::drain::LaneState;
use crate::error::chain;
use crate::io::Env;
use crate::wrapper::Status;

/// What a log may be at most; what is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Age of the oldest frame that waits.
    pub age_max: Option<Duration>,
    /// Rows that wait.
    pub waiting_rows_max: Option<u64>,
    /// Files in quarantine.
    pub quarantine_files_max: Option<u64>,
}

/// What of a log is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The writer directory.
    pub directory: PathBuf,
    /// Which kind it is.
    pub kind: ViolationKind,
    /// What exactly, and what to do about it.
    pub text: String,
}

/// The ways in which a log can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ViolationKind {
    /// The oldest frame has waited for too long.
    Age,
    /// Too many rows wait.
    Depth,
    /// Too many files are in quarantine.
    Quarantine,
    /// Rows wait and nobody owns the log.
    Orphan,
    /// There is an owner, and it does not answer.
    Silent,
    /// The destination refuses us, or the lane cannot go on.
    Blocked,
    /// The log refuses appends after a failed write or sync.
    Poisoned,
    /// The log is full.
    Full,
    /// What is delivered cannot be recorded.
    Settling,
    /// Something in the log is damaged.
    Damage,
    /// The log cannot be read at all.
    Unreadable,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// Whether nothing is violated.
    pub is_ok: bool,
    /// Logs that were looked at, those that cannot be read included.
    pub logs: usize,
    /// Rows that wait in all of them.
    pub waiting_rows: u64,
    /// What is not as it should be, in the order of the logs.
    pub violations: Vec<Violation>,
}

/// Checks every log at and below a directory. One that cannot be read is a violation. Takes no lock and writes nothing.
///
/// # Errors
///
/// [`InspectError::NoLog`] if there is none, so that a probe that looks in the wrong place is noticed.
pub fn check(root: &Path, limits: &Limits) -> Result<CheckReport, InspectError> {
    let found = search(root);
    if matches!(found.first(), None | Some(Err(StatusError::NoDirectory { .. }))) {
        return Err(InspectError::NoLog { root: root.to_owned() });
    }
    let logs = found.len();
    let (mut waiting_rows, mut all) = (0, Vec::new());
    for directory in found {
        match directory.and_then(|directory| status_and_silence(&directory)) {
            Ok((status, silence)) => {
                waiting_rows += status.rows.waiting;
                all.extend(violations(&status, limits, silence.as_ref()));
            }
            Err(error) => all.push(unreadable(&error)),
        }
    }
    Ok(CheckReport { is_ok: all.is_empty(), logs, waiting_rows, violations: all })
}

fn wait(rows: u64) -> String {
    format!("{rows} {}", word(rows, "row waits", "rows wait"))
}

/// What of this log violates the limits, or is wrong whatever they are: an orphan with rows that wait, an owner that does
/// not answer, a lane that is blocked, a poisoned, full or damaged log.
fn violations(status: &Status, limits: &Limits, silence: Option<&AskError>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |kind, text: String| {
        found.push(Violation { directory: status.directory.clone(), kind, text });
    };
    let waiting = status.rows.waiting;
    if let (Some(age), Some(max)) = (status.oldest_waiting_secs, limits.age_max)
        && age > max.as_secs_f64()
    {
        add(
            ViolationKind::Age,
            format!("the oldest row waits for {age:.0} s, {} s are allowed", max.as_secs_f64()),
        );
    }
    if let Some(max) = limits.waiting_rows_max.filter(|max| waiting > *max) {
        add(ViolationKind::Depth, format!("{}, {max} are allowed", wait(waiting)));
    }
    let files = status.quarantine.files;
    if let Some(max) = limits.quarantine_files_max.filter(|max| files > *max) {
        let directory = status.quarantine.directory.display();
        add(
            ViolationKind::Quarantine,
            format!(
                "{files} {} in quarantine, {max} are allowed; look in {directory}",
                word(files, "file is", "files are")
            ),
        );
    }
    match (status.owner_pid, &status.lane) {
        (None, _) if waiting > 0 => {
            let directory = status.directory.display();
            let text = format!(
                "{} and nobody delivers {}; start the program, or: zerobus-wal drain {directory}",
                wait(waiting),
                word(waiting, "it", "them")
            );
            add(ViolationKind::Orphan, text);
        }
        // Whoever may not ask cannot tell; what the files say counts all the same.
        (Some(pid), None) if !silence.is_some_and(AskError::is_forbidden) => {
            let text = match pid {
                0 => "whether somebody owns the log is not known, and nobody answers; ask as the user of the program"
                    .to_owned(),
                _ => format!("process {pid} owns the log and does not answer; look whether it hangs"),
            };
            add(ViolationKind::Silent, text);
        }
        _ => {}
    }
    if let Some(lane) = &status.lane
        && matches!(lane.state, LaneState::Blocked | LaneState::Poison | LaneState::Unreadable)
    {
        let reason = lane.reason.as_deref().unwrap_or("it does not say why");
        add(
            ViolationKind::Blocked,
            format!("nothing is delivered, the lane is {}: {reason}", lane.state.as_str()),
        );
    }
    if let Some(reason) = &status.poisoned {
        add(
            ViolationKind::Poisoned,
            format!("the log refuses batches until the program starts again: {reason}"),
        );
    }
    if let Some(full) = &status.full {
        add(ViolationKind::Full, format!("the log is full: {full}"));
    }
    if let Some(failure) = &status.settling_failure {
        add(ViolationKind::Settling, format!("what is delivered cannot be recorded: {failure}"));
    }
    for path in set_aside_segments(&Env::os(), &status.directory) {
        let text = format!(
            "frames were damaged and are not delivered; look at what is left of them, then move it away: {}",
            path.display()
        );
        add(ViolationKind::Damage, text);
    }
    for damage in &status.damage {
        let directory = status.directory.display();
        add(ViolationKind::Damage, format!("{damage}; see: zerobus-wal verify {directory}"));
    }
    found
}

/// The violation that a log is which cannot be read.
fn unreadable(error: &StatusError) -> Violation {
    let directory: &Path = error.directory();
    Violation { directory: directory.to_owned(), kind: ViolationKind::Unreadable, text: chain(error) }
}
