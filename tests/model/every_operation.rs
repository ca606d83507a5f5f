//! A crash, a kill or a failure at every single operation of scripted scenarios, and a second one at every operation of the
//! recovery that follows.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::{
    io::sim::{EIO, ENOSPC, Planned},
    wal::{Durability, WalOptions},
};

use crate::{oracle::Check, site::Site};

/// Three groups fill a segment.
const SEGMENT_BYTES: u64 = 20 * 1024;
const THREADS: usize = 2;
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What happens, in letters: `a3` appends three batches one by one, `g4` four of which three share a group, `s2` settles
/// two frames, `S` all of them, `w` a row of the next one, `r` reclaims, `R` reclaims and replaces the newest segment
/// too, `t` lets an interval pass, `o` closes and opens, `k` kills the process, `c` cuts the power, `x` appends
/// what is too large.
type Script = &'static str;

const SYNC: [(&str, Script); 31] = [
    ("one append", "a1"),
    ("appends one by one", "a6"),
    ("a group", "g5"),
    ("groups one after the other", "g4 g4 g4"),
    ("two schemas in turn", "a3 g3 a3"),
    ("a large frame among small ones", "g12 a2"),
    ("frames until two segments are full", "a7"),
    ("a group that does not fit into the segment", "a2 g16"),
    ("what is too large", "a1 x a1"),
    ("a clean restart", "a3 o a3"),
    ("three clean restarts", "a1 o a1 o a1 o"),
    ("a restart without an append", "o o"),
    ("a kill", "a3 k a3"),
    ("a kill in the middle of a life", "a2 k g3 k a1"),
    ("a cut", "a3 c a3"),
    ("cuts in a row", "a2 c c a1 c"),
    ("a cut after a kill", "a2 k c a2"),
    ("everything is settled and reclaimed", "a4 S R"),
    ("a log that was drained goes on", "a4 S R a3"),
    ("settled in parts", "a6 s2 r s2 r s2 r"),
    ("settled and not reclaimed", "a4 S o a1"),
    ("a row of a frame is settled", "a4 s2 w r c S R"),
    ("reclaim after a restart", "a4 o S R"),
    ("reclaim after a cut", "a4 c S R"),
    ("reclaim while frames wait", "a4 s2 R a2 R"),
    ("reclaim of several segments", "a7 o a2 S R"),
    ("reclaim of all but the last segment", "a8 s6 r"),
    ("reclaim, cut, reclaim", "a3 S R c a3 S R c"),
    ("checkpoints without anything new", "a2 S r r R R"),
    ("a life of everything", "a2 g3 s2 r a2 o g3 S R k a2 c S R"),
    ("drained to the end and filled again", "a2 S R a2 S R a2 S R"),
];

const WEAK: [(&str, Script); 9] = [
    ("an interval that passes", "a3 t a2"),
    ("an interval that does not pass", "a6"),
    ("an interval and a clean end", "a3 o a3 o"),
    ("an interval and a cut", "a3 t c a3 c"),
    ("an interval and a kill", "a3 k a3 t a1"),
    ("an interval with groups", "g4 t g4 t"),
    ("an interval, settled and reclaimed", "a3 t S R a2 t S R"),
    ("an interval until segments are full", "g13 t g13 t g9"),
    ("a life in intervals", "a2 g3 t s2 r a2 o g3 t S R k a2 c S R"),
];

#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    script: Script,
    durability: Durability,
}

/// How far behind a first fault that is no cut a second one comes at most.
const LATER_MAX: u64 = 12;

/// What goes wrong, and whether it stays wrong.
const KINDS: [(Planned, bool); 6] = [
    (Planned::Cut, false),
    (Planned::Kill, false),
    (Planned::Error(EIO), false),
    (Planned::Error(EIO), true),
    (Planned::Error(ENOSPC), false),
    (Planned::Error(ENOSPC), true),
];

/// One point: what goes wrong at which operation, and what so many operations later, while the log recovers.
#[derive(Clone, Copy, Debug)]
struct Point {
    planned: Planned,
    for_ever: bool,
    at: u64,
    second: Option<(Planned, u64)>,
}

/// The operations of a run.
struct Reached {
    /// How many there were before everything was healed.
    all: u64,
    /// How many there were when the log was open again after the first fault.
    recovered: u64,
}

