//! Commits groups of frames: one write that is durable when it returns, then the callers are told.
//!
//! While a group is written the next callers gather; so a write is shared by as many as came during the
//! one before, and a lone caller never waits for company.
//!
//! After a failed write or sync the segment is left as it is, for ever \[I8\]. What was not yet
//! promised goes to a new segment under the same numbers; that segment's header says which frame
//! came before it, and so voids what the failed one may hold of them \[I12\]. Frames of which the callers have their answer,
//! as with an interval, are in it before it has its name: a process that is killed meanwhile leaves them in the one or the other.
//! `docs/internals/recovery.md` has the argument.

use std::{collections::VecDeque, time::Duration};

use super::{
    AppendError, Appended, Durability, PreparedFrame,
    ahead::Ahead,
    aligned::AlignedBuf,
    format::{SegmentHeader, block_end},
    index::Segment,
    queue::{Pending, Shared},
    segment::OpenSegment,
};
use crate::{
    canary::Canary,
    io::Env,
    types::{Lsn, SegmentId},
};

/// What is being written. One thread at a time has it, under a lock of [`Shared`].
#[derive(Debug)]
pub(super) struct Appender {
    open: Option<OpenSegment>,
    next_lsn: Lsn,
    next_segment: SegmentId,
    /// Frames of the open segment that are written but not yet readable, in order.
    unsynced: VecDeque<Pending>,
    /// Frames that an interval's callers were told of and that no segment holds after a failure.
    retained: VecDeque<Pending>,
    last_sync: Duration,
    /// Memory for the next group.
    group: AlignedBuf,
    ahead: Ahead,
}

/// Why frames were not written.
enum Failure {
    /// Nothing that holds a promise was touched: no space, or no new segment to be had.
    Untouched(AppendError),
    /// The segment must not be touched again.
    Segment(AppendError),
}

impl Appender {
    pub(super) fn new(env: &Env, next_lsn: Lsn, next_segment: SegmentId) -> Appender {
        Appender {
            open: None,
            next_lsn,
            next_segment,
            unsynced: VecDeque::new(),
            retained: VecDeque::new(),
            last_sync: env.clock.monotonic(),
            group: AlignedBuf::of_blocks(0),
            ahead: Ahead::new(env.storage.works_side_by_side()),
        }
    }

    /// The last frame that has a number.
    pub(super) fn last(&self) -> Lsn {
        self.next_lsn.previous()
    }

    /// Whether a failure left frames that are to be written again.
    pub(super) fn has_retained(&self) -> bool {
        !self.retained.is_empty()
    }

    /// When the interval asks for a sync; none while there is nothing to sync.
    pub(super) fn sync_due(&self, shared: &Shared) -> Option<Duration> {
        let Durability::Interval(interval) = shared.options.durability else { return None };
        let waiting = !self.unsynced.is_empty() || !self.retained.is_empty();
        waiting.then_some(self.last_sync + interval)
    }

    /// Writes frames, and what an earlier failure left, until all are promised or refused. Whoever waits for one of them has heard
    /// of it by then, of an error too.
    pub(super) fn append(&mut self, shared: &Shared, frames: VecDeque<Pending>) -> Result<(), AppendError> {
        let mut group = std::mem::take(&mut self.retained);
        group.extend(frames);
        if let Some(reason) = shared.poisoned() {
            let error = AppendError::Poisoned { dir: shared.dir.clone(), reason };
            return Err(self.refuse(shared, group, error));
        }
        let mut first_failure = None;
        while !group.is_empty() {
            match self.write(shared, &mut group) {
                Ok(()) => {}
                Err(Failure::Untouched(error)) => {
                    if let Some(first) = first_failure.filter(|_| !error.is_out_of_space()) {
                        poison(shared, &first);
                    }
                    return Err(self.refuse(shared, group, error));
                }
                Err(Failure::Segment(error)) => {
                    self.abandon(&mut group);
                    // [I8] Once more, in a new segment.
                    if let Some(first) = &first_failure {
                        poison(shared, first);
                        return Err(self.refuse(shared, group, error));
                    }
                    first_failure = Some(error);
                }
            }
        }
        Ok(())
    }

