//! `zerobus-wal adopt`: have live wrappers look for the logs of the dead now.

use std::path::PathBuf;

use clap::Args;

use super::output::{Format, counted, print_all};
use super::{Failure, root};
use crate::admin::{self, ADOPT_VERSION, Orphan};
use crate::error::ErrorCode;

/// Tell live wrappers to look now for logs whose owners are gone, and say which those are.
///
/// They look by themselves every five seconds, and every minute at what they could not open: this is for when the reason
/// is gone. Without any live wrapper of the table nothing is done; zerobus-wal drain delivers such a log.
#[derive(Args, Debug)]
pub(super) struct AdoptArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &AdoptArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let orphans = admin::adopt(&root)?;
    print_all(args.format, ("orphans", ADOPT_VERSION), &orphans, lines)?;
    match orphans.iter().any(|orphan| orphan.adopter_pid.is_none()) {
        false => Ok(()),
        true => Err(Failure {
            code: ErrorCode::Configuration,
            text: "not every log has somebody who adopts it".to_owned(),
        }),
    }
}

fn lines(orphans: &[Orphan]) -> String {
    if orphans.is_empty() {
        return "no log without an owner has rows that wait".to_owned();
    }
    let line = |orphan: &Orphan| {
        let writer = orphan.directory.file_name().unwrap_or_default().to_string_lossy();
        let waiting = counted(orphan.waiting_rows, "row waits", "rows wait");
        let becomes = match (orphan.adopter_pid, &orphan.left) {
            (Some(pid), _) => format!("process {pid} looks for it now"),
            (None, left) => left.clone().unwrap_or_default(),
        };
        format!("{} {writer}: {waiting}; {becomes}", orphan.table)
    };
    orphans.iter().map(line).collect::<Vec<_>>().join("\n")
}
