//! `zerobus-wal drain`: deliver what a dead program left.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::destination::{DestinationOptions, FormOptions, bytes_of, duration_of};
use super::output::{counted, print};
use super::{Failure, root};
use crate::admin::{self, StatusError};
use crate::config::{DeliveryGuarantee, WrapperConfiguration};
use crate::error::{ErrorCode, chain};
use crate::platform::signals::{self, EndRequests};
use crate::wrapper::{DeliveryError, Status, ZerobusWrapper};

const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// More than a century.
const KEPT_FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Deliver what a dead program left in its log, then exit.
///
/// A log with rows that wait and a live owner is refused: that process delivers it. While the service is away
/// this keeps trying, until --timeout if that is given. Nothing is lost when it is interrupted.
///
/// --endpoint and --unity-catalog-url are for this run. Where the log goes otherwise stays as it was; to change that: remap.
#[derive(Args, Debug)]
pub(super) struct DrainArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    #[command(flatten)]
    destination: DestinationOptions,
    #[command(flatten)]
    form: FormOptions,
    /// How often a row arrives when something fails on the way: `at_least_once`, or `exactly_once`. Only with
    /// `--transport protobuf`.
    #[arg(long, value_name = "GUARANTEE", default_value = "at_least_once")]
    delivery: DeliveryGuarantee,
    /// How many streams deliver at the same time, at most. With more than one, rows arrive in no order. Only with
    /// `--delivery at_least_once`.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    streams: usize,
    /// How long a schema that the table refuses is waited for, before its frames are put into quarantine; 0 puts them
    /// there at once.
    #[arg(long, value_name = "TIME", default_value = "300", value_parser = duration_of("schema_grace_secs"))]
    schema_grace_secs: Duration,
    /// How many bytes of refused rows there may be in quarantine; 0 leaves them in the log, and what is behind them too.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = bytes_of("quarantine_max_bytes"))]
    quarantine_max_bytes: u64,
    /// Keep what is delivered, now and before, for replay; without this it is freed.
    #[arg(long)]
    keep: bool,
    /// Give up after so many seconds for each log.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub(super) fn run(args: &DrainArgs) -> Result<(), Failure> {
    signals::survive_file_limits();
    let root = root(args.directory.as_ref())?;
    let directories = admin::find_logs(&root)?;
    if directories.is_empty() {
        let text = format!("no log in or below {}; give the wal_dir of the program", root.display());
        return Err(Failure { code: ErrorCode::Configuration, text });
    }
    let mut first_failure = None;
    for directory in directories {
        // One log that cannot be drained does not keep the others waiting.
        if let Err(failure) = drain_one(args, &directory) {
            eprintln!("warning: {}", failure.text);
            first_failure.get_or_insert(failure.code);
        }
    }
    let failed = |code| Failure { code, text: "not every log was drained".to_owned() };
    first_failure.map_or(Ok(()), |code| Err(failed(code)))
}

