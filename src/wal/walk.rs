//! How to get from one frame of a segment to the next, whatever its bytes are.
//!
//! Frames follow each other directly or, where a group or a large frame begins, at the next block, with
//! zeros between. Recovery, the reader and the counter all walk with this. A walk reads in large pieces,
//! allocates no more than the file is long, and always moves forward, so that any bytes come to an
//! end \[I14\].

use std::{
    io::{self, ErrorKind},
    ops::Range,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use super::format::{
    ALIGNMENT, FRAME_HEADER, FrameHeader, FrameKind, SEGMENT_HEADER, block_end, block_start,
};
use super::memory::ReadMemory;
use super::read_ahead::Fetched;
use crate::{
    io::{BLOCK, StorageFile},
    types::{Epoch, Lsn, SegmentId},
};

/// The first read of a place; it doubles while reading goes on from there.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The largest read, unless one frame is larger.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Frames from this length on are read past the page cache, if they may be, each while its caller has the one before it:
/// shorter ones are there sooner if the system reads ahead.
const DIRECT_BYTES_MIN: usize = 512 * 1024;
/// The longest frames of which a read takes the next one's header along, so that it is not read twice, and that are read
/// ahead.
const STRIDE_MAX: usize = 16 * 1024 * 1024;

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame; its body has not been looked at.
    Frame(FrameHeader),
    /// Bytes that are no frame, with a frame behind them.
    Bad(Stretch),
    /// Bytes that are no frame, up to the end; whether they begin with what was to be one.
    Tail {
        /// The bytes.
        stretch: Stretch,
        /// Where the frame ends that they begin, as far as can be told; none if there is none.
        torn_end: Option<u64>,
    },
    /// The end of the segment, or of what may be read of it.
    End,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether every byte is zero.
    pub(super) is_zero: bool,
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
    /// Whether long frames may be read past the page cache.
    may_be_direct: bool,
    /// Whether reads pass it by now.
    is_direct: bool,
    /// Whether what comes next is read meanwhile where they do.
    reads_ahead: bool,
    /// Whether the system knows that the file is read from one end to the other.
    is_sequential: bool,
    window: Window,
    memory: ReadMemory,
}

/// What of the file is in memory.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    length: usize,
    /// As long at least.
    memory: Bytes,
}

impl Walk {
    /// A walk from the first frame to `end`, which must not be beyond the file.
    pub(super) fn new(file: Arc<dyn StorageFile>, epoch: Epoch, segment: SegmentId, end: u64) -> Walk {
        let position = SEGMENT_HEADER as u64;
        Walk {
            file,
            epoch,
            segment,
            position,
            end,
            passed: Lsn::ZERO,
            may_be_direct: false,
            is_direct: false,
            reads_ahead: false,
            is_sequential: false,
            window: Window { start: position, ..Window::default() },
            memory: ReadMemory::default(),
        }
    }

    /// The same walk, which reads long frames past the page cache if the file system can: for files that were written
    /// past it. `reads_ahead` says whether another thread may read them meanwhile.
    pub(super) fn uncached(self, may_be_direct: bool, reads_ahead: bool) -> Walk {
        Walk { may_be_direct, reads_ahead, ..self }
    }

    /// The same walk, with the memory of another one, and at its pace.
    pub(super) fn with_memory(self, memory: ReadMemory) -> Walk {
        Walk { memory, ..self }
    }

    /// What the walk leaves to another one.
    pub(super) fn into_memory(mut self) -> ReadMemory {
        self.memory.keep(self.window.memory);
        if let Some(fetched) = self.memory.ahead.take() {
            self.memory.keep(fetched.memory.freeze());
        }
        self.memory
    }

    /// Where the next step looks.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The last batch that lies behind.
    pub(super) fn passed(&self) -> Lsn {
        self.passed
    }

    /// Goes on to a position that a step named.
    pub(super) fn go_to(&mut self, position: u64) {
        self.position = position;
    }

    /// Goes on where an earlier walk stood.
    pub(super) fn resume(&mut self, position: u64, passed: Lsn) {
        (self.position, self.passed) = (position, passed);
        self.window = Window { start: position, ..Window::default() };
    }

    /// Goes on behind a frame that [`Walk::step`] showed.
    pub(super) fn pass(&mut self, header: &FrameHeader) {
        self.position = header.end();
        self.passed = self.passed.max(header.lsn);
        // One long frame among short ones is soon forgotten; the longer one of two that take turns is not.
        self.memory.stride = stride(header).max(self.memory.stride - self.memory.stride / 8);
    }

