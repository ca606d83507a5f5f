//! How a frame reaches the appender, and how its caller learns what became of it.
//!
//! Whoever wants to append puts the frame into the queue. Then one of two takes everything that waits and
//! commits it as a group: the log's own thread, or, with [`Shared::append_blocking`], a caller that may
//! block and finds nobody at it. A lone caller so saves two switches of threads; many callers are
//! served by the thread, whose groups are as large as what came during the write before.

use std::{
    collections::VecDeque,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    AppendError, PreparedFrame, WalOptions, appender::Appender, index::Index, segment::OpenSegment,
    spare::Spares,
};
use crate::{
    io::Env,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, block_on},
    telemetry::Recorder,
    types::{Epoch, Lsn},
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
        block_on(self)
    }
}

impl Future for Append {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.answer).poll(context) {
            Poll::Ready(Ok(answer)) => Poll::Ready(answer),
            Poll::Ready(Err(_)) => {
                let (dir, reason) = (self.dir.clone(), "its thread is gone".into());
                Poll::Ready(Err(AppendError::Poisoned { dir, reason }))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A frame that is not promised yet, or only in the weak sense of an interval.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) frame: PreparedFrame,
    /// When it was first written; it keeps the time if it is written again.
    pub(super) appended_unix_micros: Option<i64>,
    /// Who waits for it; none once they were told.
    pub(super) caller: Option<oneshot::Sender<Result<Appended, AppendError>>>,
}

/// What waits for the appender.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Pending>,
    rolls: Vec<oneshot::Sender<Result<(), AppendError>>>,
    /// When the next sync is due, on the monotonic clock; none while nothing waits for one.
    sync_due: Option<Duration>,
    closed: bool,
    /// Whether the thread waits to be woken: a call of the system, which would be in vain while it works.
    thread_waits: bool,
}

/// What the thread does next.
enum Work {
    Turn,
    Roll(Vec<oneshot::Sender<Result<(), AppendError>>>),
    Close,
}

/// What the appender, the readers and the handles of a log have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) dir: PathBuf,
    pub(super) epoch: Epoch,
    pub(super) options: WalOptions,
    pub(super) spares: Spares,
    queue: Mutex<Queue>,
    wake: Condvar,
    appender: Mutex<Appender>,
    index: Mutex<Index>,
    durable: watch::Sender<Lsn>,
    poisoned: Mutex<Option<Arc<str>>>,
    /// What the log has taken of the disk since it was opened: whole blocks, headers, schemas and footers.
    pub(super) written_bytes: Arc<AtomicU64>,
    /// Who measures syncs, once somebody wants that.
    recorder: OnceLock<Arc<Recorder>>,
}

impl Shared {
    /// A segment counts for more than before.
    pub(super) fn written(&self, before: u64, now: u64) {
        self.written_bytes.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    }

    pub(super) fn new(
        env: &Env,
        dir: PathBuf,
        epoch: Epoch,
        options: WalOptions,
        spares: Spares,
        index: Index,
        appender: Appender,
    ) -> Shared {
        Shared {
            env: env.clone(),
            dir,
            epoch,
            options,
            spares,
            queue: Mutex::default(),
            wake: Condvar::new(),
            index: Mutex::new(index),
            durable: watch::Sender::new(appender.last()),
            appender: Mutex::new(appender),
            poisoned: Mutex::new(None),
            written_bytes: Arc::default(),
            recorder: OnceLock::new(),
        }
    }

