//! The emulator against the official client: what is acknowledged is in the Delta table, what does not
//! fit is refused, and a kill at any moment loses nothing that was acknowledged.

#![cfg(all(feature = "cli", feature = "emulator"))]
