//! One stream of batches: hands rows to the writer of the table, acknowledges them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::utils::flight_data_to_arrow_batch;
use arrow_flight::{FlightData, PutResult};
use arrow_schema::SchemaRef;
use futures::SinkExt as _;
use futures::channel::mpsc;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::columns;
use crate::emulator::Sink;
use crate::emulator::catalog::Table;
use crate::emulator::connection::Cutter;
use crate::emulator::faults::{Fault, Faults, Occasion};
use crate::emulator::server::stopped;
use crate::emulator::session::{at, check_grant, gone, writer_stopped};
use crate::emulator::writer::{Chunk, Progress};

pub(super) type Answers = mpsc::Sender<Result<PutResult, Status>>;

/// What comes with a batch.
#[derive(Deserialize)]
struct BatchMetadata {
    offset_id: i64,
}

/// What comes with an answer. An offset of −1 says that the stream is ready.
#[derive(Serialize)]
struct AckMetadata {
    ack_up_to_offset: i64,
    ack_up_to_records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_stream_duration_ms: Option<u64>,
}

fn answer(metadata: &AckMetadata) -> Result<PutResult, Status> {
    let bytes = serde_json::to_vec(metadata).map_err(|error| Status::internal(error.to_string()))?;
    Ok(PutResult { app_metadata: bytes.into() })
}

/// Takes everything and answers nothing until the client goes or the emulator stops.
pub(super) async fn hang(requests: &mut Streaming<FlightData>, stop: &mut watch::Receiver<bool>) -> Status {
    let drained = async { while let Ok(Some(_)) = requests.message().await {} };
    tokio::select! {
        () = stopped(stop) => Status::unavailable("the emulator is stopping"),
        () = drained => gone(),
    }
}

/// What a stream is made of.
pub(super) struct Link {
    pub(super) requests: Streaming<FlightData>,
    pub(super) answers: Answers,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) connection: Option<Cutter>,
    pub(super) faults: Arc<Faults>,
    pub(super) sink: Sink,
}

/// An open stream.
pub(super) struct Session {
    requests: Streaming<FlightData>,
    answers: Answers,
    stop: watch::Receiver<bool>,
    table: Arc<Table>,
    schema: SchemaRef,
    faults: Arc<Faults>,
    connection: Option<Cutter>,
    sink: Sink,
    next_offset: i64,
    /// Rows of all batches that were taken.
    rows: u64,
    /// Where each batch that is not acknowledged ends, in rows.
    ends: VecDeque<(i64, u64)>,
    /// Offset and rows.
    acknowledged: (i64, u64),
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
    /// Opens a stream of batches of this schema and tells the client that it is ready.
    pub(super) async fn open(link: Link, table: Arc<Table>, schema: SchemaRef) -> Result<Session, Status> {
        let Link { requests, answers, stop, connection, faults, sink } = link;
        let (progress, durable) = watch::channel(Progress { durable: -1, failure: None });
        let mut session = Session {
            requests,
            answers,
            stop,
            table,
            schema,
            faults,
            connection,
            sink,
            next_offset: 0,
            rows: 0,
            ends: VecDeque::new(),
            acknowledged: (-1, 0),
            progress: Arc::new(progress),
            durable,
            is_silent: false,
            delayed: VecDeque::new(),
            ends_at: None,
        };
        let (ack_up_to_offset, ack_up_to_records) = session.acknowledged;
        session
            .send(AckMetadata { ack_up_to_offset, ack_up_to_records, close_stream_duration_ms: None })
            .await?;
        Ok(session)
    }

