//! Log records over OTLP: what this crate logs arrives once at each place, with what belongs to it and nothing secret, and
//! whatever the receiver does, nobody waits for it and nothing is said about it to the receiver itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::telemetry::{export_event, names};
use arrow_zerobus_sdk_wrapper::{LogExport, OtlpProtocol, WrapperConfiguration, ZerobusWrapper, admin};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::receiver::{Manners, Receiver, pairs};
use crate::site::{Site, batch, once, secret};
use crate::telemetry::{exporting, received};

/// What a program does that wants its logs exported.
struct OfTheProgram;

impl Subscriber for OfTheProgram {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
    }
    fn event(&self, event: &Event<'_>) {
        export_event(event);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn open(site: &Site, change: impl FnOnce(&mut WrapperConfiguration)) -> ZerobusWrapper {
    static SET: Once = Once::new();
    // The command, which other tests run in this process, may have been quicker: it hands events over too.
    SET.call_once(|| drop(tracing::subscriber::set_global_default(OfTheProgram)));
    site.open_with(|c| {
        // What is only exported when somebody wants the rest too is not what is asked here.
        c.shutdown_timeout = Duration::ZERO;
        change(c);
    })
}

/// A record as it came, with the name of its scope.
#[derive(Clone, Debug)]
struct Came {
    scope: String,
    resource: BTreeMap<String, String>,
    record: LogRecord,
}

impl Came {
    fn attributes(&self) -> BTreeMap<String, String> {
        pairs(&self.record.attributes).collect()
    }

    fn body(&self) -> String {
        format!("{:?}", self.record.body)
    }

    fn is_about(&self, text: &str) -> bool {
        self.body().contains(text) || format!("{:?}", self.record.attributes).contains(text)
    }
}

fn records(receiver: &Receiver) -> Vec<Came> {
    let mut records = Vec::new();
    for of_resource in receiver.logs().into_iter().flat_map(|request| request.resource_logs) {
        let resource: BTreeMap<_, _> = pairs(&of_resource.resource.unwrap().attributes).collect();
        for of_scope in of_resource.scope_logs {
            let scope = of_scope.scope.unwrap().name;
            let came = |record| Came { scope: scope.clone(), resource: resource.clone(), record };
            records.extend(of_scope.log_records.into_iter().map(came));
        }
    }
    records
}

/// The records about this, once there are some.
async fn about(receiver: &Receiver, text: &str) -> Vec<Came> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found: Vec<_> = records(receiver).into_iter().filter(|came| came.is_about(text)).collect();
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < deadline, "{text} did not come: {:#?}", records(receiver));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_arrives_over_grpc_and_over_http_with_what_belongs_to_it() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        let (receiver, endpoint) = Receiver::with(Some(Manners::Takes), protocol).await;
        let receiver = receiver.unwrap();
        let site = Site::new();
        let directory = site.writer_directory();
        // Said while the log is opened, before there is anything else of it.
        admin::pause(&directory_of_a_log(&site), Some("full moon")).unwrap();
        let wrapper = open(&site, exporting(&endpoint, protocol));
        let found = about(&receiver, directory.to_str().unwrap()).await;
        let [came] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!(came.scope, "arrow_zerobus_sdk_wrapper::wrapper::open");
        assert!(came.body().contains("nothing is sent from this log"), "{came:#?}");
        assert_eq!((came.record.severity_number, came.record.severity_text.as_str()), (13, "WARN"));
        let attributes = came.attributes();
        assert_eq!(attributes["directory"], directory.to_str().unwrap());
        assert!(attributes["pause"].contains("full moon"));
        assert!(
            attributes["code.file.path"].ends_with("open.rs") && attributes.contains_key("code.line.number")
        );
        assert_eq!(
            (came.resource["service.name"].as_str(), came.resource["site"].as_str()),
            ("edge", "north")
        );
        assert!(came.record.time_unix_nano > 1_700_000_000_000_000_000);
        assert!(came.record.trace_id.is_empty(), "in no trace");
        let text = format!("{:?}", receiver.logs());
        assert!(!text.contains("hunter2") && !text.contains(secret()), "[I9]");
        wrapper.shutdown().await.unwrap();
    }
}

