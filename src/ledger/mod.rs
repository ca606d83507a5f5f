//! What is settled, remembered across restarts in a key-value store.
//!
//! The ledger is derived: losing all of it costs duplicates, never data. It is off the append path and
//! holds one small record per log epoch, so its size does not depend on the backlog: the watermark, the counts, and what
//! is settled above the watermark. Beside it there is one of what is
//! sent on a persistent stream, which changes together with it or not at all; and what was known of the table's columns,
//! which a start without network goes by.
//!
//! A store's own flush need not be durable; sled's is not. A checkpoint is therefore a flush *and* a sync, and only
//! then may anything be reclaimed \[I5\].

mod bytes;
mod descriptor;
mod dropped;
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
pub use ranges::{RANGES_MAX, Ranges, SettledRange};
pub use record::{Bent, LedgerRecord, Quarantined, Settled};
#[cfg(feature = "sim")]
pub use sim::SimPlace;
pub use store::{LedgerPlace, LedgerStore};
pub use streams::{OutOfRange, REQUESTS_MAX, RecordedRequest, RecordedStream, Streams};
pub use table::CachedTable;

pub(crate) use self::descriptor::BYTES_MAX as DESCRIPTOR_BYTES_MAX;
use self::descriptor::StoredDescriptor;
use self::sled::SledPlace;

use crate::canary::{Canaries, Canary};
use crate::error::{Coded, ErrorCode};
use crate::reserve::is_out_of_space;
use crate::types::Epoch;

/// Name of the ledger's directory in a writer directory.
pub(crate) const DIRECTORY: &str = "ledger";
/// Name of the file that keeps space for it.
const RESERVE_FILE: &str = "ledger.reserve";

/// A ledger that cannot be read or made durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file system refused.
    #[error("cannot {action} the ledger {path}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The store refused.
    #[error("cannot {action} the ledger {path}", path = .path.display())]
    Store {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored cannot be read.
    #[error("the ledger {path} is damaged: {reason}", path = .path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Coded for LedgerError {
    fn code(&self) -> ErrorCode {
        match self {
            LedgerError::Io { .. } | LedgerError::Store { .. } => ErrorCode::Storage,
            LedgerError::Damaged { .. } => ErrorCode::Corruption,
        }
    }
}

impl LedgerError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
        let path = path.to_owned();
        move |source| LedgerError::Io { action, path, source }
    }

    fn is_out_of_space(&self) -> bool {
        matches!(self, LedgerError::Io { source, .. } if is_out_of_space(source))
    }

    /// Whether the bytes are what is wrong: a store reports some of that as errors of its reading. An error
    /// of the operating system has a number and is about the disk.
    pub fn is_damage(&self) -> bool {
        match self {
            LedgerError::Io { source, .. } => source.raw_os_error().is_none() && !is_out_of_space(source),
            LedgerError::Store { .. } | LedgerError::Damaged { .. } => true,
        }
    }
}

/// The ledger of one log.
#[derive(Debug)]
pub struct Ledger {
    place: Box<dyn LedgerPlace>,
    epoch: Epoch,
    // None after a failed write: that file is never synced again [I8]; the next checkpoint makes a new one.
    open: Option<Box<dyn LedgerStore>>,
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
    descriptor: StoredDescriptor,
}

/// What opening a ledger found.
#[derive(Debug)]
pub struct LedgerOpened {
    /// The ledger, ready for checkpoints.
    pub ledger: Ledger,
    /// What it says; the beginning of everything if it said nothing.
    pub record: LedgerRecord,
    /// What is settled above the record's watermark.
    pub ranges: Ranges,
    /// What an earlier owner knew of the table's columns; `None` too if that cannot be read.
    pub table: Option<CachedTable>,
    /// What an earlier owner recorded of persistent streams, or why it cannot be read.
    pub streams: Result<Streams, String>,
    /// Where an unreadable ledger was moved to, and why.
    pub set_aside: Option<(PathBuf, LedgerError)>,
}

