//! What stands in one segment file: header, footer and every frame, whole or not.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::InspectError;
use crate::io::Env;
use crate::types::{Epoch, Lsn, SegmentId};
use crate::wal::{Bodies, FramePiece, Head, LogView, Piece, PieceKind, SegmentLook};

/// A segment file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its number.
    pub segment: SegmentId,
    /// The log that it belongs to.
    pub epoch: Epoch,
    /// What it is.
    pub state: SegmentState,
    /// What it begins with.
    pub header: HeaderReport,
    /// What it ends with, if it is sealed.
    pub footer: Option<FooterReport>,
    /// The batches whose checksums match, how many rows they have, and how many bytes.
    pub frames: u64,
    /// Their rows.
    pub rows: u64,
    /// Everything in it, in its order.
    pub pieces: Vec<PieceReport>,
    /// Whether something in it does not match its checksum, or is no frame where one should be.
    pub is_damaged: bool,
}

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// It ends in a footer, and nothing is written to it any more.
    Sealed,
    /// It has no footer: it is written now, or its writer died.
    Open,
}

/// The block that a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderReport {
    /// Whether it matches its checksum.
    pub state: HeaderState,
    /// The first batch that the segment may hold.
    pub base_lsn: Option<Lsn>,
    /// The last batch of the log before it.
    pub previous_lsn: Option<Lsn>,
    /// When it was made.
    pub created_unix_micros: Option<i64>,
}

/// What became of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderState {
    /// It is whole.
    Whole,
    /// It was never written in full: a crash came while the segment was made.
    Unwritten,
    /// It does not match its checksum.
    Damaged,
}

/// The block that a sealed segment ends with, which matches its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FooterReport {
    /// Batches.
    pub frames: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes of their frames.
    pub frame_bytes: u64,
    /// The first batch.
    pub first_lsn: Lsn,
    /// The last batch.
    pub last_lsn: Lsn,
    /// When the first was appended.
    pub first_unix_micros: i64,
    /// When the last was appended.
    pub last_unix_micros: i64,
    /// Where the last frame ends.
    pub end: u64,
}

/// One thing in a segment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PieceReport {
    /// An Arrow schema, for the batches behind it.
    Schema {
        /// Where it begins.
        offset: u64,
        /// How long it is, with its header.
        bytes: u64,
        /// What it is named by.
        fingerprint: String,
        /// Whether it matches its checksum and is a schema.
        checksum_ok: bool,
    },
    /// A batch.
    Batch {
        /// Its number.
        lsn: Lsn,
        /// Where it begins.
        offset: u64,
        /// How long it is, with its header.
        bytes: u64,
        /// Its rows.
        rows: u32,
        /// Its schema.
        fingerprint: String,
        /// When it was appended.
        appended_unix_micros: i64,
        /// Whether it matches its checksum.
        checksum_ok: bool,
        /// Whether it does not count: its write failed, and a later segment gave its number again.
        is_void: bool,
    },
    /// The end of a sealed segment, found before the end of the file.
    Footer {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// Whether it matches its checksum.
        checksum_ok: bool,
    },
    /// Bytes that are no frame, with frames behind them.
    Unreadable {
        /// Where they begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
        /// Whether all of them are zero.
        is_zero: bool,
    },
    /// The beginning of an append that was never finished, or is being written now.
    Torn {
        /// Where it begins.
        offset: u64,
        /// How many bytes are known of it.
        bytes: u64,
    },
}

