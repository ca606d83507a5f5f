//! Rows that a feed has found refused: they are in quarantine before anything that passes over them is handed out.

use arrow_array::RecordBatch;

use super::fed::FeedError;
use crate::deaths::{Death, reached};
use crate::error::{ErrorCode, chain};
use crate::quarantine::{PutError, Quarantine, Refusal, RefusedRows};
use crate::transport::TransportError;
use crate::types::Lsn;

/// What is found and not in quarantine yet.
#[derive(Debug)]
pub(super) struct Refusals {
    quarantine: Quarantine,
    found: Vec<RefusedRows>,
    rows: usize,
}

impl Refusals {
    pub(super) fn new(quarantine: Quarantine) -> Refusals {
        Refusals { quarantine, found: Vec::new(), rows: 0 }
    }

    pub(super) fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// How many rows wait for it.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds rows of a frame, ascending.
    pub(super) fn add(
        &mut self,
        lsn: Lsn,
        batch: &RecordBatch,
        rows: impl IntoIterator<Item = (u32, Refusal)>,
    ) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        if self.found.last().is_none_or(|last| last.lsn != lsn) {
            self.found.push(RefusedRows { lsn, batch: batch.clone(), rows: Vec::new() });
        }
        if let Some(last) = self.found.last_mut() {
            let before = last.rows.len();
            last.rows.extend(rows);
            self.rows += last.rows.len() - before;
            // A row above the limit of a request is found after those of its chunk that do not convert.
            last.rows.sort_by_key(|(row, _)| *row);
        }
    }

    /// Puts them into quarantine.
    pub(super) fn put(&mut self) -> Result<(), FeedError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.rows = 0;
        let found = std::mem::take(&mut self.found);
        self.quarantine.put(&found).map_err(|error| FeedError::Failed(kept(&found, &error)))?;
        reached(Death::Quarantined);
        Ok(())
    }
}

/// Why refused rows stay in the log and hold up what is behind them.
fn kept(found: &[RefusedRows], error: &PutError) -> TransportError {
    let Some(first) = found.first() else { return TransportError::poison(ErrorCode::Internal, "no rows") };
    let count: usize = found.iter().map(|refused| refused.rows.len()).sum();
    let (row, why) = first.rows.first().map_or((0, ""), |(row, why)| (*row, &why.reason));
    let code = match (error, first.rows.first().map(|(_, why)| why.code)) {
        (PutError::Io { .. } | PutError::Encode { .. }, _) => ErrorCode::Storage,
        (_, Some("conversion" | "schema")) => ErrorCode::Conversion,
        _ => ErrorCode::Transmission,
    };
    let text = format!(
        "{count} rows are refused, the first: row {row} of frame {}: {why}; they cannot be put into quarantine: {}",
        first.lsn,
        chain(error)
    );
    TransportError::poison(code, text)
}
