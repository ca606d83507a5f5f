//! Turns durable frames into requests: read, decode, convert, cut.
//!
//! Everything here blocks (disk, processor) and runs on the blocking pool; the lane asks for one request
//! ahead, so conversion of the next one overlaps with the sending of this one.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use prost_types::DescriptorProto;

use super::{Plans, Span};
use crate::catalog::Known;
use crate::config::REQUEST_BYTES_MAX;
use crate::convert::{Cut, Encoded, Plan, Records};
use crate::error::{ErrorCode, chain};
use crate::ledger::{Bent, Settled};
use crate::transport::{ErrorClass, TransportError};
use crate::types::Lsn;
use crate::wal::{DamageReason, Frame, LogReader, Next};

/// Rows per request; keeps a request of tiny rows from becoming a million allocations.
const REQUEST_ROWS_MAX: usize = 20_000;
/// Rows that are converted at once, at most.
const CHUNK_ROWS_MAX: usize = 4096;

/// What goes to the service in one piece.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) records: Vec<Vec<u8>>,
    pub(super) framed_bytes: usize,
    pub(super) span: Span,
    /// The plan of its first rows. Those of the others have the same descriptor.
    pub(super) plan: Arc<Plan>,
}

impl Request {
    pub(super) fn descriptor(&self) -> &DescriptorProto {
        self.plan.descriptor()
    }

    /// Whether records of this plan may travel with those of this request, and on its stream.
    pub(super) fn takes(&self, plan: &Arc<Plan>) -> bool {
        // Usually it is the same one, and a descriptor can have thousands of fields.
        Arc::ptr_eq(&self.plan, plan) || self.descriptor() == plan.descriptor()
    }
}

/// What comes next on the way out of the log.
#[derive(Debug)]
pub(super) enum Fed {
    /// Rows to send.
    Request(Request),
    /// Nothing to send: damage took what was there.
    Skipped(Span),
}

/// Why there is no next request.
#[derive(Debug)]
pub(super) enum FeedError {
    /// The log could not be read; another try may succeed.
    Unreadable(String),
    /// A row or a schema that does not convert.
    Poison(TransportError),
}

/// Reads on from one position of the log.
#[derive(Debug)]
pub(super) struct Feed {
    reader: LogReader,
    request_max_bytes: usize,
    plans: Plans,
    /// The table that all records are made for.
    table: Arc<Known>,
    frame: Option<OpenFrame>,
    /// Why the frame that the reader has passed cannot be sent. Nothing behind it may be sent before it.
    refused: Option<TransportError>,
    chunk: Records,
    /// The first record of the chunk that is in no request yet.
    chunk_next: usize,
    /// What is bent in the records from there on.
    chunk_bent: Bent,
    /// Rows of the first frame that are settled already.
    skip_rows: (Lsn, usize),
    /// Damage that no request has taken along yet.
    damaged_frames: u64,
    damaged_through: Option<Lsn>,
}

#[derive(Debug)]
struct OpenFrame {
    lsn: Lsn,
    batch: RecordBatch,
    plan: Arc<Plan>,
    chunk_rows: usize,
    /// The first row that is not in the chunk yet.
    next_row: usize,
}

impl Feed {
    /// `reader` stands at the first frame that is not settled.
    pub(super) fn new(
        reader: LogReader,
        from: Settled,
        request_max_bytes: usize,
        plans: Plans,
        table: Arc<Known>,
    ) -> Feed {
        Feed {
            reader,
            request_max_bytes,
            plans,
            table,
            frame: None,
            refused: None,
            chunk: Records::new(),
            chunk_next: 0,
            chunk_bent: Bent::default(),
            skip_rows: (from.through.next(), from.rows_of_next as usize),
            damaged_frames: 0,
            damaged_through: None,
        }
    }

    /// Which version of the table its records are made for.
    pub(super) fn table_version(&self) -> u64 {
        self.table.version
    }

