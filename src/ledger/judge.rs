//! Whether a store says what its mark says, and what is left where it does not.
//!
//! | the store | is |
//! |---|---|
//! | a higher generation than the mark | sound: the process died between the two, or the mark lost its newest slot |
//! | the same one, and as much as the mark | sound |
//! | none, and as much as the mark | sound: written by a program that knows no mark, which only ever goes forward |
//! | the same one, and less than the mark | damaged |
//! | a lower one, or none and less than the mark | damaged, lost, or put back from a copy |
//!
//! A checkpoint syncs the store first and the mark second. So no crash leaves a store behind its mark.

use super::mark::Mark;
use super::{Contents, LedgerRecord, Ranges, Streams};

/// CRC-32 of what stands under each key of a store; none where nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) record: Option<u32>,
    pub(super) streams: Option<u32>,
    pub(super) table: Option<u32>,
}

/// What is to be made of a store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Sound,
    /// Everything but what was known of the table is there.
    WithoutTable,
    /// What it says is not the newest, and why that is certain.
    Behind(String),
}

pub(super) fn judge(contents: &Contents, mark: &Mark) -> Verdict {
    let generation = contents.generation.unwrap_or(0);
    if generation > mark.generation {
        return Verdict::Sound;
    }
    let is_older = generation < mark.generation && contents.generation.is_some();
    let is_same = generation == mark.generation && contents.digests.record == mark.digests.record;
    if is_older || !is_same && !says_as_much(contents.record.as_ref(), mark) {
        return Verdict::Behind(behind(contents, mark));
    }
    if mark.digests.streams.is_some() && contents.digests.streams.is_none() {
        return Verdict::Behind("what was recorded of persistent streams is gone".to_owned());
    }
    match mark.digests.table.is_some() && contents.digests.table.is_none() {
        true => Verdict::WithoutTable,
        false => Verdict::Sound,
    }
}

/// Whether every count is at least that of the mark: none of them ever goes back.
fn says_as_much(record: Option<&(LedgerRecord, Ranges)>, mark: &Mark) -> bool {
    let Some((record, _)) = record else { return false };
    let counts = |record: &LedgerRecord| {
        [
            record.delivered_frames,
            record.delivered_rows,
            record.damaged_frames,
            record.dropped.frames,
            record.dropped.rows,
            record.quarantined.frames,
            record.quarantined.rows,
        ]
    };
    let mut pairs = counts(record).into_iter().zip(counts(&mark.record));
    record.settled >= mark.record.settled && pairs.all(|(now, then)| now >= then)
}

fn behind(contents: &Contents, mark: &Mark) -> String {
    let through = mark.record.settled.through;
    match &contents.record {
        None => format!("it says nothing of this log, which its mark says is settled up to frame {through}"),
        Some((record, _)) => format!(
            "it is older than its mark: it has checkpoint {} and is settled up to frame {}, the mark has {} and frame {through}",
            contents.generation.map_or_else(|| "none".to_owned(), |number| number.to_string()),
            record.settled.through,
            mark.generation,
        ),
    }
}

impl Mark {
    /// What the ledger says again after its store was lost. What of persistent streams stood there, but for the count of
    /// doubtful rows, is not known; nor what was settled above the watermark, if there was no room for it.
    pub(super) fn contents(&self) -> (LedgerRecord, Ranges, Streams) {
        let mut record = self.record;
        // [I6] It waits again, and is counted when it is delivered once more.
        record.delivered_frames = record.delivered_frames.saturating_sub(self.left_out.frames);
        record.delivered_rows = record.delivered_rows.saturating_sub(self.left_out.rows);
        let streams = Streams { doubtful_rows: self.sent.doubtful_rows, ..Streams::default() };
        (record, self.ranges.clone(), streams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Settled;
    use crate::types::Lsn;

    fn record(through: u64) -> LedgerRecord {
        let settled = Settled { through: Lsn::new(through), rows_of_next: 0 };
        LedgerRecord { settled, delivered_frames: through, ..LedgerRecord::default() }
    }

    fn digests(record: Option<u64>) -> Digests {
        Digests { record: record.map(|it| it as u32), streams: Some(1), table: Some(1) }
    }

    fn store(generation: Option<u64>, through: Option<u64>) -> Contents {
        let said = through.map(|through| (record(through), Ranges::default()));
        Contents { record: said, generation, digests: digests(through), ..Contents::default() }
    }

    fn mark(generation: u64, through: u64) -> Mark {
        let settled = record(through);
        let nothing = (Lsn::ZERO, super::super::mark::Sent::default());
        Mark::new(generation, nothing, (&settled, &Ranges::default()), digests(Some(through)))
    }

    #[test]
    fn a_store_that_is_not_behind_its_mark_is_sound_whoever_wrote_it() {
        for (generation, through) in
            [(Some(6), 9), (Some(7), 9), (Some(7), 8), (Some(6), 12), (None, 9), (None, 12)]
        {
            let verdict = judge(&store(generation, Some(through)), &mark(6, 9));
            assert_eq!(verdict, Verdict::Sound, "{generation:?} {through}");
        }
        // A log of an earlier version, whose mark was just made.
        assert_eq!(judge(&store(None, Some(9)), &mark(0, 9)), Verdict::Sound);
    }

    #[test]
    fn a_store_that_says_less_than_its_mark_is_behind_and_the_reason_names_both() {
        for (generation, through) in
            [(Some(5), Some(9)), (Some(5), Some(12)), (Some(6), Some(8)), (None, Some(8)), (Some(6), None)]
        {
            let verdict = judge(&store(generation, through), &mark(6, 9));
            let Verdict::Behind(why) = verdict else { panic!("{generation:?} {through:?}: {verdict:?}") };
            assert!(why.contains("frame 9"), "{why}");
        }
        assert!(matches!(judge(&store(None, None), &mark(0, 9)), Verdict::Behind(_)));
    }

    #[test]
    fn a_store_in_which_streams_or_table_are_gone_is_told_so() {
        let gone = |gone: fn(&mut Digests)| {
            let mut store = store(Some(6), Some(9));
            gone(&mut store.digests);
            judge(&store, &mark(6, 9))
        };
        assert!(
            matches!(gone(|digests| digests.streams = None), Verdict::Behind(why) if why.contains("streams"))
        );
        assert_eq!(gone(|digests| digests.table = None), Verdict::WithoutTable);
    }
}
