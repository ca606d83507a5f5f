//! How the rows of a schema become requests, for either transport.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, Schema};
use arrow_select::concat::concat;

use super::trim::trimmed;
use crate::config::TransportKind;
use crate::convert::{
    ArrowPlan, ConversionError, Cut, Encoded, Plan, Policies, RecordRuns, Records, TableSchema, rows_within,
};
use crate::transport::{Format, Payload};

/// The client cuts what is larger into several messages, by the memory that it takes.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024 - 64 * 1024;
/// What becomes records at once, at most: that they are many saves little, and memory is filled again while the
/// processor's cache has it.
const CHUNK_BYTES_MAX: usize = 512 * 1024;
const CHUNK_ROWS_MAX: usize = 4096;
/// Records that are made at once are sent from where they were made if they are so many bytes; fewer are put together.
const SHARED_BYTES_MIN: usize = 64 * 1024;
/// Memory for records that requests may have at a time and that is used again after them.
const LENT_MAX: usize = 4;
/// Memory that had to be larger, for a row of megabytes, is not kept.
const LENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The plan of a schema, and what the service is told of it.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    format: Format,
    plan: AnyPlan,
}

#[derive(Clone, Debug)]
enum AnyPlan {
    Records(Box<Plan>),
    Batch(ArrowPlan),
}

impl Recipe {
    pub(super) fn new(
        transport: TransportKind,
        schema: &Schema,
        table: Option<&TableSchema>,
        policies: Policies,
    ) -> Result<Recipe, ConversionError> {
        Ok(match transport {
            TransportKind::Protobuf => Recipe::of_records(Plan::new(schema, table, policies)?),
            TransportKind::ArrowFlight => {
                let plan = ArrowPlan::new(schema, table, policies)?;
                Recipe { format: Format::Arrow(plan.schema().clone()), plan: AnyPlan::Batch(plan) }
            }
        })
    }

    pub(super) fn of_records(plan: Plan) -> Recipe {
        Recipe {
            format: Format::Protobuf(Arc::new(plan.descriptor().clone())),
            plan: AnyPlan::Records(Box::new(plan)),
        }
    }

    /// What a stream of these rows is opened with.
    pub(super) fn format(&self) -> &Format {
        &self.format
    }

    /// How many rows of such a frame are best made at once, if a request may have so many bytes.
    pub(super) fn chunk_rows(&self, rows: usize, frame_bytes: usize, request_max_bytes: usize) -> usize {
        match &self.plan {
            AnyPlan::Records(_) => {
                let row_bytes = frame_bytes / rows.max(1);
                (request_max_bytes.min(CHUNK_BYTES_MAX) / row_bytes.max(1)).clamp(1, CHUNK_ROWS_MAX)
            }
            // Even parts, each of which can be a request that shares the memory of the frame.
            AnyPlan::Batch(_) => rows.div_ceil(frame_bytes.div_ceil(request_max_bytes).max(1)).max(1),
        }
    }

    /// Makes these rows, behind those that are made already, except those that are returned as refused.
    pub(super) fn make(&self, batch: &RecordBatch, rows: Range<usize>, out: &mut Made) -> Encoded {
        match &self.plan {
            AnyPlan::Records(plan) => plan.encode(batch, rows, Arc::make_mut(&mut out.records)),
            AnyPlan::Batch(plan) => plan.convert(batch, rows, &mut out.runs),
        }
    }

    /// What [`make`](Recipe::make) would say about these rows.
    pub(super) fn check(&self, batch: &RecordBatch, rows: Range<usize>) -> Encoded {
        match &self.plan {
            AnyPlan::Records(plan) => plan.encode(batch, rows, &mut Records::new()),
            AnyPlan::Batch(plan) => plan.check(batch, rows),
        }
    }
}

/// Rows that are made: records, or columns. Its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Nobody else has them while rows are made.
    records: Arc<Records>,
    /// Records of before, which requests may still have.
    lent: Vec<Arc<Records>>,
    /// Runs of rows between those that are refused, while rows are made.
    runs: Vec<RecordBatch>,
    batch: Option<RecordBatch>,
}

impl Made {
    pub(super) fn clear(&mut self) {
        if Arc::get_mut(&mut self.records).is_none() {
            let free = self.lent.iter_mut().position(|records| Arc::get_mut(records).is_some());
            let records = free.map(|place| self.lent.swap_remove(place)).unwrap_or_default();
            let lent = std::mem::replace(&mut self.records, records);
            if self.lent.len() < LENT_MAX && lent.kept_bytes() <= LENT_BYTES_MAX {
                self.lent.push(lent);
            }
        }
        Arc::make_mut(&mut self.records).clear();
        self.runs.clear();
        self.batch = None;
    }

    /// To be called when all rows are made.
    pub(super) fn finish(&mut self) -> Result<(), ArrowError> {
        self.batch = match self.runs.len() {
            0 => None,
            1 => self.runs.pop(),
            _ => Some(joined(&self.runs)?),
        };
        self.runs.clear();
        Ok(())
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.batch.as_ref().map_or(self.records.len(), RecordBatch::num_rows)
    }

    /// The longest run of rows from `first` on that fits; see [`Records::cut`].
    pub(super) fn cut(&self, first: usize, max_bytes: usize, max_rows: usize) -> Option<Cut> {
        let Some(batch) = &self.batch else { return self.records.cut(first, max_bytes, max_rows) };
        let (records, framed_bytes) = rows_within(batch, first, max_bytes, max_rows)?;
        Some(match framed_bytes <= max_bytes {
            true => Cut::Request { records, framed_bytes },
            false => Cut::TooLarge { record: first, framed_bytes },
        })
    }
}