impl Ledger {
    /// Opens the ledger of the log in `writer_directory`, making one if there is none.
    ///
    /// A ledger that cannot be read is moved aside, never deleted, and reported.
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
        mut place: Box<dyn LedgerPlace>,
        epoch: Epoch,
        canaries: Canaries,
    ) -> Result<LedgerOpened, LedgerError> {
        let mut found = open_and_read(&*place, epoch);
        if found.as_ref().is_err_and(LedgerError::is_out_of_space) && place.give_up_reserve() {
            found = open_and_read(&*place, epoch);
        }
        let (contents, mut open, set_aside) = match found {
            Ok((contents, open)) => (contents, open, None),
            // A disk that fails or is full says nothing about what the ledger holds.
            Err(error) if !error.is_damage() => return Err(error),
            Err(error) => {
                let aside = place.move_aside()?;
                (Contents::default(), place.open()?, Some((aside, error)))
            }
        };
        // A store may write lazily: without this the first file of a new one would be made when the disk may
        // be full.
        open.flush()?;
        open.sync()?;
        place.hold_reserve();
        let Contents { record, table, streams } = contents;
        let (record, ranges) = record.unwrap_or_default();
        let StoredStreams { bytes, descriptor, read: streams } = streams;
        let ledger = Ledger {
            place,
            epoch,
            open: Some(open),
            canaries,
            ranges: ranges.clone(),
            are_ranges_due: false,
            table: bytes_of(table.as_ref()),
            is_table_due: false,
            streams: bytes,
            are_streams_due: false,
            descriptor,
        };
        Ok(LedgerOpened { ledger, record, ranges, table, streams, set_aside })
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
    }

    /// Remembers what is known of the table's columns, from the next checkpoint on; `None` forgets it.
    pub fn remember_table(&mut self, table: Option<&CachedTable>) {
        let bytes = bytes_of(table);
        self.is_table_due |= bytes != self.table;
        self.table = bytes;
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
    /// When this returns, the record survives a power cut.
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
                self.place.move_aside()?;
                self.is_table_due = self.table != table::NOTHING;
                self.are_streams_due = !self.streams.is_empty();
                self.descriptor.forget_place();
                self.place.open()?
            }
        };
        if self.is_table_due && with_table {
            open.insert_large(table::KEY, &self.table)?;
        }
        let (settled_key, streams_key) = (record::key(self.epoch), streams::key(self.epoch));
        let settled = record.encode(&self.ranges);
        let settled = (&settled_key[..], &settled[..]);
        if self.are_streams_due {
            // What the record is about is there before it.
            self.descriptor.write(open.as_mut())?;
            open.insert(&[settled, (&streams_key, &self.streams)])?;
        } else {
            open.insert(&[settled])?;
        }
        open.flush()?;
        if !self.canaries.has(Canary::TrustStoreFlush) {
            open.sync()?;
        }
        self.descriptor.written();
        (self.is_table_due, self.are_streams_due, self.are_ranges_due) = (false, false, false);
        self.open = Some(open);
        Ok(())
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

/// What a store says about one log.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// With what is settled above its watermark; `None` if it says nothing about this epoch.
    pub(crate) record: Option<(LedgerRecord, Ranges)>,
    /// `None` too if what is there cannot be read: it is a cache.
    pub(crate) table: Option<CachedTable>,
    pub(crate) streams: StoredStreams,
}

/// What a store says about persistent streams.
#[derive(Debug)]
pub(crate) struct StoredStreams {
    bytes: Vec<u8>,
    descriptor: StoredDescriptor,
    pub(crate) read: Result<Streams, String>,
}

impl Default for StoredStreams {
    fn default() -> StoredStreams {
        let descriptor = StoredDescriptor::default();
        StoredStreams { bytes: Vec::new(), descriptor, read: Ok(Streams::default()) }
    }
}

