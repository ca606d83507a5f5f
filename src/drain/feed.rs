//! Turns durable frames into requests: read, decode, convert, cut; and puts what cannot be sent into quarantine.
//!
//! Everything here blocks (disk, processor) and runs on the blocking pool; the lane asks for one request
//! ahead, so conversion of the next one overlaps with the sending of this one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::chunk::{Chunk, OpenFrame, Taken};
use super::fed::{Fed, FeedError, is_same};
use super::grace::{Grace, Schema};
use super::piece::{Piece, unmade};
use super::refusals::Refusals;
use super::{Covered, Plans, Span};
use crate::catalog::Known;
use crate::config::REQUEST_BYTES_MAX;
use crate::convert::{Cut, RowError};
use crate::error::{ErrorCode, chain};
use crate::ledger::{Bent, RecordedRequest, Settled};
use crate::quarantine::{Quarantine, Refusal, Rows};
use crate::transport::TransportError;
use crate::types::Lsn;
use crate::wal::{DamageReason, Frame, LogReader, Next};

/// Rows per request; keeps a request of tiny rows from becoming a million allocations.
const REQUEST_ROWS_MAX: usize = 20_000;
/// So long it is believed that the table is as it is known, as the catalog's own answers are.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// A row that was refused when it was alone.
#[derive(Clone, Debug)]
pub(super) struct Condemned {
    pub(super) lsn: Lsn,
    pub(super) row: u32,
    pub(super) refusal: Refusal,
}

impl Condemned {
    pub(super) fn position(&self) -> (Lsn, u32) {
        (self.lsn, self.row)
    }
}

/// What a feed goes by.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) request_max_bytes: usize,
    pub(super) plans: Plans,
    /// The table that all records are made for.
    pub(super) table: Arc<Known>,
    pub(super) quarantine: Quarantine,
    pub(super) grace: Arc<Grace>,
    pub(super) condemned: Option<Condemned>,
    /// What is passed over without a word: settled above the watermark, or in flight elsewhere.
    pub(super) covered: Covered,
    /// How many rows the next request may have; the lane changes it.
    pub(super) rows_max: Arc<AtomicUsize>,
    /// The next requests, which were made before and may have been sent: each is to be made as it was.
    pub(super) recorded: VecDeque<RecordedRequest>,
    /// Whether anybody wants to know which traces the frames belong to.
    pub(super) is_traced: bool,
}

/// Reads on from one position of the log.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) reader: LogReader,
    pub(super) rules: Rules,
    pub(super) frame: Option<OpenFrame>,
    /// The frame that the reader has passed and that could not be opened. Nothing behind it may be sent before it.
    pub(super) unopened: Option<Frame>,
    pub(super) chunk: Chunk,
    pub(super) refusals: Refusals,
    /// Rows of the chunk that do not convert into the table as it is known.
    doubtful: Vec<(u32, Refusal)>,
    /// When the catalog has confirmed that it is so.
    confirmed_at: Option<Instant>,
    /// Rows of the first frame that are settled already.
    pub(super) skip_rows: (Lsn, usize),
    /// Damage that no request has taken along yet.
    damaged_frames: u64,
    pub(super) damaged_through: Option<Settled>,
    /// Rows and bytes of the request before: the next one is mostly like it.
    newest: (usize, usize),
    /// Requests and what they skip have come so far.
    pub(super) passed: Settled,
    /// What there is of a request that is recorded, when making it was interrupted.
    pub(super) unfinished: Piece,
}

impl Feed {
    /// `reader` stands at the first frame that is not settled.
    pub(super) fn new(reader: LogReader, from: Settled, rules: Rules) -> Feed {
        Feed {
            reader,
            refusals: Refusals::new(rules.quarantine.clone()),
            rules,
            frame: None,
            unopened: None,
            chunk: Chunk::default(),
            doubtful: Vec::new(),
            confirmed_at: None,
            skip_rows: (from.through.next(), from.rows_of_next as usize),
            damaged_frames: 0,
            damaged_through: None,
            newest: (0, 0),
            passed: from,
            unfinished: Piece::default(),
        }
    }

