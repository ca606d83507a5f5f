//! The way of a batch into the log: check, frame, gate, append, count.
//!
//! What is seldom waited for is in a box, so that a send is small: it is moved several times on its way to a runtime.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow_array::RecordBatch;
#[cfg(feature = "python")]
use arrow_schema::SchemaRef;
use opentelemetry::trace::FutureExt as _;

use super::delivery::{self, Awaited};
use super::{BatchState, Inner, SendError, SendFailure, Settings, TransmissionResult};
use crate::admission::{Full, Permit, Refused};
use crate::config::WaitFor;
use crate::debug_files::Copied;
use crate::telemetry::{Sending, TraceContext};
use crate::types::Lsn;
use crate::wal::{Append, AppendError, Appended, FrameError, PreparedFrame, Sharing};

/// What is in the log or was, counted where an append ends, whether anybody waits for it or not.
#[derive(Debug)]
pub(super) struct Stored {
    last_lsn: AtomicU64,
    frames: AtomicU64,
    rows: AtomicU64,
}

impl Stored {
    pub(super) fn new(last: Lsn, frames: u64, rows: u64) -> Stored {
        Stored { last_lsn: last.get().into(), frames: frames.into(), rows: rows.into() }
    }

    fn add(&self, lsn: Lsn, rows: u32) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows.into(), Ordering::Relaxed);
        // Last, so that who sees the frame sees it counted.
        self.last_lsn.fetch_max(lsn.get(), Ordering::Release);
    }

    /// The highest LSN that an append has returned.
    pub(super) fn last(&self) -> Lsn {
        Lsn::new(self.last_lsn.load(Ordering::Acquire))
    }

    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// How a batch becomes a frame: sharing its memory or not, and in which trace.
#[derive(Clone, Copy)]
struct Encoding {
    sharing: Sharing,
    context: Option<TraceContext>,
}

impl Encoding {
    fn encode(&self, batch: &RecordBatch) -> Result<PreparedFrame, FrameError> {
        PreparedFrame::traced(batch, self.sharing, self.context.as_ref())
    }
}

/// Stores a batch that somebody in this trace has sent.
pub(super) async fn send_batch(
    inner: Arc<Inner>,
    batch: RecordBatch,
    sharing: Sharing,
    caller: Option<TraceContext>,
) -> Result<TransmissionResult, SendError> {
    let spans = inner.telemetry.recorder().spans();
    let sending = caller.and_then(|caller| spans?.sending(&caller, batch.num_rows()));
    let encoding = Encoding { sharing, context: sending.as_ref().map(Sending::context) };
    let Some(sending) = sending else { return store(inner, batch, encoding).await };
    // What is logged on the way belongs to the span.
    let outcome = Box::pin(store(inner, batch, encoding).with_context(sending.active())).await;
    sending.ended(&outcome);
    outcome
}

async fn store(
    inner: Arc<Inner>,
    batch: RecordBatch,
    encoding: Encoding,
) -> Result<TransmissionResult, SendError> {
    let started = inner.env.clock.monotonic();
    let frame = match prepare(&inner, &batch, encoding).await {
        Ok(Some(frame)) => frame,
        Ok(None) => return Ok(TransmissionResult::empty()),
        Err(cause) => return Err(SendError::not_stored(batch, cause)),
    };
    let failures_before = inner.lane.borrow().failures;
    let appended = match append(&inner, &batch, frame, encoding).await {
        Ok(appended) => appended,
        Err(cause) => return Err(SendError::not_stored(batch, cause)),
    };
    // Waiting for delivery needs the batch no more: it is in the log.
    drop(batch);
    let mut result = inner.stored(appended, started);
    if inner.settings.wait_for == WaitFor::Delivered {
        Box::pin(delivery::settled(&inner, Awaited::Frame(appended.lsn), failures_before))
            .await
            .map_err(|error| SendError::not_delivered(appended.lsn, error))?;
        result.state = BatchState::Delivered;
        result.attempts = delivery::attempts_since(&inner, failures_before);
        result.durable = true;
        result.latency_ms = Some(rounded_ms(inner.env.clock.monotonic().saturating_sub(started)));
    }
    Ok(result)
}

/// A batch on its way into the log, which took nothing that would have had to be waited for.
#[cfg(feature = "python")]
pub(crate) struct Started {
    append: CountedAppend,
    at: Duration,
}

#[cfg(feature = "python")]
impl Started {
    /// Hands a frame of this schema to the log, if it is to be stored and no more, and nothing has to be waited for first; else nothing
    /// was done.
    pub(super) fn new(inner: &Arc<Inner>, schema: &SchemaRef, frame: PreparedFrame) -> Option<Started> {
        let at = inner.env.clock.monotonic();
        let is_simple = inner.settings.wait_for == WaitFor::Stored
            && inner.check_open().is_ok()
            && inner.check_as_known(schema).is_ok()
            && inner.wal.check_size(&frame).is_ok();
        if !is_simple {
            return None;
        }
        let permit = inner.admission.enter_at_once(frame.frame_bytes())?;
        Some(Started { append: CountedAppend::start(inner, frame, permit), at })
    }

    /// What became of it.
    pub(crate) async fn ended(self) -> Result<TransmissionResult, NotStored> {
        let inner = Arc::clone(&self.append.inner);
        match self.append.await {
            Ok(appended) => Ok(inner.stored(appended, self.at)),
            Err(error) if is_full_disk(&error) => Err(NotStored::Full),
            Err(AppendError::Closed) => {
                Err(NotStored::Failed(SendError::not_stored(None, SendFailure::Closed)))
            }
            Err(error) => Err(NotStored::Failed(SendError::not_stored(None, error))),
        }
    }
}

