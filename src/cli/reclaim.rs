//! `zerobus-wal reclaim`: free what is settled and only kept.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use indicatif::HumanBytes;

use super::output::{Format, print_all, table};
use super::{Failure, root};
use crate::admin::{self, RECLAIM_VERSION, Reclaim};
use crate::error::{Coded, ErrorCode, chain};

/// Free the segments of which every frame is settled, though they are retained for replay.
///
/// Nothing that waits is touched. A log with a live owner is freed by that; one without is taken for a moment. What is
/// freed cannot be replayed any more: --dry-run shows what that would be, and why the other segments stay.
#[derive(Args, Debug)]
pub(super) struct ReclaimArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// Only show what would be freed.
    #[arg(long)]
    dry_run: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &ReclaimArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let directories = admin::find_logs(&root)?;
    if directories.is_empty() {
        let text = format!("no log in or below {}; give the wal_dir of the program", root.display());
        return Err(Failure { code: ErrorCode::Configuration, text });
    }
    let (mut freed, mut failed) = (Vec::new(), None);
    for directory in directories {
        match admin::reclaim(&directory, !args.dry_run) {
            Ok(reclaim) => freed.push(reclaim),
            Err(error) => {
                eprintln!("warning: {}", chain(&error));
                failed.get_or_insert(error.code());
            }
        }
    }
    if !freed.is_empty() || args.format == Format::Json {
        print_all(args.format, ("logs", RECLAIM_VERSION), &freed, tables)?;
    }
    let text = "not every log was reclaimed".to_owned();
    failed.map_or(Ok(()), |code| Err(Failure { code, text }))
}

fn tables(freed: &[Reclaim]) -> String {
    let mut text = Vec::new();
    for reclaim in freed {
        let mut table = table(["frames", "bytes", "", "why"]);
        for segment in &reclaim.segments {
            let becomes = match (segment.is_freed, reclaim.executed) {
                (true, true) => "freed",
                (true, false) => "would be freed",
                (false, _) => "stays",
            };
            table.add_row([
                Cell::new(format!("{} to {}", segment.first_lsn, segment.last_lsn)),
                Cell::new(HumanBytes(segment.bytes)).set_alignment(CellAlignment::Right),
                Cell::new(becomes),
                Cell::new(&segment.reason),
            ]);
        }
        let free: u64 = reclaim.segments.iter().filter(|it| it.is_freed).map(|it| it.bytes).sum();
        let said = match reclaim.executed {
            true => format!("{} freed", HumanBytes(reclaim.freed_bytes)),
            false => format!("{} would be freed", HumanBytes(free)),
        };
        let writer = reclaim.directory.file_name().unwrap_or_default().to_string_lossy();
        text.push(format!("{} {writer}: {said}\n{table}", reclaim.table));
    }
    text.join("\n")
}
