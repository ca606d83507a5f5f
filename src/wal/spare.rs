//! Files of settled segments that wait to be segments again.
//!
//! A file that was written once takes durable writes without a change of metadata, which a new one needs
//! for every few of them. Frames of a file's earlier life are not taken for those of the later one:
//! each names its segment, under its checksum.

use std::{
    io::{self, ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    OpenError, WalOptions,
    aligned::AlignedBuf,
    directory::storage,
    format::{self, SEGMENT_HEADER},
};
use crate::{
    io::{Access, Env, StorageFile},
    sync::{Mutex, MutexGuard, PoisonError},
    types::SegmentId,
};

/// The spare files of one log.
#[derive(Debug)]
pub(super) struct Spares {
    dir: PathBuf,
    /// How many are kept.
    max: usize,
    segment_bytes: u64,
    paths: Mutex<Vec<PathBuf>>,
}

impl Spares {
    /// None yet. What an earlier owner left is removed: nothing is known of it.
    pub(super) fn open(env: &Env, dir: &Path, options: WalOptions) -> Result<Spares, OpenError> {
        let names = env.storage.list(dir).map_err(storage("list", dir))?;
        for name in names.iter().filter_map(|name| name.to_str()).filter(|name| format::is_spare_name(name)) {
            let path = dir.join(name);
            env.storage.remove(&path).map_err(storage("remove", &path))?;
        }
        let WalOptions { segment_bytes, spare_segments: max, .. } = options;
        Ok(Spares { dir: dir.to_owned(), max, segment_bytes, paths: Mutex::new(Vec::new()) })
    }

    /// The bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.paths().len() as u64 * self.segment_bytes
    }

    /// Gives a spare file the name of a segment; none if there is none that can be used. The name is not
    /// durable yet.
    pub(super) fn take(&self, env: &Env, segment: &Path) -> Option<Arc<dyn StorageFile>> {
        let spare = self.paths().pop()?;
        let take = || {
            env.storage.rename(&spare, segment)?;
            env.storage.open(segment, Access::Write)
        };
        take()
            .inspect_err(|error| {
                tracing::warn!(%error, path = %spare.display(), "a spare file cannot be used");
                // Under whichever name; a new file is taken instead.
                let _ = env.storage.remove(&spare);
                let _ = env.storage.remove(segment);
            })
            .ok()
    }

    /// Makes a spare of a settled segment's file. If enough are kept, the file stays what it is, for the caller to
    /// remove.
    pub(super) fn put(&self, env: &Env, id: SegmentId, segment: &Path) -> io::Result<Put> {
        if self.paths().len() >= self.max {
            return Ok(Put::Full);
        }
        let spare = self.dir.join(format::spare_name(id));
        env.storage.rename(segment, &spare)?;
        // The name first: a segment whose header is gone would look damaged under its own.
        match env.storage.sync_dir(&self.dir).and_then(|()| wipe(env, &spare)) {
            Ok(()) => {
                self.paths().push(spare);
                Ok(Put::Kept)
            }
            Err(error) => {
                tracing::warn!(%error, path = %spare.display(), "the file of a settled segment is not kept as a spare");
                env.storage.remove(&spare)?;
                Ok(Put::Removed)
            }
        }
    }

    /// Removes all of them; returns the bytes of those that are gone.
    pub(super) fn clear(&self, env: &Env) -> u64 {
        let paths = std::mem::take(&mut *self.paths());
        let mut bytes = 0;
        for path in paths {
            match env.storage.remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %path.display(), "a spare file is left; the next owner removes it");
                }
                _ => bytes += self.segment_bytes,
            }
        }
        bytes
    }

    fn paths(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a settled segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is a spare.
    Kept,
    /// It is still a segment: there are enough spares.
    Full,
    /// It could not become a spare and is gone.
    Removed,
}

/// Makes the header of the file's earlier life unreadable, durably: until the next header is written the file
/// is no segment.
fn wipe(env: &Env, spare: &Path) -> io::Result<()> {
    let file = env.storage.open(spare, Access::Write)?;
    let mut zeros = AlignedBuf::of_blocks(SEGMENT_HEADER);
    zeros.extend_zeros(SEGMENT_HEADER);
    file.write_at(&mut [IoSlice::new(zeros.as_slice())], 0)?;
    file.sync_data()
}
