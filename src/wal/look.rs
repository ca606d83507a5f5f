//! What stands in one segment file, piece by piece, whole or not: for people who look at it. Nothing is decided here about
//! what the log makes of it; `recovery` and `scan` do that.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_schema::SchemaRef;

use super::{
    Frame, SchemaFingerprint,
    format::{
        self, FOOTER, Footer, FrameHeader, FrameKind, SEGMENT_HEADER, SegmentHeader, SegmentHeaderFault,
    },
    frame::decode_schema,
    walk::{Step, Walk},
};
use crate::{
    io::{Access, Env, StorageFile},
    types::{Epoch, Lsn, SegmentId},
};

/// A segment file whose two ends were read.
#[derive(Debug)]
pub(crate) struct SegmentLook {
    file: Arc<dyn StorageFile>,
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    pub(crate) head: Head,
    pub(crate) foot: Option<Foot>,
}

/// What the first block of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A whole header.
    Whole { epoch: Epoch, segment: SegmentId, base: Lsn, previous: Lsn, created_unix_micros: i64 },
    /// None, as a crash leaves it that came while the segment was made.
    Unwritten,
    /// Something else.
    Damaged,
    /// A whole header of a format that this build does not know.
    Version(u32),
}

/// What the footer of a sealed segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foot {
    pub(crate) epoch: Epoch,
    pub(crate) segment: SegmentId,
    pub(crate) frames: u64,
    pub(crate) rows: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    pub(crate) first_unix_micros: i64,
    pub(crate) last_unix_micros: i64,
    /// Where the last frame ends.
    pub(crate) end: u64,
}

/// One thing in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A frame whose header is whole.
    Frame(FramePiece),
    /// Bytes that are no frame, with a frame behind them.
    Bad { offset: u64, bytes: u64, is_zero: bool },
    /// Bytes behind the last frame that begin with what was to be one.
    Torn { offset: u64, bytes: u64 },
}

/// A frame whose header is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramePiece {
    pub(crate) kind: PieceKind,
    /// The number of a batch.
    pub(crate) lsn: Lsn,
    pub(crate) offset: u64,
    /// With its header.
    pub(crate) bytes: u64,
    pub(crate) rows: u32,
    pub(crate) fingerprint: SchemaFingerprint,
    pub(crate) appended_unix_micros: i64,
    /// Up to where the segment was known to be durable when the frame was written.
    pub(crate) durable: u64,
    pub(crate) body_checksum: u32,
    /// Whether the body matches its checksum; true too where nobody wanted to know.
    pub(crate) is_whole: bool,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Schema,
    Batch,
    Footer,
}

/// Whether bodies of batches are compared with their checksums, which reads all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bodies {
    Checked,
    Unread,
}

impl SegmentLook {
    /// Reads both ends of a file.
    ///
    /// # Errors
    ///
    /// When the file system fails.
    pub(crate) fn open(env: &Env, path: &Path) -> io::Result<SegmentLook> {
        let file = env.storage.open(path, Access::Read)?;
        let length = file.length()?;
        let mut block = vec![0; SEGMENT_HEADER];
        let count = file.read_at(&mut block, 0)?;
        let block = &block[..count];
        let head = match SegmentHeader::decode(block) {
            Ok(SegmentHeader { epoch, id, base, previous, created_unix_micros }) => {
                Head::Whole { epoch, segment: id, base, previous, created_unix_micros }
            }
            Err(SegmentHeaderFault::Version(version)) => Head::Version(version),
            Err(SegmentHeaderFault::Checksum) if SegmentHeader::may_be_torn(block) => Head::Unwritten,
            Err(SegmentHeaderFault::Checksum) => Head::Damaged,
        };
        let foot = read_foot(&*file, length)?;
        Ok(SegmentLook { file, path: path.to_owned(), length, head, foot })
    }

    /// The segment that the file is or, where its header is lost, that it is named after.
    pub(crate) fn segment(&self) -> Option<SegmentId> {
        match self.head {
            Head::Whole { segment, .. } => Some(segment),
            _ => self.foot.map(|foot| foot.segment).or_else(|| segment_of(&self.path)),
        }
    }

    /// The log that the file says it belongs to.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        match self.head {
            Head::Whole { epoch, .. } => Some(epoch),
            _ => self.foot.map(|foot| foot.epoch),
        }
    }

    /// What stands in it, from its beginning, for a segment of this log.
    pub(crate) fn pieces(&self, epoch: Epoch, segment: SegmentId, bodies: Bodies) -> Pieces {
        // What lies between the last frame and the footer means nothing.
        let end = self.foot.map_or(self.length, |foot| foot.end);
        let walk = Walk::new(Arc::clone(&self.file), epoch, segment, end);
        Pieces { walk, bodies, schemas: HashMap::new(), shown: None, is_over: false }
    }
}

