//! Where encoded rows lie: one buffer, and where each record ends in it.

/// Protobuf records, one after the other, in the order of their rows.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub(super) bytes: Vec<u8>,
    /// Ends of the records in `bytes`, ascending; the last one is its length.
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
        self.bytes.clear();
        self.ends.clear();
    }

    /// One record.
    ///
    /// # Panics
    ///
    /// If there is no record `index`.
    pub fn record(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.ends[index]]
    }

    /// The bytes of all records, without framing.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
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
