//! How much is free on the file system of the log, without asking for every batch.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Full;
use crate::io::Env;
use crate::quarantine::Quarantine;

/// Other programs write to the same file system, so what was seen is believed for so long only.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Disk {
    env: Env,
    directory: Arc<PathBuf>,
    min_free_bytes: u64,
    /// What a new segment takes at once, which is more than the batch that needs it.
    segment_bytes: u64,
    /// What is missing in the reserve of the ledger.
    ledger_missing_bytes: AtomicU64,
    quarantine: Quarantine,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When, and how much was free; none before the first look.
    free: Option<(Duration, u64)>,
    /// What was let in since.
    admitted_bytes: u64,
    /// An append found no space. Until there is some again each batch is checked, whatever is to be left free.
    append_failed: bool,
}

impl Disk {
    pub(super) fn new(
        env: Env,
        directory: PathBuf,
        min_free_bytes: u64,
        segment_bytes: u64,
        quarantine: Quarantine,
    ) -> Disk {
        Disk {
            env,
            directory: Arc::new(directory),
            min_free_bytes,
            segment_bytes,
            ledger_missing_bytes: AtomicU64::new(0),
            quarantine,
            seen: Mutex::default(),
        }
    }

    /// From now on so much is left free for the ledger; and what the quarantine lacks is taken back, if it is to be had.
    pub(super) fn keep_reserves(&self, ledger_missing_bytes: u64) {
        self.ledger_missing_bytes.store(ledger_missing_bytes, Ordering::Relaxed);
        self.quarantine.take_back_reserve();
    }

    /// What has to be left free besides, so that reserves can be taken back.
    fn kept_bytes(&self) -> u64 {
        let missing_bytes =
            self.ledger_missing_bytes.load(Ordering::Relaxed) + self.quarantine.missing_reserve_bytes();
        if missing_bytes > 0 { missing_bytes + self.segment_bytes } else { 0 }
    }

    /// Whether so many bytes may be written, which are counted then.
    pub(super) fn admit(&self, bytes: u64) -> Result<(), Full> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let kept_bytes = self.kept_bytes();
        if self.min_free_bytes + kept_bytes == 0 && !seen.append_failed {
            return Ok(());
        }
        let now = self.env.clock.monotonic();
        let needed = self.min_free_bytes + kept_bytes + bytes;
        let believed = seen
            .free
            .filter(|(at, _)| now.saturating_sub(*at) < BELIEVED_FOR)
            .is_some_and(|(_, free)| free.saturating_sub(seen.admitted_bytes) >= needed);
        if !believed {
            // Also when it would be the reason to refuse: delivery may have freed some meanwhile.
            seen.free = self.free_bytes().map(|free| (now, free));
            seen.admitted_bytes = 0;
            if let Some((_, free)) = seen.free.filter(|(_, free)| *free < needed) {
                return Err(self.full(free, kept_bytes + bytes));
            }
        }
        seen.admitted_bytes += bytes;
        seen.append_failed = false;
        Ok(())
    }

    /// Why so many bytes may not be written now, if so; nothing is counted.
    pub(super) fn look(&self, bytes: u64) -> Option<Full> {
        let append_failed = self.seen.lock().unwrap_or_else(PoisonError::into_inner).append_failed;
        let kept_bytes = self.kept_bytes();
        if self.min_free_bytes + kept_bytes == 0 && !append_failed {
            return None;
        }
        let free = self.free_bytes()?;
        let bytes = kept_bytes + bytes;
        (free < self.min_free_bytes + bytes).then(|| self.full(free, bytes))
    }

    /// To be told when an append has found no space: what is free now.
    pub(super) fn append_failed(&self, bytes: u64) -> Full {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).append_failed = true;
        self.full(self.free_bytes().unwrap_or_default(), bytes)
    }

    /// None where it cannot be told; then nothing is refused because of it.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let free = self.env.storage.free_bytes(&self.directory);
        free.inspect_err(|error| tracing::debug!(%error, "the free space cannot be told")).ok()
    }

    fn full(&self, free_bytes: u64, needed_bytes: u64) -> Full {
        Full::Disk {
            directory: Arc::clone(&self.directory),
            free_bytes,
            needed_bytes,
            wal_min_free_bytes: self.min_free_bytes,
        }
    }
}
