//! Waiting for delivery: what `flush`, `wait_delivered` and a wrapper that waits have in common.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::append::rounded_ms;
use super::{BatchState, DeliveryError, Inner, ROWS_NAMED_MAX, TransmissionResult};
use crate::drain::{LaneState, LaneStatus, SettlerStatus};
use crate::ledger::DroppedRange;
use crate::quarantine::FrameReport;
use crate::types::Lsn;

const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn wait_delivered(
    inner: Arc<Inner>,
    lsn: Lsn,
    timeout: Option<Duration>,
) -> Result<TransmissionResult, DeliveryError> {
    check_open(&inner)?;
    let last = inner.stored.last();
    if lsn > last || lsn == Lsn::ZERO {
        return Err(DeliveryError::Unknown { lsn, last });
    }
    let started = inner.env.clock.monotonic();
    let failures_before = inner.lane.borrow().failures;
    within(&inner, timeout, settled(&inner, Awaited::Frame(lsn), failures_before)).await?;
    Ok(TransmissionResult {
        success: true,
        error: None,
        attempts: attempts_since(&inner, failures_before),
        latency_ms: Some(rounded_ms(inner.env.clock.monotonic().saturating_sub(started))),
        batch_size_bytes: 0,
        state: BatchState::Delivered,
        lsn: Some(lsn),
        durable: true,
    })
}

pub(super) async fn flush(inner: Arc<Inner>, timeout: Option<Duration>) -> Result<(), DeliveryError> {
    check_open(&inner)?;
    let failures_before = inner.lane.borrow().failures;
    let last = inner.stored.last();
    // A permit that nobody waits for would shorten the wait after some later failure.
    let is_failing = inner.lane.borrow().failure.is_some();
    if is_failing && inner.settler.borrow().settled.settled.through < last {
        // Who calls flush wants to know now, not at the next probe.
        inner.nudge.notify_one();
    }
    let told = inner.drops_told.load(Ordering::Acquire);
    match within(&inner, timeout, settled(&inner, Awaited::UpTo(last), failures_before)).await {
        Ok(()) | Err(DeliveryError::Dropped { .. } | DeliveryError::Quarantined { .. }) => {
            tell_drops(&inner, told, last)?;
            tell_quarantined(&inner)
        }
        other => other,
    }
}

/// How many rows were put into quarantine and no `flush` has told, if there are any: each is told once.
fn tell_quarantined(inner: &Inner) -> Result<(), DeliveryError> {
    let all = inner.settler.borrow().settled.quarantined.rows;
    let count = all.saturating_sub(inner.quarantined_told.fetch_max(all, Ordering::AcqRel));
    if count == 0 {
        return Ok(());
    }
    let path = inner.quarantine.directory().to_owned();
    Err(DeliveryError::Quarantined { lsn: None, rows: Vec::new(), count, reason: String::new(), path })
}

/// What was dropped of the frames up to `last` and no `flush` has told, if anything was: each drop is told once.
fn tell_drops(inner: &Inner, told: u64, last: Lsn) -> Result<(), DeliveryError> {
    let dropped = inner.settler.borrow().settled.dropped;
    let untold = dropped.ranges().iter().filter(|range| range.last.get() > told && range.first <= last);
    let Some(range) = untold.copied().reduce(|all, next| DroppedRange {
        first: all.first.min(next.first),
        last: all.last.max(next.last),
        is_whole: false,
    }) else {
        return Ok(());
    };
    inner.drops_told.fetch_max(range.last.get(), Ordering::AcqRel);
    Err(DeliveryError::Dropped { lsn: None, dropped: range })
}

/// What somebody waits for. With several streams a frame may be settled before others that come before it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Awaited {
    /// That this frame is settled.
    Frame(Lsn),
    /// That every frame up to this one is.
    UpTo(Lsn),
}

impl Awaited {
    fn lsn(self) -> Lsn {
        match self {
            Awaited::Frame(lsn) | Awaited::UpTo(lsn) => lsn,
        }
    }

    fn is_settled(self, settler: &SettlerStatus) -> bool {
        settler.settled.settled.through >= self.lsn()
            || matches!(self, Awaited::Frame(lsn) if settler.ranges.has_frame(lsn))
    }
}

