//! One stream of batches: hands rows to the writer of the table, acknowledges them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::utils::flight_data_to_arrow_batch;
use arrow_flight::{FlightData, PutResult};
use arrow_schema::SchemaRef;
use futures::SinkExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::columns;
use crate::emulator::Sink;
use crate::emulator::acks::Acks;
use crate::emulator::catalog::Table;
use crate::emulator::faults::{Fault, Occasion};
use crate::emulator::link::{Link, at, check_grant, gone, writer_stopped};
use crate::emulator::server::stopped;
use crate::emulator::writer::{Chunk, Progress};

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

/// What connects a stream of batches with its client.
pub(super) type BatchLink = Link<FlightData, PutResult>;

/// An open stream.
pub(super) struct Session {
    link: BatchLink,
    table: Arc<Table>,
    schema: SchemaRef,
    next_offset: i64,
    /// Rows of all batches that were taken.
    rows: u64,
    /// Where each batch that is not acknowledged ends, in rows.
    ends: VecDeque<(i64, u64)>,
    /// Offset and rows.
    acknowledged: (i64, u64),
    acks: Acks,
    /// When a stream that has announced its end ends.
    ends_at: Option<Instant>,
}

impl Session {
    /// Opens a stream of batches of this schema and tells the client that it is ready.
    pub(super) async fn open(
        link: BatchLink,
        table: Arc<Table>,
        schema: SchemaRef,
    ) -> Result<Session, Status> {
        let acks = Acks::new(table.name().clone(), Arc::clone(&link.faults), Progress::watched(-1));
        let mut session = Session {
            link,
            table,
            schema,
            next_offset: 0,
            rows: 0,
            ends: VecDeque::new(),
            acknowledged: (-1, 0),
            acks,
            ends_at: None,
        };
        session.send(None).await?;
        Ok(session)
    }

    /// Serves the stream to its end. Batches that came before the one that ended it are committed and acknowledged
    /// first.
    pub(super) async fn run(&mut self) -> Result<(), Status> {
        let end = self.take_in().await;
        self.commit().await?;
        while let Some(due) = self.acks.due() {
            sleep_until(due).await;
            self.acknowledge_delayed().await?;
        }
        end
    }

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
                    let Some(data) = request? else { return Ok(()) };
                    check_grant(&self.table)?;
                    match self.link.faults.is_armed(Occasion::Request) {
                        true => self.ingest_or_fail(data).await?,
                        false => self.ingest(data, usize::MAX).await?,
                    }
                }
            }
        }
    }

    /// Takes a batch as a rule wants it.
    async fn ingest_or_fail(&mut self, data: FlightData) -> Result<(), Status> {
        match self.link.faults.strike(Occasion::Request, Some(self.table.name())) {
            Some(Fault::FailStream { refusal }) => return Err(refusal.status()),
            Some(Fault::HangStream {}) => {
                self.acks.silence();
                return Err(self.link.hang().await);
            }
            Some(Fault::CloseSignal { grace_ms }) => {
                self.send(Some(grace_ms)).await?;
                self.ends_at = Some(Instant::now() + Duration::from_millis(grace_ms));
            }
            Some(Fault::DropAck { reset }) => {
                self.acks.silence();
                self.ingest(data, usize::MAX).await?;
                self.commit().await?;
                if reset {
                    self.link.cut();
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
        let count = match self.link.sink {
            Sink::Discard => row_count(&data)?.min(rows_max),
            Sink::Delta => {
                let rows = self.decode(&data)?;
                let rows = rows.slice(0, rows.num_rows().min(rows_max));
                let room = self.table.writer().room(data.data_body.len()).await.map_err(writer_stopped)?;
                let count = rows.num_rows();
                let progress = self.acks.progress();
                let room = vec![room];
                let chunk = Chunk { rows, upto: self.next_offset, progress, stream: None, room };
                self.table.writer().append(chunk).map_err(writer_stopped)?;
                count
            }
        };
        self.rows += count as u64;
        self.ends.push_back((self.next_offset, self.rows));
        let offset = self.next_offset;
        self.next_offset += 1;
        if self.link.sink == Sink::Discard {
            self.acks.discard(offset);
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
        match self.link.faults.strike_where(Occasion::Records, Some(self.table.name()), is_met) {
            Some(_) => Err(unfit("")),
            None => Ok(rows),
        }
    }

    /// Waits until all that was taken is in the table.
    async fn commit(&mut self) -> Result<(), Status> {
        self.table.writer().hurry();
        while !self.acks.is_durable(self.next_offset - 1) {
            self.acks.changed().await?;
            self.acknowledge().await?;
        }
        self.acknowledge().await
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
        let mut rows = self.acknowledged.1;
        while let Some((_, end)) = self.ends.front().copied().filter(|(batch, _)| *batch <= offset) {
            rows = end;
            self.ends.pop_front();
        }
        self.acknowledged = (offset, rows);
        self.send(None).await
    }

    /// Tells the client what is acknowledged, and that the stream will end, if it will.
    async fn send(&mut self, close_stream_duration_ms: Option<u64>) -> Result<(), Status> {
        let (ack_up_to_offset, ack_up_to_records) = self.acknowledged;
        let metadata = AckMetadata { ack_up_to_offset, ack_up_to_records, close_stream_duration_ms };
        self.link.answers.send(Ok(answer(&metadata)?)).await.map_err(|_| gone())
    }
}

/// How many rows a batch has, without its body.
fn row_count(data: &FlightData) -> Result<usize, Status> {
    let message = arrow_ipc::root_as_message(&data.data_header);
    let batch = message.ok().and_then(|message| message.header_as_record_batch().map(|batch| batch.length()));
    let count = batch.and_then(|rows| usize::try_from(rows).ok());
    count.ok_or_else(|| Status::invalid_argument("not parseable as an Arrow batch"))
}
