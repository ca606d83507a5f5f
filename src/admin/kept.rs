//! The files in quarantine: what is there and why, the rows, and taking files out for good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use serde::{Deserialize, Serialize};

use super::chosen::{self, ChosenLog, Found, LogsError, Piece, Unreadable, open_ipc, split};
use super::export::positions;
use super::select::{RowState, Selection, SelectionError};
use crate::error::{Coded, ErrorCode, chain};
use crate::io::Env;
use crate::quarantine::look::{self, KeptFile};
use crate::types::{Lsn, TableName};

/// Version of the reports about a quarantine as JSON.
pub const QUARANTINE_VERSION: u32 = 1;

/// Why files in quarantine cannot be looked at or taken out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuarantineError {
    /// What was chosen means nothing.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The logs cannot be read.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// Nothing says which files are meant.
    #[error("nothing says which files to drop; give --lsn, --since, --until or --reason, or --all")]
    Everything,
    /// A file cannot be removed.
    #[error("cannot {action} {path}; {removed} files are removed", path = .path.display())]
    Remove {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Files that are gone by now.
        removed: usize,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The rows cannot be shown.
    #[error("rows of frame {lsn} in quarantine cannot be shown: {reason}")]
    Show {
        /// Their frame.
        lsn: Lsn,
        /// Why not.
        reason: String,
    },
}

impl Coded for QuarantineError {
    fn code(&self) -> ErrorCode {
        match self {
            QuarantineError::Selection(error) => error.code(),
            QuarantineError::Logs(error) => error.code(),
            QuarantineError::Everything => ErrorCode::Configuration,
            QuarantineError::Remove { .. } => ErrorCode::Storage,
            QuarantineError::Show { .. } => ErrorCode::Conversion,
        }
    }
}

impl QuarantineError {
    fn show(lsn: Lsn) -> impl FnOnce(ArrowError) -> QuarantineError {
        move |error| QuarantineError::Show { lsn, reason: error.to_string() }
    }
}

/// What is in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineList {
    /// [`QUARANTINE_VERSION`].
    pub version: u32,
    /// The files, by log and in the order of their frames.
    pub files: Vec<QuarantineFile>,
    /// The rows that are meant in all of them.
    pub rows: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// The same rows by code.
    pub reasons: BTreeMap<String, ReasonSummary>,
    /// Files that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A file in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineFile {
    /// The table whose rows it holds; `None` if the log has lost its identity.
    pub table: Option<TableName>,
    /// Where it is.
    pub path: PathBuf,
    /// The frame of its rows.
    pub lsn: Lsn,
    /// Its rows that are meant.
    pub rows: u64,
    /// All of its rows.
    pub rows_in_file: u64,
    /// How many of the meant rows have which code.
    pub codes: BTreeMap<String, u64>,
    /// Why the first of them is here.
    pub reason: String,
    /// When it was put here, in microseconds since 1970 in UTC.
    pub time_unix_micros: i64,
    /// Its bytes.
    pub bytes: u64,
    /// Whether its frame is settled. The file of one that is not stands for its rows and must not be removed.
    pub is_settled: bool,
}

/// How much of what is in quarantine has one code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonSummary {
    /// Files with such rows.
    pub files: u64,
    /// Rows.
    pub rows: u64,
}

fn selected(selection: Selection, env: &Env) -> Result<Selection, SelectionError> {
    Selection { states: vec![RowState::Quarantined], ..selection }.resolved(env.clock.unix_micros())
}

/// Lists the files in quarantine that hold rows which are meant, whatever states are chosen. Reads them; takes no lock and
/// writes nothing.
///
/// # Errors
///
/// [`QuarantineError`] if a log cannot be read. A file that cannot be read is in the list.
pub fn quarantine_list(root: &Path, selection: Selection) -> Result<QuarantineList, QuarantineError> {
    let env = Env::os();
    let selection = selected(selection, &env)?;
    let mut list = QuarantineList { version: QUARANTINE_VERSION, ..QuarantineList::default() };
    for log in chosen::logs(&env, root, &selection)? {
        for file in log.files().iter().filter(|file| selection.has_lsn(file.lsn())) {
            match look_into(&env, &log, file, &selection) {
                Ok(Some(found)) => list.add(found),
                Ok(None) => {}
                Err(reason) => list.unreadable.push(Unreadable {
                    directory: log.directory.clone(),
                    first_lsn: file.lsn(),
                    last_lsn: file.lsn(),
                    is_freed: false,
                    reason,
                }),
            }
        }
    }
    Ok(list)
}