/// Waits until what is awaited is settled, or until there is reason to tell the caller that it is not.
pub(super) async fn settled(
    inner: &Inner,
    awaited: Awaited,
    failures_before: u64,
) -> Result<(), DeliveryError> {
    let lsn = awaited.lsn();
    let mut lane = inner.lane.clone();
    let mut settler = inner.settler.clone();
    let mut stop = inner.stop.subscribe();
    loop {
        {
            let settler = settler.borrow_and_update();
            if awaited.is_settled(&settler) {
                break;
            }
            if settler.failures_in_a_row >= inner.settings.retry_max_attempts {
                let reason = settler.failure.clone().unwrap_or_default();
                return Err(DeliveryError::Ledger { reason });
            }
        }
        if let Some(reason) = inner.wal.poisoned()
            && lsn > inner.wal.durable()
        {
            return Err(DeliveryError::Unsynced { lsn, reason });
        }
        if lane.borrow_and_update().state == LaneState::Paused
            && let Some(pause) = inner.pause.borrow().clone()
        {
            return Err(DeliveryError::Paused { pause });
        }
        verdict(&lane.borrow(), failures_before, inner.settings.retry_max_attempts)?;
        let pause = {
            let _clock = inner.runtime.handle().enter();
            tokio::time::sleep(LOG_CHECK_INTERVAL)
        };
        let is_stopping = tokio::select! {
            changed = lane.changed() => changed.is_err(),
            changed = settler.changed() => changed.is_err(),
            () = stopping(&mut stop) => true,
            // What the log says of itself is looked at now and then; it announces no failure.
            () = pause => false,
        };
        if is_stopping && !*stop.borrow() {
            return Err(DeliveryError::Ended);
        }
        if is_stopping {
            // The last word is the settler's.
            let mut outcome = inner.stopped.subscribe();
            let stopped = outcome.wait_for(Option::is_some).await.is_ok();
            if !stopped || !awaited.is_settled(&inner.settler.borrow()) {
                return Err(DeliveryError::Closed);
            }
            break;
        }
    }
    is_delivered(inner, lsn).await
}

/// Whether a frame that is settled was delivered as a whole, and not dropped or put into quarantine.
async fn is_delivered(inner: &Inner, lsn: Lsn) -> Result<(), DeliveryError> {
    let (dropped, quarantined) = {
        let settled = &inner.settler.borrow().settled;
        (settled.dropped.find(lsn), settled.quarantined)
    };
    if quarantined.rows > 0 {
        let quarantine = inner.quarantine.clone();
        // It reads files.
        let report = inner.runtime.handle().spawn_blocking(move || quarantine.report_of(lsn)).await;
        if let Ok(Some(FrameReport { rows, reason, path })) = report {
            let count = rows.count_in(0..u32::MAX as usize + 1);
            let rows = rows.iter().take(ROWS_NAMED_MAX).collect();
            return Err(DeliveryError::Quarantined { lsn: Some(lsn), rows, count, reason, path });
        }
    }
    dropped.map_or(Ok(()), |dropped| Err(DeliveryError::Dropped { lsn: Some(lsn), dropped }))
}

/// Returns once the wrapper gives up delivering.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error means that the wrapper is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Whether what the lane met since the wait began is enough to give up waiting.
fn verdict(lane: &LaneStatus, failures_before: u64, attempts_max: u32) -> Result<(), DeliveryError> {
    let Some(failure) = &lane.failure else { return Ok(()) };
    let attempts = lane.failures - failures_before;
    match lane.state {
        LaneState::Blocked | LaneState::Poison if attempts > 0 => {
            Err(DeliveryError::Refused(failure.clone()))
        }
        _ if attempts >= u64::from(attempts_max) && lane.failures_in_a_row >= attempts_max => {
            Err(DeliveryError::RetryExhausted { attempts, last: failure.clone() })
        }
        _ => Ok(()),
    }
}

/// How many attempts delivery took while somebody waited: the failed ones and the last.
pub(super) fn attempts_since(inner: &Inner, failures_before: u64) -> u32 {
    u32::try_from(inner.lane.borrow().failures - failures_before + 1).unwrap_or(u32::MAX)
}

async fn within<T>(
    inner: &Inner,
    timeout: Option<Duration>,
    wait: impl Future<Output = Result<T, DeliveryError>>,
) -> Result<T, DeliveryError> {
    match timeout {
        None => wait.await,
        Some(timeout) => {
            // The caller may be on another runtime, or on none.
            let limited = {
                let _clock = inner.runtime.handle().enter();
                tokio::time::timeout(timeout, wait)
            };
            limited.await.unwrap_or(Err(DeliveryError::Timeout { timeout }))
        }
    }
}

fn check_open(inner: &Inner) -> Result<(), DeliveryError> {
    inner.check_process()?;
    if inner.is_closed.load(Ordering::Acquire) { Err(DeliveryError::Closed) } else { Ok(()) }
}