    /// Moves the end, because more of the segment became durable.
    pub(super) fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// What stands at the position. The walk stays where it is.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let start = self.position;
        if let Some(header) = self.header_at(start)? {
            return Ok(Step::Frame(header));
        }
        let next = self.skip_padding(start)?;
        if next >= self.end {
            return Ok(Step::End);
        }
        match self.header_at(next)? {
            // Zeros that swallowed a frame are no padding: its number is missing.
            Some(header) if header.kind == FrameKind::Batch && !self.follows(header.lsn) => {
                Ok(Step::Bad(Stretch { start, end: next, is_zero: true }))
            }
            Some(header) => Ok(Step::Frame(header)),
            None => self.search(next),
        }
    }

    /// The number of the first batch, if whole headers lead to it from here.
    pub(super) fn first_batch(&mut self) -> io::Result<Option<Lsn>> {
        loop {
            let here = self.position;
            let at = if self.header_at(here)?.is_some() { here } else { self.skip_padding(here)? };
            match self.header_at(at)? {
                Some(header) if header.kind == FrameKind::Batch => return Ok(Some(header.lsn)),
                Some(header) if header.kind == FrameKind::Schema => self.pass(&header),
                _ => return Ok(None),
            }
        }
    }

    fn follows(&self, lsn: Lsn) -> bool {
        self.passed == Lsn::ZERO || self.passed.next() == lsn
    }

    /// The end of the block if there is nothing but zeros up to there.
    fn skip_padding(&mut self, start: u64) -> io::Result<u64> {
        let end = block_end(start);
        let padding = self.fetch(start, (end - start) as usize)?;
        Ok(if padding.iter().all(|byte| *byte == 0) { end } else { start })
    }

    /// The body of a frame that [`Walk::step`] showed, if its checksum matches.
    pub(super) fn body(&mut self, header: &FrameHeader) -> io::Result<Option<Bytes>> {
        let body = self.fetch(header.body_offset(), header.body_length as usize)?;
        let whole = body.len() == header.body_length as usize;
        Ok((whole && super::format::checksum(&body) == header.body_checksum).then_some(body))
    }

    /// The body of a frame that [`Walk::step`] showed, whether its checksum matches or not.
    #[cfg(feature = "cli")]
    pub(super) fn unchecked_body(&mut self, header: &FrameHeader) -> io::Result<Bytes> {
        self.fetch(header.body_offset(), header.body_length as usize)
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
        Ok(self.header_in(&bytes, offset))
    }

    /// The header that these bytes at `offset` are, if it can be one that comes next.
    fn header_in(&self, bytes: &[u8], offset: u64) -> Option<FrameHeader> {
        FrameHeader::decode(bytes).filter(|header| {
            header.epoch == self.epoch
                && header.segment == self.segment
                && header.offset == offset
                && (header.body_length as usize).is_multiple_of(ALIGNMENT)
                && header.end() <= self.end
                && (header.kind != FrameKind::Batch || header.lsn > self.passed)
        })
    }

    /// Looks for the next frame behind bytes that are none: a lost header does not take the frames
    /// after it along.
    fn search(&mut self, start: u64) -> io::Result<Step> {
        let mut is_zero = true;
        let mut offset = start;
        loop {
            let piece = self.fetch(offset, READ_BYTES_MAX)?;
            if piece.is_empty() {
                let stretch = Stretch { start, end: self.end, is_zero };
                return Ok(Step::Tail { stretch, torn_end: self.torn_end(start)? });
            }
            for (number, word) in piece.chunks(ALIGNMENT).enumerate() {
                let here = offset + (number * ALIGNMENT) as u64;
                if here > start && FrameHeader::may_begin(word) && self.header_at(here)?.is_some() {
                    return Ok(Step::Bad(Stretch { start, end: here, is_zero }));
                }
                is_zero = is_zero && word.iter().all(|byte| *byte == 0);
            }
            offset += piece.len() as u64;
        }
    }

    /// Where a frame ends of which the header at `offset` was written in part, or damaged. Its length is
    /// not to be believed; a block is what is kept of it.
    fn torn_end(&mut self, offset: u64) -> io::Result<Option<u64>> {
        let bytes = self.fetch(offset, FRAME_HEADER)?;
        let is_torn = FrameHeader::is_torn(&bytes, self.epoch, self.segment, offset);
        Ok(is_torn.then(|| (offset + BLOCK as u64).min(self.end)))
    }

    /// Bytes from `offset` on: `length` of them, or fewer at the end.
    fn fetch(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let length = length.min(self.available(offset));
        if self.window.has(offset, length) {
            return Ok(self.window.bytes(offset, length));
        }
        let goes_on = (self.window.start..=self.window.end()).contains(&offset);
        if let Some(Fetched { start, length, memory }) = self.memory.ahead.take() {
            self.look_at(start, length, memory);
        }
        if !self.window.has(offset, length) {
            self.read(offset, length, goes_on)?;
        }
        if goes_on {
            self.read_ahead(offset + length as u64);
        }
        Ok(self.window.bytes(offset, length))
    }

    /// Reads these bytes, and more if reading goes on where it was.
    fn read(&mut self, offset: u64, length: usize, goes_on: bool) -> io::Result<()> {
        self.be_direct(length.max(self.memory.stride) >= DIRECT_BYTES_MIN)?;
        if goes_on && !self.is_direct && !self.is_sequential {
            self.file.read_sequentially();
            self.is_sequential = true;
        }
        // A direct read is long enough with one frame.
        let longest = if self.is_direct { READ_BYTES_MIN } else { READ_BYTES_MAX }.max(self.memory.stride);
        let read_bytes = if goes_on { 2 * self.memory.read_bytes } else { 0 }.clamp(READ_BYTES_MIN, longest);
        let start = block_start(offset);
        let before = (offset - start) as usize;
        let wanted = before + length.max(read_bytes).min(self.available(offset));
        self.memory.keep(std::mem::take(&mut self.window).memory);
        // Whole blocks, as direct reads want them.
        let whole = wanted.next_multiple_of(BLOCK);
        let mut memory = self.memory.take(whole);
        let count = self.file.read_at(&mut memory[..whole], start)?.min(wanted);
        self.memory.read_bytes = wanted;
        self.look_at(start, count, memory);
        Ok(())
    }

    /// Begins to read the first long frame from `position` on that is not in memory, if its header is.
    fn read_ahead(&mut self, position: u64) {
        if !self.reads_ahead || !self.is_direct {
            return;
        }
        let mut next = self.long_frame_at(position);
        while let Some(header) = next {
            if self.window.has(header.offset, (header.end() - header.offset) as usize) {
                next = self.long_frame_at(header.end());
                continue;
            }
            let start = block_start(header.offset);
            let wanted = stride(&header).min(self.available(start));
            let memory = self.memory.take(wanted.next_multiple_of(BLOCK));
            return self.memory.ahead.begin(&self.file, start, wanted, memory);
        }
    }

    /// The header at `position` or at the next block, if it is in memory and that of a long frame, but not of one so long that
    /// two would be too much memory.
    fn long_frame_at(&self, position: u64) -> Option<FrameHeader> {
        let at = |offset| {
            let is_there = self.window.has(offset, FRAME_HEADER);
            is_there.then(|| self.header_in(&self.window.bytes(offset, FRAME_HEADER), offset)).flatten()
        };
        let header = at(position).or_else(|| at(block_end(position)))?;
        (DIRECT_BYTES_MIN..=STRIDE_MAX).contains(&(header.body_length as usize)).then_some(header)
    }

    /// How much there is from there on.
    fn available(&self, offset: u64) -> usize {
        usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX)
    }

    /// Has this in memory from now on, instead of what was there.
    fn look_at(&mut self, start: u64, length: usize, memory: BytesMut) {
        let before = std::mem::replace(&mut self.window, Window { start, length, memory: memory.freeze() });
        self.memory.keep(before.memory);
    }

    /// Lets reads pass the page cache by from now on, or not; where they cannot, for good.
    fn be_direct(&mut self, direct: bool) -> io::Result<()> {
        if self.may_be_direct && direct != self.is_direct {
            match self.file.set_direct(direct) {
                Err(error) if error.kind() == ErrorKind::Unsupported => self.may_be_direct = false,
                result => {
                    result?;
                    self.is_direct = direct;
                }
            }
        }
        Ok(())
    }
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.length as u64
    }

    /// Whether all of these bytes are in it.
    fn has(&self, offset: u64, length: usize) -> bool {
        self.start <= offset && offset + length as u64 <= self.end()
    }

    /// These bytes, as far as they are in it.
    fn bytes(&self, offset: u64, length: usize) -> Bytes {
        let at = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.length);
        self.memory.slice(at..at.saturating_add(length).min(self.length))
    }
}

/// What a frame takes, with the header of the next one.
fn stride(header: &FrameHeader) -> usize {
    (header.body_length as usize).min(STRIDE_MAX) + 2 * BLOCK
}

impl Stretch {
    /// A stretch of which nothing is known but where it is.
    pub(super) fn of(range: Range<u64>) -> Stretch {
        Stretch { start: range.start, end: range.end, is_zero: false }
    }

    /// How long it is.
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }
}
