//! The one thread that writes: it takes every frame that waits, writes them with one call, makes
//! them durable with one sync, and wakes their callers.
//!
//! While it syncs, the next callers gather; so a sync is shared by as many as came during the one
//! before, and a lone caller never waits for company.
//!
//! After a failed write or sync the segment is left as it is, for ever \[I8\]. What was not yet
//! promised goes to a new segment under the same numbers; that segment's header says which frame
//! came before it, and so voids what the failed one may hold of them \[I12\].
//! `docs/internals/recovery.md` has the argument.

use std::{
    collections::VecDeque,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    AppendError, Durability, PreparedFrame, WalOptions,
    format::SegmentHeader,
    index::{Index, Segment},
    segment::OpenSegment,
};
use crate::{
    io::Env,
    types::{Epoch, Lsn, SegmentId},
};

/// What an append gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The number of the frame.
    pub lsn: Lsn,
    /// The bytes that it has in the log.
    pub frame_bytes: u64,
    /// Whether it was synced to the disk.
    pub durable: bool,
}

/// An append that was started. It is finished even if this value is dropped.
///
/// # Cancel safety
///
/// Dropping it only gives up the answer: the frame is stored, or fails, all the same.
#[derive(Debug)]
#[must_use = "the answer says whether the batch was stored"]
pub struct Append {
    answer: oneshot::Receiver<Result<Appended, AppendError>>,
    dir: PathBuf,
}

impl Append {
    /// Waits for the answer on this thread, which must not be one that drives a runtime.
    pub fn wait(self) -> Result<Appended, AppendError> {
        futures::executor::block_on(self)
    }
}

impl Future for Append {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let dir = self.dir.clone();
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| Err(AppendError::Poisoned { dir, reason: "its thread is gone".into() }))
        })
    }
}

/// What the appender, the readers and the handles of a log have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) dir: PathBuf,
    pub(super) epoch: Epoch,
    options: WalOptions,
    queue: Mutex<Queue>,
    wake: Condvar,
    index: Mutex<Index>,
    durable: watch::Sender<Lsn>,
    /// Set by the appender, once and for ever.
    poisoned: OnceLock<Arc<str>>,
}

/// What waits for the appender.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Pending>,
    /// Those who wait for the open segment to be sealed and a new one begun.
    rolls: Vec<oneshot::Sender<Result<(), AppendError>>>,
    closed: bool,
}

/// A frame that is not promised yet, or only in the weak sense of an interval.
#[derive(Debug)]
struct Pending {
    frame: PreparedFrame,
    /// When it was first written; it keeps the time if it is written again.
    appended_unix_micros: Option<i64>,
    /// Who waits for it; none once they were told.
    caller: Option<oneshot::Sender<Result<Appended, AppendError>>>,
}

impl Shared {
    pub(super) fn new(
        env: &Env,
        dir: PathBuf,
        epoch: Epoch,
        options: WalOptions,
        index: Index,
        last: Lsn,
    ) -> Shared {
        Shared {
            env: env.clone(),
            dir,
            epoch,
            options,
            queue: Mutex::default(),
            wake: Condvar::new(),
            index: Mutex::new(index),
            durable: watch::Sender::new(last),
            poisoned: OnceLock::new(),
        }
    }

    pub(super) fn durable(&self) -> Lsn {
        *self.durable.borrow()
    }

    pub(super) fn poisoned(&self) -> Option<Arc<str>> {
        self.poisoned.get().cloned()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Lsn> {
        self.durable.subscribe()
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // A panic elsewhere leaves the index whole: every change to it is one assignment.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the frame fits into a segment.
    pub(super) fn check_size(&self, frame: &PreparedFrame) -> Result<(), AppendError> {
        let segment_bytes = self.options.segment_bytes;
        let needed_bytes = OpenSegment::bytes_needed(frame);
        if needed_bytes > segment_bytes {
            return Err(AppendError::TooLarge { needed_bytes, segment_bytes });
        }
        Ok(())
    }

    /// Queues a frame.
    pub(super) fn append(&self, frame: PreparedFrame) -> Append {
        let (caller, answer) = oneshot::channel();
        let size = self.check_size(&frame);
        let mut queue = self.queue();
        if let Err(too_large) = size {
            let _ = caller.send(Err(too_large));
        } else if queue.closed {
            let _ = caller.send(Err(AppendError::Closed));
        } else {
            queue.frames.push_back(Pending { frame, appended_unix_micros: None, caller: Some(caller) });
            drop(queue);
            self.wake.notify_one();
        }
        Append { answer, dir: self.dir.clone() }
    }

    /// Seals the open segment and begins a new one, so that the sealed one can be reclaimed.
    pub(super) fn roll(&self) -> Result<(), AppendError> {
        let (caller, answer) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(AppendError::Closed);
        }
        queue.rolls.push(caller);
        self.wake.notify_one();
        drop(queue);
        futures::executor::block_on(answer).unwrap_or(Err(AppendError::Closed))
    }

    /// Lets no more frames in; the appender finishes what is queued and ends.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue().closed
    }
}

