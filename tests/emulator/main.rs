//! The emulator against the official client: what is acknowledged is in the Delta table, what does not
//! fit is refused, and a kill at any moment loses nothing that was acknowledged.
//!
//! The client crate's own schema module makes the descriptors, from what the catalog answers; tables are
//! read back through `delta_kernel`, with another object store than the emulator writes with.

#![cfg(all(feature = "cli", feature = "emulator"))]
#![expect(clippy::disallowed_methods, reason = "a test looks at files and the clock as anybody would")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod altering;
mod catalog;
mod exactly_once;
mod fence;
mod persistent;
mod persistent_call;
mod process;
mod raw_stream;
mod refusing;
mod site;
mod starting;
mod types;
