//! The delivery loop of one log: a stream, a window of requests, retries for ever. Several streams at a time are dealt with
//! in `fan.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::failing::Failure;
use super::fan::Fan;
use super::fed::{Fed, Request};
use super::feed::{Feed, Rules};
use super::grace::Grace;
use super::inflight::Window;
use super::isolate::Isolation;
use super::opening::Opened;
use super::recipe::request_bytes;
use super::requests::{Reads, Requests};
use super::settle::SettlerStatus;
use super::staged::Staged;
use super::{Covered, LaneState, LaneStatus, Plans, Progress, Span};
use crate::admission::Admission;
use crate::catalog::KnownTable;
use crate::config::DeliveryGuarantee;
use crate::deaths::{Death, reached};
use crate::error::ErrorCode;
use crate::io::Env;
use crate::ledger::Streams;
use crate::pause::Pause;
use crate::quarantine::Quarantine;
use crate::telemetry::Recorder;
use crate::transport::{ErrorClass, Stream, Transport, TransportError};
use crate::types::StreamOffset;
use crate::wal::Wal;

/// The settings of a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneSettings {
    pub(crate) request_max_bytes: usize,
    pub(crate) max_inflight_requests: usize,
    pub(crate) streams: usize,
    pub(crate) stream_max_age: Duration,
    pub(crate) retry_base_delay: Duration,
    pub(crate) retry_max_delay: Duration,
    pub(crate) delivery: DeliveryGuarantee,
}

/// Delivers one log, in order if it has one stream.
pub(crate) struct Lane {
    pub(crate) wal: Wal,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) table: Arc<KnownTable>,
    pub(crate) plans: Plans,
    pub(crate) env: Env,
    pub(crate) settings: LaneSettings,
    pub(crate) status: watch::Sender<LaneStatus>,
    /// What is acknowledged; the settler makes it durable.
    pub(crate) acknowledged: watch::Sender<Progress>,
    /// What of it is durable.
    pub(crate) settler: watch::Receiver<SettlerStatus>,
    /// Somebody wants the next attempt now.
    pub(crate) nudge: Arc<Notify>,
    /// Whose wish it is that the oldest frames are dropped.
    pub(crate) admission: Arc<Admission>,
    /// The reads of the log that are under way for a request.
    pub(crate) reads: Reads,
    /// Where refused rows go.
    pub(crate) quarantine: Quarantine,
    /// The schemas that are refused.
    pub(crate) grace: Arc<Grace>,
    /// Whether somebody has paused delivery.
    pub(crate) pause: watch::Receiver<Option<Pause>>,
    /// Who counts and measures.
    pub(crate) recorder: Arc<Recorder>,
}

/// What a lane keeps between two streams.
pub(super) struct Delivery {
    pub(super) lane: Lane,
    pub(super) window: Window,
    /// What is to be sent once it is recorded.
    pub(super) staged: Staged,
    pub(super) backoff_step: u32,
    pub(super) is_fresh_token_tried: bool,
    pub(super) isolation: Isolation,
    /// How many rows the next request may have; the feed reads it.
    rows_max: Arc<AtomicUsize>,
    /// The request that could not be handed to the stream.
    pub(super) unsent: Option<Span>,
    /// The stream offset that the next request has to get, on a persistent stream.
    pub(super) next_offset: Option<StreamOffset>,
    /// What is recorded cannot be made again as it was.
    pub(super) is_altered: bool,
}

impl Lane {
    /// An empty window for one stream.
    pub(super) fn new_window(&self) -> Window {
        let LaneSettings { max_inflight_requests, request_max_bytes, .. } = self.settings;
        let window_bytes = max_inflight_requests.saturating_mul(request_max_bytes);
        Window::new(max_inflight_requests, window_bytes, Arc::clone(&self.recorder))
    }

    pub(crate) fn new_status(streams: &Streams) -> watch::Sender<LaneStatus> {
        watch::Sender::new(LaneStatus::new(streams))
    }

    pub(super) fn set_state(&self, state: LaneState) {
        self.status.send_modify(|status| status.state = state);
    }

