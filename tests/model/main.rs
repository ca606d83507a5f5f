//! The log, the ledger and the reclaim together in a simulated world: random operations, random faults, crashes at any
//! moment, and after each of them every promise that was made.
//!
//! The rules are named in the messages: R1 durability, R2 no invention, R3 order without holes, R7 detection, R10
//! one content per number, R11 bounds, R12 liveness, R13 opening never panics, and the design's I3, I5, I6 and I8.
//! `SIM_SEED=n` replays one seed of the model test and prints what it does; `SIM_CRASHES=n` makes it longer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod batches;
#[path = "../support/blobs.rs"]
mod blobs;
mod canaries;
mod checks;
mod every_operation;
mod long_frames;
mod oracle;
mod order;
mod site;
mod swarm;
