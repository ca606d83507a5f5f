//! A read-only look at a log, live or dead: takes no lock, writes nothing.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Count, Damage, Destination, LogReader, OpenError, ReadError, SegmentInfo,
    checking::Checking,
    count,
    directory::look,
    index::Index,
    recovery::{Recovered, Recovery, Role, recover, recover_with},
    tail::{Seen, Source},
};
use crate::{
    io::Env,
    types::{Epoch, Lsn, SegmentId},
};

/// A segment of a log that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentPlace {
    pub(crate) segment: SegmentId,
    pub(crate) path: PathBuf,
    /// The frames that may be read; none if there are none.
    pub(crate) lsns: Option<(Lsn, Lsn)>,
    pub(crate) bytes: u64,
}

/// A log as it was when it was looked at.
///
/// Beside a live owner it may show frames that are written and not yet synced, and segments that
/// are reclaimed a moment later.
#[derive(Debug)]
pub struct LogView {
    seen: Arc<Seen>,
    destination: Option<Destination>,
    report: Recovery,
}

impl LogView {
    /// Looks at a directory.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoLog`] if there is none in it; otherwise as [`Wal::open`](super::Wal::open).
    pub fn read(env: &Env, dir: &Path) -> Result<LogView, OpenError> {
        let (epoch, destination) = look(env, dir)?;
        let recovered = recover(env, dir, epoch, Role::Onlooker)?;
        Ok(LogView::new(env, dir, epoch, destination, recovered))
    }

    /// Looks at a directory and reads every frame of it, from the disk. [`LogView::damage`] names everything then.
    /// `on_progress` is called with the bytes that were read.
    ///
    /// # Errors
    ///
    /// As [`LogView::read`]; [`OpenError::Storage`] too if `on_progress` breaks off.
    pub(crate) fn check(
        env: &Env,
        dir: &Path,
        on_progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LogView, OpenError> {
        let (epoch, destination) = look(env, dir)?;
        let checking = Some(Checking::new(on_progress));
        let recovered = recover_with(env, dir, epoch, Role::Onlooker, checking, Lsn::ZERO)?;
        Ok(LogView::new(env, dir, epoch, destination, recovered))
    }

    fn new(
        env: &Env,
        dir: &Path,
        epoch: Epoch,
        destination: Option<Destination>,
        recovered: Recovered,
    ) -> LogView {
        let report = recovered.report;
        let index = Index { segments: recovered.segments };
        let seen = Seen { env: env.clone(), dir: dir.to_owned(), epoch, index, last: report.last };
        LogView { seen: Arc::new(seen), destination, report }
    }

    /// The segments, in order, with or without frames.
    pub(crate) fn places(&self) -> Vec<SegmentPlace> {
        let place = |segment: &super::index::Segment| SegmentPlace {
            segment: segment.id,
            path: segment.path.clone(),
            lsns: (segment.totals.frames > 0).then_some((segment.totals.first, segment.totals.last)),
            bytes: segment.bytes,
        };
        self.seen.index.segments.iter().map(place).collect()
    }

    /// Where the batches go; none if the identity file is missing.
    pub fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    /// The log's epoch.
    pub fn epoch(&self) -> Epoch {
        self.seen.epoch
    }

    /// Reads the frames that were there, in order, from this one on. What a live owner reclaims meanwhile comes as
    /// [`DamageReason::Missing`](super::DamageReason::Missing).
    pub fn reader(&self, from: Lsn) -> LogReader {
        LogReader::new(Source::Seen(Arc::clone(&self.seen)), from)
    }

    /// What lies in the log from a frame on. Reads the headers of one segment at most.
    pub fn count_from(&self, from: Lsn) -> Result<Count, ReadError> {
        let (whole, partial) = self.seen.index.count_from(from);
        count::with_partial(&self.seen.env, self.seen.epoch, whole, partial, from)
    }

    /// The last frame that the log knows of.
    pub fn last(&self) -> Lsn {
        self.report.last
    }

    /// The first frame that is there.
    pub fn first(&self) -> Option<Lsn> {
        self.report.first
    }

    /// The last frame that is there; [`Lsn::ZERO`] if none is. Numbers behind it may be used up.
    pub(crate) fn last_frame(&self) -> Lsn {
        self.seen.index.infos().last().map_or(Lsn::ZERO, |segment| segment.last)
    }

    /// How many frames are there.
    pub(crate) fn frames(&self) -> u64 {
        self.report.frames
    }

    /// The rows of those.
    pub(crate) fn rows(&self) -> u64 {
        self.report.rows
    }

    /// The segments with frames, in order.
    pub fn segment_infos(&self) -> Vec<SegmentInfo> {
        self.seen.index.infos()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.report.segments
    }

    /// The bytes of the segments.
    pub fn bytes(&self) -> u64 {
        self.report.bytes
    }

    /// Bytes of appends that were never promised.
    pub fn torn_bytes(&self) -> u64 {
        self.report.torn_bytes
    }

    /// What cannot be read, as far as opening shows it.
    pub fn damage(&self) -> &[Damage] {
        &self.report.damage
    }
}
