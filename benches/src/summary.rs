//! What the rounds of one case come to: medians, and medians of ratios between methods of the same round.

use serde::Serialize;

use crate::{
    MIB,
    method::{Kind, Slice},
};

/// The middle value; of an even number, the lower of the two. None of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// One method in one case.
#[derive(Clone, Debug, Serialize)]
pub struct MethodSummary {
    /// Its name.
    pub name: String,
    /// What it is compared as.
    pub kind: Kind,
    /// Durable appends per second.
    pub appends_per_second: f64,
    /// Payload in MB (10⁶ bytes) per second.
    pub megabytes_per_second: f64,
    /// Median latency of one append in µs.
    pub p50_micros: f64,
    /// The latency that one append in a hundred exceeds, in µs.
    pub p99_micros: f64,
    /// Processor time of the whole process per append, in µs.
    pub processor_micros: f64,
    /// Bytes that the device wrote per byte of payload; the device counts for everybody.
    pub device_bytes: Option<f64>,
    /// Bytes that this process sent to the disk per byte of payload.
    pub process_bytes: f64,
    /// Write requests of the device per append.
    pub device_writes: Option<f64>,
    /// Entries that one sync made durable.
    pub group: Option<f64>,
}

impl MethodSummary {
    fn new(measured: &Measured, entry_bytes: usize, device_counts: bool) -> MethodSummary {
        let over = |value: &dyn Fn(&Slice) -> f64| median(measured.slices.iter().map(value)).unwrap_or(0.0);
        let per_append =
            |value: &dyn Fn(&Slice) -> f64| over(&|slice| value(slice) / slice.latencies.len() as f64);
        let micros = |share| over(&|slice| slice.latency(share).as_secs_f64() * 1e6);
        let rate = over(&Slice::rate);
        let payload = entry_bytes as f64;
        let device_bytes = per_append(&|slice| slice.disk.device_bytes as f64) / payload;
        let device_writes = per_append(&|slice| slice.disk.device_writes as f64);
        let groups = measured.slices.iter().filter_map(|slice| {
            slice.groups.map(|groups| slice.latencies.len() as f64 / groups.max(1) as f64)
        });
        MethodSummary {
            name: measured.name.clone(),
            kind: measured.kind,
            appends_per_second: rate,
            megabytes_per_second: rate * payload / 1e6,
            p50_micros: micros(0.5),
            p99_micros: micros(0.99),
            processor_micros: per_append(&|slice| slice.processor.as_secs_f64() * 1e6),
            device_bytes: device_counts.then_some(device_bytes),
            process_bytes: per_append(&|slice| slice.disk.process_bytes as f64) / payload,
            device_writes: device_counts.then_some(device_writes),
            group: median(groups),
        }
    }
}

/// The rounds of one method.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// What it is compared as.
    pub kind: Kind,
    /// One slice for each round.
    pub slices: Vec<Slice>,
}

/// Ours against one other method: medians of the ratios of each round.
#[derive(Clone, Debug, Serialize)]
pub struct Against {
    /// The other one: the fastest of its kind, by the median.
    pub name: String,
    /// Our appends per second in theirs.
    pub rate: f64,
    /// Our 99th percentile in theirs.
    pub p99: f64,
}

/// One case: entries of one length, from some producers.
#[derive(Clone, Debug, Serialize)]
pub struct CaseSummary {
    /// As `--case` takes it.
    pub case: String,
    /// The length of an entry.
    pub entry_bytes: usize,
    /// How many threads append.
    pub producers: usize,
    /// How many rounds there were.
    pub rounds: usize,
    /// The methods, in the order in which they took turns.
    pub methods: Vec<MethodSummary>,
    /// Ours against the best raw method.
    pub against_raw: Option<Against>,
    /// Ours against the raw method whose bytes lie as the disk wants them.
    pub against_aligned: Option<Against>,
    /// Ours against the best other log or store.
    pub against_store: Option<Against>,
}

impl CaseSummary {
    /// Puts the rounds of all methods together.
    pub fn new(
        case: String,
        entry_bytes: usize,
        producers: usize,
        measured: &[Measured],
        device_counts: bool,
    ) -> CaseSummary {
        let summary = |measured| MethodSummary::new(measured, entry_bytes, device_counts);
        CaseSummary {
            case,
            entry_bytes,
            producers,
            rounds: measured.first().map_or(0, |first| first.slices.len()),
            methods: measured.iter().map(summary).collect(),
            against_raw: against(measured, Kind::Raw),
            against_aligned: against(measured, Kind::RawAligned),
            against_store: against(measured, Kind::Store),
        }
    }

    /// Ours.
    pub fn ours(&self) -> Option<&MethodSummary> {
        self.methods.iter().find(|method| method.kind == Kind::Ours)
    }
}

fn against(measured: &[Measured], kind: Kind) -> Option<Against> {
    let rate = |measured: &Measured| median(measured.slices.iter().map(Slice::rate)).unwrap_or(0.0);
    let ours = measured.iter().find(|measured| measured.kind == Kind::Ours)?;
    let others = measured.iter().filter(|measured| measured.kind == kind);
    let best = others.max_by(|a, b| rate(a).total_cmp(&rate(b)))?;
    let ratio = |value: fn(&Slice) -> f64| {
        let rounds = ours.slices.iter().zip(&best.slices);
        median(rounds.map(|(ours, theirs)| value(ours) / value(theirs)))
    };
    Some(Against {
        name: best.name.clone(),
        rate: ratio(Slice::rate)?,
        p99: ratio(|slice| slice.latency(0.99).as_secs_f64())?,
    })
}

/// How long entries are called: `1KiB`.
pub fn bytes_name(bytes: usize) -> String {
    if bytes.is_multiple_of(MIB) { format!("{}MiB", bytes / MIB) } else { format!("{}KiB", bytes / 1024) }
}
