//! Which frames a policy has dropped: how many, and which, in bounded space.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::types::Lsn;

/// How many stretches are told apart. Beyond it the two oldest become one that names both.
pub(super) const RANGES_MAX: usize = 8;

/// What was dropped since the log began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Frames, a frame of which a part had been delivered before included.
    pub frames: u64,
    /// Rows that were not delivered before.
    pub rows: u64,
    /// In the order of the log; those behind `ranges_used` are empty.
    ranges: [DroppedRange; RANGES_MAX],
    ranges_used: u8,
}

/// One stretch of the log with dropped frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRange {
    /// Its first frame, which was dropped.
    pub first: Lsn,
    /// Its last frame, which was dropped.
    pub last: Lsn,
    /// Whether none of its frames was delivered. False for a stretch that stands for several.
    pub is_whole: bool,
}

impl Dropped {
    /// Counts a drop, which is behind all earlier ones: the oldest frames go first.
    pub fn add(&mut self, lsns: RangeInclusive<Lsn>, frames: u64, rows: u64) {
        self.frames += frames;
        self.rows += rows;
        self.push(DroppedRange { first: *lsns.start(), last: *lsns.end(), is_whole: true });
    }

    /// The stretches, in the order of the log.
    pub fn ranges(&self) -> &[DroppedRange] {
        &self.ranges[..usize::from(self.ranges_used).min(RANGES_MAX)]
    }

    /// The stretch that a frame lies in, if it lies in one.
    pub fn find(&self, lsn: Lsn) -> Option<DroppedRange> {
        self.ranges().iter().copied().find(|range| (range.first..=range.last).contains(&lsn))
    }

    /// The last frame that was dropped; [`Lsn::ZERO`] if none was.
    pub fn last(&self) -> Lsn {
        self.ranges().last().map_or(Lsn::ZERO, |range| range.last)
    }

    pub(super) fn push(&mut self, range: DroppedRange) {
        let used = self.ranges().len();
        if let Some(newest) = self.ranges[..used].last_mut()
            && newest.is_whole
            && range.is_whole
            && newest.last.next() == range.first
        {
            newest.last = range.last;
            return;
        }
        if used == RANGES_MAX {
            self.ranges[1] = DroppedRange { first: self.ranges[0].first, is_whole: false, ..self.ranges[1] };
            self.ranges.rotate_left(1);
            self.ranges[RANGES_MAX - 1] = range;
        } else {
            self.ranges[used] = range;
            self.ranges_used = used as u8 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(number: u64) -> Lsn {
        Lsn::new(number)
    }

    #[test]
    fn neighbours_become_one_stretch_and_what_lies_between_two_was_not_dropped() {
        let mut dropped = Dropped::default();
        assert_eq!((dropped.last(), dropped.find(lsn(1))), (Lsn::ZERO, None));
        dropped.add(lsn(3)..=lsn(4), 2, 20);
        dropped.add(lsn(5)..=lsn(9), 5, 50);
        dropped.add(lsn(20)..=lsn(20), 1, 7);
        assert_eq!((dropped.frames, dropped.rows, dropped.ranges().len()), (8, 77, 2));
        for number in [3, 4, 5, 9, 20] {
            assert!(dropped.find(lsn(number)).is_some_and(|range| range.is_whole), "{number}");
        }
        for number in [1, 2, 10, 19, 21] {
            assert_eq!(dropped.find(lsn(number)), None, "{number}");
        }
    }

    #[test]
    fn however_many_stretches_there_are_each_dropped_frame_is_found_in_one() {
        let mut dropped = Dropped::default();
        for number in (10..=10_000).step_by(10) {
            dropped.add(lsn(number)..=lsn(number + 1), 2, 2);
            assert_eq!(dropped.last(), lsn(number + 1));
        }
        assert_eq!(dropped.ranges().len(), RANGES_MAX);
        assert!((10..=10_000).step_by(10).all(|number| dropped.find(lsn(number)).is_some()));
        assert!(dropped.find(lsn(15)).is_some_and(|range| !range.is_whole), "old ones are not told apart");
        assert_eq!(dropped.find(lsn(9_995)), None, "new ones are");
    }
}