impl StoredStreams {
    /// A record that cannot be read says nothing about what is settled.
    fn read(store: &dyn LedgerStore, epoch: Epoch) -> Result<StoredStreams, LedgerError> {
        let Some(bytes) = store.get(&streams::key(epoch))? else { return Ok(StoredStreams::default()) };
        let mut descriptor = StoredDescriptor::default();
        let read = streams::decode(&bytes, |mark| {
            descriptor = StoredDescriptor::read(store, mark)?;
            Ok(descriptor.bytes())
        });
        Ok(StoredStreams { bytes, descriptor, read })
    }
}

impl Contents {
    fn read(store: &dyn LedgerStore, path: &Path, epoch: Epoch) -> Result<Contents, LedgerError> {
        let damaged = |reason| LedgerError::Damaged { path: path.to_owned(), reason };
        let record = store.get(&record::key(epoch))?;
        let record = record.map(|bytes| LedgerRecord::decode(&bytes).map_err(damaged)).transpose()?;
        let table = store.get_large(table::KEY)?.filter(|bytes| bytes != table::NOTHING);
        let readable = table.as_deref().and_then(CachedTable::decode);
        if table.is_some() && readable.is_none() {
            tracing::warn!(path = %path.display(), "what was known of the table's columns cannot be read");
        }
        Ok(Contents { record, table: readable, streams: StoredStreams::read(store, epoch)? })
    }
}

fn open_and_read(
    place: &dyn LedgerPlace,
    epoch: Epoch,
) -> Result<(Contents, Box<dyn LedgerStore>), LedgerError> {
    let open = place.open()?;
    Ok((Contents::read(&*open, place.path(), epoch)?, open))
}

