//! The rows of a frame that are converted at once, and which of them became which record, or which row of what is sent.
//!
//! Usually each row is a record. Rows in quarantine, and those that are on their way there, are holes.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;

use super::recipe::{Made, Recipe};
use crate::convert::{Encoded, RowError};
use crate::ledger::Bent;
use crate::quarantine::Rows;
use crate::telemetry::TraceContext;
use crate::types::Lsn;

/// A frame that is being converted.
#[derive(Debug)]
pub(super) struct OpenFrame {
    pub(super) lsn: Lsn,
    pub(super) batch: RecordBatch,
    /// The trace that it belongs to, if somebody wants to know.
    pub(super) context: Option<TraceContext>,
    /// None for a frame that is given up as a whole.
    pub(super) plan: Option<Arc<Recipe>>,
    pub(super) chunk_rows: usize,
    /// The first row that is not in the chunk yet.
    pub(super) next_row: usize,
    /// No chunk goes beyond it.
    pub(super) stop_row: usize,
    /// Its rows in quarantine, those that are on their way there included.
    pub(super) quarantined: Rows,
}

impl OpenFrame {
    pub(super) fn is_used_up(&self) -> bool {
        self.next_row == self.batch.num_rows()
    }

    /// Makes these rows, except those in quarantine and those that are returned as refused.
    fn make(&self, rows: Range<usize>, out: &mut Made) -> Encoded {
        self.each_run(rows, |plan, run| plan.make(&self.batch, run, out))
    }

    /// What [`make`](OpenFrame::make) would say about these rows.
    fn check(&self, rows: Range<usize>) -> Encoded {
        self.each_run(rows, |plan, run| plan.check(&self.batch, run))
    }

    /// Does it for the runs of rows between those in quarantine.
    fn each_run(
        &self,
        rows: Range<usize>,
        mut make: impl FnMut(&Recipe, Range<usize>) -> Encoded,
    ) -> Encoded {
        let Some(plan) = &self.plan else { return Encoded::default() };
        if self.quarantined.is_empty() {
            return make(plan, rows);
        }
        let mut encoded = Encoded::default();
        for run in self.quarantined.gaps_in(rows) {
            let part = make(plan, run);
            encoded.refused.extend(part.refused);
            encoded.floored_timestamps += part.floored_timestamps;
            encoded.emptied_lists += part.emptied_lists;
        }
        encoded
    }
}

/// The chunk in work. Its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    made: Made,
    /// The rows that it is made of.
    rows: Range<usize>,
    /// The rows without a record, in runs, ascending.
    holes: Vec<Range<usize>>,
    /// The first record that is in no request yet.
    next: usize,
    /// The first row that no request has passed.
    next_row: usize,
    /// What is bent in the records from `next` on.
    bent: Bent,
}

/// What a request takes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Rows that it passes, those in quarantine included.
    pub(super) rows: u64,
    pub(super) bent: Bent,
}

impl Chunk {
    /// Converts the next rows of the frame; returns those that do not convert.
    ///
    /// # Errors
    ///
    /// There is not memory enough, or an offset is too large; nothing has changed.
    pub(super) fn fill(&mut self, frame: &mut OpenFrame) -> Result<Vec<RowError>, ArrowError> {
        let rows = frame.next_row..(frame.next_row + frame.chunk_rows).min(frame.stop_row);
        self.made.clear();
        let encoded = frame.make(rows.clone(), &mut self.made);
        self.made.finish()?;
        self.bent = bent(&encoded);
        self.holes.clear();
        self.holes.extend(frame.quarantined.runs_in(rows.clone()));
        if !encoded.refused.is_empty() {
            self.holes.extend(encoded.refused.iter().map(|error| error.row..error.row + 1));
            self.holes.sort_unstable_by_key(|hole| hole.start);
        }
        (self.next, self.next_row) = (0, rows.start);
        frame.next_row = rows.end;
        self.rows = rows;
        Ok(encoded.refused)
    }

    /// Whether requests have passed all of it.
    pub(super) fn is_used_up(&self) -> bool {
        self.next_row == self.rows.end
    }

    pub(super) fn made(&self) -> &Made {
        &self.made
    }

    /// The first record that is in no request yet. There may be none.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// The first row that no request has passed.
    pub(super) fn next_row(&self) -> usize {
        self.next_row
    }

    /// The row that became this record.
    pub(super) fn row_of(&self, record: usize) -> usize {
        let mut row = self.rows.start + record;
        for hole in self.holes.iter().take_while(|hole| hole.start <= self.rows.end) {
            if hole.start > row {
                break;
            }
            row += hole.len();
        }
        row
    }

