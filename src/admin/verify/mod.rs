//! Whether everything that a log promises can be kept with what is on the disk: every checksum, and every invariant that can
//! be seen from outside. Takes no lock and writes nothing.
//!
//! Beside a live owner a log changes while it is read. What looks damaged is believed when it looks so a second time, and the
//! ledger, which is behind the log, is read both before and after it.

mod finding;
mod mark;
mod quarantine;
mod settled;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::finding::of_damage;
pub use self::finding::{Finding, FindingKind, Severity};
use super::Progress;
use super::inspect::{Run, set_aside};
use super::list::search;
use super::status::StatusError;
use crate::error::{Coded, ErrorCode, chain};
use crate::io::Env;
use crate::ledger::{self, Contents, LedgerError};
use crate::types::{Epoch, Lsn};
use crate::wal::{self, Damage, LogView, ReadError};

/// A ledger whose files are copied while they are written can look damaged once.
const LEDGER_TRIES: u32 = 5;

/// What was found in a log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The writer directory.
    pub directory: PathBuf,
    /// Target table; `None` if the identity file is lost.
    pub table: Option<String>,
    /// The log's random number.
    pub epoch: Epoch,
    /// Process that owns the log.
    pub owner_pid: Option<u32>,
    /// Segments that were read.
    pub segments: usize,
    /// Frames whose checksums match.
    pub frames: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// The first frame that is there.
    pub first_lsn: Option<Lsn>,
    /// The last frame.
    pub last_lsn: Lsn,
    /// Every frame up to here is settled.
    pub settled_lsn: Lsn,
    /// Whether no finding is an error.
    pub is_sound: bool,
    /// What is wrong or worth knowing, the worst first.
    pub findings: Vec<Finding>,
}