    /// Writes as many frames as the open segment takes and promises them.
    fn write(&mut self, shared: &Shared, group: &mut VecDeque<Pending>) -> Result<(), Failure> {
        let segment = match &mut self.open {
            Some(segment) => segment,
            None if has_relied_on(shared, group) => {
                return self.move_on(shared, group).map_err(Failure::Untouched);
            }
            None => {
                let segment = self.create(shared).map_err(Failure::Untouched)?;
                self.open.insert(segment)
            }
        };
        let (count, end) = segment.room(group.iter().map(|pending| &pending.frame));
        if count == 0 {
            return self.seal(shared, false);
        }
        segment.reserve(end).map_err(|error| {
            if error.is_out_of_space() { Failure::Untouched(error) } else { Failure::Segment(error) }
        })?;

        let frames = numbered(shared, group.iter_mut().take(count), self.next_lsn);
        let began = shared.sync_begins();
        segment.write(frames, &mut self.group, &mut self.ahead).map_err(Failure::Segment)?;
        if shared.options.durability == Durability::Sync {
            shared.sync_ended(began, count);
        }
        self.written(group, count);
        match shared.options.durability {
            Durability::Sync | Durability::Os => self.publish(shared),
            Durability::Interval(_) => self.answer(false),
        }
        Ok(())
    }

    /// These frames of the group are in the open segment.
    fn written(&mut self, group: &mut VecDeque<Pending>, count: usize) {
        self.next_lsn = Lsn::new(self.next_lsn.get() + count as u64);
        self.unsynced.extend(group.drain(..count));
    }

    /// Takes the frames at the front of the group, of which the callers have their answer, to a new segment, where they are durable.
    fn move_on(&mut self, shared: &Shared, group: &mut VecDeque<Pending>) -> Result<(), AppendError> {
        let header = self.next_header(shared);
        let relied_on = group.iter_mut().take_while(|pending| pending.caller.is_none());
        let frames: Vec<_> = numbered(shared, relied_on, self.next_lsn).collect();
        let count = frames.len();
        let memory = (&mut self.group, &mut self.ahead);
        let segment =
            OpenSegment::create_with(&shared.env, &shared.dir, &header, shared.options, frames, memory)?;
        enter(shared, &segment, header.base);
        self.open = Some(segment);
        self.written(group, count);
        self.last_sync = shared.env.clock.monotonic();
        self.publish(shared);
        Ok(())
    }

    fn create(&mut self, shared: &Shared) -> Result<OpenSegment, AppendError> {
        let header = self.next_header(shared);
        let segment = OpenSegment::create(&shared.env, &shared.dir, &header, shared.options, &shared.spares)?;
        enter(shared, &segment, header.base);
        Ok(segment)
    }

    fn next_header(&mut self, shared: &Shared) -> SegmentHeader {
        let id = self.next_segment;
        // A number is used once, whatever becomes of its file.
        self.next_segment = id.next();
        let previous = shared.index().segments.last().map_or(Lsn::ZERO, Segment::last_held);
        SegmentHeader {
            epoch: shared.epoch,
            id,
            base: self.next_lsn,
            previous,
            created_unix_micros: shared.env.clock.unix_micros(),
        }
    }

    fn sync(&mut self, shared: &Shared) -> Result<(), Failure> {
        if let Some(segment) = &mut self.open {
            let began = shared.sync_begins();
            segment.sync().map_err(Failure::Segment)?;
            shared.sync_ended(began, self.unsynced.len());
            self.last_sync = shared.env.clock.monotonic();
            self.publish(shared);
        }
        Ok(())
    }

    fn seal(&mut self, shared: &Shared, short: bool) -> Result<(), Failure> {
        let Some(segment) = &mut self.open else { return Ok(()) };
        let bytes = segment.seal(short).map_err(Failure::Segment)?;
        self.last_sync = shared.env.clock.monotonic();
        self.publish(shared);
        if let Some(entry) = shared.index().segments.last_mut() {
            shared.written(entry.bytes, bytes);
            entry.bytes = bytes;
            entry.is_sealed = true;
        }
        self.open = None;
        Ok(())
    }

    /// Makes what was written readable, and tells those who wait for it.
    fn publish(&mut self, shared: &Shared) {
        let Some(segment) = &self.open else { return };
        if let Some(entry) = shared.index().segments.last_mut().filter(|entry| entry.id == segment.id()) {
            entry.totals = segment.totals();
            entry.end = segment.frames_end();
            let bytes = block_end(segment.frames_end());
            shared.written(entry.bytes, bytes);
            entry.bytes = bytes;
        }
        shared.publish(segment.totals().last);
        self.answer(shared.options.durability == Durability::Sync);
        self.unsynced.clear();
    }