    /// What comes next; `None` if everything durable is on its way.
    pub(super) fn next(&mut self) -> Result<Option<Fed>, FeedError> {
        if let Some(request) = self.next_request()? {
            return Ok(Some(Fed::Request(request)));
        }
        let skipped = self.damaged_through.take().map(|through| Span {
            end: Settled { through, rows_of_next: 0 },
            damaged_frames: std::mem::take(&mut self.damaged_frames),
            ..Span::default()
        });
        Ok(skipped.map(Fed::Skipped))
    }

    fn next_request(&mut self) -> Result<Option<Request>, FeedError> {
        let mut request: Option<Request> = None;
        loop {
            if self.chunk_next == self.chunk.len() {
                match self.fill_chunk() {
                    Ok(true) => {}
                    Ok(false) => return Ok(request),
                    // What is good before the bad row goes first; the error comes again at the next call.
                    Err(error) => return request.map_or(Err(error), |good| Ok(Some(good))),
                }
            }
            let Some(frame) = &self.frame else { return Ok(request) };
            let building = request.get_or_insert_with(|| Request {
                records: Vec::new(),
                framed_bytes: 0,
                span: Span::default(),
                plan: Arc::clone(&frame.plan),
            });
            if !building.takes(&frame.plan) {
                return Ok(request);
            }
            let room_bytes = self.request_max_bytes.saturating_sub(building.framed_bytes);
            let room_rows = REQUEST_ROWS_MAX - building.records.len();
            let (records, framed_bytes) = match self.chunk.cut(self.chunk_next, room_bytes, room_rows) {
                Some(Cut::Request { records, framed_bytes }) => (records, framed_bytes),
                Some(Cut::TooLarge { .. }) if !building.records.is_empty() => return Ok(request),
                // A row above the wished size travels alone, up to what the service takes.
                Some(Cut::TooLarge { record, framed_bytes }) if framed_bytes <= REQUEST_BYTES_MAX => {
                    (record..record + 1, framed_bytes)
                }
                Some(Cut::TooLarge { framed_bytes, .. }) => return Err(self.row_too_large(framed_bytes)),
                None => continue,
            };
            building.framed_bytes += framed_bytes;
            building.span.rows += records.len() as u64;
            building.records.extend(records.clone().map(|index| self.chunk.record(index).to_vec()));
            building.span.bent += take_bent(&mut self.chunk_bent, frame, self.chunk.len(), &records);
            self.chunk_next = records.end;
            let rows_taken = frame.next_row - (self.chunk.len() - self.chunk_next);
            if rows_taken == frame.batch.num_rows() {
                building.span.end = Settled { through: frame.lsn, rows_of_next: 0 };
                building.span.frames += 1;
            } else {
                building.span.end =
                    Settled { through: frame.lsn.previous(), rows_of_next: rows_taken as u32 };
            }
            building.span.damaged_frames += std::mem::take(&mut self.damaged_frames);
            self.damaged_through = None;
            if building.records.len() == REQUEST_ROWS_MAX || building.framed_bytes >= self.request_max_bytes {
                return Ok(request);
            }
        }
    }

    /// Converts the next rows of the open frame, or of the next one; false when caught up.
    fn fill_chunk(&mut self) -> Result<bool, FeedError> {
        if let Some(refused) = &self.refused {
            return Err(FeedError::Poison(refused.clone()));
        }
        let is_used_up = |frame: &OpenFrame| frame.next_row == frame.batch.num_rows();
        while self.frame.as_ref().is_none_or(is_used_up) {
            match self.reader.next() {
                Ok(Some(Next::Frame(frame))) => match self.open_frame(&frame) {
                    Ok(opened) => self.frame = Some(opened),
                    Err(refused) => {
                        self.refused = Some(refused.clone());
                        return Err(FeedError::Poison(refused));
                    }
                },
                Ok(Some(Next::Damaged(damage))) => {
                    let Some(lsns) = &damage.lsns else { continue };
                    self.damaged_through = Some(*lsns.end());
                    // A power cut in the middle of a group leaves such gaps; nothing there was promised.
                    if damage.reason == DamageReason::Unsynced {
                        tracing::info!(%damage, "stepping over frames that were never synced");
                    } else {
                        tracing::error!(%damage, "stepping over a damaged stretch of the log");
                        self.damaged_frames += lsns.end().get() - lsns.start().get() + 1;
                    }
                }
                Ok(None) => return Ok(false),
                Err(error) => return Err(FeedError::Unreadable(chain(&error))),
            }
        }
        let Some(frame) = self.frame.as_mut() else { return Ok(false) };
        let rows = frame.next_row..(frame.next_row + frame.chunk_rows).min(frame.batch.num_rows());
        self.chunk.clear();
        self.chunk_next = 0;
        let encoded = frame.plan.encode(&frame.batch, rows.clone(), &mut self.chunk);
        self.chunk_bent = bent(&encoded);
        let refused = encoded.refused;
        if let Some(first) = refused.first() {
            self.chunk.clear();
            let text = format!(
                "frame {} has {} rows that do not convert, the first: {first}",
                frame.lsn,
                refused.len()
            );
            return Err(FeedError::Poison(TransportError::poison(ErrorCode::Conversion, text)));
        }
        frame.next_row = rows.end;
        Ok(true)
    }

