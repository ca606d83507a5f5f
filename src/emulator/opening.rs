//! Streams that are asked for: who may have one, and for which table.

use std::sync::Arc;

use delta_kernel::schema::StructType;
use futures::SinkExt as _;
use futures::channel::mpsc;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::catalog::{Catalog, Table, TableError};
use super::envelope::{self, Answer, Call, Ephemeral};
use super::faults::{Fault, Faults, Occasion};
use super::format::{Format, Intake};
use super::link::{ANSWERS_MAX, Answers, Link, check_opening};
use super::session::{RecordLink, Session};
use super::token::Tokens;
use super::wire_format::zerobus_server::Zerobus;
use super::wire_format::{
    CreateIngestStreamRequest, CreateIngestStreamResponse, EphemeralStreamRequest, EphemeralStreamResponse,
    PersistentStreamRequest, PersistentStreamResponse, RetireStreamRequest, RetireStreamResponse,
};
use super::writer::Progress;
use super::{Sink, persistent};
use crate::error::chain;
use crate::types::TableName;

const TABLE_HEADER: &str = "x-databricks-zerobus-table-name";

/// The gRPC side of the service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) tokens: Arc<Tokens>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) faults: Arc<Faults>,
    pub(super) sink: Sink,
    pub(super) auto_create: bool,
    pub(super) persistent_streams: bool,
    pub(super) stop: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Zerobus for Service {
    type EphemeralStreamStream = mpsc::Receiver<Result<EphemeralStreamResponse, Status>>;
    type PersistentStreamStream = mpsc::Receiver<Result<PersistentStreamResponse, Status>>;

    async fn ephemeral_stream(
        &self,
        request: Request<Streaming<EphemeralStreamRequest>>,
    ) -> Result<Response<Self::EphemeralStreamStream>, Status> {
        let table_header = self.admit(request.metadata())?;
        let (link, receiver) = self.link(request);
        let (service, failing) = (self.clone(), link.answers.clone());
        spawn(failing, async move { open(&service, link, table_header).await?.run().await });
        Ok(Response::new(receiver))
    }

    async fn persistent_stream(
        &self,
        request: Request<Streaming<PersistentStreamRequest>>,
    ) -> Result<Response<Self::PersistentStreamStream>, Status> {
        self.check_persistent()?;
        let table_header = self.admit(request.metadata())?;
        let (link, receiver) = self.link(request);
        let (service, failing) = (self.clone(), link.answers.clone());
        spawn(failing, async move { persistent::open(&service, link, table_header).await?.run().await });
        Ok(Response::new(receiver))
    }

    async fn retire_stream(
        &self,
        request: Request<RetireStreamRequest>,
    ) -> Result<Response<RetireStreamResponse>, Status> {
        self.check_persistent()?;
        let table_header = self.admit(request.metadata())?;
        persistent::retire(self, request.into_inner(), table_header).await?;
        Ok(Response::new(RetireStreamResponse {}))
    }
}

/// Serves a stream on a task of its own: a client waits for the response headers before it sends its first message.
pub(super) fn spawn<A: Send + 'static>(
    mut answers: Answers<A>,
    serving: impl Future<Output = Result<(), Status>> + Send + 'static,
) {
    tokio::spawn(async move {
        if let Err(status) = serving.await {
            // A client that has gone does not hear why its stream ended.
            let _ = answers.send(Err(status)).await;
        }
    });
}

impl Service {
    /// Lets in whoever has a token; the table of the header, if there is one.
    pub(super) fn admit(&self, metadata: &MetadataMap) -> Result<Option<String>, Status> {
        let header = |name| metadata.get(name).and_then(|value| value.to_str().ok());
        match self.tokens.accepts(header("authorization")) {
            true => Ok(header(TABLE_HEADER).map(str::to_owned)),
            false => Err(Status::unauthenticated("the access token is missing, expired or not ours")),
        }
    }

    /// Whether this is a service that has persistent streams. One that has not looks at no token either.
    fn check_persistent(&self) -> Result<(), Status> {
        match self.persistent_streams {
            true => Ok(()),
            false => Err(Status::unimplemented("this service has no persistent streams")),
        }
    }

