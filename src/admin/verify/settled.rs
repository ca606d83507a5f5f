//! Whether ledger and log go together: what is settled was there, what was freed was settled, and everything is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::{Finding, FindingKind, Severity, VerifyError};
use crate::io::Env;
use crate::ledger::{Contents, LedgerRecord, Ranges, RecordedStream, Settled};
use crate::types::Lsn;
use crate::wal::{Bodies, LogView, Piece, PieceKind, ReadError, SegmentLook};

/// `before` was read before the log, and so says nothing of frames that came meanwhile; `after` was read after it, and so
/// settles everything that was freed before.
pub(super) fn verify(
    env: &Env,
    view: &LogView,
    before: &Contents,
    after: &Contents,
    has_set_aside: bool,
) -> Result<Vec<Finding>, VerifyError> {
    let mut findings = Vec::new();
    findings.extend(ahead(view, before));
    if let Err(reason) = &after.streams.read {
        findings.push(Finding::new(
            FindingKind::Streams,
            Severity::Error,
            format!("what is recorded of persistent streams cannot be read: {reason}"),
            "The next owner begins a new stream. With delivery = exactly_once the rows that wait may then be in the table \
             twice; status counts them as doubtful.",
        ));
    }
    let Some((record, ranges)) = &after.record else {
        findings.extend(unknown(view));
        return Ok(findings);
    };
    findings.extend(reclaimed(view, record.settled, ranges));
    if view.damage().is_empty() {
        // Of frames that damage took nobody can count the rows.
        findings.extend(stretches(env, view, record.settled, ranges)?);
    }
    findings.extend(conservation(record, ranges, has_set_aside));
    Ok(findings)
}

/// Frames that were settled are not in the log yet.
fn ahead(view: &LogView, before: &Contents) -> Option<Finding> {
    let (record, ranges) = before.record.as_ref()?;
    let streams = before.streams.read.as_ref().ok();
    let recorded =
        streams.and_then(|streams| streams.current.as_ref()).map_or(Lsn::ZERO, RecordedStream::highest);
    let highest = record.settled.highest().max(ranges.highest()).max(recorded);
    let lsns = view.last().next()..=highest;
    (!lsns.is_empty()).then(|| {
        Finding::new(
            FindingKind::LedgerAhead,
            Severity::Warning,
            format!("the ledger knows of frames up to {highest}, the log ends with {}", view.last()),
            "That is so after a power cut with durability = os, which takes frames that were delivered already: they are in \
             the table, and their numbers are not used again. Without one, newer segments were removed, or the directory was \
             put together from copies of different times.",
        )
        .about(&lsns)
    })
}

/// Nothing is known of a log whose beginning is gone.
fn unknown(view: &LogView) -> Option<Finding> {
    let first = view.first().unwrap_or(view.last().next());
    (first > Lsn::FIRST).then(|| {
        Finding::new(
            FindingKind::LedgerMissing,
            Severity::Warning,
            format!("the ledger says nothing of this log, whose frames before {first} are gone"),
            "What was delivered and is still in the log is sent again, and the counts begin anew. No row that waits is lost.",
        )
    })
}

/// Frames that are not settled are not there any more.
fn reclaimed(view: &LogView, settled: Settled, ranges: &Ranges) -> Vec<Finding> {
    let before_first = view.first().map_or(view.last(), Lsn::previous);
    let gone = unsettled_in(settled.through.next()..=before_first, ranges);
    let told = gone.into_iter().map(|lsns| {
        Finding::new(
            FindingKind::Reclaimed,
            Severity::Error,
            format!("frames {} to {} are gone and were not settled", lsns.start(), lsns.end()),
            "Segments were removed by hand, or the ledger is older than the log, as in a copy that was put back. If they were \
             removed, their rows were not delivered from here: send them again from where they came from.",
        )
        .about(&lsns)
    });
    told.collect()
}

/// What of these frames lies in no settled stretch.
fn unsettled_in(lsns: RangeInclusive<Lsn>, ranges: &Ranges) -> Vec<RangeInclusive<Lsn>> {
    let (mut next, end) = (*lsns.start(), *lsns.end());
    let mut unsettled = Vec::new();
    for range in ranges.iter() {
        // A frame of which a part is settled is not.
        let whole_from =
            if range.start.rows_of_next > 0 { range.start.through.next() } else { range.start.through };
        if whole_from >= next && next <= end {
            unsettled.push(next..=whole_from.min(end));
        }
        next = next.max(range.end.through.next());
    }
    unsettled.push(next..=end);
    unsettled.retain(|lsns| !lsns.is_empty());
    unsettled
}

/// How many frames and rows lie up to a position, counted from the first frame that is there.
#[derive(Clone, Copy, Debug, Default)]
struct Upto {
    frames: u64,
    rows: u64,
    /// The rows of the frame itself.
    own: u32,
}