    /// Which version of the table its records are made for.
    pub(super) fn table_version(&self) -> u64 {
        self.rules.table.version
    }

    /// To be called when the table is still as this feed knows it: what does not fit goes into quarantine.
    pub(super) fn confirm(&mut self) {
        self.confirmed_at = Some(Instant::now());
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed_at.is_some_and(|at| at.elapsed() < CONFIRMED_FOR)
    }

    /// What comes next; `None` if everything durable is on its way.
    ///
    /// # Durability
    ///
    /// The rows that it passes without sending them are in quarantine.
    pub(super) fn next(&mut self) -> Result<Option<Fed>, FeedError> {
        if let Some(recorded) = self.rules.recorded.front().copied() {
            return self.next_recorded(&recorded);
        }
        self.leap();
        let mut piece = Piece::like(self.newest);
        let ended = self.fill(&mut piece);
        if !piece.rows.is_empty() {
            self.newest = (piece.rows.len(), piece.framed_bytes);
        }
        self.refusals.put()?;
        self.take_damage(&mut piece);
        self.reach_covered(&mut piece);
        // What is good before goes first; an error comes again at the next call.
        piece.finish()?.map_or_else(|| ended.map(|()| None), |fed| Ok(Some(fed)))
    }

    /// Lets the piece pass the damage behind it, if there is nothing else.
    pub(super) fn take_damage(&mut self, piece: &mut Piece) {
        if let Some(end) = self.damaged_through.take() {
            // Nothing but damage lies behind what the piece passes.
            let damaged_frames = std::mem::take(&mut self.damaged_frames);
            let part = Span { start: self.passed, end, damaged_frames, ..Span::default() };
            self.passed = end;
            piece.add(part);
        }
    }

    /// Adds rows to the piece until it is full or what comes does not fit into it.
    fn fill(&mut self, piece: &mut Piece) -> Result<(), FeedError> {
        let rows_max = self.rules.rows_max.load(Ordering::Acquire).clamp(1, REQUEST_ROWS_MAX);
        loop {
            if self.chunk.is_used_up() && !self.next_chunk()? {
                return Ok(());
            }
            self.settle_doubts()?;
            let Some(frame) = &mut self.frame else { return Ok(()) };
            let (next, made) = (self.chunk.next(), self.chunk.made());
            let room_bytes = self.rules.request_max_bytes.saturating_sub(piece.framed_bytes);
            let is_new_stream = |plan| piece.plan.as_ref().is_some_and(|planned| !is_same(planned, plan));
            let (end, framed_bytes) = match made.cut(next, room_bytes, rows_max - piece.rows.len()) {
                Some(_) if frame.plan.as_ref().is_some_and(is_new_stream) => return Ok(()),
                Some(Cut::Request { records, framed_bytes }) => (records.end, framed_bytes),
                // A row above the wished size travels alone, up to what the service takes.
                Some(Cut::TooLarge { framed_bytes, .. }) if framed_bytes <= REQUEST_BYTES_MAX => {
                    if !piece.rows.is_empty() {
                        return Ok(());
                    }
                    (next + 1, framed_bytes)
                }
                Some(Cut::TooLarge { framed_bytes, .. }) => {
                    let row = self.chunk.row_of(next) as u32;
                    self.refusals.add(frame.lsn, &frame.batch, [(row, too_large(framed_bytes))]);
                    // It is not sent, so nothing in it is bent.
                    let taken = Taken { bent: Bent::default(), ..self.chunk.take(frame, next + 1) };
                    frame.quarantined.merge(&Rows::of([row]));
                    self.pass(piece, None, 0, taken);
                    continue;
                }
                // Only holes are left.
                None => (next, 0),
            };
            let mut first = None;
            if end > next {
                piece.plan = piece.plan.take().or_else(|| frame.plan.clone());
                piece.rows.add(made, next..end);
                piece.framed_bytes += framed_bytes;
                first = Some((frame.lsn, self.chunk.row_of(next) as u32));
            }
            let taken = self.chunk.take(frame, end);
            self.pass(piece, first, (end - next) as u64, taken);
            let is_full = piece.rows.len() >= rows_max
                || piece.framed_bytes >= piece.rows.enough_bytes(self.rules.request_max_bytes)
                || self.refusals.rows() >= REQUEST_ROWS_MAX;
            if is_full {
                return Ok(());
            }
        }
    }

