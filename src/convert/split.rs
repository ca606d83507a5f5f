//! Which records go into one request.
//!
//! The service limits the bytes of the whole request, and in it each record stands as a field of its own:
//! one byte of key, the length as a varint, the record. The client crate's own limit forgets
//! that framing, so we count it.

use std::ops::Range;

use prost::encoding::encoded_len_varint;

use super::Records;

/// What to do with the next records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// These records fit into one request, and the next one does not.
    Request {
        /// The records, by index; never empty.
        records: Range<usize>,
        /// What they take in the request, with framing.
        framed_bytes: usize,
    },
    /// This record fits into no request.
    TooLarge {
        /// The record, by index.
        record: usize,
        /// What it would take, with framing.
        framed_bytes: usize,
    },
}

impl Records {
    /// The longest run of records from `first` on that takes at most `max_bytes` with framing and has at most
    /// `max_rows` records; `None` if there is no record `first`.
    ///
    /// A `max_rows` of 0 counts as 1: a request without rows would never come to an end.
    pub fn cut(&self, first: usize, max_bytes: usize, max_rows: usize) -> Option<Cut> {
        if first >= self.len() {
            return None;
        }
        let mut framed_bytes = self.framed_bytes(first);
        if framed_bytes > max_bytes {
            return Some(Cut::TooLarge { record: first, framed_bytes });
        }
        let mut end = first + 1;
        while end < self.len() && end - first < max_rows {
            let more = self.framed_bytes(end);
            if more > max_bytes - framed_bytes {
                break;
            }
            framed_bytes += more;
            end += 1;
        }
        Some(Cut::Request { records: first..end, framed_bytes })
    }

    fn framed_bytes(&self, index: usize) -> usize {
        let len = self.record_bytes(index);
        1 + encoded_len_varint(len as u64) + len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(lengths: &[usize]) -> Records {
        let mut records = Records::new();
        records.append(&mut lengths.to_vec());
        records
    }

    /// All records, one cut after the other.
    fn all_cuts(records: &Records, max_bytes: usize, max_rows: usize) -> Vec<Cut> {
        let mut first = 0;
        std::iter::from_fn(|| {
            let cut = records.cut(first, max_bytes, max_rows)?;
            first = match &cut {
                Cut::Request { records, .. } => records.end,
                Cut::TooLarge { record, .. } => record + 1,
            };
            Some(cut)
        })
        .collect()
    }

    fn request(records: Range<usize>, framed_bytes: usize) -> Cut {
        Cut::Request { records, framed_bytes }
    }

    #[test]
    fn framing_counts_and_the_limit_itself_still_fits() {
        // 126 + 1 + 1 = 128 and 128 + 1 + 2 = 131 bytes with framing.
        let records = records(&[126, 128, 0]);
        assert_eq!(all_cuts(&records, 128 + 131 + 2, 9), [request(0..3, 261)]);
        let cuts: Vec<Cut> = all_cuts(&records, 128 + 131 + 1, 9);
        assert_eq!(cuts, [request(0..2, 259), request(2..3, 2)]);
        let cuts: Vec<Cut> = all_cuts(&records, 128 + 131 - 1, 9);
        assert_eq!(cuts, [request(0..1, 128), request(1..3, 133)]);
    }

    #[test]
    fn a_record_that_fits_nowhere_stands_alone_between_the_others() {
        let cuts: Vec<Cut> = all_cuts(&records(&[1, 1, 100, 1]), 10, 9);
        let too_large = Cut::TooLarge { record: 2, framed_bytes: 102 };
        assert_eq!(cuts, [request(0..2, 6), too_large, request(3..4, 3)]);
    }

    #[test]
    fn rows_are_limited_and_zero_means_one() {
        let records = records(&[1; 5]);
        let cuts: Vec<Cut> = all_cuts(&records, 1_000, 2);
        assert_eq!(cuts, [request(0..2, 6), request(2..4, 6), request(4..5, 3)]);
        assert_eq!(all_cuts(&records, 1_000, 0).len(), 5);
    }

    #[test]
    fn no_records_make_no_request() {
        assert_eq!(Records::new().cut(0, 1_000, 10), None);
    }
}
