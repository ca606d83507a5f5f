//! Which persistent streams a table has: a small file for each, beside the Delta log.
//!
//! ```text
//! <table>/_zerobus_streams/<stream id>.json   {"encoding": "protobuf", "is_retired": false}
//! <table>/_delta_log/…                        txn {appId: <stream id>, version: <offset>} with the rows
//! ```
//!
//! What a stream is, is on the disk before its client hears of it; how far it is committed, Delta knows.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use delta_kernel::object_store::PutMode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::stream::Stream;
use crate::emulator::delta::{DeltaEngine, DeltaError, DeltaTable};
use crate::emulator::format::Encoding;
use crate::emulator::opening::new_stream_id;
use crate::emulator::store;
use crate::emulator::writer::Progress;

/// Readers of Delta tables look past names that begin so.
const DIRECTORY: &str = "_zerobus_streams";

/// Why it is not known what a stream is, or how far it is.
#[derive(Debug, thiserror::Error)]
pub(in crate::emulator) enum StreamsError {
    #[error("cannot read or write {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} says nothing of a stream", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Delta(#[from] DeltaError),
}

/// What the file of a stream says.
#[derive(Serialize, Deserialize)]
struct Identity {
    encoding: Encoding,
    is_retired: bool,
}

/// The persistent streams of one table. Calls block.
pub(in crate::emulator) struct Streams {
    /// Where they outlive the process; nowhere if their rows do not either.
    home: Option<Home>,
    known: Mutex<Known>,
}

struct Home {
    engine: DeltaEngine,
    table: PathBuf,
}

#[derive(Default)]
struct Known {
    streams: HashMap<String, Arc<Stream>>,
    /// The table is dropped, and nothing is made in its directory any more.
    is_forgotten: bool,
}

impl Streams {
    /// The streams of the table in this directory.
    pub(in crate::emulator) fn beside(engine: DeltaEngine, table: &Path) -> Streams {
        Streams { home: Some(Home { engine, table: table.to_owned() }), known: Mutex::default() }
    }

    /// Streams of a table whose rows go nowhere.
    pub(in crate::emulator) fn in_memory() -> Streams {
        Streams { home: None, known: Mutex::default() }
    }

    /// A new stream; none if the table is gone.
    ///
    /// # Durability
    ///
    /// It is on the disk when this returns.
    pub(super) fn create(&self, encoding: Encoding) -> Result<Option<Arc<Stream>>, StreamsError> {
        let mut known = self.lock();
        if known.is_forgotten {
            return Ok(None);
        }
        let id = new_stream_id();
        self.write(&id, &Identity { encoding, is_retired: false })?;
        let stream = Arc::new(Stream::new(id.clone(), encoding, Some(-1), false));
        known.streams.insert(id, Arc::clone(&stream));
        Ok(Some(stream))
    }

    /// The stream of this id, if the table has it, retired or not.
    pub(super) fn find(&self, id: &str) -> Result<Option<Arc<Stream>>, StreamsError> {
        let mut known = self.lock();
        if let Some(stream) = known.streams.get(id) {
            return Ok(Some(Arc::clone(stream)));
        }
        let Some(identity) = (if known.is_forgotten { None } else { self.read(id)? }) else {
            return Ok(None);
        };
        let stream = Arc::new(Stream::new(id.to_owned(), identity.encoding, None, identity.is_retired));
        known.streams.insert(id.to_owned(), Arc::clone(&stream));
        Ok(Some(stream))
    }

    /// Gives a stream to a new connection, which starts from the progress; none if it is retired.
    pub(super) fn take(&self, stream: &Stream) -> Result<Option<Arc<watch::Sender<Progress>>>, StreamsError> {
        stream.take(|| match &self.home {
            Some(home) => {
                let table = DeltaTable::open(&home.engine, &home.table)?;
                Ok(table.application_version(stream.id())?.unwrap_or(-1))
            }
            None => Ok(-1),
        })
    }

    /// Ends a stream for good; false if the table is gone.
    ///
    /// # Durability
    ///
    /// It stays so after a restart once this has returned.
    pub(super) fn retire(&self, stream: &Stream) -> Result<bool, StreamsError> {
        let known = self.lock();
        if known.is_forgotten {
            return Ok(false);
        }
        self.write(stream.id(), &Identity { encoding: stream.encoding(), is_retired: true })?;
        stream.retire();
        Ok(true)
    }

    /// Ends all streams, because the table is dropped.
    pub(in crate::emulator) fn forget(&self) -> io::Result<()> {
        let mut known = self.lock();
        known.is_forgotten = true;
        known.streams.drain().for_each(|(_, stream)| stream.retire());
        match self.home.as_ref().map(|home| fs::remove_dir_all(home.directory())) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read(&self, id: &str) -> Result<Option<Identity>, StreamsError> {
        // Only what we have given out names a file.
        let is_ours = id.len() == new_stream_id().len() && id.bytes().all(|it| it.is_ascii_hexdigit());
        let Some(home) = self.home.as_ref().filter(|_| is_ours) else { return Ok(None) };
        let path = home.file(id);
        match fs::read(&path) {
            Ok(bytes) => {
                let identity = serde_json::from_slice(&bytes);
                identity.map(Some).map_err(|source| StreamsError::Malformed { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StreamsError::Io { path, source }),
        }
    }

    fn write(&self, id: &str, identity: &Identity) -> Result<(), StreamsError> {
        let Some(home) = &self.home else { return Ok(()) };
        let path = home.file(id);
        serde_json::to_vec(identity)
            .map_err(io::Error::from)
            .and_then(|bytes| store::put(&path, &bytes.into(), &PutMode::Overwrite))
            .map_err(|source| StreamsError::Io { path, source })
    }

    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    fn directory(&self) -> PathBuf {
        self.table.join(DIRECTORY)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.directory().join(format!("{id}.json"))
    }
}
