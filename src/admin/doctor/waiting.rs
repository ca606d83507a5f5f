//! Would what waits in the log be delivered? It is converted in memory, and what would be refused is told.

use std::collections::HashMap;
use std::path::Path;

use super::Finding;
use crate::admin::{Progress, word};
use crate::config::TransportKind;
use crate::convert::{ArrowPlan, Encoded, Plan, Policies, Records, TableSchema};
use crate::error::{Coded, ErrorCode, chain};
use crate::io::Env;
use crate::ledger;
use crate::wal::{Frame, LogView, Next, OpenError, SchemaFingerprint};

/// So many rows are converted at once.
const ROWS_TOGETHER: usize = 4_096;
/// So many refusals are told; the others are counted.
const TOLD_MAX: usize = 3;

/// How it would be sent.
pub(super) struct Asked {
    pub(super) transport: TransportKind,
    pub(super) policies: Policies,
    /// The columns of the table, if the catalog has told them.
    pub(super) columns: Option<TableSchema>,
}

/// How the batches of one schema are converted.
enum AnyPlan {
    Records(Box<Plan>),
    Batch(ArrowPlan),
}

/// What was seen.
#[derive(Default)]
struct Seen {
    frames: u64,
    rows: u64,
    refused_rows: u64,
    damaged_frames: u64,
    told: Vec<String>,
    is_stopped: bool,
}

impl Seen {
    fn refuse(&mut self, rows: u64, why: impl FnOnce() -> String) {
        self.refused_rows += rows;
        if self.told.len() < TOLD_MAX {
            self.told.push(why());
        }
    }
}

/// None if there is no log.
pub(super) fn examine(env: &Env, directory: &Path, asked: Asked, progress: &Progress) -> Option<Finding> {
    let failed = |code: ErrorCode, error: &dyn std::error::Error, advice: &str| {
        Some(Finding::failed("waiting", directory.display(), code, chain(error), advice))
    };
    let advice = "zerobus-wal verify tells what is damaged, and zerobus-wal repair mends what can be";
    let view = match LogView::read(env, directory) {
        Ok(view) => view,
        Err(OpenError::NoLog { .. } | OpenError::Storage { .. }) => return None,
        Err(error) => return failed(error.code(), &error, advice),
    };
    let remembered = match ledger::peek(directory, view.epoch()) {
        Ok(remembered) => remembered,
        Err(error) => return failed(error.code(), &error, advice),
    };
    let (record, ranges) = remembered.record.unwrap_or_default();
    let (columns, source) = match (asked.columns, remembered.table) {
        (Some(columns), _) => (Some(columns), "the columns of the table"),
        (None, Some(cached)) => {
            (Some(cached.schema), "the columns that the table had when they were read last")
        }
        (None, None) => (None, "what any table can have; its columns are not known"),
    };
    let mut plans: HashMap<SchemaFingerprint, Result<AnyPlan, String>> = HashMap::new();
    let mut seen = Seen::default();
    let from = record.settled.through.next();
    if let Ok(count) = view.count_from(from) {
        progress.set_total(count.rows);
    }
    let mut reader = view.reader(from);
    loop {
        if progress.is_stopped() {
            seen.is_stopped = true;
            break;
        }
        match reader.next() {
            Ok(Some(Next::Frame(frame))) if ranges.has_frame(frame.lsn) => {}
            Ok(Some(Next::Frame(frame))) => {
                let plan = plans.entry(frame.fingerprint).or_insert_with(|| {
                    let (schema, columns) = (&frame.schema, columns.as_ref());
                    let plan = match asked.transport {
                        TransportKind::Protobuf => Plan::new(schema, columns, asked.policies)
                            .map(|plan| AnyPlan::Records(Box::new(plan))),
                        TransportKind::ArrowFlight => {
                            ArrowPlan::new(schema, columns, asked.policies).map(AnyPlan::Batch)
                        }
                    };
                    plan.map_err(|error| chain(&error))
                });
                look_at(&frame, plan.as_ref(), &mut seen);
                progress.add(u64::from(frame.rows));
            }
            Ok(Some(Next::Damaged(damage))) => {
                let lost = damage.lsns.as_ref().map_or(0, |lsns| lsns.end().get() - lsns.start().get() + 1);
                seen.damaged_frames += lost;
                if seen.told.len() < TOLD_MAX {
                    seen.told.push(damage.to_string());
                }
            }
            Ok(None) => break,
            Err(error) => {
                return failed(
                    ErrorCode::Storage,
                    &error,
                    "the disk cannot be read: see what its machine says of it",
                );
            }
        }
    }
    Some(found(directory, &seen, source))
}

