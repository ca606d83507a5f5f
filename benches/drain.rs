//! How fast does a stored log drain, and what part of that is it which the client alone reaches?
//!
//! ```text
//! make bench-python        # builds an optimised wheel, whose command is the service
//! cargo bench -p benches --features jemalloc --bench drain -- --service '…/zerobus-wal'
//! ```
//!
//! A log is filled while nobody listens at its endpoint; then a service starts there that acknowledges and keeps
//! nothing, and a process of its own opens the log and waits until it is empty. In turns with it another process sends the
//! same records with the client crate alone: encoded before, from memory, in requests of the same size.

#![expect(clippy::disallowed_methods, reason = "a benchmark is measured by the clock of the machine")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use arrow_zerobus_sdk_wrapper::convert::{Plan, Policies, Records};
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, ZerobusWrapper};
use benches::{
    MIB, Result, conversion,
    goals::Goal,
    machine::{self, Disk},
    report::{self, Grid, Targets},
    service::{CLIENT, Ports, Service, TABLE},
    summary::median,
};
use clap::{Parser, ValueEnum};
use databricks_zerobus_ingest_sdk::{ProtoBytes, ZerobusSdk};
use serde::{Deserialize, Serialize};

/// Of the rate of the client alone.
const RATE_GOAL: f64 = 0.85;
/// Above the idle process, in MiB.
const MEMORY_GOAL: f64 = 128.0;
const BATCH_ROWS: usize = 10_000;
/// As the settings of the wrapper have it.
const REQUEST_BYTES: usize = 1_000_000;
const REQUESTS_IN_FLIGHT: usize = 16;

#[derive(Debug, Parser)]
#[command(about = "How fast does a stored log drain?")]
struct Arguments {
    /// A tenth of the rows and fewer rounds: shows that it runs, the figures are rough
    #[arg(long)]
    quick: bool,
    /// Only these cases; all of them otherwise
    #[arg(long, value_name = "CASE")]
    case: Vec<Case>,
    /// How often each has its turn
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// The command `zerobus-wal`, an optimised one; words are separated by spaces
    #[arg(long, value_name = "COMMAND", default_value = "zerobus-wal")]
    service: String,
    /// A directory on the disk to measure
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    #[command(flatten)]
    targets: Targets,
    /// Be one of the two, once: what the benchmark runs
    #[arg(long, hide = true, requires_all = ["ports", "batches"])]
    part: Option<Kind>,
    #[arg(long, hide = true, num_args = 2)]
    ports: Option<Vec<u16>>,
    #[arg(long, hide = true)]
    batches: Option<usize>,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
enum Case {
    /// 96 bytes per record, batches of 1 MB
    Small,
    /// 1 KiB per record, batches of 10 MB
    Large,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Case::Small => "96 B",
            Case::Large => "1 KiB",
        }
    }

    fn record_bytes(self) -> usize {
        match self {
            Case::Small => 96,
            Case::Large => 1024,
        }
    }

    /// About 1 GB, so that what comes before the first request counts for little.
    fn batches(self) -> usize {
        1000 * 96 / self.record_bytes()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
enum Kind {
    /// A stored log and its drainer
    Ours,
    /// The client crate with records that were encoded before
    Client,
}

/// What one process has to tell.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Run {
    rows_per_second: f64,
    /// Processor time per row, in ns.
    processor_nanos: f64,
    idle_bytes: u64,
    peak_bytes: u64,
}

/// Measures one run.
struct Meter {
    start: Instant,
    processor: Duration,
    idle_bytes: u64,
}

impl Meter {
    fn start() -> Meter {
        let (idle_bytes, _) = machine::resident_bytes();
        Meter { start: Instant::now(), processor: machine::processor_time(), idle_bytes }
    }

