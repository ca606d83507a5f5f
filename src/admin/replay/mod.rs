//! Sending stored rows again, because somebody asked: to the same table or another one.
//!
//! ```text
//!  source: log and quarantine ──► replay-<hash>: a log of its own ──► drain, convert, transport ──► table
//!     read beside its owner          ▲ replay.json: what is appended next, and after which frame
//! ```
//!
//! A replay is an ordinary wrapper with a writer directory of its own, so that everything that delivery promises holds for
//! it. Its directory is named after what was asked for: the same replay is found again after an interruption, and known to
//! be done when it is. What is delivered leaves the record behind and nothing else.

mod dry;
mod error;
mod feed;
mod pace;
mod record;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use dry::{DryRun, RefusedRow};
pub use error::ReplayError;
use record::{Finished, Record, Request};

use super::chosen::{self, ChosenLog, LogsError, REPLAY_PREFIX, Unreadable};
use super::progress::Progress;
use super::select::{RowState, Selection};
use crate::config::WrapperConfiguration;
use crate::io::Env;
use crate::types::TableName;
use crate::wal::Destination;
use crate::wrapper::table_directory;

/// Version of the reports of a replay as JSON.
pub const REPLAY_VERSION: u32 = 1;

/// What to send again, and where.
pub struct ReplayOptions<'o> {
    /// A writer directory, or a directory with logs below it.
    pub root: PathBuf,
    /// The rows.
    pub selection: Selection,
    /// Another table than that of the logs.
    pub to_table: Option<TableName>,
    /// Where the replay has its directory; by default where the logs are.
    pub wal_dir: Option<PathBuf>,
    /// Makes the settings of the wrapper that delivers, for the destination that the logs name, with the table that was
    /// asked for.
    pub configure: &'o (dyn Fn(&Destination) -> WrapperConfiguration + Sync),
    /// Rows per second, at most.
    pub rows_per_sec: Option<u64>,
    /// Whether rows may be sent that are in the table already, or will be by other means.
    pub execute: bool,
    /// Whether a replay that is done is done anew.
    pub again: bool,
    /// How long delivery is waited for at most, once everything is stored; none waits for ever.
    pub timeout: Option<std::time::Duration>,
}

/// What became of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOutcome {
    /// Nothing was sent: rows could arrive twice, and nobody has allowed that.
    Planned,
    /// Every row is delivered or in the quarantine of the replay.
    Done,
    /// It was done before, and nothing was sent now.
    AlreadyDone,
}

impl ReplayOutcome {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReplayOutcome::Planned => "planned",
            ReplayOutcome::Done => "done",
            ReplayOutcome::AlreadyDone => "already_done",
        }
    }
}

/// What a replay did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// [`REPLAY_VERSION`].
    pub version: u32,
    /// What became of it.
    pub outcome: ReplayOutcome,
    /// The table.
    pub table: TableName,
    /// The endpoint.
    pub endpoint: String,
    /// The directory of the replay.
    pub directory: PathBuf,
    /// Whether it went on where it had been interrupted.
    pub is_resumed: bool,
    /// How rows of it may be in the table twice, whatever happens.
    pub duplicates: Vec<String>,
    /// When it began, in microseconds since 1970 in UTC; `None` if it has not.
    pub started_unix_micros: Option<i64>,
    /// When it was done; `None` if it is not.
    pub finished_unix_micros: Option<i64>,
    /// Rows that were chosen and stored for delivery.
    pub rows: u64,
    /// The same by the state that they were in.
    pub rows_by_state: BTreeMap<RowState, u64>,
    /// Rows that were delivered.
    pub delivered_rows: u64,
    /// Rows that were refused again; they are in the quarantine of the replay's directory.
    pub quarantined_rows: u64,
    /// Rows that were sent and not acknowledged when a stream failed, and so were sent again: at most so many are in the
    /// table twice because of that, since the replay was last started.
    pub resent_rows: u64,
    /// What was asked for and is not there to be read.
    pub unreadable: Vec<Unreadable>,
}