    /// Serves the stream to its end. Batches that came before the one that ended it are committed and acknowledged
    /// first.
    pub(super) async fn run(&mut self) -> Result<(), Status> {
        let end = self.take_in().await;
        self.commit().await?;
        while let Some((due, _)) = self.delayed.front().copied() {
            sleep_until(due).await;
            self.acknowledge_delayed().await?;
        }
        end
    }

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
                    let Some(data) = request? else { return Ok(()) };
                    check_grant(&self.table)?;
                    match self.faults.is_armed(Occasion::Request) {
                        true => self.ingest_or_fail(data).await?,
                        false => self.ingest(data, usize::MAX).await?,
                    }
                }
            }
        }
    }

    /// Takes a batch as a rule wants it.
    async fn ingest_or_fail(&mut self, data: FlightData) -> Result<(), Status> {
        match self.faults.strike(Occasion::Request, Some(self.table.name())) {
            Some(Fault::FailStream { refusal }) => return Err(refusal.status()),
            Some(Fault::HangStream {}) => {
                self.is_silent = true;
                return Err(hang(&mut self.requests, &mut self.stop).await);
            }
            Some(Fault::CloseSignal { grace_ms }) => {
                let (ack_up_to_offset, ack_up_to_records) = self.acknowledged;
                let close_stream_duration_ms = Some(grace_ms);
                self.send(AckMetadata { ack_up_to_offset, ack_up_to_records, close_stream_duration_ms })
                    .await?;
                self.ends_at = Some(Instant::now() + Duration::from_millis(grace_ms));
            }
            Some(Fault::DropAck { reset }) => {
                self.is_silent = true;
                self.delayed.clear();
                self.ingest(data, usize::MAX).await?;
                self.commit().await?;
                if let Some(connection) = self.connection.as_ref().filter(|_| reset) {
                    connection.cut();
                }
                return Err(Status::unavailable("the stream ends without an acknowledgement"));
            }
            Some(Fault::CutRequest { rows }) => {
                self.ingest(data, rows).await?;
                return Err(Status::unavailable("the stream ends in the middle of a batch"));
            }
            _ => {}
        }
        self.ingest(data, usize::MAX).await
    }

    /// Takes the first rows of a batch.
    async fn ingest(&mut self, data: FlightData, rows_max: usize) -> Result<(), Status> {
        let sent: BatchMetadata = serde_json::from_slice(&data.app_metadata)
            .map_err(|_| Status::invalid_argument("a batch without an offset in its metadata"))?;
        if sent.offset_id != self.next_offset {
            let text = format!("the offset must be {} and is {}", self.next_offset, sent.offset_id);
            return Err(Status::invalid_argument(text));
        }
        let count = match self.sink {
            Sink::Discard => row_count(&data)?.min(rows_max),
            Sink::Delta => {
                let rows = self.decode(&data)?;
                let rows = rows.slice(0, rows.num_rows().min(rows_max));
                let room = self.table.writer().room(data.data_body.len()).await.map_err(writer_stopped)?;
                let count = rows.num_rows();
                let progress = Arc::clone(&self.progress);
                let chunk = Chunk { rows, upto: self.next_offset, progress, room: vec![room] };
                self.table.writer().append(chunk).map_err(writer_stopped)?;
                count
            }
        };
        self.rows += count as u64;
        self.ends.push_back((self.next_offset, self.rows));
        let offset = self.next_offset;
        self.next_offset += 1;
        if self.sink == Sink::Discard {
            self.progress.send_modify(|progress| progress.durable = offset);
        }
        Ok(())
    }

    /// The batch as rows of the table, unless one does not fit or a rule rejects it.
    fn decode(&self, data: &FlightData) -> Result<RecordBatch, Status> {
        let unfit = |problem: &str| {
            Status::invalid_argument(format!(
                "error 4044: a record does not fit table {}{problem}",
                self.table.name()
            ))
        };
        let batch = flight_data_to_arrow_batch(data, Arc::clone(&self.schema), &Default::default())
            .map_err(|error| Status::invalid_argument(format!("not parseable as an Arrow batch: {error}")))?;
        if batch.num_rows() == 0 {
            return Err(Status::invalid_argument("a batch without rows"));
        }
        let rows =
            columns::fit(&batch, self.table.columns()).map_err(|error| unfit(&format!(": {error}")))?;
        let is_met =
            |fault: &Fault| matches!(fault, Fault::RejectRecords { condition } if condition.is_met(&rows));
        match self.faults.strike_where(Occasion::Records, Some(self.table.name()), is_met) {
            Some(_) => Err(unfit("")),
            None => Ok(rows),
        }
    }

    /// Waits until all that was taken is in the table.
    async fn commit(&mut self) -> Result<(), Status> {
        self.table.writer().hurry();
        while self.durable.borrow().durable < self.next_offset - 1 {
            self.durable.changed().await.map_err(|_| Status::internal("the writer has gone"))?;
            self.acknowledge().await?;
        }
        self.acknowledge().await
    }

    /// Tells the client what is durable now, unless a rule is against it.
    async fn acknowledge(&mut self) -> Result<(), Status> {
        let Progress { durable, failure } = self.durable.borrow_and_update().clone();
        let told = self.delayed.back().map_or(self.acknowledged.0, |(_, offset)| *offset);
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
        let mut rows = self.acknowledged.1;
        while let Some((_, end)) = self.ends.front().copied().filter(|(batch, _)| *batch <= offset) {
            rows = end;
            self.ends.pop_front();
        }
        self.acknowledged = (offset, rows);
        self.send(AckMetadata {
            ack_up_to_offset: offset,
            ack_up_to_records: rows,
            close_stream_duration_ms: None,
        })
        .await
    }

    async fn send(&mut self, metadata: AckMetadata) -> Result<(), Status> {
        self.answers.send(Ok(answer(&metadata)?)).await.map_err(|_| gone())
    }
}

/// How many rows a batch has, without its body.
fn row_count(data: &FlightData) -> Result<usize, Status> {
    let message = arrow_ipc::root_as_message(&data.data_header);
    let batch = message.ok().and_then(|message| message.header_as_record_batch().map(|batch| batch.length()));
    let count = batch.and_then(|rows| usize::try_from(rows).ok());
    count.ok_or_else(|| Status::invalid_argument("not parseable as an Arrow batch"))
}
