//! `zerobus-wal export`: stored rows as files that others read.

use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::output::{Format, counted, number, print_one, table};
use super::progress::{Unit, watched};
use super::rows::{RowsOptions, warn_unreadable};
use super::{Failure, root};
use crate::admin::export::{
    EXPORT_VERSION, ExportError, ExportOptions, ExportReport, Format as RowsFormat, Target,
};
use crate::admin::{RowState, Selection, export};
use crate::platform::signals;

/// Write stored rows into files: Parquet, Arrow, CSV or JSON Lines.
///
/// Works beside a live owner and on what a dead one left; takes no lock and changes nothing. Each schema has a file of its
/// own: the second of rows.parquet is rows.schema-2.parquet. Each table has, too, and where there are several the name says
/// which: rows.main.default.events.parquet. A file has its name only when it is complete. Without rows
/// there is no file.
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    rows: RowsOptions,
    /// Only rows in these states: `waiting`, `delivered` (as far as they are retained), `quarantined`, `dropped`, or `damaged`:
    /// those of frames that do not match their checksums and can be read all the same. Several with commas.
    #[arg(
        long,
        value_name = "STATES",
        value_delimiter = ',',
        default_value = "waiting,delivered,quarantined"
    )]
    state: Vec<RowState>,
    /// Only rows in quarantine with this reason: `conversion`, `row_too_large`, `transmission` or `schema`. Only with
    /// `--state quarantined`.
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    reason: Vec<String>,
    #[command(flatten)]
    file: FileOptions,
}

/// As what rows are written, and where to.
#[derive(Args, Clone, Debug)]
pub(super) struct FileOptions {
    /// As what: `parquet`, `arrow` (an IPC file), `csv` or `jsonl`.
    #[arg(long, value_name = "FORMAT", default_value = "parquet")]
    to: RowsFormat,
    /// The file; `-` is the standard output, which has room for one table, and one schema, or any with `--to jsonl`.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// Add where each row stood: `_zerobus_lsn`, `_zerobus_row`, `_zerobus_time`; and with rows in quarantine
    /// `_zerobus_reason` and `_zerobus_code`.
    #[arg(long)]
    with_position: bool,
    /// How to print what was written; with `--output -` that goes to stderr in words.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    run_selection(&args.rows, args.rows.selection(&args.state, &args.reason), &args.file)
}

/// Exports what was chosen.
pub(super) fn run_selection(
    rows: &RowsOptions,
    selection: Selection,
    file: &FileOptions,
) -> Result<(), Failure> {
    signals::survive_file_limits();
    let is_stream = file.output.as_os_str() == "-";
    let target = match is_stream {
        true => Target::Stream(Box::new(std::io::stdout())),
        false => Target::File(file.output.clone()),
    };
    let options = ExportOptions {
        root: root(rows.directory.as_ref())?,
        selection,
        format: file.to,
        target,
        force: file.force,
        with_position: file.with_position,
    };
    let report = match watched("export", Unit::Rows, |progress| export(options, progress)) {
        // Whoever reads has enough.
        Err(ExportError::ReaderGone) => return Ok(()),
        report => report?,
    };
    warn_unreadable(&report.unreadable);
    if is_stream {
        eprintln!("{}", summary(&report));
        return Ok(());
    }
    print_one(file.format, EXPORT_VERSION, &report, tables)
}

fn tables(report: &ExportReport) -> String {
    if report.files.is_empty() {
        return summary(report);
    }
    let mut files = table(["file", "rows", "bytes", "frames", "columns"]);
    for file in &report.files {
        files.add_row([
            file.path.display().to_string().into(),
            number(file.rows),
            number(file.bytes),
            format!("{} to {}", file.first_lsn, file.last_lsn).into(),
            file.columns.len().into(),
        ]);
    }
    format!("{files}\n{}", summary(report))
}

fn summary(report: &ExportReport) -> String {
    let states: Vec<String> =
        report.rows_by_state.iter().map(|(state, rows)| format!("{} {state}", HumanCount(*rows))).collect();
    let bytes = report.files.iter().map(|file| file.bytes).sum();
    match report.rows {
        0 => "no row was chosen, so nothing was written".to_owned(),
        rows => {
            let files = match report.files.len() {
                1 => String::new(),
                files => format!(" in {files} files, one for each table and schema"),
            };
            let rows = counted(rows, "row", "rows");
            format!("{rows}{files}: {}; {}", states.join(", "), HumanBytes(bytes))
        }
    }
}