/// Why a batch that was started is not stored.
#[cfg(feature = "python")]
pub(crate) enum NotStored {
    /// There was no space. Nothing was written, and it may wait for some.
    Full,
    Failed(SendError),
}

/// Everything that can be refused is refused here, before a byte is written.
async fn prepare(
    inner: &Inner,
    batch: &RecordBatch,
    encoding: Encoding,
) -> Result<Option<PreparedFrame>, SendFailure> {
    inner.check_open()?;
    inner.check_schema(batch.schema_ref()).await?;
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let frame = encoding.encode(batch)?;
    // Such a frame would wait for room that can never be made.
    match inner.wal.check_size(&frame) {
        Err(AppendError::TooLarge { needed_bytes, segment_bytes }) => {
            let (setting, value) = inner.settings.segment_limit;
            Err(SendFailure::TooLarge { needed_bytes, limit_bytes: segment_bytes, setting, value })
        }
        checked => Ok(checked.map(|()| Some(frame))?),
    }
}

/// Appends as soon as there is room, if the policy has it wait for that.
async fn append(
    inner: &Arc<Inner>,
    batch: &RecordBatch,
    frame: PreparedFrame,
    encoding: Encoding,
) -> Result<Appended, SendFailure> {
    let bytes = frame.frame_bytes();
    let patience = inner.admission.patience();
    let (mut frame, mut found_full) = (Some(frame), false);
    loop {
        let permit = match inner.admission.enter(bytes, patience, found_full).await {
            Ok(permit) => permit,
            Err(Refused::Closed) => return Err(SendFailure::Closed),
            Err(Refused::Full(full)) => return Err(inner.full(full)),
        };
        let frame = match frame.take() {
            Some(frame) => frame,
            None => encoding.encode(batch)?,
        };
        match CountedAppend::start(inner, frame, permit).await {
            Ok(appended) => return Ok(appended),
            Err(AppendError::Closed) => return Err(SendFailure::Closed),
            // A disk that is full is a log that is full.
            Err(error) if is_full_disk(&error) => found_full = true,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether others can make room. A limit on the size of files, which also is a lack of space, nobody lifts.
fn is_full_disk(error: &AppendError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error {
        AppendError::Storage { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
        _ => false,
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), SendFailure> {
        self.check_process()?;
        if self.is_closed.load(Ordering::Acquire) { Err(SendFailure::Closed) } else { Ok(()) }
    }

    /// What a caller hears of a batch that is in the log, and was given then.
    fn stored(&self, appended: Appended, given: Duration) -> TransmissionResult {
        let took = self.env.clock.monotonic().saturating_sub(given);
        if self.telemetry.recorder().is_measuring() {
            self.telemetry.recorder().appended(took);
        }
        TransmissionResult {
            success: true,
            error: None,
            attempts: 0,
            latency_ms: Some(rounded_ms(took)),
            batch_size_bytes: appended.frame_bytes,
            state: BatchState::Stored,
            lsn: Some(appended.lsn),
            durable: appended.durable,
        }
    }

    fn full(&self, full: Full) -> SendFailure {
        let lane = self.lane.borrow();
        let mut delivery = lane.state.as_str().to_owned();
        if let Some(failure) = &lane.failure {
            delivery.push_str(&format!(": {failure}"));
        }
        if let Some(failure) = &self.settler.borrow().failure {
            delivery.push_str(&format!("; what is settled cannot be freed: {failure}"));
        }
        let Settings { on_full, block_timeout, .. } = self.settings;
        SendFailure::Full { full, on_full, waited: block_timeout, delivery }
    }
}

pub(super) fn rounded_ms(duration: Duration) -> u64 {
    ((duration.as_micros() + 500) / 1000) as u64
}

/// An append that is counted when it ends, even if nobody waits for it any more. So long it also keeps its
/// place before the gate: cancelled senders do not fill memory with frames that a slow disk has not taken.
struct CountedAppend {
    inner: Arc<Inner>,
    append: Option<(Append, Permit)>,
    rows: u32,
    /// For the debug files, once it is stored.
    copied: Option<Copied>,
}

impl CountedAppend {
    fn start(inner: &Arc<Inner>, frame: PreparedFrame, permit: Permit) -> CountedAppend {
        let rows = frame.rows();
        let copied = inner.debug_files.as_ref().and_then(|files| files.copy(&frame));
        CountedAppend {
            append: Some((inner.wal.append(frame), permit)),
            inner: Arc::clone(inner),
            rows,
            copied,
        }
    }
}

impl Future for CountedAppend {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((append, _)) = &mut self.append else { return Poll::Ready(Err(AppendError::Closed)) };
        let outcome = ready!(Pin::new(append).poll(context));
        if let Ok(appended) = &outcome {
            self.inner.stored.add(appended.lsn, self.rows);
            let copied = self.copied.take();
            if let Some((files, copied)) = self.inner.debug_files.as_ref().zip(copied) {
                files.offer(copied);
            }
        }
        // After the count: whoever sees that nobody is before the log any more sees it counted.
        self.append = None;
        Poll::Ready(outcome)
    }
}

impl Drop for CountedAppend {
    fn drop(&mut self) {
        let Some(append) = self.append.take() else { return };
        let copied = self.copied.take();
        let inner = Arc::clone(&self.inner);
        let rest = CountedAppend { inner, append: Some(append), rows: self.rows, copied };
        self.inner.runtime.handle().spawn(async move {
            if let Err(error) = rest.await {
                tracing::warn!(%error, "a batch whose sender was cancelled was not stored");
            }
        });
    }
}
