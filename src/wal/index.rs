//! What is known about the segments without reading them: O(segments) in memory \[I11\].

use std::path::PathBuf;

use super::{
    Damage,
    format::{SEGMENT_HEADER, Totals},
};
use crate::types::{Lsn, SegmentId};

/// One segment, as far as its frames may be read.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) path: PathBuf,
    /// The batches that may be read.
    pub(super) totals: Totals,
    /// Where they end.
    pub(super) end: u64,
    /// What the segment counts for: its file if it is sealed; else header, frames, and what is torn behind
    /// them.
    pub(super) bytes: u64,
    /// Whether it ends in a footer that was found at the opening or written since.
    pub(super) is_sealed: bool,
    /// Whether it holds batches whose schema only another segment has.
    pub(super) has_orphans: bool,
    /// Whether the number of the next frame is known from it. A file that was being created says nothing.
    pub(super) tells_lsns: bool,
    /// Damage that was found in it when the log was opened; a segment that has some is set aside instead of being deleted.
    pub(super) damage: Vec<Damage>,
    /// Whether damage was found in it when it was read, by this owner or one before; it is set aside too.
    pub(super) is_marked: bool,
}

impl Segment {
    /// The last batch that it held, as far as anybody knows; what stood behind the last whole one may be lost.
    pub(super) fn last_held(&self) -> Lsn {
        let lost = self.damage.iter().filter_map(|damage| damage.lsns.as_ref()).map(|lsns| *lsns.end());
        lost.fold(self.totals.last, Lsn::max)
    }

    /// A segment without frames.
    pub(super) fn empty(id: SegmentId, path: PathBuf, base: Lsn) -> Segment {
        let header = SEGMENT_HEADER as u64;
        Segment {
            id,
            path,
            totals: Totals::none(base),
            end: header,
            bytes: header,
            is_sealed: false,
            has_orphans: false,
            tells_lsns: true,
            damage: Vec::new(),
            is_marked: false,
        }
    }
}

/// The segments that exist, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) segments: Vec<Segment>,
}

/// What can be told of a segment with frames without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its first frame.
    pub first: Lsn,
    /// Its last frame that may be read.
    pub last: Lsn,
    /// What it counts for in [`Wal::bytes`](super::Wal::bytes).
    pub bytes: u64,
    /// When its last frame was appended.
    pub last_unix_micros: i64,
}

/// How much of the log lies from some frame on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Frames of batches.
    pub frames: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// When the first of them was appended.
    pub oldest_unix_micros: Option<i64>,
}

impl Count {
    pub(super) fn add(&mut self, frames: u64, rows: u64, bytes: u64, first_unix_micros: i64) {
        if frames > 0 {
            self.frames += frames;
            self.rows += rows;
            self.bytes += bytes;
            self.oldest_unix_micros.get_or_insert(first_unix_micros);
        }
    }
}

impl Index {
    /// The segment that holds this frame or, if none does, the one that holds the next.
    pub(super) fn find(&self, lsn: Lsn) -> Option<&Segment> {
        let at = self.segments.partition_point(|segment| segment.totals.last < lsn);
        self.segments[at..].iter().find(|segment| segment.totals.frames > 0)
    }

    /// The bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The segments with frames, in order.
    pub(super) fn infos(&self) -> Vec<SegmentInfo> {
        let with_frames = self.segments.iter().filter(|segment| segment.totals.frames > 0);
        with_frames
            .map(|segment| SegmentInfo {
                first: segment.totals.first,
                last: segment.totals.last,
                bytes: segment.bytes,
                last_unix_micros: segment.totals.last_unix_micros,
            })
            .collect()
    }

    /// The first frame that is there.
    pub(super) fn first(&self) -> Option<Lsn> {
        self.segments.iter().find(|segment| segment.totals.frames > 0).map(|segment| segment.totals.first)
    }

    /// Counts the frames from `from` on in all segments that lie wholly there; the one that does
    /// not, if any, comes along for the caller to look into.
    pub(super) fn count_from(&self, from: Lsn) -> (Count, Option<Segment>) {
        let mut count = Count::default();
        let mut partial = None;
        for segment in self.segments.iter().filter(|segment| segment.totals.last >= from) {
            let totals = &segment.totals;
            if totals.frames > 0 && totals.first < from {
                partial = Some(segment.clone());
            } else {
                count.add(totals.frames, totals.rows, totals.bytes, totals.first_unix_micros);
            }
        }
        (count, partial)
    }
}
