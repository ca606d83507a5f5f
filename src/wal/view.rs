//! A read-only look at a log, live or dead: takes no lock, writes nothing.

use std::path::Path;

use super::{
    Count, Damage, Destination, OpenError, ReadError, SegmentInfo, count,
    directory::look,
    index::Index,
    recovery::{Recovery, Role, recover},
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
    env: Env,
    epoch: Epoch,
    destination: Option<Destination>,
    index: Index,
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
        let index = Index { segments: recovered.segments };
        Ok(LogView { env: env.clone(), epoch, destination, index, report: recovered.report })
    }

    /// Where the batches go; none if the identity file is missing.
    pub fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    /// The log's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What lies in the log from a frame on. Reads the headers of one segment at most.
    pub fn count_from(&self, from: Lsn) -> Result<Count, ReadError> {
        let (whole, partial) = self.index.count_from(from);
        count::with_partial(&self.env, self.epoch, whole, partial, from)
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
        self.index.infos()
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
