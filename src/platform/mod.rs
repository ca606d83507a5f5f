//! What operating systems do differently and is neither the log's files (`io/os.rs`) nor the owner's socket.

pub(crate) mod files;
#[cfg(feature = "cli")]
pub(crate) mod signals;
#[cfg(feature = "emulator")]
pub(crate) mod threads;
#[cfg(feature = "python")]
pub(crate) mod wake;
