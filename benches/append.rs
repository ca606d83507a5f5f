//! How many appends per second are durable, and what does one cost?
//!
//! ```text
//! cargo bench -p benches --bench append                     # ours and the raw baselines, 4 minutes
//! cargo bench -p benches --bench append --features crates   # and other logs and stores, 10 minutes
//! cargo bench -p benches --bench append -- --quick --case 1KiBx16
//! ```
//!
//! Entries of 1 KiB to 10 MiB from 1 and 16 producers, each acknowledged when it is durable. Ours takes an Arrow
//! batch and encodes it within the measured time. The methods take turns, in an order that is drawn for each round;
//! each begins when the disk and this process are at rest, so that what a store does behind its back is not held against
//! the next.

#![expect(clippy::disallowed_methods, reason = "a benchmark is measured by the clock of the machine")]

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use benches::{
    KIB, MIB, Result,
    entries::Pool,
    goals::{self, Goal},
    machine::{self, Disk},
    method::{Method, measure},
    ours::Ours,
    raw::{How, Raw},
    report::{self, Targets},
    summary::{CaseSummary, Measured, bytes_name},
};
use clap::Parser;
use rand::seq::SliceRandom;

#[derive(Debug, Parser)]
#[command(about = "How many appends per second are durable, and what does one cost?")]
struct Arguments {
    /// Shorter and fewer slices: shows that it runs, the figures are rough
    #[arg(long)]
    quick: bool,
    /// Only these cases, such as 1KiBx16; all of them otherwise
    #[arg(long, value_name = "CASE")]
    case: Vec<Case>,
    /// A directory on the disk to measure
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// How often each method has its turn
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// The length of our segments in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(16..4096))]
    segment_mib: u64,
    #[command(flatten)]
    targets: Targets,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    entry_bytes: usize,
    producers: usize,
}

impl Case {
    fn all() -> Vec<Case> {
        let sizes = [KIB, 64 * KIB, MIB, 10 * MIB];
        let case = |entry_bytes, producers| Case { entry_bytes, producers };
        sizes.into_iter().flat_map(|size| [case(size, 1), case(size, 16)]).collect()
    }

    fn name(self) -> String {
        format!("{}x{}", bytes_name(self.entry_bytes), self.producers)
    }

    /// How long a method has its turn: long enough for some hundred entries.
    fn slice(self, quick: bool) -> Duration {
        let full = if self.entry_bytes >= 10 * MIB { 900 } else { 600 };
        Duration::from_millis(if quick { full / 4 } else { full })
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Case, String> {
        let known = Case::all();
        known.iter().find(|case| case.name() == text).copied().ok_or_else(|| {
            let names: Vec<String> = known.iter().map(|case| case.name()).collect();
            format!("there are {}", names.join(", "))
        })
    }
}

#[derive(serde::Serialize)]
struct Report<'a> {
    machine: &'a str,
    cases: &'a [CaseSummary],
    goals: &'a [Goal],
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.dir)?;
    let disk = Disk::of(&arguments.dir)?;
    let machine = machine::description(&disk);
    println!("{machine}\n");
    let wanted = if arguments.case.is_empty() { Case::all() } else { arguments.case.clone() };
    let started = Instant::now();
    let mut cases = Vec::new();
    for case in wanted {
        let summary = run(case, &arguments, &disk)?;
        println!("{}", report::case_grid(&summary).text());
        cases.push(summary);
    }
    let goals: Vec<Goal> = cases.iter().flat_map(goals::of_case).collect();
    let ratios = report::ratio_grid(&cases);
    let goal_grid = report::goal_grid(&goals);
    println!("{}\n{}\nin {} s", ratios.text(), goal_grid.text(), started.elapsed().as_secs());

    let mut grids: Vec<_> = cases.iter().map(report::case_grid).collect();
    grids.splice(0..0, [goal_grid, ratios]);
    let json = Report { machine: &machine, cases: &cases, goals: &goals };
    report::write(&arguments.targets, "append", &machine, &grids, &json)
}

/// All methods, in turns.
fn run(case: Case, arguments: &Arguments, disk: &Disk) -> Result<CaseSummary> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let pool = Pool::new(case.entry_bytes);
    let mut methods = methods(case, &pool, dir.path(), arguments)?;
    let slice = case.slice(arguments.quick);
    for method in &mut methods {
        method.before_round()?;
        measure(method.as_ref(), case.producers, slice / 4, disk)?;
    }
    let mut measured: Vec<Measured> = methods
        .iter()
        .map(|method| Measured { name: method.name().to_owned(), kind: method.kind(), slices: Vec::new() })
        .collect();
    for _ in 0..arguments.rounds.unwrap_or(if arguments.quick { 2 } else { 5 }) {
        let mut order: Vec<_> = methods.iter_mut().zip(&mut measured).collect();
        order.shuffle(&mut rand::rng());
        for (method, measured) in order {
            method.before_round()?;
            machine::wait_for_rest(disk);
            let slice = measure(method.as_ref(), case.producers, slice, disk)
                .map_err(|error| format!("{}: {error}", method.name()))?;
            measured.slices.push(slice);
        }
    }
    Ok(CaseSummary::new(case.name(), case.entry_bytes, case.producers, &measured, disk.counts()))
}

fn methods(case: Case, pool: &Pool, dir: &Path, arguments: &Arguments) -> Result<Vec<Box<dyn Method>>> {
    let own = |name: &str| -> Result<PathBuf> {
        let own = dir.join(name);
        std::fs::create_dir(&own)?;
        Ok(own)
    };
    let segment_bytes = arguments.segment_mib * MIB as u64;
    let mut methods: Vec<Box<dyn Method>> = vec![Box::new(Ours::new(&own("ours")?, pool, segment_bytes)?)];
    for how in How::ALL {
        let raw = Raw::new(how, &own(&format!("{how:?}"))?, pool, case.producers);
        match raw {
            Ok(raw) => methods.push(Box::new(raw)),
            Err(error) => println!("{how:?} is left out: {error}"),
        }
    }
    #[cfg(feature = "crates")]
    for open in benches::stores::ALL {
        methods.push(open(&own(&format!("store-{}", methods.len()))?, pool, case.producers)?);
    }
    Ok(methods)
}