impl QuarantineList {
    fn add(&mut self, file: QuarantineFile) {
        self.rows += file.rows;
        self.bytes += file.bytes;
        for (code, rows) in &file.codes {
            let summary = self.reasons.entry(code.clone()).or_default();
            summary.files += 1;
            summary.rows += rows;
        }
        self.files.push(file);
    }
}

/// What of a file is meant; none if nothing is.
fn look_into(
    env: &Env,
    log: &ChosenLog,
    file: &KeptFile,
    selection: &Selection,
) -> Result<Option<QuarantineFile>, String> {
    let (_, bytes) = file.told(env.storage.as_ref(), log.epoch()).map_err(|error| chain(&error))?;
    let mut found = QuarantineFile {
        table: log.destination().map(|destination| destination.table.clone()),
        path: file.path().to_owned(),
        lsn: file.lsn(),
        rows: 0,
        rows_in_file: 0,
        codes: BTreeMap::new(),
        reason: String::new(),
        time_unix_micros: 0,
        bytes,
        is_settled: file.lsn() <= log.settled(),
    };
    for batch in open_ipc(file.path())? {
        let kept = batch.and_then(|batch| split(&batch));
        let kept = kept.map_err(|error| format!("{} cannot be read: {error}", file.path().display()))?;
        found.rows_in_file += kept.rows.len() as u64;
        for row in 0..kept.rows.len() {
            if !selection.has_time(kept.times[row]) || !selection.has_reason(kept.codes.value(row)) {
                continue;
            }
            if found.rows == 0 {
                found.reason = kept.reasons.value(row).to_owned();
                found.time_unix_micros = kept.times[row];
            }
            found.rows += 1;
            *found.codes.entry(kept.codes.value(row).to_owned()).or_default() += 1;
        }
    }
    Ok((found.rows > 0).then_some(found))
}

/// Rows in quarantine, with why they are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRows {
    /// [`QUARANTINE_VERSION`].
    pub version: u32,
    /// The rows, by log and in order.
    pub rows: Vec<QuarantineRow>,
    /// Whether there are more than were asked for.
    pub has_more: bool,
    /// Files that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// One row in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRow {
    /// The file that it is in.
    pub file: PathBuf,
    /// Its frame.
    pub lsn: Lsn,
    /// Where it stood in its batch, from 0.
    pub row: u32,
    /// What kind of reason it is there for.
    pub code: String,
    /// Why it was refused.
    pub reason: String,
    /// When it was put there, in microseconds since 1970 in UTC.
    pub time_unix_micros: i64,
    /// Its values by column.
    pub values: serde_json::Map<String, serde_json::Value>,
}

/// The first rows in quarantine that are meant. Takes no lock and writes nothing.
///
/// # Errors
///
/// [`QuarantineError`] if a log cannot be read, or a row has no form as JSON.
pub fn quarantine_rows(
    root: &Path,
    selection: Selection,
    limit: usize,
) -> Result<QuarantineRows, QuarantineError> {
    let mut shown = QuarantineRows { version: QUARANTINE_VERSION, ..QuarantineRows::default() };
    let mut rows = Vec::new();
    let rest = each_piece(root, selection, limit, |directory, piece| {
        rows.extend(as_json(directory, piece).map_err(QuarantineError::show(piece.lsn))?);
        Ok(())
    })?;
    shown.rows = rows;
    (shown.has_more, shown.unreadable) = (rest.has_more, rest.unreadable);
    Ok(shown)
}

/// The same rows as Arrow batches, in order, with the columns that the files in quarantine have.
///
/// # Errors
///
/// [`QuarantineError`] if a log cannot be read.
pub fn quarantine_batches(
    root: &Path,
    selection: Selection,
    limit: usize,
) -> Result<Vec<RecordBatch>, QuarantineError> {
    let mut batches = Vec::new();
    each_piece(root, selection, limit, |_, piece| {
        batches.push(positions(piece.batch.clone(), piece).map_err(QuarantineError::show(piece.lsn))?);
        Ok(())
    })?;
    Ok(batches)
}

#[derive(Default)]
struct Rest {
    has_more: bool,
    unreadable: Vec<Unreadable>,
}

/// Hands over pieces of so many rows in all.
fn each_piece(
    root: &Path,
    selection: Selection,
    limit: usize,
    mut take: impl FnMut(&Path, &Piece) -> Result<(), QuarantineError>,
) -> Result<Rest, QuarantineError> {
    let env = Env::os();
    let selection = selected(selection, &env)?;
    let (mut rest, mut left) = (Rest::default(), limit);
    for log in chosen::logs(&env, root, &selection)? {
        let mut pieces = log.pieces(&selection, None);
        while let Some(found) = pieces.next().map_err(LogsError::from)? {
            match found {
                Found::Unreadable(unreadable) => rest.unreadable.push(unreadable),
                Found::Rows(_) if left == 0 => return Ok(Rest { has_more: true, ..rest }),
                Found::Rows(piece) => {
                    let rows = piece.batch.num_rows();
                    let piece = piece.part(0, left);
                    take(&log.directory, &piece)?;
                    rest.has_more = rows > left;
                    left -= piece.batch.num_rows();
                    if rest.has_more {
                        return Ok(rest);
                    }
                }
            }
        }
    }
    Ok(rest)
}

