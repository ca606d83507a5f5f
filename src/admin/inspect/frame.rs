//! One frame: its header, its rows, and what became of them.

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use serde::Serialize;

use super::{InspectError, Run};
use crate::io::Env;
use crate::ledger::{self, Dropped, Ranges, Settled};
use crate::quarantine;
use crate::types::Lsn;
use crate::wal::{
    Bodies, Damage, DamageReason, Frame, LogView, Piece, PieceKind, Pieces, SegmentLook, SegmentPlace,
};

/// A frame and its batch.
#[derive(Clone, Debug)]
pub struct InspectedFrame {
    /// What is known of it.
    pub report: FrameReport,
    /// All of its rows.
    pub batch: RecordBatch,
}

/// What is known of a frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameReport {
    /// The writer directory.
    pub directory: PathBuf,
    /// The segment.
    pub segment: PathBuf,
    /// Where in it the frame begins.
    pub offset: u64,
    /// How long it is, with its header.
    pub bytes: u64,
    /// Its number.
    pub lsn: Lsn,
    /// Its rows.
    pub rows: u32,
    /// When it was appended.
    pub appended_unix_micros: i64,
    /// What its schema is named by.
    pub fingerprint: String,
    /// The columns of its schema.
    pub columns: Vec<Column>,
    /// What became of it.
    pub state: FrameState,
    /// Rows that are settled, from 0 on.
    pub settled_rows: Vec<Run>,
    /// Rows that are in quarantine; they are settled too.
    pub quarantined_rows: Vec<Run>,
}

/// A column of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    pub arrow_type: String,
    /// Whether it may have nulls.
    pub nullable: bool,
}

impl Column {
    pub(super) fn of_schema(schema: &Schema) -> Vec<Column> {
        let columns = schema.fields().iter().map(|field| Column {
            name: field.name().clone(),
            arrow_type: field.data_type().to_string(),
            nullable: field.is_nullable(),
        });
        columns.collect()
    }
}

/// What became of a frame, as the ledger says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameState {
    /// None of its rows is settled.
    Waiting,
    /// Some of its rows are settled.
    Partly,
    /// All of its rows are settled, and not all are in quarantine: it is kept for replay, or not freed yet.
    Delivered,
    /// All of its rows are in quarantine.
    Quarantined,
    /// It lies in a stretch that was dropped because the log was full.
    Dropped,
}

impl FrameState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            FrameState::Waiting => "waiting",
            FrameState::Partly => "partly",
            FrameState::Delivered => "delivered",
            FrameState::Quarantined => "quarantined",
            FrameState::Dropped => "dropped",
        }
    }
}

/// Reads a frame of the log in a writer directory.
///
/// # Errors
///
/// [`InspectError`] if the log cannot be read, the frame is not there, or it is damaged.
pub fn inspect_frame(directory: &Path, lsn: Lsn) -> Result<InspectedFrame, InspectError> {
    let env = Env::os();
    let view = LogView::read(&env, directory).map_err(InspectError::log(directory))?;
    let contents = ledger::peek(directory, view.epoch()).map_err(InspectError::ledger(directory))?;
    let (place, offset, frame) = find(&env, &view, directory, lsn)?;
    let batch = frame.decode()?;
    let (record, ranges) = contents.record.unwrap_or_default();
    let in_quarantine = quarantine::rows_in_quarantine(&env, directory, view.epoch(), lsn);
    let fate = Fate::of(lsn, frame.rows, record.settled, &ranges, &record.dropped, &in_quarantine);
    let report = FrameReport {
        directory: directory.to_owned(),
        segment: place.path,
        offset,
        bytes: frame.frame_bytes(),
        lsn,
        rows: frame.rows,
        appended_unix_micros: frame.appended_unix_micros,
        fingerprint: frame.fingerprint.to_string(),
        columns: Column::of_schema(&frame.schema),
        state: fate.state,
        settled_rows: fate.settled_rows,
        quarantined_rows: fate.quarantined_rows,
    };
    Ok(InspectedFrame { report, batch })
}

