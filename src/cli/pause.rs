//! `zerobus-wal pause`: send nothing until `zerobus-wal resume`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Format, counted, print_all};
use super::{Failure, root};
use crate::admin::{self, PAUSE_VERSION, PauseChange, PauseError};
use crate::error::{Coded, ErrorCode, chain};
use crate::pause::Pause;

/// Send nothing of these logs until `zerobus-wal resume`, as before the maintenance of a table.
///
/// Batches are stored all the same, and what is in flight is waited for. A pause outlives restarts of the program: the
/// mark of it is a file in the writer directory. It is for the logs that are there: a wrapper that makes a new writer
/// directory meanwhile delivers. Meanwhile flush raises PausedError, and shutdown does not wait.
#[derive(Args, Debug)]
pub(super) struct PauseArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// Why, for everybody who asks for the status.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &PauseArgs) -> Result<(), Failure> {
    let pause = |directory: &Path| admin::pause(directory, args.reason.as_deref());
    each(args.directory.as_ref(), args.format, pause, told)
}

/// Changes each log, and prints what became of it. One that cannot be changed does not keep the others from it.
pub(super) fn each(
    directory: Option<&PathBuf>,
    format: Format,
    change: impl Fn(&Path) -> Result<PauseChange, PauseError>,
    told: impl Fn(&PauseChange) -> String,
) -> Result<(), Failure> {
    let root = root(directory)?;
    let directories = admin::find_logs(&root)?;
    if directories.is_empty() {
        let text = format!("no log in or below {}; give the wal_dir of the program", root.display());
        return Err(Failure { code: ErrorCode::Configuration, text });
    }
    let (mut changed, mut failed) = (Vec::new(), None);
    for directory in directories {
        match change(&directory) {
            Ok(change) => changed.push(change),
            Err(error) => {
                eprintln!("warning: {}", chain(&error));
                failed.get_or_insert(error.code());
            }
        }
    }
    if !changed.is_empty() || format == Format::Json {
        let lines = |changed: &[PauseChange]| changed.iter().map(told).collect::<Vec<_>>().join("\n");
        print_all(format, ("logs", PAUSE_VERSION), &changed, lines)?;
    }
    let text = "not every log was changed".to_owned();
    failed.map_or(Ok(()), |code| Err(Failure { code, text }))
}

/// The log as people call it.
pub(super) fn name(change: &PauseChange) -> String {
    let writer = change.directory.file_name().unwrap_or_default();
    format!("{} {}", change.table, writer.to_string_lossy())
}

fn told(change: &PauseChange) -> String {
    let waiting = counted(change.waiting_rows, "row waits", "rows wait");
    let how = match (change.owner_pid, &change.before) {
        (_, Some(Pause { reason: Some(reason), .. })) => {
            format!("was paused already, and is still, for the reason that was given then: {reason}")
        }
        (_, Some(_)) => "was paused already, and is still".to_owned(),
        (Some(pid), None) => format!("paused by its owner, process {pid}"),
        (None, None) => "paused for its next owner; nobody owns it now".to_owned(),
    };
    format!("{}: {how}; {waiting}", name(change))
}