/// Sends the chosen rows again, and waits until each of them is delivered or in the quarantine of the replay.
///
/// The logs are read beside their owners and never changed. Progress is in rows that were delivered or are not chosen. Must not be called on a thread that drives a runtime.
///
/// # Errors
///
/// [`ReplayError`]. What was stored by then is delivered when the same replay is run again, and not sent twice for that.
///
/// # Durability
///
/// A replay that is killed at any moment goes on where it was: no chosen row is left out, and none is stored twice.
pub fn replay(options: &ReplayOptions<'_>, progress: &Progress) -> Result<ReplayReport, ReplayError> {
    let env = Env::os();
    let prepared = prepare(&env, options)?;
    let Prepared { logs, configuration, request, selection, .. } = &prepared;
    let duplicates = duplicates(logs, selection, configuration)?;
    let latest = Latest::find(&prepared.table_directory(options)?, request)?;
    let mut goes_on = false;
    if let Some(record) = latest.record.as_ref()
        && !options.again
        && let Some(finished) = record.finished
    {
        if finished.is_clean() {
            // It may have died before it could.
            feed::clear(&env, &latest.directory, &configuration.validate()?.destination)?;
        }
        goes_on = has_more(logs, record)?;
        if !goes_on {
            return Ok(report(ReplayOutcome::AlreadyDone, &latest.directory, record, duplicates));
        }
    }
    let is_new = latest.record.as_ref().is_none_or(|record| record.finished.is_some() && !goes_on);
    let (directory, record) = match latest {
        Latest { record: Some(record), directory, .. } if !is_new => (directory, record),
        latest => {
            let record = Record::new(request.clone(), selection.clone(), env.clock.unix_micros());
            (latest.next, record)
        }
    };
    if (is_new || goes_on) && !duplicates.is_empty() && !options.execute {
        return Ok(report(ReplayOutcome::Planned, &directory, &record, duplicates));
    }
    let run = feed::Run {
        env: &env,
        logs,
        options,
        configuration,
        directory: &directory,
        is_new,
        goes_on,
        progress,
        told: Cell::new(0),
    };
    let (record, resent_rows) = run.run(record)?;
    let done = report(ReplayOutcome::Done, &directory, &record, duplicates);
    Ok(ReplayReport { is_resumed: !is_new, resent_rows, ..done })
}

