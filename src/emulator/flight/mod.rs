//! Arrow Flight: one DoPut call is one stream. Batches land as records do, and rows are acknowledged.
//!
//! ```text
//! schema ─► fits the table? ─► READY · batch n ─► writer of the table ─► { offset n, rows up to here }
//! ```

mod columns;
mod session;

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_schema::Schema;
use delta_kernel::engine::arrow_conversion::TryIntoKernel as _;
use delta_kernel::schema::StructType;
use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::stream::BoxStream;
use prost::Message as _;
use tonic::{Code, Request, Response, Status, Streaming};

use self::columns::Cause;
use self::session::{BatchLink, Session};
use super::catalog::Table;
use super::link::{check_opening, gone};
use super::opening::{Service, named_table, spawn};
use crate::transport::{Details, ErrorInfo};
use crate::types::TableName;

/// What the service calls a schema that it refuses.
const SCHEMA_REFUSED: &str = "SCHEMA_VALIDATION_FAILED";
const DOMAIN: &str = "zerobus.databricks.com";

/// The Flight side of the service.
pub(super) struct FlightSide(pub(super) Service);

impl FlightSide {
    /// A stream for the client, on a task of its own.
    async fn put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<mpsc::Receiver<Result<PutResult, Status>>, Status> {
        let name = named_table(self.0.admit(request.metadata())?)?;
        let (link, receiver) = self.0.link(request);
        let (service, failing) = (self.0.clone(), link.answers.clone());
        spawn(failing, async move { open(service, name, link).await?.run().await });
        Ok(receiver)
    }
}

async fn open(service: Service, name: TableName, mut link: BatchLink) -> Result<Session, Status> {
    let first = link.requests.message().await?.ok_or_else(gone)?;
    let schema = Schema::try_from(&first);
    let schema = schema.map_err(|_| Status::invalid_argument("the first message must be a schema"))?;
    service.open_or_fail(&mut link, &name).await?;
    let table = service.table(name, || columns_of(&schema).map(Some)).await?;
    check_opening(&table)?;
    let problems = columns::check(schema.fields(), table.columns().fields());
    if !problems.is_empty() {
        return Err(schema_refused(&table, &problems));
    }
    Session::open(link, table, Arc::new(schema)).await
}

/// The columns of a table that is made for batches of this schema.
fn columns_of(schema: &Schema) -> Result<StructType, Status> {
    schema
        .try_into_kernel()
        .map_err(|problem| Status::invalid_argument(format!("no table from this schema: {problem}")))
}

/// INVALID_ARGUMENT with the causes in its details.
fn schema_refused(table: &Table, problems: &[(Cause, String)]) -> Status {
    let mut causes: Vec<Cause> = problems.iter().map(|(cause, _)| *cause).collect();
    causes.dedup();
    let texts: Vec<&str> = problems.iter().map(|(_, text)| text.as_str()).collect();
    let message = format!("the schema does not fit table {}: {}", table.name(), texts.join("; "));
    let metadata = [("causes", causes.join(",")), (ErrorInfo::ERROR_CODE, "8001".to_owned())];
    let info = ErrorInfo {
        reason: SCHEMA_REFUSED.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into(),
    };
    let any = prost_types::Any {
        type_url: format!("type.googleapis.com/{}", ErrorInfo::NAME),
        value: info.encode_to_vec(),
    };
    let code = Code::InvalidArgument;
    let details = Details { code: code as i32, message: message.clone(), details: vec![any] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

fn only_put<T>() -> Result<T, Status> {
    Err(Status::unimplemented("Zerobus takes DoPut only"))
}

#[tonic::async_trait]
impl FlightService for FlightSide {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        Ok(Response::new(self.put(request).await?.boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        only_put()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        only_put()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        only_put()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        only_put()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        only_put()
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        only_put()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        only_put()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        only_put()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        only_put()
    }
}
