//! The wrapper from end to end: batches go in, rows land in the Delta tables of an emulator that runs on
//! real sockets, and nothing is lost whatever happens on the way.

#![cfg(all(feature = "cli", feature = "emulator"))]
#![expect(clippy::disallowed_methods, reason = "a test looks at files and the clock as anybody would")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod alarms;
mod backlog;
mod blocked;
mod catalog;
mod classes;
mod command;
mod damage;
mod delivery;
mod doctor;
mod draining;
mod examples;
mod exactly;
mod exports;
mod faults;
mod flight;
mod flight_types;
mod full_disk;
mod gate;
mod isolation;
mod ledger_damage;
mod logs;
mod metrics_port;
mod outage;
mod pausing;
mod policy;
mod quarantine;
mod quarantine_bounds;
mod reclaiming;
mod receiver;
mod refusal;
mod remapping;
mod repairing;
mod replays;
mod site;
mod storing;
mod streams;
mod telemetry;
mod tls;
mod traces;
mod writer_disabled;
mod writers;
