//! The wrapper from end to end: batches go in, rows land in the Delta tables of an emulator that runs on
//! real sockets, and nothing is lost whatever happens on the way.

#![cfg(feature = "emulator")]

#[path = "../support/mod.rs"]
mod support;

mod delivery;
mod outage;
mod refusal;
mod site;
mod storing;