    /// Passes the records up to this one, and the holes around them.
    pub(super) fn take(&mut self, frame: &OpenFrame, records_end: usize) -> Taken {
        let is_rest = records_end == self.made.len();
        let rows_end = if is_rest { self.rows.end } else { self.row_of(records_end) };
        let bent = self.take_bent(frame, is_rest, rows_end);
        let rows = (rows_end - self.next_row) as u64;
        (self.next, self.next_row) = (records_end, rows_end);
        Taken { rows, bent }
    }

    /// Takes out what is bent in the rows up to there.
    ///
    /// Only a chunk that is cut in the middle has to be looked at again for it. So a request knows what is bent in its own
    /// rows, and what is sent again is never counted twice.
    fn take_bent(&mut self, frame: &OpenFrame, is_rest: bool, rows_end: usize) -> Bent {
        if is_rest || self.bent == Bent::default() {
            return std::mem::take(&mut self.bent);
        }
        // Rows that are refused are so again, and count for nothing.
        let taken = bent(&frame.check(self.next_row..rows_end));
        self.bent.floored_timestamps -= taken.floored_timestamps;
        self.bent.emptied_lists -= taken.emptied_lists;
        taken
    }
}

fn bent(encoded: &Encoded) -> Bent {
    Bent { floored_timestamps: encoded.floored_timestamps, emptied_lists: encoded.emptied_lists }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, TimestampNanosecondArray};

    use super::*;
    use crate::convert::{DeltaType, Plan, Policies, TableColumn, TableSchema};

    /// Ten rows; each loses nanoseconds, and those named have a number that is too large.
    fn frame(too_large: &[usize], quarantined: &[u32]) -> OpenFrame {
        let ids = (0..10).map(|row| if too_large.contains(&row) { i64::MAX } else { row as i64 });
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        let at: ArrayRef = Arc::new(TimestampNanosecondArray::from_value(1_001, 10).with_timezone("UTC"));
        let batch = RecordBatch::try_from_iter([("id", ids), ("at", at)]).unwrap();
        let column = |number, name: &str, delta_type| TableColumn {
            name: name.to_owned(),
            number,
            delta_type,
            nullable: true,
        };
        let columns = vec![column(1, "id", DeltaType::Integer), column(2, "at", DeltaType::Timestamp)];
        let plan = Plan::new(&batch.schema(), Some(&TableSchema { columns }), Policies::default()).unwrap();
        OpenFrame {
            lsn: Lsn::FIRST,
            batch,
            context: None,
            plan: Some(Recipe::of_records(plan).into()),
            chunk_rows: 8,
            next_row: 0,
            stop_row: 10,
            quarantined: Rows::of(quarantined.iter().copied()),
        }
    }

    fn rows(chunk: &Chunk) -> Vec<usize> {
        (0..chunk.made().len()).map(|record| chunk.row_of(record)).collect()
    }

    #[test]
    fn every_record_knows_its_row_whatever_is_missing_before_it() {
        for (too_large, quarantined, expected) in [
            (&[][..], &[][..], vec![0, 1, 2, 3, 4, 5, 6, 7]),
            (&[0, 3], &[], vec![1, 2, 4, 5, 6, 7]),
            (&[], &[0, 1, 5], vec![2, 3, 4, 6, 7]),
            (&[1, 7], &[0, 2, 3, 9], vec![4, 5, 6]),
            (&[0, 1, 2, 3], &[4, 5, 6, 7], vec![]),
        ] {
            let (mut chunk, mut frame) = (Chunk::default(), frame(too_large, quarantined));
            let refused = chunk.fill(&mut frame).unwrap();
            assert_eq!(refused.iter().map(|error| error.row).collect::<Vec<_>>(), too_large);
            assert_eq!(rows(&chunk), expected);
            let all = chunk.take(&frame, expected.len());
            assert_eq!((all.rows, all.bent.floored_timestamps), (8, expected.len() as u64));
            assert!(chunk.is_used_up() && !frame.is_used_up());
        }
    }

    #[test]
    fn the_parts_of_a_chunk_pass_each_row_once_and_count_what_is_bent_in_it() {
        for cuts in [vec![1, 2, 5], vec![2, 4, 5], vec![5], vec![1, 2, 3, 4, 5]] {
            let (mut chunk, mut frame) = (Chunk::default(), frame(&[2], &[0, 4]));
            chunk.fill(&mut frame).unwrap();
            assert_eq!(rows(&chunk), [1, 3, 5, 6, 7]);
            let (mut passed, mut before) = (0, 0);
            for cut in cuts {
                let taken = chunk.take(&frame, cut);
                assert_eq!(taken.bent.floored_timestamps as usize, cut - before);
                passed += taken.rows as usize;
                assert_eq!(chunk.next_row(), passed);
                before = cut;
            }
            assert_eq!(passed, 8);
        }
    }
}
