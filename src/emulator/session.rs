//! One ingest stream: checks what the client sends, hands the rows to the writer, acknowledges.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{FutureExt as _, SinkExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::catalog::Table;
use super::columns::{RecordError, Rows};
use super::connection::Cutter;
use super::faults::{Fault, Faults, Occasion};
use super::protobuf::ProtobufReader;
use super::server::stopped;
use super::wire_format::ephemeral_stream_request::Payload;
use super::wire_format::ephemeral_stream_response::Payload as Answer;
use super::wire_format::ingest_record_batch_request::Batch;
use super::wire_format::ingest_record_request::Record;
use super::wire_format::{
    CloseStreamSignal, EphemeralStreamRequest, EphemeralStreamResponse, IngestRecordResponse,
};
use super::writer::{Chunk, Progress, Room, Stopped};
use super::{Sink, json};

/// What one request may carry; framing comes on top.
const REQUEST_RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Record bytes of one stream at which its rows go to the writer even if more requests are there.
const CHUNK_BYTES: usize = 1024 * 1024;

pub(super) type Answers = mpsc::Sender<Result<EphemeralStreamResponse, Status>>;

pub(super) fn answer(payload: Answer) -> EphemeralStreamResponse {
    EphemeralStreamResponse { payload: Some(payload) }
}

pub(super) fn check_grant(table: &Table) -> Result<(), Status> {
    match table.is_writable() {
        true => Ok(()),
        false => Err(Status::permission_denied(format!("error 4024: no MODIFY on table {}", table.name()))),
    }
}

/// Takes everything and answers nothing until the client goes or the emulator stops.
pub(super) async fn hang(
    requests: &mut Streaming<EphemeralStreamRequest>,
    stop: &mut watch::Receiver<bool>,
) -> Status {
    let drained = async { while let Ok(Some(_)) = requests.message().await {} };
    tokio::select! {
        () = stopped(stop) => Status::unavailable("the emulator is stopping"),
        () = drained => gone(),
    }
}

pub(super) fn gone() -> Status {
    Status::cancelled("the client has gone")
}

pub(super) fn writer_stopped(Stopped: Stopped) -> Status {
    Status::unavailable("the table takes no more rows")
}

/// How the records of a stream are read.
pub(super) enum Reader {
    Protobuf(ProtobufReader),
    Json,
}

enum Records {
    Protobuf(Vec<Bytes>),
    Json(Vec<String>),
}

impl Records {
    fn bytes(&self) -> usize {
        match self {
            Records::Protobuf(records) => records.iter().map(Bytes::len).sum(),
            Records::Json(records) => records.iter().map(String::len).sum(),
        }
    }
}

/// Requests whose rows are decoded and not yet with the writer.
#[derive(Default)]
struct Held {
    upto: Option<i64>,
    bytes: usize,
    room: Vec<Room>,
}

/// What connects a stream with its client, and what happens on the way.
pub(super) struct Link {
    pub(super) requests: Streaming<EphemeralStreamRequest>,
    pub(super) answers: Answers,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) connection: Option<Cutter>,
    pub(super) faults: Arc<Faults>,
    pub(super) sink: Sink,
}

/// An open stream.
pub(super) struct Session {
    requests: Streaming<EphemeralStreamRequest>,
    answers: Answers,
    stop: watch::Receiver<bool>,
    table: Arc<Table>,
    faults: Arc<Faults>,
    connection: Option<Cutter>,
    sink: Sink,
    reader: Reader,
    rows: Rows,
    held: Held,
    next_offset: i64,
    /// The last offset that the writer was given.
    handed_over: i64,
    acknowledged: i64,
    progress: Arc<watch::Sender<Progress>>,
    durable: watch::Receiver<Progress>,
    /// A rule wants no acknowledgement any more.
    is_silent: bool,
    /// Acknowledgements that a rule delays, and when each is due.
    delayed: VecDeque<(Instant, i64)>,
    /// When a stream that has announced its end ends.
    ends_at: Option<Instant>,
}

impl Session {
    pub(super) fn new(link: Link, table: Arc<Table>, reader: Reader, rows: Rows) -> Session {
        let Link { requests, answers, stop, connection, faults, sink } = link;
        let (progress, durable) = watch::channel(Progress { durable: -1, failure: None });
        Session {
            requests,
            answers,
            stop,
            table,
            faults,
            connection,
            sink,
            reader,
            rows,
            held: Held::default(),
            next_offset: 0,
            acknowledged: -1,
            handed_over: -1,
            progress: Arc::new(progress),
            durable,
            is_silent: false,
            delayed: VecDeque::new(),
            ends_at: None,
        }
    }

    /// Serves the stream to its end. Requests that came before the one that ended it are committed
    /// and acknowledged first.
    pub(super) async fn run(&mut self) -> Result<(), Status> {
        let end = self.take_in().await;
        self.commit().await?;
        while let Some((due, _)) = self.delayed.front().copied() {
            sleep_until(due).await;
            self.acknowledge_delayed().await?;
        }
        end
    }

