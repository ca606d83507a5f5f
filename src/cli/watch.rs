//! `zerobus-wal status --watch`: how logs go on, on a screen that is drawn again and again.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use console::Term;
use indicatif::{HumanBytes, HumanCount};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::output::counted;
use super::status::{Seen, look};
use super::time::human;
use super::{Failure, no_log};
use crate::error::ErrorCode;
use crate::platform::signals::{self, EndRequests};
use crate::wrapper::Status;

/// So many depths are remembered.
const SAMPLES_MAX: usize = 120;
/// How far back a rate goes.
const RATE_SPAN: Duration = Duration::from_secs(10);
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const SPARKLINE_WIDTH: usize = 40;

/// One look at a log.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at: Duration,
    stored_rows: u64,
    settled_rows: u64,
    waiting_rows: u64,
}

/// The last looks at one log.
#[derive(Debug, Default)]
struct History(VecDeque<Sample>);

impl History {
    fn add(&mut self, at: Duration, status: &Status) {
        let rows = status.rows;
        let settled_rows = rows.delivered + rows.quarantined + rows.dropped;
        self.0.push_back(Sample { at, stored_rows: rows.stored, settled_rows, waiting_rows: rows.waiting });
        if self.0.len() > SAMPLES_MAX {
            self.0.pop_front();
        }
    }

    /// Rows a second that came in, and that went out, in the last seconds; none after one look.
    fn rates(&self) -> Option<(f64, f64)> {
        let last = self.0.back()?;
        let first = self.0.iter().find(|sample| last.at.saturating_sub(sample.at) <= RATE_SPAN)?;
        let secs = last.at.saturating_sub(first.at).as_secs_f64();
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / secs;
        (secs > 0.0)
            .then(|| (rate(first.stored_rows, last.stored_rows), rate(first.settled_rows, last.settled_rows)))
    }

    /// The depth over time, the newest at the right.
    fn sparkline(&self) -> String {
        let depths: Vec<u64> = self.0.iter().map(|sample| sample.waiting_rows).collect();
        let shown = &depths[depths.len().saturating_sub(SPARKLINE_WIDTH)..];
        let max = shown.iter().copied().max().unwrap_or(0).max(1);
        let bar = |depth: &u64| {
            BARS[(u128::from(*depth) * (BARS.len() as u128 - 1)).div_ceil(u128::from(max)) as usize]
        };
        shown.iter().map(bar).collect()
    }
}

/// Shows the logs at and below a directory until a signal, or until nobody reads any more. `print` is how they are printed
/// where stdout is no terminal.
pub(super) fn watch(
    root: &Path,
    interval: Duration,
    print: impl Fn(&[Status]) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed =
        |error: io::Error| Failure { code: ErrorCode::Storage, text: format!("cannot watch: {error}") };
    runtime.map_err(failed)?.block_on(async {
        let mut ends = EndRequests::catch().ok();
        let is_terminal = io::stdout().is_terminal();
        let screen = is_terminal.then(Screen::open).transpose().map_err(failed)?;
        tokio::select! {
            () = signals::next(ends.as_mut()) => Ok(()),
            ended = draw(root, interval, screen.as_ref(), print) => ended,
        }
    })
}

async fn draw(
    root: &Path,
    interval: Duration,
    screen: Option<&Screen>,
    print: impl Fn(&[Status]) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut histories: BTreeMap<PathBuf, History> = BTreeMap::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looked = root.to_owned();
        // An owner that does not answer is waited for: a signal is not to wait with us.
        let seen = spawn_blocking(move || look(&looked)).await;
        let seen = seen.map_err(|error| Failure { code: ErrorCode::Internal, text: error.to_string() })?;
        let has_none = seen.unreadable.is_empty() || !root.exists();
        if seen.logs.is_empty() && has_none && histories.is_empty() {
            return Err(no_log(root));
        }
        for status in &seen.logs {
            histories.entry(status.directory.clone()).or_default().add(began.elapsed(), status);
        }
        let written = match screen {
            Some(screen) => screen.draw(&page(root, interval, &seen, &histories)),
            None => write_out(&print(&seen.logs)?, &seen),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => {
                let text = format!("cannot write to stdout: {error}");
                return Err(Failure { code: ErrorCode::Storage, text });
            }
            Ok(()) => {}
        }
    }
}

