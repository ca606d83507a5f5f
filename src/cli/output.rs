//! How verbs print: as a table for people, as JSON for programs.
//!
//! JSON has the version of its shape; `docs/operations/json.md` says what each shape holds.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use console::Term;
use indicatif::HumanCount;
use serde::Serialize;
use serde_json::{Value, json};

use super::Failure;
use crate::admin::word;
use crate::error::ErrorCode;

/// What a verb prints its data as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// A JSON object in each line, one for each row of the table.
    Jsonl,
}

/// A count with the word for one, or the one for several: `1 row waits`, `2,000 rows wait`.
pub(super) fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{} {}", HumanCount(count), word(count, one, several))
}

/// Prints several things of one kind: `{"version": …, "<name>": [...]}`, or a line for each, with its version.
pub(super) fn print_all<T: Serialize>(
    format: Format,
    (name, version): (&str, u32),
    items: &[T],
    table: impl FnOnce(&[T]) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => print(&table(items)),
        Format::Json => print(&format!("{:#}", json!({ "version": version, name: items }))),
        Format::Jsonl => {
            for item in items {
                print(&versioned(item, version)?.to_string())?;
            }
            Ok(())
        }
    }
}

/// Prints one thing: an object with its version, over several lines or in one.
pub(super) fn print_one<T: Serialize>(
    format: Format,
    version: u32,
    item: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => print(&table(item)),
        Format::Json => print(&format!("{:#}", versioned(item, version)?)),
        Format::Jsonl => print(&versioned(item, version)?.to_string()),
    }
}

pub(super) fn versioned(item: &impl Serialize, version: u32) -> Result<Value, Failure> {
    let internal = |text: String| Failure { code: ErrorCode::Internal, text };
    match serde_json::to_value(item).map_err(|error| internal(error.to_string()))? {
        Value::Object(mut object) => {
            object.insert("version".to_owned(), version.into());
            Ok(Value::Object(object))
        }
        other => Err(internal(format!("{other} is no object"))),
    }
}

/// An empty table with these headers.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    if let Some(width) = terminal_width() {
        fold(&mut table, width);
    }
    table
}

/// How wide stdout is, if it is a terminal. What is read by a program or written to a file is never folded.
pub(super) fn terminal_width() -> Option<u16> {
    Term::stdout().size_checked().map(|(_, width)| width)
}

/// Folds the cells of a table so that it is no wider than this.
fn fold(table: &mut Table, width: u16) {
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
}

/// The owner of a log as people call it. Process 0 is one of which nothing is known, not even that there is one.
pub(super) fn owner(pid: u32) -> String {
    if pid == 0 { "unknown".to_owned() } else { format!("pid {pid}") }
}

/// A count in a table.
pub(super) fn number(count: u64) -> Cell {
    Cell::new(HumanCount(count)).set_alignment(CellAlignment::Right)
}

/// Prints data. A reader that goes away early is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure { code: ErrorCode::Storage, text: format!("cannot write to stdout: {error}") })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_no_wider_than_the_terminal_and_leaves_nothing_out() {
        let path = "/var/lib/arrow-zerobus/main.default.events/writer-001/quarantine/0000000000000007.arrow";
        let mut table = table(["", "what", "of", "found", "what to do"]);
        let row =
            ["failed", "connection", path, "connection refused", "start the service, or give its address"];
        table.add_row(row);
        let lines = |table: &Table| table.to_string().lines().map(|line| line.chars().count()).max();
        assert!(lines(&table) > Some(80));
        fold(&mut table, 80);
        assert!(lines(&table) <= Some(80), "{table}");
        let shown: String = table.to_string().chars().filter(|it| it.is_ascii_graphic()).collect();
        let kept =
            |text: &str| text.split([' ', '/']).all(|word| shown.contains(word.get(..5).unwrap_or(word)));
        assert!(row.iter().all(|cell| kept(cell)), "{table}");
    }
}
