//! Where encoded rows lie: one buffer, and where each record ends in it.

use super::encode::wire::SLACK_BYTES;

/// Protobuf records, one after the other, in the order of their rows.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The records, and behind them room for more: it is kept over [`clear`](Records::clear), so that memory is
    /// filled with zeros only once.
    buffer: Vec<u8>,
    /// Ends of the records in the buffer, ascending.
    pub(super) ends: Vec<usize>,
}

impl Records {
    /// No records, and no memory for them yet.
    pub fn new() -> Records {
        Records::default()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets the records and keeps their memory, for the next ones.
    pub fn clear(&mut self) {
        self.ends.clear();
    }

    /// One record.
    ///
    /// # Panics
    ///
    /// If there is no record `index`.
    pub fn record(&self, index: usize) -> &[u8] {
        &self.buffer[self.start(index)..self.ends[index]]
    }

    /// The bytes of all records, without framing.
    pub fn bytes(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Makes room for records of these sizes, turns the sizes into the starts of the records, and returns the buffer
    /// to write them into.
    pub(super) fn append(&mut self, sizes: &mut [usize]) -> &mut [u8] {
        let mut end = self.bytes();
        for size in sizes {
            end += std::mem::replace(size, end);
            self.ends.push(end);
        }
        if self.buffer.len() < end + SLACK_BYTES {
            self.buffer.resize(end + SLACK_BYTES, 0);
        }
        &mut self.buffer
    }

    /// Whether the last records end at these places.
    pub(super) fn ends_with(&self, places: &[usize]) -> bool {
        self.ends.ends_with(places)
    }

    pub(super) fn record_bytes(&self, index: usize) -> usize {
        self.ends[index] - self.start(index)
    }

    fn start(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ => self.ends[index - 1],
        }
    }
}
