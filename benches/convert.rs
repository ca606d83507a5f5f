//! How long does a row take from Arrow to protobuf, and how far is that from copying its bytes?
//!
//! ```text
//! cargo bench -p benches --bench convert                # one minute
//! cargo bench -p benches --bench convert -- --quick --case wide
//! ```
//!
//! One core, and nothing but memory. Each batch is converted again and again; the methods take turns, round by
//! round. What is copied by `memcpy` are the records that ours makes of the same batch.

#![expect(clippy::disallowed_methods, reason = "a benchmark is measured by the clock of the machine")]

use std::{
    fs::File,
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_select::concat::concat_batches;
use arrow_zerobus_sdk_wrapper::convert::{Plan, Policies, Records};
use benches::{
    Result,
    conversion::{self, Reflected},
    goals::Goal,
    machine::{self, Disk},
    report::{self, Grid, Targets},
    summary::median,
};
use clap::{Parser, ValueEnum};
use prost_reflect::prost::Message;
use serde::Serialize;

#[derive(Debug, Parser)]
#[command(about = "How long does a row take from Arrow to protobuf?")]
struct Arguments {
    /// Shorter and fewer slices: shows that it runs, the figures are rough
    #[arg(long)]
    quick: bool,
    /// Only these cases; all of them otherwise
    #[arg(long, value_name = "CASE")]
    case: Vec<Case>,
    /// Instead of the cases, the batches of this Arrow IPC stream, as one
    #[arg(long, value_name = "FILE", conflicts_with = "case")]
    ipc: Option<PathBuf>,
    /// Writes the DescriptorProto of the records of `--ipc` to this file
    #[arg(long, value_name = "FILE", requires = "ipc")]
    descriptor: Option<PathBuf>,
    /// Only this method, again and again: for a profiler
    #[arg(long, value_name = "METHOD")]
    profile: Option<Kind>,
    /// How often each method has its turn
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    #[command(flatten)]
    targets: Targets,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    /// id, ts, device, value, payload: 96 bytes per record
    Small,
    /// The same with 1 KiB per record
    Large,
    /// 50 columns of integers, floats and booleans, a tenth of them null
    Wide,
    /// list<struct<…>>, map<utf8, int64>, dictionary<utf8>
    Nested,
    /// One row of the small ones at a time
    Single,
}

impl Case {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn batch(self) -> Result<RecordBatch> {
        match self {
            Case::Small => conversion::readings(10_000, 96),
            Case::Large => conversion::readings(10_000, 1024),
            Case::Wide => conversion::wide(10_000),
            Case::Nested => conversion::nested(10_000),
            Case::Single => conversion::readings(1, 96),
        }
    }

    fn goals(self, case: &CaseSummary) -> Vec<Goal> {
        let name = format!("convert {}", case.case);
        let row_nanos = |kind| case.of(kind).map(|method| method.row_nanos);
        let cell_nanos = |kind| case.of(kind).map(|method| method.cell_nanos);
        let times = |kind| case.of(kind).map(|method| method.ratio);
        match self {
            Case::Small => vec![
                Goal::at_most(&name, "ns per row, one buffer", 60.0, row_nanos(Kind::OneBuffer)),
                Goal::at_most(&name, "ns per row, a Vec each", 110.0, row_nanos(Kind::VecEach)),
            ],
            Case::Large => vec![
                Goal::at_most(&name, "ns per row, one buffer", 250.0, row_nanos(Kind::OneBuffer)),
                Goal::at_least(&name, "rate / memcpy", 0.5, times(Kind::Memcpy).map(|ratio| 1.0 / ratio)),
            ],
            Case::Wide => vec![Goal::at_most(&name, "ns per cell", 8.0, cell_nanos(Kind::OneBuffer))],
            Case::Nested => vec![Goal::at_least(
                &name,
                "rate / DynamicMessage",
                20.0,
                times(Kind::Reflected).map(|ratio| 1.0 / ratio),
            )],
            Case::Single => vec![Goal::at_most(&name, "ns per batch", 2_000.0, row_nanos(Kind::OneBuffer))],
        }
    }
}

/// A way from a batch to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Ours, into one buffer
    OneBuffer,
    /// Ours, and each record into memory of its own
    VecEach,
    /// A copy of the records that ours makes
    Memcpy,
    /// A DynamicMessage of prost-reflect for each row
    Reflected,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::OneBuffer, Kind::VecEach, Kind::Memcpy, Kind::Reflected];

    fn name(self) -> &'static str {
        match self {
            Kind::OneBuffer => "ours, one buffer",
            Kind::VecEach => "ours, a Vec per record",
            Kind::Memcpy => "memcpy of the records",
            Kind::Reflected => "prost-reflect, DynamicMessage",
        }
    }
}

