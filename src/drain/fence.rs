//! The persistent stream of a log: which requests on it are committed, and what to do if nobody can say.
//!
//! ```text
//!  resume ─► committed up to w ─► requests up to w are settled ─► those behind it are made again as they were
//!     │            └ that cannot be ─► nothing is sent              └ they cannot be ─► a new stream begins at w
//!     └ nobody knows the stream ─► nothing was open ─► a new stream begins
//!                                     └ something was ─► it is sent again on a new one, and counted as doubtful
//! ```

use std::sync::Arc;

use prost::Message as _;
use prost_types::DescriptorProto;
use tonic::Code;

use super::failing::Failure;
use super::fed::Request;
use super::lane::Delivery;
use super::opening::Opened;
use super::{LaneState, Progress, Span};
use crate::config::DeliveryGuarantee;
use crate::deaths::{Death, reached};
use crate::error::ErrorCode;
use crate::ledger::{DESCRIPTOR_BYTES_MAX, OutOfRange, RecordedStream, Streams};
use crate::transport::{ErrorClass, Format, PersistentStream, Stream, TransportError};
use crate::types::StreamOffset;

/// An open stream, and what may be sent on it.
pub(super) type Open = (Box<dyn Stream>, Format);

impl Delivery {
    fn is_exactly_once(&self) -> bool {
        self.lane.settings.delivery == DeliveryGuarantee::ExactlyOnce
    }

    /// The persistent stream that is recorded.
    fn current(&self) -> Option<RecordedStream> {
        self.lane.acknowledged.borrow().streams.current.clone()
    }

    /// Learns what became of requests that were sent on a persistent stream, by this process or another. Returns the
    /// stream if it is to go on with those that are not committed.
    pub(super) async fn fence(&mut self) -> Result<Option<Open>, Failure> {
        let is_altered = std::mem::take(&mut self.is_altered);
        let Some(recorded) = self.current() else { return Ok(None) };
        if !recorded.has_tail() {
            if !self.is_exactly_once() {
                self.change_streams(|streams| streams.current = None);
            }
            return Ok(None);
        }
        if self.lane.status.borrow().failure.is_none() {
            self.lane.set_state(LaneState::Connecting);
        }
        let descriptor = descriptor_of(&recorded)?;
        let resuming = self.lane.transport.open_persistent(&descriptor, Some(&recorded.id));
        let (resumed, _) = self.lane.serving_drops(resuming).await;
        let opened = match resumed {
            Ok(opened) => opened,
            Err(error) => return self.without_answer(&descriptor, error).await,
        };
        reached(Death::Resumed);
        self.lane.status.send_modify(|status| status.streams_opened += 1);
        if let Err(alarm) = self.settle_committed(opened.committed) {
            return self.after_alarm(alarm);
        }
        if !self.is_exactly_once() {
            self.change_streams(|streams| streams.current = None);
            return Ok(None);
        }
        let settled = self.lane.acknowledged.borrow().record.settled;
        let is_recut = is_altered || self.isolation.is_careful(settled);
        match self.current() {
            Some(current) if current.has_tail() && (is_recut || current.is_used_up()) => {
                self.change_streams(Streams::void);
                reached(Death::Void);
            }
            Some(current) if current.has_tail() => {
                return Ok(Some((opened.stream, Format::Protobuf(descriptor))));
            }
            _ => {}
        }
        opened.stream.close().await;
        Ok(None)
    }

    /// The stream could not be resumed.
    async fn without_answer(
        &mut self,
        descriptor: &Arc<DescriptorProto>,
        error: TransportError,
    ) -> Result<Option<Open>, Failure> {
        // The service that is there now has no such streams, so ours is not on it.
        let is_gone = error.is_grpc(Code::Unimplemented) && !self.is_exactly_once();
        if is_gone || error.is_grpc(Code::NotFound) && self.is_table_there(descriptor).await? {
            self.doubt(&error);
            return Ok(None);
        }
        if error.class == ErrorClass::Poison {
            // The table is another one than when the stream was created.
            let text = format!("a persistent stream cannot be resumed: {error}");
            return self.after_alarm(alarm(self.current().as_ref(), &text));
        }
        Err(Failure::Other(error))
    }

    /// Whether it is the stream that the service does not find, and not the table.
    async fn is_table_there(&self, descriptor: &Arc<DescriptorProto>) -> Result<bool, Failure> {
        let format = Format::Protobuf(Arc::clone(descriptor));
        match self.lane.serving_drops(self.lane.transport.open(&format)).await.0 {
            Ok(stream) => stream.close().await,
            Err(error) if error.class == ErrorClass::Poison => {}
            Err(error) => return Err(Failure::Other(error)),
        }
        Ok(true)
    }

    /// What the service says cannot be. Who wants each row at least once has it sent again.
    fn after_alarm(&self, alarm: TransportError) -> Result<Option<Open>, Failure> {
        if self.is_exactly_once() {
            return Err(Failure::Other(alarm));
        }
        self.doubt(&alarm);
        Ok(None)
    }

    /// Nobody can say what became of the requests that are not settled: they are sent again.
    fn doubt(&self, reason: &TransportError) {
        let Some(recorded) = self.current() else { return };
        tracing::warn!(
            stream_id = recorded.id,
            rows = recorded.tail_rows(),
            %reason,
            "what became of these rows is not known; they are sent again and may be in the table twice"
        );
        self.change_streams(|streams| {
            streams.doubtful_rows += recorded.tail_rows();
            streams.current = None;
        });
    }