/// The rows of a request in the making.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    rows: usize,
    /// How many rows, of how many bytes, may come; a guess.
    room: (usize, usize),
    records: RecordRuns,
    /// The records behind those, of which few were made at once.
    few: Records,
    batches: Vec<RecordBatch>,
}

impl Pieces {
    /// None yet, of a request that may become like one of so many rows and bytes.
    pub(super) fn like((rows, bytes): (usize, usize)) -> Pieces {
        Pieces { room: (rows, bytes), ..Pieces::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// From how many bytes on the request is better sent than filled, if it may have so many.
    pub(super) fn enough_bytes(&self, max_bytes: usize) -> usize {
        match self.batches.len() {
            // They share the memory of their frame until they are copied to have others behind them.
            1 => max_bytes / 4 * 3,
            _ => max_bytes,
        }
    }

    /// Adds some of the rows that are made.
    pub(super) fn add(&mut self, made: &Made, rows: Range<usize>) {
        self.rows += rows.len();
        match &made.batch {
            Some(batch) => self.batches.push(batch.slice(rows.start, rows.len())),
            None if made.records.bytes() >= SHARED_BYTES_MIN => {
                self.put_few();
                self.records.push(Arc::clone(&made.records), rows);
            }
            None => {
                if self.few.is_empty() {
                    // Memory that grows with the request would come from the system again and again, filled with zeros.
                    let (rows, bytes) = self.room;
                    self.few = Records::with_room(rows, bytes);
                }
                self.few.extend(&made.records, rows);
            }
        }
    }

    fn put_few(&mut self) {
        if !self.few.is_empty() {
            let few = std::mem::take(&mut self.few);
            let all = 0..few.len();
            self.records.push(Arc::new(few), all);
        }
    }

    /// The payload; its memory may be that of the frame, which is free when every request of it is acknowledged.
    pub(super) fn finish(mut self) -> Result<Payload, ArrowError> {
        self.put_few();
        match self.batches.is_empty() {
            true => Ok(Payload::Records(self.records)),
            false => joined(&self.batches).map(Payload::Batch),
        }
    }
}

/// How many bytes a request may have, of those that the user wishes.
pub(super) fn request_bytes(transport: TransportKind, wished_bytes: usize) -> usize {
    match transport {
        TransportKind::Protobuf => wished_bytes,
        TransportKind::ArrowFlight => wished_bytes.min(BATCH_BYTES_MAX),
    }
}

/// The rows of all batches, which have one schema, in one that counts for no more than them. Those of one alone are copied
/// only where they cannot be trimmed.
fn joined(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let Some(first) = batches.first() else {
        return Err(ArrowError::InvalidArgumentError("no batches".to_owned()));
    };
    let nothing = first.slice(0, 0);
    let column = |n: usize| -> Result<ArrayRef, ArrowError> {
        if let [batch] = batches
            && let Some(column) = trimmed(batch.column(n))
        {
            return Ok(column);
        }
        let mut parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(n).as_ref()).collect();
        // One array alone would be shared instead of copied.
        parts.push(nothing.column(n).as_ref());
        let mut joined = concat(&parts)?;
        Array::shrink_to_fit(&mut joined);
        Ok(joined)
    };
    let columns = (0..first.num_columns()).map(column).collect::<Result<_, _>>()?;
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(first.schema(), columns, &options)
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};

    use super::*;

    const ROWS: usize = 20_000;

    /// Rows that no other turn has; their records are enough to be sent from where they are made.
    fn batch(turn: usize) -> RecordBatch {
        let ids: ArrayRef =
            Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| ((turn << 32) | row) as i64)));
        RecordBatch::try_from_iter([("id", ids)]).unwrap()
    }

    #[test]
    fn records_of_requests_stay_what_they_are_while_others_are_made_and_their_memory_is_used_again() {
        let plan = Plan::new(&batch(0).schema(), None, Policies::default()).unwrap();
        let recipe = Recipe::of_records(plan.clone());
        let (mut made, mut requests) = (Made::default(), Vec::new());
        let mut make = |turn| {
            made.clear();
            recipe.make(&batch(turn), 0..ROWS, &mut made);
            made.finish().unwrap();
            let mut pieces = Pieces::default();
            pieces.add(&made, 0..ROWS);
            let memory = Arc::as_ptr(&made.records);
            (memory, made.lent.len(), pieces.finish().unwrap())
        };
        for turn in 1..4 * LENT_MAX {
            let (_, lent, payload) = make(turn);
            requests.push((turn, payload));
            assert!(lent <= LENT_MAX);
            if turn % 3 == 0 {
                requests.remove(turn % requests.len());
            }
        }
        assert!(requests.len() > 2 * LENT_MAX, "most of them are sent late");
        for (turn, payload) in requests {
            let Payload::Records(sent) = payload else { panic!("records are made") };
            let mut expected = Records::new();
            plan.encode(&batch(turn), 0..ROWS, &mut expected);
            assert!(expected.bytes() >= SHARED_BYTES_MIN);
            assert!(sent.iter().eq((0..ROWS).map(|row| expected.record(row))), "request {turn}");
        }
        let (first, ..) = make(0);
        let (second, ..) = make(0);
        assert_eq!(first, second, "nobody has the records of before any more");
    }

    #[test]
    fn memory_for_records_of_megabytes_is_not_kept() {
        let long = "x".repeat(LENT_BYTES_MAX + 1);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
        let batch = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        let recipe = Recipe::of_records(Plan::new(&batch.schema(), None, Policies::default()).unwrap());
        let (mut made, mut pieces) = (Made::default(), Pieces::default());
        for _ in 0..2 {
            made.clear();
            recipe.make(&batch, 0..1, &mut made);
            pieces.add(&made, 0..1);
        }
        assert!(made.lent.is_empty());
        assert_eq!(pieces.len(), 2);
    }
}