    /// Delivers until `stop` says true. What is in flight then is sent again by the next owner.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut delivery = Delivery {
            window: self.new_window(),
            lane: self,
            backoff_step: 0,
            is_fresh_token_tried: false,
            isolation: Isolation::default(),
            rows_max: Arc::new(AtomicUsize::new(usize::MAX)),
            unsent: None,
            staged: Staged::default(),
            next_offset: None,
            is_altered: false,
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            never = delivery.run() => match never {},
        }
        delivery.lane.set_state(LaneState::Stopped);
    }

    /// Delivers nothing until `stop` says true; what waits stays where it is, unless the oldest is to be dropped.
    pub(crate) async fn rest(self, mut stop: watch::Receiver<bool>) {
        self.status.send_modify(|status| {
            status.state = LaneState::Disabled;
            let reason = "writer_disabled is true: nothing is delivered";
            status.failure = Some(TransportError::blocked(ErrorCode::Configuration, reason));
        });
        loop {
            tokio::select! {
                biased;
                // An error means that the wrapper is gone, which is the same.
                () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
                () = self.admission.drops.wanted() => drop(self.drop_oldest().await),
            }
        }
        self.set_state(LaneState::Stopped);
    }
}

impl Delivery {
    /// What is to be sent, from the first row on that is not settled, for the table as it is known now.
    pub(super) fn requests(&mut self) -> Requests {
        self.requests_beside(std::iter::empty())
    }

    /// The same, without what is in flight.
    pub(super) fn requests_beside(&mut self, in_flight: impl Iterator<Item = Span>) -> Requests {
        let lane = &self.lane;
        let Progress { record, ranges, streams, .. } = lane.acknowledged.borrow().clone();
        let from = record.settled;
        self.isolation.resume_at(from);
        self.rows_max.store(self.isolation.rows_max(), Ordering::Release);
        let rules = Rules {
            request_max_bytes: request_bytes(lane.plans.transport(), lane.settings.request_max_bytes),
            plans: lane.plans.clone(),
            table: lane.table.now(),
            quarantine: lane.quarantine.clone(),
            grace: Arc::clone(&lane.grace),
            covered: Covered::by(&ranges, in_flight),
            condemned: self.isolation.condemned().cloned(),
            rows_max: Arc::clone(&self.rows_max),
            is_traced: lane.recorder.spans().is_some(),
            recorded: streams.current.as_ref().map(|current| current.requests.clone()).unwrap_or_default(),
        };
        let feed = Feed::new(lane.wal.reader(from.through.next()).uncached(), from, rules);
        Requests::from(feed, &lane.wal, &lane.reads, &lane.table)
    }

    async fn run(&mut self) -> std::convert::Infallible {
        self.know_table().await;
        if self.lane.settings.streams > 1 {
            return Fan::new(self).run().await;
        }
        loop {
            self.rest_while_paused().await;
            let Err(failure) = self.deliver().await else { continue };
            self.window.fails(failure.error());
            let longest = self.lane.settings.retry_max_delay;
            let wait = match failure {
                Failure::Stream(error) if self.isolate_in_window(&error) => None,
                Failure::Schema(schema, error) => {
                    let left = self.lane.grace.refused(&schema, &error.message, Instant::now());
                    (!left.is_zero()).then_some((error, left.min(longest)))
                }
                Failure::Altered(error) => {
                    tracing::info!(reason = %error, "a new persistent stream is begun");
                    self.is_altered = true;
                    None
                }
                Failure::Stream(error) | Failure::Other(error) => Some((error, longest)),
            };
            let unsent_rows = self.unsent.take().map_or(0, |span| span.rows);
            let resent_rows = self.window.clear() + unsent_rows;
            self.staged.clear();
            if self.lane.settings.delivery == DeliveryGuarantee::AtLeastOnce {
                self.lane.status.send_modify(|status| status.resent_rows += resent_rows);
            }
            if let Some((failure, longest)) = wait {
                let is_parked = failure.class == ErrorClass::Poison;
                self.wait_after(failure, longest).await;
                if is_parked {
                    self.isolation.reconsider();
                }
            }
        }
    }

    /// Waits until the catalog was asked, if a backlog waits and nothing is known of the table: a request that is made before
    /// would be made a second time.
    async fn know_table(&self) {
        let settled = self.lane.acknowledged.borrow().record.settled;
        if self.lane.wal.durable() > settled.through && self.lane.table.is_unknown() {
            self.lane.set_state(LaneState::Connecting);
            self.lane.serving_drops(self.lane.table.reread()).await;
        }
    }