    /// Counts what the piece has taken from the chunk, of which `records` are sent.
    pub(super) fn pass(&mut self, piece: &mut Piece, first: Option<(Lsn, u32)>, records: u64, taken: Taken) {
        let Some(frame) = &self.frame else { return };
        if records > 0 {
            piece.contexts.add(frame.lsn.get(), frame.context);
        }
        let mut part = Span { start: self.passed, first, rows: records, bent: taken.bent, ..Span::default() };
        part.quarantined.rows = taken.rows - records;
        if part.quarantined.rows > 0 {
            let end = self.chunk.next_row();
            for row in frame.quarantined.runs_in(end - taken.rows as usize..end).flatten() {
                piece.holes.update(&frame.lsn.get().to_le_bytes());
                piece.holes.update(&(row as u32).to_le_bytes());
            }
        }
        let rows = frame.batch.num_rows();
        if self.chunk.is_used_up() && frame.is_used_up() {
            part.end = Settled { through: frame.lsn, rows_of_next: 0 };
            let is_delivered = frame.quarantined.count_in(0..rows) < rows as u64;
            part.frames = u64::from(is_delivered);
            part.quarantined.frames = u64::from(!is_delivered);
        } else {
            part.end = Settled { through: frame.lsn.previous(), rows_of_next: self.chunk.next_row() as u32 };
        }
        part.damaged_frames = std::mem::take(&mut self.damaged_frames);
        self.damaged_through = None;
        self.passed = part.end;
        piece.add(part);
    }

    /// The frame that comes behind the open one.
    pub(super) fn next_lsn(&self) -> Lsn {
        self.unopened.as_ref().map_or(self.reader.next_lsn(), |frame| frame.lsn)
    }

    /// Converts the next rows of the open frame, or of the next one; false when caught up, or at something covered.
    pub(super) fn next_chunk(&mut self) -> Result<bool, FeedError> {
        loop {
            if self.is_at_covered() {
                return Ok(false);
            }
            if self.frame.as_ref().is_some_and(|frame| !frame.is_used_up()) {
                break;
            }
            // The next one is read into its memory.
            self.frame = None;
            let next = match self.unopened.take() {
                Some(frame) => Ok(Some(Next::Frame(frame))),
                None => self.reader.next(),
            };
            match next {
                Ok(Some(Next::Frame(frame))) => match self.open_frame(&frame) {
                    Ok(opened) => self.frame = Some(opened),
                    Err(error) => {
                        self.unopened = Some(frame);
                        return Err(error);
                    }
                },
                Ok(Some(Next::Damaged(damage))) => {
                    let Some(lsns) = &damage.lsns else { continue };
                    // What is covered behind it was delivered before, or will be.
                    let whole = Settled { through: *lsns.end(), rows_of_next: 0 };
                    let end = self.rules.covered.next_start().map_or(whole, |covered| covered.min(whole));
                    self.damaged_through = Some(end);
                    // A power cut in the middle of a group leaves such gaps; nothing there was promised.
                    if damage.reason == DamageReason::Unsynced {
                        tracing::info!(%damage, "stepping over frames that were never synced");
                    } else {
                        tracing::error!(%damage, "stepping over a damaged stretch of the log");
                        self.damaged_frames += end.through.next().get().saturating_sub(lsns.start().get());
                    }
                }
                Ok(None) => return Ok(false),
                Err(error) => return Err(FeedError::Unreadable(chain(&error))),
            }
        }
        let stop_row = self.frame.as_ref().map(|frame| self.stop_row(frame));
        let (Some(frame), Some(stop_row)) = (&mut self.frame, stop_row) else { return Ok(false) };
        frame.stop_row = stop_row;
        let refused = self.chunk.fill(frame).map_err(unmade)?;
        if !refused.is_empty() {
            let refusal =
                |error: &RowError| (error.row as u32, Refusal::new("conversion", &error.to_string()));
            self.doubtful = refused.iter().map(refusal).collect();
        }
        Ok(true)
    }

