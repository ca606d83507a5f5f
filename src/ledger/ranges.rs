//! Which stretches of the log are settled above the watermark, because several streams are acknowledged in no common
//! order; and their bytes.
//!
//! ```text
//!  LSN   1 2 3 4 5 6 7 8 9
//!        s s s . . s s . s      s settled, . in flight or waiting
//!            └ watermark └─ ranges: 6 to 7, 9
//! ```
//!
//! A range knows how many rows and frames it has settled, for those count no more as waiting. When the watermark comes to
//! it, it becomes part of what is below the watermark.

use super::Settled;
use super::bytes::{Reader, put};
use crate::types::Lsn;

/// A record with more ranges is none that we wrote: a lane lets fewer requests go ahead of the watermark. So many stay below
/// what sled puts into a file of its own.
pub const RANGES_MAX: usize = 5_000;

/// What is settled above the watermark, in the order of the log. Between two ranges there is something that is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: Vec<SettledRange>,
}

/// A stretch of the log in which everything is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettledRange {
    /// It begins behind what this names.
    pub start: Settled,
    /// Everything up to here belongs to it.
    pub end: Settled,
    /// Frames whose last row is in it.
    pub frames: u64,
    /// Its rows.
    pub rows: u64,
    /// How many requests it stands for. Not remembered across restarts: then a range is one.
    pub requests: u64,
}

impl SettledRange {
    fn join(&mut self, other: &SettledRange) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.frames += other.frames;
        self.rows += other.rows;
        self.requests += other.requests;
    }
}

impl Ranges {
    /// Whether there is nothing settled above the watermark.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, in the order of the log.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SettledRange> {
        self.ranges.iter()
    }

    /// Settles a stretch that was not settled. The watermark moves as far as there is no gap.
    pub fn settle(&mut self, watermark: &mut Settled, stretch: SettledRange) {
        if stretch.start <= *watermark {
            *watermark = stretch.end.max(*watermark);
            self.join_watermark(watermark);
            return;
        }
        let at = self.ranges.partition_point(|range| range.end < stretch.start);
        let end = self.ranges.partition_point(|range| range.start <= stretch.end);
        let mut joined = stretch;
        self.ranges[at..end].iter().for_each(|neighbour| joined.join(neighbour));
        self.ranges.splice(at..end, [joined]);
    }

    /// Everything up to the watermark is settled, for whatever reason: what it has come to belongs to it now.
    pub fn join_watermark(&mut self, watermark: &mut Settled) {
        let mut joined = 0;
        while let Some(range) = self.ranges.get(joined).filter(|range| range.start <= *watermark) {
            *watermark = range.end.max(*watermark);
            joined += 1;
        }
        self.ranges.drain(..joined);
    }

    /// Rows that are settled above the watermark.
    pub fn rows(&self) -> u64 {
        self.ranges.iter().map(|range| range.rows).sum()
    }

    /// Frames whose last row is settled above the watermark.
    pub fn frames(&self) -> u64 {
        self.ranges.iter().map(|range| range.frames).sum()
    }

    /// Requests that are acknowledged above the watermark.
    pub fn requests(&self) -> u64 {
        self.ranges.iter().map(|range| range.requests).sum()
    }

    /// The highest LSN that something is said of; [`Lsn::ZERO`] if there is none. The next frame of the log must be above
    /// it \[I12\].
    pub fn highest(&self) -> Lsn {
        self.ranges.last().map_or(Lsn::ZERO, |range| range.end.highest())
    }

    /// Whether every row of a frame is settled above the watermark.
    pub fn has_frame(&self, lsn: Lsn) -> bool {
        let (start, end) = frame(lsn);
        let first = self.ranges.partition_point(|range| range.end < end);
        self.ranges.get(first).is_some_and(|range| range.start <= start)
    }

    /// The rows of a frame that are settled above the watermark, as numbers from 0; `rows` is how many it has.
    pub fn rows_of(&self, lsn: Lsn, rows: u32) -> Vec<std::ops::Range<u32>> {
        let (start, end) = frame(lsn);
        let row_of = |position: Settled| if position >= end { rows } else { position.rows_of_next.min(rows) };
        let overlapping = self.ranges.iter().filter(|range| range.start < end && range.end > start);
        overlapping.map(|range| row_of(range.start.max(start))..row_of(range.end)).collect()
    }

    /// The log ends with this frame. If others behind it went with a power cut, nothing of them waits, and no frame will have
    /// their numbers. `count` says how many frames and rows the log has behind a position.
    ///
    /// # Errors
    ///
    /// Those of `count`.
    pub fn end_log<E>(
        &mut self,
        last: Lsn,
        count: impl Fn(Settled) -> Result<(u64, u64), E>,
    ) -> Result<(), E> {
        let highest = self.highest();
        if highest <= last {
            return Ok(());
        }
        let end_of_log = Settled { through: last, rows_of_next: 0 };
        self.ranges.retain(|range| range.start < end_of_log);
        if let Some(range) = self.ranges.last_mut().filter(|range| range.end > end_of_log) {
            (range.frames, range.rows) = count(range.start)?;
            range.end = end_of_log;
        }
        let end = Settled { through: highest, rows_of_next: 0 };
        let gone = SettledRange { start: end_of_log, end, ..SettledRange::default() };
        // The lowest position is none that this could join.
        self.settle(&mut Settled::default(), gone);
        Ok(())
    }

    /// Those that are really above the watermark: of the others a record has nothing to say.
    pub(super) fn above(&self, watermark: Settled) -> &[SettledRange] {
        &self.ranges[self.ranges.partition_point(|range| range.start <= watermark)..]
    }

    /// Adds the bytes. Positions are told as the distance to the one before, the first to the watermark.
    pub(super) fn encode(&self, watermark: Settled, bytes: &mut Vec<u8>) {
        let ranges = self.above(watermark);
        put(bytes, ranges.len() as u64);
        let mut before = watermark.through.get();
        for range in ranges {
            for position in [range.start, range.end] {
                put(bytes, position.through.get() - before);
                put(bytes, position.rows_of_next.into());
                before = position.through.get();
            }
            put(bytes, range.frames);
            put(bytes, range.rows);
        }
    }

    /// Reads what [`encode`](Ranges::encode) has written.
    pub(super) fn decode(watermark: Settled, reader: &mut Reader<'_>) -> Result<Ranges, String> {
        let count = reader.count()? as usize;
        if count > RANGES_MAX {
            return Err(format!("{count} settled ranges, {RANGES_MAX} are the most"));
        }
        let mut ranges = Vec::with_capacity(count);
        let mut before = watermark;
        for _ in 0..count {
            let mut position = || {
                let through = before.through.get().checked_add(reader.varint()?).ok_or("an LSN too large")?;
                let rows_of_next = u32::try_from(reader.varint()?).map_err(|_| "too many rows")?;
                let position = Settled { through: Lsn::new(through), rows_of_next };
                if position <= before {
                    return Err("settled ranges that are not in order".to_owned());
                }
                before = position;
                Ok(position)
            };
            let (start, end) = (position()?, position()?);
            let (frames, rows) = (reader.count()?, reader.count()?);
            ranges.push(SettledRange { start, end, frames, rows, requests: 1 });
        }
        Ok(Ranges { ranges })
    }
}

