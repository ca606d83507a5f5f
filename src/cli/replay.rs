//! `zerobus-wal replay`: send stored rows again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::HumanCount;

use super::destination::{DestinationOptions, FormOptions, bytes_of, duration_of};
use super::output::{Format, counted, number, print_one, table};
use super::progress::{Unit, watched};
use super::rows::{RowsOptions, warn_unreadable};
use super::{Failure, root};
use crate::admin::replay::{
    DryRun, REPLAY_VERSION, ReplayOptions, ReplayOutcome, ReplayReport, replay, replay_dry_run,
};
use crate::admin::{RowState, Selection, rfc3339};
use crate::config::{DeliveryGuarantee, WrapperConfiguration};
use crate::error::ErrorCode;
use crate::platform::signals;
use crate::types::TableName;
use crate::wal::Destination;

/// Send stored rows again: to their table, or to another one.
///
/// Works beside a live owner: the logs are only read. The rows go through a log of the replay's own, so that a service that
/// is away is waited for and nothing is left out when this is interrupted: run it again, it goes on. A replay that is done is
/// not done twice, unless with --again. When rows could arrive twice, it says so and needs --execute.
#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    rows: RowsOptions,
    /// Rows in these states: `quarantined`, `waiting`, `delivered` (as far as they are retained), `dropped`, or `damaged`: those
    /// of frames that do not match their checksums and can be read all the same. Several with commas.
    #[arg(long, value_name = "STATES", value_delimiter = ',', default_value = "quarantined")]
    state: Vec<RowState>,
    /// Only rows in quarantine with this reason: `conversion`, `row_too_large`, `transmission` or `schema`. Only with
    /// `--state quarantined`.
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    reason: Vec<String>,
    #[command(flatten)]
    how: HowOptions,
}

/// Where rows are sent again, and how.
#[derive(Args, Debug)]
pub(super) struct HowOptions {
    /// Send to this table instead of that of the logs.
    #[arg(long, value_name = "TABLE")]
    to_table: Option<TableName>,
    /// Keep the log of the replay below this directory [default: the one that the logs are in].
    #[arg(long, value_name = "DIRECTORY")]
    wal_dir: Option<PathBuf>,
    #[command(flatten)]
    destination: DestinationOptions,
    #[command(flatten)]
    form: FormOptions,
    /// How often a row arrives when something fails on the way: `at_least_once`, or `exactly_once`. Only with
    /// `--transport protobuf`.
    #[arg(long, value_name = "GUARANTEE", default_value = "at_least_once")]
    delivery: DeliveryGuarantee,
    /// How long a schema that the table refuses is waited for, before its rows are put into the quarantine of the replay.
    #[arg(long, value_name = "TIME", default_value = "300", value_parser = duration_of("schema_grace_secs"))]
    schema_grace_secs: Duration,
    /// How many bytes of rows that are refused again there may be in the quarantine of the replay.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = bytes_of("quarantine_max_bytes"))]
    quarantine_max_bytes: u64,
    /// Send so many rows per second at most.
    #[arg(long, value_name = "ROWS")]
    rate: Option<u64>,
    /// Say which rows would be refused, and why, by the columns that the table has now; send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Send rows though they may be in the table already, or arrive there by other means.
    #[arg(long)]
    execute: bool,
    /// Do a replay anew that is done.
    #[arg(long)]
    again: bool,
    /// Give up after so many seconds; what is stored by then is delivered by the same replay, run again.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    run_selection(&args.rows, args.rows.selection(&args.state, &args.reason), &args.how)
}

