//! How to get from one frame of a segment to the next, whatever its bytes are.
//!
//! Recovery, the reader and the counter all walk with this. A walk reads in large pieces, allocates
//! no more than the file is long, and always moves forward, so that any bytes come to an end
//! \[I14\].

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;

use super::format::{ALIGNMENT, FRAME_HEADER, FrameHeader, SEGMENT_HEADER};
use crate::{
    io::StorageFile,
    types::{Epoch, Lsn, SegmentId},
};

/// The first read of a place; it doubles while reading goes on from there.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The largest read, unless one frame is larger.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame; its body has not been looked at.
    Frame(FrameHeader),
    /// Bytes that are no frame, with a frame behind them.
    Bad(Stretch),
    /// Bytes that are no frame, up to the end.
    Tail(Stretch),
    /// The end of the segment, or of what may be read of it.
    End,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where its last byte that is not zero ends; `start` if all are.
    pub(super) written_end: u64,
}

/// A walk through one segment.
#[derive(Debug)]
pub(super) struct Walk {
    file: Arc<dyn StorageFile>,
    epoch: Epoch,
    segment: SegmentId,
    position: u64,
    end: u64,
    /// Batches up to this one lie behind.
    passed: Lsn,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Bytes,
    read_bytes: usize,
}

impl Walk {
    /// A walk from the first frame to `end`, which must not be beyond the file.
    pub(super) fn new(file: Arc<dyn StorageFile>, epoch: Epoch, segment: SegmentId, end: u64) -> Walk {
        let position = SEGMENT_HEADER as u64;
        Walk { file, epoch, segment, position, end, passed: Lsn::ZERO, window: Window::default() }
    }

    /// Where the next step looks.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on to a position that a step named.
    pub(super) fn go_to(&mut self, position: u64) {
        self.position = position;
    }

    /// Goes on behind a frame that [`Walk::step`] showed.
    pub(super) fn pass(&mut self, header: &FrameHeader) {
        self.position = header.end();
        self.passed = self.passed.max(header.lsn);
    }

    /// Moves the end, because more of the segment became durable.
    pub(super) fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// What stands at the position. The walk stays where it is.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        if let Some(header) = self.header_at(self.position)? {
            return Ok(Step::Frame(header));
        }
        self.search()
    }

    /// The body of a frame that [`Walk::step`] showed, if its checksum matches.
    pub(super) fn body(&mut self, header: &FrameHeader) -> io::Result<Option<Bytes>> {
        let body = self.fetch(header.body_offset(), header.body_length as usize)?;
        let whole = body.len() == header.body_length as usize;
        Ok((whole && super::format::checksum(&body) == header.body_checksum).then_some(body))
    }

    /// Whether the body of a frame matches its checksum; holds only a part of it at a time.
    pub(super) fn body_is_whole(&mut self, header: &FrameHeader) -> io::Result<bool> {
        let mut checksum = crc32fast::Hasher::new();
        let mut offset = header.body_offset();
        while offset < header.end() {
            let length = usize::try_from(header.end() - offset).unwrap_or(usize::MAX).min(READ_BYTES_MAX);
            let part = self.fetch(offset, length)?;
            if part.is_empty() {
                return Ok(false);
            }
            checksum.update(&part);
            offset += part.len() as u64;
        }
        Ok(checksum.finalize() == header.body_checksum)
    }

    fn header_at(&mut self, offset: u64) -> io::Result<Option<FrameHeader>> {
        let bytes = self.fetch(offset, FRAME_HEADER)?;
        Ok(FrameHeader::decode(&bytes).filter(|header| {
            header.epoch == self.epoch
                && header.segment == self.segment
                && header.offset == offset
                && (header.body_length as usize).is_multiple_of(ALIGNMENT)
                && header.end() <= self.end
                && (header.kind != super::format::FrameKind::Batch || header.lsn > self.passed)
        }))
    }

    /// Looks for the next frame behind bytes that are none: a lost header does not take the frames
    /// after it along.
    fn search(&mut self) -> io::Result<Step> {
        let start = self.position;
        let mut written_end = start;
        let mut offset = start;
        loop {
            let piece = self.fetch(offset, READ_BYTES_MAX)?;
            if piece.is_empty() {
                return Ok(Step::Tail(Stretch { start, end: self.end, written_end }));
            }
            for (number, word) in piece.chunks(ALIGNMENT).enumerate() {
                if word.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let here = offset + (number * ALIGNMENT) as u64;
                if here > start && FrameHeader::may_begin(word) && self.header_at(here)?.is_some() {
                    return Ok(Step::Bad(Stretch { start, end: here, written_end }));
                }
                let used = word.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                written_end = here + used as u64;
            }
            offset += piece.len() as u64;
        }
    }

    /// Bytes from `offset` on: `length` of them, or fewer at the end.
    fn fetch(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let available = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(available);
        let window_end = self.window.start + self.window.bytes.len() as u64;
        let inside = offset.checked_sub(self.window.start).filter(|_| offset + length as u64 <= window_end);
        if let Some(at) = inside.and_then(|at| usize::try_from(at).ok()) {
            return Ok(self.window.bytes.slice(at..at + length));
        }
        let goes_on = (self.window.start..=window_end).contains(&offset);
        let read_ahead = if goes_on { 2 * self.window.read_bytes } else { 0 };
        let read_bytes = read_ahead.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let mut bytes = vec![0; length.max(read_bytes).min(available)];
        let count = self.file.read_at(&mut bytes, offset)?;
        bytes.truncate(count);
        self.window = Window { start: offset, bytes: bytes.into(), read_bytes };
        Ok(self.window.bytes.slice(..length.min(count)))
    }
}

impl Stretch {
    /// A stretch of which nothing is known but where it is.
    pub(super) fn of(range: Range<u64>) -> Stretch {
        Stretch { start: range.start, end: range.end, written_end: range.end }
    }

    /// How long it is.
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Whether every byte is zero.
    pub(super) fn is_zero(&self) -> bool {
        self.written_end == self.start
    }
}