fn find(
    env: &Env,
    view: &LogView,
    directory: &Path,
    lsn: Lsn,
) -> Result<(SegmentPlace, u64, Frame), InspectError> {
    let places = view.places();
    let first = places.iter().find_map(|place| place.lsns).map(|(first, _)| first);
    let held = first.map(|first| (first, view.last()));
    let absent = || InspectError::NoFrame { lsn, directory: directory.to_owned(), lsns: held };
    if !held.is_some_and(|(first, last)| (first..=last).contains(&lsn)) {
        return Err(absent());
    }
    let is_there =
        |place: &&SegmentPlace| place.lsns.is_some_and(|(first, last)| (first..=last).contains(&lsn));
    let lost = |segment: &Path, offset, bytes, reason| InspectError::Damaged {
        damage: Damage { segment: segment.to_owned(), offset, bytes, lsns: Some(lsn..=lsn), reason },
    };
    let Some(place) = places.iter().find(is_there) else {
        return Err(lost(directory, 0, 0, DamageReason::Missing));
    };
    let failed = InspectError::file(&place.path);
    let mut read = match read_until(env, view, place, lsn) {
        Err(error) => return Err(failed(error)),
        Ok(None) => return Err(lost(&place.path, 0, 0, DamageReason::Missing)),
        Ok(Some(read)) => read,
    };
    let offset = read.offset;
    if !read.is_whole {
        return Err(lost(&place.path, offset, read.bytes, DamageReason::Body));
    }
    if let Some(frame) = read.pieces.frame(None).map_err(InspectError::file(&place.path))? {
        return Ok((place.clone(), offset, frame));
    }
    // Other segments have the schema too, as a rule.
    for other in places.iter().filter(|other| other.segment != place.segment) {
        let Ok(Some(elsewhere)) = read_until(env, view, other, Lsn::new(u64::MAX)) else { continue };
        if let Ok(Some(frame)) = read.pieces.frame(Some(&elsewhere.pieces)) {
            return Ok((place.clone(), offset, frame));
        }
    }
    Err(lost(&place.path, offset, read.bytes, DamageReason::Schema))
}

/// A segment that was read up to a batch.
struct Read {
    pieces: Pieces,
    offset: u64,
    bytes: u64,
    is_whole: bool,
}

/// Reads a segment up to a batch, or for its schemas up to its end.
fn read_until(env: &Env, view: &LogView, place: &SegmentPlace, lsn: Lsn) -> std::io::Result<Option<Read>> {
    let look = SegmentLook::open(env, &place.path)?;
    let mut pieces = look.pieces(view.epoch(), place.segment, Bodies::Unread);
    while let Some(piece) = pieces.next()? {
        if let Piece::Frame(frame) = piece
            && (frame.kind, frame.lsn) == (PieceKind::Batch, lsn)
        {
            let is_whole = pieces.is_whole()?;
            return Ok(Some(Read { pieces, offset: frame.offset, bytes: frame.bytes, is_whole }));
        }
    }
    let for_schemas = lsn == Lsn::new(u64::MAX);
    Ok(for_schemas.then_some(Read { pieces, offset: 0, bytes: 0, is_whole: true }))
}

/// What became of the rows of a frame.
#[derive(Debug, PartialEq)]
struct Fate {
    state: FrameState,
    settled_rows: Vec<Run>,
    quarantined_rows: Vec<Run>,
}

