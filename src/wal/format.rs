//! What stands on disk, byte by byte: the only file that knows magic numbers, widths and names.
//!
//! `docs/internals/file-format.md` draws it. All numbers are little-endian; reserved bytes are
//! written as zero and checked; every structure has a checksum of its own.

use std::path::{Path, PathBuf};

use crate::{
    io::BLOCK,
    types::{Epoch, Lsn, SegmentId},
};

/// The version that this build writes, and the only one that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// The file that says whose log this is.
pub(super) const IDENTITY_FILE: &str = "LOG";
/// Where the next identity file is written before it takes its name.
pub(super) const IDENTITY_FILE_NEW: &str = "LOG.new";
/// The file that the owner holds locked; it is never deleted.
pub(crate) const LOCK_FILE: &str = "LOCK";
/// What a damaged segment's name is given when it is set aside.
const SET_ASIDE: &str = ".damaged";

/// Bytes of the block that a segment begins with.
pub(super) const SEGMENT_HEADER: usize = BLOCK;
/// Bytes before the body of a frame.
pub(super) const FRAME_HEADER: usize = 80;
/// Bytes of the body of a footer.
const FOOTER_BODY: usize = 72;
/// Bytes of the block that a sealed segment ends with.
pub(super) const FOOTER: usize = BLOCK;
/// Frames begin, and bodies end, at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// The longest body of a frame.
pub(super) const BODY_MAX: u64 = (u32::MAX as u64) & !(ALIGNMENT as u64 - 1);

const SEGMENT_MAGIC: &[u8; 8] = b"ZBWALSEG";
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"ZBfr");

/// The name of a segment's file.
pub(super) fn segment_name(id: SegmentId) -> String {
    format!("segment-{:016}.wal", id.get())
}

/// The segment that a file name stands for, if it stands for one.
pub(super) fn parse_segment_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".wal")?;
    let well_formed = digits.len() >= 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let id = SegmentId::new(digits.parse().ok().filter(|_| well_formed)?);
    (segment_name(id) == name).then_some(id)
}

/// Where a damaged segment goes when it is settled. Until then an empty file there is the mark that it is damaged.
pub(super) fn set_aside_path(segment: &Path) -> PathBuf {
    let mut name = segment.as_os_str().to_owned();
    name.push(SET_ASIDE);
    name.into()
}

/// The segment that a file name is the mark of, or what was set aside of it.
pub(super) fn parse_set_aside_name(name: &str) -> Option<SegmentId> {
    parse_segment_name(name.strip_suffix(SET_ASIDE)?)
}

/// The name of a file that was the segment `id` and waits to be another one.
pub(super) fn spare_name(id: SegmentId) -> String {
    format!("spare-{:016}", id.get())
}

/// Whether a file name is that of a spare.
pub(super) fn is_spare_name(name: &str) -> bool {
    name.strip_prefix("spare-")
        .is_some_and(|digits| digits.len() >= 16 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The beginning of the block that a position is in.
pub(super) fn block_start(position: u64) -> u64 {
    position / BLOCK as u64 * BLOCK as u64
}

/// The end of the block that a position is in; the position itself at the beginning of one.
pub(super) fn block_end(position: u64) -> u64 {
    position.next_multiple_of(BLOCK as u64)
}

/// The checksum of everything in the log.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The block that a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) epoch: Epoch,
    pub(super) id: SegmentId,
    /// The first frame that this segment may hold.
    pub(super) base: Lsn,
    /// The last frame of the log before this segment: frames above it in earlier segments are void.
    pub(super) previous: Lsn,
    pub(super) created_unix_micros: i64,
}

/// Why a block is no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentHeaderFault {
    /// The checksum does not match: torn, or damaged, or of something else.
    Checksum,
    /// A header that is whole, of a format that this build does not know.
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut block = [0; SEGMENT_HEADER];
        put(&mut block, 0, SEGMENT_MAGIC);
        put(&mut block, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut block, 16, &self.epoch.get().to_le_bytes());
        put(&mut block, 24, &self.id.get().to_le_bytes());
        put(&mut block, 32, &self.base.get().to_le_bytes());
        put(&mut block, 40, &self.previous.get().to_le_bytes());
        put(&mut block, 48, &self.created_unix_micros.to_le_bytes());
        let crc = checksum(&block[..SEGMENT_HEADER - 4]);
        put(&mut block, SEGMENT_HEADER - 4, &crc.to_le_bytes());
        block
    }

    /// Magic, version and checksum stand at the same place in every version of the format, so that a
    /// damaged block of ours is never taken for a block of the future, nor the other way round.
    pub(super) fn decode(block: &[u8]) -> Result<SegmentHeader, SegmentHeaderFault> {
        let whole = block.len() == SEGMENT_HEADER
            && block.starts_with(SEGMENT_MAGIC)
            && checksum(&block[..SEGMENT_HEADER - 4]) == u32_at(block, SEGMENT_HEADER - 4);
        if !whole {
            return Err(SegmentHeaderFault::Checksum);
        }
        let version = u32_at(block, 8);
        let reserved_is_zero = u32_at(block, 12) == 0 && is_zero(&block[56..SEGMENT_HEADER - 4]);
        if version != FORMAT_VERSION || !reserved_is_zero {
            return Err(SegmentHeaderFault::Version(version));
        }
        Ok(SegmentHeader {
            epoch: Epoch::new(u64_at(block, 16)),
            id: SegmentId::new(u64_at(block, 24)),
            base: Lsn::new(u64_at(block, 32)),
            previous: Lsn::new(u64_at(block, 40)),
            created_unix_micros: u64_at(block, 48).cast_signed(),
        })
    }

    /// Whether a block that is no whole header can be one of which a crash left a part: the block was
    /// zero before, and a header has bytes at its beginning and its end only.
    pub(super) fn may_be_torn(block: &[u8]) -> bool {
        let end = block.len().min(SEGMENT_HEADER - 4);
        let starts = block.get(..8).is_none_or(|magic| is_zero(magic) || magic == SEGMENT_MAGIC);
        starts && block.get(56..end).is_none_or(is_zero)
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// An Arrow schema, before the first batch of the segment that has it.
    Schema = 1,
    /// A batch.
    Batch = 2,
    /// The end of a sealed segment.
    Footer = 3,
}