/// Reads a ledger that somebody else may own, from a copy: no lock is taken and nothing is written. It says nothing
/// if there is none.
///
/// # Errors
///
/// [`LedgerError`] if the copy cannot be made or read.
pub(crate) fn peek(writer_directory: &Path, epoch: Epoch) -> Result<Contents, LedgerError> {
    sled::peek(writer_directory, |store, path| Contents::read(store, path, epoch))
        .map(Option::unwrap_or_default)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests damage what sled has written")]
mod tests {
    use std::fs;

    use super::*;
    use crate::convert::{DeltaType, TableColumn, TableSchema};
    use crate::types::Lsn;

    const EPOCH: Epoch = Epoch::new(7);

    fn record(through: u64) -> LedgerRecord {
        LedgerRecord {
            settled: Settled { through: Lsn::new(through), rows_of_next: 3 },
            delivered_frames: through,
            delivered_rows: 10 * through,
            damaged_frames: 0,
            dropped: Dropped::default(),
            bent: Bent { floored_timestamps: through, emptied_lists: 1 },
            quarantined: Quarantined::default(),
        }
    }

    fn table(name: &str) -> CachedTable {
        let column =
            TableColumn { name: name.to_owned(), number: 1, delta_type: DeltaType::Long, nullable: true };
        CachedTable {
            table: "main.default.events".parse().unwrap(),
            read_unix_micros: 5,
            schema: TableSchema { columns: vec![column] },
        }
    }

    #[test]
    fn a_checkpoint_is_found_again_by_the_same_epoch_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.record, LedgerRecord::default());
        opened.ledger.checkpoint(&record(5)).unwrap();
        opened.ledger.checkpoint(&record(6)).unwrap();
        drop(opened);

        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(6));
        assert_eq!(Ledger::open(dir.path(), Epoch::new(8)).unwrap().record, LedgerRecord::default());
    }

    #[test]
    fn peeking_works_beside_the_live_owner_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record, None);
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(5)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some((record(5), Ranges::default())));
        opened.ledger.checkpoint(&record(6)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some((record(6), Ranges::default())));
    }

    #[test]
    fn the_table_is_remembered_with_the_next_checkpoint_and_forgotten_so_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.table, None);
        opened.ledger.remember_table(Some(&table("a")));
        assert!(opened.ledger.is_due());
        opened.ledger.checkpoint(&record(5)).unwrap();
        assert!(!opened.ledger.is_due());
        assert_eq!(peek(dir.path(), EPOCH).unwrap().table, Some(table("a")));
        drop(opened);

        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.table, Some(table("a")));
        opened.ledger.remember_table(Some(&table("a")));
        assert!(!opened.ledger.is_due(), "it is there already");
        let mut ledger = opened.ledger.unwritable();
        ledger.checkpoint(&record(6)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().table, Some(table("a")), "a new store has it too");
        ledger.remember_table(None);
        ledger.checkpoint(&record(6)).unwrap();
        drop(ledger);
        let opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!((opened.record, opened.table), (record(6), None));
    }

    #[test]
    fn a_damaged_table_is_left_out_and_hurts_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), EPOCH).unwrap().ledger;
        ledger.table = b"this is no table".to_vec();
        ledger.is_table_due = true;
        ledger.checkpoint(&record(5)).unwrap();
        drop(ledger);
        let opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert!(opened.set_aside.is_none());
        assert_eq!((opened.record, opened.table), (record(5), None));
    }

    /// Every other frame behind the watermark.
    fn ranges(watermark: u64, count: u64) -> Ranges {
        let mut ranges = Ranges::default();
        let end_of = |lsn| Settled { through: Lsn::new(lsn), rows_of_next: 0 };
        for lsn in (watermark + 2..).step_by(2).take(count as usize) {
            let (start, end) = (end_of(lsn), end_of(lsn + 1));
            let range = SettledRange { start, end, frames: 1, rows: 1_000_000, requests: 1 };
            ranges.settle(&mut Settled::default(), range);
        }
        ranges
    }

    #[test]
    fn what_is_settled_above_the_watermark_is_remembered_with_the_record_and_so_is_that_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.ranges, Ranges::default());
        for count in [1, 3, RANGES_MAX as u64, 2, 0] {
            opened.ledger.remember_ranges(&ranges(5, count));
            assert!(opened.ledger.is_due());
            opened.ledger.checkpoint(&record(5)).unwrap();
            assert!(!opened.ledger.is_due());
            assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some((record(5), ranges(5, count))));
            drop(opened);
            opened = Ledger::open(dir.path(), EPOCH).unwrap();
            assert_eq!((opened.record, &opened.ranges), (record(5), &ranges(5, count)));
        }
        opened.ledger.remember_ranges(&ranges(6, 2));
        let mut ledger = opened.ledger.unwritable();
        ledger.checkpoint(&record(6)).unwrap();
        let found = peek(dir.path(), EPOCH).unwrap().record;
        assert_eq!(found, Some((record(6), ranges(6, 2))), "a new store has them too");
    }

    #[test]
    fn a_record_with_as_many_ranges_as_there_can_be_stays_below_what_sled_puts_elsewhere() {
        let mut ranges = Ranges::default();
        for number in 1..=RANGES_MAX as u64 {
            let at = |lsn| Settled { through: Lsn::new(lsn), rows_of_next: u32::MAX };
            let (start, end) = (at(200 * number), at(200 * number + 190));
            let range = SettledRange { start, end, frames: 190, rows: 1 << 20, requests: 1 };
            ranges.settle(&mut Settled::default(), range);
        }
        let record = record(5);
        let bytes = record.encode(&ranges);
        assert!(bytes.len() < 128 * 1024, "{} bytes", bytes.len());
        assert_eq!(LedgerRecord::decode(&bytes), Ok((record, ranges)));
    }

    fn streams(id: &str, descriptor: &[u8], ends: impl IntoIterator<Item = u64>) -> Streams {
        let mut streams = Streams::default();
        streams.begin(id.to_owned(), descriptor.into());
        for end in ends {
            let end = Settled { through: Lsn::new(end), rows_of_next: 0 };
            streams.push(RecordedRequest { end, rows: 1, ..RecordedRequest::default() });
        }
        streams.sequence = 0;
        streams
    }

    #[test]
    fn streams_are_remembered_with_the_next_checkpoint_and_their_descriptor_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.streams, Ok(Streams::default()));
        opened.ledger.remember_streams(&Streams::default());
        assert!(!opened.ledger.is_due(), "nothing is nothing to write");
        // A descriptor of many columns is larger than what sled keeps with the rest.
        let wide: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
        for (number, descriptor) in [&b"one"[..], &wide, b"three", b"three"].into_iter().enumerate() {
            let streams = streams(&format!("stream {number}"), descriptor, [6, 7]);
            opened.ledger.remember_streams(&streams);
            assert!(opened.ledger.is_due());
            opened.ledger.checkpoint(&record(5)).unwrap();
            assert!(!opened.ledger.is_due());
            drop(opened);
            opened = Ledger::open(dir.path(), EPOCH).unwrap();
            assert_eq!((opened.record, &opened.streams), (record(5), &Ok(streams)));
        }
        let found = opened.streams.clone().unwrap();
        let mut ledger = opened.ledger.unwritable();
        ledger.checkpoint(&record(6)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().streams.read, Ok(found), "a new store has them too");
        ledger.remember_streams(&Streams { doubtful_rows: 3, ..Streams::default() });
        ledger.checkpoint(&record(6)).unwrap();
        let found = peek(dir.path(), EPOCH).unwrap().streams.read.unwrap();
        assert_eq!((found.doubtful_rows, found.current), (3, None));
        assert!(peek(dir.path(), Epoch::new(8)).unwrap().streams.read.unwrap().is_empty());
    }

    #[test]
    fn a_descriptor_that_is_durable_stays_so_until_its_successor_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), EPOCH).unwrap().ledger;
        ledger.remember_streams(&streams("first", b"one", [6]));
        ledger.checkpoint(&record(5)).unwrap();
        // A cut between the descriptor and the record that names it.
        ledger.remember_streams(&streams("second", b"two", []));
        ledger.remember_streams(&streams("third", b"three", []));
        let mut open = ledger.open.take().unwrap();
        ledger.descriptor.write(open.as_mut()).unwrap();
        open.flush().unwrap();
        open.sync().unwrap();
        drop((open, ledger));
        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().streams, Ok(streams("first", b"one", [6])));
    }

    #[test]
    fn a_record_of_streams_that_is_damaged_is_told_and_hurts_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), EPOCH).unwrap().ledger;
        ledger.remember_streams(&streams("a stream", b"one", [6]));
        ledger.streams[5] ^= 1;
        ledger.checkpoint(&record(5)).unwrap();
        drop(ledger);
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert!(opened.set_aside.is_none());
        assert_eq!(opened.record, record(5));
        assert!(opened.streams.unwrap_err().contains("checksum"));
        opened.ledger.remember_streams(&Streams::default());
        opened.ledger.checkpoint(&record(5)).unwrap();
        drop(opened.ledger);
        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().streams, Ok(Streams::default()));
    }

    #[test]
    fn a_damaged_ledger_is_moved_aside_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(5)).unwrap();
        drop(opened);
        let file = dir.path().join(DIRECTORY).join("conf");
        fs::write(&file, b"this is no sled configuration").unwrap();

        let opened = Ledger::open(dir.path(), EPOCH).unwrap();
        let (aside, _) = opened.set_aside.expect("the damage was not reported");
        assert_eq!(fs::read(aside.join("conf")).unwrap(), b"this is no sled configuration");
        assert_eq!(opened.record, LedgerRecord::default());
        let mut ledger = opened.ledger;
        ledger.checkpoint(&record(9)).unwrap();
        drop(ledger);
        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(9));
    }

    #[test]
    fn a_ledger_that_was_just_dropped_is_found_whole() {
        let dir = tempfile::tempdir().unwrap();
        for through in 1..=50 {
            let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
            assert_eq!(opened.record.settled.through.get(), through - 1);
            assert!(opened.set_aside.is_none(), "a lock was taken for damage");
            opened.ledger.checkpoint(&record(through)).unwrap();
        }
    }

    #[test]
    fn after_a_failed_checkpoint_the_next_one_starts_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(5)).unwrap();
        let mut ledger = opened.ledger.unwritable();
        ledger.checkpoint(&record(6)).unwrap();
        drop(ledger);
        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(6));
        assert!(dir.path().join("ledger.set-aside-1").exists());
    }
}
