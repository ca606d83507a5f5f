//! Which trace a batch belongs to: the context that its sender was in, as W3C Trace Context writes it.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// A sampled span of somebody, which others can be linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
}

impl TraceContext {
    /// The key that it stands under, in the log as in headers.
    pub const KEY: &'static str = "traceparent";

    /// What stands in a `traceparent`; none if that is none, or of a span that is not sampled: nobody could look it up.
    pub fn parse(traceparent: &str) -> Option<TraceContext> {
        let mut parts = traceparent.split('-');
        let mut part = |length: usize| {
            let is_hex = |text: &&str| {
                let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                text.len() == length && text.bytes().all(is_digit)
            };
            parts.next().filter(is_hex)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // A later version may have more parts behind these; version ff is none.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace_id = TraceId::from_hex(trace_id).ok()?;
        let span_id = SpanId::from_hex(span_id).ok()?;
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        TraceContext::of(&SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE))
    }

    /// The context of a span, if it is one and is sampled.
    pub(crate) fn of(span: &SpanContext) -> Option<TraceContext> {
        let is_one = span.is_valid() && span.is_sampled();
        is_one.then(|| TraceContext { trace_id: span.trace_id(), span_id: span.span_id() })
    }

    /// The same for OpenTelemetry.
    pub(super) fn span_context(&self) -> SpanContext {
        SpanContext::new(self.trace_id, self.span_id, TraceFlags::SAMPLED, true, TraceState::NONE)
    }
}

/// As `traceparent` has it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.trace_id, self.span_id)
    }
}

/// So many spans a request is linked with; the others are counted.
const CONTEXTS_MAX: usize = 32;

/// What the span of a request has to know of its frames. Takes next to no room where there is no trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contexts(Option<Box<Traced>>);

/// The contexts of the frames in a request, and which attempt in a row it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traced {
    pub(super) contexts: Vec<TraceContext>,
    pub(super) left_out: u64,
    pub(super) attempt: u32,
    last_lsn: u64,
}

impl Contexts {
    /// What there is, if one of the frames belongs to a trace.
    pub(crate) fn traced(&self) -> Option<&Traced> {
        self.0.as_deref()
    }

    /// It is sent now, as this attempt in a row.
    pub(crate) fn sent(&mut self, attempt: u32) {
        if let Some(traced) = &mut self.0 {
            traced.attempt = attempt;
        }
    }

    /// Rows of this frame are in the request. A frame comes in several parts, one after the other.
    pub(crate) fn add(&mut self, lsn: u64, context: Option<TraceContext>) {
        let Some(context) = context else { return };
        let traced = self.0.get_or_insert_default();
        if lsn == traced.last_lsn {
            return;
        }
        traced.last_lsn = lsn;
        if traced.contexts.len() < CONTEXTS_MAX {
            traced.contexts.push(context);
        } else {
            traced.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_comes_back_as_it_was_and_what_is_none_is_none() {
        assert_eq!(TraceContext::parse(PARENT).unwrap().to_string(), PARENT);
        let later = TraceContext::parse(&format!("{}-more", PARENT.replacen("00", "01", 1)));
        assert_eq!(later.unwrap().to_string(), PARENT);
        for wrong in [
            String::new(),
            PARENT.replacen("00", "ff", 1),
            format!("{PARENT}-more"),
            PARENT.to_uppercase(),
            PARENT.replace("-01", "-00"),
            PARENT.replace("-01", ""),
            PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad", "b7\u{e4}d"),
            PARENT.replace('-', ""),
        ] {
            assert_eq!(TraceContext::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_request_is_linked_with_each_frame_once_and_with_so_many_at_most() {
        let (context, mut contexts) = (TraceContext::parse(PARENT), Contexts::default());
        for lsn in [1, 1, 2, 2, 2] {
            contexts.add(lsn, context);
        }
        contexts.add(3, None);
        let counts = |contexts: &Contexts| {
            let traced = contexts.traced().unwrap();
            (traced.contexts.len(), traced.left_out)
        };
        assert_eq!(counts(&contexts), (2, 0));
        (4..104).for_each(|lsn| contexts.add(lsn, context));
        assert_eq!(counts(&contexts), (CONTEXTS_MAX, 102 - 32));
    }
}
