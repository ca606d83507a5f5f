//! `zerobus-wal ls`: which logs there are.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use indicatif::HumanBytes;

use super::output::{Format, number, owner, print_all, table};
use super::time::human;
use super::{Failure, no_log, root};
use crate::admin::list::{ListedLog, list};
use crate::error::{ErrorCode, code_of};

/// Version of the JSON.
const VERSION: u32 = 1;

/// List the logs below a directory: whose they are, what waits in them, and who owns them.
///
/// A log that nobody owns is an orphan: its rows wait until a wrapper of the table adopts it, or until `drain`. A directory
/// that cannot be read is listed with the reason. Takes no lock and writes nothing.
#[derive(Args, Debug)]
pub(super) struct LsArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &LsArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let logs = list(&root)?;
    if logs.is_empty() {
        return Err(no_log(&root));
    }
    print_all(args.format, ("logs", VERSION), &logs, tables)?;
    match logs.iter().find_map(|log| log.code) {
        None => Ok(()),
        Some(name) => Err(Failure {
            code: code_of(name).unwrap_or(ErrorCode::Storage),
            text: "not every log could be read; its row says why".to_owned(),
        }),
    }
}

fn tables(logs: &[ListedLog]) -> String {
    let header =
        ["table", "log", "owner", "frames waiting", "rows waiting", "oldest", "log size", "endpoint"];
    let mut table = table(header);
    for log in logs {
        let owned = match log.owner_pid {
            Some(pid) => owner(pid),
            None if log.is_orphan => "orphan".to_owned(),
            None => "-".to_owned(),
        };
        let unknown = || Cell::new("-");
        let size =
            log.log_bytes.map(|bytes| Cell::new(HumanBytes(bytes)).set_alignment(CellAlignment::Right));
        let place = match &log.reason {
            Some(reason) => format!("cannot be read: {reason}"),
            None => log.endpoint.clone().unwrap_or_default(),
        };
        table.add_row([
            Cell::new(log.table.as_deref().unwrap_or("-")),
            Cell::new(&log.writer),
            Cell::new(owned),
            log.waiting_frames.map_or_else(unknown, number),
            log.waiting_rows.map_or_else(unknown, number),
            Cell::new(log.oldest_waiting_secs.map_or("-".to_owned(), human)),
            size.unwrap_or_else(unknown),
            Cell::new(place),
        ]);
    }
    table.to_string()
}
