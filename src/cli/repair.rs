//! `zerobus-wal repair`: mend a log that cannot be opened.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanBytes;

use super::output::{Format, print_all, table};
use super::progress::{Unit, watched};
use super::{Failure, root};
use crate::admin;
use crate::admin::repair::{REPAIR_VERSION, Repair, RepairAction, RepairOptions, repair};
use crate::error::{Coded, ErrorCode, chain};

/// Mend logs that cannot be opened, or that report the same files at each opening. A plan, unless --execute is given.
///
/// It writes a lost identity anew, gives misnamed segments their names back, and moves out what is no part of the log.
/// Damaged frames and torn ends need no repair: the log steps over them by itself. The whole directory is copied first,
/// and nothing is ever deleted. A log with a live owner is refused. zerobus-wal verify shows what is damaged.
#[derive(Args, Debug)]
pub(super) struct RepairArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// Do it.
    #[arg(long)]
    execute: bool,
    /// Where the copy goes; only for a single log [default: backup-NNN in the writer directory].
    #[arg(long, value_name = "DIR")]
    backup: Option<PathBuf>,
    /// Zerobus endpoint, for a log that has lost its identity and has no other beside it.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Workspace URL of that.
    #[arg(long, value_name = "URL", requires = "endpoint")]
    unity_catalog_url: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &RepairArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let directories = admin::find_logs(&root)?;
    let refused = |text: String| Failure { code: ErrorCode::Configuration, text };
    if directories.is_empty() {
        return Err(refused(format!(
            "no log in or below {}; give the wal_dir of the program",
            root.display()
        )));
    }
    if args.backup.is_some() && directories.len() > 1 {
        return Err(refused(format!("--backup is for one log, there are {}; name one", directories.len())));
    }
    let options = RepairOptions {
        endpoint: args.endpoint.clone(),
        unity_catalog_url: args.unity_catalog_url.clone(),
        backup: args.backup.clone(),
    };
    let (mut repairs, mut failed) = (Vec::new(), None);
    for directory in directories {
        let name = directory.display().to_string();
        let mended =
            watched(&name, Unit::Bytes, |progress| repair(&directory, &options, args.execute, progress));
        match mended {
            Ok(repair) => repairs.push(repair),
            Err(error) => {
                eprintln!("warning: {}", chain(&error));
                failed.get_or_insert(error.code());
            }
        }
    }
    if !repairs.is_empty() || args.format == Format::Json {
        print_all(args.format, ("logs", REPAIR_VERSION), &repairs, tables)?;
    }
    let text = "not every log was looked at".to_owned();
    failed.map_or(Ok(()), |code| Err(Failure { code, text }))
}

fn tables(repairs: &[Repair]) -> String {
    repairs.iter().map(described).collect::<Vec<_>>().join("\n")
}

fn described(repair: &Repair) -> String {
    let mut text = repair.directory.display().to_string();
    if repair.steps.is_empty() {
        text.push_str(": there is nothing to mend");
    } else {
        match &repair.backup {
            Some(backup) => text.push_str(&format!(": mended; the copy of before is {}", backup.display())),
            None => text.push_str(&format!(
                ": would be mended with --execute, after a copy of {}",
                HumanBytes(repair.backup_bytes)
            )),
        }
        let mut table = table(["", "what", "to", "why"]);
        for step in &repair.steps {
            let to = step.to.as_ref().map_or(String::new(), |to| to.display().to_string());
            let row = [step.action.as_str(), &step.path.display().to_string(), &to, &step.reason];
            table.add_row(row);
        }
        text.push_str(&format!("\n{table}"));
    }
    for left in &repair.left {
        text.push_str(&format!("\nleft as it is: {left}"));
    }
    if let Some(command) = &repair.salvage {
        let is_nameless = repair.steps.iter().any(|step| step.action == RepairAction::WriteIdentity);
        let when = match repair.executed {
            true => "",
            false if is_nameless => "; it can be read once the log is mended",
            false => "; do that first, to see what is there",
        };
        text.push_str(&format!(
            "\nwhat can still be read of damaged frames, if there are any, is exported with: {command}{when}"
        ));
    }
    text
}
