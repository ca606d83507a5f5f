//! `zerobus-wal remap`: the table was renamed, or the service moved; what waits goes there.

use std::path::PathBuf;

use clap::Args;

use super::output::{Format, counted, print_all};
use super::{Failure, root};
use crate::admin::remap::{REMAP_VERSION, Remap, RemapOptions, remap};
use crate::types::TableName;

/// Give the logs of a table to another table, because it was renamed, or to another service. A plan, unless --execute is
/// given.
///
/// A log moves to the directory of the new table, under the next free number, and forgets the columns of the old one. What
/// is changed is copied first. With delivery = exactly_once, rows of which nobody knows what became of them on a stream of
/// the old table are sent again, and counted as doubtful. Logs with a live owner are refused: stop the program, remap, and
/// start it with the new name. Killed in between, a second run goes on where this one ended.
#[derive(Args, Debug)]
pub(super) struct RemapArgs {
    /// The table that the logs are for, `catalog.schema.table`.
    old: TableName,
    /// The table that they shall be for; the same one, if only the service moved.
    new: TableName,
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// The Zerobus endpoint from now on.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The workspace URL from now on.
    #[arg(long, value_name = "URL")]
    unity_catalog_url: Option<String>,
    /// Do it.
    #[arg(long)]
    execute: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &RemapArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let options =
        RemapOptions { endpoint: args.endpoint.clone(), unity_catalog_url: args.unity_catalog_url.clone() };
    let remaps = remap(&root, &args.old, &args.new, &options, args.execute)?;
    print_all(args.format, ("logs", REMAP_VERSION), &remaps, lines)
}

fn lines(remaps: &[Remap]) -> String {
    remaps.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(remap: &Remap) -> String {
    let Remap { directory, to, before, after, waiting_rows, doubtful_rows, executed, copies } = remap;
    let becomes = if *executed { "is now" } else { "would be, with --execute," };
    let mut text = format!(
        "{}: {}; it {becomes} {}, for {} at {}",
        directory.display(),
        counted(*waiting_rows, "row waits", "rows wait"),
        to.display(),
        after.table,
        after.endpoint,
    );
    if before.endpoint != after.endpoint {
        text.push_str(&format!(" instead of {}", before.endpoint));
    }
    if *doubtful_rows > 0 {
        let rows = counted(*doubtful_rows, "doubtful row", "doubtful rows");
        text.push_str(&format!("; {rows} may be in {} already", before.table));
    }
    if let Some(copies) = copies {
        text.push_str(&format!("; copies of before are in {}", copies.display()));
    }
    text
}
