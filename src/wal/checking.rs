//! What somebody keeps who reads every frame of a log, segment by segment, and not only those that no footer vouches for.

use std::{collections::HashSet, ops::ControlFlow, path::PathBuf};

use super::{Damage, DamageReason, scan::Orphans};

/// Called with the bytes that were read; what it breaks off is an error of the file system.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Of somebody who wants every frame read, not only those that no footer vouches for.
pub(super) struct Checking<'a> {
    /// The bytes of the segments before the one that is read.
    pub(super) done_bytes: u64,
    pub(super) on_progress: OnProgress<'a>,
    /// The schemas that some segment has.
    pub(super) schemas: HashSet<u64>,
    pub(super) orphans: Vec<(PathBuf, Orphans)>,
}

impl<'a> Checking<'a> {
    pub(super) fn new(on_progress: OnProgress<'a>) -> Checking<'a> {
        Checking { done_bytes: 0, on_progress, schemas: HashSet::new(), orphans: Vec::new() }
    }

    /// Batches whose schema is in no segment.
    pub(super) fn lost(self) -> impl Iterator<Item = Damage> {
        let Checking { schemas, orphans, .. } = self;
        let lost = orphans.into_iter().filter(move |(_, orphans)| !schemas.contains(&orphans.fingerprint));
        lost.map(|(segment, Orphans { offset, lsns, .. })| Damage {
            segment,
            offset,
            bytes: 0,
            lsns: Some(lsns),
            reason: DamageReason::Schema,
        })
    }
}
