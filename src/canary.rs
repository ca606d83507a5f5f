//! Planted bugs, so that the tests of the log can show that they would find them.
//!
//! Without the feature `sim` nothing of this is compiled in: `Canaries::has` is a constant.
//! A test plants one bug in the [`Env`](crate::io::Env) of one log; other logs of the process are as sound as
//! ever.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// An append answers before the sync that covers it.
    AcknowledgeBeforeSync,
    /// After a failed sync the same file is synced once more and believed.
    SyncAgainAfterFailure,
    /// Recovery takes the first bad checksum for the end of the segment.
    CutAtFirstBadChecksum,
    /// The next LSN after opening ignores what the ledger knows, or what a later segment says.
    ReuseLsn,
    /// Settled segments are freed before the ledger that says so is synced.
    FreeBeforeLedgerSync,
    /// A new segment is used before its name is durable.
    ForgetDirectorySync,
    /// A ledger checkpoint trusts the store's own flush.
    TrustStoreFlush,
    /// The mark of the ledger is written before the ledger is synced.
    MarkBeforeLedger,
    /// A new segment voids the frames of a failed one before it holds them itself.
    VoidBeforeMoved,
}

#[cfg(feature = "sim")]
impl Canary {
    /// All of them.
    pub const ALL: [Canary; 9] = [
        Canary::AcknowledgeBeforeSync,
        Canary::SyncAgainAfterFailure,
        Canary::CutAtFirstBadChecksum,
        Canary::ReuseLsn,
        Canary::FreeBeforeLedgerSync,
        Canary::ForgetDirectorySync,
        Canary::TrustStoreFlush,
        Canary::MarkBeforeLedger,
        Canary::VoidBeforeMoved,
    ];
}

/// What is planted in every log of this process that lies on a real disk.
#[cfg(feature = "sim")]
static OF_PROCESS: std::sync::OnceLock<Canary> = std::sync::OnceLock::new();

/// Plants a bug in every log of this process that is opened from now on; for programs that are run so that somebody finds it.
#[cfg(feature = "sim")]
pub fn plant_in_process(canary: Canary) {
    let _ = OF_PROCESS.set(canary);
}

/// The bug that is planted in a log; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Canaries {
    #[cfg(feature = "sim")]
    planted: Option<Canary>,
}

impl Canaries {
    /// Plants a bug.
    #[cfg(feature = "sim")]
    pub const fn plant(canary: Canary) -> Canaries {
        Canaries { planted: Some(canary) }
    }

    /// What is planted in this process.
    #[cfg(feature = "sim")]
    pub(crate) fn of_process() -> Canaries {
        Canaries { planted: OF_PROCESS.get().copied() }
    }

    /// What is planted in this process: nothing.
    #[cfg(not(feature = "sim"))]
    pub(crate) const fn of_process() -> Canaries {
        Canaries {}
    }

    /// Whether this bug is planted.
    #[cfg(feature = "sim")]
    pub(crate) fn has(self, canary: Canary) -> bool {
        self.planted == Some(canary)
    }

    /// Whether this bug is planted: never.
    #[cfg(not(feature = "sim"))]
    pub(crate) const fn has(self, _canary: Canary) -> bool {
        false
    }
}
