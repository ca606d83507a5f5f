//! The rows of a Delta table, compared with those that were delivered by the values of key columns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use delta_kernel::object_store::local::LocalFileSystem;
use delta_kernel::snapshot::Snapshot;
use delta_kernel_default_engine::DefaultEngine;

use super::{KeyCount, NAMED_MAX, ReconcileError, ReconcileReport, each_row, empty_report};
use crate::admin::chosen::{ChosenLog, Piece};
use crate::admin::progress::Progress;
use crate::admin::select::{RowState, Selection};
use crate::types::{Lsn, TableName};

/// The values of the key columns of a row.
type Key = Box<[Option<String>]>;

/// What is known of one key.
struct Seen {
    delivered: u64,
    waiting: u64,
    found: u64,
    log: usize,
    lsn: Lsn,
    row: u32,
}

/// How many rows the table in this directory has.
pub(super) fn count(path: &Path, progress: &Progress) -> Result<u64, ReconcileError> {
    let mut rows = 0;
    each_batch(path, progress, |batch| {
        rows += batch.num_rows() as u64;
        Ok(())
    })?;
    Ok(rows)
}

/// Compares row by row.
pub(super) fn compare(
    logs: &[ChosenLog],
    selection: &Selection,
    table: TableName,
    path: &Path,
    keys: &[String],
    progress: &Progress,
) -> Result<ReconcileReport, ReconcileError> {
    let types = types(path, keys)?;
    let mut report = empty_report(table, path.to_owned(), true);
    let mut seen: HashMap<Key, Seen> = HashMap::new();
    let mut at = 0;
    each_row(logs, selection, progress, |log, piece, unreadable| {
        while logs[at].directory != log.directory {
            at += 1;
        }
        if let Some(piece) = piece {
            report.delivered_rows += take(piece, at, &types, &mut seen)?;
        }
        report.unreadable.extend(unreadable.cloned());
        Ok(())
    })?;
    let mut unknown_rows = 0;
    each_batch(path, progress, |batch| {
        report.target_rows += batch.num_rows() as u64;
        let columns = of_table(&batch, keys, path)?;
        for row in 0..batch.num_rows() {
            match seen.get_mut(&key(&columns, row)) {
                Some(seen) => seen.found += 1,
                None => unknown_rows += 1,
            }
        }
        Ok(())
    })?;
    report.unknown_rows = Some(unknown_rows);
    judge(&mut report, seen, logs);
    report.limits.push(
        "only rows of frames that are there are compared, see retain_delivered_secs; rows with other keys in the table are \
         counted as unknown: older ones, and those of other writers"
            .to_owned(),
    );
    Ok(report)
}

fn judge(report: &mut ReconcileReport, seen: HashMap<Key, Seen>, logs: &[ChosenLog]) {
    let mut unsettled_rows = 0;
    for (key, seen) in seen {
        let missing = seen.delivered.saturating_sub(seen.found);
        let surplus = seen.found.saturating_sub(seen.delivered);
        // What waits may have arrived once already.
        let duplicated = surplus.saturating_sub(seen.waiting);
        unsettled_rows += surplus - duplicated;
        report.missing_rows += missing;
        report.duplicated_rows += duplicated;
        let named = || KeyCount {
            key: key.to_vec(),
            delivered: seen.delivered,
            found: seen.found,
            log: logs[seen.log].directory.clone(),
            lsn: seen.lsn,
            row: seen.row,
        };
        if missing > 0 {
            report.missing.push(named());
        }
        if duplicated > 0 {
            report.duplicated.push(named());
        }
    }
    report.unsettled_rows = Some(unsettled_rows);
    for named in [&mut report.missing, &mut report.duplicated] {
        named.sort_by(|one, other| (&one.log, one.lsn, one.row).cmp(&(&other.log, other.lsn, other.row)));
        named.truncate(NAMED_MAX);
    }
}

