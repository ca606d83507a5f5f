//! How many `send_batch` calls per second does a Rust program get, with a thousand tasks that send at once?
//!
//! ```text
//! cargo bench -p benches --bench send_batch
//! make bench-python        # in turns with the same in Python
//! cargo bench -p benches --bench send_batch -- --telemetry    # what telemetry costs, in turns with and without
//! ```
//!
//! Batches of one row; nobody listens at the endpoint, so that only storing is measured.

#![expect(clippy::disallowed_methods, reason = "a benchmark is measured by the clock of the machine")]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, ZerobusWrapper};
use benches::{Result, summary::median};
use clap::Parser;
use tokio::task::JoinSet;

#[derive(Debug, Parser)]
#[command(about = "How many send_batch calls per second does a Rust program get?")]
struct Arguments {
    /// How many tasks send at once
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// How long they send in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measures with telemetry too, in turns, and compares
    #[arg(long, conflicts_with = "json")]
    telemetry: bool,
    /// A directory on the disk to measure
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Prints the rates as a JSON array and nothing else
    #[arg(long)]
    json: bool,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    if arguments.telemetry {
        return compare(&arguments, &runtime);
    }
    let mut rates = Vec::new();
    for _ in 0..arguments.rounds {
        rates.push(runtime.block_on(round(&arguments, false))?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&rates)?);
    } else {
        let rate = median(rates.iter().copied()).unwrap_or(0.0);
        println!(
            "{rate:.0} sends per second from {} tasks, median of {} rounds",
            arguments.tasks,
            rates.len()
        );
    }
    Ok(())
}

/// Rounds with telemetry and without, in turns: the machine is not the same from one minute to the next.
fn compare(arguments: &Arguments, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        off.push(runtime.block_on(round(arguments, false))?);
        on.push(runtime.block_on(round(arguments, true))?);
    }
    let ratio = median(off.iter().zip(&on).map(|(off, on)| on / off)).unwrap_or(0.0);
    let median = |rates: &[f64]| median(rates.iter().copied()).unwrap_or(0.0);
    println!(
        "{:.0} sends per second without telemetry, {:.0} with it, medians of {} rounds; median ratio {ratio:.3}",
        median(&off),
        median(&on),
        arguments.rounds
    );
    Ok(())
}

/// Sends per second in a new log.
async fn round(arguments: &Arguments, with_telemetry: bool) -> Result<f64> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let mut configuration = WrapperConfiguration::new("http://127.0.0.1:9", "main.default.benchmark");
    configuration.wal_dir = Some(dir.path().to_owned());
    configuration.shutdown_timeout = Duration::ZERO;
    if with_telemetry {
        // Everything that is measured is, and exported to nobody every second.
        configuration.observability_enabled = true;
        configuration.observability_endpoint = Some("http://127.0.0.1:9".to_owned());
        configuration.observability_interval = Duration::from_secs(1);
    }
    let wrapper = ZerobusWrapper::open(configuration)?;
    let how_long = Duration::from_secs_f64(arguments.seconds);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..arguments.tasks {
        tasks.spawn(send(wrapper.clone(), task.cast_signed(), start, how_long));
    }
    let mut sends = 0;
    while let Some(sent) = tasks.join_next().await {
        sends += sent??;
    }
    let rate = sends as f64 / start.elapsed().as_secs_f64();
    wrapper.shutdown().await?;
    Ok(rate)
}

async fn send(wrapper: ZerobusWrapper, task: i64, start: Instant, how_long: Duration) -> Result<u64> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("value", DataType::Float64, false),
        Field::new("name", DataType::Utf8, false),
    ]));
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from(vec![task])),
            Arc::new(Float64Array::from(vec![0.5])),
            Arc::new(StringArray::from(vec!["a name"])),
        ],
    )?;
    let mut sends = 0;
    while start.elapsed() < how_long {
        wrapper.send_batch(batch.clone()).await?;
        sends += 1;
    }
    Ok(sends)
}
