//! `zerobus-wal status`: how logs stand.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use indicatif::{HumanBytes, HumanCount, HumanDuration};

use super::output::{Format, number, print_all, table};
use super::{Failure, root};
use crate::admin;
use crate::drain::LaneState;
use crate::error::{Coded, ErrorCode, chain};
use crate::wrapper::{STATUS_VERSION, Status};

/// Show how logs stand: rows stored, delivered and waiting, and why nothing is delivered.
///
/// Works beside a live owner and on what a dead one left. It takes no lock and writes nothing.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let root = root(args.directory.as_ref())?;
    let mut found = Vec::new();
    let mut unreadable: Option<Failure> = None;
    for directory in admin::find_logs(&root)? {
        match admin::status(&directory) {
            Ok(status) => found.push(status),
            // One log that cannot be read does not hide the others.
            Err(error) => {
                eprintln!("warning: {}", chain(&error));
                unreadable.get_or_insert(Failure {
                    code: error.code(),
                    text: "not every log could be read".to_owned(),
                });
            }
        }
    }
    if let Some(failure) = unreadable.take_if(|_| found.is_empty()) {
        return Err(failure);
    }
    if found.is_empty() {
        let text = format!("no log in or below {}; give the wal_dir of the program", root.display());
        return Err(Failure { code: ErrorCode::Configuration, text });
    }
    print_all(args.format, ("logs", STATUS_VERSION), &found, tables)?;
    unreadable.map_or(Ok(()), Err)
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
        let owner = status.owner_pid.map_or("none".to_owned(), |pid| format!("pid {pid}"));
        let lane = status.lane.as_ref().map_or("-", |lane| lane.state.as_str());
        let oldest = status.oldest_waiting_secs.map_or("-".to_owned(), human);
        let drained =
            status.drained_in_secs.filter(|_| status.rows.waiting > 0).map_or("-".to_owned(), human);
        table.add_row([
            Cell::new(&status.table),
            Cell::new(status.writer()),
            Cell::new(owner),
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

/// A time as people say it; one that is too long to be counted is for ever.
fn human(secs: f64) -> String {
    let counted = std::time::Duration::try_from_secs_f64(secs);
    counted.map_or("for ever".to_owned(), |time| HumanDuration(time).to_string())
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
        remarks.push(format!("the table's columns cannot be read, {known}: {reason}"));
    }
    if status.floored_timestamps > 0 {
        remarks.push(format!(
            "{} delivered timestamps lost nanoseconds (timestamp_ns = floor)",
            HumanCount(status.floored_timestamps)
        ));
    }
    if status.emptied_lists > 0 {
        remarks.push(format!(
            "{} delivered null lists and maps became empty ones (null_list = empty)",
            HumanCount(status.emptied_lists)
        ));
    }
    if status.doubtful_rows > 0 {
        remarks.push(format!(
            "{} rows were sent again because nobody could say what had become of them (delivery = exactly_once)",
            HumanCount(status.doubtful_rows)
        ));
    }
    if let Some(full) = &status.full {
        remarks.push(format!("the log is full: {full}"));
    }
    if status.frames.dropped > 0 {
        remarks.push(format!(
            "{} rows in {} frames were dropped because the log was full",
            HumanCount(status.rows.dropped),
            HumanCount(status.frames.dropped)
        ));
    }
    if status.quarantine.files > 0 || status.rows.quarantined > 0 {
        let max = status.quarantine.max_bytes.map_or(String::new(), |max| format!(" of {}", HumanBytes(max)));
        remarks.push(format!(
            "{} rows, {} frames as a whole, were refused and are in quarantine: {} files, {}{max}, in {}",
            HumanCount(status.rows.quarantined),
            HumanCount(status.frames.quarantined),
            HumanCount(status.quarantine.files),
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
    if let Some(failure) = &status.settling_failure {
        remarks.push(format!("what is delivered cannot be recorded: {failure}"));
    }
    if status.damaged_frames > 0 {
        remarks.push(format!("{} damaged frames were stepped over", status.damaged_frames));
    }
    remarks.extend(status.damage.iter().cloned());
    remarks
}
