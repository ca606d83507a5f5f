//! Moments at which a test can have the process killed, so that each of them is met and not only the long ones.
//!
//! Without the feature `sim` nothing of this is compiled in: `reached` does nothing.

/// A moment on the way of a row to a persistent stream, of a log to another table, or of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// A stream is created and not recorded yet.
    Created,
    /// Requests are recorded, and the first of them is not sent yet.
    Recorded,
    /// A request was handed to the client.
    Sent,
    /// A request is acknowledged, and the ledger knows nothing of it.
    Acknowledged,
    /// The ledger is durable, and nobody knows that yet.
    Settled,
    /// Refused rows are in quarantine, and no record passes them yet.
    Quarantined,
    /// A stream was resumed, and what it has committed is not settled yet.
    Resumed,
    /// The rest of a stream was given up, and its successor is not there yet.
    Void,
    /// A step of giving a log to another table is done; no row is on its way.
    RemapStep,
    /// A replay has noted what it appends next, and has appended nothing of it.
    ReplayNoted,
    /// A replay has appended rows, and no note says so.
    ReplayAppended,
    /// A replay has delivered everything, and its record does not say that it is done.
    ReplayDelivered,
}

impl Death {
    /// Every moment of a delivery.
    pub const ALL: [Death; 8] = [
        Death::Created,
        Death::Recorded,
        Death::Sent,
        Death::Acknowledged,
        Death::Settled,
        Death::Quarantined,
        Death::Resumed,
        Death::Void,
    ];

    /// Every moment of a replay.
    pub const REPLAY: [Death; 3] = [Death::ReplayNoted, Death::ReplayAppended, Death::ReplayDelivered];
}

#[cfg(feature = "sim")]
mod planned {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Death;

    const MOMENTS: usize = Death::ReplayDelivered as usize + 1;

    /// How often each moment is still to come, the deadly time included; zero is not planned.
    static LEFT: [AtomicU32; MOMENTS] = [const { AtomicU32::new(0) }; MOMENTS];

    /// Has this process killed with SIGKILL when it comes to this moment for the n-th time, n from 1.
    pub fn plan(death: Death, nth: u32) {
        LEFT[death as usize].store(nth, Ordering::Relaxed);
    }

    /// At once, without a last word.
    fn die() {
        #[cfg(unix)]
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        #[cfg(windows)]
        std::process::abort();
    }

    pub(crate) fn reached(death: Death) {
        let left = &LEFT[death as usize];
        if left.load(Ordering::Relaxed) > 0 && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            die();
        }
    }
}

#[cfg(feature = "sim")]
pub use planned::plan;
#[cfg(feature = "sim")]
pub(crate) use planned::reached;

/// The process has come to this moment.
#[cfg(not(feature = "sim"))]
pub(crate) const fn reached(_death: Death) {}
