//! Which spans there are: one for each batch that was sent in a trace, and one for each request that carries such batches.
//!
//! A batch waits in the log for as long as it takes, perhaps for another process; so its delivery is no child of the span
//! that stored it but a trace of its own, linked with it. The link is in the frame ([`TraceContext`]).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue};

use super::context::{TraceContext, Traced};
use super::names;
use crate::error::{Coded, ErrorCode};
use crate::io::Clock;
use crate::types::{Lsn, TableName};
use crate::wrapper::{SendError, TransmissionResult};

/// Makes the spans of one log.
pub(crate) struct Spans {
    tracer: BoxedTracer,
    table: TableName,
    writer: KeyValue,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Spans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spans").field("table", &self.table).finish_non_exhaustive()
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acknowledged,
    /// Its stream has ended before that, for this reason if there is one: it is sent again.
    Lost(Option<(ErrorCode, String)>),
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRequest<'a> {
    pub(crate) traced: &'a Traced,
    pub(crate) lsns: (Lsn, Lsn),
    pub(crate) rows: u64,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

impl Spans {
    pub(super) fn new(
        tracer: BoxedTracer,
        table: &TableName,
        writer: KeyValue,
        clock: &Arc<dyn Clock>,
    ) -> Spans {
        Spans { tracer, table: table.clone(), writer, clock: Arc::clone(clock) }
    }

    fn span(&self, operation: &'static str, kind: SpanKind, rows: u64) -> SpanBuilder {
        let table = self.table.as_str();
        let attributes = vec![
            KeyValue::new(names::MESSAGING_SYSTEM, "zerobus"),
            KeyValue::new(names::MESSAGING_OPERATION_NAME, operation),
            KeyValue::new(names::MESSAGING_OPERATION_TYPE, operation),
            KeyValue::new(names::MESSAGING_DESTINATION, table.to_owned()),
            KeyValue::new(names::TABLE, table.to_owned()),
            self.writer.clone(),
            KeyValue::new(names::ROWS, number(rows)),
        ];
        SpanBuilder::from_name(format!("{operation} {table}")).with_kind(kind).with_attributes(attributes)
    }

    /// The span of a batch that is being sent in this trace; none if the sampler does not want one.
    pub(crate) fn sending(&self, caller: &TraceContext, rows: usize) -> Option<Sending> {
        let parent = Context::new().with_remote_span_context(caller.span_context());
        let span = self.span("send", SpanKind::Producer, rows as u64);
        let span = self.tracer.build_with_context(span, &parent);
        let context = TraceContext::of(span.span_context())?;
        Some(Sending { span, context })
    }

    /// A request with batches that were sent in a trace has come to its end.
    pub(crate) fn request(&self, request: &SentRequest<'_>, fate: &Fate) {
        let ended_micros = u64::try_from(self.clock.unix_micros()).unwrap_or(0);
        let ended = SystemTime::UNIX_EPOCH + Duration::from_micros(ended_micros);
        let started = ended.checked_sub(request.took).unwrap_or(ended);
        let links = request.traced.contexts.iter().map(|it| Link::with_context(it.span_context()));
        let builder = self
            .span("process", SpanKind::Consumer, request.rows)
            .with_links(links.collect())
            .with_start_time(started);
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        let (first, last) = request.lsns;
        span.set_attributes([
            KeyValue::new(names::LSN_FIRST, number(first.get())),
            KeyValue::new(names::LSN_LAST, number(last.get())),
            KeyValue::new(names::SIZE, number(request.bytes as u64)),
            KeyValue::new(names::ATTEMPT, i64::from(request.traced.attempt)),
        ]);
        if request.traced.left_out > 0 {
            span.set_attribute(KeyValue::new(names::LINKS_LEFT_OUT, number(request.traced.left_out)));
        }
        match fate {
            Fate::Acknowledged => span.set_attribute(KeyValue::new(names::OUTCOME, "delivered")),
            Fate::Lost(reason) => {
                span.set_attribute(KeyValue::new(names::OUTCOME, "unacknowledged"));
                if let Some((code, message)) = reason {
                    fail(&mut span, *code, message.clone());
                }
            }
        }
        span.end_with_timestamp(ended);
    }
}

/// A batch that is being sent. Dropped, its span ends without an outcome: the caller was cancelled.
pub(crate) struct Sending {
    span: BoxedSpan,
    context: TraceContext,
}

impl Sending {
    /// What the delivery of the batch is linked with.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// The span as the one that is current where the batch is stored.
    pub(crate) fn active(&self) -> Context {
        Context::new().with_remote_span_context(self.context.span_context())
    }

    pub(crate) fn ended(mut self, outcome: &Result<TransmissionResult, SendError>) {
        let lsn = outcome.as_ref().map_or_else(Coded::lsn, |result| result.lsn);
        if let Some(lsn) = lsn {
            self.span.set_attribute(KeyValue::new(names::LSN_FIRST, number(lsn.get())));
            self.span.set_attribute(KeyValue::new(names::LSN_LAST, number(lsn.get())));
        }
        match outcome {
            Ok(result) => self.span.set_attributes([
                KeyValue::new(names::SIZE, number(result.batch_size_bytes)),
                KeyValue::new(names::ATTEMPT, i64::from(result.attempts)),
                KeyValue::new(names::OUTCOME, result.state.as_str()),
            ]),
            Err(error) => {
                let outcome = if lsn.is_some() { "not_delivered" } else { "not_stored" };
                self.span.set_attribute(KeyValue::new(names::OUTCOME, outcome));
                fail(&mut self.span, error.code(), error.to_string());
            }
        }
        self.span.end();
    }
}

fn fail(span: &mut BoxedSpan, code: ErrorCode, message: String) {
    span.set_attribute(KeyValue::new(names::ERROR_TYPE, code.info().name));
    span.set_status(Status::error(message));
}

/// OpenTelemetry has no unsigned numbers.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