    /// Tells the callers of the frames that were just written.
    fn answer(&mut self, durable: bool) {
        let mut lsn = Lsn::new(self.next_lsn.get() - self.unsynced.len() as u64);
        for pending in &mut self.unsynced {
            if let Some(caller) = pending.caller.take() {
                let frame_bytes = pending.frame.frame_bytes();
                let _ = caller.send(Ok(Appended { lsn, frame_bytes, durable }));
            }
            lsn = lsn.next();
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

    /// Touches no file any more, after a panic.
    pub(super) fn give_up(&mut self) {
        self.open = None;
        self.unsynced.clear();
        self.retained.clear();
    }

    /// Gives those who wait the error. Frames whose callers have their answer stay in memory for the
    /// next attempt; they are at most what one segment holds.
    fn refuse(&mut self, shared: &Shared, group: VecDeque<Pending>, error: AppendError) -> AppendError {
        for mut pending in group {
            match pending.caller.take() {
                Some(caller) => {
                    let _ = caller.send(Err(error.clone()));
                }
                None => self.retained.push_back(pending),
            }
        }
        // An interval without success is not to be tried again at once.
        self.last_sync = shared.env.clock.monotonic();
        error
    }

    /// Syncs or seals outside an append; what a failure leaves over is appended anew.
    fn settle(&mut self, shared: &Shared, finish: impl Fn(&mut Appender) -> Result<(), Failure>) {
        for _ in 0..2 {
            let Err(Failure::Segment(error) | Failure::Untouched(error)) = finish(self) else { return };
            tracing::warn!(error = crate::error::chain(&error), "a segment is left as it is after a failure");
            let mut group = VecDeque::new();
            self.abandon(&mut group);
            let _ = self.append(shared, group);
        }
    }

    /// Syncs because the interval says so.
    pub(super) fn sync_now(&mut self, shared: &Shared) {
        self.settle(shared, |appender| appender.sync(shared));
    }

    /// Seals the open segment and begins a new one.
    pub(super) fn roll(&mut self, shared: &Shared) -> Result<(), AppendError> {
        self.settle(shared, |appender| appender.seal(shared, false));
        if self.has_retained() {
            // The header of a segment without them would void them where they are.
            self.append(shared, VecDeque::new())?;
        }
        match (shared.poisoned(), &self.open) {
            (Some(reason), _) => Err(AppendError::Poisoned { dir: shared.dir.clone(), reason }),
            (None, Some(_)) => Ok(()),
            (None, None) => {
                let segment = self.create(shared)?;
                self.open = Some(segment);
                Ok(())
            }
        }
    }

    /// Seals the open segment; a log at rest takes no more disk than its frames.
    pub(super) fn close(&mut self, shared: &Shared) {
        self.settle(shared, |appender| appender.seal(shared, true));
        if self.has_retained() {
            let _ = self.append(shared, VecDeque::new());
            self.settle(shared, |appender| appender.seal(shared, true));
        }
        self.ahead = Ahead::new(false);
        if self.has_retained() {
            let (log, frames) = (shared.dir.display(), self.retained.len());
            tracing::error!(%log, frames, "frames that were stored without a sync are lost: the disk takes no more");
        }
    }
}

/// Whether the group begins with frames of which the callers have their answer.
fn has_relied_on(shared: &Shared, group: &VecDeque<Pending>) -> bool {
    let has_answer = group.front().is_some_and(|first| first.caller.is_none());
    has_answer && !shared.env.canaries.has(Canary::VoidBeforeMoved)
}

/// From now on the segment is one of the log.
fn enter(shared: &Shared, segment: &OpenSegment, base: Lsn) {
    shared.index().segments.push(Segment::empty(segment.id(), segment.path().to_owned(), base));
}

/// The frames with their numbers, of which `first` is the first, and with the time at which each was written first.
fn numbered<'a>(
    shared: &Shared,
    group: impl Iterator<Item = &'a mut Pending>,
    first: Lsn,
) -> impl Iterator<Item = (&'a mut PreparedFrame, Lsn, i64)> {
    let now = shared.env.clock.unix_micros();
    let mut next = first;
    group.map(move |pending| {
        let lsn = next;
        next = lsn.next();
        (&mut pending.frame, lsn, *pending.appended_unix_micros.get_or_insert(now))
    })
}

fn poison(shared: &Shared, error: &AppendError) {
    if !error.is_out_of_space() {
        let reason = crate::error::chain(error);
        tracing::error!(log = %shared.dir.display(), reason, "the log refuses appends from now on");
        shared.poison(reason.into());
    }
}
