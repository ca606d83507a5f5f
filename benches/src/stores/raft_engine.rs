//! raft-engine: one entry of a region for each append, a region for each producer; a thread compacts and purges
//! behind them, so that files are recycled.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use protobuf::well_known_types::Any;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::{
    MIB, Result,
    entries::Pool,
    method::{Append, Kind, Method},
};

/// How much is kept behind the newest entry.
const KEPT_BYTES: usize = 64 * MIB;
const PURGE_INTERVAL: Duration = Duration::from_millis(20);

/// An entry as raft-engine wants it: a protobuf message that knows its index. The index is the URL in decimal.
struct Indexed;

impl MessageExt for Indexed {
    type Entry = Any;

    fn index(entry: &Any) -> u64 {
        entry.get_type_url().parse().unwrap_or(0)
    }
}

/// A raft-engine.
pub struct RaftEngine {
    engine: Arc<Engine>,
    /// The last index of each region.
    last: Arc<Vec<AtomicU64>>,
    pool: Pool,
    is_stopped: Arc<AtomicBool>,
    purger: Option<JoinHandle<()>>,
}

impl RaftEngine {
    /// Opens or makes one that forgets what is old.
    ///
    /// # Errors
    ///
    /// When raft-engine cannot.
    pub fn open(dir: &Path, pool: &Pool, producers: usize) -> Result<RaftEngine> {
        let mut engine = RaftEngine::open_keeping(dir, pool, producers)?;
        let kept = (KEPT_BYTES / pool.entry_bytes() / producers).max(1) as u64;
        let (store, last, is_stopped) =
            (Arc::clone(&engine.engine), Arc::clone(&engine.last), Arc::clone(&engine.is_stopped));
        engine.purger = Some(std::thread::Builder::new().name("purger".to_owned()).spawn(move || {
            while !is_stopped.load(Ordering::Relaxed) {
                for (region, last) in (1..).zip(last.iter()) {
                    store.compact_to(region, last.load(Ordering::Relaxed).saturating_sub(kept));
                }
                // A purge that fails leaves the files for the next one.
                let _ = store.purge_expired_files();
                std::thread::sleep(PURGE_INTERVAL);
            }
        })?);
        Ok(engine)
    }

    /// Opens or makes one that keeps everything.
    ///
    /// # Errors
    ///
    /// When raft-engine cannot.
    pub fn open_keeping(dir: &Path, pool: &Pool, producers: usize) -> Result<RaftEngine> {
        let config = Config {
            dir: dir.to_string_lossy().into_owned(),
            // Random bytes do not get shorter.
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize::mb(64),
            purge_threshold: ReadableSize::mb(256),
            enable_log_recycle: true,
            ..Config::default()
        };
        let engine = Arc::new(Engine::open(config)?);
        let last: Vec<AtomicU64> = (1..=producers as u64)
            .map(|region| AtomicU64::new(engine.last_index(region).unwrap_or(0)))
            .collect();
        Ok(RaftEngine {
            engine,
            last: Arc::new(last),
            pool: pool.clone(),
            is_stopped: Arc::default(),
            purger: None,
        })
    }

    /// Messages with these contents and no index yet.
    pub fn messages(entries: Vec<Bytes>) -> Vec<Any> {
        let message = |entry: Bytes| {
            let mut message = Any::new();
            message.set_value(entry.to_vec());
            message
        };
        entries.into_iter().map(message).collect()
    }

    /// Writes one entry to the region of a producer.
    ///
    /// # Errors
    ///
    /// When raft-engine cannot.
    pub fn write(&self, producer: usize, message: &mut Any, sync: bool) -> Result<()> {
        let index = self.last[producer].load(Ordering::Relaxed) + 1;
        message.set_type_url(index.to_string());
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Indexed>(producer as u64 + 1, std::slice::from_ref(message))?;
        self.engine.write(&mut batch, sync)?;
        self.last[producer].store(index, Ordering::Relaxed);
        Ok(())
    }
}

impl Method for RaftEngine {
    fn name(&self) -> &str {
        "raft-engine 0.4"
    }

    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let mut messages = RaftEngine::messages(self.pool.entries(number));
        let mut next = 0;
        Ok(Box::new(move || {
            next = (next + 1) % messages.len();
            self.write(number, &mut messages[next], true)
        }))
    }
}

impl Drop for RaftEngine {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(purger) = self.purger.take() {
            // It has nothing to tell.
            let _ = purger.join();
        }
    }
}
