//! Planted bugs: each of them must be found within a bounded number of seeds, by the name of the rule that it breaks,
//! and the same seeds must pass without it. A suite that cannot find them proves nothing.

use arrow_zerobus_sdk_wrapper::canary::Canary;

use crate::{oracle::Check, order, swarm};

/// More seeds than this and a bug counts as not found.
const SEEDS_MAX: u64 = 600;

fn in_the_model(seed: u64, canary: Option<Canary>) -> Check {
    swarm::run(seed, canary, false).map(|_| ())
}

fn in_the_model_without_cuts(seed: u64, canary: Option<Canary>) -> Check {
    swarm::run_without_cuts(seed, canary, false).map(|_| ())
}

fn in_the_order(seed: u64, canary: Option<Canary>) -> Check {
    order::run(seed, canary).map(|_| ())
}

/// The bug is found, one of these rules is named, and without the bug nothing is found.
fn finds(canary: Canary, how: fn(u64, Option<Canary>) -> Check, rules: &[&str]) {
    let found = (1..=SEEDS_MAX).find_map(|seed| how(seed, Some(canary)).err().map(|broken| (seed, broken)));
    let Some((seed, broken)) = found else { panic!("{canary:?} was not found with {SEEDS_MAX} seeds") };
    println!("{canary:?}: seed {seed}: {broken}");
    assert!(rules.iter().any(|rule| broken.contains(rule)), "{canary:?}, seed {seed}: {broken}");
    for seed in 1..=seed {
        let without = how(seed, None);
        assert!(without.is_ok(), "without {canary:?}, seed {seed}: {}", without.unwrap_err());
    }
}

#[test]
fn the_model_finds_an_acknowledgement_before_the_sync() {
    finds(Canary::AcknowledgeBeforeSync, in_the_model, &["R1", "I3"]);
}

#[test]
fn the_order_shows_an_acknowledgement_before_the_sync() {
    finds(Canary::AcknowledgeBeforeSync, in_the_order, &["I3"]);
}

#[test]
fn the_model_finds_a_second_sync_after_a_failed_one() {
    finds(Canary::SyncAgainAfterFailure, in_the_model, &["I8", "R1"]);
}

#[test]
fn the_model_finds_a_log_that_is_cut_at_its_first_bad_checksum() {
    finds(Canary::CutAtFirstBadChecksum, in_the_model, &["R1", "R3", "R7", "R10"]);
}

#[test]
fn the_model_finds_a_number_that_is_given_twice() {
    finds(Canary::ReuseLsn, in_the_model, &["R10", "R3"]);
}

#[test]
fn the_model_finds_segments_that_are_freed_before_the_ledger_is_durable() {
    finds(Canary::FreeBeforeLedgerSync, in_the_model, &["I5", "R1", "R7"]);
}

#[test]
fn the_order_shows_segments_that_are_freed_before_the_ledger_is_durable() {
    finds(Canary::FreeBeforeLedgerSync, in_the_order, &["I5"]);
}

#[test]
fn the_model_finds_a_segment_that_is_used_before_its_name_is_durable() {
    finds(Canary::ForgetDirectorySync, in_the_model, &["R1", "R10", "I3"]);
}

#[test]
fn the_order_shows_a_segment_that_is_used_before_its_name_is_durable() {
    finds(Canary::ForgetDirectorySync, in_the_order, &["R6"]);
}

#[test]
fn the_model_finds_a_checkpoint_that_trusts_the_flush() {
    finds(Canary::TrustStoreFlush, in_the_model, &["I5", "R7"]);
}

#[test]
fn the_order_shows_a_checkpoint_that_trusts_the_flush() {
    finds(Canary::TrustStoreFlush, in_the_order, &["I5"]);
}

#[test]
fn the_model_finds_a_mark_that_is_written_before_the_ledger_is_durable() {
    finds(Canary::MarkBeforeLedger, in_the_model, &["R7"]);
}

#[test]
fn the_order_shows_a_mark_that_is_written_before_the_ledger_is_durable() {
    finds(Canary::MarkBeforeLedger, in_the_order, &["R6"]);
}

#[test]
fn the_model_finds_a_segment_that_voids_frames_before_it_holds_them() {
    finds(Canary::VoidBeforeMoved, in_the_model_without_cuts, &["R1"]);
}