/// Sends again what was chosen.
pub(super) fn run_selection(
    rows: &RowsOptions,
    selection: Selection,
    how: &HowOptions,
) -> Result<(), Failure> {
    let configure = |destination: &Destination| how.configuration(destination);
    let options = ReplayOptions {
        root: root(rows.directory.as_ref())?,
        selection,
        to_table: how.to_table.clone(),
        wal_dir: how.wal_dir.clone(),
        configure: &configure,
        rows_per_sec: how.rate,
        execute: how.execute,
        again: how.again,
        timeout: how.timeout.map(Duration::from_secs),
    };
    if how.dry_run {
        let run = watched("replay", Unit::Rows, |progress| replay_dry_run(&options, progress))?;
        warn_unreadable(&run.unreadable);
        return print_one(how.format, REPLAY_VERSION, &run, dry);
    }
    signals::survive_file_limits();
    let report = watched("replay", Unit::Rows, |progress| replay(&options, progress))?;
    warn_unreadable(&report.unreadable);
    print_one(how.format, REPLAY_VERSION, &report, told)?;
    match (report.outcome, report.quarantined_rows) {
        (ReplayOutcome::Planned, _) => Err(Failure {
            code: ErrorCode::Configuration,
            text: "nothing was sent, because rows can arrive twice; to send them all the same: --execute"
                .to_owned(),
        }),
        (ReplayOutcome::Done, refused) if refused > 0 => Err(Failure {
            code: ErrorCode::Transmission,
            text: format!(
                "{} refused again and in quarantine; to look: zerobus-wal quarantine show {}",
                counted(refused, "row was", "rows were"),
                report.directory.display()
            ),
        }),
        (ReplayOutcome::AlreadyDone, refused) if refused > 0 => Err(Failure {
            code: ErrorCode::Transmission,
            text: format!(
                "{} refused by this replay and in quarantine; once the table takes them, send only these with: \
                 zerobus-wal replay {}, or all of it anew, which doubles what was delivered, with --again",
                counted(refused, "row is", "rows are"),
                report.directory.display()
            ),
        }),
        _ => Ok(()),
    }
}

impl HowOptions {
    fn configuration(&self, home: &Destination) -> WrapperConfiguration {
        let wal_dir = self.wal_dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let mut configuration =
            self.destination.configuration_for(&home.endpoint, home.table.as_str(), &wal_dir);
        if configuration.unity_catalog_url.is_none() {
            configuration.unity_catalog_url = home.unity_catalog_url.clone();
        }
        self.form.apply_to(&mut configuration);
        configuration.delivery = self.delivery;
        configuration.schema_grace = self.schema_grace_secs;
        configuration.quarantine_max_bytes = self.quarantine_max_bytes;
        configuration
    }
}

fn told(report: &ReplayReport) -> String {
    let mut text = String::new();
    for duplicate in &report.duplicates {
        text.push_str(&format!("note: {duplicate}\n"));
    }
    let at = |time: Option<i64>| time.map_or("an unknown time".to_owned(), rfc3339);
    let rows = counted(report.rows, "row", "rows");
    text.push_str(&match report.outcome {
        ReplayOutcome::Planned => format!("nothing was sent to {}", report.table),
        ReplayOutcome::AlreadyDone => format!(
            "this replay was done at {}: {rows}, {} delivered to {}, {} refused again; to do it anew: --again",
            at(report.finished_unix_micros),
            HumanCount(report.delivered_rows),
            report.table,
            HumanCount(report.quarantined_rows),
        ),
        ReplayOutcome::Done => {
            let resumed = match report.is_resumed {
                true => format!(", begun at {}", at(report.started_unix_micros)),
                false => String::new(),
            };
            let resent = match report.resent_rows {
                0 => String::new(),
                resent => format!("; at most {} arrived twice, when a stream failed", counted(resent, "row", "rows")),
            };
            format!(
                "{rows}{resumed}: {} delivered to {}, {} refused again{resent}; its record is in {}",
                HumanCount(report.delivered_rows),
                report.table,
                HumanCount(report.quarantined_rows),
                report.directory.display(),
            )
        }
    });
    text
}

fn dry(run: &DryRun) -> String {
    let mut text = run.note.as_ref().map_or_else(String::new, |note| format!("note: {note}\n"));
    if !run.refused.is_empty() {
        let mut refused = table(["log", "frame", "row", "rows", "code", "reason"]);
        for row in &run.refused {
            refused.add_row([
                row.log.display().to_string().into(),
                number(row.lsn.get()),
                row.row.map_or_else(|| "all".into(), |row| number(row.into())),
                number(row.rows),
                row.code.clone().into(),
                row.reason.clone().into(),
            ]);
        }
        text.push_str(&format!("{refused}\n"));
    }
    text.push_str(&format!(
        "{} of {} would be refused by {}; nothing was sent",
        HumanCount(run.refused_rows),
        counted(run.rows, "row", "rows"),
        run.table
    ));
    text
}