/// A log that cannot be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It cannot be read at all.
    #[error(transparent)]
    Log(#[from] StatusError),
    /// A segment cannot be read.
    #[error("the log cannot be read to its end")]
    Read(#[from] ReadError),
    /// Whoever watched the progress broke it off.
    #[error("broken off; what was not read is not verified")]
    BrokenOff,
}

impl Coded for VerifyError {
    fn code(&self) -> ErrorCode {
        match self {
            VerifyError::Log(error) => error.code(),
            VerifyError::Read(error) => error.code(),
            VerifyError::BrokenOff => ErrorCode::Closed,
        }
    }
}

/// Verifies the log in a writer directory. The progress counts bytes of segments; more of them than there are, where damage
/// beside a live owner is looked at again.
///
/// # Errors
///
/// [`VerifyError`] if the log cannot be read, or it is broken off. Damage is no error, it stands in the report.
pub fn verify(directory: &Path, progress: &Progress) -> Result<VerifyReport, VerifyError> {
    let env = Env::os();
    let log_error = |source| StatusError::Log { directory: directory.to_owned(), source };
    let quick = LogView::read(&env, directory).map_err(log_error)?;
    let owner = wal::owner_as_far_as_known(&env, directory);
    // Before the log, which an owner writes first.
    let mark = ledger::peek_mark(directory, quick.epoch());
    let before = read_ledger(directory, quick.epoch(), owner.is_some());
    let (view, damage) = read_log(&env, directory, quick.bytes(), progress)?;
    let again = owner.as_ref().map(|_| read_ledger(directory, quick.epoch(), true));
    let after = again.as_ref().unwrap_or(&before);

    let mut findings = Vec::new();
    let record = after.as_ref().ok().and_then(|contents| contents.record.as_ref());
    let settled_lsn = record.map_or(Lsn::ZERO, |(record, _)| record.settled.through);
    findings.extend(damage.iter().map(|damage| of_damage(damage, settled_lsn)));
    if view.destination().is_none() {
        findings.push(Finding::new(
            FindingKind::Identity,
            Severity::Warning,
            "the file LOG, which says whose log this is, is missing".to_owned(),
            "Start the program of this table: the next owner writes it again, with the epoch of the segments.",
        ));
    }
    if view.torn_bytes() > 0 && owner.is_none() {
        findings.push(Finding::new(
            FindingKind::TornTail,
            Severity::Info,
            format!("{} bytes stand behind the last whole frame of a segment", view.torn_bytes()),
            "Nothing is to be done: they are an append that was never promised, or a footer that is lost, which costs no frame. \
             The next owner steps over them.",
        ));
    }
    if let Some(numbers) = not_dense(&view) {
        findings.push(numbers);
    }
    for path in set_aside_segments(&env, directory) {
        let text = "a segment that had damage was set aside when everything in it was settled".to_owned();
        let advice = "Keep it to look into the damage, or remove it: the log does not read it any more.";
        findings.push(Finding::new(FindingKind::SegmentSetAside, Severity::Warning, text, advice).at(path));
    }
    let ledgers = set_aside(&env, directory).unwrap_or_default();
    for path in &ledgers {
        let text = "a ledger was damaged and was moved aside";
        let advice = "Its mark had what it said last. If that was damaged too, rows that had been delivered and were not freed \
                      yet were sent again, and the counts of delivered rows began anew. Remove it when nobody wants to look into it.";
        let found = Finding::new(FindingKind::LedgerSetAside, Severity::Warning, text.to_owned(), advice);
        findings.push(found.at(path.clone()));
    }
    match (&before, after) {
        (Ok(before), Ok(after)) => {
            let has_set_aside = !ledgers.is_empty();
            let mut told = settled::verify(&env, &view, before, after, has_set_aside)?;
            for _ in 0..LEDGER_TRIES {
                // A copy that was made while the owner wrote may be of an earlier moment than it seems.
                if told.is_empty() || owner.is_none() {
                    break;
                }
                let before = read_ledger(directory, quick.epoch(), true);
                let view = LogView::read(&env, directory).map_err(log_error)?;
                let after = read_ledger(directory, quick.epoch(), true);
                if let (Ok(before), Ok(after)) = (&before, &after) {
                    told = settled::verify(&env, &view, before, after, has_set_aside)?;
                }
            }
            findings.extend(told);
        }
        (Err(failure), _) | (_, Err(failure)) => findings.push(unreadable_ledger(failure)),
    }
    let counts_checkpoints = after.as_ref().is_ok_and(|contents| contents.generation.is_some());
    let known = if after.is_ok() { settled_lsn.max(view.last()) } else { Lsn::new(u64::MAX) };
    findings.extend(mark::verify(&mark, directory, counts_checkpoints, known, owner.is_some()));
    findings.extend(quarantine::verify(&env, directory, view.epoch()));
    findings.sort_by_key(|finding| finding.severity);
    Ok(VerifyReport {
        directory: directory.to_owned(),
        table: view.destination().map(|destination| destination.table.to_string()),
        epoch: view.epoch(),
        owner_pid: owner.map(|owner| owner.pid),
        segments: view.segments(),
        frames: view.frames(),
        rows: view.rows(),
        bytes: view.bytes(),
        first_lsn: view.first(),
        last_lsn: view.last(),
        settled_lsn,
        is_sound: findings.iter().all(|finding| finding.severity != Severity::Error),
        findings,
    })
}

/// Verifies every log at and below a directory, in the order of their names.
///
/// # Errors
///
/// [`VerifyError`] if a directory or a log cannot be read, or it is broken off.
pub fn verify_all(root: &Path, progress: &Progress) -> Result<Vec<VerifyReport>, VerifyError> {
    search(root).into_iter().map(|directory| verify(&directory?, progress)).collect()
}

/// Reads everything, a second time if something looks damaged and somebody may be writing.
fn read_log(
    env: &Env,
    directory: &Path,
    bytes: u64,
    progress: &Progress,
) -> Result<(LogView, Vec<Damage>), VerifyError> {
    let read = || {
        let mut told = 0;
        let mut forward = |done: u64| {
            progress.add(done.saturating_sub(told));
            told = told.max(done);
            if progress.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        LogView::check(env, directory, &mut forward).map_err(|source| match progress.is_stopped() {
            true => VerifyError::BrokenOff,
            false => StatusError::Log { directory: directory.to_owned(), source }.into(),
        })
    };
    progress.set_total(progress.done() + bytes);
    let first = read()?;
    let mut damage = first.damage().to_vec();
    if damage.is_empty() || wal::owner_as_far_as_known(env, directory).is_none() {
        return Ok((first, damage));
    }
    progress.set_total(progress.done() + first.bytes());
    let second = read()?;
    let is_same = |a: &Damage, b: &Damage| (&a.segment, a.offset) == (&b.segment, b.offset);
    damage = second.damage().to_vec();
    damage.retain(|now| first.damage().iter().any(|then| is_same(then, now)));
    Ok((second, damage))
}

/// A ledger, or what is wrong with it.
type ReadLedger = Result<Contents, (String, ErrorCode)>;

fn read_ledger(directory: &Path, epoch: Epoch, is_written: bool) -> ReadLedger {
    let told = |error: LedgerError| (chain(&error), error.code());
    let mut tries = if is_written { LEDGER_TRIES } else { 1 };
    loop {
        match ledger::peek(directory, epoch) {
            Err(_) if tries > 1 => tries -= 1,
            read => return read.map_err(told),
        }
    }
}

fn unreadable_ledger((text, code): &(String, ErrorCode)) -> Finding {
    let advice = match code {
        ErrorCode::Corruption => {
            "The next owner moves it aside and begins a new one with what its mark says. If that is damaged too, what was \
             delivered and not freed yet is sent again. No row is lost."
        }
        _ => "Look at the disk and at the permissions of the directory, and verify again.",
    };
    Finding::new(FindingKind::Ledger, Severity::Error, text.clone(), advice)
}

/// Numbers between the first and the last frame that neither a frame has nor damage explains.
fn not_dense(view: &LogView) -> Option<Finding> {
    let first = view.first()?;
    let mut lost: Vec<Run> = Vec::new();
    // Batches whose schema is lost are frames all the same.
    let gone = view.damage().iter().filter(|damage| damage.reason != wal::DamageReason::Schema);
    let mut named: Vec<Run> = gone.filter_map(|damage| finding::run_of(damage.lsns.as_ref()?)).collect();
    named.sort_by_key(|run| run.first);
    for run in named {
        match lost.last_mut() {
            Some(last) if run.first <= last.last => last.last = last.last.max(run.last),
            _ => lost.push(run),
        }
    }
    let inside = |run: &Run| {
        let (start, end) = (run.first.max(first.get()), run.last.min(view.last_frame().get()));
        (end + 1).saturating_sub(start)
    };
    let span = view.last_frame().get() - first.get() + 1;
    let told = view.frames() + lost.iter().map(inside).sum::<u64>();
    (told < span).then(|| {
        let text =
            format!("{} numbers between {first} and {} belong to no frame", span - told, view.last_frame());
        let advice = "This should never be. Keep a copy of the directory and report it.";
        Finding::new(FindingKind::Numbers, Severity::Error, text, advice)
    })
}

/// The segments that were set aside. One that is only marked is there under its own name, and is read.
pub(super) fn set_aside_segments(env: &Env, directory: &Path) -> Vec<PathBuf> {
    let names = env.storage.list(directory).unwrap_or_default();
    let mut paths: Vec<PathBuf> = names.into_iter().map(|name| directory.join(name)).collect();
    paths.retain(|path| wal::is_set_aside(path) && !path.with_extension("").exists());
    paths.sort();
    paths
}
