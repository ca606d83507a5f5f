//! `zerobus-wal verify`: is everything there, and whole?

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanBytes;

use super::output::{Format, counted, owner, print_all};
use super::progress::{Unit, watched};
use super::{Failure, no_log, root};
use crate::admin::list::search;
use crate::admin::verify::{Finding, VerifyReport, verify};
use crate::admin::word;
use crate::error::ErrorCode;

/// Version of the JSON.
const VERSION: u32 = 1;

/// Check everything that a log promises: every checksum, and that log, ledger and quarantine go together.
///
/// Reads every byte from the disk. Each finding says what it means and what to do. Ends with 22 if something is an error,
/// and with 0 if there are only warnings. Works beside a live owner, whose new frames are no damage. Takes no lock and writes
/// nothing.
#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let directories = search(&root);
    if directories.is_empty() {
        return Err(no_log(&root));
    }
    let mut reports = Vec::new();
    let mut first_failure: Option<Failure> = None;
    for directory in directories {
        let verified = directory.map_err(Failure::from).and_then(|directory| {
            let prefix = format!("verify {}", directory.display());
            Ok(watched(&prefix, Unit::Bytes, |progress| verify(&directory, progress))?)
        });
        match verified {
            Ok(report) => reports.push(report),
            // Whoever broke off wants no more.
            Err(failure) if failure.code == ErrorCode::Closed => return Err(failure),
            Err(failure) => {
                eprintln!("warning: {}", failure.text);
                first_failure.get_or_insert(Failure {
                    code: failure.code,
                    text: "not every log could be verified".to_owned(),
                });
            }
        }
    }
    if let Some(failure) = first_failure.take_if(|_| reports.is_empty()) {
        return Err(failure);
    }
    print_all(args.format, ("logs", VERSION), &reports, text)?;
    let damaged = reports.iter().filter(|report| !report.is_sound).count();
    match (damaged, first_failure) {
        (0, None) => Ok(()),
        (0, Some(failure)) => Err(failure),
        (damaged, _) => Err(Failure {
            code: ErrorCode::Corruption,
            text: format!(
                "{damaged} of {} {} damaged; each finding says what to do",
                counted(reports.len() as u64, "log", "logs"),
                word(damaged as u64, "is", "are")
            ),
        }),
    }
}

fn text(reports: &[VerifyReport]) -> String {
    reports.iter().map(text_of).collect::<Vec<_>>().join("\n")
}

fn text_of(report: &VerifyReport) -> String {
    let verdict = match (report.is_sound, report.findings.len()) {
        (true, 0) => "sound".to_owned(),
        (true, count) => format!("sound, {}", counted(count as u64, "remark", "remarks")),
        (false, count) => format!("DAMAGED, {}", counted(count as u64, "finding", "findings")),
    };
    let mut text = format!(
        "{}: {verdict}\n  {}, {}, {} in {} read; last frame {}, settled up to {}{}",
        report.directory.display(),
        counted(report.frames, "frame", "frames"),
        counted(report.rows, "row", "rows"),
        HumanBytes(report.bytes),
        counted(report.segments as u64, "segment", "segments"),
        report.last_lsn,
        report.settled_lsn,
        report.owner_pid.map_or(String::new(), |pid| format!("; owner: {}", owner(pid))),
    );
    report.findings.iter().for_each(|finding| text.push_str(&finding_text(finding)));
    text
}

fn finding_text(finding: &Finding) -> String {
    let file = finding.segment.as_deref().and_then(|path| path.file_name());
    let place = match (file.map(|name| name.to_string_lossy()), finding.offset, finding.bytes) {
        (None, ..) => String::new(),
        (Some(name), Some(offset), Some(bytes)) if bytes > 0 => {
            format!("{name}, {bytes} bytes at {offset}: ")
        }
        (Some(name), ..) => format!("{name}: "),
    };
    let (severity, kind) = (finding.severity.as_str(), finding.kind.as_str());
    format!("\n  {severity} [{kind}] {place}{}\n    {}", finding.text, finding.advice)
}