    /// Rows that do not convert are given up once the catalog has said that the table is as it is known.
    pub(super) fn settle_doubts(&mut self) -> Result<(), FeedError> {
        let (Some(first), Some(frame)) = (self.doubtful.first(), &self.frame) else { return Ok(()) };
        if !self.is_confirmed() {
            let (lsn, count) = (frame.lsn, self.doubtful.len());
            let text =
                format!("frame {lsn} has {count} rows that do not convert, the first: {}", first.1.reason);
            return Err(FeedError::Doubtful(TransportError::poison(ErrorCode::Conversion, text)));
        }
        let Some(frame) = &mut self.frame else { return Ok(()) };
        let doubtful = std::mem::take(&mut self.doubtful);
        frame.quarantined.merge(&Rows::of(doubtful.iter().map(|(row, _)| *row)));
        self.refusals.add(frame.lsn, &frame.batch, doubtful);
        Ok(())
    }

    fn open_frame(&mut self, frame: &Frame) -> Result<OpenFrame, FeedError> {
        let lsn = frame.lsn;
        let poison = |error: &dyn std::error::Error| {
            let text = format!("frame {lsn} does not convert: {}", chain(error));
            TransportError::poison(ErrorCode::Conversion, text)
        };
        let now = Instant::now();
        let grace = &self.rules.grace;
        let is_batch = |it: &Schema| *it == Schema::Batch(frame.fingerprint);
        let plan = match self.rules.plans.of(frame, &self.rules.table) {
            Ok(plan) => {
                grace.accepted(is_batch);
                let is_stream =
                    |it: &Schema| matches!(it, Schema::Stream(refused) if refused == plan.format());
                grace.verdict(is_stream, now).map_or(Ok(plan.clone()), Err)
            }
            Err(error) => match grace.verdict(is_batch, now) {
                Some(_) if !self.is_confirmed() => return Err(FeedError::Doubtful(poison(&error))),
                Some(refusal) => Err(refusal),
                None => return Err(FeedError::Schema(Schema::Batch(frame.fingerprint), poison(&error))),
            },
        };
        let batch = frame.decode().map_err(|error| FeedError::Failed(poison(&error)))?;
        let rows = batch.num_rows();
        let next_row = if lsn == self.skip_rows.0 { self.skip_rows.1.min(rows) } else { 0 };
        let known = self.refusals.quarantine().rows_of(lsn);
        let mut quarantined = known.map(|rows| (*rows).clone()).unwrap_or_default();
        if let Some(condemned) = self.rules.condemned.as_ref().filter(|it| it.lsn == lsn) {
            let row = condemned.row as usize;
            if row >= next_row && row < rows && quarantined.count_in(row..row + 1) == 0 {
                self.refusals.add(lsn, &batch, [(condemned.row, condemned.refusal.clone())]);
                quarantined.merge(&Rows::of([condemned.row]));
            }
        }
        let plan = match plan {
            Ok(plan) => Some(plan),
            Err(refusal) => {
                for run in quarantined.gaps_in(next_row..rows) {
                    let run = run.start as u32..run.end as u32;
                    quarantined.merge(&Rows::of(run.clone()));
                    self.refusals.add(lsn, &batch, run.map(|row| (row, refusal.clone())));
                }
                None
            }
        };
        let chunk_rows = match &plan {
            Some(plan) => plan.chunk_rows(rows, frame.frame_bytes() as usize, self.rules.request_max_bytes),
            // A frame that is given up is not converted, and passed at once.
            None => rows.max(1),
        };
        let context = if self.rules.is_traced { frame.context() } else { None };
        Ok(OpenFrame { lsn, batch, context, plan, chunk_rows, next_row, stop_row: rows, quarantined })
    }
}

fn too_large(framed_bytes: usize) -> Refusal {
    let text =
        format!("the row needs a request of {framed_bytes} bytes, the service takes {REQUEST_BYTES_MAX}");
    Refusal::new("row_too_large", &text)
}