fn drain_one(args: &DrainArgs, directory: &Path) -> Result<(), Failure> {
    match admin::status(directory) {
        Ok(log) if log.rows.waiting == 0 => print(&format!("{}: nothing waits", log.name())),
        Ok(log) => drain(args, directory, args.destination.configuration(&log), Some(log)),
        // The log deals with that by itself, as it does for a wrapper.
        Err(error @ (StatusError::NoIdentity { .. } | StatusError::Ledger { .. })) => {
            let destination = admin::repair::destination(directory, args.destination.place())?;
            eprintln!("warning: {}; what waits is delivered all the same", chain(&error));
            drain(args, directory, args.destination.configuration_to(&destination, directory), None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Drains a log of which this was known before; none if its files do not tell.
fn drain(
    args: &DrainArgs,
    directory: &Path,
    mut configuration: WrapperConfiguration,
    before: Option<Status>,
) -> Result<(), Failure> {
    configure(args, &mut configuration);
    let wrapper = ZerobusWrapper::open_in(configuration, directory)?;
    let before = &before.unwrap_or_else(|| wrapper.status());
    let runtime = wrapper.runtime();
    let outcome = runtime.block_on(async {
        let mut ends = EndRequests::catch().ok();
        tokio::select! {
            flushed = flush(&wrapper, args, before) => flushed,
            () = signals::next(ends.as_mut()) => Err(Failure { code: ErrorCode::Closed, text: "interrupted".to_owned() }),
            never = show_progress(&wrapper, before) => match never {},
        }
    });
    let shut_down = runtime.block_on(wrapper.shutdown()).map_err(Failure::from);
    let after = wrapper.status();
    let delivered = after.rows.delivered.saturating_sub(before.rows.delivered);
    let damaged = after.damaged_frames.saturating_sub(before.damaged_frames);
    match outcome.and(shut_down) {
        Ok(()) if damaged > 0 => Err(Failure {
            code: ErrorCode::Corruption,
            text: format!(
                "{}: {} stepped over, {} of the others delivered; what is left of the damage is kept beside the log, see: \
                 zerobus-wal verify {}",
                before.name(),
                counted(damaged, "damaged frame was", "damaged frames were"),
                counted(delivered, "row", "rows"),
                directory.display(),
            ),
        }),
        Ok(()) => print(&format!("{}: {} delivered", before.name(), counted(delivered, "row", "rows"))),
        Err(failure) if after.rows.waiting == 0 => Err(Failure {
            text: format!(
                "{}: {}; {} delivered",
                before.name(),
                failure.text,
                counted(delivered, "row was", "rows were")
            ),
            ..failure
        }),
        Err(failure) => Err(Failure {
            text: format!(
                "{}: {}; {} delivered, {} in {}: run this again",
                before.name(),
                failure.text,
                counted(delivered, "row was", "rows were"),
                counted(after.rows.waiting, "waits", "wait"),
                directory.display(),
            ),
            ..failure
        }),
    }
}

/// Waits until all is delivered, through every failure that passes by itself, and until the time of a refused schema is over.
async fn flush(wrapper: &ZerobusWrapper, args: &DrainArgs, before: &Status) -> Result<(), Failure> {
    let patient = async {
        loop {
            match wrapper.flush(None).await {
                Err(DeliveryError::RetryExhausted { .. }) => {}
                Err(DeliveryError::Refused(reason)) if wrapper.waits_for_schema() => {
                    eprintln!(
                        "{}: the table refuses a schema, which is waited for until it was refused for {} s \
                         (--schema-grace-secs); then its frames go into quarantine: {reason}",
                        before.name(),
                        args.schema_grace_secs.as_secs_f64(),
                    );
                    while wrapper.waits_for_schema() {
                        tokio::time::sleep(REDRAW_INTERVAL).await;
                    }
                }
                ended => return ended.map_err(Failure::from),
            }
        }
    };
    let Some(timeout) = args.timeout.map(Duration::from_secs) else { return patient.await };
    tokio::time::timeout(timeout, patient).await.unwrap_or_else(|_| {
        let mut failure = Failure::from(DeliveryError::Timeout { timeout });
        if let Some(lane) = wrapper.status().lane {
            failure.text.push_str(&format!("; the lane is {}", lane.state.as_str()));
            lane.reason.iter().for_each(|reason| failure.text.push_str(&format!(": {reason}")));
        }
        Err(failure)
    })
}

fn configure(args: &DrainArgs, configuration: &mut WrapperConfiguration) {
    args.form.apply_to(configuration);
    configuration.delivery = args.delivery;
    configuration.streams = args.streams;
    configuration.schema_grace = args.schema_grace_secs;
    configuration.quarantine_max_bytes = args.quarantine_max_bytes;
    configuration.shutdown_timeout = Duration::ZERO;
    if args.keep {
        configuration.retain_delivered = KEPT_FOR_EVER;
    }
}

/// A bar on a terminal, a line now and then elsewhere.
async fn show_progress(wrapper: &ZerobusWrapper, before: &Status) -> std::convert::Infallible {
    let bar = if std::io::stderr().is_terminal() {
        let template = "{prefix} {bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(before.rows.waiting).with_style(style).with_prefix(before.name())
    } else {
        ProgressBar::hidden()
    };
    let mut redraw = tokio::time::interval(if bar.is_hidden() { LINE_INTERVAL } else { REDRAW_INTERVAL });
    loop {
        redraw.tick().await;
        let status = wrapper.status();
        bar.set_position(status.rows.delivered.saturating_sub(before.rows.delivered));
        let reason = status.lane.and_then(|lane| lane.reason).unwrap_or_default();
        if bar.is_hidden() {
            let waiting = counted(status.rows.waiting, "row waits", "rows wait");
            eprintln!("{}: {waiting} {reason}", before.name());
        }
        bar.set_message(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn an_option_that_is_a_setting_has_its_default_and_its_variable() {
        let command = DrainArgs::augment_args(clap::Command::new("drain"));
        let mut compared = 0;
        for option in command.get_arguments() {
            let Some(setting) = SETTINGS.iter().find(|setting| option.get_id() == setting.name) else {
                continue;
            };
            let default = option.get_default_values().first().map(|text| text.to_str().unwrap());
            if let Some(default) = default {
                let (of_option, of_setting) = (setting.parse(default).unwrap(), setting.default().unwrap());
                assert_eq!(format!("{of_option:?}"), format!("{of_setting:?}"), "{}", setting.name);
                compared += 1;
            }
            if let Some(variable) = option.get_env() {
                assert!(setting.variables().any(|name| variable == name.as_str()), "{}", setting.name);
                compared += 1;
            }
        }
        assert_eq!(compared, 11, "seven defaults and four variables");
    }
}
