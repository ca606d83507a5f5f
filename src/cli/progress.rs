//! A long verb shows how far it is, and ends early when it is interrupted.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::sync::oneshot;

use super::output::counted;
use crate::admin::Progress;
use crate::platform::signals::{self, EndRequests};

const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// What the counts of a [`Progress`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Rows,
}

impl Unit {
    fn template(self) -> &'static str {
        match self {
            Unit::Bytes => "{prefix} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
            Unit::Rows => "{prefix} {bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left",
        }
    }

    fn amount(self, count: u64) -> String {
        match self {
            Unit::Bytes => HumanBytes(count).to_string(),
            Unit::Rows => counted(count, "row", "rows"),
        }
    }
}

/// Runs an operation with a bar on a terminal, and with a line now and then elsewhere, both on stderr. A signal to
/// interrupt or terminate stops it between two pieces of its work.
pub(super) fn watched<T: Send>(prefix: &str, unit: Unit, operation: impl FnOnce(&Progress) -> T + Send) -> T {
    let progress = Progress::new();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return operation(&progress);
    };
    std::thread::scope(|scope| {
        let (ended, end) = oneshot::channel::<()>();
        let progress = &progress;
        scope.spawn(move || runtime.block_on(show(prefix, unit, progress, end)));
        let outcome = operation(progress);
        drop(ended);
        outcome
    })
}

async fn show(prefix: &str, unit: Unit, progress: &Progress, mut end: oneshot::Receiver<()>) {
    let bar = if std::io::stderr().is_terminal() {
        let style =
            ProgressStyle::with_template(unit.template()).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(0).with_style(style).with_prefix(prefix.to_owned())
    } else {
        ProgressBar::hidden()
    };
    let interval = if bar.is_hidden() { LINE_INTERVAL } else { REDRAW_INTERVAL };
    let mut redraw = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    let mut ends = EndRequests::catch().ok();
    loop {
        tokio::select! {
            _ = &mut end => break,
            () = signals::next(ends.as_mut()) => progress.stop(),
            _ = redraw.tick() => {
                let (done, total) = (progress.done(), progress.total());
                if bar.is_hidden() {
                    let of = total.map_or(String::new(), |total| format!(" of {}", unit.amount(total)));
                    eprintln!("{prefix}: {}{of}", unit.amount(done));
                } else {
                    bar.set_length(total.unwrap_or(done));
                    bar.set_position(done);
                }
            }
        }
    }
    bar.finish_and_clear();
}