    pub(super) fn durable(&self) -> Lsn {
        *self.durable.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Lsn> {
        self.durable.subscribe()
    }

    /// Moves the durable position; whoever sees it finds the frames, so the index comes first.
    pub(super) fn publish(&self, last: Lsn) {
        self.durable.send_if_modified(|durable| {
            let moved = last > *durable;
            *durable = last.max(*durable);
            moved
        });
    }

    /// From now on syncs are measured.
    pub(super) fn record(&self, recorder: Arc<Recorder>) {
        self.recorder.get_or_init(|| recorder);
    }

    /// The time at which a sync begins; none if nobody measures it.
    pub(super) fn sync_begins(&self) -> Option<Duration> {
        self.recorder.get().filter(|recorder| recorder.is_measuring()).map(|_| self.env.clock.monotonic())
    }

    /// A sync that began then has made so many frames durable.
    pub(super) fn sync_ended(&self, began: Option<Duration>, frames: usize) {
        if let Some((recorder, began)) = self.recorder.get().zip(began)
            && frames > 0
        {
            recorder.synced(self.env.clock.monotonic().saturating_sub(began), frames);
        }
    }

    pub(super) fn poisoned(&self) -> Option<Arc<str>> {
        self.poisoned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the log refuse appends. The first reason is the one to tell.
    pub(super) fn poison(&self, reason: Arc<str>) {
        self.poisoned.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
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

    /// Queues a frame and wakes the thread.
    pub(super) fn append(&self, frame: PreparedFrame) -> Append {
        let (append, queue) = self.push(frame);
        self.wake(queue);
        append
    }

    /// Queues a frame and commits what waits on this thread, unless somebody else is at it.
    pub(super) fn append_blocking(&self, frame: PreparedFrame) -> Result<Appended, AppendError> {
        let (append, queue) = self.push(frame);
        drop(queue);
        match self.appender.try_lock() {
            Ok(mut appender) => self.turn(&mut appender),
            Err(_) => self.wake(self.queue()),
        }
        append.wait()
    }

    fn push(&self, frame: PreparedFrame) -> (Append, MutexGuard<'_, Queue>) {
        let (caller, answer) = oneshot::channel();
        let append = Append { answer, dir: self.dir.clone() };
        let size = self.check_size(&frame);
        let mut queue = self.queue();
        if let Err(too_large) = size {
            let _ = caller.send(Err(too_large));
        } else if queue.closed {
            let _ = caller.send(Err(AppendError::Closed));
        } else {
            queue.frames.push_back(Pending { frame, appended_unix_micros: None, caller: Some(caller) });
        }
        (append, queue)
    }

    /// Wakes the thread if it waits. While it works that would be a call of the system in vain: it looks at the queue before
    /// it waits again.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::take(&mut queue.thread_waits) {
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Seals the open segment and begins a new one, so that the sealed one can be reclaimed.
    pub(super) fn roll(&self) -> Result<(), AppendError> {
        let (caller, answer) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(AppendError::Closed);
        }
        queue.rolls.push(caller);
        self.wake(queue);
        block_on(answer).unwrap_or(Err(AppendError::Closed))
    }

    /// Lets no more frames in; the thread finishes what is queued and ends.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        self.wake(queue);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue().closed
    }

    /// The log's thread: works until the log is closed.
    pub(super) fn run(&self) {
        let _gone = Gone(self);
        loop {
            let work = self.wait();
            let mut appender = self.appender.lock().unwrap_or_else(|panicked| {
                self.poison("it panicked while it wrote".into());
                let mut appender = panicked.into_inner();
                appender.give_up();
                appender
            });
            self.turn(&mut appender);
            match work {
                Work::Turn => {}
                Work::Roll(callers) => {
                    let result = appender.roll(self);
                    for caller in callers {
                        let _ = caller.send(result.clone());
                    }
                }
                Work::Close => return appender.close(self),
            }
        }
    }

    /// Commits everything that waits, and syncs if that is due.
    fn turn(&self, appender: &mut Appender) {
        let frames = std::mem::take(&mut self.queue().frames);
        if !frames.is_empty() || appender.has_retained() {
            let _ = appender.append(self, frames);
        }
        let mut sync_due = appender.sync_due(self);
        if sync_due.is_some_and(|due| due <= self.env.clock.monotonic()) {
            appender.sync_now(self);
            sync_due = appender.sync_due(self);
        }
        let mut queue = self.queue();
        let is_first = queue.sync_due.is_none() && sync_due.is_some();
        queue.sync_due = sync_due;
        if is_first {
            // The thread may wait without an end, if it was not the one to take this turn.
            self.wake(queue);
        }
    }

    /// Waits for work, or for the time of the next sync.
    fn wait(&self) -> Work {
        let mut queue = self.queue();
        loop {
            if !queue.rolls.is_empty() {
                return Work::Roll(std::mem::take(&mut queue.rolls));
            }
            if queue.closed {
                return Work::Close;
            }
            if !queue.frames.is_empty() {
                return Work::Turn;
            }
            let wait = queue.sync_due.map(|due| due.saturating_sub(self.env.clock.monotonic()));
            if wait.is_some_and(|wait| wait.is_zero()) {
                return Work::Turn;
            }
            queue.thread_waits = true;
            queue = match wait {
                Some(wait) => self.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
            queue.thread_waits = false;
        }
    }
}

/// However the thread ends, nobody waits for it afterwards.
struct Gone<'a>(&'a Shared);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.closed = true;
        queue.frames.clear();
        queue.rolls.clear();
    }
}