/// A log that nobody has open.
fn directory_of_a_log(site: &Site) -> std::path::PathBuf {
    drop(site.open_with(|c| c.shutdown_timeout = Duration::ZERO));
    site.writer_directory()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_while_a_batch_is_stored_belongs_to_its_span() {
    let (receiver, endpoint) = Receiver::with(Some(Manners::Takes), OtlpProtocol::Grpc).await;
    let receiver = receiver.unwrap();
    let site = Site::new();
    let wrapper = open(&site, exporting(&endpoint, OtlpProtocol::Grpc));
    let trace = TraceId::from(0xfeed_u128);
    let caller = SpanContext::new(trace, SpanId::from(7), TraceFlags::SAMPLED, false, TraceState::NONE);
    let extension = [("ARROW:extension:name".to_owned(), "of.this.test".to_owned())];
    let id = Field::new("id", DataType::Int64, true).with_metadata(HashMap::from(extension));
    let column = Arc::new(Int64Array::from_iter_values(0..3));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![id])), vec![column]).unwrap();
    let sending = {
        let _current = Context::new().with_remote_span_context(caller).attach();
        wrapper.send_batch(batch)
    };
    sending.await.unwrap();
    wrapper.shutdown().await.unwrap();
    let found = about(&receiver, "of.this.test").await;
    let traced: Vec<_> = found.iter().filter(|it| it.record.trace_id == trace.to_bytes()).collect();
    let [came] = traced.as_slice() else { panic!("{found:#?}") };
    let sent = receiver.spans();
    assert_eq!(came.record.span_id, sent[0].span_id, "the span of send_batch");
    assert_eq!(came.record.severity_text, "INFO");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_two_wrappers_name_gets_an_event_once_and_until_the_last_of_them_is_gone() {
    let (receiver, endpoint) = Receiver::with(Some(Manners::Takes), OtlpProtocol::Http).await;
    let receiver = receiver.unwrap();
    let (one_site, other_site) = (Site::new(), Site::new());
    let one = open(&one_site, exporting(&endpoint, OtlpProtocol::Http));
    let other = open(&other_site, |c| {
        exporting(&endpoint, OtlpProtocol::Http)(c);
        c.observability_logs = LogExport::Debug;
    });
    tracing::debug!(target: "arrow_zerobus_sdk_wrapper::test", "both of two are there");
    one.shutdown().await.unwrap();
    tracing::info!(target: "arrow_zerobus_sdk_wrapper::test", "one of two is left");
    // Of somebody else: nobody has looked through it for secrets.
    tracing::error!(target: "hyper::client", "secret of somebody else");
    other.shutdown().await.unwrap();
    tracing::error!(target: "arrow_zerobus_sdk_wrapper::test", "none of two is left");
    assert_eq!(about(&receiver, "both of two").await.len(), 1);
    assert_eq!(about(&receiver, "one of two").await.len(), 1);
    let records = records(&receiver);
    assert!(!records.iter().any(|it| it.is_about("none of two") || it.is_about("somebody else")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_says_of_which_level_on() {
    let levels = [
        (LogExport::Off, 0),
        (LogExport::Error, 1),
        (LogExport::Warning, 2),
        (LogExport::Info, 3),
        (LogExport::Debug, 4),
    ];
    for (level, count) in levels {
        let (receiver, endpoint) = Receiver::with(Some(Manners::Takes), OtlpProtocol::Grpc).await;
        let receiver = receiver.unwrap();
        let site = Site::new();
        let wrapper = open(&site, |c| {
            exporting(&endpoint, OtlpProtocol::Grpc)(c);
            c.observability_logs = level;
        });
        tracing::error!(target: "arrow_zerobus_sdk_wrapper::test", "of each level one");
        tracing::warn!(target: "arrow_zerobus_sdk_wrapper::test", "of each level one");
        tracing::info!(target: "arrow_zerobus_sdk_wrapper::test", "of each level one");
        tracing::debug!(target: "arrow_zerobus_sdk_wrapper::test", "of each level one");
        wrapper.shutdown().await.unwrap();
        let found = records(&receiver).into_iter().filter(|came| came.is_about("of each level one"));
        assert_eq!(found.count(), count, "{level:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_logs_that_refuses_hangs_or_is_not_there_holds_up_nothing_and_is_told_nothing_of_it() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        for manners in [Some(Manners::Refuses), Some(Manners::Hangs), None] {
            let (receiver, endpoint) = Receiver::with(manners, protocol).await;
            let site = Site::new();
            let emulator = site.serve();
            let wrapper = open(&site, |c| {
                exporting(&endpoint, protocol)(c);
                c.shutdown_timeout = Duration::from_secs(20);
            });
            let began = Instant::now();
            for number in 0..10_000 {
                tracing::info!(target: "arrow_zerobus_sdk_wrapper::test", number, "a flood");
            }
            wrapper.send_batch(batch(0..10)).await.unwrap();
            wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
            let took = began.elapsed();
            assert!(took < Duration::from_secs(10), "{took:?} with {manners:?} over {protocol:?}");
            if manners == Some(Manners::Refuses) {
                let receiver = receiver.as_ref().unwrap();
                // It looks at what it refuses.
                received(receiver, "the records that are lost", |export| {
                    let lost = export.value(names::LOG_RECORDS_LOST.name, None);
                    lost.is_some_and(|lost| lost >= 10_000.0)
                })
                .await;
                let of_telemetry = |came: &Came| came.scope.contains("::telemetry");
                assert_eq!(records(receiver).iter().filter(|came| of_telemetry(came)).count(), 0);
            }
            let began = Instant::now();
            wrapper.shutdown().await.unwrap();
            let took = began.elapsed();
            assert!(
                took < Duration::from_secs(10),
                "shutdown took {took:?} with {manners:?} over {protocol:?}"
            );
            emulator.stop().unwrap();
            assert_eq!(site.landed(), once(0..10));
        }
    }
}