fn play(scenario: Scenario, point: Point) -> Check<Reached> {
    let options = WalOptions {
        segment_bytes: SEGMENT_BYTES,
        durability: scenario.durability,
        spare_segments: (point.at % 3) as usize,
    };
    let seed = point.at ^ point.second.map_or(0, |(_, later)| later << 32);
    let mut site = Site::new(seed, options, None);
    if point.second.is_some_and(|(planned, _)| planned == Planned::Kill) {
        // So that a failure is no excuse for what is gone after the kill.
        site.world.disk().let_failed_syncs_arrive();
    }
    site.world.disk().faults(|faults| {
        // The first plan for an operation counts.
        if let Some((planned, later)) = point.second {
            faults.at(point.at + later..=point.at + later, planned);
        }
        faults.at(point.at..=if point.for_ever { u64::MAX } else { point.at }, point.planned);
    });
    let mut recovered = None;
    for token in ["open"].into_iter().chain(scenario.script.split_whitespace()) {
        act(&mut site, token)?;
        site.after_the_cut()?;
        site.open()?;
        let operations = site.world.disk().operations();
        if operations >= point.at {
            recovered.get_or_insert(operations);
        }
    }
    let all = site.world.disk().operations();
    site.finish()?;
    Ok(Reached { all, recovered: recovered.unwrap_or(all) })
}

fn act(site: &mut Site, token: &str) -> Check {
    if token == "open" {
        return site.open();
    }
    let (what, count) = token.split_at(1);
    let count: u64 = count.parse().unwrap_or(1);
    match what {
        "a" => (0..count).try_for_each(|_| {
            // Whoever comes back after a cut goes on where the script is.
            site.after_the_cut()?;
            site.open()?;
            site.append(1)
        }),
        "g" => site.append(count),
        "s" => site.settle(count),
        "S" => site.settle(u64::MAX),
        "w" => site.settle_a_row(),
        "r" => site.reclaim(1 << 20),
        "R" => site.reclaim(1),
        "t" => {
            site.world.clock().advance(2 * INTERVAL);
            site.append(2)
        }
        "o" => site.close(),
        "k" => site.kill(),
        "c" => site.cut(),
        "x" => site.append_oversized(),
        _ => Err(format!("no such letter: {what}")),
    }
}

/// What goes wrong after the first fault. The long way has everything after everything. The short way has kills only where
/// callers are answered before the sync: elsewhere a cut leaves everything that a kill can.
fn seconds(scenario: Scenario, first: Planned, is_long: bool) -> Vec<Planned> {
    let is_weak = scenario.durability != Durability::Sync;
    match first {
        _ if is_long => vec![Planned::Cut, Planned::Kill, Planned::Error(EIO)],
        Planned::Cut | Planned::Kill if is_weak => vec![Planned::Cut, Planned::Kill, Planned::Error(EIO)],
        Planned::Cut => vec![Planned::Cut, Planned::Error(EIO)],
        Planned::Error(_) if is_weak => vec![Planned::Kill],
        Planned::Kill | Planned::Error(_) => vec![],
    }
}

/// Every point of a scenario; returns how many there were.
fn exhaust(scenario: Scenario, is_long: bool) -> Result<u64, (Point, String)> {
    let mut points = 0;
    let mut at_point = |point: Point| {
        points += 1;
        let played = std::panic::catch_unwind(|| play(scenario, point));
        played.unwrap_or_else(|_| Err("R13: a panic".to_owned())).map_err(|broken| (point, broken))
    };
    for (planned, for_ever) in KINDS {
        for at in 1.. {
            let reached = at_point(Point { planned, for_ever, at, second: None })?;
            if reached.all < at {
                break;
            }
            let later_max = match planned {
                Planned::Cut | Planned::Kill => reached.recovered - at,
                Planned::Error(_) => LATER_MAX,
            };
            for second in seconds(scenario, planned, is_long) {
                for later in 1..=later_max {
                    at_point(Point { planned, for_ever, at, second: Some((second, later)) })?;
                }
            }
        }
    }
    Ok(points)
}

#[test]
fn a_fault_at_any_operation_and_another_in_the_recovery_break_no_promise() {
    let sync = SYNC.map(|(name, script)| Scenario { name, script, durability: Durability::Sync });
    let interval = Durability::Interval(INTERVAL);
    let weak = WEAK.map(|(name, script)| Scenario { name, script, durability: interval });
    let scenarios: Vec<Scenario> = sync.into_iter().chain(weak).collect();
    assert_eq!(scenarios.len(), 40);
    let is_long = std::env::var_os("SIM_LONG").is_some();
    let (next, points) = (AtomicUsize::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match exhaust(*scenario, is_long) {
                        Ok(count) => {
                            points.fetch_add(count, Ordering::Relaxed);
                        }
                        Err((point, broken)) => {
                            let Scenario { name, script, .. } = scenario;
                            let failure = format!("{name} ({script}), {point:?}: {broken}");
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
    });
    let points = points.into_inner();
    println!("{} scenarios, {points} points", scenarios.len());
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} scenarios, the first: {}", failures.len(), failures[0]);
    assert!(points >= 20_000, "{points}");
}