    /// What connects a stream with the client that asks for it, and where its answers come out.
    pub(super) fn link<R, A>(
        &self,
        request: Request<Streaming<R>>,
    ) -> (Link<R, A>, mpsc::Receiver<Result<A, Status>>) {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let connection = request.extensions().get().cloned();
        let (requests, stop) = (request.into_inner(), self.stop.clone());
        let (faults, sink) = (Arc::clone(&self.faults), self.sink);
        (Link { requests, answers, stop, connection, faults, sink }, receiver)
    }

    /// The table of this name; made with these columns if it is missing and that is wished.
    pub(super) async fn table(
        &self,
        name: TableName,
        columns: impl FnOnce() -> Result<Option<StructType>, Status>,
    ) -> Result<Arc<Table>, Status> {
        if let Some(table) = self.catalog.find(&name) {
            return Ok(table);
        }
        let columns = if self.auto_create { columns()? } else { None };
        let Some(columns) = columns else {
            return Err(Status::not_found(format!("table {name} does not exist")));
        };
        let catalog = Arc::clone(&self.catalog);
        let create = tokio::task::spawn_blocking(move || match catalog.create(&name, &columns) {
            // Another stream has just made it from its own columns; ours are checked against that.
            Err(error @ TableError::Different { .. }) => catalog.find(&name).ok_or(error),
            made => made,
        });
        create
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::internal(chain(&error)))
    }

    /// Lets a stream to this table open unless a rule is against it.
    pub(super) async fn open_or_fail<R, A>(
        &self,
        link: &mut Link<R, A>,
        table: &TableName,
    ) -> Result<(), Status> {
        match self.faults.strike(Occasion::Open, Some(table)) {
            Some(Fault::FailOpen { refusal }) => Err(refusal.status()),
            Some(Fault::HangOpen {}) => Err(link.hang().await),
            _ => Ok(()),
        }
    }

    /// Gets everything ready for a new stream of records.
    pub(super) async fn prepare<R, A>(
        &self,
        link: &mut Link<R, A>,
        create: CreateIngestStreamRequest,
        table_header: Option<&str>,
    ) -> Result<(Arc<Table>, Format, Intake), Status> {
        let name = table_name(create.table_name(), table_header)?;
        self.open_or_fail(link, &name).await?;
        let format = Format::new(create.record_type(), create.descriptor_proto)?;
        let table = self.table(name, || format.columns()).await?;
        check_opening(&table)?;
        let intake = Intake::new(&table, &format)?;
        Ok((table, format, intake))
    }
}

/// Opens a stream that ends with its connection.
async fn open(
    service: &Service,
    mut link: RecordLink<Ephemeral>,
    table_header: Option<String>,
) -> Result<Session<Ephemeral>, Status> {
    let first = link.requests.message().await?.and_then(Ephemeral::open);
    let Some(envelope::Request::Create(create)) = first else {
        return Err(Status::invalid_argument("the first message must create the stream"));
    };
    let (table, _, intake) = service.prepare(&mut link, create, table_header.as_deref()).await?;
    link.send(Ephemeral::seal(created(new_stream_id()))).await?;
    Ok(Session::new(link, table, intake, Progress::watched(-1), None))
}

/// A name that no other stream has.
pub(super) fn new_stream_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub(super) fn created(stream_id: String) -> Answer {
    Answer::Created(CreateIngestStreamResponse { stream_id: Some(stream_id) })
}

/// The table that a message names, which must be the one of the header.
pub(super) fn table_name(name: &str, header: Option<&str>) -> Result<TableName, Status> {
    if header != Some(name) {
        let text = format!("header {TABLE_HEADER} and table name {name:?} differ");
        return Err(Status::invalid_argument(text));
    }
    name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

/// The table that only the header names.
pub(super) fn named_table(header: Option<String>) -> Result<TableName, Status> {
    let name = header.ok_or_else(|| Status::invalid_argument(format!("no header {TABLE_HEADER}")))?;
    name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}