/// What stands before the body of a frame.
///
/// Epoch, segment and offset are part of it, so that bytes of another log, of an earlier use of the
/// file, or of a segment that somebody stored *as a batch* are never taken for a frame of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) body_length: u32,
    pub(super) rows: u32,
    pub(super) lsn: Lsn,
    pub(super) epoch: Epoch,
    pub(super) segment: SegmentId,
    /// Where in its segment the frame begins.
    pub(super) offset: u64,
    pub(super) fingerprint: u64,
    pub(super) appended_unix_micros: i64,
    /// Up to where the segment was known to be durable when the frame was written.
    pub(super) durable: u64,
    pub(super) body_checksum: u32,
}

impl FrameHeader {
    pub(super) fn encode(&self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        put(&mut bytes, 0, &FRAME_MAGIC.to_le_bytes());
        bytes[4] = self.kind as u8;
        put(&mut bytes, 8, &self.body_length.to_le_bytes());
        put(&mut bytes, 12, &self.rows.to_le_bytes());
        put(&mut bytes, 16, &self.lsn.get().to_le_bytes());
        put(&mut bytes, 24, &self.epoch.get().to_le_bytes());
        put(&mut bytes, 32, &self.segment.get().to_le_bytes());
        put(&mut bytes, 40, &self.offset.to_le_bytes());
        put(&mut bytes, 48, &self.fingerprint.to_le_bytes());
        put(&mut bytes, 56, &self.appended_unix_micros.to_le_bytes());
        put(&mut bytes, 64, &self.durable.to_le_bytes());
        put(&mut bytes, 72, &self.body_checksum.to_le_bytes());
        let crc = checksum(&bytes[..FRAME_HEADER - 4]);
        put(&mut bytes, FRAME_HEADER - 4, &crc.to_le_bytes());
        bytes
    }

