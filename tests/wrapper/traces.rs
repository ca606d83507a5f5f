//! Traces: the delivery of a batch is linked with the trace of whoever sent it, whoever delivers it; and a receiver of spans
//! holds up nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Rule};
use arrow_zerobus_sdk_wrapper::telemetry::names;
use arrow_zerobus_sdk_wrapper::{
    DeliveryGuarantee, OtlpProtocol, TransmissionResult, TransportKind, WrapperConfiguration, ZerobusWrapper,
};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

use crate::receiver::{Manners, Receiver};
use crate::site::{Site, TABLE, batch, files_with, once, secret, wait_until};
use crate::telemetry::{exporting, received};

/// The span of a caller.
fn caller(trace: u128, flags: TraceFlags) -> SpanContext {
    let span_id = SpanId::from(trace as u64 + 0xabc0);
    SpanContext::new(TraceId::from(trace), span_id, flags, false, TraceState::NONE)
}

/// Sends ten rows, in a trace with this number.
async fn send_in(wrapper: &ZerobusWrapper, trace: u128, flags: TraceFlags, start: i64) -> TransmissionResult {
    let sending = {
        let _current = Context::new().with_remote_span_context(caller(trace, flags)).attach();
        wrapper.send_batch(batch(start..start + 10))
    };
    sending.await.unwrap()
}

/// Waits until so many spans of the kind have come, and returns them.
async fn spans(receiver: &Receiver, kind: SpanKind, count: usize) -> Vec<Span> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut spans = receiver.spans();
        spans.retain(|span| span.kind == kind as i32);
        if spans.len() >= count {
            return spans;
        }
        assert!(Instant::now() < deadline, "{count} spans {kind:?} did not come: {:#?}", receiver.spans());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The attributes of a span as text.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    span.attributes.iter().map(|pair| (pair.key.as_str(), text(&pair.value))).collect()
}

fn trace_bytes(trace: u128) -> Vec<u8> {
    TraceId::from(trace).to_bytes().to_vec()
}

