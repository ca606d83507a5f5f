//! What a feed passes over, because it is settled above the watermark or in flight on another stream.
//!
//! ```text
//!  LSN   4 5 6 7 8 9
//!        . c c . c .      c covered: requests are made of 4, then 7, then 9 on
//! ```
//!
//! A request ends where something covered begins, so that each is one stretch of the log.

use std::collections::VecDeque;

use super::Span;
use super::chunk::{Chunk, OpenFrame};
use super::feed::Feed;
use super::piece::Piece;
use crate::ledger::{Ranges, Settled};

/// Stretches of the log, each from a position to another, in order and with something between each two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Covered {
    stretches: VecDeque<(Settled, Settled)>,
}

impl Covered {
    /// By what is settled above the watermark, and by what is in flight.
    pub(super) fn by(ranges: &Ranges, in_flight: impl Iterator<Item = Span>) -> Covered {
        let settled = ranges.iter().map(|range| (range.start, range.end));
        let mut all: Vec<_> = settled.chain(in_flight.map(|span| (span.start, span.end))).collect();
        all.sort_unstable();
        let mut stretches: VecDeque<(Settled, Settled)> = VecDeque::new();
        for (start, end) in all {
            match stretches.back_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => stretches.push_back((start, end)),
            }
        }
        Covered { stretches }
    }

    /// Where the next stretch begins.
    pub(super) fn next_start(&self) -> Option<Settled> {
        self.stretches.front().map(|(start, _)| *start)
    }

    /// Takes out the next stretch, if it begins at this position, and returns its end.
    fn pop_at(&mut self, position: Settled) -> Option<Settled> {
        self.next_start().filter(|start| *start <= position)?;
        self.stretches.pop_front().map(|(_, end)| end)
    }
}

impl Feed {
    /// Whether the next thing in the log is covered: nothing is to be read before [`leap`](Feed::leap).
    pub(super) fn is_at_covered(&self) -> bool {
        let Some(start) = self.rules.covered.next_start() else { return false };
        if self.passed >= start {
            return true;
        }
        // Rows that are converted and that no request has taken yet come first, and the rest of their frame.
        let is_in_frame =
            !self.chunk.is_used_up() || self.frame.as_ref().is_some_and(|frame| !frame.is_used_up());
        // Frames without rows, and damage, are passed without moving the position.
        let first_covered = if start.rows_of_next > 0 { start.through.next() } else { start.through };
        !is_in_frame && self.next_lsn() > first_covered
    }

    /// Goes on behind what is covered, if that comes next. Nothing may be in the making.
    pub(super) fn leap(&mut self) {
        while let Some(end) = self.rules.covered.pop_at(self.passed) {
            if end <= self.passed {
                continue;
            }
            self.passed = end;
            (self.frame, self.unopened, self.damaged_through) = (None, None, None);
            self.chunk = Chunk::default();
            let next = end.through.next();
            self.skip_rows = (next, end.rows_of_next as usize);
            self.reader.go_to(next);
        }
    }

    /// Lets the piece pass what lies before something covered, if that is all that comes: it has no rows. Says whether it did.
    pub(super) fn reach_covered(&mut self, piece: &mut Piece) -> bool {
        let Some(start) = self.rules.covered.next_start().filter(|_| self.is_at_covered()) else {
            return false;
        };
        if self.passed >= start {
            return false;
        }
        let part = Span { start: self.passed, end: start, ..Span::default() };
        self.passed = start;
        piece.add(part);
        true
    }

    /// Up to which row of the frame requests may go now.
    pub(super) fn stop_row(&self, frame: &OpenFrame) -> usize {
        let recorded = self.rules.recorded.front().map(|recorded| recorded.end);
        let ends = recorded.into_iter().chain(self.rules.covered.next_start());
        ends.map(|end| frame.row_at(end)).min().unwrap_or(frame.batch.num_rows())
    }
}

impl OpenFrame {
    /// Which of its rows that are not converted yet is the first one behind a position; its end if all are before.
    fn row_at(&self, position: Settled) -> usize {
        let row = match self.lsn {
            lsn if lsn <= position.through => self.batch.num_rows(),
            lsn if lsn == position.through.next() => position.rows_of_next as usize,
            _ => 0,
        };
        row.clamp(self.next_row, self.batch.num_rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SettledRange;
    use crate::types::Lsn;

    fn at(through: u64, rows_of_next: u32) -> Settled {
        Settled { through: Lsn::new(through), rows_of_next }
    }

    #[test]
    fn what_is_settled_and_what_is_in_flight_cover_the_log_together() {
        let mut ranges = Ranges::default();
        for (start, end) in [(at(2, 0), at(4, 3)), (at(9, 0), at(10, 0))] {
            ranges.settle(&mut at(0, 0), SettledRange { start, end, ..SettledRange::default() });
        }
        let span = |start, end| Span { start, end, ..Span::default() };
        let in_flight = [span(at(6, 1), at(7, 0)), span(at(4, 3), at(6, 0))];
        let mut covered = Covered::by(&ranges, in_flight.into_iter());
        assert_eq!(covered.stretches, [(at(2, 0), at(6, 0)), (at(6, 1), at(7, 0)), (at(9, 0), at(10, 0))]);
        assert_eq!(covered.pop_at(at(1, 9)), None);
        assert_eq!(covered.pop_at(at(2, 0)), Some(at(6, 0)));
        assert_eq!(covered.next_start(), Some(at(6, 1)));
    }
}
