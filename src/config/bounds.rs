//! The settings that bound a log: how large it becomes, what happens then, and what is kept once it is delivered.

use serde::{Deserialize, Serialize};

use super::{ConfigError, SECONDS_MAX, SEGMENT_BYTES_MIN, WAL_BYTES_MIN, WrapperConfiguration, invalid};

/// More than any file system holds; it leaves room for sums.
const BYTES_MAX: u64 = i64::MAX as u64;

/// What `send_batch` does when the log is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It waits, in order, until delivery has made room.
    Block,
    /// It fails at once; nothing was stored.
    Reject,
    /// The oldest frames that wait are dropped, counted and logged, until there is room.
    DropOldest,
}

impl OnFull {
    /// Every policy.
    pub const ALL: [OnFull; 3] = [OnFull::Block, OnFull::Reject, OnFull::DropOldest];

    /// The name that settings and `status` have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            OnFull::Block => "block",
            OnFull::Reject => "reject",
            OnFull::DropOldest => "drop_oldest",
        }
    }
}

impl std::str::FromStr for OnFull {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<OnFull, ConfigError> {
        let named = OnFull::ALL.into_iter().find(|policy| policy.as_str() == text);
        named.ok_or_else(|| invalid("on_full", text, "block, reject or drop_oldest"))
    }
}

impl WrapperConfiguration {
    pub(super) fn check_bounds(&self) -> Result<(), ConfigError> {
        let wrong = |setting, value: u128, allowed: &str| Err(invalid(setting, &value.to_string(), allowed));
        if !(WAL_BYTES_MIN..=BYTES_MAX).contains(&self.wal_max_bytes) {
            let allowed = format!("{WAL_BYTES_MIN} to {BYTES_MAX} bytes");
            return wrong("wal_max_bytes", self.wal_max_bytes.into(), &allowed);
        }
        if self.wal_min_free_bytes > BYTES_MAX {
            let allowed = format!("0 to {BYTES_MAX} bytes");
            return wrong("wal_min_free_bytes", self.wal_min_free_bytes.into(), &allowed);
        }
        if self.quarantine_max_bytes > BYTES_MAX {
            let allowed = format!("0 to {BYTES_MAX} bytes");
            return wrong("quarantine_max_bytes", self.quarantine_max_bytes.into(), &allowed);
        }
        let grace_secs = u128::from(self.schema_grace.as_secs());
        if grace_secs > SECONDS_MAX {
            return wrong("schema_grace_secs", grace_secs, &format!("0 to {SECONDS_MAX} s"));
        }
        if let Some(timeout) = self.block_timeout {
            let secs = u128::from(timeout.as_secs());
            if self.on_full != OnFull::Block {
                let allowed = format!("none, because nobody waits with on_full = {}", self.on_full.as_str());
                return wrong("block_timeout_secs", secs, &allowed);
            }
            if secs > SECONDS_MAX {
                return wrong("block_timeout_secs", secs, &format!("0 to {SECONDS_MAX} s"));
            }
        }
        let retain_secs = u128::from(self.retain_delivered.as_secs());
        if retain_secs > SECONDS_MAX {
            return wrong("retain_delivered_secs", retain_secs, &format!("0 to {SECONDS_MAX} s"));
        }
        // What is retained counts for the quota, so more could never be kept.
        if self.retain_delivered_bytes > self.wal_max_bytes {
            let allowed = format!("at most wal_max_bytes, {}", self.wal_max_bytes);
            return wrong("retain_delivered_bytes", self.retain_delivered_bytes.into(), &allowed);
        }
        Ok(())
    }

    /// A log must have room for a few segments, or none could be freed while one is filled.
    pub(super) fn effective_segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.wal_max_bytes / 4).max(SEGMENT_BYTES_MIN)
    }

    /// The setting that limits a segment, and with it the largest batch; and its value.
    pub(crate) fn segment_limit(&self) -> (&'static str, u64) {
        if self.effective_segment_bytes() < self.segment_bytes {
            ("wal_max_bytes", self.wal_max_bytes)
        } else {
            ("segment_bytes", self.segment_bytes)
        }
    }
}
