//! okaywal: one entry of one chunk, committed; what is old is checkpointed away by okaywal itself.

use std::{io, path::Path};

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use crate::{
    MIB, Result,
    entries::Pool,
    method::{Append, Kind, Method},
};

const SEGMENT_BYTES: usize = 64 * MIB;

/// An okaywal log.
pub struct Okaywal {
    log: WriteAheadLog,
    pool: Pool,
}

/// Reads everything at recovery and lets everything go at a checkpoint.
#[derive(Debug)]
struct Manager;

impl LogManager for Manager {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        // What is not read here ends the recovery.
        entry.read_all_chunks().map(|_| ())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

impl Okaywal {
    /// Opens or makes one that checkpoints after each segment.
    ///
    /// # Errors
    ///
    /// When okaywal cannot.
    pub fn open(dir: &Path, pool: &Pool) -> Result<Okaywal> {
        Okaywal::open_with(dir, pool, SEGMENT_BYTES as u64 * 3 / 4)
    }

    /// Opens or makes one that keeps everything.
    ///
    /// # Errors
    ///
    /// When okaywal cannot.
    pub fn open_keeping(dir: &Path, pool: &Pool) -> Result<Okaywal> {
        Okaywal::open_with(dir, pool, u64::MAX)
    }

    fn open_with(dir: &Path, pool: &Pool, checkpoint_after_bytes: u64) -> Result<Okaywal> {
        let log = Configuration::default_for(dir)
            .preallocate_bytes(SEGMENT_BYTES as u32)
            .checkpoint_after_bytes(checkpoint_after_bytes)
            .buffer_bytes(64 * 1024)
            .open(Manager)?;
        Ok(Okaywal { log, pool: pool.clone() })
    }

    /// Commits one entry.
    ///
    /// # Errors
    ///
    /// When okaywal cannot.
    pub fn commit(&self, entry: &[u8]) -> Result<()> {
        let mut writer = self.log.begin_entry()?;
        writer.write_chunk(entry)?;
        writer.commit()?;
        Ok(())
    }

    /// Commits many chunks with one sync.
    ///
    /// # Errors
    ///
    /// When okaywal cannot.
    pub fn commit_all<'a>(&self, entries: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let mut writer = self.log.begin_entry()?;
        for entry in entries {
            writer.write_chunk(entry)?;
        }
        writer.commit()?;
        Ok(())
    }
}

impl Method for Okaywal {
    fn name(&self) -> &str {
        "okaywal 0.3"
    }

    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let mut entries = self.pool.entries(number).into_iter().cycle();
        Ok(Box::new(move || self.commit(&entries.next().unwrap_or_default())))
    }
}
