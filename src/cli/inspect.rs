//! `zerobus-wal inspect`: what exactly stands in a log.

mod text;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::text::{frame_text, ledger_text, schema_text, segment_text};
use super::output::{Format, counted, print, print_one, versioned};
use super::shown::{json_rows, table_of_rows};
use super::{Failure, root};
use crate::admin::inspect::{
    InspectedFrame, inspect_frame, inspect_ledger, inspect_schema, inspect_segment, one_log,
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
                    format!(
                        "\n{}; --limit {} shows all",
                        counted(left as u64, "more row", "more rows"),
                        batch.num_rows()
                    )
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