    /// The header in these bytes, or nothing if they are not one that is whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let whole = bytes.len() == FRAME_HEADER
            && u32_at(bytes, 0) == FRAME_MAGIC
            && is_zero(&bytes[5..8])
            && checksum(&bytes[..FRAME_HEADER - 4]) == u32_at(bytes, FRAME_HEADER - 4);
        let kind = match bytes.get(4).filter(|_| whole)? {
            1 => FrameKind::Schema,
            2 => FrameKind::Batch,
            3 => FrameKind::Footer,
            _ => return None,
        };
        Some(FrameHeader {
            kind,
            body_length: u32_at(bytes, 8),
            rows: u32_at(bytes, 12),
            lsn: Lsn::new(u64_at(bytes, 16)),
            epoch: Epoch::new(u64_at(bytes, 24)),
            segment: SegmentId::new(u64_at(bytes, 32)),
            offset: u64_at(bytes, 40),
            fingerprint: u64_at(bytes, 48),
            appended_unix_micros: u64_at(bytes, 56).cast_signed(),
            durable: u64_at(bytes, 64),
            body_checksum: u32_at(bytes, 72),
        })
    }

    /// Whether bytes are no whole header, but were to be the one at `offset` of this segment: torn, or
    /// damaged. What a file holds from an earlier life has another segment number and is whole.
    pub(super) fn is_torn(bytes: &[u8], epoch: Epoch, segment: SegmentId, offset: u64) -> bool {
        if bytes.len() < FRAME_HEADER {
            return !is_zero(bytes);
        }
        let hits = [
            FrameHeader::may_begin(bytes),
            u64_at(bytes, 24) == epoch.get(),
            u64_at(bytes, 32) == segment.get(),
            u64_at(bytes, 40) == offset,
        ];
        FrameHeader::decode(&bytes[..FRAME_HEADER]).is_none()
            && hits.into_iter().filter(|hit| *hit).count() >= 2
    }

    /// Whether bytes can begin a frame header at all; a search asks this first.
    pub(super) fn may_begin(bytes: &[u8]) -> bool {
        bytes.starts_with(&FRAME_MAGIC.to_le_bytes())
    }

    /// Where the body begins.
    pub(super) fn body_offset(&self) -> u64 {
        self.offset + FRAME_HEADER as u64
    }

    /// Where the frame ends.
    pub(super) fn end(&self) -> u64 {
        self.body_offset() + u64::from(self.body_length)
    }
}

/// What is known about the batches of a segment; the body of its footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    /// How many batches.
    pub(super) frames: u64,
    /// How many rows they have.
    pub(super) rows: u64,
    /// How long their frames are.
    pub(super) bytes: u64,
    /// The first batch; without any, the one that would come first.
    pub(super) first: Lsn,
    /// The last batch; without any, the one before the first.
    pub(super) last: Lsn,
    /// When the first was appended.
    pub(super) first_unix_micros: i64,
    /// When the last was appended.
    pub(super) last_unix_micros: i64,
    /// Checksum of the body checksums.
    pub(super) digest: u32,
}

impl Totals {
    /// Nothing yet; `base` would be the first batch.
    pub(super) fn none(base: Lsn) -> Totals {
        Totals {
            frames: 0,
            rows: 0,
            bytes: 0,
            first: base,
            last: base.previous(),
            first_unix_micros: 0,
            last_unix_micros: 0,
            digest: 0,
        }
    }

    /// Adds a batch.
    pub(super) fn add(&mut self, header: &FrameHeader) {
        if self.frames == 0 {
            self.first = header.lsn;
            self.first_unix_micros = header.appended_unix_micros;
        }
        self.frames += 1;
        self.rows += u64::from(header.rows);
        self.bytes += header.end() - header.offset;
        self.last = header.lsn;
        self.last_unix_micros = header.appended_unix_micros;
        let mut digest = crc32fast::Hasher::new_with_initial(self.digest);
        digest.update(&header.body_checksum.to_le_bytes());
        self.digest = digest.finalize();
    }
}

