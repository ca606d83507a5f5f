//! What stands on disk, byte by byte: the only file that knows magic numbers, widths and names.
//!
//! `docs/internals/file-format.md` draws it. All numbers are little-endian; reserved bytes are
//! written as zero and checked; every structure has a checksum of its own.

use crate::types::{Epoch, Lsn, SegmentId};

/// The version that this build writes, and the only one that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// The file that says whose log this is.
pub(super) const IDENTITY_FILE: &str = "LOG";
/// Where the next identity file is written before it takes its name.
pub(super) const IDENTITY_FILE_NEW: &str = "LOG.new";
/// The file that the owner holds locked; it is never deleted.
pub(super) const LOCK_FILE: &str = "LOCK";
/// What a damaged segment's name is given when it is set aside.
pub(super) const SET_ASIDE: &str = ".damaged";

/// Bytes of the block that a segment begins with.
pub(super) const SEGMENT_HEADER: usize = 4096;
/// Bytes before the body of a frame.
pub(super) const FRAME_HEADER: usize = 80;
/// Bytes of the body of a footer.
const FOOTER_BODY: usize = 64;
/// Bytes of the frame that a sealed segment ends with.
pub(super) const FOOTER: usize = FRAME_HEADER + FOOTER_BODY;
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

    /// The frame that seals a segment at `offset`.
    pub(super) fn encode_footer(
        &self,
        epoch: Epoch,
        segment: SegmentId,
        offset: u64,
        durable: u64,
    ) -> [u8; FOOTER] {
        let mut body = [0; FOOTER_BODY];
        put(&mut body, 0, &self.frames.to_le_bytes());
        put(&mut body, 8, &self.rows.to_le_bytes());
        put(&mut body, 16, &self.bytes.to_le_bytes());
        put(&mut body, 24, &self.first.get().to_le_bytes());
        put(&mut body, 32, &self.last.get().to_le_bytes());
        put(&mut body, 40, &self.first_unix_micros.to_le_bytes());
        put(&mut body, 48, &self.last_unix_micros.to_le_bytes());
        put(&mut body, 56, &self.digest.to_le_bytes());
        let header = FrameHeader {
            kind: FrameKind::Footer,
            body_length: FOOTER_BODY as u32,
            rows: 0,
            lsn: self.last,
            epoch,
            segment,
            offset,
            fingerprint: 0,
            appended_unix_micros: self.last_unix_micros,
            durable,
            body_checksum: checksum(&body),
        };
        let mut footer = [0; FOOTER];
        put(&mut footer, 0, &header.encode());
        put(&mut footer, FRAME_HEADER, &body);
        footer
    }

    /// The totals in a footer's body, whose checksum the caller has compared.
    pub(super) fn decode_footer(body: &[u8]) -> Option<Totals> {
        if body.len() != FOOTER_BODY || !is_zero(&body[60..]) {
            return None;
        }
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
        let span = totals.last.next().get().checked_sub(totals.first.get())?;
        (totals.frames <= span).then_some(totals)
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

    #[test]
    fn headers_and_footers_survive_their_bytes() {
        let frame = frame_header();
        assert_eq!(FrameHeader::decode(&frame.encode()), Some(frame));
        let segment = segment_header();
        assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        let mut totals = Totals::none(Lsn::new(77));
        totals.add(&frame);
        let footer = totals.encode_footer(Epoch::new(1), SegmentId::new(2), 8192, 4096);
        let header = FrameHeader::decode(&footer[..FRAME_HEADER]).unwrap();
        assert_eq!((header.kind, header.end()), (FrameKind::Footer, 8192 + FOOTER as u64));
        assert_eq!(checksum(&footer[FRAME_HEADER..]), header.body_checksum);
        assert_eq!(Totals::decode_footer(&footer[FRAME_HEADER..]), Some(totals));
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