    /// Sends, from the last acknowledged row on, until delivery is paused and nothing is in flight, or something fails.
    async fn deliver(&mut self) -> Result<(), Failure> {
        // Opened, and not used: what may have been sent on it goes first, or what was to go first was dropped meanwhile.
        let mut spare = self.fence().await?;
        let mut requests = self.requests();
        let mut waiting: Option<Request> = None;
        loop {
            if self.lane.is_paused() {
                if let Some((stream, _)) = spare.take() {
                    stream.close().await;
                }
                return Ok(());
            }
            if self.lane.admission.drops.is_open() && self.lane.drop_oldest().await {
                (requests, waiting) = (self.requests(), None);
            }
            let next = match waiting.take() {
                Some(request) => Ok(Some(request)),
                None => self.first_request(&mut requests).await,
            };
            let outcome = match next {
                Ok(None) => continue,
                Ok(Some(request)) => match spare.take() {
                    Some((stream, format)) if *request.format() == format && !self.is_used_up() => {
                        self.pump(stream, request, &mut requests).await
                    }
                    Some((stream, _)) => {
                        stream.close().await;
                        waiting = Some(request);
                        continue;
                    }
                    None => match self.open(&request, requests.table_version()).await? {
                        Opened::Stream(stream) | Opened::Spare(stream) if self.lane.is_paused() => {
                            stream.close().await;
                            return Ok(());
                        }
                        Opened::Stream(stream) => self.pump(stream, request, &mut requests).await,
                        Opened::Spare(stream) => {
                            (requests, spare) = (self.requests(), Some((stream, request.format().clone())));
                            continue;
                        }
                        Opened::Outdated => {
                            requests = self.requests();
                            continue;
                        }
                    },
                },
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(request) => waiting = request,
                // What does not fit the table as it was may fit it as it is.
                Err(failure)
                    if failure.error().code == ErrorCode::Conversion
                        && self.lane.is_outdated(requests.table_version()).await =>
                {
                    requests = self.requests();
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn open(
        &mut self,
        request: &Request,
        table_version: u64,
    ) -> Result<Opened<Box<dyn Stream>>, Failure> {
        match self.lane.settings.delivery {
            DeliveryGuarantee::ExactlyOnce => self.open_persistent(request, table_version).await,
            DeliveryGuarantee::AtLeastOnce => {
                let opening = self.lane.transport.open(request.format());
                self.lane.open(request, table_version, opening).await
            }
        }
    }

    /// What is to be sent next while there is no stream; none if something else has to be done first.
    async fn first_request(&mut self, requests: &mut Requests) -> Result<Option<Request>, Failure> {
        // Without anything to send no stream is needed: an idle one only grows old.
        if self.lane.status.borrow().failure.is_none() {
            self.lane.set_state(LaneState::Idle);
        }
        tokio::select! {
            biased;
            () = self.lane.admission.drops.wanted() => Ok(None),
            () = self.lane.paused() => Ok(None),
            fed = requests.next() => match fed? {
                Fed::Request(request) => Ok(Some(request)),
                Fed::Skipped(span) => {
                    self.settle(&span);
                    Ok(None)
                }
            },
        }
    }

    /// [I7] Only this moves what is delivered.
    pub(super) fn acknowledge_oldest(&mut self) {
        let Some(request) = self.window.pop() else { return };
        reached(Death::Acknowledged);
        self.progressed();
        self.settle(&request.span);
    }

    /// Something is acknowledged: what failed before has passed.
    pub(super) fn progressed(&mut self) {
        self.backoff_step = 0;
        self.is_fresh_token_tried = false;
        let is_idle = self.window.oldest().is_none();
        self.lane.status.send_modify(|status| {
            status.state = if is_idle { LaneState::Idle } else { LaneState::Streaming };
            status.failure = None;
            status.failures_in_a_row = 0;
        });
    }

    /// All of this is acknowledged, or in quarantine.
    pub(super) fn settle(&mut self, span: &Span) {
        self.lane.acknowledged.send_modify(|progress| progress.settle(span));
        let settled = self.lane.acknowledged.borrow().record.settled;
        self.lane.quarantine.settled(settled.through);
        self.isolation.acknowledged(span.rows as usize, settled);
        self.rows_max.store(self.isolation.rows_max(), Ordering::Release);
        if span.rows == 0 && span.quarantined.rows > 0 {
            // What was wrong is put away, and there may be nothing more to send.
            self.lane.status.send_if_modified(|status| {
                let is_over = matches!(status.state, LaneState::Isolating | LaneState::Poison);
                if is_over {
                    status.state = LaneState::Idle;
                    status.failure = None;
                    status.failures_in_a_row = 0;
                }
                is_over
            });
        }
    }
}