    fn open_frame(&mut self, frame: &Frame) -> Result<OpenFrame, TransportError> {
        let poison = |error: &dyn std::error::Error| {
            let text = format!("frame {} does not convert: {}", frame.lsn, chain(error));
            TransportError::poison(ErrorCode::Conversion, text)
        };
        let plan = self.plans.of(frame, &self.table).map_err(|error| poison(&error))?;
        let batch = frame.decode().map_err(|error| poison(&error))?;
        let row_bytes = frame.frame_bytes() as usize / batch.num_rows().max(1);
        let next_row = if frame.lsn == self.skip_rows.0 { self.skip_rows.1 } else { 0 };
        Ok(OpenFrame {
            lsn: frame.lsn,
            chunk_rows: (self.request_max_bytes / row_bytes.max(1)).clamp(1, CHUNK_ROWS_MAX),
            next_row: next_row.min(batch.num_rows()),
            batch,
            plan,
        })
    }

    fn row_too_large(&self, framed_bytes: usize) -> FeedError {
        let (lsn, row) = self.frame.as_ref().map_or((Lsn::ZERO, 0), |frame| {
            (frame.lsn, frame.next_row - (self.chunk.len() - self.chunk_next))
        });
        FeedError::Poison(TransportError::poison(
            ErrorCode::Transmission,
            format!(
                "row {row} of frame {lsn} needs a request of {framed_bytes} bytes, \
                 the service takes {REQUEST_BYTES_MAX}"
            ),
        ))
    }
}

fn bent(encoded: &Encoded) -> Bent {
    Bent { floored_timestamps: encoded.floored_timestamps, emptied_lists: encoded.emptied_lists }
}

/// Takes out what is bent in the first of the records that `left` is about; they end the chunk of `chunk_len` records.
///
/// Only a chunk that is cut in the middle has to be looked at again for it. So a request knows what is bent in its own
/// rows, and what is sent again is never counted twice.
fn take_bent(left: &mut Bent, frame: &OpenFrame, chunk_len: usize, taken: &Range<usize>) -> Bent {
    if taken.end == chunk_len || *left == Bent::default() {
        return std::mem::take(left);
    }
    // Every row of the chunk is a record of it: a chunk with a refused row goes nowhere.
    let first_row = frame.next_row - chunk_len;
    let rows = first_row + taken.start..first_row + taken.end;
    let taken = bent(&frame.plan.encode(&frame.batch, rows, &mut Records::new()));
    left.floored_timestamps -= taken.floored_timestamps;
    left.emptied_lists -= taken.emptied_lists;
    taken
}

impl From<FeedError> for TransportError {
    fn from(error: FeedError) -> TransportError {
        match error {
            FeedError::Poison(error) => error,
            FeedError::Unreadable(message) => TransportError {
                class: ErrorClass::Transient,
                code: ErrorCode::Storage,
                message: format!("the log cannot be read: {message}"),
                retry_after: None,
            },
        }
    }
}