    /// Takes requests until the client sends no more, something is wrong or the emulator stops.
    async fn take_in(&mut self) -> Result<(), Status> {
        loop {
            let (delayed, ends_at) = (self.delayed.front().map(|(due, _)| *due), self.ends_at);
            tokio::select! {
                biased;
                _ = self.durable.changed() => self.acknowledge().await?,
                () = at(delayed) => self.acknowledge_delayed().await?,
                () = stopped(&mut self.stop) => {
                    return Err(Status::unavailable("the emulator is stopping"));
                }
                () = at(ends_at) => {
                    return Err(Status::unavailable("error 6002: the stream is too old"));
                }
                request = self.requests.message() => {
                    let mut next = Some(request);
                    // Requests that are already here share a chunk; a lone one does not wait for more.
                    while let Some(request) = next {
                        let Some(request) = request? else {
                            return Ok(());
                        };
                        check_grant(&self.table)?;
                        if self.faults.is_armed(Occasion::Request) {
                            self.ingest_or_fail(request).await?;
                        } else {
                            self.ingest(request).await?;
                        }
                        next = match self.held.bytes < CHUNK_BYTES {
                            true => self.requests.message().now_or_never(),
                            false => None,
                        };
                    }
                    self.hand_over(self.rows.count())?;
                }
            }
        }
    }

    /// Takes a request as a rule wants it.
    async fn ingest_or_fail(&mut self, request: EphemeralStreamRequest) -> Result<(), Status> {
        match self.faults.strike(Occasion::Request, Some(self.table.name())) {
            Some(Fault::FailStream { refusal }) => return Err(refusal.status()),
            Some(Fault::HangStream {}) => {
                self.is_silent = true;
                return Err(hang(&mut self.requests, &mut self.stop).await);
            }
            Some(Fault::CloseSignal { grace_ms }) => {
                let grace = Duration::from_millis(grace_ms);
                let signal = CloseStreamSignal { duration: grace.try_into().ok() };
                self.answers.send(Ok(answer(Answer::CloseStreamSignal(signal)))).await.map_err(|_| gone())?;
                self.ends_at = Some(Instant::now() + grace);
            }
            Some(Fault::DropAck { reset }) => {
                self.is_silent = true;
                self.delayed.clear();
                self.ingest(request).await?;
                self.commit().await?;
                if let Some(connection) = self.connection.as_ref().filter(|_| reset) {
                    connection.cut();
                }
                return Err(Status::unavailable("the stream ends without an acknowledgement"));
            }
            _ => {}
        }
        self.ingest(request).await
    }

    /// Waits until all that was taken is in the table, and acknowledges it.
    async fn commit(&mut self) -> Result<(), Status> {
        self.hand_over(self.rows.count())?;
        self.table.writer().hurry();
        loop {
            self.acknowledge().await?;
            if self.durable.borrow().durable >= self.handed_over {
                // What became durable between the two is not acknowledged yet.
                return self.acknowledge().await;
            }
            self.durable.changed().await.map_err(|_| Status::internal("the writer has gone"))?;
        }
    }

