//! Which rows of a replay would be refused, told without sending any.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::{REPLAY_VERSION, ReplayError};
use crate::admin::chosen::{ChosenLog, Found, LogsError, Piece, Unreadable};
use crate::admin::progress::Progress;
use crate::admin::select::{Selection, rfc3339};
use crate::config::{REQUEST_BYTES_MAX, TransportKind, WrapperConfiguration};
use crate::convert::{ArrowPlan, ConversionError, Cut, Encoded, Plan, Policies, Records, TableSchema};
use crate::recent::Recent;
use crate::types::{Lsn, TableName};
use crate::wrapper::ask_catalog;

/// So many rows are named; the others are counted.
const NAMED_MAX: usize = 1_000;
/// Rows that are converted at once.
const CHUNK_ROWS: usize = 8192;
const PLANS_MAX: usize = 32;

/// What a replay would meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// [`REPLAY_VERSION`].
    pub version: u32,
    /// The table.
    pub table: TableName,
    /// Where its columns are known from: `catalog`, `cache`, or `batches` if they are not known at all.
    pub columns_from: String,
    /// What to think of that; `None` if the catalog has just told them.
    pub note: Option<String>,
    /// Rows that were chosen.
    pub rows: u64,
    /// Rows of them that would be refused.
    pub refused_rows: u64,
    /// The first of these, with why.
    pub refused: Vec<RefusedRow>,
    /// What was asked for and is not there to be read.
    pub unreadable: Vec<Unreadable>,
}

/// A row, or the rows of a frame from this one on, that would be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// The log that it is in.
    pub log: std::path::PathBuf,
    /// Its frame.
    pub lsn: Lsn,
    /// Where it stands in the frame; `None` if the schema of all of its rows is what is wrong.
    pub row: Option<u32>,
    /// How many rows this is about.
    pub rows: u64,
    /// The kind of reason: `conversion`, `row_too_large` or `schema`.
    pub code: String,
    /// Why.
    pub reason: String,
}

/// Converts the chosen rows and sends none.
pub(super) fn dry_run(
    logs: &[ChosenLog],
    selection: &Selection,
    configuration: &WrapperConfiguration,
    progress: &Progress,
) -> Result<DryRun, ReplayError> {
    let table = configuration.validate()?.destination.table;
    let (columns, columns_from, note) = columns(logs, &table, configuration)?;
    let mut run = DryRun {
        version: REPLAY_VERSION,
        table,
        columns_from: columns_from.to_owned(),
        note,
        rows: 0,
        refused_rows: 0,
        refused: Vec::new(),
        unreadable: Vec::new(),
    };
    let mut converting = Converting {
        transport: configuration.transport,
        policies: Policies { timestamp_ns: configuration.timestamp_ns, null_list: configuration.null_list },
        columns,
        plans: Recent::new(PLANS_MAX),
        records: Records::new(),
    };
    progress.set_total(logs.iter().map(|log| log.rows_to_read(selection)).sum());
    for log in logs {
        let mut pieces = log.pieces(selection, None);
        while let Some(found) = pieces.next().map_err(LogsError::from)? {
            match found {
                Found::Unreadable(unreadable) => run.unreadable.push(unreadable),
                Found::Rows(piece) => converting.convert(&log.directory, &piece, &mut run),
            }
            progress.add(pieces.take_passed());
            if progress.is_stopped() {
                return Err(ReplayError::Cancelled { rows: run.rows, directory: None });
            }
        }
        progress.add(pieces.take_passed());
    }
    Ok(run)
}

