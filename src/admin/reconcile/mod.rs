//! Whether what a log says was delivered is in the table: rows that are missing there, and rows that are there twice.
//!
//! By the values of key columns where frames are retained, row by row; by counts otherwise. What this cannot know it says.

mod counts;
#[cfg(feature = "emulator")]
mod keys;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::chosen::{self, ChooseError, ChosenLog, Found, LogsError, Unreadable};
use super::progress::Progress;
use super::select::{RowState, Selection, SelectionError};
use crate::error::{Coded, ErrorCode};
use crate::io::Env;
use crate::types::{Lsn, TableName};

/// Version of [`ReconcileReport`] as JSON.
pub const RECONCILE_VERSION: u32 = 1;
/// So many keys are named; the others are counted.
const NAMED_MAX: usize = 1_000;

/// What to compare.
#[derive(Clone, Debug)]
pub struct ReconcileOptions {
    /// A writer directory, or a directory with logs below it.
    pub root: PathBuf,
    /// The table and the time; what it says of states and reasons is not looked at.
    pub selection: Selection,
    /// With what.
    pub target: ReconcileTarget,
    /// The columns whose values name a row; none compares counts.
    pub keys: Vec<String>,
}

/// What the table is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReconcileTarget {
    /// A Delta table in this directory.
    Delta(PathBuf),
    /// A file with rows as `system.lakeflow.zerobus_ingest` has them, or with a count: CSV, JSON or JSON Lines.
    Counts(PathBuf),
}

/// What was compared, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileReport {
    /// [`RECONCILE_VERSION`].
    pub version: u32,
    /// The table.
    pub table: TableName,
    /// Where it was read from.
    pub target: PathBuf,
    /// Whether rows were compared by their keys; otherwise their number was.
    pub by_keys: bool,
    /// Rows that the logs say were delivered, as far as they are compared.
    pub delivered_rows: u64,
    /// Rows in the target, as far as they are compared.
    pub target_rows: u64,
    /// Rows that were delivered and are not in the target.
    pub missing_rows: u64,
    /// Rows that are in the target more often than they were delivered.
    pub duplicated_rows: u64,
    /// Rows in the target that no log knows; `None` where only their number is known.
    pub unknown_rows: Option<u64>,
    /// Rows in the target that wait in a log: they arrived, and nothing acknowledges it yet.
    pub unsettled_rows: Option<u64>,
    /// The first keys with missing rows.
    pub missing: Vec<KeyCount>,
    /// The first keys with rows that are there too often.
    pub duplicated: Vec<KeyCount>,
    /// What this comparison cannot know.
    pub limits: Vec<String>,
    /// What was asked for and is not there to be read.
    pub unreadable: Vec<Unreadable>,
}

/// How often rows with one key were delivered and are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    /// The values of the key columns as text; `None` is null.
    pub key: Vec<Option<String>>,
    /// How often it was delivered.
    pub delivered: u64,
    /// How often it is in the target.
    pub found: u64,
    /// The log with the first of these rows.
    pub log: PathBuf,
    /// Its frame.
    pub lsn: Lsn,
    /// Where it stands in the frame.
    pub row: u32,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// What was chosen means nothing.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The logs cannot be read.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// The logs are of several tables.
    #[error("the logs are of {first} and of {second}; give --table")]
    SeveralTables {
        /// One.
        first: TableName,
        /// Another one.
        second: TableName,
    },
    /// No log says which table its rows go to.
    #[error("no log says which table its rows go to; its next owner writes its identity file again")]
    NoIdentity,
    /// The target cannot be read.
    #[error("{path} cannot be read: {reason}", path = .path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Keys of what has only counts.
    #[error("a file of counts has no keys; leave --key out, or give the table with --delta")]
    KeysOfCounts,
    /// A time of what has no times.
    #[error(
        "a table does not say when its rows came; give --key to compare the rows of a time, or leave the time out"
    )]
    TimeOfTable,
    /// A key column that is not there.
    #[error("there is no column {column:?} in {place}; its columns are {columns}")]
    NoColumn {
        /// The column.
        column: String,
        /// Where it was looked for.
        place: String,
        /// What there is.
        columns: String,
    },
    /// Values that cannot be compared.
    #[error(
        "the values of column {column:?} in frame {lsn} cannot be compared with those of the table: {reason}"
    )]
    Compare {
        /// The column.
        column: String,
        /// The frame.
        lsn: Lsn,
        /// Why not.
        reason: String,
    },
    /// This build reads no Delta tables.
    #[error(
        "this program was built without Delta tables; give --counts, or build it with the feature emulator"
    )]
    NoDelta,
    /// It was stopped.
    #[error("interrupted; nothing was compared")]
    Cancelled,
}

impl Coded for ReconcileError {
    fn code(&self) -> ErrorCode {
        match self {
            ReconcileError::Selection(error) => error.code(),
            ReconcileError::Logs(error) => error.code(),
            ReconcileError::SeveralTables { .. }
            | ReconcileError::KeysOfCounts
            | ReconcileError::TimeOfTable
            | ReconcileError::NoColumn { .. }
            | ReconcileError::NoDelta => ErrorCode::Configuration,
            ReconcileError::NoIdentity => ErrorCode::Corruption,
            ReconcileError::Target { .. } => ErrorCode::Storage,
            ReconcileError::Compare { .. } => ErrorCode::Conversion,
            ReconcileError::Cancelled => ErrorCode::Closed,
        }
    }
}

impl From<ChooseError> for ReconcileError {
    fn from(error: ChooseError) -> ReconcileError {
        ReconcileError::Logs(error.into())
    }
}