    async fn ingest(&mut self, request: EphemeralStreamRequest) -> Result<(), Status> {
        let (offset, records) = self.check(request)?;
        let bytes = records.bytes();
        if bytes > REQUEST_RECORD_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "a request of {bytes} record bytes is over the limit of {REQUEST_RECORD_BYTES_MAX}"
            )));
        }
        if self.sink == Sink::Delta {
            let room = match self.table.writer().try_room(bytes) {
                Some(room) => room,
                None => {
                    self.hand_over(self.rows.count())?;
                    self.table.writer().room(bytes).await.map_err(writer_stopped)?
                }
            };
            let is_watched = self.faults.is_armed(Occasion::Records);
            if is_watched {
                self.hand_over(self.rows.count())?;
            }
            let whole = self.rows.count();
            if let Err(error) = self.decode(&records) {
                // Rows of the requests before stay; of this one none does.
                self.hand_over(whole)?;
                return Err(Status::invalid_argument(format!(
                    "error 4044: a record does not fit table {}: {error}",
                    self.table.name()
                )));
            }
            self.held.room.push(room);
            if is_watched {
                return self.hand_over_unless_rejected(offset);
            }
        }
        self.held.bytes += bytes;
        self.held.upto = Some(offset);
        self.next_offset = offset + 1;
        Ok(())
    }

    fn check(&self, request: EphemeralStreamRequest) -> Result<(i64, Records), Status> {
        let (offset, records) = match request.payload {
            Some(Payload::IngestRecord(one)) => {
                let records = match one.record {
                    Some(Record::ProtoEncodedRecord(record)) => Some(Records::Protobuf(vec![record])),
                    Some(Record::JsonRecord(record)) => Some(Records::Json(vec![record])),
                    None => None,
                };
                (one.offset_id, records)
            }
            Some(Payload::IngestRecordBatch(many)) => {
                let records = match many.batch {
                    Some(Batch::ProtoEncodedBatch(batch)) => Some(Records::Protobuf(batch.records)),
                    Some(Batch::JsonBatch(batch)) => Some(Records::Json(batch.records)),
                    None => None,
                };
                (many.offset_id, records)
            }
            Some(Payload::CreateStream(_)) => {
                return Err(Status::invalid_argument("the stream is already created"));
            }
            None => return Err(Status::invalid_argument("a request without records")),
        };
        let records = records.ok_or_else(|| Status::invalid_argument("a request without records"))?;
        if matches!(records, Records::Json(_)) != matches!(self.reader, Reader::Json) {
            return Err(Status::invalid_argument("the records are not of the type of the stream"));
        }
        if offset != Some(self.next_offset) {
            let got = offset.map_or("none".to_owned(), |offset| offset.to_string());
            let text = format!("the offset must be {} and is {got}", self.next_offset);
            return Err(Status::invalid_argument(text));
        }
        Ok((self.next_offset, records))
    }

    fn decode(&mut self, records: &Records) -> Result<(), RecordError> {
        match (records, &mut self.reader) {
            (Records::Protobuf(records), Reader::Protobuf(reader)) => {
                records.iter().try_for_each(|record| reader.read(record, &mut self.rows))
            }
            (Records::Json(records), _) => {
                records.iter().try_for_each(|record| json::read(record, &mut self.rows))
            }
            // `check` lets only records of the stream's type through.
            (Records::Protobuf(_), Reader::Json) => Ok(()),
        }
    }

    /// Gives the rows of one request to the writer, or drops them because a rule rejects one of them.
    fn hand_over_unless_rejected(&mut self, offset: i64) -> Result<(), Status> {
        let rows = self.finish(self.rows.count())?;
        let is_met =
            |fault: &Fault| matches!(fault, Fault::RejectRecords { condition } if condition.is_met(&rows));
        if self.faults.strike_where(Occasion::Records, Some(self.table.name()), is_met).is_some() {
            self.held = Held::default();
            let text = format!("error 4044: a record does not fit table {}", self.table.name());
            return Err(Status::invalid_argument(text));
        }
        self.held.upto = Some(offset);
        self.next_offset = offset + 1;
        self.give(rows)
    }

    fn finish(&mut self, count: usize) -> Result<RecordBatch, Status> {
        self.rows.finish(count).map_err(|error| Status::internal(error.to_string()))
    }

    /// Gives the first `count` rows, those of whole requests, to the writer.
    fn hand_over(&mut self, count: usize) -> Result<(), Status> {
        let Some(upto) = self.held.upto else {
            return Ok(());
        };
        if self.sink == Sink::Discard {
            self.held = Held::default();
            self.handed_over = upto;
            self.progress.send_modify(|progress| progress.durable = upto);
            return Ok(());
        }
        let rows = self.finish(count)?;
        self.give(rows)
    }

    fn give(&mut self, rows: RecordBatch) -> Result<(), Status> {
        let Held { upto, room, .. } = std::mem::take(&mut self.held);
        let Some(upto) = upto else {
            return Ok(());
        };
        self.handed_over = upto;
        let progress = Arc::clone(&self.progress);
        self.table.writer().append(Chunk { rows, upto, progress, room }).map_err(writer_stopped)
    }

    /// Tells the client what is durable now, unless a rule is against it.
    async fn acknowledge(&mut self) -> Result<(), Status> {
        let Progress { durable, failure } = self.durable.borrow_and_update().clone();
        let told = self.delayed.back().map_or(self.acknowledged, |(_, offset)| *offset);
        if durable > told && !self.is_silent {
            match self.faults.strike(Occasion::Ack, Some(self.table.name())) {
                Some(Fault::WithholdAcks {}) => self.is_silent = true,
                Some(Fault::DelayAcks { delay_ms }) => {
                    let due = Instant::now() + Duration::from_millis(delay_ms);
                    self.delayed.push_back((due, durable));
                }
                // It may not overtake one that is delayed.
                _ => match self.delayed.back().copied() {
                    Some((due, _)) => self.delayed.push_back((due, durable)),
                    None => self.send_acknowledgement(durable).await?,
                },
            }
        }
        match failure {
            Some(failure) => Err(Status::internal(format!("rows could not be committed: {failure}"))),
            None => Ok(()),
        }
    }

    async fn acknowledge_delayed(&mut self) -> Result<(), Status> {
        match self.delayed.pop_front() {
            Some((_, offset)) => self.send_acknowledgement(offset).await,
            None => Ok(()),
        }
    }

    async fn send_acknowledgement(&mut self, offset: i64) -> Result<(), Status> {
        let response = IngestRecordResponse { durability_ack_up_to_offset: Some(offset) };
        self.answers.send(Ok(answer(Answer::IngestRecordResponse(response)))).await.map_err(|_| gone())?;
        self.acknowledged = offset;
        Ok(())
    }
}

/// Ends then; never without a time.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