/// Takes the keys of rows in a log; returns how many of the rows were delivered.
fn take(
    piece: &Piece,
    log: usize,
    types: &[(String, DataType)],
    seen: &mut HashMap<Key, Seen>,
) -> Result<u64, ReconcileError> {
    let mut columns = Vec::new();
    for (name, wanted) in types {
        let column = column(&piece.batch, name).ok_or_else(|| ReconcileError::NoColumn {
            column: name.clone(),
            place: format!("frame {}", piece.lsn),
            columns: names(&piece.batch),
        })?;
        let failed =
            |reason: String| ReconcileError::Compare { column: name.clone(), lsn: piece.lsn, reason };
        let cast = cast(&column, wanted).map_err(|error| failed(error.to_string()))?;
        columns.push(texts(&cast).map_err(failed)?);
    }
    let mut delivered = 0;
    for row in 0..piece.batch.num_rows() {
        let is_waiting = piece.states[row] == RowState::Waiting;
        delivered += u64::from(!is_waiting);
        let (lsn, number) = (piece.lsn, piece.rows.value(row));
        let seen = seen.entry(key(&columns, row)).or_insert(Seen {
            delivered: 0,
            waiting: 0,
            found: 0,
            log,
            lsn,
            row: number,
        });
        if is_waiting {
            seen.waiting += 1;
        } else {
            seen.delivered += 1;
        }
    }
    Ok(delivered)
}

fn key(columns: &[Vec<Option<String>>], row: usize) -> Key {
    columns.iter().map(|column| column[row].clone()).collect()
}

/// Delta does not tell names apart by case.
fn column(batch: &RecordBatch, name: &str) -> Option<ArrayRef> {
    let schema = batch.schema();
    let at = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name))?;
    Some(Arc::clone(batch.column(at)))
}

fn names(batch: &RecordBatch) -> String {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(", ")
}

fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>, String> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(|error| error.to_string())?;
    let text = |row| match column.is_valid(row) {
        true => formatter.value(row).try_to_string().map(Some).map_err(|error| error.to_string()),
        false => Ok(None),
    };
    (0..column.len()).map(text).collect()
}

fn of_table(
    batch: &RecordBatch,
    keys: &[String],
    path: &Path,
) -> Result<Vec<Vec<Option<String>>>, ReconcileError> {
    let of_key = |name: &String| {
        let found = column(batch, name).ok_or_else(|| ReconcileError::NoColumn {
            column: name.clone(),
            place: path.display().to_string(),
            columns: names(batch),
        })?;
        texts(&found).map_err(|reason| ReconcileError::Target { path: path.to_owned(), reason })
    };
    keys.iter().map(of_key).collect()
}

/// The types that the key columns have in the table; of a table without rows those of the log are as good.
fn types(path: &Path, keys: &[String]) -> Result<Vec<(String, DataType)>, ReconcileError> {
    let mut types: Option<Vec<(String, DataType)>> = None;
    let done = each_batch(path, &Progress::new(), |batch| {
        let of_key = |name: &String| {
            let found = column(&batch, name).ok_or_else(|| ReconcileError::NoColumn {
                column: name.clone(),
                place: path.display().to_string(),
                columns: names(&batch),
            })?;
            Ok((name.clone(), found.data_type().clone()))
        };
        types = Some(keys.iter().map(of_key).collect::<Result<_, ReconcileError>>()?);
        // One is enough.
        Err(ReconcileError::Cancelled)
    });
    match (types, done) {
        (Some(types), _) => Ok(types),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Ok(keys.iter().map(|name| (name.clone(), DataType::Utf8)).collect()),
    }
}

/// Reads the table, batch by batch.
fn each_batch(
    path: &Path,
    progress: &Progress,
    mut take: impl FnMut(RecordBatch) -> Result<(), ReconcileError>,
) -> Result<(), ReconcileError> {
    let failed = |reason: String| ReconcileError::Target { path: path.to_owned(), reason };
    let absolute: PathBuf = std::fs::canonicalize(path).map_err(|error| failed(error.to_string()))?;
    let url =
        url::Url::from_directory_path(absolute).map_err(|()| failed("its path is no URL".to_owned()))?;
    let engine = Arc::new(DefaultEngine::builder(Arc::new(LocalFileSystem::new())).build());
    let snapshot =
        Snapshot::builder_for(url).build(engine.as_ref()).map_err(|error| failed(error.to_string()))?;
    let scan = snapshot.scan_builder().build().map_err(|error| failed(error.to_string()))?;
    for data in scan.execute(engine).map_err(|error| failed(error.to_string()))? {
        let batch = data.and_then(|data| data.try_into_record_batch());
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        progress.add(batch.num_rows() as u64);
        if progress.is_stopped() {
            return Err(ReconcileError::Cancelled);
        }
        take(batch)?;
    }
    Ok(())
}