    fn stop(&self, rows: usize) -> Run {
        let elapsed = self.start.elapsed();
        let (_, peak_bytes) = machine::resident_bytes();
        Run {
            rows_per_second: rows as f64 / elapsed.as_secs_f64(),
            processor_nanos: (machine::processor_time() - self.processor).as_nanos() as f64 / rows as f64,
            idle_bytes: self.idle_bytes,
            peak_bytes,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct CaseSummary {
    case: &'static str,
    rows: usize,
    rounds: usize,
    ours_rows_per_second: f64,
    client_rows_per_second: f64,
    ours_processor_nanos: f64,
    client_processor_nanos: f64,
    ratio: f64,
    ours_memory_mib: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = match &arguments.case[..] {
        [] => Case::value_variants(),
        chosen => chosen,
    };
    if let (Some(part), Some(&[grpc, http]), Some(batches)) =
        (arguments.part, arguments.ports.as_deref(), arguments.batches)
    {
        let ports = Ports { grpc, http };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let run = match part {
            Kind::Ours => runtime.block_on(drain(ports, &arguments.dir))?,
            Kind::Client => runtime.block_on(client_alone(
                ports,
                wanted.first().copied().unwrap_or(Case::Small),
                batches,
            ))?,
        };
        println!("{}", serde_json::to_string(&run)?);
        return Ok(());
    }
    std::fs::create_dir_all(&arguments.dir)?;
    let machine = machine::description(&Disk::of(&arguments.dir)?);
    println!("{machine}\n");
    let (mut cases, mut goals) = (Vec::new(), Vec::new());
    for case in wanted {
        let summary = measure(*case, &arguments)?;
        let name = format!("drain {}", summary.case);
        goals.push(Goal::at_least(&name, "rows / client alone", RATE_GOAL, Some(summary.ratio)));
        goals.push(Goal::at_most(&name, "MiB above idle", MEMORY_GOAL, Some(summary.ours_memory_mib)));
        cases.push(summary);
    }
    let grids = [report::goal_grid(&goals), grid(&cases)];
    for grid in &grids {
        println!("{}", grid.text());
    }
    let json = serde_json::json!({ "machine": machine, "cases": cases, "goals": goals });
    report::write(&arguments.targets, "drain", &machine, &grids, &json)
}

fn grid(cases: &[CaseSummary]) -> Grid {
    let columns = [
        "records",
        "rows",
        "client, Mrows/s",
        "ours, Mrows/s",
        "ours / client",
        "client, CPU ns/row",
        "ours, CPU ns/row",
        "MiB above idle",
    ];
    let mut grid = Grid::new("draining a stored log", &columns);
    for case in cases {
        grid.row(vec![
            case.case.to_owned(),
            case.rows.to_string(),
            format!("{:.2}", case.client_rows_per_second / 1e6),
            format!("{:.2}", case.ours_rows_per_second / 1e6),
            format!("{:.2}", case.ratio),
            format!("{:.0}", case.client_processor_nanos),
            format!("{:.0}", case.ours_processor_nanos),
            format!("{:.0}", case.ours_memory_mib),
        ]);
    }
    grid
}

fn measure(case: Case, arguments: &Arguments) -> Result<CaseSummary> {
    let batches = case.batches().div_ceil(if arguments.quick { 10 } else { 1 });
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 2 } else { 7 });
    let (mut ours, mut client) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let dir = tempfile::tempdir_in(&arguments.dir)?;
        let ports = Ports::free()?;
        fill(case, batches, ports, dir.path())?;
        let _service = Service::start(&arguments.service, ports, &dir.path().join("service"))?;
        // The first has the service cold.
        let order = if round % 2 == 0 { [Kind::Ours, Kind::Client] } else { [Kind::Client, Kind::Ours] };
        for kind in order {
            let run = run_part(kind, case, batches, ports, dir.path())?;
            if kind == Kind::Ours { ours.push(run) } else { client.push(run) }
        }
    }
    let rate = |runs: &[Run]| median(runs.iter().map(|run| run.rows_per_second)).unwrap_or(0.0);
    let processor = |runs: &[Run]| median(runs.iter().map(|run| run.processor_nanos)).unwrap_or(0.0);
    let memory = |run: &Run| run.peak_bytes.saturating_sub(run.idle_bytes) as f64 / MIB as f64;
    let ratios = ours.iter().zip(&client).map(|(ours, client)| ours.rows_per_second / client.rows_per_second);
    Ok(CaseSummary {
        case: case.name(),
        rows: batches * BATCH_ROWS,
        rounds: ours.len(),
        ours_rows_per_second: rate(&ours),
        client_rows_per_second: rate(&client),
        ours_processor_nanos: processor(&ours),
        client_processor_nanos: processor(&client),
        ratio: median(ratios).unwrap_or(0.0),
        ours_memory_mib: ours.iter().map(memory).fold(0.0, f64::max),
    })
}

