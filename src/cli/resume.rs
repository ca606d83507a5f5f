//! `zerobus-wal resume`: let a program that is parked try again now.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;

use super::output::print;
use super::{Failure, root};
use crate::admin;
use crate::error::ErrorCode;

/// Let the programs that own logs try to deliver now, with fresh tokens.
///
/// For a log that is parked or waits, once the reason is gone: a grant was given, a table was made, a secret was
/// rotated. Without this they try by themselves, at the latest after retry_max_delay_ms.
#[derive(Args, Debug)]
pub(super) struct ResumeArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
}

pub(super) fn run(args: &ResumeArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let directories = admin::find_logs(&root)?;
    if directories.is_empty() {
        let text = format!("no log in or below {}; give the wal_dir of the program", root.display());
        return Err(Failure { code: ErrorCode::Configuration, text });
    }
    let mut not_owned = 0;
    for directory in directories {
        match admin::resume(&directory) {
            Some(status) => {
                let lane = status.lane.as_ref().map_or("unknown", |lane| lane.state.as_str());
                let waiting = HumanCount(status.rows.waiting);
                print(&format!("{}: tries now; it was {lane}, {waiting} rows wait", status.name()))?;
            }
            None => {
                not_owned += 1;
                let shown = directory.display();
                eprintln!(
                    "warning: nobody owns the log in {shown}, or its owner does not answer; start the program, or: \
                     zerobus-wal drain {shown}"
                );
            }
        }
    }
    match not_owned {
        0 => Ok(()),
        _ => Err(Failure {
            code: ErrorCode::Configuration,
            text: "not every log has an owner that answers".to_owned(),
        }),
    }
}
