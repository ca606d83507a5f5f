//! What the log is to reach, as multiples of what the same disk gives to others in the same run.

use serde::Serialize;

use crate::{
    KIB, MIB,
    summary::{Against, CaseSummary, bytes_name},
};

/// At least 0.9 of the best raw method.
const RAW: f64 = 0.9;
/// Device bytes per byte of payload from 64 KiB on.
const DEVICE_BYTES: f64 = 1.1;
/// The same for 1 KiB from many producers; for one alone a block is the least that a disk writes.
const DEVICE_BYTES_SMALL: f64 = 1.6;
/// The 99th percentile in that of the best raw method.
const P99: f64 = 2.0;

/// One line of the table of goals.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// Which case.
    pub case: String,
    /// What of it, with the figure to reach.
    pub what: String,
    /// What was measured; none if it was not.
    pub measured: Option<f64>,
    /// Whether it was reached; none if it was not measured.
    pub reached: Option<bool>,
}

impl Goal {
    /// A value that is to be at least this.
    pub fn at_least(case: &str, what: &str, goal: f64, measured: Option<f64>) -> Goal {
        let what = format!("{what} ≥ {goal}");
        Goal { case: case.to_owned(), what, measured, reached: measured.map(|value| value >= goal) }
    }

    /// A value that is to be at most this.
    pub fn at_most(case: &str, what: &str, goal: f64, measured: Option<f64>) -> Goal {
        let what = format!("{what} ≤ {goal}");
        Goal { case: case.to_owned(), what, measured, reached: measured.map(|value| value <= goal) }
    }

    /// Measured, with its verdict.
    pub fn verdict(&self) -> String {
        match (self.measured, self.reached) {
            (Some(value), Some(true)) => format!("{value:.2}, reached: yes"),
            (Some(value), _) => format!("{value:.2}, reached: no"),
            (None, _) => "not measured".to_owned(),
        }
    }
}

/// The least multiple of the best other log or store, where there is one to reach.
fn store_goal(entry_bytes: usize, producers: usize) -> Option<f64> {
    match (entry_bytes, producers) {
        (KIB, 16) => Some(1.15),
        (bytes, 16) if bytes == 64 * KIB => Some(1.3),
        (bytes, 1) if bytes >= MIB => Some(1.4),
        _ => None,
    }
}

/// The goals of one case of appending.
pub fn of_case(case: &CaseSummary) -> Vec<Goal> {
    let name = format!("append {} × {}", bytes_name(case.entry_bytes), case.producers);
    let rate = |against: &Option<Against>| against.as_ref().map(|against| against.rate);
    let small = case.entry_bytes < 64 * KIB;
    let many = case.producers > 1;
    let mut goals = Vec::new();
    if small || many || case.entry_bytes >= MIB {
        goals.push(Goal::at_least(&name, "rate / best raw", RAW, rate(&case.against_raw)));
    }
    if let Some(goal) = store_goal(case.entry_bytes, case.producers) {
        goals.push(Goal::at_least(&name, "rate / best crate", goal, rate(&case.against_store)));
    }
    if many || !small {
        let goal = if small { DEVICE_BYTES_SMALL } else { DEVICE_BYTES };
        let measured = case.ours().and_then(|ours| ours.device_bytes);
        goals.push(Goal::at_most(&name, "device bytes / payload", goal, measured));
    }
    if small && many {
        let measured = case.against_raw.as_ref().map(|against| against.p99);
        goals.push(Goal::at_most(&name, "p99 / best raw", P99, measured));
    }
    goals
}
