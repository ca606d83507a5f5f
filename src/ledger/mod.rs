//! What is settled, remembered across restarts in a key-value store.
//!
//! The ledger is derived: losing all of it costs duplicates, never data. It is off the append path and
//! holds one small record per log epoch, so its size does not depend on the backlog: the watermark, the counts, and what
//! is settled above the watermark. Beside it there is one of what is
//! sent on a persistent stream, which changes together with it or not at all; and what was known of the table's columns,
//! which a start without network goes by.
//!
//! A store's own flush need not be durable; sled's is not. A checkpoint is therefore a flush *and* a sync, and only
//! then may anything be reclaimed \[I5\]. Nor does sled notice all damage of its files: what it held before, or nothing, can
//! come up instead. So each checkpoint is told to a *mark* too, a small file beside the store, after the store is durable;
//! a store that says less than its mark is not believed.
//!
//! ```text
//!  acknowledged ─► the store is synced ─► the mark is synced ─► reclaimed
//!                     └ a crash: the store is one checkpoint ahead, which is as it should be
//! ```

mod bytes;
mod contents;
mod descriptor;
mod dropped;
mod error;
mod judge;
mod mark;
mod mark_file;
mod open;
mod peek;
mod ranges;
mod record;
#[cfg(feature = "sim")]
mod sim;
mod sled;
mod store;
mod streams;
mod table;

use std::path::{Path, PathBuf};

pub use dropped::{Dropped, DroppedRange};
pub use error::LedgerError;
pub use open::{LedgerDamage, LedgerOpened, Renewed, Unsure};
pub use ranges::{RANGES_MAX, Ranges, SettledRange};
pub use record::{Bent, LedgerRecord, Quarantined, Settled};
#[cfg(feature = "sim")]
pub use sim::SimPlace;
pub use store::{LedgerPlace, LedgerStore};
pub use streams::{OutOfRange, REQUESTS_MAX, RecordedRequest, RecordedStream, Streams};
pub use table::CachedTable;

pub(crate) use self::contents::Contents;
pub(crate) use self::descriptor::BYTES_MAX as DESCRIPTOR_BYTES_MAX;
use self::descriptor::StoredDescriptor;
use self::judge::Digests;
use self::mark::{Mark, Sent};
pub(crate) use self::mark_file::MARK_FILE;
use self::mark_file::MarkFile;
pub(crate) use self::peek::{MarkReport, peek, peek_mark};
use self::sled::SledPlace;

use crate::canary::{Canaries, Canary};
use crate::types::{Epoch, Lsn};

/// Name of the ledger's directory in a writer directory.
pub(crate) const DIRECTORY: &str = "ledger";

/// The ledger of one log.
#[derive(Debug)]
pub struct Ledger {
    place: Box<dyn LedgerPlace>,
    epoch: Epoch,
    // None after a failed write: that file is never synced again [I8]; the next checkpoint makes a new one.
    open: Option<Box<dyn LedgerStore>>,
    mark: MarkFile,
    /// The number of the last checkpoint, whether it succeeded or not.
    generation: u64,
    canaries: Canaries,
    /// What is settled above the watermark, written with the record.
    ranges: Ranges,
    are_ranges_due: bool,
    /// The bytes of the cached table.
    table: Vec<u8>,
    /// The next checkpoint writes them.
    is_table_due: bool,
    /// The bytes of what is recorded of persistent streams; none if that is nothing.
    streams: Vec<u8>,
    are_streams_due: bool,
    /// The same in numbers.
    sent: Sent,
    descriptor: StoredDescriptor,
    /// Every frame up to here is durable in the log.
    log_durable: Lsn,
    /// Of what stands in the store.
    stored: Digests,
}

impl Ledger {
    /// Opens the ledger of the log in `writer_directory`, making one if there is none.
    ///
    /// A ledger that cannot be read, or says less than its mark, is moved aside, never deleted, and reported; what its
    /// mark says is believed instead.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the directory cannot be written.
    pub fn open(writer_directory: &Path, epoch: Epoch) -> Result<LedgerOpened, LedgerError> {
        Ledger::open_at(Box::new(SledPlace::of(writer_directory)), epoch, Canaries::default())
    }

    /// As [`Ledger::open`], with another store than sled, or with a planted bug.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the place cannot be written.
    pub fn open_at(
        place: Box<dyn LedgerPlace>,
        epoch: Epoch,
        canaries: Canaries,
    ) -> Result<LedgerOpened, LedgerError> {
        open::open(place, epoch, canaries)
    }

    /// Remembers what is settled above the watermark, from the next checkpoint on, and in one piece with its record.
    pub fn remember_ranges(&mut self, ranges: &Ranges) {
        if self.ranges != *ranges {
            self.ranges.clone_from(ranges);
            self.are_ranges_due = true;
        }
    }

    /// Remembers what is sent on persistent streams, from the next checkpoint on, and together with its record.
    pub fn remember_streams(&mut self, streams: &Streams) {
        if streams.is_empty() && self.streams.is_empty() {
            return;
        }
        if let Some(current) = &streams.current {
            self.descriptor.remember(&current.descriptor);
        }
        let bytes = streams::encode(streams, self.descriptor.place());
        self.are_streams_due |= bytes != self.streams;
        self.streams = bytes;
        self.sent = Sent::of(streams);
    }

