//! One ingest stream: checks what the client sends, hands the rows to the writer, acknowledges.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::acks::Acks;
use super::catalog::Table;
use super::columns::RecordError;
use super::envelope::{Answer, Call, Request};
use super::faults::{Fault, Occasion};
use super::format::{Intake, Reader};
use super::link::{Link, at, check_grant, writer_stopped};
use super::persistent::Stream;
use super::server::stopped;
use super::wire_format::ingest_record_batch_request::Batch;
use super::wire_format::ingest_record_request::Record;
use super::wire_format::{CloseStreamSignal, IngestRecordResponse};
use super::writer::{Chunk, Progress, Room};
use super::{Sink, json};

/// What one request may carry; framing comes on top.
const REQUEST_RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Record bytes of one stream at which its rows go to the writer even if more requests are there.
const CHUNK_BYTES: usize = 1024 * 1024;

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

/// What connects a stream of records with its client.
pub(super) type RecordLink<C> = Link<<C as Call>::Request, <C as Call>::Answer>;

/// A stream that a client is connected to.
pub(super) struct Session<C: Call> {
    link: RecordLink<C>,
    table: Arc<Table>,
    intake: Intake,
    /// The persistent stream that this one goes on with.
    stream: Option<Arc<Stream>>,
    held: Held,
    next_offset: i64,
    /// The last offset that the writer was given.
    handed_over: i64,
    acks: Acks,
    /// When a stream that has announced its end ends.
    ends_at: Option<Instant>,
}

impl<C: Call> Session<C> {
    /// Goes on behind what the progress says is durable.
    pub(super) fn new(
        link: RecordLink<C>,
        table: Arc<Table>,
        intake: Intake,
        progress: Arc<watch::Sender<Progress>>,
        stream: Option<Arc<Stream>>,
    ) -> Session<C> {
        let handed_over = progress.borrow().durable;
        let acks = Acks::new(table.name().clone(), Arc::clone(&link.faults), progress);
        let (held, next_offset) = (Held::default(), handed_over + 1);
        Session { link, table, intake, stream, held, next_offset, handed_over, acks, ends_at: None }
    }

    /// Serves the stream to its end. Requests that came before the one that ended it are committed
    /// and acknowledged first.
    pub(super) async fn run(&mut self) -> Result<(), Status> {
        let end = self.take_in().await;
        self.commit().await?;
        while let Some(due) = self.acks.due() {
            sleep_until(due).await;
            self.acknowledge_delayed().await?;
        }
        end
    }

    /// Takes requests until the client sends no more, something is wrong or the emulator stops.
    async fn take_in(&mut self) -> Result<(), Status> {
        loop {
            let (delayed, ends_at) = (self.acks.due(), self.ends_at);
            tokio::select! {
                biased;
                told = self.acks.changed() => {
                    told?;
                    self.acknowledge().await?;
                }
                () = at(delayed) => self.acknowledge_delayed().await?,
                () = stopped(&mut self.link.stop) => {
                    return Err(Status::unavailable("the emulator is stopping"));
                }
                () = at(ends_at) => {
                    return Err(Status::unavailable("error 6002: the stream is too old"));
                }
                request = self.link.requests.message() => {
                    let mut next = Some(request);
                    // Requests that are already here share a chunk; a lone one does not wait for more.
                    while let Some(request) = next {
                        let Some(request) = request? else {
                            return Ok(());
                        };
                        check_grant(&self.table)?;
                        if self.link.faults.is_armed(Occasion::Request) {
                            self.ingest_or_fail(request).await?;
                        } else {
                            self.ingest(request).await?;
                        }
                        next = match self.held.bytes < CHUNK_BYTES {
                            true => self.link.requests.message().now_or_never(),
                            false => None,
                        };
                    }
                    self.hand_over(self.intake.rows.count())?;
                }
            }
        }
    }

    /// Takes a request as a rule wants it.
    async fn ingest_or_fail(&mut self, request: C::Request) -> Result<(), Status> {
        match self.link.faults.strike(Occasion::Request, Some(self.table.name())) {
            Some(Fault::FailStream { refusal }) => return Err(refusal.status()),
            Some(Fault::HangStream {}) => {
                self.acks.silence();
                return Err(self.link.hang().await);
            }
            Some(Fault::CloseSignal { grace_ms }) => {
                let grace = Duration::from_millis(grace_ms);
                let signal = CloseStreamSignal { duration: grace.try_into().ok() };
                self.link.send(C::seal(Answer::Closing(signal))).await?;
                self.ends_at = Some(Instant::now() + grace);
            }
            Some(Fault::DropAck { reset }) => {
                self.acks.silence();
                self.ingest(request).await?;
                self.commit().await?;
                if reset {
                    self.link.cut();
                }
                return Err(Status::unavailable("the stream ends without an acknowledgement"));
            }
            _ => {}
        }
        self.ingest(request).await
    }

    /// Waits until all that was taken is in the table, and acknowledges it.
    async fn commit(&mut self) -> Result<(), Status> {
        self.hand_over(self.intake.rows.count())?;
        self.table.writer().hurry();
        loop {
            self.acknowledge().await?;
            if self.acks.is_durable(self.handed_over) {
                // What became durable between the two is not acknowledged yet.
                return self.acknowledge().await;
            }
            self.acks.changed().await?;
        }
    }

