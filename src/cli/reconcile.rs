//! `zerobus-wal reconcile`: whether what was delivered is in the table.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::output::{Format, counted, number, print_one, table};
use super::progress::{Unit, watched};
use super::rows::{RowsOptions, warn_unreadable};
use super::{Failure, root};
use crate::admin::reconcile::{
    KeyCount, RECONCILE_VERSION, ReconcileOptions, ReconcileReport, ReconcileTarget, reconcile,
};
use crate::error::ErrorCode;

/// Compare what logs say was delivered with what is in the table: rows that are missing there, or there twice.
///
/// With --key it compares row by row, as far as delivered frames are retained; otherwise the number of rows. It says what it
/// cannot know. Takes no lock and writes nothing. Exit code 13 if rows are missing.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("target").required(true).args(["delta", "counts"])))]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    rows: RowsOptions,
    /// The Delta table in this directory, such as one of the emulator.
    #[arg(long, value_name = "DIRECTORY")]
    delta: Option<PathBuf>,
    /// A file with what system.lakeflow.zerobus_ingest says (columns table_name, commit_time, committed_records), or with the
    /// result of a count(*): CSV, or JSON, or JSON Lines.
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    /// The column whose values name a row; several with commas. Only with `--delta`.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    key: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &ReconcileArgs) -> Result<(), Failure> {
    let target = match (&args.delta, &args.counts) {
        (Some(directory), _) => ReconcileTarget::Delta(directory.clone()),
        (None, Some(file)) => ReconcileTarget::Counts(file.clone()),
        (None, None) => {
            let text = "nothing to compare with; give --delta or --counts".to_owned();
            return Err(Failure { code: ErrorCode::Configuration, text });
        }
    };
    let options = ReconcileOptions {
        root: root(args.rows.directory.as_ref())?,
        selection: args.rows.selection(&[], &[]),
        target,
        keys: args.key.clone(),
    };
    let report = watched("reconcile", Unit::Rows, |progress| reconcile(&options, progress))?;
    warn_unreadable(&report.unreadable);
    print_one(args.format, RECONCILE_VERSION, &report, tables)?;
    match report.missing_rows {
        0 => Ok(()),
        missing => Err(Failure {
            code: ErrorCode::Transmission,
            text: format!(
                "{} delivered and not found in {}; what is retained can be sent again with zerobus-wal replay",
                counted(missing, "row was", "rows were"),
                report.target.display()
            ),
        }),
    }
}

fn keys(title: &str, counts: &[KeyCount]) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let mut keys = table(["key", "rows", "delivered", "found", "log", "frame", "row"]);
    for run in counts.chunk_by(follows) {
        let [first, ..] = run else { continue };
        let last = run.last().unwrap_or(first);
        keys.add_row([
            from_to(named(first), named(last)).into(),
            number(run.len() as u64),
            number(first.delivered),
            number(first.found),
            first.log.display().to_string().into(),
            from_to(first.lsn.to_string(), last.lsn.to_string()).into(),
            from_to(first.row.to_string(), last.row.to_string()).into(),
        ]);
    }
    format!("{title}\n{keys}\n")
}

/// Whether a row stands behind another one in the log, and the same is to be said of both.
fn follows(one: &KeyCount, next: &KeyCount) -> bool {
    let is_behind = match next.lsn == one.lsn {
        true => next.row == one.row + 1,
        false => next.lsn == one.lsn.next() && next.row == 0,
    };
    is_behind && next.log == one.log && (next.delivered, next.found) == (one.delivered, one.found)
}

fn named(count: &KeyCount) -> String {
    let values: Vec<&str> = count.key.iter().map(|value| value.as_deref().unwrap_or("null")).collect();
    values.join(", ")
}

/// Both ends of a run, as ranges of numbers are written: `5..=9`.
fn from_to(first: String, last: String) -> String {
    if first == last { first } else { format!("{first}..={last}") }
}

fn tables(report: &ReconcileReport) -> String {
    let mut text = keys("missing", &report.missing);
    text.push_str(&keys("duplicated", &report.duplicated));
    let mut counts =
        table(["table", "delivered", "in the table", "missing", "duplicated", "unsettled", "unknown"]);
    let known = |rows: Option<u64>| rows.map_or_else(|| "-".into(), number);
    counts.add_row([
        report.table.to_string().into(),
        number(report.delivered_rows),
        number(report.target_rows),
        number(report.missing_rows),
        number(report.duplicated_rows),
        known(report.unsettled_rows),
        known(report.unknown_rows),
    ]);
    text.push_str(&counts.to_string());
    for limit in &report.limits {
        text.push_str(&format!("\nnote: {limit}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Lsn;

    #[test]
    fn rows_that_stand_together_are_one_line() {
        let count = |id: u64, lsn: u64, row: u32, found: u64| KeyCount {
            key: vec![Some(id.to_string())],
            delivered: 1,
            found,
            log: "/wal/writer-001".into(),
            lsn: Lsn::new(lsn),
            row,
        };
        let mut missing: Vec<_> = (5..10).map(|id| count(id, 1, id as u32 - 5, 0)).collect();
        missing.push(count(10, 2, 0, 0));
        missing.push(count(11, 2, 1, 2));
        missing.push(count(20, 4, 0, 0));
        let shown = keys("missing", &missing);
        for text in ["5..=10", "1..=2", " 6 ", " 11 ", " 20 "] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
        assert_eq!(shown.matches("writer-001").count(), 3, "{shown}");
    }
}
