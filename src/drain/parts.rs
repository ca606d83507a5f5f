//! What a request is made of, for a service that acknowledges rows: which part of it is settled when only its first rows
//! are durable.

use super::Span;
use crate::ledger::{Bent, Quarantined, Settled};

/// More parts are joined in pairs: a request may hold thousands of small frames, and then half a frame matters little.
const PARTS_MAX: usize = 64;

/// The parts of a request, in order; each is what was taken from one frame at once, or several of these.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Span>,
    /// How many of what is pushed become one part, as a power of two.
    joined: u32,
    pushed: usize,
}

impl Span {
    /// Adds what comes behind it.
    pub(super) fn join(&mut self, next: &Span) {
        self.end = next.end;
        self.first = self.first.or(next.first);
        self.frames += next.frames;
        self.rows += next.rows;
        self.damaged_frames += next.damaged_frames;
        self.bent += next.bent;
        self.quarantined += next.quarantined;
    }

    /// Two parts, the first with so many rows; none unless it is plain rows of one frame.
    fn cut(&self, rows: u64) -> Option<(Span, Span)> {
        let (lsn, row) = self.first?;
        let is_in_frame = self.end.through < lsn || self.end == Settled { through: lsn, rows_of_next: 0 };
        let is_plain = self.bent == Bent::default()
            && self.quarantined == Quarantined::default()
            && self.damaged_frames == 0;
        if !is_in_frame || !is_plain || rows == 0 || rows >= self.rows {
            return None;
        }
        let next = row + u32::try_from(rows).ok()?;
        let end = Settled { through: lsn.previous(), rows_of_next: next };
        let done = Span { start: self.start, end, first: self.first, rows, ..Span::default() };
        Some((done, Span { start: end, first: Some((lsn, next)), rows: self.rows - rows, ..*self }))
    }
}

impl Parts {
    pub(super) fn push(&mut self, part: Span) {
        if self.parts.len() == PARTS_MAX && self.is_at_start() {
            let joined = self.parts.chunks_exact(2).map(|pair| {
                let mut joined = pair[0];
                joined.join(&pair[1]);
                joined
            });
            self.parts = joined.collect();
            self.joined += 1;
        }
        let is_at_start = self.is_at_start();
        match self.parts.last_mut() {
            Some(last) if !is_at_start => last.join(&part),
            _ => self.parts.push(part),
        }
        self.pushed += 1;
    }

    /// Whether what is pushed next begins a part.
    fn is_at_start(&self) -> bool {
        self.pushed.is_multiple_of(1 << self.joined)
    }

    /// What is settled once the first `rows` rows are durable, and what is left. None if that is nothing or everything.
    pub(super) fn split(&self, rows: u64) -> Option<(Span, Span)> {
        let (mut done, mut left): (Option<Span>, Option<Span>) = (None, None);
        let add = |sum: &mut Option<Span>, part: &Span| match sum {
            Some(sum) => sum.join(part),
            None => *sum = Some(*part),
        };
        let mut durable = rows;
        for part in &self.parts {
            if left.is_none() && part.rows <= durable {
                durable -= part.rows;
                add(&mut done, part);
            } else if let (None, Some((head, tail))) = (&left, part.cut(durable)) {
                add(&mut done, &head);
                left = Some(tail);
            } else {
                add(&mut left, part);
            }
        }
        done.zip(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Lsn;

    /// Rows of a frame, up to its end or not.
    fn part(lsn: u64, rows: std::ops::Range<u32>, is_end: bool) -> Span {
        let lsn = Lsn::new(lsn);
        let end = match is_end {
            true => Settled { through: lsn, rows_of_next: 0 },
            false => Settled { through: lsn.previous(), rows_of_next: rows.end },
        };
        let start = Settled { through: lsn.previous(), rows_of_next: rows.start };
        let first = Some((lsn, rows.start));
        Span { start, end, first, frames: is_end.into(), rows: rows.len() as u64, ..Span::default() }
    }

    fn parts(of: &[Span]) -> Parts {
        let mut parts = Parts::default();
        of.iter().for_each(|part| parts.push(*part));
        parts
    }

    #[test]
    fn the_first_rows_of_a_request_settle_frames_and_the_rows_of_the_next_one() {
        let parts = parts(&[part(4, 7..10, true), part(5, 0..5, true), part(6, 0..8, false)]);
        for (rows, through, rows_of_next, frames, next) in [
            (1, 3, 8, 0, (4, 8)),
            (3, 4, 0, 1, (5, 0)),
            (5, 4, 2, 1, (5, 2)),
            (8, 5, 0, 2, (6, 0)),
            (15, 5, 7, 2, (6, 7)),
        ] {
            let (done, left) = parts.split(rows).unwrap();
            assert_eq!(done.end, Settled { through: Lsn::new(through), rows_of_next }, "{rows} rows");
            assert_eq!((done.rows, left.rows), (rows, 16 - rows));
            assert_eq!((done.frames, left.frames), (frames, 2 - frames));
            assert_eq!(left.first, Some((Lsn::new(next.0), next.1)));
            assert_eq!((done.start, left.start), (parts.parts[0].start, done.end));
            assert_eq!(left.end, Settled { through: Lsn::new(5), rows_of_next: 8 });
        }
        assert!(parts.split(0).is_none() && parts.split(16).is_none());
    }

    #[test]
    fn a_part_that_is_more_than_plain_rows_is_settled_as_a_whole() {
        let bent = Span { bent: Bent { floored_timestamps: 1, emptied_lists: 0 }, ..part(1, 0..4, true) };
        let parts = parts(&[part(1, 0..4, true), bent, part(3, 0..4, true)]);
        for (rows, done_rows) in [(4, 4), (5, 4), (7, 4), (8, 8), (9, 9)] {
            assert_eq!(parts.split(rows).unwrap().0.rows, done_rows);
        }
    }

    #[test]
    fn thousands_of_small_frames_are_still_settled_in_order() {
        let all: Vec<Span> = (1..=5_000).map(|lsn| part(lsn, 0..1, true)).collect();
        let parts = parts(&all);
        assert!(parts.parts.len() <= PARTS_MAX);
        for rows in [1, 100, 2_500, 4_999] {
            let Some((done, left)) = parts.split(rows) else { continue };
            assert!(done.rows <= rows && done.rows + left.rows == 5_000);
            assert_eq!(done.end.through, Lsn::new(done.rows));
            assert_eq!(left.first, Some((Lsn::new(done.rows + 1), 0)));
        }
        let (done, _) = parts.split(2_500).unwrap();
        assert!(done.rows > 2_300, "{}", done.rows);
    }
}
