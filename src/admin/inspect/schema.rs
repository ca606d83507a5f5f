//! Which schemas the batches of a log have, and how each goes with the table as it is known.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;
use serde::Serialize;

use super::frame::Column;
use super::ledger::TableReport;
use super::{InspectError, Run};
use crate::convert::{ArrowPlan, Plan, Policies, TableSchema};
use crate::error::chain;
use crate::io::Env;
use crate::ledger;
use crate::wal::{Bodies, LogView, Piece, PieceKind, SchemaFingerprint, SegmentLook};

/// The schemas of one log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SchemaReport {
    /// The writer directory.
    pub directory: PathBuf,
    /// The table as it is known from before; none if nothing is.
    pub table: Option<TableReport>,
    /// Each schema, in the order in which batches came with it.
    pub schemas: Vec<StoredSchemaReport>,
}

/// One schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredSchemaReport {
    /// What it is named by.
    pub fingerprint: String,
    /// Its columns; `None` if they are lost.
    pub columns: Option<Vec<Column>>,
    /// Batches that have it.
    pub frames: u64,
    /// Their rows.
    pub rows: u64,
    /// Which batches.
    pub lsns: Vec<Run>,
    /// How it goes with the table.
    pub table_match: TableMatch,
    /// Why it does not, for each transport that cannot deliver it.
    pub misfits: BTreeMap<&'static str, String>,
}

/// How a schema goes with the table as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableMatch {
    /// Every transport can deliver it.
    Fits,
    /// Some transport cannot deliver it.
    Misfit,
    /// Nothing is known of the table, or the schema is lost.
    Unknown,
}

#[derive(Default)]
struct Found {
    schema: Option<SchemaRef>,
    frames: u64,
    rows: u64,
    lsns: Vec<Run>,
}

/// Reads which batch has which schema in the log of a writer directory, settled ones that are still there included.
///
/// # Errors
///
/// [`InspectError`] if the log or its ledger cannot be read.
pub fn inspect_schema(directory: &Path) -> Result<SchemaReport, InspectError> {
    let env = Env::os();
    let view = LogView::read(&env, directory).map_err(InspectError::log(directory))?;
    let table = ledger::peek(directory, view.epoch()).map_err(InspectError::ledger(directory))?.table;
    let mut order: Vec<SchemaFingerprint> = Vec::new();
    let mut all: BTreeMap<SchemaFingerprint, Found> = BTreeMap::new();
    for place in view.places() {
        let look = match SegmentLook::open(&env, &place.path) {
            // It was reclaimed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            look => look.map_err(InspectError::file(&place.path))?,
        };
        let mut pieces = look.pieces(view.epoch(), place.segment, Bodies::Unread);
        while let Some(piece) = pieces.next().map_err(InspectError::file(&place.path))? {
            let Piece::Frame(frame) = piece else { continue };
            let fingerprint = frame.fingerprint;
            match frame.kind {
                PieceKind::Footer => {}
                PieceKind::Schema => {
                    if let Some(schema) = pieces.schema(fingerprint) {
                        all.entry(fingerprint).or_default().schema.get_or_insert_with(|| schema.clone());
                    }
                }
                PieceKind::Batch => {
                    if !place.lsns.is_some_and(|(first, last)| (first..=last).contains(&frame.lsn)) {
                        continue;
                    }
                    let found = all.entry(fingerprint).or_default();
                    if found.frames == 0 {
                        order.push(fingerprint);
                    }
                    found.frames += 1;
                    found.rows += u64::from(frame.rows);
                    Run::extend(&mut found.lsns, frame.lsn.get());
                }
            }
        }
    }
    let known = table.as_ref().map(|cached| &cached.schema);
    let schemas =
        order.iter().filter_map(|fingerprint| Some(report_of(*fingerprint, all.remove(fingerprint)?, known)));
    Ok(SchemaReport {
        directory: directory.to_owned(),
        schemas: schemas.collect(),
        table: table.as_ref().map(TableReport::of),
    })
}

fn report_of(
    fingerprint: SchemaFingerprint,
    found: Found,
    table: Option<&TableSchema>,
) -> StoredSchemaReport {
    let mut misfits = BTreeMap::new();
    if let (Some(schema), Some(table)) = (&found.schema, table) {
        let policies = Policies::default();
        if let Err(error) = Plan::new(schema, Some(table), policies) {
            misfits.insert("protobuf", chain(&error));
        }
        if let Err(error) = ArrowPlan::new(schema, Some(table), policies) {
            misfits.insert("arrow_flight", chain(&error));
        }
    }
    let table_match = match (&found.schema, table) {
        (Some(_), Some(_)) if misfits.is_empty() => TableMatch::Fits,
        (Some(_), Some(_)) => TableMatch::Misfit,
        _ => TableMatch::Unknown,
    };
    StoredSchemaReport {
        fingerprint: fingerprint.to_string(),
        columns: found.schema.as_ref().map(|schema| Column::of_schema(schema)),
        frames: found.frames,
        rows: found.rows,
        lsns: found.lsns,
        table_match,
        misfits,
    }
}
