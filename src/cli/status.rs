//! `zerobus-wal status`: how logs stand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use indicatif::HumanBytes;

use super::output::{Format, counted, number, owner, print, print_all, print_one, table, versioned};
use super::time::human;
use super::watch::watch;
use super::{Failure, no_log, root};
use crate::admin;
use crate::admin::check::{CheckReport, Limits, Violation, check};
use crate::admin::list::search;
use crate::admin::word;
use crate::config::seconds;
use crate::drain::LaneState;
use crate::wrapper::{STATUS_VERSION, Status};

/// Version of the JSON of a check.
const CHECK_VERSION: u32 = 1;

/// Show how logs stand: rows stored, delivered and waiting, and why nothing is delivered.
///
/// Works beside a live owner and on what a dead one left. It takes no lock and writes nothing.
///
/// With --check it is a probe: it prints a line for each limit that is violated and ends with 3 if there is one. Whatever
/// the limits are, these violate: rows that nobody delivers, an owner that does not answer, a lane that is blocked, a log
/// that is poisoned, full, damaged or cannot be read.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show it again and again, on a terminal with depth and rates over time, until Ctrl-C.
    #[arg(long, conflicts_with = "check")]
    watch: bool,
    /// How often --watch looks.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval, requires = "watch")]
    interval: Duration,
    /// Check the limits and print what violates them.
    #[arg(long)]
    check: bool,
    /// How long the oldest row may have waited.
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "check")]
    max_age: Option<Duration>,
    /// How many rows may wait in a log.
    #[arg(long, value_name = "ROWS", requires = "check")]
    max_depth: Option<u64>,
    /// How many files may be in the quarantine of a log.
    #[arg(long, value_name = "FILES", requires = "check")]
    max_quarantine: Option<u64>,
}

/// What a probe wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Violated,
}

fn interval(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(100);
    let interval = seconds(text)?;
    match interval >= LEAST {
        true => Ok(interval),
        false => Err(format!("{text:?} is too often, allowed is 100ms or more")),
    }
}

/// The logs that were found.
pub(super) struct Seen {
    pub(super) logs: Vec<Status>,
    /// One that cannot be read does not hide the others.
    pub(super) unreadable: Vec<Failure>,
}

/// How the logs at and below a directory stand.
pub(super) fn look(root: &Path) -> Seen {
    let mut seen = Seen { logs: Vec::new(), unreadable: Vec::new() };
    for found in search(root) {
        match found.and_then(|directory| admin::status(&directory)) {
            Ok(status) => seen.logs.push(status),
            Err(error) => seen.unreadable.push(Failure::from(error)),
        }
    }
    seen
}

pub(super) fn run(args: &StatusArgs) -> Result<Verdict, Failure> {
    let root = root(args.directory.as_ref())?;
    if args.watch {
        return watch(&root, args.interval, |logs| text(args.format, logs)).map(|()| Verdict::Fine);
    }
    if args.check {
        return check_limits(args, &root);
    }
    let Seen { logs, mut unreadable } = look(&root);
    if logs.is_empty() {
        return Err(unreadable.drain(..).next().unwrap_or_else(|| no_log(&root)));
    }
    unreadable.iter().for_each(|failure| eprintln!("warning: {}", failure.text));
    print_all(args.format, ("logs", STATUS_VERSION), &logs, tables)?;
    match unreadable.first() {
        None => Ok(Verdict::Fine),
        Some(failure) => Err(Failure { code: failure.code, text: "not every log could be read".to_owned() }),
    }
}

/// What `--watch` prints where stdout is no terminal.
fn text(format: Format, logs: &[Status]) -> Result<String, Failure> {
    match format {
        Format::Table => Ok(tables(logs)),
        Format::Json => Ok(serde_json::json!({ "version": STATUS_VERSION, "logs": logs }).to_string()),
        Format::Jsonl => {
            let lines = logs.iter().map(|log| Ok(versioned(log, STATUS_VERSION)?.to_string()));
            Ok(lines.collect::<Result<Vec<_>, Failure>>()?.join("\n"))
        }
    }
}

fn check_limits(args: &StatusArgs, root: &Path) -> Result<Verdict, Failure> {
    let limits = Limits {
        age_max: args.max_age,
        waiting_rows_max: args.max_depth,
        quarantine_files_max: args.max_quarantine,
    };
    let report = check(root, &limits)?;
    match args.format {
        Format::Jsonl => {
            report.violations.iter().try_for_each(|it| print(&versioned(it, CHECK_VERSION)?.to_string()))?;
        }
        format => print_one(format, CHECK_VERSION, &report, check_text)?,
    }
    Ok(if report.is_ok { Verdict::Fine } else { Verdict::Violated })
}

