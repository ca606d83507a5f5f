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
use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use tonic::{Code, Request, Response, Status, Streaming};

use self::columns::Cause;
use self::session::{Link, Session, hang};
use super::catalog::{Table, TableError};
use super::faults::{Fault, Occasion};
use super::opening::{Service, TABLE_HEADER};
use super::session::{check_grant, gone};
use crate::error::chain;
use crate::transport::{Details, ErrorInfo};
use crate::types::TableName;

/// Answers that may wait for the client to read them.
const ANSWERS_MAX: usize = 16;
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
        let header = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        if !self.0.tokens.accepts(header("authorization")) {
            return Err(Status::unauthenticated("the access token is missing, expired or not ours"));
        }
        let name = header(TABLE_HEADER).ok_or_else(|| Status::invalid_argument("no table header"))?;
        let name = name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let mut failing = answers.clone();
        let (service, connection) = (self.0.clone(), request.extensions().get().cloned());
        let link = Link {
            requests: request.into_inner(),
            answers,
            stop: service.stop.clone(),
            connection,
            faults: Arc::clone(&service.faults),
            sink: service.sink,
        };
        // A client may wait for the response headers before it sends, so the rest is a task.
        tokio::spawn(async move {
            let end = match open(service, name, link).await {
                Ok(mut session) => session.run().await,
                Err(status) => Err(status),
            };
            if let Err(status) = end {
                // A client that has gone does not hear why its stream ended.
                let _ = failing.send(Err(status)).await;
            }
        });
        Ok(receiver)
    }
}

async fn open(service: Service, name: TableName, mut link: Link) -> Result<Session, Status> {
    let first = link.requests.message().await?.ok_or_else(gone)?;
    let schema = Schema::try_from(&first);
    let schema = schema.map_err(|_| Status::invalid_argument("the first message must be a schema"))?;
    match service.faults.strike(Occasion::Open, Some(&name)) {
        Some(Fault::FailOpen { refusal }) => return Err(refusal.status()),
        Some(Fault::HangOpen {}) => return Err(hang(&mut link.requests, &mut link.stop).await),
        _ => {}
    }
    let table = table(&service, name, &schema).await?;
    check_grant(&table)?;
    if let Some(refusal) = table.refusal() {
        let text = format!("table {} takes no rows: {refusal}", table.name());
        return Err(Status::failed_precondition(text));
    }
    let problems = columns::check(schema.fields(), table.columns().fields());
    if !problems.is_empty() {
        return Err(schema_refused(&table, &problems));
    }
    Session::open(link, table, Arc::new(schema)).await
}

/// The table, made from the schema if that is wished.
async fn table(service: &Service, name: TableName, schema: &Schema) -> Result<Arc<Table>, Status> {
    if let Some(table) = service.catalog.find(&name) {
        return Ok(table);
    }
    if !service.auto_create {
        return Err(Status::not_found(format!("table {name} does not exist")));
    }
    let columns: StructType = schema
        .try_into_kernel()
        .map_err(|problem| Status::invalid_argument(format!("no table from this schema: {problem}")))?;
    let catalog = Arc::clone(&service.catalog);
    let create = tokio::task::spawn_blocking(move || match catalog.create(&name, &columns) {
        // Another stream has just made it; ours is checked against that.
        Err(error @ TableError::Different { .. }) => catalog.find(&name).ok_or(error),
        made => made,
    });
    create
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::internal(chain(&error)))
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