/// What the appender takes from the queue at once.
struct Work {
    frames: VecDeque<Pending>,
    rolls: Vec<oneshot::Sender<Result<(), AppendError>>>,
    closed: bool,
}

/// The appender's own state; no other thread sees it.
pub(super) struct Appender {
    shared: Arc<Shared>,
    open: Option<OpenSegment>,
    next_lsn: Lsn,
    next_segment: SegmentId,
    /// Frames of the open segment that are written but not yet readable, in order.
    unsynced: VecDeque<Pending>,
    /// Frames that an interval's callers were told of and that no segment holds after a failure.
    retained: VecDeque<Pending>,
    last_sync: Duration,
}

/// Why frames were not written.
enum Failure {
    /// Nothing that holds a promise was touched: no space, or no new segment to be had.
    Untouched(AppendError),
    /// The segment must not be touched again.
    Segment(AppendError),
}

impl Appender {
    pub(super) fn new(shared: Arc<Shared>, next_lsn: Lsn, next_segment: SegmentId) -> Appender {
        let last_sync = shared.env.clock.monotonic();
        Appender {
            shared,
            open: None,
            next_lsn,
            next_segment,
            unsynced: VecDeque::new(),
            retained: VecDeque::new(),
            last_sync,
        }
    }

    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let work = self.wait();
            if !work.frames.is_empty() || !self.retained.is_empty() {
                self.append(work.frames);
            }
            if self.sync_wait() == Some(Duration::ZERO) {
                self.settle(Self::sync);
            }
            if !work.rolls.is_empty() {
                let result = self.roll();
                for caller in work.rolls {
                    let _ = caller.send(result.clone());
                }
            }
            if work.closed {
                self.settle(Self::seal);
                return;
            }
        }
    }

    /// Waits for work, or for the time of the next sync.
    fn wait(&self) -> Work {
        let shared = &self.shared;
        let mut queue = shared.queue();
        while queue.frames.is_empty() && queue.rolls.is_empty() && !queue.closed {
            queue = match self.sync_wait() {
                Some(Duration::ZERO) => break,
                Some(wait) => shared.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let Queue { frames, rolls, closed } = &mut *queue;
        Work { frames: std::mem::take(frames), rolls: std::mem::take(rolls), closed: *closed }
    }

    /// How long until the interval asks for a sync; none while there is nothing to sync.
    fn sync_wait(&self) -> Option<Duration> {
        let Durability::Interval(interval) = self.shared.options.durability else { return None };
        let waiting = !self.unsynced.is_empty() || !self.retained.is_empty();
        let due = self.last_sync + interval;
        waiting.then(|| due.saturating_sub(self.shared.env.clock.monotonic()))
    }

    /// Writes frames, and what an earlier failure left, until all are promised or refused.
    fn append(&mut self, frames: VecDeque<Pending>) {
        let mut group = std::mem::take(&mut self.retained);
        group.extend(frames);
        if let Some(reason) = self.shared.poisoned() {
            let error = AppendError::Poisoned { dir: self.shared.dir.clone(), reason };
            return self.refuse(group, &error);
        }
        let mut first_failure = None;
        while !group.is_empty() {
            match self.write(&mut group) {
                Ok(()) => {}
                Err(Failure::Untouched(error)) => {
                    if let Some(first) = first_failure.filter(|_| !error.is_out_of_space()) {
                        self.poison(&first);
                    }
                    return self.refuse(group, &error);
                }
                Err(Failure::Segment(error)) => {
                    self.abandon(&mut group);
                    // [I8] Once more, in a new segment.
                    if let Some(first) = &first_failure {
                        self.poison(first);
                        return self.refuse(group, &error);
                    }
                    first_failure = Some(error);
                }
            }
        }
    }

    /// Writes as many frames as the open segment takes and promises them.
    fn write(&mut self, group: &mut VecDeque<Pending>) -> Result<(), Failure> {
        let options = self.shared.options;
        let segment = self.open_segment()?;
        let (count, end) = segment.room(group.iter().map(|pending| &pending.frame), options.segment_bytes);
        if count == 0 {
            return self.seal();
        }
        segment.reserve(end, options.segment_bytes).map_err(|error| {
            if error.is_out_of_space() { Failure::Untouched(error) } else { Failure::Segment(error) }
        })?;

        let now = self.shared.env.clock.unix_micros();
        let mut lsn = self.next_lsn;
        for pending in group.iter_mut().take(count) {
            pending.appended_unix_micros.get_or_insert(now);
        }
        let frames = group.iter().take(count).map(|pending| {
            let this = lsn;
            lsn = lsn.next();
            (&pending.frame, this, pending.appended_unix_micros.unwrap_or(now))
        });
        let Some(segment) = &mut self.open else { return Ok(()) };
        segment.write(frames).map_err(Failure::Segment)?;
        self.next_lsn = lsn;
        self.unsynced.extend(group.drain(..count));
        match options.durability {
            // A seal syncs too; if more frames wait than fit, one sync does for both.
            Durability::Sync if group.is_empty() => self.sync(),
            Durability::Sync => self.seal(),
            Durability::Interval(_) => {
                self.answer(false);
                Ok(())
            }
            Durability::Os => {
                self.publish();
                Ok(())
            }
        }
    }

    fn open_segment(&mut self) -> Result<&mut OpenSegment, Failure> {
        let segment = match self.open.take() {
            Some(segment) => segment,
            None => self.create().map_err(Failure::Untouched)?,
        };
        Ok(self.open.insert(segment))
    }

    fn create(&mut self) -> Result<OpenSegment, AppendError> {
        let shared = &self.shared;
        let id = self.next_segment;
        // A number is used once, whatever becomes of its file.
        self.next_segment = id.next();
        let previous = shared.index().segments.last().map_or(Lsn::ZERO, |segment| segment.totals.last);
        let header = SegmentHeader {
            epoch: shared.epoch,
            id,
            base: self.next_lsn,
            previous,
            created_unix_micros: shared.env.clock.unix_micros(),
        };
        let segment = OpenSegment::create(&shared.env, &shared.dir, &header)?;
        let entry = Segment::empty(id, segment.path().to_owned(), header.base);
        shared.index().segments.push(entry);
        Ok(segment)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        if let Some(segment) = &mut self.open {
            segment.sync().map_err(Failure::Segment)?;
            self.last_sync = self.shared.env.clock.monotonic();
            self.publish();
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Failure> {
        let Some(segment) = &mut self.open else { return Ok(()) };
        let bytes = segment.seal().map_err(Failure::Segment)?;
        self.last_sync = self.shared.env.clock.monotonic();
        self.publish();
        if let Some(entry) = self.shared.index().segments.last_mut() {
            entry.bytes = bytes;
        }
        self.open = None;
        Ok(())
    }

    /// Makes what was written readable, and tells those who wait for it.
    fn publish(&mut self) {
        let Some(segment) = &self.open else { return };
        if let Some(entry) = self.shared.index().segments.last_mut().filter(|entry| entry.id == segment.id())
        {
            entry.totals = segment.totals();
            entry.end = segment.end();
            entry.bytes = segment.end();
        }
        // The index first: whoever sees the position finds the frames.
        self.shared.durable.send_if_modified(|durable| {
            let moved = segment.totals().last > *durable;
            *durable = segment.totals().last.max(*durable);
            moved
        });
        self.answer(self.shared.options.durability == Durability::Sync);
        self.unsynced.clear();
    }

    /// Tells the callers of the frames that were just written.
    fn answer(&mut self, durable: bool) {
        let mut lsn = self.next_lsn;
        for pending in self.unsynced.iter_mut().rev() {
            lsn = lsn.previous();
            if let Some(caller) = pending.caller.take() {
                let frame_bytes = pending.frame.frame_bytes();
                let _ = caller.send(Ok(Appended { lsn, frame_bytes, durable }));
            }
        }
    }

    /// Leaves the open segment as it is, ending where it was last readable; what it was to hold beyond
    /// that comes to the front of the group, under the numbers that it had.
    fn abandon(&mut self, group: &mut VecDeque<Pending>) {
        self.open = None;
        self.next_lsn = Lsn::new(self.next_lsn.get() - self.unsynced.len() as u64);
        while let Some(pending) = self.unsynced.pop_back() {
            group.push_front(pending);
        }
    }

    /// Gives those who wait the error. Frames whose callers have their answer stay in memory for the
    /// next attempt; they are at most what one segment holds.
    fn refuse(&mut self, group: VecDeque<Pending>, error: &AppendError) {
        for mut pending in group {
            match pending.caller.take() {
                Some(caller) => {
                    let _ = caller.send(Err(error.clone()));
                }
                None => self.retained.push_back(pending),
            }
        }
        // An interval without success is not to be tried again at once.
        self.last_sync = self.shared.env.clock.monotonic();
    }

    fn poison(&mut self, error: &AppendError) {
        if !error.is_out_of_space() {
            let reason = crate::error::chain(error);
            tracing::error!(log = %self.shared.dir.display(), reason, "the log refuses appends from now on");
            // The first failure is the one to tell.
            let _ = self.shared.poisoned.set(reason.into());
        }
    }

    /// Syncs or seals outside an append; what a failure leaves over is appended anew.
    fn settle(&mut self, finish: fn(&mut Appender) -> Result<(), Failure>) {
        for _ in 0..2 {
            let Err(Failure::Segment(error) | Failure::Untouched(error)) = finish(self) else { return };
            tracing::warn!(error = crate::error::chain(&error), "a segment is left as it is after a failure");
            let mut group = VecDeque::new();
            self.abandon(&mut group);
            self.append(group);
        }
    }

    fn roll(&mut self) -> Result<(), AppendError> {
        self.settle(Self::seal);
        match (self.shared.poisoned(), &self.open) {
            (Some(reason), _) => Err(AppendError::Poisoned { dir: self.shared.dir.clone(), reason }),
            (None, Some(_)) => Ok(()),
            (None, None) => {
                let segment = self.create()?;
                self.open = Some(segment);
                Ok(())
            }
        }
    }
}