/// Compares what the logs say was delivered with what is in the table. Takes no lock and writes nothing. Progress is in rows
/// of the logs and of the table.
///
/// By keys it keeps one entry for each key of the compared frames in memory.
///
/// # Errors
///
/// [`ReconcileError`] if nothing can be compared. That something is missing is no error, but what the report says.
pub fn reconcile(options: &ReconcileOptions, progress: &Progress) -> Result<ReconcileReport, ReconcileError> {
    let env = Env::os();
    let states = vec![RowState::Delivered, RowState::Waiting];
    let selection = Selection { states, reasons: Vec::new(), ..options.selection.clone() };
    let selection = selection.resolved(env.clock.unix_micros())?;
    let logs = chosen::logs(&env, &options.root, &selection)?;
    let table = table_of(&logs)?;
    let has_time = selection.since.is_some() || selection.until.is_some();
    match (&options.target, options.keys.is_empty()) {
        (ReconcileTarget::Counts(_), false) => Err(ReconcileError::KeysOfCounts),
        (ReconcileTarget::Counts(path), true) => {
            let found = counts::of_file(path, &table, &selection)?;
            let (mut report, noted) = by_number(&logs, &selection, table, path.clone(), progress)?;
            report.limits.extend(noted);
            Ok(found_rows(report, found))
        }
        (ReconcileTarget::Delta(_), true) if has_time || selection.lsns.is_some() => {
            Err(ReconcileError::TimeOfTable)
        }
        #[cfg(feature = "emulator")]
        (ReconcileTarget::Delta(path), true) => {
            let found = keys::count(path, progress)?;
            let (mut report, noted) = by_number(&logs, &selection, table, path.clone(), progress)?;
            report.limits.extend(noted);
            Ok(found_rows(report, found))
        }
        #[cfg(feature = "emulator")]
        (ReconcileTarget::Delta(path), false) => {
            keys::compare(&logs, &selection, table, path, &options.keys, progress)
        }
        #[cfg(not(feature = "emulator"))]
        (ReconcileTarget::Delta(_), _) => Err(ReconcileError::NoDelta),
    }
}

fn table_of(logs: &[ChosenLog]) -> Result<TableName, ReconcileError> {
    let mut tables = logs.iter().filter_map(|log| log.destination().map(|it| &it.table));
    let first = tables.next().ok_or(ReconcileError::NoIdentity)?;
    match tables.find(|table| *table != first) {
        Some(second) => Err(ReconcileError::SeveralTables { first: first.clone(), second: second.clone() }),
        None => Ok(first.clone()),
    }
}

fn empty_report(table: TableName, target: PathBuf, by_keys: bool) -> ReconcileReport {
    let limits = vec![
        "rows of logs whose directories were removed are not known, and rows that others write are taken for what this log \
         wrote where only numbers are compared"
            .to_owned(),
        "rows that were replayed to this table on purpose count as duplicated".to_owned(),
    ];
    ReconcileReport {
        version: RECONCILE_VERSION,
        table,
        target,
        by_keys,
        delivered_rows: 0,
        target_rows: 0,
        missing_rows: 0,
        duplicated_rows: 0,
        unknown_rows: None,
        unsettled_rows: None,
        missing: Vec::new(),
        duplicated: Vec::new(),
        limits,
        unreadable: Vec::new(),
    }
}

/// How many rows were delivered: all since the logs began, by their ledgers; those of a time, by the frames that are there.
fn by_number(
    logs: &[ChosenLog],
    selection: &Selection,
    table: TableName,
    target: PathBuf,
    progress: &Progress,
) -> Result<(ReconcileReport, Option<String>), ReconcileError> {
    let mut report = empty_report(table, target, false);
    if !selection.is_limited() {
        report.delivered_rows = logs.iter().map(|log| log.record.delivered_rows).sum();
        return Ok((report, None));
    }
    each_row(logs, selection, progress, |_, piece, unreadable| {
        let states = piece.map_or(&[][..], |piece| &piece.states);
        report.delivered_rows += states.iter().filter(|state| **state == RowState::Delivered).count() as u64;
        report.unreadable.extend(unreadable.cloned());
        Ok(())
    })?;
    let noted = "the rows of a time are counted in the frames that are there, by when they were stored; what is freed is not \
                 counted, and what was stored in the time may have been delivered after it"
        .to_owned();
    Ok((report, Some(noted)))
}

fn found_rows(report: ReconcileReport, found: u64) -> ReconcileReport {
    ReconcileReport {
        target_rows: found,
        missing_rows: report.delivered_rows.saturating_sub(found),
        duplicated_rows: found.saturating_sub(report.delivered_rows),
        ..report
    }
}

/// Goes through the chosen rows of all logs.
fn each_row(
    logs: &[ChosenLog],
    selection: &Selection,
    progress: &Progress,
    mut take: impl FnMut(&ChosenLog, Option<&chosen::Piece>, Option<&Unreadable>) -> Result<(), ReconcileError>,
) -> Result<(), ReconcileError> {
    progress.set_total(logs.iter().map(|log| log.rows_to_read(selection)).sum());
    for log in logs {
        let mut pieces = log.pieces(selection, None);
        while let Some(found) = pieces.next()? {
            match &found {
                Found::Rows(piece) => take(log, Some(piece), None)?,
                Found::Unreadable(unreadable) => take(log, None, Some(unreadable))?,
            }
            progress.add(pieces.take_passed());
            if progress.is_stopped() {
                return Err(ReconcileError::Cancelled);
            }
        }
        progress.add(pieces.take_passed());
    }
    Ok(())
}