/// Reads a segment file, frame by frame, and compares every checksum.
///
/// # Errors
///
/// [`InspectError`] if the file cannot be read, or nothing says which segment of which log it is.
pub fn inspect_segment(path: &Path) -> Result<SegmentReport, InspectError> {
    let env = Env::os();
    if path.is_dir() {
        return Err(InspectError::NoSegment { path: path.to_owned() });
    }
    let look = SegmentLook::open(&env, path).map_err(InspectError::file(path))?;
    if let Head::Version(version) = look.head {
        return Err(InspectError::OtherVersion { path: path.to_owned(), version });
    }
    let log = path.parent().and_then(|directory| LogView::read(&env, directory).ok());
    let epoch = look.epoch().or_else(|| log.as_ref().map(LogView::epoch));
    let (Some(epoch), Some(segment)) = (epoch, look.segment()) else {
        return Err(InspectError::NoSegment { path: path.to_owned() });
    };
    let limit = log.map_or(Lsn::new(u64::MAX), |log| limit_of(&env, &log, segment));
    let mut read = look.pieces(epoch, segment, Bodies::Checked);
    let (mut pieces, mut frames, mut rows) = (Vec::new(), 0, 0);
    while let Some(piece) = read.next().map_err(InspectError::file(path))? {
        if let Piece::Frame(FramePiece { kind: PieceKind::Batch, is_whole: true, lsn, rows: of_it, .. }) =
            piece
            && lsn <= limit
        {
            frames += 1;
            rows += u64::from(of_it);
        }
        pieces.push(report_of(&piece, limit));
    }
    let footer = look.foot.map(|foot| FooterReport {
        frames: foot.frames,
        rows: foot.rows,
        frame_bytes: foot.frame_bytes,
        first_lsn: foot.first,
        last_lsn: foot.last,
        first_unix_micros: foot.first_unix_micros,
        last_unix_micros: foot.last_unix_micros,
        end: foot.end,
    });
    let header = header_of(look.head);
    let has_bad_piece = pieces.iter().any(|piece| match piece {
        PieceReport::Schema { checksum_ok, .. }
        | PieceReport::Batch { checksum_ok, .. }
        | PieceReport::Footer { checksum_ok, .. } => !checksum_ok,
        PieceReport::Unreadable { .. } => true,
        // In a sealed segment nothing is half-written.
        PieceReport::Torn { .. } => footer.is_some(),
    });
    let differs = footer.is_some_and(|footer| (footer.frames, footer.rows) != (frames, rows));
    Ok(SegmentReport {
        path: path.to_owned(),
        bytes: look.length,
        segment,
        epoch,
        state: if footer.is_some() { SegmentState::Sealed } else { SegmentState::Open },
        is_damaged: has_bad_piece || differs || header.state == HeaderState::Damaged,
        header,
        footer,
        frames,
        rows,
        pieces,
    })
}

/// The last batch that may stand in a segment, as those behind it say.
fn limit_of(env: &Env, log: &LogView, segment: SegmentId) -> Lsn {
    let behind = log.places().into_iter().filter(|place| place.segment > segment);
    let previous = behind.filter_map(|place| match SegmentLook::open(env, &place.path).ok()?.head {
        Head::Whole { previous, .. } => Some(previous),
        _ => None,
    });
    previous.min().unwrap_or(Lsn::new(u64::MAX))
}

fn header_of(head: Head) -> HeaderReport {
    let none = HeaderReport {
        state: HeaderState::Damaged,
        base_lsn: None,
        previous_lsn: None,
        created_unix_micros: None,
    };
    match head {
        Head::Whole { base, previous, created_unix_micros, .. } => HeaderReport {
            state: HeaderState::Whole,
            base_lsn: Some(base),
            previous_lsn: Some(previous),
            created_unix_micros: Some(created_unix_micros),
        },
        Head::Unwritten => HeaderReport { state: HeaderState::Unwritten, ..none },
        Head::Damaged | Head::Version(_) => none,
    }
}

fn report_of(piece: &Piece, limit: Lsn) -> PieceReport {
    match *piece {
        Piece::Bad { offset, bytes, is_zero } => PieceReport::Unreadable { offset, bytes, is_zero },
        Piece::Torn { offset, bytes } => PieceReport::Torn { offset, bytes },
        Piece::Frame(frame) => {
            let FramePiece { offset, bytes, is_whole: checksum_ok, .. } = frame;
            match frame.kind {
                PieceKind::Schema => PieceReport::Schema {
                    offset,
                    bytes,
                    fingerprint: frame.fingerprint.to_string(),
                    checksum_ok,
                },
                PieceKind::Batch => PieceReport::Batch {
                    lsn: frame.lsn,
                    offset,
                    bytes,
                    rows: frame.rows,
                    fingerprint: frame.fingerprint.to_string(),
                    appended_unix_micros: frame.appended_unix_micros,
                    checksum_ok,
                    is_void: frame.lsn > limit,
                },
                PieceKind::Footer => PieceReport::Footer { offset, bytes, checksum_ok },
            }
        }
    }
}
