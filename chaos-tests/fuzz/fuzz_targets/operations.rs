//! Whatever happens in whatever order, every promise is kept: the model test of `tests/model`, with libFuzzer in the place
//! of its seeds.
//!
//! An input sets the log up, chooses the faults of its disk, and is then a list of steps: appends, settles, reclaims,
//! cuts, kills, damage. The site and the oracle are those of the model test, so a rule that is broken here is
//! named as it is there.

#![no_main]
#![expect(dead_code, reason = "the model test uses more of its parts than this does")]

#[path = "../../../tests/model/batches.rs"]
mod batches;
#[path = "../../../tests/model/checks.rs"]
mod checks;
#[path = "../../../tests/model/oracle.rs"]
mod oracle;
#[path = "../../../tests/model/site/mod.rs"]
mod site;

use std::time::Duration;

use arrow_zerobus_sdk_wrapper::{
    io::sim::{Faults, Planned, SplitMix},
    wal::{Durability, WalOptions},
};
use arrow_zerobus_sdk_wrapper_fuzz::{limits, spoil::Input};
use libfuzzer_sys::fuzz_target;

use crate::{
    oracle::Check,
    site::{Damage, Forgery, Site},
};

const STEPS_MAX: usize = 100;
/// Longer than any interval of a log under test: only the clock of the world makes its syncs due.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

fn options(input: &mut Input<'_>) -> WalOptions {
    let choice = input.byte();
    let durability = match choice % 4 {
        0 => Durability::Os,
        1 => Durability::Interval(INTERVAL),
        _ => Durability::Sync,
    };
    let segment_bytes = [32, 64, 128][choice / 4 % 3] * 1024;
    WalOptions { segment_bytes, durability, spare_segments: choice / 16 % 3 }
}

/// The faults of a storm.
fn faults(input: &mut Input<'_>, segment_bytes: u64) -> Faults {
    let flags = input.byte();
    let mut rate = |flag: usize| if flags & flag > 0 { 1 + (input.byte() % 120) as u16 } else { 0 };
    Faults {
        write_errors: rate(1),
        sync_errors: rate(2),
        directory_errors: rate(4),
        read_errors: rate(8) / 2,
        space_errors: rate(16),
        refuses_direct: flags & 32 > 0,
        refuses_allocate: flags & 64 > 0,
        capacity_bytes: (flags & 128 > 0).then_some(3 * segment_bytes),
        ..Faults::default()
    }
}

fn step(site: &mut Site, storm: &Faults, input: &mut Input<'_>, rng: &mut SplitMix) -> Check {
    let operation = input.byte();
    let amount = operation as u64 / 16;
    match operation % 16 {
        0 => site.cut(),
        1 => site.kill(),
        2 => site.close(),
        3 => site.append_oversized(),
        4 => site.settle(1 + amount),
        5 => site.settle_a_row(),
        6 => site.reclaim([1, 8 * 1024, 1 << 20][amount as usize % 3]),
        7 => {
            // An interval's sync becomes due; the append after that makes it happen.
            site.world.clock().advance(2 * INTERVAL);
            site.append(1)?;
            site.append(1)
        }
        8 => {
            let faults = if amount % 2 == 0 { storm.clone() } else { Faults::default() };
            site.world.disk().faults(|current| *current = faults);
            Ok(())
        }
        9 => {
            let at = site.world.disk().operations() + 1 + input.byte() as u64;
            site.world.disk().faults(|faults| faults.at(at..=at, Planned::Cut));
            Ok(())
        }
        10 => {
            site.world.clock().jump((input.number() as i64 - (1 << 23)) * 10_000);
            Ok(())
        }
        11 => between_lives(site, amount, rng),
        _ => site.append(1 + amount % 8),
    }
}

/// Ends the process, and damages what it leaves.
fn between_lives(site: &mut Site, choice: u64, rng: &mut SplitMix) -> Check {
    const DAMAGE: [Damage; 5] = [Damage::Bit, Damage::Burst, Damage::Zeros, Damage::Cut, Damage::Gone];
    const FORGERY: [Forgery; 4] = [Forgery::Lost, Forgery::Old, Forgery::Garbage, Forgery::Ahead];
    if choice % 2 == 0 {
        site.cut()?
    } else {
        site.close()?
    }
    let kind = choice as usize / 2;
    match DAMAGE.get(kind) {
        Some(damage) => site.damage(*damage, rng),
        None => match FORGERY[kind % FORGERY.len()] {
            Forgery::Ahead if !site.is_drained() => Ok(()),
            forgery => site.forge(forgery, rng),
        },
    }
}

fn run(input: &[u8]) -> Check {
    let mut input = Input::new(input);
    let seed = input.number() as u64;
    let options = options(&mut input);
    let storm = faults(&mut input, options.segment_bytes);
    let mut rng = SplitMix::new(seed);
    let mut site = Site::new(seed, options, None);
    site.open()?;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        step(&mut site, &storm, &mut input, &mut rng)?;
        site.after_the_cut()?;
        site.open()?;
    }
    site.finish()
}

fn check(input: &[u8]) {
    if let Err(broken) = run(input) {
        panic!("{broken}");
    }
}

fuzz_target!(
    init: limits::let_panics_be_caught(),
    |input: &[u8]| limits::run(|| check(input))
);
