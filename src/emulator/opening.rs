//! Streams that are asked for: who may have one, for which table, and how its records are read.

use std::sync::Arc;

use delta_kernel::schema::StructType;
use futures::SinkExt as _;
use futures::channel::mpsc;
use prost::Message as _;
use prost_types::DescriptorProto;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::catalog::{Catalog, Table, TableError};
use super::columns::Rows;
use super::faults::{Fault, Faults, Occasion};
use super::link::{ANSWERS_MAX, Answers, Link, check_opening, gone};
use super::protobuf::ProtobufReader;
use super::session::{Reader, RecordLink, Session, answer};
use super::token::Tokens;
use super::wire_format::ephemeral_stream_request::Payload;
use super::wire_format::ephemeral_stream_response::Payload as Answer;
use super::wire_format::zerobus_server::Zerobus;
use super::wire_format::{
    CreateIngestStreamRequest, CreateIngestStreamResponse, EphemeralStreamRequest, EphemeralStreamResponse,
    RecordType,
};
use super::{Sink, derive};
use crate::error::chain;
use crate::types::TableName;

pub(super) const TABLE_HEADER: &str = "x-databricks-zerobus-table-name";

/// The gRPC side of the service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) tokens: Arc<Tokens>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) faults: Arc<Faults>,
    pub(super) sink: Sink,
    pub(super) auto_create: bool,
    pub(super) stop: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Zerobus for Service {
    type EphemeralStreamStream = mpsc::Receiver<Result<EphemeralStreamResponse, Status>>;

    async fn ephemeral_stream(
        &self,
        request: Request<Streaming<EphemeralStreamRequest>>,
    ) -> Result<Response<Self::EphemeralStreamStream>, Status> {
        let header = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        if !self.tokens.accepts(header("authorization")) {
            return Err(Status::unauthenticated("the access token is missing, expired or not ours"));
        }
        let table_header = header(TABLE_HEADER).map(str::to_owned);
        let (link, receiver) = self.link(request);
        let (service, failing) = (self.clone(), link.answers.clone());
        spawn(failing, async move { service.open(link, table_header).await?.run().await });
        Ok(Response::new(receiver))
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

    /// Opens a stream of records.
    async fn open(self, mut link: RecordLink, table_header: Option<String>) -> Result<Session, Status> {
        let first = link.requests.message().await?.and_then(|request| request.payload);
        let Some(Payload::CreateStream(create)) = first else {
            return Err(Status::invalid_argument("the first message must create the stream"));
        };
        let name = table_name(&create, table_header.as_deref())?;
        match self.faults.strike(Occasion::Open, Some(&name)) {
            Some(Fault::FailOpen { refusal }) => return Err(refusal.status()),
            Some(Fault::HangOpen {}) => return Err(link.hang().await),
            _ => {}
        }
        let descriptor = match create.record_type() {
            RecordType::Proto => Some(descriptor(&create)?),
            RecordType::Json => None,
            RecordType::Unspecified => return Err(Status::invalid_argument("the record type is missing")),
            RecordType::Avro => {
                return Err(Status::unimplemented("this emulator does not take Avro records"));
            }
        };
        let table = self.table(name, || descriptor.as_ref().map(columns).transpose()).await?;
        check_opening(&table)?;
        let rows = Rows::new(Arc::clone(table.columns())).map_err(|data_type| {
            Status::unimplemented(format!(
                "table {}: cannot write a column of type {data_type}",
                table.name()
            ))
        })?;
        let reader = match &descriptor {
            Some(descriptor) => Reader::Protobuf(protobuf_reader(descriptor, &table)?),
            None => Reader::Json,
        };
        let stream_id = format!("{:032x}", rand::random::<u128>());
        let created = Answer::CreateStreamResponse(CreateIngestStreamResponse { stream_id: Some(stream_id) });
        link.answers.send(Ok(answer(created))).await.map_err(|_| gone())?;
        Ok(Session::new(link, table, reader, rows))
    }
}

fn table_name(create: &CreateIngestStreamRequest, header: Option<&str>) -> Result<TableName, Status> {
    if header != Some(create.table_name()) {
        let text = format!("header {TABLE_HEADER} and table name {:?} differ", create.table_name());
        return Err(Status::invalid_argument(text));
    }
    create.table_name().parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

/// The columns of a table that is made for records of this descriptor.
fn columns(descriptor: &DescriptorProto) -> Result<StructType, Status> {
    derive::columns(descriptor)
        .map_err(|problem| Status::invalid_argument(format!("no table from this descriptor: {problem}")))
}

fn descriptor(create: &CreateIngestStreamRequest) -> Result<DescriptorProto, Status> {
    let bytes = create.descriptor_proto.clone().filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| Status::invalid_argument("protobuf records need a descriptor"))?;
    DescriptorProto::decode(bytes).map_err(|_| Status::invalid_argument("the descriptor is not parseable"))
}

fn protobuf_reader(descriptor: &DescriptorProto, table: &Table) -> Result<ProtobufReader, Status> {
    ProtobufReader::new(descriptor, table.columns().fields()).map_err(|problems| {
        Status::invalid_argument(format!(
            "error 8001: the descriptor does not fit table {}: {}",
            table.name(),
            problems.join("; ")
        ))
    })
}
