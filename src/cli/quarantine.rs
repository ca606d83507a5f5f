//! `zerobus-wal quarantine`: rows that were refused for good: which, why, and what becomes of them.

use clap::{Args, Subcommand};
use indicatif::{HumanBytes, HumanCount};

use super::export::{FileOptions, run_selection};
use super::output::{Format, counted, number, print_one, table};
use super::replay::{self, HowOptions};
use super::rows::{RowsOptions, warn_unreadable};
use super::{Failure, root};
use crate::admin::kept::{
    QUARANTINE_VERSION, QuarantineDrop, QuarantineFile, QuarantineList, QuarantineRows,
};
use crate::admin::{RowState, quarantine_drop, quarantine_list, quarantine_rows, rfc3339};

/// Look at rows that were refused for good, send them again, take them out.
#[derive(Args, Debug)]
pub(super) struct QuarantineArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the files in quarantine, and how many rows have which reason.
    ///
    /// Takes no lock and writes nothing.
    Ls(ListArgs),
    /// Show rows in quarantine, with why each was refused.
    ///
    /// Takes no lock and writes nothing.
    Show(ShowArgs),
    /// Send rows in quarantine again, as `zerobus-wal replay --state quarantined` does.
    ///
    /// The files stay in quarantine; drop them when the rows have arrived.
    Replay(Box<ReplayArgs>),
    /// Write rows in quarantine into files, as `zerobus-wal export --state quarantined` does.
    Export(ExportArgs),
    /// Take files out of quarantine for good.
    ///
    /// Without --execute this says what it would do. The file of a frame that is not settled stays: it stands for its rows,
    /// which would be tried again without it. So does a file of which only some rows are meant. The status goes on counting
    /// what was dropped as quarantined.
    Drop(DropArgs),
}

/// Rows in quarantine.
#[derive(Args, Clone, Debug)]
struct KeptOptions {
    #[command(flatten)]
    rows: RowsOptions,
    /// Only rows with this reason: `conversion`, `row_too_large`, `transmission` or `schema`. Several with commas.
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    reason: Vec<String>,
}

impl KeptOptions {
    fn selection(&self) -> crate::admin::Selection {
        self.rows.selection(&[RowState::Quarantined], &self.reason)
    }
}

#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    kept: KeptOptions,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Args, Debug)]
struct ShowArgs {
    #[command(flatten)]
    kept: KeptOptions,
    /// Show so many rows at most.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    limit: usize,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Args, Debug)]
struct ReplayArgs {
    #[command(flatten)]
    kept: KeptOptions,
    #[command(flatten)]
    how: HowOptions,
}

#[derive(Args, Debug)]
struct ExportArgs {
    #[command(flatten)]
    kept: KeptOptions,
    #[command(flatten)]
    file: FileOptions,
}

#[derive(Args, Debug)]
struct DropArgs {
    #[command(flatten)]
    kept: KeptOptions,
    /// Drop everything; otherwise something has to say which files are meant.
    #[arg(long)]
    all: bool,
    /// Do it; otherwise only the plan is printed.
    #[arg(long)]
    execute: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &QuarantineArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Ls(args) => {
            let list = quarantine_list(&root(args.kept.rows.directory.as_ref())?, args.kept.selection())?;
            warn_unreadable(&list.unreadable);
            print_one(args.format, QUARANTINE_VERSION, &list, listed)
        }
        Verb::Show(args) => {
            let root = root(args.kept.rows.directory.as_ref())?;
            let rows = quarantine_rows(&root, args.kept.selection(), args.limit)?;
            warn_unreadable(&rows.unreadable);
            print_one(args.format, QUARANTINE_VERSION, &rows, shown)
        }
        Verb::Replay(args) => replay::run_selection(&args.kept.rows, args.kept.selection(), &args.how),
        Verb::Export(args) => run_selection(&args.kept.rows, args.kept.selection(), &args.file),
        Verb::Drop(args) => {
            let root = root(args.kept.rows.directory.as_ref())?;
            let dropped = quarantine_drop(&root, args.kept.selection(), args.all, args.execute)?;
            print_one(args.format, QUARANTINE_VERSION, &dropped, drops)
        }
    }
}

fn codes(file: &QuarantineFile) -> String {
    let codes: Vec<String> =
        file.codes.iter().map(|(code, rows)| format!("{code} {}", HumanCount(*rows))).collect();
    codes.join(", ")
}

fn files(listed: &[QuarantineFile]) -> comfy_table::Table {
    let mut files =
        table(["file", "frame", "rows", "reasons", "the first because", "time", "bytes", "settled"]);
    for file in listed {
        files.add_row([
            file.path.display().to_string().into(),
            number(file.lsn.get()),
            number(file.rows),
            codes(file).into(),
            shortened(&file.reason).into(),
            rfc3339(file.time_unix_micros).into(),
            number(file.bytes),
            if file.is_settled { "yes" } else { "no" }.into(),
        ]);
    }
    files
}

fn shortened(text: &str) -> String {
    const CHARS: usize = 80;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn listed(list: &QuarantineList) -> String {
    if list.files.is_empty() {
        return "nothing is in quarantine".to_owned();
    }
    let mut reasons = table(["reason", "files", "rows"]);
    for (code, summary) in &list.reasons {
        reasons.add_row([code.into(), number(summary.files), number(summary.rows)]);
    }
    format!(
        "{}\n{reasons}\n{} in {}, {}",
        files(&list.files),
        counted(list.rows, "row", "rows"),
        counted(list.files.len() as u64, "file", "files"),
        HumanBytes(list.bytes)
    )
}

fn shown(rows: &QuarantineRows) -> String {
    if rows.rows.is_empty() {
        return "nothing is in quarantine".to_owned();
    }
    let mut shown = table(["frame", "row", "code", "reason", "values"]);
    for row in &rows.rows {
        let values = serde_json::Value::Object(row.values.clone());
        shown.add_row([
            number(row.lsn.get()),
            number(row.row.into()),
            row.code.clone().into(),
            row.reason.clone().into(),
            values.to_string().into(),
        ]);
    }
    match rows.has_more {
        true => format!("{shown}\nthere are more; give --limit"),
        false => shown.to_string(),
    }
}

fn drops(dropped: &QuarantineDrop) -> String {
    let mut text = String::new();
    if !dropped.files.is_empty() {
        text.push_str(&format!("{}\n", files(&dropped.files)));
    }
    for left in &dropped.left {
        text.push_str(&format!("{} stays: {}\n", left.path.display(), left.reason));
    }
    let rows = counted(dropped.rows, "row", "rows");
    let files = counted(dropped.files.len() as u64, "file", "files");
    let (gone, how) = match (dropped.executed, dropped.rows) {
        (true, 1) => ("is", ""),
        (true, _) => ("are", ""),
        (false, _) => ("would be", "; to do it: --execute"),
    };
    text.push_str(&format!("{rows} in {files}, {}, {gone} gone for good{how}", HumanBytes(dropped.bytes)));
    text
}