/// The block that a sealed segment ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) epoch: Epoch,
    pub(super) segment: SegmentId,
    /// Where in the file it stands.
    pub(super) offset: u64,
    pub(super) totals: Totals,
    /// Where the last frame ends. What lies between it and the footer means nothing.
    pub(super) end: u64,
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER] {
        let Totals { frames, rows, bytes, first, last, first_unix_micros, last_unix_micros, digest } =
            self.totals;
        let mut body = [0; FOOTER_BODY];
        put(&mut body, 0, &frames.to_le_bytes());
        put(&mut body, 8, &rows.to_le_bytes());
        put(&mut body, 16, &bytes.to_le_bytes());
        put(&mut body, 24, &first.get().to_le_bytes());
        put(&mut body, 32, &last.get().to_le_bytes());
        put(&mut body, 40, &first_unix_micros.to_le_bytes());
        put(&mut body, 48, &last_unix_micros.to_le_bytes());
        put(&mut body, 56, &digest.to_le_bytes());
        put(&mut body, 64, &self.end.to_le_bytes());
        let header = FrameHeader {
            kind: FrameKind::Footer,
            body_length: FOOTER_BODY as u32,
            rows: 0,
            lsn: last,
            epoch: self.epoch,
            segment: self.segment,
            offset: self.offset,
            fingerprint: 0,
            appended_unix_micros: last_unix_micros,
            durable: self.end,
            body_checksum: checksum(&body),
        };
        let mut block = [0; FOOTER];
        put(&mut block, 0, &header.encode());
        put(&mut block, FRAME_HEADER, &body);
        block
    }

    /// The footer in a block, if it is a whole one.
    pub(super) fn decode(block: &[u8]) -> Option<Footer> {
        let header = FrameHeader::decode(block.get(..FRAME_HEADER)?)?;
        let (body, rest) = block.get(FRAME_HEADER..FOOTER)?.split_at(FOOTER_BODY);
        let whole = header.kind == FrameKind::Footer
            && header.body_length as usize == FOOTER_BODY
            && header.body_checksum == checksum(body)
            && is_zero(&body[60..64])
            && is_zero(rest);
        let totals = Totals {
            frames: u64_at(body, 0),
            rows: u64_at(body, 8),
            bytes: u64_at(body, 16),
            first: Lsn::new(u64_at(body, 24)),
            last: Lsn::new(u64_at(body, 32)),
            first_unix_micros: u64_at(body, 40).cast_signed(),
            last_unix_micros: u64_at(body, 48).cast_signed(),
            digest: u32_at(body, 56),
        };
        let end = u64_at(body, 64);
        let span = totals.last.next().get().checked_sub(totals.first.get())?;
        let sensible = totals.frames <= span && (SEGMENT_HEADER as u64..=header.offset).contains(&end);
        (whole && sensible).then_some(Footer {
            epoch: header.epoch,
            segment: header.segment,
            offset: header.offset,
            totals,
            end,
        })
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Batch,
            body_length: 512,
            rows: 10,
            lsn: Lsn::new(77),
            epoch: Epoch::new(0xfeed_beef),
            segment: SegmentId::new(3),
            offset: 4096,
            fingerprint: 0x1234_5678_9abc_def0,
            appended_unix_micros: -5,
            durable: 4096,
            body_checksum: 0xdead_beef,
        }
    }

    fn segment_header() -> SegmentHeader {
        SegmentHeader {
            epoch: Epoch::new(9),
            id: SegmentId::new(4),
            base: Lsn::new(101),
            previous: Lsn::new(99),
            created_unix_micros: 1_700_000_000_000_000,
        }
    }

    fn footer(totals: Totals) -> Footer {
        Footer { epoch: Epoch::new(1), segment: SegmentId::new(2), offset: 8192, totals, end: 4688 }
    }

    #[test]
    fn headers_and_footers_survive_their_bytes() {
        let frame = frame_header();
        assert_eq!(FrameHeader::decode(&frame.encode()), Some(frame));
        let segment = segment_header();
        assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        let mut totals = Totals::none(Lsn::new(77));
        totals.add(&frame);
        let footer = footer(totals);
        assert_eq!(Footer::decode(&footer.encode()), Some(footer));
    }

    #[test]
    fn no_header_with_one_bit_changed_is_accepted() {
        let frame = frame_header().encode();
        for bit in 0..frame.len() * 8 {
            let mut changed = frame;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&changed), None, "bit {bit}");
        }
        let segment = segment_header().encode();
        for bit in 0..segment.len() * 8 {
            let mut changed = segment;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&changed), Err(SegmentHeaderFault::Checksum), "bit {bit}");
        }
        let footer = footer(Totals::none(Lsn::new(5))).encode();
        for bit in 0..footer.len() * 8 {
            let mut changed = footer;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Footer::decode(&changed), None, "bit {bit}");
        }
    }

    #[test]
    fn a_header_with_one_bit_changed_is_torn_and_one_of_an_earlier_life_is_not() {
        let header = frame_header();
        let is_torn = |bytes: &[u8]| FrameHeader::is_torn(bytes, header.epoch, header.segment, header.offset);
        for bit in 0..FRAME_HEADER * 8 {
            let mut changed = header.encode();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(is_torn(&changed), "bit {bit}");
        }
        assert!(!is_torn(&FrameHeader { segment: SegmentId::new(2), ..header }.encode()));
        assert!(!is_torn(&[0; FRAME_HEADER]) && !is_torn(&[0xff; FRAME_HEADER]));
    }

    #[test]
    fn a_whole_header_of_another_version_is_told_from_a_damaged_one() {
        let mut block = segment_header().encode();
        block[8] = 2;
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentHeaderFault::Checksum));
        let crc = checksum(&block[..SEGMENT_HEADER - 4]);
        put(&mut block, SEGMENT_HEADER - 4, &crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentHeaderFault::Version(2)));
    }

    #[test]
    fn only_the_exact_name_is_a_segment() {
        let id = SegmentId::new(42);
        assert_eq!(segment_name(id), "segment-0000000000000042.wal");
        assert_eq!(parse_segment_name(&segment_name(id)), Some(id));
        let last = SegmentId::new(u64::MAX);
        assert_eq!(parse_segment_name(&segment_name(last)), Some(last));
        for name in [
            "segment-42.wal",
            "segment-0000000000000042.wal.damaged",
            "segment-00000000000000042.wal",
            "segment-000000000000004x.wal",
            "segment-99999999999999999999999.wal",
            "LOG",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