/// What one method has shown in one case, medians over the rounds.
#[derive(Clone, Debug, Serialize)]
struct MethodSummary {
    kind: Kind,
    row_nanos: f64,
    cell_nanos: f64,
    rows_per_second: f64,
    cells_per_second: f64,
    megabytes_per_second: f64,
    /// Its rate as a multiple of ours into one buffer, in the same round.
    ratio: f64,
}

#[derive(Clone, Debug, Serialize)]
struct CaseSummary {
    case: String,
    rows: usize,
    columns: usize,
    record_bytes: f64,
    rounds: usize,
    methods: Vec<MethodSummary>,
}

impl CaseSummary {
    fn of(&self, kind: Kind) -> Option<&MethodSummary> {
        self.methods.iter().find(|method| method.kind == kind)
    }

    fn grid(&self) -> Grid {
        let heading = format!(
            "{}: {} rows of {} columns, {:.0} B per record ({} rounds)",
            self.case, self.rows, self.columns, self.record_bytes, self.rounds
        );
        let columns = ["method", "ns/row", "ns/cell", "Mrows/s", "Mcells/s", "MB/s", "rate / ours"];
        let mut grid = Grid::new(&heading, &columns);
        for method in &self.methods {
            grid.row(vec![
                method.kind.name().to_owned(),
                format!("{:.1}", method.row_nanos),
                format!("{:.2}", method.cell_nanos),
                format!("{:.2}", method.rows_per_second / 1e6),
                format!("{:.1}", method.cells_per_second / 1e6),
                format!("{:.0}", method.megabytes_per_second),
                format!("{:.3}", method.ratio),
            ]);
        }
        grid
    }
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a str,
    cases: &'a [CaseSummary],
    goals: &'a [Goal],
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let machine = machine::description(&Disk::of(Path::new("."))?);
    println!("{machine}\n");
    let wanted = match (&arguments.ipc, &arguments.case[..]) {
        (Some(_), _) => &[],
        (None, []) => Case::value_variants(),
        (None, chosen) => chosen,
    };
    let (mut cases, mut goals) = (Vec::new(), Vec::new());
    if let Some(path) = &arguments.ipc {
        let batch = read(path)?;
        if let Some(path) = &arguments.descriptor {
            let plan = Plan::new(batch.schema_ref(), None, Policies::default())?;
            std::fs::write(path, plan.descriptor().encode_to_vec())?;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Some(summary) = run(&name, &batch, &arguments)? {
            println!("{}", summary.grid().text());
            cases.push(summary);
        }
    }
    for case in wanted {
        let Some(summary) = run(&case.name(), &case.batch()?, &arguments)? else { continue };
        println!("{}", summary.grid().text());
        goals.extend(case.goals(&summary));
        cases.push(summary);
    }
    if arguments.profile.is_some() {
        return Ok(());
    }
    let goal_grid = report::goal_grid(&goals);
    println!("{}", goal_grid.text());
    let mut grids = vec![goal_grid];
    grids.extend(cases.iter().map(CaseSummary::grid));
    let json = Report { machine: &machine, cases: &cases, goals: &goals };
    report::write(&arguments.targets, "convert", &machine, &grids, &json)
}

fn read(path: &Path) -> Result<RecordBatch> {
    let reader = StreamReader::try_new_buffered(File::open(path)?, None)?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// All methods, in turns; nothing to report when one is profiled.
fn run(case: &str, batch: &RecordBatch, arguments: &Arguments) -> Result<Option<CaseSummary>> {
    let rows = batch.num_rows();
    let plan = Plan::new(batch.schema_ref(), None, Policies::default())?;
    let reflected = Reflected::new(plan.descriptor(), batch)?;
    let mut made = Records::new();
    let refused = plan.encode(batch, 0..rows, &mut made).refused;
    if let Some(first) = refused.first() {
        return Err(first.clone().into());
    }
    check_same(&made, &reflected.encode(0..rows))?;

    let bytes: Vec<u8> = (0..made.len()).flat_map(|index| made.record(index)).copied().collect();
    let mut copy = vec![0; bytes.len()];
    let mut records = Records::new();
    let mut once = |kind| match kind {
        Kind::OneBuffer => {
            records.clear();
            black_box(plan.encode(black_box(batch), 0..rows, &mut records));
        }
        Kind::VecEach => {
            records.clear();
            black_box(plan.encode(black_box(batch), 0..rows, &mut records));
            let each: Vec<Vec<u8>> = (0..records.len()).map(|index| records.record(index).to_vec()).collect();
            black_box(each);
        }
        Kind::Memcpy => {
            copy.copy_from_slice(black_box(&bytes));
            black_box(&mut copy);
        }
        Kind::Reflected => {
            black_box(reflected.encode(black_box(0..rows)));
        }
    };
    let slice = Duration::from_millis(if arguments.quick { 50 } else { 250 });
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 9 });
    if let Some(kind) = arguments.profile {
        let nanos = nanos_per_call(slice * rounds, || once(kind)) / rows as f64;
        println!("{case}, {}: {nanos:.1} ns/row", kind.name());
        return Ok(None);
    }
    for kind in Kind::ALL {
        nanos_per_call(slice, || once(kind));
    }
    let mut nanos = vec![[0.0; Kind::ALL.len()]; rounds as usize];
    for round in &mut nanos {
        for (kind, nanos) in Kind::ALL.into_iter().zip(round) {
            *nanos = nanos_per_call(slice, || once(kind)) / rows as f64;
        }
    }
    let record_bytes = bytes.len() as f64 / rows as f64;
    let columns = batch.num_columns();
    let methods = Kind::ALL.into_iter().enumerate().map(|(n, kind)| {
        let row_nanos = median(nanos.iter().map(|round| round[n])).unwrap_or(0.0);
        MethodSummary {
            kind,
            row_nanos,
            cell_nanos: row_nanos / columns as f64,
            rows_per_second: 1e9 / row_nanos,
            cells_per_second: 1e9 / row_nanos * columns as f64,
            megabytes_per_second: record_bytes * 1e3 / row_nanos,
            ratio: median(nanos.iter().map(|round| round[0] / round[n])).unwrap_or(0.0),
        }
    });
    let methods = methods.collect();
    let rounds = nanos.len();
    Ok(Some(CaseSummary { case: case.to_owned(), rows, columns, record_bytes, rounds, methods }))
}

/// Repeats until the time is over; the clock is read rarely enough not to count.
fn nanos_per_call(slice: Duration, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    let (mut calls, mut step) = (0_u64, 1);
    loop {
        (0..step).for_each(|_| call());
        calls += step;
        let elapsed = start.elapsed();
        if elapsed >= slice {
            return elapsed.as_secs_f64() * 1e9 / calls as f64;
        }
        if elapsed * 50 < slice {
            step *= 2;
        }
    }
}

/// What is compared must be the same; only the order of a map's entries is up to the library.
fn check_same(ours: &Records, theirs: &[Vec<u8>]) -> Result<()> {
    let sorted = |record: &[u8]| {
        let mut bytes = record.to_vec();
        bytes.sort_unstable();
        bytes
    };
    let is_same = |index: usize| sorted(ours.record(index)) == sorted(&theirs[index]);
    let are_same = ours.len() == theirs.len() && (0..ours.len()).all(is_same);
    if are_same { Ok(()) } else { Err("prost-reflect makes other records of the same batch".into()) }
}
