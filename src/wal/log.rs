//! The handle of an open log: append, read, count, reclaim, close.

use std::{
    io::{self, ErrorKind},
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use tokio::sync::watch;

use super::{
    Append, AppendError, Appended, Count, Damage, DamageReason, Durability, LogDirectory, LogReader,
    OpenError, PreparedFrame, ReadError, Recovery, SegmentInfo, WalOptions,
    appender::Appender,
    count,
    directory::storage,
    format,
    index::{Index, Segment},
    queue::Shared,
    recovery::{Role, recover_with},
    spare::{Put, Spares},
    tail::Source,
};
use crate::{
    canary::Canary,
    io::Env,
    sync::{Builder, JoinHandle, Mutex, PoisonError},
    telemetry::Recorder,
    types::Lsn,
};

/// What a reclaim freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Segments that are gone.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What is known of a log before it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The highest frame that the ledger, or anybody else, knows of: the next one is above it \[I12\].
    pub highest: Lsn,
    /// Every frame up to here is settled, and need not be there.
    pub settled: Lsn,
    /// Every frame up to here was durable: if one that is not settled is not there, it was damaged.
    pub durable: Lsn,
}

/// An open log. Clones are handles of the same log; it is closed by [`Wal::close`], or with the
/// last of them.
#[derive(Clone, Debug)]
pub struct Wal {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// The appender and the lock; none once the log is closed.
    running: Mutex<Option<Running>>,
    /// One reclaim at a time.
    reclaim: Mutex<()>,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    /// Given back after the thread has ended.
    _directory: LogDirectory,
}

impl Wal {
    /// Opens the log of a directory and says what it found.
    ///
    /// `floor` is the highest LSN that the ledger knows: the next frame's is above it and above the
    /// last frame's \[I12\].
    ///
    /// # Errors
    ///
    /// As [`Wal::open_knowing`].
    pub fn open(
        env: &Env,
        directory: LogDirectory,
        options: WalOptions,
        floor: Lsn,
    ) -> Result<(Wal, Recovery), OpenError> {
        Wal::open_knowing(env, directory, options, Known { highest: floor, ..Known::default() })
    }