/// Whether rows have come since a replay was done that it has not taken.
fn has_more(logs: &[ChosenLog], record: &Record) -> Result<bool, ReplayError> {
    for log in logs {
        let mut pieces = log.pieces(&record.selection, record.position(log.epoch()));
        while let Some(found) = pieces.next().map_err(LogsError::from)? {
            if matches!(found, chosen::Found::Rows(_)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Says which of the chosen rows would be refused. Converts them all, and sends none.
///
/// # Errors
///
/// [`ReplayError`] if the logs cannot be read or a setting is wrong.
pub fn replay_dry_run(options: &ReplayOptions<'_>, progress: &Progress) -> Result<DryRun, ReplayError> {
    let prepared = prepare(&Env::os(), options)?;
    dry::dry_run(&prepared.logs, &prepared.selection, &prepared.configuration, progress)
}

/// What was asked for, after a look at the logs.
struct Prepared {
    logs: Vec<ChosenLog>,
    configuration: WrapperConfiguration,
    request: Request,
    /// With times of day.
    selection: Selection,
}

fn prepare(env: &Env, options: &ReplayOptions<'_>) -> Result<Prepared, ReplayError> {
    let mut given = options.selection.clone();
    given.states.sort_unstable();
    given.states.dedup();
    let selection = given.clone().resolved(env.clock.unix_micros())?;
    let root = std::fs::canonicalize(&options.root).unwrap_or_else(|_| options.root.clone());
    let logs = chosen::logs(env, &root, &selection)?;
    let mut configuration: Option<WrapperConfiguration> = None;
    for log in &logs {
        let no_identity = || ReplayError::NoIdentity { directory: log.directory.clone() };
        let mut destination = log.destination().ok_or_else(no_identity)?.clone();
        if let Some(table) = &options.to_table {
            destination.table = table.clone();
        }
        let made = (options.configure)(&destination);
        let named = |it: &WrapperConfiguration| format!("{} at {}", it.table_name, it.endpoint);
        match &configuration {
            Some(first) if named(first) != named(&made) => {
                return Err(ReplayError::SeveralDestinations { first: named(first), second: named(&made) });
            }
            _ => configuration = Some(made),
        }
    }
    let no_log = || chosen::ChooseError::NoLog { root: root.clone(), table: None };
    let configuration = configuration.ok_or_else(no_log).map_err(LogsError::from)?;
    let validated = configuration.validate()?;
    let request = Request {
        root,
        selection: given,
        table: validated.destination.table,
        endpoint: validated.destination.endpoint,
    };
    Ok(Prepared { logs, configuration, request, selection })
}

impl Prepared {
    /// Where the replay has its directory: beside the writers of the table.
    fn table_directory(&self, options: &ReplayOptions<'_>) -> Result<PathBuf, ReplayError> {
        let wal_dir = match &options.wal_dir {
            Some(wal_dir) => std::path::absolute(wal_dir).unwrap_or_else(|_| wal_dir.clone()),
            None => {
                // `<wal_dir>/<table>/writer-NNN`, unless somebody has moved it.
                let first = &self.logs[0].directory;
                let parent = first.parent().unwrap_or(first);
                match parent.parent() {
                    Some(root)
                        if parent.file_name().is_some_and(|name| name.to_string_lossy().contains('.')) =>
                    {
                        root.to_owned()
                    }
                    _ => parent.to_owned(),
                }
            }
        };
        Ok(table_directory(&wal_dir, &self.request.table))
    }
}

/// The last replay with the same request.
struct Latest {
    directory: PathBuf,
    /// None if there is none.
    record: Option<Record>,
    /// Where the next one goes.
    next: PathBuf,
}

impl Latest {
    fn find(table_directory: &Path, request: &Request) -> Result<Latest, ReplayError> {
        let name = |number: u32| match number {
            1 => format!("{REPLAY_PREFIX}{:016x}", request.hash()),
            _ => format!("{REPLAY_PREFIX}{:016x}-{number}", request.hash()),
        };
        let mut latest =
            Latest { directory: PathBuf::new(), record: None, next: table_directory.join(name(1)) };
        let mut number = 1;
        while latest.next.exists() {
            match Record::read(&latest.next)? {
                // A directory that a crash has left before it had a record: nothing was appended.
                None => break,
                Some(record) => {
                    if record.request == *request {
                        latest.directory = latest.next.clone();
                        latest.record = Some(record);
                    }
                }
            }
            number += 1;
            latest.next = table_directory.join(name(number));
        }
        Ok(latest)
    }
}

/// How rows may come to be in the table twice, whatever happens.
fn duplicates(
    logs: &[ChosenLog],
    selection: &Selection,
    configuration: &WrapperConfiguration,
) -> Result<Vec<String>, ReplayError> {
    let target = configuration.validate()?.destination;
    let is_home = |log: &&ChosenLog| {
        log.destination().is_some_and(|it| it.table == target.table && it.endpoint == target.endpoint)
    };
    if !logs.iter().any(|log| is_home(&log)) {
        return Ok(Vec::new());
    }
    let table = &target.table;
    let mut told = Vec::new();
    if selection.has(RowState::Waiting) {
        told.push(format!(
            "rows that wait are delivered to {table} by the owner of their log too, or by zerobus-wal drain: each arrives \
             once more"
        ));
    }
    if selection.has(RowState::Delivered) {
        told.push(format!("rows that were delivered are in {table} already: each arrives once more"));
    }
    if selection.has(RowState::Dropped) {
        told.push(format!("rows that were dropped while they were on their way may be in {table} already"));
    }
    if selection.has(RowState::Damaged) {
        told.push(format!("of damaged frames nobody knows whether rows of them are in {table} already"));
    }
    Ok(told)
}

fn report(
    outcome: ReplayOutcome,
    directory: &Path,
    record: &Record,
    duplicates: Vec<String>,
) -> ReplayReport {
    let finished = record.finished;
    ReplayReport {
        version: REPLAY_VERSION,
        outcome,
        table: record.request.table.clone(),
        endpoint: record.request.endpoint.clone(),
        directory: directory.to_owned(),
        is_resumed: false,
        duplicates,
        started_unix_micros: (outcome != ReplayOutcome::Planned).then_some(record.started_unix_micros),
        finished_unix_micros: finished.map(|finished| finished.unix_micros),
        rows: record.rows,
        rows_by_state: record.rows_by_state.clone(),
        delivered_rows: finished.map_or(0, |finished: Finished| finished.delivered_rows),
        quarantined_rows: finished.map_or(0, |finished| finished.quarantined_rows),
        resent_rows: 0,
        unreadable: record.unreadable.clone(),
    }
}