    /// Remembers that every frame of the log up to this one is durable, from the next checkpoint on: the mark vouches for
    /// them from then on.
    pub fn remember_log(&mut self, durable: Lsn) {
        self.log_durable = self.log_durable.max(durable);
    }

    /// Remembers what is known of the table's columns, from the next checkpoint on; `None` forgets it.
    pub fn remember_table(&mut self, table: Option<&CachedTable>) {
        let bytes = bytes_of(table);
        self.is_table_due |= bytes != self.table;
        self.table = bytes;
    }

    /// Up to where its mark vouches for the log.
    pub(crate) fn log_durable(&self) -> Lsn {
        self.log_durable
    }

    /// Where its mark is.
    pub(crate) fn mark_path(&self) -> PathBuf {
        self.mark.path()
    }

    /// Whether there is something to write besides the record.
    pub fn is_due(&self) -> bool {
        self.is_table_due || self.are_streams_due || self.are_ranges_due
    }

    /// The same ledger after a failed write.
    #[cfg(test)]
    pub(crate) fn unwritable(self) -> Ledger {
        Ledger { open: None, ..self }
    }

    /// Makes the record durable.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it is not durable. The record that was durable before still is, or nothing is;
    /// the next checkpoint starts a new ledger.
    ///
    /// # Durability
    ///
    /// When this returns, the record survives a power cut, and damage of the store as well: its mark is durable too.
    pub fn checkpoint(&mut self, record: &LedgerRecord) -> Result<(), LedgerError> {
        let mut written = self.write(record, true);
        if written.is_err() && self.place.give_up_reserve() {
            // The reserve is for what frees space; a cache does not.
            written = self.write(record, false);
        }
        written
    }

    /// Gives the reserve up for something else that has to be done before anything can be freed; false if
    /// there is none.
    pub fn give_up_reserve(&mut self) -> bool {
        self.place.give_up_reserve()
    }

    /// How much of the reserve is missing. Until it is there again nothing else may take that space, or a log that
    /// has filled the disk could not be opened any more.
    pub fn missing_reserve_bytes(&self) -> u64 {
        self.place.missing_reserve_bytes()
    }

    /// To be called when the disk may have space again: takes the reserve back that a checkpoint used up.
    pub fn refill_reserve(&mut self) {
        self.place.hold_reserve();
    }

    fn write(&mut self, record: &LedgerRecord, with_table: bool) -> Result<(), LedgerError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                self.place.probe()?;
                self.place.move_aside()?;
                self.is_table_due = self.table != table::NOTHING;
                self.are_streams_due = !self.streams.is_empty();
                self.descriptor.forget_place();
                self.stored = Digests::default();
                self.place.open()?
            }
        };
        self.generation += 1;
        if self.is_table_due && with_table {
            open.insert_large(table::KEY, &self.table)?;
            self.stored.table = Some(crc32fast::hash(&self.table));
        }
        let settled = record.encode(&self.ranges);
        self.stored.record = Some(crc32fast::hash(&settled));
        let (settled_key, generation_key) = (record::key(self.epoch), mark::generation_key(self.epoch));
        let generation = self.generation.to_le_bytes();
        let (settled, generation) =
            ((&settled_key[..], &settled[..]), (&generation_key[..], &generation[..]));
        let streams_key = streams::key(self.epoch);
        if self.are_streams_due {
            // What the record is about is there before it.
            self.descriptor.write(open.as_mut())?;
            open.insert(&[settled, generation, (&streams_key, &self.streams)])?;
            self.stored.streams = Some(crc32fast::hash(&self.streams));
        } else {
            open.insert(&[settled, generation])?;
        }
        if self.canaries.has(Canary::MarkBeforeLedger) {
            self.write_mark(record)?;
        }
        open.flush()?;
        if !self.canaries.has(Canary::TrustStoreFlush) {
            open.sync()?;
        }
        self.descriptor.written();
        (self.is_table_due, self.are_streams_due, self.are_ranges_due) = (false, false, false);
        self.open = Some(open);
        // Not before: a crash between the two must not leave a store behind its mark.
        self.write_mark(record)
    }

    /// Tells the mark what the store says.
    fn write_mark(&mut self, record: &LedgerRecord) -> Result<(), LedgerError> {
        let about_log = (self.log_durable, self.sent);
        let mark = Mark::new(self.generation, about_log, (record, &self.ranges), self.stored);
        self.mark.write(&mark)
    }
}

impl Sent {
    fn of(streams: &Streams) -> Sent {
        let current = streams.current.as_ref();
        Sent {
            highest: current.map_or(Lsn::ZERO, RecordedStream::highest),
            open_rows: current.map_or(0, RecordedStream::tail_rows),
            doubtful_rows: streams.doubtful_rows,
        }
    }
}

/// What is stored for a table; nothing for one that is too large to be kept.
fn bytes_of(table: Option<&CachedTable>) -> Vec<u8> {
    let bytes = table.and_then(CachedTable::encode);
    if table.is_some() && bytes.is_none() {
        tracing::warn!("the table's columns are too many to be kept for a start without network");
    }
    bytes.unwrap_or_else(|| table::NOTHING.to_vec())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests damage what sled has written")]
mod tests;