/// Where a frame begins and ends.
fn frame(lsn: Lsn) -> (Settled, Settled) {
    let end_of = |through| Settled { through, rows_of_next: 0 };
    (end_of(lsn.previous()), end_of(lsn))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const ROWS: u32 = 5;

    /// Counting all rows of frames of five, where this one is.
    fn position(row: u32) -> Settled {
        Settled { through: Lsn::new((row / ROWS).into()), rows_of_next: row % ROWS }
    }

    fn stretch(rows: std::ops::Range<u32>) -> SettledRange {
        SettledRange {
            start: position(rows.start),
            end: position(rows.end),
            frames: u64::from(rows.end / ROWS - rows.start / ROWS),
            rows: u64::from(rows.end - rows.start),
            requests: 1,
        }
    }

    fn encoded(watermark: Settled, ranges: &Ranges) -> Vec<u8> {
        let mut bytes = Vec::new();
        ranges.encode(watermark, &mut bytes);
        bytes
    }

    #[test]
    fn what_is_acknowledged_out_of_order_moves_the_watermark_when_the_gap_is_closed() {
        let (mut ranges, mut watermark) = (Ranges::default(), position(0));
        ranges.settle(&mut watermark, stretch(10..15));
        ranges.settle(&mut watermark, stretch(20..22));
        ranges.settle(&mut watermark, stretch(15..18));
        assert_eq!((watermark, ranges.iter().len()), (position(0), 2));
        assert_eq!((ranges.rows(), ranges.frames(), ranges.requests()), (10, 1, 3));
        assert!(ranges.has_frame(Lsn::new(3)) && !ranges.has_frame(Lsn::new(4)));
        let rows_of = |lsn| ranges.rows_of(Lsn::new(lsn), ROWS).into_iter().flatten().collect::<Vec<_>>();
        assert_eq!((rows_of(4), rows_of(5), rows_of(6)), (vec![0, 1, 2], vec![0, 1], vec![]));
        assert_eq!(ranges.highest(), Lsn::new(5));
        ranges.settle(&mut watermark, stretch(0..10));
        assert_eq!((watermark, ranges.iter().len()), (position(18), 1));
        ranges.settle(&mut watermark, stretch(18..20));
        assert_eq!((watermark, ranges.is_empty()), (position(22), true));
    }

    #[test]
    fn of_what_is_not_above_the_watermark_a_record_says_nothing() {
        let mut ranges = Ranges::default();
        for rows in [10..15, 20..25, 30..35] {
            ranges.settle(&mut position(0), stretch(rows));
        }
        let bytes = encoded(position(22), &ranges);
        let read = Ranges::decode(position(22), &mut Reader::new(&bytes)).unwrap();
        assert!(read.iter().eq(&[stretch(30..35)]));
        assert!(ranges.above(position(30)).is_empty());
    }

    #[test]
    fn ranges_of_frames_that_went_with_a_power_cut_leave_no_gap_and_no_rows_that_wait() {
        let (mut ranges, mut watermark) = (Ranges::default(), position(2));
        for rows in [8..12, 18..32, 35..40] {
            ranges.settle(&mut watermark, stretch(rows));
        }
        // Of the frames up to 8 those up to 5 are there.
        let count = |from: Settled| {
            assert_eq!(from, position(18));
            Ok::<_, Infallible>((2, 7))
        };
        ranges.end_log(Lsn::new(5), count).unwrap();
        let expected =
            [stretch(8..12), SettledRange { end: position(40), frames: 2, rows: 7, ..stretch(18..25) }];
        assert!(ranges.iter().eq(&expected), "{ranges:?}");
        ranges.end_log(Lsn::new(9), |_| Err("nothing is missing")).unwrap();
        assert!(ranges.iter().eq(&expected));
    }

    #[test]
    fn other_bytes_are_refused_with_a_reason() {
        let mut ranges = Ranges::default();
        ranges.settle(&mut position(3), stretch(10..15));
        ranges.settle(&mut position(3), stretch(22..31));
        let good = encoded(position(3), &ranges);
        for length in 0..good.len() {
            assert!(Ranges::decode(position(3), &mut Reader::new(&good[..length])).is_err());
        }
        let decoded = |bytes: &[u8]| Ranges::decode(position(3), &mut Reader::new(bytes)).unwrap_err();
        assert!(decoded(&[1, 0, 3, 0, 0, 0, 0]).contains("order"), "it begins at the watermark");
        assert!(decoded(&[1, 5, 3, 0, 2, 0, 0]).contains("order"), "it ends before it begins");
        let mut many = Vec::new();
        put(&mut many, RANGES_MAX as u64 + 1);
        assert!(decoded(&many).contains("5000"));
    }

    proptest! {
        #[test]
        fn in_whatever_order_stretches_are_settled_the_ranges_are_those_of_a_naive_set(
            first in 0u32..20,
            cuts in prop::collection::btree_set(1u32..200, 1..40),
            order in any::<prop::sample::Index>(),
            seed in any::<u64>(),
        ) {
            let cuts: Vec<u32> = cuts.into_iter().map(|cut| first + cut).collect();
            let mut starts = vec![first];
            starts.extend(&cuts);
            let mut stretches: Vec<_> = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            // A permutation that the seed says.
            stretches.sort_by_key(|it| u64::from(it.start).wrapping_mul(seed | 1).rotate_left(17));
            stretches.truncate(1 + order.index(stretches.len()));

            let (mut ranges, mut watermark) = (Ranges::default(), position(first));
            let mut settled = BTreeSet::new();
            for rows in stretches {
                settled.extend(rows.clone());
                ranges.settle(&mut watermark, stretch(rows));
                let mut next = first;
                while settled.contains(&next) {
                    next += 1;
                }
                prop_assert_eq!(watermark, position(next));
                let ahead: Vec<u32> = settled.iter().copied().filter(|row| *row >= next).collect();
                prop_assert_eq!(ranges.rows(), ahead.len() as u64);
                prop_assert_eq!(ranges.frames(), ahead.iter().filter(|row| (*row + 1) % ROWS == 0).count() as u64);
                let runs = ahead.iter().filter(|row| !ahead.contains(&row.wrapping_sub(1))).count();
                prop_assert_eq!(ranges.iter().len(), runs);
                for lsn in 0..=45u32 {
                    let rows = lsn * ROWS..(lsn + 1) * ROWS;
                    let inside: Vec<u32> =
                        rows.clone().filter(|row| ahead.contains(row)).map(|row| row - rows.start).collect();
                    let lsn = Lsn::new(u64::from(lsn) + 1);
                    prop_assert_eq!(ranges.has_frame(lsn), inside.len() as u32 == ROWS);
                    let found: Vec<u32> = ranges.rows_of(lsn, ROWS).into_iter().flatten().collect();
                    prop_assert_eq!(found, inside);
                }
                let bytes = encoded(watermark, &ranges);
                let mut reader = Reader::new(&bytes);
                let read = Ranges::decode(watermark, &mut reader);
                prop_assert!(reader.finish().is_ok());
                let read = read.unwrap();
                prop_assert!(read.iter().map(|it| (it.start, it.end, it.frames, it.rows)).eq(
                    ranges.iter().map(|it| (it.start, it.end, it.frames, it.rows))
                ));
            }
        }

        #[test]
        fn any_bytes_are_ranges_in_order_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(ranges) = Ranges::decode(position(3), &mut Reader::new(&bytes)) {
                let mut before = position(3);
                for range in ranges.iter() {
                    prop_assert!(before < range.start && range.start < range.end);
                    before = range.end;
                }
            }
        }
    }
}
