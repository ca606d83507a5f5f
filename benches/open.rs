//! How long does opening a log with a backlog take, and how fast is it read back?
//!
//! ```text
//! cargo bench -p benches --bench open                     # ours, 1 to 10 GiB; takes 13 GB of disk for a while
//! cargo bench -p benches --bench open --features crates   # and other logs with 2 GiB
//! cargo bench -p benches --bench open -- --quick
//! ```
//!
//! Everything is read from the disk: the pages of the files are dropped before each measurement, and with
//! `--drop-caches`, as root, everything else that the kernel remembers.

#![expect(clippy::disallowed_methods, reason = "a benchmark makes its directory itself")]

use std::path::PathBuf;

use benches::{
    KIB, MIB, Result,
    backlog::{self, Fill, Open, Opened, Step, Whose},
    goals::Goal,
    machine::{self, Disk},
    reading::{How, Readable},
    report::{self, Grid, Targets},
    summary::{bytes_name, median},
};
use clap::Parser;
use rand::seq::SliceRandom;
use serde::Serialize;

/// How long an opening may take, and what memory.
const OPEN_MILLIS: f64 = 200.0;
const OPEN_MIB: f64 = 64.0;
/// Four times the bytes in as many segments may take so many times as long.
const FLAT: f64 = 1.25;
/// At least so much of what raw reading gives.
const READ: f64 = 0.8;

#[derive(Debug, Parser)]
#[command(about = "How long does opening a log with a backlog take, and how fast is it read back?")]
struct Arguments {
    #[command(subcommand)]
    step: Option<Step>,
    /// Smaller backlogs: shows that it runs, the figures are rough
    #[arg(long)]
    quick: bool,
    /// Makes the kernel forget names and inodes too; as root, and felt by everyone on the machine
    #[arg(long)]
    drop_caches: bool,
    /// A directory on the disk to measure
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// How often everything is opened and read
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The length of our segments in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(16..4096))]
    segment_mib: u64,
    #[command(flatten)]
    targets: Targets,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn segment_bytes(&self) -> u64 {
        self.segment_mib * MIB as u64
    }
}

#[derive(Debug, Serialize)]
struct OpenResult {
    whose: Whose,
    backlog_mib: usize,
    segment_mib: u64,
    /// The first time after the process that filled it had died.
    first_millis: f64,
    /// The median of the times after that.
    millis: f64,
    /// The median of their ratios to those of the last log that was opened in turns with this one.
    of_last: f64,
    /// The most of all times.
    memory_mib: f64,
}

#[derive(Debug, Serialize)]
struct ReadResult {
    entry_bytes: usize,
    how: &'static str,
    megabytes_per_second: f64,
    /// The fastest round's ratio to the fastest of the best raw method.
    of_best_raw: f64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: &'a str,
    opened: &'a [OpenResult],
    read: &'a [ReadResult],
    goals: &'a [Goal],
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(step) = &arguments.step {
        step.run()?;
    }
    std::fs::create_dir_all(&arguments.dir)?;
    let machine = machine::description(&Disk::of(&arguments.dir)?);
    println!("{machine}\n");

    let mut opened = open_ours(&arguments)?;
    for whose in Whose::others() {
        opened.extend(open_other(whose, &arguments)?);
    }
    let opened_grid = opened_grid(&opened);
    println!("{}", opened_grid.text());

    let mut read = Vec::new();
    for entry_bytes in [KIB, 64 * KIB, MIB] {
        read.extend(read_back(entry_bytes, &arguments)?);
    }
    let read_grid = read_grid(&read);
    println!("{}", read_grid.text());

    let goals = goals(&opened, &read, &arguments);
    let goal_grid = report::goal_grid(&goals);
    println!("{}", goal_grid.text());
    let json = Report { machine: &machine, opened: &opened, read: &read, goals: &goals };
    report::write(&arguments.targets, "open", &machine, &[goal_grid, opened_grid, read_grid], &json)
}

/// Our log, as its backlog grows; and in turns with the largest one a quarter of it in as many segments, each a quarter as
/// long.
fn open_ours(arguments: &Arguments) -> Result<Vec<OpenResult>> {
    let gib = if arguments.quick { 64 } else { 1024 };
    let segment_mib = arguments.segment_mib;
    let mut results = Vec::new();
    for backlog_mib in [gib, 4 * gib] {
        results.extend(open(Whose::Ours, MIB, &[(backlog_mib, segment_mib)], arguments)?);
    }
    let in_turns = [(10 * gib, segment_mib), (10 * gib / 4, segment_mib / 4)];
    results.extend(open(Whose::Ours, MIB, &in_turns, arguments)?);
    Ok(results)
}

fn open_other(whose: Whose, arguments: &Arguments) -> Result<Vec<OpenResult>> {
    let backlog_mib = if arguments.quick { 128 } else { 2048 };
    open(whose, 64 * KIB, &[(backlog_mib, arguments.segment_mib)], arguments)
}

