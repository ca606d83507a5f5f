//! Where encoded rows lie: one buffer, and where each record ends in it.

use std::ops::Range;

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

    /// No records, and memory for so many of so many bytes together.
    pub(crate) fn with_room(records: usize, bytes: usize) -> Records {
        Records { buffer: Vec::with_capacity(bytes), ends: Vec::with_capacity(records) }
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

    /// The memory that is kept.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Adds some records of others.
    ///
    /// # Panics
    ///
    /// If there are no such records.
    pub(crate) fn extend(&mut self, others: &Records, records: Range<usize>) {
        let Some(last) = records.end.checked_sub(1).filter(|_| !records.is_empty()) else { return };
        let (start, before) = (others.start(records.start), self.bytes());
        self.buffer.truncate(before);
        self.buffer.extend_from_slice(&others.buffer[start..others.ends[last]]);
        self.ends.extend(others.ends[records].iter().map(|end| before + end - start));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn records(all: &[&str]) -> Records {
        let mut records = Records::new();
        let mut starts: Vec<usize> = all.iter().map(|record| record.len()).collect();
        let buffer = records.append(&mut starts);
        for (record, start) in all.iter().zip(starts) {
            buffer[start..start + record.len()].copy_from_slice(record.as_bytes());
        }
        records
    }

    fn texts(records: &Records) -> Vec<&str> {
        (0..records.len()).map(|index| std::str::from_utf8(records.record(index)).unwrap()).collect()
    }

    #[test]
    fn runs_of_others_come_behind_what_is_there() {
        let (first, second) = (records(&["a", "", "bcd", "ef"]), records(&["", "ghij"]));
        let mut all = records(&["forgotten, and longer than the rest"]);
        all.clear();
        all.extend(&first, 1..3);
        all.extend(&first, 4..4);
        all.extend(&second, 0..2);
        all.extend(&first, 3..4);
        all.extend(&first, 0..1);
        assert_eq!(texts(&all), ["", "bcd", "", "ghij", "ef", "a"]);
        assert_eq!(all.bytes(), 10);
        // And what is written behind them.
        all.append(&mut [2])[10..12].copy_from_slice(b"kl");
        assert_eq!(texts(&all).last(), Some(&"kl"));
    }
}