/// Each span of `sent` is linked by one of `delivered`, and nothing else is.
fn assert_linked(sent: &[Span], delivered: &[Span]) {
    let ids = |trace: &[u8], span: &[u8]| (trace.to_vec(), span.to_vec());
    let mut linked: Vec<_> =
        delivered.iter().flat_map(|span| &span.links).map(|it| ids(&it.trace_id, &it.span_id)).collect();
    let mut expected: Vec<_> = sent.iter().map(|it| ids(&it.trace_id, &it.span_id)).collect();
    linked.sort();
    linked.dedup();
    expected.sort();
    assert_eq!(linked, expected);
    for span in delivered {
        assert!(span.parent_span_id.is_empty(), "a trace of its own");
        assert!(sent.iter().all(|it| it.trace_id != span.trace_id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_linked_with_the_traces_of_its_batches_however_it_travels() {
    type Change = fn(&mut WrapperConfiguration);
    let ways: [(OtlpProtocol, Change); 4] = [
        (OtlpProtocol::Grpc, |_| {}),
        (OtlpProtocol::Http, |c| c.streams = 3),
        (OtlpProtocol::Grpc, |c| c.delivery = DeliveryGuarantee::ExactlyOnce),
        (OtlpProtocol::Http, |c| c.transport = TransportKind::ArrowFlight),
    ];
    for (protocol, change) in ways {
        let receiver = match protocol {
            OtlpProtocol::Grpc => Receiver::grpc(Manners::Takes).await,
            OtlpProtocol::Http => Receiver::http(Manners::Takes).await,
        };
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(|c| {
            exporting(&receiver.endpoint, protocol)(c);
            change(c);
        });
        for trace in 1..=3 {
            send_in(&wrapper, trace, TraceFlags::SAMPLED, 10 * trace as i64).await;
        }
        wrapper.flush(None).await.unwrap();
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(10..40));

        let sent = spans(&receiver, SpanKind::Producer, 3).await;
        assert_eq!(sent.len(), 3);
        for span in &sent {
            assert_eq!(span.name, format!("send {TABLE}"));
            let attributes = attributes(span);
            let trace = u128::from_be_bytes(span.trace_id.clone().try_into().unwrap());
            assert_eq!(span.parent_span_id, caller(trace, TraceFlags::SAMPLED).span_id().to_bytes());
            let expected = [
                (names::TABLE, TABLE.to_owned()),
                (names::WRITER, "writer-001".to_owned()),
                (names::ROWS, "10".to_owned()),
                (names::LSN_FIRST, trace.to_string()),
                (names::OUTCOME, "stored".to_owned()),
                (names::MESSAGING_OPERATION_TYPE, "send".to_owned()),
                (names::MESSAGING_DESTINATION, TABLE.to_owned()),
            ];
            for (name, value) in expected {
                assert_eq!(attributes.get(name), Some(&value), "{name}");
            }
            assert!(attributes[names::SIZE].parse::<u64>().unwrap() > 100);
        }
        let delivered = spans(&receiver, SpanKind::Consumer, 1).await;
        assert_linked(&sent, &delivered);
        let mut rows = 0;
        for span in &delivered {
            assert_eq!(span.name, format!("process {TABLE}"));
            let attributes = attributes(span);
            let number = |name: &str| attributes[name].parse::<u64>().unwrap();
            rows += number(names::ROWS);
            assert!(number(names::LSN_FIRST) >= 1 && number(names::LSN_LAST) <= 3);
            let frames = number(names::LSN_LAST) - number(names::LSN_FIRST) + 1;
            assert_eq!(frames, span.links.len() as u64);
            assert!(number(names::SIZE) > 0);
            let fate = (attributes[names::OUTCOME].as_str(), number(names::ATTEMPT));
            assert_eq!(fate, ("delivered", 1));
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            assert!(span.start_time_unix_nano > 1_700_000_000_000_000_000);
        }
        assert_eq!(rows, 30);
        let text = receiver.traces_text();
        assert!(text.contains("edge") && !text.contains("hunter2") && !text.contains(secret()), "[I9]");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_goes_through_the_log_and_survives_a_restart() {
    let (before, after) = (Receiver::grpc(Manners::Takes).await, Receiver::grpc(Manners::Takes).await);
    let site = Site::new();
    let wrapper = site.open_with(exporting(&before.endpoint, OtlpProtocol::Grpc));
    for trace in 7..=8 {
        send_in(&wrapper, trace, TraceFlags::SAMPLED, 10 * (trace as i64 - 7)).await;
    }
    let sent = spans(&before, SpanKind::Producer, 2).await;
    // Nothing is handed over to the next owner but the directory.
    drop(wrapper);
    assert_eq!(files_with(&site.writer_directory(), &TraceId::from(7_u128).to_string()).len(), 1);

    let emulator = site.serve();
    let wrapper = site.open_with(exporting(&after.endpoint, OtlpProtocol::Grpc));
    wrapper.flush(None).await.unwrap();
    let delivered = spans(&after, SpanKind::Consumer, 1).await;
    assert_linked(&sent, &delivered);
    assert!(delivered.iter().flat_map(|span| &span.links).any(|link| link.trace_id == trace_bytes(7)));
    assert!(before.spans().iter().all(|span| span.kind == SpanKind::Producer as i32));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_traces_nothing_gets_no_spans_and_the_frames_that_there_always_were() {
    let receiver = Receiver::http(Manners::Takes).await;
    let mut sizes = Vec::new();
    for (flags, is_enabled) in [(TraceFlags::NOT_SAMPLED, true), (TraceFlags::SAMPLED, false)] {
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(|c| {
            exporting(&receiver.endpoint, OtlpProtocol::Http)(c);
            c.observability_enabled = is_enabled;
        });
        let unsampled = send_in(&wrapper, 0x5eed_f00d, flags, 0).await;
        let without = wrapper.send_batch(batch(0..10)).await.unwrap();
        sizes.extend([unsampled.batch_size_bytes, without.batch_size_bytes]);
        wrapper.flush(None).await.unwrap();
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        let written = files_with(&site.writer_directory(), "5eedf00d");
        assert!(written.is_empty() && files_with(&site.writer_directory(), "traceparent").is_empty());
    }
    assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{sizes:?}");
    assert!(receiver.spans().is_empty());
    assert!(receiver.last().is_some(), "metrics came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_stream_ends_has_a_span_with_the_reason_and_one_for_the_next_attempt() {
    for streams in [1, 2] {
        let receiver = Receiver::grpc(Manners::Takes).await;
        let site = Site::new();
        let emulator = site.serve();
        emulator.faults().add([Rule::new(Fault::DropAck { reset: true }).times(1)]).unwrap();
        let wrapper = site.open_with(|c| {
            exporting(&receiver.endpoint, OtlpProtocol::Grpc)(c);
            c.streams = streams;
        });
        send_in(&wrapper, 5, TraceFlags::SAMPLED, 0).await;
        wait_until(&wrapper, "delivery", |status| status.rows.delivered == 10).await;
        let sent = spans(&receiver, SpanKind::Producer, 1).await;
        let delivered = spans(&receiver, SpanKind::Consumer, 2).await;
        assert_linked(&sent, &delivered);
        let fates: Vec<_> = delivered.iter().map(attributes).collect();
        assert_eq!(fates[0][names::OUTCOME], "unacknowledged");
        assert_eq!(fates[1][names::OUTCOME], "delivered");
        assert_eq!((fates[0][names::ATTEMPT].as_str(), fates[1][names::ATTEMPT].as_str()), ("1", "2"));
        assert!(fates[0].contains_key(names::ERROR_TYPE) && !fates[1].contains_key(names::ERROR_TYPE));
        let status = delivered[0].status.as_ref().unwrap();
        assert!(status.code == StatusCode::Error as i32 && !status.message.is_empty());
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_stored_has_a_span_that_says_why() {
    let receiver = Receiver::grpc(Manners::Takes).await;
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        exporting(&receiver.endpoint, OtlpProtocol::Grpc)(c);
        c.segment_bytes = 1024 * 1024;
        c.shutdown_timeout = Duration::ZERO;
    });
    let sending = {
        let _current = Context::new().with_remote_span_context(caller(9, TraceFlags::SAMPLED)).attach();
        wrapper.send_batch(batch(0..200_000))
    };
    sending.await.unwrap_err();
    let sent = spans(&receiver, SpanKind::Producer, 1).await;
    let attributes = attributes(&sent[0]);
    assert_eq!(attributes[names::OUTCOME], "not_stored");
    assert!(attributes.contains_key(names::ERROR_TYPE) && !attributes.contains_key(names::LSN_FIRST));
    assert_eq!(sent[0].status.as_ref().unwrap().code, StatusCode::Error as i32);
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_spans_that_refuses_hangs_or_is_not_there_holds_up_nothing() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        for manners in [Some(Manners::Refuses), Some(Manners::Hangs), None] {
            let (receiver, endpoint) = Receiver::with(manners, protocol).await;
            let site = Site::new();
            let emulator = site.serve();
            let wrapper = site.open_with(exporting(&endpoint, protocol));
            for start in (0..200).step_by(10) {
                send_in(&wrapper, start as u128 + 1, TraceFlags::SAMPLED, start).await;
            }
            wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
            if manners == Some(Manners::Refuses) {
                // It looks at the metrics before it refuses them.
                let receiver = receiver.as_ref().unwrap();
                received(receiver, "the spans that are lost", |export| {
                    export.value(names::SPANS_LOST.name, None).is_some_and(|lost| lost >= 20.0)
                })
                .await;
            }
            let began = Instant::now();
            wrapper.shutdown().await.unwrap();
            let took = began.elapsed();
            assert!(
                took < Duration::from_secs(10),
                "shutdown took {took:?} with {manners:?} over {protocol:?}"
            );
            emulator.stop().unwrap();
            assert_eq!(site.landed(), once(0..200));
        }
    }
}

/// A provider of a program, which keeps the spans that it gets.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_the_tracer_provider_of_the_program_has_the_spans() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    opentelemetry::global::set_tracer_provider(provider);
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.observability_enabled = true);
    send_in(&wrapper, 0xface, TraceFlags::SAMPLED, 0).await;
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let mut spans = kept.0.lock().unwrap().clone();
    spans.sort_by_key(|span| span.start_time);
    let [sent, delivered] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(sent.span_context.trace_id(), TraceId::from(0xface_u128));
    assert_eq!(delivered.links.links[0].span_context.span_id(), sent.span_context.span_id());
}