/// Fills logs, each of so many MiB in segments of so many, and opens them cold a few times, in turns.
fn open(
    whose: Whose,
    entry_bytes: usize,
    logs: &[(usize, u64)],
    arguments: &Arguments,
) -> Result<Vec<OpenResult>> {
    let mut filled = Vec::new();
    for &(backlog_mib, segment_mib) in logs {
        let dir = tempfile::tempdir_in(&arguments.dir)?;
        let (entries, segment_bytes) = (backlog_mib * MIB / entry_bytes, segment_mib * MIB as u64);
        backlog::fill(&Fill { whose, dir: dir.path().to_owned(), entry_bytes, entries, segment_bytes })?;
        filled.push((Open { whose, dir: dir.path().to_owned(), entry_bytes, segment_bytes }, dir));
    }
    let mut times: Vec<Vec<Opened>> = vec![Vec::new(); logs.len()];
    for _ in 0..arguments.rounds + 1 {
        for ((open, _), times) in filled.iter().zip(&mut times) {
            times.push(backlog::open_cold(open, arguments.drop_caches)?);
        }
    }
    let results = logs.iter().zip(&times).map(|(&(backlog_mib, segment_mib), of_this)| {
        let last = times.last().unwrap_or(of_this);
        let ratios = of_this.iter().zip(last).skip(1).map(|(this, last)| millis(this) / millis(last));
        let memory = of_this.iter().map(|opened| opened.memory_bytes as f64 / MIB as f64);
        OpenResult {
            whose,
            backlog_mib,
            segment_mib,
            first_millis: of_this.first().map_or(0.0, millis),
            millis: median(of_this.iter().skip(1).map(millis)).unwrap_or(0.0),
            of_last: median(ratios).unwrap_or(0.0),
            memory_mib: memory.fold(0.0, f64::max),
        }
    });
    Ok(results.collect())
}

fn millis(opened: &Opened) -> f64 {
    opened.elapsed.as_secs_f64() * 1e3
}

/// Fills a log with entries of one length, and reads it back in every way, in turns.
fn read_back(entry_bytes: usize, arguments: &Arguments) -> Result<Vec<ReadResult>> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let segment_bytes = arguments.segment_bytes();
    // The headers of short frames, and the time that filling takes.
    let backlog_mib = if entry_bytes < 64 * KIB { 512 } else { 2048 } / if arguments.quick { 8 } else { 1 };
    let entries = backlog_mib * MIB / entry_bytes;
    let path = dir.path().to_owned();
    backlog::fill(&Fill { whose: Whose::Ours, dir: path, entry_bytes, entries, segment_bytes })?;
    let readable = Readable::open(dir.path(), entries, segment_bytes)?;
    let mut rates: Vec<(How, Vec<f64>)> = How::ALL.iter().map(|how| (*how, Vec::new())).collect();
    let mut order: Vec<usize> = (0..rates.len()).collect();
    for _ in 0..arguments.rounds {
        // What one way leaves behind in the host of a virtual disk is not always met by the same other one.
        order.shuffle(&mut rand::rng());
        for &next in &order {
            let (how, rates) = &mut rates[next];
            rates.push(readable.read_cold(*how, arguments.drop_caches)?);
        }
    }
    // The fastest round: what slows one down is the host of a virtual machine, which maps memory anew.
    let fastest = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let raw = rates.iter().filter(|(how, _)| how.is_raw()).map(|(_, rates)| fastest(rates));
    let best_raw = raw.fold(f64::MIN_POSITIVE, f64::max);
    let results = rates.iter().map(|(how, rates)| ReadResult {
        entry_bytes,
        how: how.name(),
        megabytes_per_second: fastest(rates) / 1e6,
        of_best_raw: fastest(rates) / best_raw,
    });
    Ok(results.collect())
}

fn goals(opened: &[OpenResult], read: &[ReadResult], arguments: &Arguments) -> Vec<Goal> {
    let is_whole =
        |opened: &&OpenResult| opened.whose == Whose::Ours && opened.segment_mib == arguments.segment_mib;
    let mut goals = Vec::new();
    if let Some(most) = opened.iter().rfind(is_whole) {
        let case = format!("open {} MiB", most.backlog_mib);
        goals.push(Goal::at_most(&case, "ms after a crash", OPEN_MILLIS, Some(most.first_millis)));
        goals.push(Goal::at_most(&case, "ms", OPEN_MILLIS, Some(most.millis)));
        goals.push(Goal::at_most(&case, "memory MiB", OPEN_MIB, Some(most.memory_mib)));
        goals.push(Goal::at_most(&case, "ms / of a quarter in as many segments", FLAT, Some(most.of_last)));
    }
    for result in read.iter().filter(|result| result.how == How::Frames.name()) {
        let case = format!("read {}", bytes_name(result.entry_bytes));
        goals.push(Goal::at_least(&case, "rate / best raw", READ, Some(result.of_best_raw)));
    }
    goals
}

fn opened_grid(opened: &[OpenResult]) -> Grid {
    let columns = ["log", "backlog MiB", "segment MiB", "after a crash ms", "later ms", "memory MiB"];
    let mut grid = Grid::new("Opening cold", &columns);
    for result in opened {
        grid.row(vec![
            result.whose.name().to_owned(),
            result.backlog_mib.to_string(),
            if result.whose == Whose::Ours { result.segment_mib.to_string() } else { "–".to_owned() },
            format!("{:.1}", result.first_millis),
            format!("{:.1}", result.millis),
            format!("{:.1}", result.memory_mib),
        ]);
    }
    grid
}

fn read_grid(read: &[ReadResult]) -> Grid {
    let columns = ["entries", "how", "MB/s", "of the best raw"];
    let mut grid = Grid::new("Reading back cold", &columns);
    for result in read {
        grid.row(vec![
            bytes_name(result.entry_bytes),
            result.how.to_owned(),
            format!("{:.0}", result.megabytes_per_second),
            format!("{:.2}", result.of_best_raw),
        ]);
    }
    grid
}