/// Runs this program as one of the two.
fn run_part(kind: Kind, case: Case, batches: usize, ports: Ports, dir: &Path) -> Result<Run> {
    let value_name = |value: clap::builder::PossibleValue| value.get_name().to_owned();
    let output = Command::new(std::env::current_exe()?)
        .args(["--part", &kind.to_possible_value().map(value_name).unwrap_or_default()])
        .args(["--case", &case.to_possible_value().map(value_name).unwrap_or_default()])
        .args([
            "--ports",
            &ports.grpc.to_string(),
            &ports.http.to_string(),
            "--batches",
            &batches.to_string(),
        ])
        .arg("--dir")
        .arg(dir)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{kind:?} ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn configuration(ports: Ports, dir: &Path) -> WrapperConfiguration {
    let mut configuration = WrapperConfiguration::new(ports.endpoint(), TABLE);
    configuration.unity_catalog_url = Some(ports.unity_catalog_url());
    configuration.client_id = Some(CLIENT.0.to_owned());
    configuration.client_secret = Some(CLIENT.1.into());
    configuration.wal_dir = Some(dir.join("log"));
    configuration.request_max_bytes = REQUEST_BYTES;
    configuration.max_inflight_requests = REQUESTS_IN_FLIGHT;
    configuration.shutdown_timeout = Duration::ZERO;
    configuration
}

fn fill(case: Case, batches: usize, ports: Ports, dir: &Path) -> Result<()> {
    let batch = conversion::readings(BATCH_ROWS, case.record_bytes())?;
    let wrapper = ZerobusWrapper::open(configuration(ports, dir))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        for _ in 0..batches {
            wrapper.send_batch(batch.clone()).await?;
        }
        wrapper.shutdown().await?;
        Ok(())
    })
}

/// Opens the log and waits until it is empty.
async fn drain(ports: Ports, dir: &Path) -> Result<Run> {
    let meter = Meter::start();
    let wrapper = ZerobusWrapper::open(configuration(ports, dir))?;
    wrapper.flush(None).await?;
    let run = meter.stop(wrapper.status().rows.delivered as usize);
    wrapper.shutdown().await?;
    Ok(run)
}

/// Sends as many batches with the client crate alone.
async fn client_alone(ports: Ports, case: Case, batches: usize) -> Result<Run> {
    let batch = conversion::readings(BATCH_ROWS, case.record_bytes())?;
    let plan = Plan::new(batch.schema_ref(), None, Policies::default())?;
    let mut records = Records::new();
    plan.encode(&batch, 0..BATCH_ROWS, &mut records);
    let each: Vec<&[u8]> = (0..records.len()).map(|index| records.record(index)).collect();
    let per_request = REQUEST_BYTES * each.len() / each.iter().map(|record| record.len() + 3).sum::<usize>();
    let all =
        each.iter().cycle().take(batches * BATCH_ROWS).map(|record| record.to_vec()).collect::<Vec<_>>();
    let rows = all.len();
    let mut requests: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut all = all.into_iter();
    while !all.as_slice().is_empty() {
        requests.push(all.by_ref().take(per_request).collect());
    }
    let meter = Meter::start();
    let sdk = ZerobusSdk::builder()
        .endpoint(ports.endpoint())
        .unity_catalog_url(ports.unity_catalog_url())
        .no_tls()
        .build()?;
    let mut stream = sdk
        .stream_builder()
        .table(TABLE)
        .oauth(CLIENT.0, CLIENT.1)
        .compiled_proto(plan.descriptor().clone())
        .max_inflight_requests(REQUESTS_IN_FLIGHT)
        .build()
        .await?;
    for request in requests {
        stream.ingest_records_offset(request.into_iter().map(ProtoBytes)).await?;
    }
    stream.flush().await?;
    let run = meter.stop(rows);
    stream.close().await?;
    Ok(run)
}