type Columns = (Option<TableSchema>, &'static str, Option<String>);

/// The columns of the table as the catalog tells them, or as they were known last.
fn columns(
    logs: &[ChosenLog],
    table: &TableName,
    configuration: &WrapperConfiguration,
) -> Result<Columns, ReplayError> {
    let why = match ask_catalog(configuration.clone())? {
        Some(Ok(columns)) => return Ok((Some(columns), "catalog", None)),
        Some(Err(reason)) => reason,
        None => "there are no credentials to ask the catalog with".to_owned(),
    };
    let cached = logs.iter().filter_map(|log| log.table.as_ref()).filter(|cached| cached.table == *table);
    Ok(match cached.max_by_key(|cached| cached.read_unix_micros) {
        Some(cached) => {
            let note = format!(
                "these are the columns of {}; they may have changed since, and the catalog does not tell: {why}",
                rfc3339(cached.read_unix_micros)
            );
            (Some(cached.schema.clone()), "cache", Some(note))
        }
        None => {
            let note = format!(
                "nothing is known of the table's columns, so only what no table can hold is found: {why}"
            );
            (None, "batches", Some(note))
        }
    })
}

struct Converting {
    transport: TransportKind,
    policies: Policies,
    columns: Option<TableSchema>,
    plans: Recent<(arrow_schema::SchemaRef, Arc<Result<AnyPlan, ConversionError>>)>,
    records: Records,
}

enum AnyPlan {
    Protobuf(Plan),
    Arrow(ArrowPlan),
}

impl Converting {
    fn plan(&mut self, batch: &RecordBatch) -> Arc<Result<AnyPlan, ConversionError>> {
        let schema = batch.schema();
        if let Some((_, plan)) = self.plans.find(|(known, _)| *known == schema) {
            return Arc::clone(plan);
        }
        let columns = self.columns.as_ref();
        let plan = match self.transport {
            TransportKind::Protobuf => Plan::new(&schema, columns, self.policies).map(AnyPlan::Protobuf),
            TransportKind::ArrowFlight => ArrowPlan::new(&schema, columns, self.policies).map(AnyPlan::Arrow),
        };
        let plan = Arc::new(plan);
        self.plans.add((schema, Arc::clone(&plan)));
        plan
    }

    fn convert(&mut self, log: &Path, piece: &Piece, run: &mut DryRun) {
        let batch = &piece.batch;
        let rows = batch.num_rows();
        run.rows += rows as u64;
        let mut refuse = |row: Option<u32>, rows: u64, code: &str, reason: String| {
            run.refused_rows += rows;
            if run.refused.len() < NAMED_MAX {
                let (log, code) = (log.to_owned(), code.to_owned());
                run.refused.push(RefusedRow { log, lsn: piece.lsn, row, rows, code, reason });
            }
        };
        let plan = self.plan(batch);
        let plan = match plan.as_ref() {
            Ok(plan) => plan,
            Err(error) => return refuse(None, rows as u64, "schema", error.to_string()),
        };
        for start in (0..rows).step_by(CHUNK_ROWS) {
            let chunk = start..(start + CHUNK_ROWS).min(rows);
            let encoded: Encoded = match plan {
                AnyPlan::Arrow(plan) => plan.check(batch, chunk.clone()),
                AnyPlan::Protobuf(plan) => {
                    self.records.clear();
                    plan.encode(batch, chunk.clone(), &mut self.records)
                }
            };
            for refused in &encoded.refused {
                refuse(Some(piece.rows.value(refused.row)), 1, "conversion", refused.to_string());
            }
            if let AnyPlan::Protobuf(_) = plan {
                let mut refused = encoded.refused.iter().map(|refused| refused.row).peekable();
                let converted = chunk.filter(|row| refused.next_if_eq(row).is_none());
                for (record, row) in converted.enumerate() {
                    if let Some(Cut::TooLarge { framed_bytes, .. }) =
                        self.records.cut(record, REQUEST_BYTES_MAX, 1)
                    {
                        let reason = format!(
                            "the row needs a request of {framed_bytes} bytes, the service takes {REQUEST_BYTES_MAX}"
                        );
                        refuse(Some(piece.rows.value(row)), 1, "row_too_large", reason);
                    }
                }
            }
        }
    }
}