    /// Opens the log of a directory of which something is known, and says what it found. Costs O(segments), plus a scan of those that were not sealed \[I11\].
    /// Nothing that was found is deleted; no frame is ever appended to a segment that was found \[I13\]. One that a dead process
    /// left open is sealed if all of it is whole, so that it is scanned once.
    ///
    /// # Errors
    ///
    /// [`OpenError::UnsupportedVersion`] if a later version of this program wrote a segment;
    /// [`OpenError::Storage`] if the file system fails. Damage is no error, it stands in the
    /// [`Recovery`].
    pub fn open_knowing(
        env: &Env,
        directory: LogDirectory,
        options: WalOptions,
        known: Known,
    ) -> Result<(Wal, Recovery), OpenError> {
        let dir = directory.path().to_owned();
        let epoch = directory.epoch();
        let segment_bytes = format::block_start(options.segment_bytes);
        let options = WalOptions { segment_bytes, ..options };
        let spares = Spares::open(env, &dir, options)?;
        let durable = if known.durable > known.settled { known.durable } else { Lsn::ZERO };
        let recovered = recover_with(env, &dir, epoch, Role::Owner, None, durable)?;
        let mut recovery = recovered.report;
        if !env.canaries.has(Canary::ReuseLsn) {
            let first_lost = recovery.last.max(known.settled).next();
            if durable >= first_lost {
                recovery.damage.push(gone_at_the_end(&dir, &recovered.segments, first_lost..=durable));
            }
            recovery.last = recovery.last.max(known.highest).max(durable);
        }
        let index = Index { segments: recovered.segments };
        let appender = Appender::new(env, recovery.last.next(), recovered.next_segment);
        let shared = Arc::new(Shared::new(env, dir.clone(), epoch, options, spares, index, appender));
        let thread = Builder::new()
            .name("wal-appender".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })
            .map_err(storage("start a thread for", &dir))?;
        let running = Mutex::new(Some(Running { thread, _directory: directory }));
        let handle = Arc::new(Handle { shared, running, reclaim: Mutex::default() });
        Ok((Wal { handle }, recovery))
    }

    /// Queues a frame, in the order of the calls.
    ///
    /// # Durability
    ///
    /// With [`Durability::Sync`](super::Durability::Sync) the answer comes after the sync that
    /// covers the frame \[I3\].
    ///
    /// # Cancel safety
    ///
    /// An append that was started is always finished, even if the returned value is dropped.
    pub fn append(&self, frame: PreparedFrame) -> Append {
        self.shared().append(frame)
    }

    /// Appends a frame and waits for the answer, on this thread, which must not be one that drives a runtime.
    /// If nobody else is writing, this thread writes: that saves two switches of threads.
    ///
    /// # Errors
    ///
    /// Those of the answer; see [`AppendError`].
    ///
    /// # Durability
    ///
    /// As [`Wal::append`].
    pub fn append_blocking(&self, frame: PreparedFrame) -> Result<Appended, AppendError> {
        self.shared().append_blocking(frame)
    }

    /// Whether the frame fits into a segment.
    ///
    /// # Errors
    ///
    /// [`AppendError::TooLarge`] if no segment of this log can hold it; an append would say the same.
    pub fn check_size(&self, frame: &PreparedFrame) -> Result<(), AppendError> {
        self.shared().check_size(frame)
    }

    /// From now on syncs are measured.
    pub(crate) fn record(&self, recorder: Arc<Recorder>) {
        self.shared().record(recorder);
    }

    /// Why the log refuses appends, if it does.
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.shared().poisoned()
    }

    /// All frames up to this one may be read: they are synced, or, with
    /// [`Durability::Os`](super::Durability::Os), written.
    pub fn durable(&self) -> Lsn {
        self.shared().durable()
    }

    /// All frames up to this one survive a power cut; none as far as anybody knows with
    /// [`Durability::Os`](super::Durability::Os).
    pub fn synced(&self) -> Lsn {
        match self.shared().options.durability {
            Durability::Os => Lsn::ZERO,
            Durability::Sync | Durability::Interval(_) => self.shared().durable(),
        }
    }

    /// The durable position as it moves.
    pub fn subscribe(&self) -> watch::Receiver<Lsn> {
        self.shared().subscribe()
    }

    /// The bytes of all segments and spare files, without what is only reserved in the open segment.
    pub fn bytes(&self) -> u64 {
        self.shared().index().bytes() + self.shared().spares.bytes()
    }

    /// What the log has taken of the disk since it was opened, as it grows. It keeps nothing of the log open.
    pub(crate) fn written_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared().written_bytes)
    }

    /// How long a segment may become.
    pub fn segment_bytes(&self) -> u64 {
        self.shared().options.segment_bytes
    }

    /// Removes the spare files, because their space is needed; returns how much that frees.
    pub fn give_up_spares(&self) -> u64 {
        let shared = self.shared();
        shared.spares.clear(&shared.env)
    }

    /// The first frame that the log holds; none if it holds none.
    pub fn first(&self) -> Option<Lsn> {
        self.shared().index().first()
    }

    /// The segments with frames, in order.
    pub fn segment_infos(&self) -> Vec<SegmentInfo> {
        self.shared().index().infos()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.shared().index().segments.len()
    }

    /// What lies in the log from a frame on. Reads the headers of one segment at most.
    pub fn count_from(&self, from: Lsn) -> Result<Count, ReadError> {
        let (whole, partial) = self.shared().index().count_from(from);
        let shared = self.shared();
        count::with_partial(&shared.env, shared.epoch, whole, partial, from)
    }

    /// Reads the durable frames in order, from this one on.
    pub fn reader(&self, from: Lsn) -> LogReader {
        LogReader::new(Source::Own(Arc::clone(self.shared())), from)
    }

    /// Frees the segments of which every frame is up to `settled`. The caller promises that the
    /// ledger that says so is durable \[I5\].
    ///
    /// If the newest segment is settled too and has `roll_bytes` or more, a new one takes its
    /// place, so that a log that was drained takes next to no disk. A segment with damage is set
    /// aside under another name instead of being deleted.
    ///
    /// # Errors
    ///
    /// When the file system fails, or the log is closed. What was freed until then is freed.
    pub fn reclaim(&self, settled: Lsn, roll_bytes: u64) -> io::Result<Reclaimed> {
        let _one_at_a_time = self.handle.reclaim.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = self.shared();
        if shared.is_closed() {
            return Err(io::Error::new(ErrorKind::NotConnected, "the log is closed"));
        }
        let is_settled = |segment: &Segment| segment.totals.last <= settled;
        let newest = shared.index().segments.last().cloned();
        if newest.is_some_and(|newest| {
            is_settled(&newest) && newest.totals.frames > 0 && newest.bytes >= roll_bytes
        }) {
            shared.roll().map_err(io::Error::other)?;
        }
        let mut reclaimed = Reclaimed::default();
        let result = loop {
            let oldest = {
                let index = shared.index();
                // The newest segment that tells it stays: it is where the next LSN is known from.
                // And as long as a batch waits whose schema only another segment has, all of them do.
                let is_needed = |segment: &Segment| segment.has_orphans && !is_settled(segment);
                let others_tell = index.segments.iter().skip(1).any(|segment| segment.tells_lsns);
                let may_go = others_tell && !index.segments.iter().any(is_needed);
                index.segments.first().filter(|oldest| may_go && is_settled(oldest)).cloned()
            };
            let Some(oldest) = oldest else { break Ok(()) };
            if let Err(error) = self.free(&oldest) {
                break Err(error);
            }
            shared.index().segments.retain(|segment| segment.id != oldest.id);
            reclaimed.segments += 1;
            reclaimed.bytes += oldest.bytes;
        };
        if reclaimed.segments > 0 {
            shared.env.storage.sync_dir(&shared.dir)?;
        }
        result.map(|()| reclaimed)
    }

    fn free(&self, segment: &Segment) -> io::Result<()> {
        let Shared { env, spares, options, .. } = &**self.shared();
        let result = match segment {
            // In the place of its mark, if it has one.
            Segment { damage, is_marked, path, .. } if *is_marked || !damage.is_empty() => {
                env.storage.rename(path, &format::set_aside_path(path))
            }
            // All spares have the same length.
            Segment { is_sealed: true, bytes, id, path, .. } if *bytes == options.segment_bytes => {
                match spares.put(env, *id, path) {
                    Ok(Put::Full) => env.storage.remove(path),
                    result => result.map(|_| ()),
                }
            }
            Segment { path, .. } => env.storage.remove(path),
        };
        match result {
            // A settled segment that is gone already is no loss [I5].
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Stops intake, finishes what was queued, seals the open segment and gives the lock back. A
    /// second call does nothing.
    pub fn close(&self) {
        self.handle.close();
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Frames that were durable and of which no segment says anything.
fn gone_at_the_end(dir: &Path, segments: &[Segment], lsns: RangeInclusive<Lsn>) -> Damage {
    let (segment, offset) = match segments.last() {
        Some(newest) => (newest.path.clone(), newest.end),
        None => (dir.to_owned(), 0),
    };
    Damage { segment, offset, bytes: 0, lsns: Some(lsns), reason: DamageReason::Missing }
}

impl Handle {
    fn close(&self) {
        // Whoever gets the lock next finds no segment disappearing under its hands.
        let _no_reclaim = self.reclaim.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { thread, _directory }) = running else { return };
        if thread.join().is_err() {
            tracing::error!(log = %self.shared.dir.display(), "the appender ended in a panic");
        }
        // Before the directory is anybody else's.
        self.shared.spares.clear(&self.shared.env);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