fn check_text(report: &CheckReport) -> String {
    let line = |it: &Violation| format!("{}: {}", it.directory.display(), it.text);
    match report.is_ok {
        true => format!(
            "ok: {}, {}",
            counted(report.logs as u64, "log", "logs"),
            counted(report.waiting_rows, "row waits", "rows wait")
        ),
        false => report.violations.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

fn tables(found: &[Status]) -> String {
    let mut table = table([
        "table",
        "log",
        "owner",
        "lane",
        "rows stored",
        "delivered",
        "quarantined",
        "dropped",
        "waiting",
        "oldest",
        "drained in",
        "log size",
    ]);
    for status in found {
        let owned = status.owner_pid.map_or("none".to_owned(), owner);
        let lane = status.lane.as_ref().map_or("-", |lane| lane.state.as_str());
        let oldest = status.oldest_waiting_secs.map_or("-".to_owned(), human);
        let drained =
            status.drained_in_secs.filter(|_| status.rows.waiting > 0).map_or("-".to_owned(), human);
        table.add_row([
            Cell::new(&status.table),
            Cell::new(status.writer()),
            Cell::new(owned),
            Cell::new(lane),
            number(status.rows.stored),
            number(status.rows.delivered),
            number(status.rows.quarantined),
            number(status.rows.dropped),
            number(status.rows.waiting),
            Cell::new(oldest),
            Cell::new(drained),
            Cell::new(HumanBytes(status.log_bytes)).set_alignment(CellAlignment::Right),
        ]);
    }
    let mut text = table.to_string();
    for status in found {
        for remark in bounds(status).into_iter().chain(remarks(status)) {
            text.push_str(&format!("\n{}: {remark}", status.name()));
        }
    }
    text
}

/// How the log stands to its bounds, which only its owner knows.
fn bounds(status: &Status) -> Option<String> {
    let on_full = status.on_full?.as_str();
    let (quota, min_free) = (HumanBytes(status.wal_max_bytes?), HumanBytes(status.wal_min_free_bytes?));
    let full_in = status.full_in_secs.filter(|_| status.full.is_none());
    let full_in = full_in.map_or(String::new(), |secs| format!("; full in about {}", human(secs)));
    let free = status.free_bytes.map_or("an unknown size".to_owned(), |free| HumanBytes(free).to_string());
    Some(format!(
        "{} of {quota} used, {} of it delivered and retained; {free} free on its disk, where {min_free} are kept free; \
         when full: {on_full}{full_in}",
        HumanBytes(status.log_bytes),
        HumanBytes(status.retained_bytes),
    ))
}

/// What needs a person's eye.
fn remarks(status: &Status) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(pause) = &status.paused {
        remarks.push(pause.to_string());
    }
    if let Some(lane) = &status.lane
        && lane.state != LaneState::Paused
        && let Some(reason) = &lane.reason
    {
        remarks.push(format!(
            "{} after {} failed attempts: {reason}",
            lane.state.as_str(),
            lane.failures_in_a_row
        ));
    }
    if let Some(reason) = status.table_schema.reason.as_ref().filter(|_| status.owner_pid.is_some()) {
        let known = match status.table_schema.columns {
            Some(columns) => format!("{columns} columns are known from before"),
            None => "they are taken from the batches".to_owned(),
        };
        remarks.push(match status.owner_pid {
            Some(0) => reason.clone(),
            _ => format!("the table's columns cannot be read, {known}: {reason}"),
        });
    }
    if status.floored_timestamps > 0 {
        remarks.push(format!(
            "{} lost nanoseconds (timestamp_ns = floor)",
            counted(status.floored_timestamps, "delivered timestamp", "delivered timestamps")
        ));
    }
    if status.emptied_lists > 0 {
        remarks.push(format!(
            "{} (null_list = empty)",
            counted(
                status.emptied_lists,
                "delivered null list or map became an empty one",
                "delivered null lists and maps became empty ones"
            )
        ));
    }
    if status.doubtful_rows > 0 {
        remarks.push(format!(
            "{} (delivery = exactly_once)",
            counted(
                status.doubtful_rows,
                "row was sent again because nobody could say what had become of it",
                "rows were sent again because nobody could say what had become of them"
            )
        ));
    }
    if let Some(full) = &status.full {
        remarks.push(format!("the log is full: {full}"));
    }
    if status.frames.dropped > 0 {
        remarks.push(format!(
            "{} in {} {} dropped because the log was full",
            counted(status.rows.dropped, "row", "rows"),
            counted(status.frames.dropped, "frame", "frames"),
            word(status.rows.dropped, "was", "were")
        ));
    }
    if status.quarantine.files > 0 || status.rows.quarantined > 0 {
        let max = status.quarantine.max_bytes.map_or(String::new(), |max| format!(" of {}", HumanBytes(max)));
        remarks.push(format!(
            "{} refused, {} as a whole, and in quarantine: {}, {}{max}, in {}",
            counted(status.rows.quarantined, "row is", "rows are"),
            counted(status.frames.quarantined, "frame", "frames"),
            counted(status.quarantine.files, "file", "files"),
            HumanBytes(status.quarantine.bytes),
            status.quarantine.directory.display()
        ));
    }
    if status.owner_pid.is_none() && status.rows.waiting > 0 {
        remarks.push(format!(
            "nobody delivers these rows; start the program, or: zerobus-wal drain {}",
            status.directory.display()
        ));
    }
    if let Some(directory) = &status.adoption.draining {
        remarks.push(format!("its owner drains {} too, whose owner is gone", directory.display()));
    }
    remarks
        .extend(status.adoption.left.iter().map(|left| format!("left alone, though nobody owns it: {left}")));
    if let Some(reason) = &status.poisoned {
        remarks.push(format!(
            "the log is poisoned and refuses batches until the program starts again: {reason}"
        ));
    }
    if let Some(failure) = &status.settling_failure {
        remarks.push(format!("what is delivered cannot be recorded: {failure}"));
    }
    if status.damaged_frames > 0 {
        remarks.push(format!(
            "{} stepped over",
            counted(status.damaged_frames, "damaged frame was", "damaged frames were")
        ));
    }
    remarks.extend(status.damage.iter().cloned());
    remarks
}