fn as_json(directory: &Path, piece: &Piece) -> Result<Vec<QuarantineRow>, ArrowError> {
    let Some(kept) = &piece.kept else { return Ok(Vec::new()) };
    let mut writer = arrow_json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow_json::writer::LineDelimited>(Vec::new());
    writer.write(&piece.batch)?;
    writer.finish()?;
    let json = |error: serde_json::Error| ArrowError::JsonError(error.to_string());
    let lines = writer.into_inner();
    let values = serde_json::Deserializer::from_slice(&lines).into_iter();
    let file = look::directory(directory).join(&kept.file);
    let of_row = |(row, values): (usize, Result<_, serde_json::Error>)| {
        Ok(QuarantineRow {
            file: file.clone(),
            lsn: piece.lsn,
            row: piece.rows.value(row),
            code: kept.codes.value(row).to_owned(),
            reason: kept.reasons.value(row).to_owned(),
            time_unix_micros: piece.unix_micros,
            values: values.map_err(json)?,
        })
    };
    values.enumerate().map(of_row).collect()
}

/// What was dropped, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineDrop {
    /// [`QUARANTINE_VERSION`].
    pub version: u32,
    /// Whether the files are gone; otherwise this is the plan.
    pub executed: bool,
    /// The files that are gone, or would be.
    pub files: Vec<QuarantineFile>,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files with rows that are meant and that stay.
    pub left: Vec<LeftFile>,
}

/// A file that stays in quarantine though rows of it were meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftFile {
    /// Where it is.
    pub path: PathBuf,
    /// The frame of its rows.
    pub lsn: Lsn,
    /// Why it stays.
    pub reason: String,
}

/// Takes files out of quarantine for good, or says which it would. Beside a live owner too.
///
/// The file of a frame that is not settled stays: it stands for its rows, which would be tried again without it. So does a
/// file of which only some rows are meant. What is dropped here stays counted as quarantined since the log began.
///
/// # Errors
///
/// [`QuarantineError`]; what is removed by then stays removed.
///
/// # Durability
///
/// When this returns, the files are gone after a power cut too.
pub fn quarantine_drop(
    root: &Path,
    selection: Selection,
    all: bool,
    execute: bool,
) -> Result<QuarantineDrop, QuarantineError> {
    if !all && !selection.is_limited() {
        return Err(QuarantineError::Everything);
    }
    let list = quarantine_list(root, selection)?;
    let mut dropped = QuarantineDrop { version: QUARANTINE_VERSION, ..QuarantineDrop::default() };
    for file in list.files {
        let reason = if !file.is_settled {
            "its frame is not settled yet, so it stands for its rows; drop it once the frame is".to_owned()
        } else if file.rows < file.rows_in_file {
            format!("{} of its {} rows are not meant", file.rows_in_file - file.rows, file.rows_in_file)
        } else {
            dropped.rows += file.rows;
            dropped.bytes += file.bytes;
            dropped.files.push(file);
            continue;
        };
        dropped.left.push(LeftFile { path: file.path, lsn: file.lsn, reason });
    }
    for unreadable in list.unreadable {
        let path = look::directory(&unreadable.directory);
        dropped.left.push(LeftFile { path, lsn: unreadable.first_lsn, reason: unreadable.reason });
    }
    if execute {
        remove(&Env::os(), &dropped.files)?;
        dropped.executed = true;
    }
    Ok(dropped)
}

fn remove(env: &Env, files: &[QuarantineFile]) -> Result<(), QuarantineError> {
    let failed = |action, path: &Path, removed, source| QuarantineError::Remove {
        action,
        path: path.to_owned(),
        removed,
        source,
    };
    for (removed, file) in files.iter().enumerate() {
        match env.storage.remove(&file.path) {
            // Somebody else was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.map_err(|source| failed("remove", &file.path, removed, source))?,
        }
    }
    let mut directories: Vec<&Path> = files.iter().filter_map(|file| file.path.parent()).collect();
    directories.dedup();
    for directory in directories {
        let synced = env.storage.sync_dir(directory);
        synced.map_err(|source| failed("sync", directory, files.len(), source))?;
    }
    Ok(())
}
