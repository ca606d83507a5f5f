//! Streams that are asked for: who may have one, for which table, and how its records are read.

use std::sync::Arc;

use futures::SinkExt as _;
use futures::channel::mpsc;
use prost::Message as _;
use prost_types::DescriptorProto;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::catalog::{Catalog, Table, TableError};
use super::columns::Rows;
use super::connection::Cutter;
use super::faults::{Fault, Faults, Occasion};
use super::protobuf::ProtobufReader;
use super::session::{Answers, Link, Reader, Session, answer, check_grant, gone, hang};
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

/// Answers that may wait for the client to read them.
const ANSWERS_MAX: usize = 16;
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
        let opening = Opening {
            table_header: header(TABLE_HEADER).map(str::to_owned),
            catalog: Arc::clone(&self.catalog),
            faults: Arc::clone(&self.faults),
            connection: request.extensions().get().cloned(),
            sink: self.sink,
            auto_create: self.auto_create,
        };
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let stop = self.stop.clone();
        // A client waits for the response headers before it sends its first message, so the rest is a task.
        tokio::spawn(opening.run(request.into_inner(), answers, stop));
        Ok(Response::new(receiver))
    }
}

/// What is known of a stream before its first message.
struct Opening {
    table_header: Option<String>,
    catalog: Arc<Catalog>,
    faults: Arc<Faults>,
    connection: Option<Cutter>,
    sink: Sink,
    auto_create: bool,
}

impl Opening {
    async fn run(
        self,
        requests: Streaming<EphemeralStreamRequest>,
        mut answers: Answers,
        stop: watch::Receiver<bool>,
    ) {
        let end = match self.open(requests, answers.clone(), stop).await {
            Ok(mut session) => session.run().await,
            Err(status) => Err(status),
        };
        if let Err(status) = end {
            // A client that has gone does not hear why its stream ended.
            let _ = answers.send(Err(status)).await;
        }
    }

    async fn open(
        self,
        mut requests: Streaming<EphemeralStreamRequest>,
        mut answers: Answers,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Session, Status> {
        let first = requests.message().await?.and_then(|request| request.payload);
        let Some(Payload::CreateStream(create)) = first else {
            return Err(Status::invalid_argument("the first message must create the stream"));
        };
        let name = self.table_name(&create)?;
        match self.faults.strike(Occasion::Open, Some(&name)) {
            Some(Fault::FailOpen { refusal }) => return Err(refusal.status()),
            Some(Fault::HangOpen {}) => return Err(hang(&mut requests, &mut stop).await),
            _ => {}
        }
        let record_type = create.record_type();
        let descriptor = match record_type {
            RecordType::Proto => Some(descriptor(&create)?),
            RecordType::Json => None,
            RecordType::Unspecified => return Err(Status::invalid_argument("the record type is missing")),
            RecordType::Avro => {
                return Err(Status::unimplemented("this emulator does not take Avro records"));
            }
        };
        let (sink, faults, connection) = (self.sink, Arc::clone(&self.faults), self.connection.clone());
        let table = self.table(name, descriptor.as_ref()).await?;
        check_grant(&table)?;
        if let Some(refusal) = table.refusal() {
            return Err(Status::failed_precondition(format!(
                "table {} takes no rows: {refusal}",
                table.name()
            )));
        }
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
        answers.send(Ok(answer(created))).await.map_err(|_| gone())?;
        let link = Link { requests, answers, stop, connection, faults, sink };
        Ok(Session::new(link, table, reader, rows))
    }

    fn table_name(&self, create: &CreateIngestStreamRequest) -> Result<TableName, Status> {
        if self.table_header.as_deref() != Some(create.table_name()) {
            let text = format!("header {TABLE_HEADER} and table name {:?} differ", create.table_name());
            return Err(Status::invalid_argument(text));
        }
        create.table_name().parse().map_err(|error| Status::invalid_argument(format!("{error}")))
    }

    async fn table(
        self,
        name: TableName,
        descriptor: Option<&DescriptorProto>,
    ) -> Result<Arc<Table>, Status> {
        if let Some(table) = self.catalog.find(&name) {
            return Ok(table);
        }
        let descriptor = descriptor.filter(|_| self.auto_create);
        let Some(descriptor) = descriptor else {
            return Err(Status::not_found(format!("table {name} does not exist")));
        };
        let columns = derive::columns(descriptor).map_err(|problem| {
            Status::invalid_argument(format!("no table from this descriptor: {problem}"))
        })?;
        let catalog = self.catalog;
        let create = tokio::task::spawn_blocking(move || match catalog.create(&name, &columns) {
            // Another stream has just made it from its own descriptor; ours is checked against that.
            Err(error @ TableError::Different { .. }) => catalog.find(&name).ok_or(error),
            made => made,
        });
        create
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::internal(chain(&error)))
    }
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
