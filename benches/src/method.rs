//! How one method is measured for a slice of time.

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use crate::{
    Result,
    machine::{Disk, DiskCounters, processor_time},
};

/// Makes one entry durable; returns when it is.
pub type Append<'a> = Box<dyn FnMut() -> Result<()> + Send + 'a>;

/// What a method is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Our log.
    Ours,
    /// A baseline that takes its bytes from where the caller has them.
    Raw,
    /// A baseline whose bytes lie in memory as the disk wants them.
    RawAligned,
    /// Another log or store.
    Store,
}

/// A way of making entries durable.
pub trait Method: Sync {
    /// What it is called in the report.
    fn name(&self) -> &str;

    /// What it is compared as.
    fn kind(&self) -> Kind;

    /// What one producer calls for each of its entries.
    ///
    /// # Errors
    ///
    /// When its entries cannot be made.
    fn producer(&self, number: usize) -> Result<Append<'_>>;

    /// Called before each round, outside of the measured time.
    ///
    /// # Errors
    ///
    /// When the file system fails.
    fn before_round(&mut self) -> Result<()> {
        Ok(())
    }

    /// How many groups were made durable so far, where that is known.
    fn groups(&self) -> Option<u64> {
        None
    }
}

/// What a slice of time has shown.
#[derive(Clone, Debug)]
pub struct Slice {
    /// From the first append's start to the last one's end.
    pub elapsed: Duration,
    /// How long each append took; sorted.
    pub latencies: Vec<Duration>,
    /// Processor time of the whole process.
    pub processor: Duration,
    /// What went to the disk.
    pub disk: DiskCounters,
    /// How many groups it took, where that is known.
    pub groups: Option<u64>,
}

impl Slice {
    /// Appends per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of the appends did not exceed.
    pub fn latency(&self, share: f64) -> Duration {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(rank.max(1) - 1).copied().unwrap_or_default()
    }
}

/// Lets producers append for a while; each makes at least one entry durable.
///
/// # Errors
///
/// The first failure of an append.
pub fn measure(method: &dyn Method, producers: usize, how_long: Duration, disk: &Disk) -> Result<Slice> {
    let appends: Vec<Append<'_>> =
        (0..producers).map(|number| method.producer(number)).collect::<Result<_>>()?;
    let barrier = Barrier::new(producers + 1);
    let groups_before = method.groups();
    std::thread::scope(|scope| {
        let threads: Vec<_> = appends
            .into_iter()
            .map(|append| {
                let barrier = &barrier;
                scope.spawn(move || produce(append, barrier, how_long))
            })
            .collect();
        barrier.wait();
        let (processor, counters, start) = (processor_time(), disk.counters(), Instant::now());
        let mut latencies = Vec::new();
        for thread in threads {
            latencies.extend(thread.join().map_err(|_| "a producer ended in a panic")??);
        }
        let elapsed = start.elapsed();
        let disk = disk.counters() - counters;
        let processor = processor_time().saturating_sub(processor);
        latencies.sort_unstable();
        let groups = method.groups().zip(groups_before).map(|(after, before)| after - before);
        Ok(Slice { elapsed, latencies, processor, disk, groups })
    })
}

fn produce(mut append: Append<'_>, barrier: &Barrier, how_long: Duration) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(1024);
    barrier.wait();
    let start = Instant::now();
    let mut before = start;
    loop {
        append()?;
        let after = Instant::now();
        latencies.push(after - before);
        if after - start >= how_long {
            return Ok(latencies);
        }
        before = after;
    }
}
