//! Persistent streams: created, resumed behind what is committed, retired.
//!
//! ```text
//! create ─► file of the stream ─► session ─► writer: rows and offset in one Delta commit
//! resume ─► fence of the older connection ─► offset in the table ─► session, from the next one on
//! ```
//!
//! Rows and offset are in the table together or not at all, so a client that goes on behind the offset that it is told
//! at a resume writes every row once, whoever was killed when.

mod registry;
mod stream;

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

pub(super) use self::registry::Streams;
use self::registry::StreamsError;
pub(super) use self::stream::{State, Stream};
use super::catalog::Table;
use super::envelope::{Call as _, Persistent, Request};
use super::format::{Format, Intake};
use super::link::{check_grant, check_opening};
use super::opening::{Service, created, named_table, table_name};
use super::session::{RecordLink, Session};
use super::wire_format::persistent_stream_response::Payload;
use super::wire_format::{
    CreateIngestStreamRequest, PersistentStreamResponse, ResumeIngestStreamRequest,
    ResumeIngestStreamResponse, RetireStreamRequest, resume_ingest_stream_request, retire_stream_request,
};
use super::writer::Progress;
use crate::error::chain;
use crate::types::TableName;

/// Creates or resumes a stream.
pub(super) async fn open(
    service: &Service,
    mut link: RecordLink<Persistent>,
    table_header: Option<String>,
) -> Result<Session<Persistent>, Status> {
    match link.requests.message().await?.and_then(Persistent::open) {
        Some(Request::Create(first)) => create(service, link, first, table_header).await,
        Some(Request::Resume(first)) => resume(service, link, first, table_header).await,
        _ => Err(Status::invalid_argument("the first message must create or resume the stream")),
    }
}

async fn create(
    service: &Service,
    mut link: RecordLink<Persistent>,
    create: CreateIngestStreamRequest,
    table_header: Option<String>,
) -> Result<Session<Persistent>, Status> {
    let (table, format, intake) = service.prepare(&mut link, create, table_header.as_deref()).await?;
    let encoding = format.encoding();
    let stream = blocking(&table, move |streams| streams.create(encoding)).await?;
    let stream = stream.ok_or_else(|| no_table(table.name()))?;
    let progress = take(&table, &stream).await?;
    link.send(Persistent::seal(created(stream.id().to_owned()))).await?;
    Ok(Session::new(link, table, intake, progress, Some(stream)))
}

async fn resume(
    service: &Service,
    mut link: RecordLink<Persistent>,
    resume: ResumeIngestStreamRequest,
    table_header: Option<String>,
) -> Result<Session<Persistent>, Status> {
    let name = named_table(table_header)?;
    service.open_or_fail(&mut link, &name).await?;
    let format = Format::new(resume.record_type(), resume.descriptor_proto)?;
    let Some(resume_ingest_stream_request::Identifier::StreamId(id)) = resume.identifier else {
        return Err(nameless());
    };
    let table = service.catalog.find(&name).ok_or_else(|| no_table(&name))?;
    check_opening(&table)?;
    let stream = find(&table, id).await?;
    if stream.encoding() != format.encoding() {
        let text = format!("stream {} has records of another type", stream.id());
        return Err(Status::invalid_argument(text));
    }
    let intake = Intake::new(&table, &format)?;
    // The fence; behind every check, so that a resume that is refused takes the stream from nobody.
    let progress = take(&table, &stream).await?;
    let committed = progress.borrow().durable;
    let last_committed_offset = (committed >= 0).then_some(committed);
    let resumed = Payload::ResumeStreamResponse(ResumeIngestStreamResponse { last_committed_offset });
    link.send(PersistentStreamResponse { payload: Some(resumed) }).await?;
    Ok(Session::new(link, table, intake, progress, Some(stream)))
}

/// Ends a stream for good. Once more does nothing.
pub(super) async fn retire(
    service: &Service,
    request: RetireStreamRequest,
    table_header: Option<String>,
) -> Result<(), Status> {
    let name = table_name(request.table_name(), table_header.as_deref())?;
    let Some(retire_stream_request::Identifier::StreamId(id)) = request.identifier else {
        return Err(nameless());
    };
    let table = service.catalog.find(&name).ok_or_else(|| no_table(&name))?;
    check_grant(&table)?;
    let stream = find(&table, id).await?;
    match blocking(&table, move |streams| streams.retire(&stream)).await? {
        true => Ok(()),
        false => Err(no_table(&name)),
    }
}

async fn find(table: &Arc<Table>, id: String) -> Result<Arc<Stream>, Status> {
    let wanted = id.clone();
    let found = blocking(table, move |streams| streams.find(&wanted)).await?;
    found.ok_or_else(|| no_stream(&id, table.name()))
}

async fn take(table: &Arc<Table>, stream: &Arc<Stream>) -> Result<Arc<watch::Sender<Progress>>, Status> {
    let taken = Arc::clone(stream);
    let progress = blocking(table, move |streams| streams.take(&taken)).await?;
    progress.ok_or_else(|| no_stream(stream.id(), table.name()))
}

/// Runs what waits for the disk or for a commit.
async fn blocking<T: Send + 'static>(
    table: &Arc<Table>,
    work: impl FnOnce(&Streams) -> Result<T, StreamsError> + Send + 'static,
) -> Result<T, Status> {
    let table = Arc::clone(table);
    tokio::task::spawn_blocking(move || work(table.streams()))
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::internal(chain(&error)))
}

fn nameless() -> Status {
    Status::invalid_argument("the stream is not named")
}

fn no_stream(id: &str, table: &TableName) -> Status {
    Status::not_found(format!("table {table} has no stream {id:?}, or it is retired"))
}

fn no_table(name: &TableName) -> Status {
    Status::not_found(format!("table {name} does not exist"))
}