    async fn ingest(&mut self, request: C::Request) -> Result<(), Status> {
        let (offset, records) = self.check(request)?;
        let bytes = records.bytes();
        if bytes > REQUEST_RECORD_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "a request of {bytes} record bytes is over the limit of {REQUEST_RECORD_BYTES_MAX}"
            )));
        }
        if self.link.sink == Sink::Delta {
            let room = match self.table.writer().try_room(bytes) {
                Some(room) => room,
                None => {
                    self.hand_over(self.intake.rows.count())?;
                    self.table.writer().room(bytes).await.map_err(writer_stopped)?
                }
            };
            let is_watched = self.link.faults.is_armed(Occasion::Records);
            if is_watched {
                self.hand_over(self.intake.rows.count())?;
            }
            let whole = self.intake.rows.count();
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

    fn check(&self, request: C::Request) -> Result<(i64, Records), Status> {
        let (offset, records) = match C::open(request) {
            Some(Request::Record(one)) => {
                let records = match one.record {
                    Some(Record::ProtoEncodedRecord(record)) => Some(Records::Protobuf(vec![record])),
                    Some(Record::JsonRecord(record)) => Some(Records::Json(vec![record])),
                    None => None,
                };
                (one.offset_id, records)
            }
            Some(Request::Batch(many)) => {
                let records = match many.batch {
                    Some(Batch::ProtoEncodedBatch(batch)) => Some(Records::Protobuf(batch.records)),
                    Some(Batch::JsonBatch(batch)) => Some(Records::Json(batch.records)),
                    None => None,
                };
                (many.offset_id, records)
            }
            Some(Request::Create(_) | Request::Resume(_)) => {
                return Err(Status::invalid_argument("the stream is already open"));
            }
            None => return Err(Status::invalid_argument("a request without records")),
        };
        let records = records.ok_or_else(|| Status::invalid_argument("a request without records"))?;
        if matches!(records, Records::Json(_)) != matches!(self.intake.reader, Reader::Json) {
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
        match (records, &mut self.intake.reader) {
            (Records::Protobuf(records), Reader::Protobuf(reader)) => {
                records.iter().try_for_each(|record| reader.read(record, &mut self.intake.rows))
            }
            (Records::Json(records), _) => {
                records.iter().try_for_each(|record| json::read(record, &mut self.intake.rows))
            }
            // `check` lets only records of the stream's type through.
            (Records::Protobuf(_), Reader::Json) => Ok(()),
        }
    }

    /// Gives the rows of one request to the writer, or drops them because a rule rejects one of them.
    fn hand_over_unless_rejected(&mut self, offset: i64) -> Result<(), Status> {
        let rows = self.finish(self.intake.rows.count())?;
        let is_met =
            |fault: &Fault| matches!(fault, Fault::RejectRecords { condition } if condition.is_met(&rows));
        if self.link.faults.strike_where(Occasion::Records, Some(self.table.name()), is_met).is_some() {
            self.held = Held::default();
            let text = format!("error 4044: a record does not fit table {}", self.table.name());
            return Err(Status::invalid_argument(text));
        }
        self.held.upto = Some(offset);
        self.next_offset = offset + 1;
        self.give(rows)
    }

    fn finish(&mut self, count: usize) -> Result<RecordBatch, Status> {
        self.intake.rows.finish(count).map_err(|error| Status::internal(error.to_string()))
    }

    /// Gives the first `count` rows, those of whole requests, to the writer.
    fn hand_over(&mut self, count: usize) -> Result<(), Status> {
        let Some(upto) = self.held.upto else {
            return Ok(());
        };
        if self.link.sink == Sink::Discard {
            self.held = Held::default();
            self.handed_over = upto;
            self.discard(upto);
            return Ok(());
        }
        let rows = self.finish(count)?;
        self.give(rows)
    }

    /// Takes what came up to this offset as committed, unless the persistent stream has another connection by now.
    fn discard(&self, upto: i64) {
        let state = self.stream.as_ref().map(|stream| stream.lock());
        if self.acks.discard(upto)
            && let Some(mut state) = state
        {
            state.committed = Some(upto);
        }
    }

    fn give(&mut self, rows: RecordBatch) -> Result<(), Status> {
        let Held { upto, room, .. } = std::mem::take(&mut self.held);
        let Some(upto) = upto else {
            return Ok(());
        };
        let (progress, stream) = (self.acks.progress(), self.stream.clone());
        let chunk = Chunk { rows, upto, progress, stream, room };
        self.table.writer().append(chunk).map_err(writer_stopped)?;
        self.handed_over = upto;
        Ok(())
    }

    /// Tells the client what is durable now, unless a rule is against it.
    async fn acknowledge(&mut self) -> Result<(), Status> {
        let (offset, end) = self.acks.next();
        if let Some(offset) = offset {
            self.send_acknowledgement(offset).await?;
        }
        end
    }

    async fn acknowledge_delayed(&mut self) -> Result<(), Status> {
        match self.acks.pop_delayed() {
            Some(offset) => self.send_acknowledgement(offset).await,
            None => Ok(()),
        }
    }

    async fn send_acknowledgement(&mut self, offset: i64) -> Result<(), Status> {
        let response = IngestRecordResponse { durability_ack_up_to_offset: Some(offset) };
        self.link.send(C::seal(Answer::Ingested(response))).await
    }
}