impl Fate {
    fn of(
        lsn: Lsn,
        rows: u32,
        settled: Settled,
        ranges: &Ranges,
        dropped: &Dropped,
        in_quarantine: &quarantine::Rows,
    ) -> Fate {
        let all = 0..rows;
        let settled_rows = match () {
            () if lsn <= settled.through => vec![all],
            () if lsn == settled.through.next() && settled.rows_of_next > 0 => {
                let beginning = 0..settled.rows_of_next.min(rows);
                std::iter::once(beginning).chain(ranges.rows_of(lsn, rows)).collect()
            }
            () => ranges.rows_of(lsn, rows),
        };
        let quarantined: Vec<u32> = in_quarantine.iter().take_while(|row| *row < rows).collect();
        let mut quarantined_rows = Vec::new();
        quarantined.iter().for_each(|row| Run::extend(&mut quarantined_rows, (*row).into()));
        let is_settled = |row: &u32| {
            settled_rows.iter().any(|run| run.contains(row)) || quarantined.binary_search(row).is_ok()
        };
        let settled_count = (0..rows).filter(is_settled).count();
        let is_dropped = lsn <= settled.through && dropped.find(lsn).is_some_and(|range| range.is_whole);
        let state = match settled_count {
            _ if is_dropped => FrameState::Dropped,
            count if count == rows as usize && quarantined.len() == count && count > 0 => {
                FrameState::Quarantined
            }
            count if count == rows as usize => FrameState::Delivered,
            0 => FrameState::Waiting,
            _ => FrameState::Partly,
        };
        let settled_rows = settled_rows.iter().filter_map(Run::of_rows).collect();
        Fate { state, settled_rows, quarantined_rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SettledRange;

    const ROWS: u32 = 10;

    fn at(through: u64, rows_of_next: u32) -> Settled {
        Settled { through: Lsn::new(through), rows_of_next }
    }

    fn fate(lsn: u64, settled: Settled, ranges: &Ranges, in_quarantine: &[u32]) -> Fate {
        let rows = quarantine::Rows::of(in_quarantine.iter().copied());
        Fate::of(Lsn::new(lsn), ROWS, settled, ranges, &Dropped::default(), &rows)
    }

    fn run(first: u64, last: u64) -> Run {
        Run { first, last }
    }

    #[test]
    fn a_frame_is_where_ledger_and_quarantine_say_that_its_rows_are() {
        let none = Ranges::default();
        let told = |fate: Fate| (fate.state, fate.settled_rows, fate.quarantined_rows);
        assert_eq!(told(fate(7, at(6, 0), &none, &[])), (FrameState::Waiting, vec![], vec![]));
        assert_eq!(told(fate(6, at(6, 0), &none, &[])), (FrameState::Delivered, vec![run(0, 9)], vec![]));
        assert_eq!(told(fate(7, at(6, 4), &none, &[])), (FrameState::Partly, vec![run(0, 3)], vec![]));
        let mut ranges = Ranges::default();
        let stretch = SettledRange { start: at(6, 7), end: at(8, 0), frames: 2, rows: 13, requests: 1 };
        ranges.settle(&mut at(6, 4), stretch);
        let partly = fate(7, at(6, 4), &ranges, &[5]);
        assert_eq!(told(partly), (FrameState::Partly, vec![run(0, 3), run(7, 9)], vec![run(5, 5)]));
        assert_eq!(told(fate(7, at(6, 4), &ranges, &[4, 5, 6])).0, FrameState::Delivered);
        assert_eq!(told(fate(8, at(6, 4), &ranges, &[])), (FrameState::Delivered, vec![run(0, 9)], vec![]));
        let all: Vec<u32> = (0..ROWS).collect();
        let refused = fate(6, at(6, 0), &none, &all);
        assert_eq!(told(refused), (FrameState::Quarantined, vec![run(0, 9)], vec![run(0, 9)]));
    }

    #[test]
    fn a_frame_that_a_policy_dropped_says_so() {
        let mut dropped = Dropped::default();
        dropped.add(Lsn::new(3)..=Lsn::new(5), 3, 30);
        let fate = |lsn| {
            let rows = quarantine::Rows::default();
            Fate::of(Lsn::new(lsn), ROWS, at(6, 0), &Ranges::default(), &dropped, &rows).state
        };
        assert_eq!(
            (fate(2), fate(3), fate(5), fate(6)),
            (FrameState::Delivered, FrameState::Dropped, FrameState::Dropped, FrameState::Delivered)
        );
    }
}