fn look_at(frame: &Frame, plan: Result<&AnyPlan, &String>, seen: &mut Seen) {
    seen.frames += 1;
    seen.rows += u64::from(frame.rows);
    let plan = match plan {
        Ok(plan) => plan,
        Err(reason) => {
            return seen.refuse(u64::from(frame.rows), || format!("frame {}: {reason}", frame.lsn));
        }
    };
    let batch = match frame.decode() {
        Ok(batch) => batch,
        Err(error) => {
            return seen.refuse(u64::from(frame.rows), || format!("frame {}: {}", frame.lsn, chain(&error)));
        }
    };
    let mut records = Records::new();
    let rows = batch.num_rows();
    for start in (0..rows).step_by(ROWS_TOGETHER) {
        let run = start..(start + ROWS_TOGETHER).min(rows);
        records.clear();
        let Encoded { refused, .. } = match plan {
            AnyPlan::Records(plan) => plan.encode(&batch, run, &mut records),
            AnyPlan::Batch(plan) => plan.check(&batch, run),
        };
        for row in refused {
            seen.refuse(1, || format!("row {} of frame {}: {row}", row.row, frame.lsn));
        }
    }
}

fn found(directory: &Path, seen: &Seen, source: &str) -> Finding {
    let Seen { frames, rows, refused_rows, damaged_frames, told, is_stopped } = seen;
    let directory = directory.display();
    if *frames == 0 && *damaged_frames == 0 {
        return Finding::ok("waiting", directory, "nothing waits");
    }
    let part = if *is_stopped { ", as far as this was looked at" } else { "" };
    let all = format!(
        "{rows} {} in {frames} {} {}{part}; measured by {source}",
        word(*rows, "row", "rows"),
        word(*frames, "frame", "frames"),
        word(*rows, "waits", "wait")
    );
    let details = told.join("; ");
    if *refused_rows > 0 {
        let found = format!("{all}, {refused_rows} of them would be refused: {details}");
        let advice = "change the table, or the policy that the message names (timestamp_ns, null_list); what stays \
                      refused goes into quarantine, after schema_grace_secs if it is a schema";
        return Finding::failed("waiting", directory, ErrorCode::Conversion, found, advice);
    }
    if *damaged_frames > 0 {
        let found = format!(
            "{all}, and {damaged_frames} {} damaged: {details}",
            word(*damaged_frames, "frame among them is", "frames among them are")
        );
        let advice = "none is needed: delivery steps over them; zerobus-wal verify names them all";
        return Finding::warning("waiting", directory, found, advice);
    }
    Finding::ok("waiting", directory, format!("{all}, and all of them convert"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::doctor::Verdict;

    #[test]
    fn what_is_told_is_bounded_and_the_rest_is_counted() {
        let mut seen = Seen { frames: 1, rows: 10, ..Seen::default() };
        for row in 0..10 {
            seen.refuse(1, || format!("row {row}"));
        }
        let told = found(Path::new("log"), &seen, "nothing");
        assert_eq!(told.verdict, Verdict::Failed);
        assert!(told.found.contains("10 of them would be refused: row 0; row 1; row 2"), "{}", told.found);
        assert!(!told.found.contains("row 3"));
    }
}
