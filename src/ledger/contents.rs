//! What a store says about one log, read in one piece.

use std::path::Path;

use super::descriptor::StoredDescriptor;
use super::judge::Digests;
use super::mark;
use super::{
    CachedTable, LedgerError, LedgerPlace, LedgerRecord, LedgerStore, Ranges, Streams, record, streams, table,
};
use crate::types::Epoch;

/// What a store says about one log.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// With what is settled above its watermark; `None` if it says nothing about this epoch.
    pub(crate) record: Option<(LedgerRecord, Ranges)>,
    /// `None` too if what is there cannot be read: it is a cache.
    pub(crate) table: Option<CachedTable>,
    pub(crate) streams: StoredStreams,
    /// How many checkpoints there were; `None` if no program wrote it that counts them.
    pub(crate) generation: Option<u64>,
    /// Of the bytes of all that.
    pub(super) digests: Digests,
}

/// What a store says about persistent streams.
#[derive(Debug)]
pub(crate) struct StoredStreams {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptor: StoredDescriptor,
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
    pub(super) fn read(store: &dyn LedgerStore, path: &Path, epoch: Epoch) -> Result<Contents, LedgerError> {
        let damaged = |reason| LedgerError::Damaged { path: path.to_owned(), reason };
        let generation = store.get(&mark::generation_key(epoch))?;
        let generation =
            generation.map(|bytes| mark::decode_generation(&bytes).map_err(damaged)).transpose()?;
        let record = store.get(&record::key(epoch))?;
        let table = store.get_large(table::KEY)?;
        let streams = StoredStreams::read(store, epoch)?;
        let digests = Digests {
            record: record.as_deref().map(crc32fast::hash),
            streams: (!streams.bytes.is_empty()).then(|| crc32fast::hash(&streams.bytes)),
            table: table.as_deref().map(crc32fast::hash),
        };
        let record = record.map(|bytes| LedgerRecord::decode(&bytes).map_err(damaged)).transpose()?;
        let known = table.filter(|bytes| bytes != table::NOTHING);
        let readable = known.as_deref().and_then(CachedTable::decode);
        if known.is_some() && readable.is_none() {
            tracing::warn!(path = %path.display(), "what was known of the table's columns cannot be read");
        }
        Ok(Contents { record, table: readable, streams, generation, digests })
    }
}

/// Opens a store and reads what it says.
pub(super) fn open_and_read(
    place: &dyn LedgerPlace,
    epoch: Epoch,
) -> Result<(Contents, Box<dyn LedgerStore>), LedgerError> {
    let open = place.open()?;
    Ok((Contents::read(&*open, place.path(), epoch)?, open))
}