/// Partly settled frames have so many rows, and stretches above the watermark settle what they say.
fn stretches(
    env: &Env,
    view: &LogView,
    settled: Settled,
    ranges: &Ranges,
) -> Result<Vec<Finding>, VerifyError> {
    let positions = ranges.iter().flat_map(|range| [range.start, range.end]).chain([settled]);
    let positions: Vec<Settled> =
        positions.filter(|position| position.highest() <= view.last_frame()).collect();
    if positions.len() < 2 && settled.rows_of_next == 0 {
        return Ok(Vec::new());
    }
    let wanted: BTreeSet<Lsn> =
        positions.iter().flat_map(|position| [position.through, position.through.next()]).collect();
    let upto = count_upto(env, view, &wanted)?;
    let first = view.first().unwrap_or(Lsn::FIRST);
    let mut findings = Vec::new();
    let advice = "The ledger does not go with these segments: rows of these frames may be sent twice, or not at all. Keep a copy \
                  of the directory, compare the table with the source of the rows, and report it.";
    for position in positions.iter().filter(|position| position.rows_of_next > 0) {
        let partly = position.through.next();
        let rows = upto.get(&partly).map_or(0, |upto| upto.own);
        if partly >= first && position.rows_of_next >= rows {
            let text = format!("{} rows of frame {partly} are settled, it has {rows}", position.rows_of_next);
            findings.push(
                Finding::new(FindingKind::Settled, Severity::Error, text, advice).about(&(partly..=partly)),
            );
        }
    }
    for range in ranges.iter() {
        let (Some(start), Some(end)) = (upto.get(&range.start.through), upto.get(&range.end.through)) else {
            continue;
        };
        if range.start.through < first || range.end.highest() > view.last_frame() {
            continue;
        }
        let frames = end.frames - start.frames;
        let rows = (end.rows + u64::from(range.end.rows_of_next))
            - (start.rows + u64::from(range.start.rows_of_next));
        if (frames, rows) != (range.frames, range.rows) {
            let lsns = range.start.through.next()..=range.end.highest();
            let text = format!(
                "between frames {} and {} the ledger has settled {} frames and {} rows, the log has {frames} and {rows}",
                lsns.start(),
                lsns.end(),
                range.frames,
                range.rows
            );
            findings.push(Finding::new(FindingKind::Settled, Severity::Error, text, advice).about(&lsns));
        }
    }
    Ok(findings)
}

/// Reads the headers of all frames. Segments that go away meanwhile are settled.
fn count_upto(env: &Env, view: &LogView, wanted: &BTreeSet<Lsn>) -> Result<BTreeMap<Lsn, Upto>, ReadError> {
    let mut upto = BTreeMap::new();
    let mut sum = Upto::default();
    // The position before the first frame.
    upto.insert(view.first().unwrap_or(Lsn::FIRST).previous(), sum);
    for place in view.places() {
        let failed = |source| ReadError { action: "count the frames of", path: place.path.clone(), source };
        let look = match SegmentLook::open(env, &place.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            look => look.map_err(failed)?,
        };
        let mut pieces = look.pieces(view.epoch(), place.segment, Bodies::Unread);
        while let Some(piece) = pieces.next().map_err(failed)? {
            let Piece::Frame(frame) = piece else { continue };
            let is_counted = place.lsns.is_some_and(|(first, last)| (first..=last).contains(&frame.lsn));
            if frame.kind == PieceKind::Batch && is_counted {
                sum =
                    Upto { frames: sum.frames + 1, rows: sum.rows + u64::from(frame.rows), own: frame.rows };
                if wanted.contains(&frame.lsn) {
                    upto.insert(frame.lsn, sum);
                }
            }
        }
    }
    Ok(upto)
}

/// Every number up to the watermark is counted as delivered, in quarantine, dropped or damaged \[I6\].
fn conservation(record: &LedgerRecord, ranges: &Ranges, has_set_aside: bool) -> Option<Finding> {
    let counted =
        record.delivered_frames + record.quarantined.frames + record.dropped.frames + record.damaged_frames;
    let settled = record.settled.through.get() + ranges.frames();
    let (severity, text, advice) = match counted.cmp(&settled) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => (
            Severity::Warning,
            format!(
                "the ledger counts {counted} settled frames, and only {settled} numbers were given to them"
            ),
            "Some frames were counted twice; the rows themselves are where they should be. Report it.",
        ),
        std::cmp::Ordering::Less if has_set_aside => (
            Severity::Info,
            format!(
                "the ledger counts {counted} of {settled} settled frames: it began anew when another was set aside"
            ),
            "Nothing is to be done.",
        ),
        std::cmp::Ordering::Less => (
            Severity::Warning,
            format!("the ledger counts {counted} of {settled} settled frames"),
            "That is so when the ledger was lost or removed, for then it counts from there on. Otherwise report it.",
        ),
    };
    Some(Finding::new(FindingKind::Conservation, severity, text, advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SettledRange;

    fn at(through: u64, rows_of_next: u32) -> Settled {
        Settled { through: Lsn::new(through), rows_of_next }
    }

    #[test]
    fn what_of_a_run_is_not_settled_is_told_around_the_stretches_that_are() {
        let mut ranges = Ranges::default();
        for (start, end) in [(at(12, 0), at(14, 0)), (at(16, 3), at(18, 0)), (at(18, 5), at(20, 2))] {
            ranges.settle(&mut at(10, 0), SettledRange { start, end, ..SettledRange::default() });
        }
        let unsettled = |first, last| {
            let runs = unsettled_in(Lsn::new(first)..=Lsn::new(last), &ranges);
            runs.iter().map(|run| (run.start().get(), run.end().get())).collect::<Vec<_>>()
        };
        assert_eq!(unsettled(11, 30), [(11, 12), (15, 17), (19, 19), (21, 30)]);
        assert_eq!(unsettled(11, 10), []);
        assert_eq!(unsettled(13, 14), []);
        assert_eq!(unsettled(11, 11), [(11, 11)]);
    }

    #[test]
    fn counts_that_do_not_add_up_are_told_as_what_explains_them() {
        let record = |delivered_frames| LedgerRecord {
            settled: at(10, 0),
            delivered_frames,
            ..LedgerRecord::default()
        };
        let told = |delivered, has_set_aside| {
            conservation(&record(delivered), &Ranges::default(), has_set_aside).map(|found| found.severity)
        };
        assert_eq!(told(10, false), None);
        assert_eq!(told(9, false), Some(Severity::Warning));
        assert_eq!(told(9, true), Some(Severity::Info));
        assert_eq!(told(11, true), Some(Severity::Warning));
    }
}
