//! `zerobus-wal inspect`: what exactly stands in a log.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfy_table::Cell;
use indicatif::{HumanBytes, HumanCount};

use super::output::{Format, number, print, print_one, table, versioned};
use super::rows::{json_rows, table_of_rows};
use super::time::utc;
use super::{Failure, root};
use crate::admin::inspect::{
    Column, FrameReport, HeaderState, InspectedFrame, LedgerReport, PieceReport, Run, SchemaReport,
    SegmentReport, SegmentState, TableMatch, inspect_frame, inspect_ledger, inspect_schema, inspect_segment,
    one_log,
};
use crate::error::ErrorCode;
use crate::types::Lsn;

/// Version of the JSON.
const VERSION: u32 = 1;

/// Show what exactly stands in a log: a segment, a frame with its rows, the ledger, or the schemas.
///
/// Works beside a live owner and on what a dead one left, whole or damaged. Takes no lock and writes nothing.
#[derive(Args, Debug)]
pub(super) struct InspectArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Segment(SegmentArgs),
    Frame(FrameArgs),
    Ledger(LogArgs),
    Schema(SchemaArgs),
}

/// Show a segment file: header, footer, and each frame with its number, place, rows and time, and whether it is whole.
///
/// Ends with 22 if something in it is damaged.
#[derive(Args, Debug)]
struct SegmentArgs {
    /// The file, such as writer-001/segment-0000000000000001.wal.
    path: PathBuf,
    /// How to print; jsonl prints a line for each frame.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Show a frame: its header, what became of it, and its rows.
#[derive(Args, Debug)]
struct FrameArgs {
    /// Its number in the log.
    lsn: u64,
    /// The writer directory, or a directory with one log below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How many rows to print, from the first on.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    limit: usize,
    /// How to print; jsonl prints a line for each row.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Show what the ledger says: what is settled, what is counted, the persistent stream, and the table's columns.
#[derive(Args, Debug)]
struct LogArgs {
    /// The writer directory, or a directory with one log below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Show the schemas in the log, which frames have them, and how each goes with the table as it is known.
#[derive(Args, Debug)]
struct SchemaArgs {
    /// The writer directory, or a directory with one log below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print; jsonl prints a line for each schema.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &InspectArgs) -> Result<(), Failure> {
    match &args.what {
        What::Segment(args) => segment(args),
        What::Frame(args) => frame(args),
        What::Ledger(args) => {
            let report = inspect_ledger(&log(args.directory.as_ref())?)?;
            print_one(args.format, VERSION, &report, ledger_text)
        }
        What::Schema(args) => {
            let report = inspect_schema(&log(args.directory.as_ref())?)?;
            match args.format {
                Format::Jsonl => print_lines(&report.schemas),
                format => print_one(format, VERSION, &report, schema_text),
            }
        }
    }
}

fn log(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    Ok(one_log(&root(given)?)?)
}

fn print_lines(items: &[impl serde::Serialize]) -> Result<(), Failure> {
    items.iter().try_for_each(|item| print(&versioned(item, VERSION)?.to_string()))
}

fn segment(args: &SegmentArgs) -> Result<(), Failure> {
    let report = inspect_segment(&args.path)?;
    match args.format {
        Format::Jsonl => print_lines(&report.pieces)?,
        format => print_one(format, VERSION, &report, segment_text)?,
    }
    match report.is_damaged {
        false => Ok(()),
        true => Err(Failure {
            code: ErrorCode::Corruption,
            text: format!("{} is damaged; zerobus-wal verify says what that means", report.path.display()),
        }),
    }
}

fn segment_text(report: &SegmentReport) -> String {
    let state = match report.state {
        SegmentState::Sealed => "sealed",
        SegmentState::Open => "open",
    };
    let mut text = format!(
        "{}\nsegment {} of log {}, {state}, {}: {} frames, {} rows\n",
        report.path.display(),
        report.segment,
        report.epoch,
        HumanBytes(report.bytes),
        HumanCount(report.frames),
        HumanCount(report.rows),
    );
    match (
        report.header.state,
        report.header.base_lsn,
        report.header.previous_lsn,
        report.header.created_unix_micros,
    ) {
        (HeaderState::Whole, Some(base), Some(previous), Some(created)) => text.push_str(&format!(
            "header: whole; begins at frame {base}, {previous} came before it; made at {}\n",
            utc(created)
        )),
        (HeaderState::Unwritten, ..) => text.push_str("header: never written in full, by a crash\n"),
        _ => text.push_str("header: DAMAGED, it does not match its checksum\n"),
    }
    match &report.footer {
        Some(footer) => text.push_str(&format!(
            "footer: whole; frames {} to {}, {} frames, {} rows, up to byte {}; appended from {} to {}\n",
            footer.first_lsn,
            footer.last_lsn,
            HumanCount(footer.frames),
            HumanCount(footer.rows),
            footer.end,
            utc(footer.first_unix_micros),
            utc(footer.last_unix_micros),
        )),
        None => text.push_str("footer: none, so the segment was not sealed, or its footer is lost\n"),
    }
    let mut table = table(["kind", "lsn", "position", "length", "rows", "appended", "schema", "checksum"]);
    let ok = |ok: bool| Cell::new(if ok { "ok" } else { "WRONG" });
    let none = || Cell::new("");
    for piece in &report.pieces {
        table.add_row(match piece {
            PieceReport::Schema { offset, bytes, fingerprint, checksum_ok } => vec![
                Cell::new("schema"),
                none(),
                number(*offset),
                number(*bytes),
                none(),
                none(),
                Cell::new(fingerprint),
                ok(*checksum_ok),
            ],
            PieceReport::Batch {
                lsn,
                offset,
                bytes,
                rows,
                fingerprint,
                appended_unix_micros,
                checksum_ok,
                is_void,
            } => vec![
                Cell::new(if *is_void { "batch (void)" } else { "batch" }),
                Cell::new(lsn),
                number(*offset),
                number(*bytes),
                number((*rows).into()),
                Cell::new(utc(*appended_unix_micros)),
                Cell::new(fingerprint),
                ok(*checksum_ok),
            ],
            PieceReport::Footer { offset, bytes, checksum_ok } => {
                vec![
                    Cell::new("footer"),
                    none(),
                    number(*offset),
                    number(*bytes),
                    none(),
                    none(),
                    none(),
                    ok(*checksum_ok),
                ]
            }
            PieceReport::Unreadable { offset, bytes, is_zero } => {
                let what = if *is_zero { "ZEROS" } else { "NO FRAME" };
                vec![Cell::new(what), none(), number(*offset), number(*bytes), none(), none(), none(), none()]
            }
            PieceReport::Torn { offset, bytes } => {
                vec![
                    Cell::new("unfinished"),
                    none(),
                    number(*offset),
                    number(*bytes),
                    none(),
                    none(),
                    none(),
                    none(),
                ]
            }
        });
    }
    text.push_str(&table.to_string());
    text
}

fn frame(args: &FrameArgs) -> Result<(), Failure> {
    let directory = log(args.directory.as_ref())?;
    let InspectedFrame { report, batch } = inspect_frame(&directory, Lsn::new(args.lsn))?;
    let shown = batch.slice(0, args.limit.min(batch.num_rows()));
    let unprintable = |reason: String| Failure {
        code: ErrorCode::Conversion,
        text: format!("the rows cannot be printed: {reason}"),
    };
    match args.format {
        Format::Table => {
            let rows = table_of_rows(&shown).map_err(|error| unprintable(error.to_string()))?;
            let left = batch.num_rows() - shown.num_rows();
            let more = match left {
                0 => String::new(),
                left => {
                    format!("\n{} more rows; --limit {} shows all", HumanCount(left as u64), batch.num_rows())
                }
            };
            print(&format!("{}\n{rows}{more}", frame_text(&report)))
        }
        Format::Jsonl => {
            let rows = json_rows(&shown).map_err(|error| unprintable(error.to_string()))?;
            rows.iter().try_for_each(|row| print(row))
        }
        Format::Json => {
            let rows = json_rows(&shown).map_err(|error| unprintable(error.to_string()))?;
            let report = format!("{:#}", versioned(&report, VERSION)?);
            // The rows are text already: decimals and large numbers keep every digit.
            let report = report.trim_end_matches(['}', '\n']);
            let rows: Vec<String> = rows.iter().map(|row| format!("\n    {row}")).collect();
            print(&format!("{report},\n  \"shown\": [{}\n  ]\n}}", rows.join(",")))
        }
    }
}

fn frame_text(report: &FrameReport) -> String {
    let mut text = format!(
        "frame {} of {}\n{} rows, {} at {} in {}, appended at {}, schema {}\nstate: {}",
        report.lsn,
        report.directory.display(),
        HumanCount(report.rows.into()),
        HumanBytes(report.bytes),
        report.offset,
        name_of(&report.segment),
        utc(report.appended_unix_micros),
        report.fingerprint,
        report.state.as_str(),
    );
    if !report.settled_rows.is_empty() && report.settled_rows != [whole(report.rows)] {
        text.push_str(&format!("; settled are rows {}", runs(&report.settled_rows)));
    }
    if !report.quarantined_rows.is_empty() {
        text.push_str(&format!("; in quarantine are rows {}", runs(&report.quarantined_rows)));
    }
    text.push_str(&format!("\ncolumns: {}", columns(&report.columns)));
    text
}

fn whole(rows: u32) -> Run {
    Run { first: 0, last: u64::from(rows).saturating_sub(1) }
}

fn columns(columns: &[Column]) -> String {
    let column = |column: &Column| {
        let not_null = if column.nullable { "" } else { " not null" };
        format!("{} {}{not_null}", column.name, column.arrow_type)
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn runs(runs: &[Run]) -> String {
    let run = |run: &Run| match run.first == run.last {
        true => run.first.to_string(),
        false => format!("{} to {}", run.first, run.last),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn ledger_text(report: &LedgerReport) -> String {
    let mut lines = vec![format!("ledger of {}, log {}", report.directory.display(), report.epoch)];
    if !report.is_known {
        lines.push("it says nothing of this log: nothing was settled yet, or it is lost".to_owned());
    }
    let settled = report.settled;
    let part = match settled.rows_of_next {
        0 => String::new(),
        rows => format!(", and {} rows of frame {}", HumanCount(rows.into()), settled.through.next()),
    };
    lines.push(format!("settled: up to frame {}{part}", settled.through));
    for range in &report.ranges {
        lines.push(format!(
            "settled above that: behind frame {} (row {}) up to frame {} (row {}): {} frames, {} rows",
            range.start.through,
            range.start.rows_of_next,
            range.end.through,
            range.end.rows_of_next,
            HumanCount(range.frames),
            HumanCount(range.rows)
        ));
    }
    lines.push(format!(
        "delivered: {} rows, {} frames; in quarantine: {} rows, {} frames as a whole; dropped: {} rows, {} frames; \
         damaged: {} frames",
        HumanCount(report.delivered_rows),
        HumanCount(report.delivered_frames),
        HumanCount(report.quarantined.rows),
        HumanCount(report.quarantined.frames),
        HumanCount(report.dropped_rows),
        HumanCount(report.dropped_frames),
        HumanCount(report.damaged_frames),
    ));
    for range in &report.dropped {
        lines.push(format!("dropped: frames {} to {}", range.first, range.last));
    }
    if report.bent != Default::default() {
        lines.push(format!(
            "bent: {} timestamps lost nanoseconds, {} null lists became empty",
            HumanCount(report.bent.floored_timestamps),
            HumanCount(report.bent.emptied_lists)
        ));
    }
    if report.doubtful_rows > 0 {
        lines.push(format!("doubtful: {} rows were sent again", HumanCount(report.doubtful_rows)));
    }
    match (&report.stream, &report.streams_failure) {
        (_, Some(failure)) => lines.push(format!("persistent stream: CANNOT BE READ: {failure}")),
        (None, None) => lines.push("persistent stream: none".to_owned()),
        (Some(stream), None) => lines.push(format!(
            "persistent stream: {}, next offset {}; {} requests with {} rows are recorded and not settled{}",
            stream.id,
            stream.next_offset,
            HumanCount(stream.requests),
            HumanCount(stream.rows),
            if stream.void_offsets > 0 { "; it cannot go on, the next owner begins another" } else { "" }
        )),
    }
    for path in &report.set_aside {
        lines.push(format!("set aside: {}", path.display()));
    }
    match &report.table {
        None => lines.push("table: its columns are not known".to_owned()),
        Some(known) => {
            lines.push(format!("table: {}, as read at {}", known.name, utc(known.read_unix_micros)));
            let mut columns = table(["column", "type", "number", "nullable"]);
            for column in &known.columns {
                let nullable = if column.nullable { "yes" } else { "no" };
                columns.add_row([&column.name, &column.delta_type, &column.number.to_string(), nullable]);
            }
            lines.push(columns.to_string());
        }
    }
    lines.join("\n")
}

fn schema_text(report: &SchemaReport) -> String {
    if report.schemas.is_empty() {
        return format!("{} holds no frames", report.directory.display());
    }
    let mut lines = Vec::new();
    for schema in &report.schemas {
        let fits = match schema.table_match {
            TableMatch::Fits => "fits the table",
            TableMatch::Misfit => "does NOT fit the table",
            TableMatch::Unknown => "cannot be compared, the table's columns are not known",
        };
        lines.push(format!(
            "schema {}: {} frames, {} rows; {fits}",
            schema.fingerprint,
            HumanCount(schema.frames),
            HumanCount(schema.rows)
        ));
        let told = schema.columns.as_deref().map_or("LOST".to_owned(), columns);
        lines.push(format!("  columns: {told}"));
        lines.push(format!("  frames: {}", runs(&schema.lsns)));
        lines
            .extend(schema.misfits.iter().map(|(transport, reason)| format!("  with {transport}: {reason}")));
    }
    lines.join("\n")
}
