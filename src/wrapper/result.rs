//! What a caller gets back for a batch.

use serde::{Deserialize, Serialize};

use crate::types::Lsn;

/// How far a batch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// It had no rows; there was nothing to store.
    Empty,
    /// It is in the log.
    Stored,
    /// The service has acknowledged all of its rows.
    Delivered,
}

impl BatchState {
    /// The name that Python sees.
    pub const fn as_str(self) -> &'static str {
        match self {
            BatchState::Empty => "empty",
            BatchState::Stored => "stored",
            BatchState::Delivered => "delivered",
        }
    }
}

/// Result of handing over a batch, or of waiting for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransmissionResult {
    /// Always true: what failed is an error.
    pub success: bool,
    /// Always `None`, for the same reason.
    pub error: Option<String>,
    /// How often delivery was attempted while the caller waited; 0 if it did not wait for that.
    pub attempts: u32,
    /// Milliseconds until the batch was durable, or delivered if that was waited for.
    pub latency_ms: Option<u64>,
    /// Size of the batch's frame in the log, in bytes.
    pub batch_size_bytes: u64,
    /// How far the batch has come.
    pub state: BatchState,
    /// Its number in the log.
    pub lsn: Option<Lsn>,
    /// Whether it survives a power cut now.
    pub durable: bool,
}

impl TransmissionResult {
    pub(super) fn empty() -> TransmissionResult {
        TransmissionResult {
            success: true,
            error: None,
            attempts: 0,
            latency_ms: Some(0),
            batch_size_bytes: 0,
            state: BatchState::Empty,
            lsn: None,
            durable: true,
        }
    }
}
