//! What the log promises, through its public interface: what was appended comes back, after a clean
//! end, after a crash at any moment, from a failing disk and from a damaged one.

#![expect(clippy::disallowed_methods, reason = "tests damage and copy files behind the log's back")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/blobs.rs"]
mod blobs;
mod contents;
mod crash;
mod damage;
mod failure;
mod format;
mod life;
mod reading;
mod recycle;
mod support;