fn write_out(text: &str, seen: &Seen) -> io::Result<()> {
    seen.unreadable.iter().for_each(|failure| eprintln!("warning: {}", failure.text));
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// The alternate screen of a terminal, without a cursor. It is given back when this goes.
struct Screen {
    terminal: Term,
}

impl Screen {
    fn open() -> io::Result<Screen> {
        let screen = Screen { terminal: Term::stdout() };
        screen.write("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    /// Draws it; what the terminal has no place for is counted in its last line.
    fn draw(&self, blocks: &[Vec<String>]) -> io::Result<()> {
        let (height, width) = self.terminal.size();
        let mut text = String::from("\x1b[H");
        for (number, line) in fitted(blocks, height.into(), width.into()).iter().enumerate() {
            let end_of_line = if number > 0 { "\r\n" } else { "" };
            text.push_str(end_of_line);
            text.push_str(line);
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        self.write(&text)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.write("\x1b[?25h\x1b[?1049l");
    }
}

/// The lines of blocks as a screen has place for them: long lines go on below, blocks that do not fit become one line each, and
/// what is left out even then is counted.
fn fitted(blocks: &[Vec<String>], height: usize, width: usize) -> Vec<String> {
    let folded: Vec<Vec<String>> = blocks.iter().map(|block| folded(block, width)).collect();
    let needed: usize = folded.iter().map(|block| block.len() + 1).sum::<usize>().saturating_sub(1);
    let mut lines: Vec<String> = if needed <= height {
        folded.join(&String::new())
    } else {
        let first = |block: &Vec<String>| block.first().cloned().unwrap_or_default();
        // The title, and of each log the line that says most.
        folded.iter().map(first).collect()
    };
    if lines.len() > height {
        let hidden = lines.len() + 1 - height;
        lines.truncate(height.saturating_sub(1));
        lines.push(cut(&format!("{hidden} more; make the terminal higher, or name a directory"), width));
    } else if needed > height {
        // There is room for the whole of the first ones.
        let mut room = height - lines.len();
        let mut shown = Vec::new();
        for block in &folded {
            let more = block.len().saturating_sub(1);
            if more <= room {
                room -= more;
                shown.extend(block.iter().cloned());
            } else {
                shown.extend(block.first().cloned());
            }
        }
        lines = shown;
    }
    lines
}

/// Lines that are no longer than this; what follows a break is set in.
fn folded(block: &[String], width: usize) -> Vec<String> {
    const INDENT: &str = "           ";
    let width = width.max(INDENT.len() + 10);
    let mut lines = Vec::new();
    for line in block {
        let shown: Vec<char> = line.chars().filter(|shown| !shown.is_control()).collect();
        let (first, rest) = shown.split_at(shown.len().min(width));
        lines.push(first.iter().collect());
        let rest = rest.chunks(width - INDENT.len());
        lines.extend(rest.map(|part| format!("{INDENT}{}", part.iter().collect::<String>())));
    }
    lines
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// What the screen shows: a title, and a block for each log.
fn page(
    root: &Path,
    interval: Duration,
    seen: &Seen,
    histories: &BTreeMap<PathBuf, History>,
) -> Vec<Vec<String>> {
    let title =
        format!("zerobus-wal status {}   every {} s, Ctrl-C ends", root.display(), interval.as_secs_f64());
    let mut blocks = vec![vec![title]];
    blocks.extend(seen.logs.iter().map(|status| log_lines(status, histories.get(&status.directory))));
    blocks.extend(seen.unreadable.iter().map(|failure| vec![failure.text.clone()]));
    blocks
}

fn log_lines(status: &Status, history: Option<&History>) -> Vec<String> {
    let owner = match (status.owner_pid, status.rows.waiting) {
        (Some(0), _) => "owner unknown".to_owned(),
        (Some(pid), _) => format!("pid {pid}"),
        (None, 0) => "nobody owns it".to_owned(),
        (None, _) => "ORPHAN, nobody delivers it".to_owned(),
    };
    let lane = status.lane.as_ref().map_or("-", |lane| lane.state.as_str());
    let rates = history.and_then(History::rates);
    let rate = |of: fn((f64, f64)) -> f64| {
        rates.map_or("-".to_owned(), |rates| format!("{} rows/s", HumanCount(of(rates).round() as u64)))
    };
    let quota = status.wal_max_bytes.map_or(String::new(), |max| format!(" of {}", HumanBytes(max)));
    let oldest =
        status.oldest_waiting_secs.map_or(String::new(), |secs| format!(", the oldest for {}", human(secs)));
    let mut lines = vec![
        format!(
            "{}   {owner}   lane {lane}   {}",
            status.name(),
            counted(status.rows.waiting, "row waits", "rows wait")
        ),
        format!("  waiting  {}{oldest}", counted(status.rows.waiting, "row", "rows")),
        format!("  depth    {}", history.map(History::sparkline).unwrap_or_default()),
        format!("  in       {}", rate(|(stored, _)| stored)),
        format!("  out      {}", rate(|(_, settled)| settled)),
        format!("  log      {}{quota}", HumanBytes(status.log_bytes)),
    ];
    if let Some(secs) = status.full_in_secs {
        lines.push(format!("  full in  {}", human(secs)));
    }
    if let Some(secs) = status.drained_in_secs.filter(|_| status.rows.waiting > 0) {
        lines.push(format!("  drained  in {}", human(secs)));
    }
    let reason = status.lane.as_ref().and_then(|lane| lane.reason.as_ref());
    lines.extend(reason.map(|reason| format!("  reason   {reason}")));
    lines.extend(status.full.as_ref().map(|full| format!("  FULL     {full}")));
    lines.extend(status.poisoned.as_ref().map(|reason| format!("  POISONED {reason}")));
    lines.extend(status.damage.iter().map(|damage| format!("  DAMAGE   {damage}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(secs: u64, stored_rows: u64, settled_rows: u64) -> Sample {
        let waiting_rows = stored_rows - settled_rows;
        Sample { at: Duration::from_secs(secs), stored_rows, settled_rows, waiting_rows }
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut history = History::default();
        assert_eq!(history.rates(), None);
        history.0.push_back(sample(0, 0, 0));
        assert_eq!(history.rates(), None, "one look is no rate");
        history.0.extend([sample(90, 9_000, 0), sample(95, 9_500, 50), sample(100, 10_000, 100)]);
        assert_eq!(history.rates(), Some((100.0, 10.0)));
    }

    #[test]
    fn a_sparkline_is_as_high_as_the_deepest_and_shows_the_smallest_depth() {
        let mut history = History::default();
        assert_eq!(history.sparkline(), "");
        history.0.extend([sample(0, 0, 0), sample(1, 1, 0), sample(2, 1_000_000, 0), sample(3, 500_000, 0)]);
        assert_eq!(history.sparkline(), "▁▂█▅");
        history.0.extend((4..100).map(|secs| sample(secs, u64::MAX, 0)));
        assert_eq!(history.sparkline(), "█".repeat(SPARKLINE_WIDTH));
    }

    fn block(name: &str, lines: usize) -> Vec<String> {
        (0..lines).map(|line| if line == 0 { name.to_owned() } else { format!("  of {name}") }).collect()
    }

    #[test]
    fn a_screen_shows_every_log_at_least_in_a_line_and_says_what_it_hides() {
        let blocks = |logs: usize| {
            let mut blocks = vec![vec!["title".to_owned()]];
            blocks.extend((0..logs).map(|log| block(&format!("log {log}"), 8)));
            blocks
        };
        let whole = fitted(&blocks(2), 24, 80);
        assert_eq!((whole.len(), whole[1].as_str()), (1 + 2 * 9, ""));
        let five = fitted(&blocks(5), 24, 80);
        assert!(five.len() <= 24, "{five:?}");
        for log in 0..5 {
            assert!(five.contains(&format!("log {log}")), "{five:?}");
        }
        assert!(five.contains(&"  of log 0".to_owned()), "the first ones are whole: {five:?}");
        let many = fitted(&blocks(100), 24, 80);
        assert_eq!((many.len(), &many[23][..8]), (24, "78 more;"));
    }

    #[test]
    fn a_long_line_goes_on_below() {
        let reason = format!("  reason   {}", "x".repeat(300));
        let lines = fitted(&[vec!["title".to_owned()], vec!["log".to_owned(), reason]], 24, 80);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        assert_eq!(lines.concat().matches('x').count(), 300);
    }
}