/// The segment that a file is named after, set aside or not.
fn segment_of(path: &Path) -> Option<SegmentId> {
    let name = path.file_name()?.to_str()?;
    format::parse_segment_name(name).or_else(|| format::parse_set_aside_name(name))
}

/// Whether a file is a segment that had damage and was set aside.
pub(crate) fn is_set_aside(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(format::parse_set_aside_name).is_some()
}

fn read_foot(file: &dyn StorageFile, length: u64) -> io::Result<Option<Foot>> {
    let Some(offset) = length.checked_sub(FOOTER as u64) else { return Ok(None) };
    let mut block = vec![0; FOOTER];
    if file.read_at(&mut block, offset)? < FOOTER {
        return Ok(None);
    }
    let footer = Footer::decode(&block).filter(|footer| footer.offset == offset);
    Ok(footer.map(|Footer { epoch, segment, totals, end, .. }| Foot {
        epoch,
        segment,
        frames: totals.frames,
        rows: totals.rows,
        frame_bytes: totals.bytes,
        first: totals.first,
        last: totals.last,
        first_unix_micros: totals.first_unix_micros,
        last_unix_micros: totals.last_unix_micros,
        end,
    }))
}

/// The pieces of a segment, in their order.
#[derive(Debug)]
pub(crate) struct Pieces {
    walk: Walk,
    bodies: Bodies,
    schemas: HashMap<SchemaFingerprint, SchemaRef>,
    shown: Option<FrameHeader>,
    is_over: bool,
}

impl Pieces {
    /// The next one; none at the end.
    ///
    /// # Errors
    ///
    /// When the file system fails.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        self.shown = None;
        if self.is_over {
            return Ok(None);
        }
        match self.walk.step()? {
            Step::Frame(header) => self.frame_piece(&header).map(Some),
            Step::Bad(stretch) => {
                self.walk.go_to(stretch.end);
                let bytes = stretch.length();
                Ok(Some(Piece::Bad { offset: stretch.start, bytes, is_zero: stretch.is_zero }))
            }
            Step::Tail { stretch, torn_end } => {
                self.is_over = true;
                let torn = torn_end.map(|end| end - stretch.start);
                Ok(torn.map(|bytes| Piece::Torn { offset: stretch.start, bytes }))
            }
            Step::End => {
                self.is_over = true;
                Ok(None)
            }
        }
    }

    fn frame_piece(&mut self, header: &FrameHeader) -> io::Result<Piece> {
        let fingerprint = SchemaFingerprint(header.fingerprint);
        let (kind, is_whole) = match header.kind {
            FrameKind::Schema => {
                let body = self.walk.body(header)?;
                let schema = body.and_then(|body| decode_schema(fingerprint, body).ok());
                let is_whole = schema.is_some();
                self.schemas.extend(schema.map(|schema| (fingerprint, schema)));
                (PieceKind::Schema, is_whole)
            }
            FrameKind::Batch => {
                let is_whole = self.bodies == Bodies::Unread || self.walk.body_is_whole(header)?;
                (PieceKind::Batch, is_whole)
            }
            FrameKind::Footer => {
                self.is_over = true;
                (PieceKind::Footer, self.walk.body_is_whole(header)?)
            }
        };
        self.walk.pass(header);
        self.shown = Some(*header);
        Ok(Piece::Frame(FramePiece {
            kind,
            lsn: header.lsn,
            offset: header.offset,
            bytes: header.end() - header.offset,
            rows: header.rows,
            fingerprint,
            appended_unix_micros: header.appended_unix_micros,
            durable: header.durable,
            body_checksum: header.body_checksum,
            is_whole,
        }))
    }

    /// Whether the body of the frame that was shown last matches its checksum.
    ///
    /// # Errors
    ///
    /// When the file system fails.
    pub(crate) fn is_whole(&mut self) -> io::Result<bool> {
        self.shown.map_or(Ok(false), |header| self.walk.body_is_whole(&header))
    }

    /// The batch that was shown last, with the schema that stood before it or that is given; none if its body or its
    /// schema is not there.
    ///
    /// # Errors
    ///
    /// When the file system fails.
    pub(crate) fn frame(&mut self, elsewhere: Option<&Pieces>) -> io::Result<Option<Frame>> {
        let Some(header) = self.shown.filter(|header| header.kind == FrameKind::Batch) else {
            return Ok(None);
        };
        let fingerprint = SchemaFingerprint(header.fingerprint);
        let of = |pieces: &Pieces| pieces.schemas.get(&fingerprint).cloned();
        let Some(schema) = of(self).or_else(|| elsewhere.and_then(of)) else { return Ok(None) };
        Ok(self.walk.body(&header)?.map(|body| Frame::new(&header, schema, body)))
    }

    /// The schema with this fingerprint, if it was passed and is whole.
    pub(crate) fn schema(&self, fingerprint: SchemaFingerprint) -> Option<&SchemaRef> {
        self.schemas.get(&fingerprint)
    }
}