    /// Opens the persistent stream that is recorded, or a new one, for a request that is not sent yet.
    pub(super) async fn open_persistent(
        &mut self,
        request: &Request,
        table_version: u64,
    ) -> Result<Opened<Box<dyn Stream>>, Failure> {
        let Format::Protobuf(descriptor) = request.format() else {
            let text = "an Arrow batch for a persistent stream";
            return Err(Failure::Other(TransportError::blocked(ErrorCode::Internal, text)));
        };
        let bytes: Arc<[u8]> = descriptor.encode_to_vec().into();
        if bytes.len() > DESCRIPTOR_BYTES_MAX {
            let text = format!(
                "delivery=\"exactly_once\" takes tables whose columns need at most {DESCRIPTOR_BYTES_MAX} bytes to \
                 describe; these need {}",
                bytes.len()
            );
            return Err(Failure::Other(TransportError::blocked(ErrorCode::Configuration, text)));
        }
        let current = self.current();
        let resumable = current.as_ref().filter(|it| !it.is_used_up() && it.descriptor == bytes);
        if resumable.is_none() && current.as_ref().is_some_and(|current| current.has(request.span.end)) {
            let text = "a request that may have been sent would be made of other messages now";
            return Err(Failure::Altered(TransportError::transient(ErrorCode::Internal, text)));
        }
        let transport = self.lane.transport.as_ref();
        let opening = async {
            if let Some(recorded) = resumable {
                match transport.open_persistent(descriptor, Some(&recorded.id)).await {
                    // Nothing is open on it.
                    Err(error) if error.is_grpc(Code::NotFound) => {}
                    resumed => return resumed.map(|opened| (opened, false)),
                }
            }
            transport.open_persistent(descriptor, None).await.map(|opened| (opened, true))
        };
        let ((opened, is_new), is_spare) = match self.lane.open(request, table_version, opening).await? {
            Opened::Stream(opened) => (opened, false),
            Opened::Spare(opened) => (opened, true),
            Opened::Outdated => return Ok(Opened::Outdated),
        };
        Ok(match self.begin(opened, is_new, bytes)? {
            Some(stream) if is_spare => Opened::Spare(stream),
            Some(stream) => Opened::Stream(stream),
            None => Opened::Outdated,
        })
    }

    /// Records a stream that is new, or settles what one that is not has committed. None if that was news: then the
    /// request was sent before.
    fn begin(
        &mut self,
        opened: PersistentStream,
        is_new: bool,
        descriptor: Arc<[u8]>,
    ) -> Result<Option<Box<dyn Stream>>, Failure> {
        let PersistentStream { id, committed, stream } = opened;
        if is_new {
            reached(Death::Created);
            // The end of the old one and the beginning of this one are one record.
            self.change_streams(|streams| streams.begin(id, descriptor));
            return Ok(Some(stream));
        }
        reached(Death::Resumed);
        let is_news = self.settle_committed(committed).map_err(Failure::Other)?;
        Ok((!is_news).then_some(stream))
    }

    /// [I7] Everything on the stream up to there is committed. Says whether anything was not known to be.
    fn settle_committed(&mut self, committed: Option<StreamOffset>) -> Result<bool, TransportError> {
        let current = self.current();
        let requests = match current.as_ref().map(|current| current.committed(committed)) {
            None => return Ok(false),
            Some(Ok(requests)) => requests,
            Some(Err(OutOfRange { lowest, highest })) => {
                let committed = committed.unwrap_or(StreamOffset::new(-1));
                let what = match committed > highest {
                    true => {
                        format!("committed up to offset {committed}, and nothing above {highest} was sent")
                    }
                    false => format!("committed up to offset {committed}, and {lowest} was acknowledged"),
                };
                return Err(alarm(current.as_ref(), &format!("the service says that it is {what}")));
            }
        };
        for recorded in &requests {
            self.settle(&Span::from(recorded));
        }
        if !requests.is_empty() {
            self.progressed();
        }
        Ok(!requests.is_empty())
    }

    fn change_streams(&self, change: impl FnOnce(&mut Streams)) {
        self.lane.acknowledged.send_modify(|Progress { streams, .. }| change(Arc::make_mut(streams)));
        let streams = Arc::clone(&self.lane.acknowledged.borrow().streams);
        self.lane.status.send_modify(|status| status.tell(&streams));
    }
}

fn descriptor_of(recorded: &RecordedStream) -> Result<Arc<DescriptorProto>, Failure> {
    let unreadable = |error| alarm(Some(recorded), &format!("its descriptor cannot be read: {error}"));
    DescriptorProto::decode(&*recorded.descriptor).map(Arc::new).map_err(unreadable).map_err(Failure::Other)
}

/// Why nothing is sent on a persistent stream, and what can be done about it.
fn alarm(recorded: Option<&RecordedStream>, what: &str) -> TransportError {
    let id = recorded.map_or("", |recorded| &recorded.id);
    let text = format!(
        "persistent stream {id}: {what}; nothing is sent, because rows could be lost or doubled. If the service is \
         right, start with delivery=\"at_least_once\": it sends again what is not acknowledged, and counts it"
    );
    TransportError::blocked(ErrorCode::Transmission, text)
}
