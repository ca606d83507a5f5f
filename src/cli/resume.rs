//! `zerobus-wal resume`: end a pause, and let a program that is parked try again now.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::output::{Format, counted};
use super::pause::{each, name};
use crate::admin::{self, PauseChange};

/// Let the programs that own logs try to deliver now, with fresh tokens; what `zerobus-wal pause` has paused goes on.
///
/// For a log that is parked or waits, once the reason is gone: a grant was given, a table was made, a secret was
/// rotated. Without this they try by themselves, at the latest after retry_max_delay_ms. What is paused goes on by
/// nothing else.
#[derive(Args, Debug)]
pub(super) struct ResumeArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &ResumeArgs) -> Result<(), Failure> {
    each(args.directory.as_ref(), args.format, admin::resume, told)
}

fn told(change: &PauseChange) -> String {
    let waiting = counted(change.waiting_rows, "row waits", "rows wait");
    let directory = change.directory.display();
    match change.lane {
        Some(lane) => {
            format!("{}: tries now; it was {}, {waiting}", name(change), lane.as_str())
        }
        None => format!(
            "{}: is not paused any more; nobody owns it, and {waiting}: start the program, or: zerobus-wal \
             drain {directory}",
            name(change)
        ),
    }
}
