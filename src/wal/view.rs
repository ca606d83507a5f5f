//! A read-only look at a log, live or dead: takes no lock, writes nothing.

use std::{path::Path, sync::Arc};

use super::{
    Count, Damage, Destination, LogReader, OpenError, ReadError, SegmentInfo, count,
    directory::look,
    index::Index,
    recovery::{Recovery, Role, recover},
    tail::{Seen, Source},
};
use crate::{
    io::Env,
    types::{Epoch, Lsn},
};

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
        let report = recovered.report;
        let index = Index { segments: recovered.segments };
        let seen = Seen { env: env.clone(), dir: dir.to_owned(), epoch, index, last: report.last };
        Ok(LogView { seen: Arc::new(seen), destination, report })
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
