//! Records of a request, where they were encoded.

use std::ops::Range;
use std::sync::Arc;

use super::Records;

/// Runs of records, in order, in memory that others may have too.
#[derive(Clone, Debug, Default)]
pub struct RecordRuns {
    runs: Vec<(Arc<Records>, Range<usize>)>,
}

impl RecordRuns {
    /// Adds some of these records; there are such.
    pub(crate) fn push(&mut self, records: Arc<Records>, run: Range<usize>) {
        self.runs.push((records, run));
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(_, run)| run.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.runs.iter().flat_map(|(records, run)| run.clone().map(|index| records.record(index)))
    }
}
