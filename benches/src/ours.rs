//! Our log in its steady state: somebody settles behind the producers, so that segments come round again.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arrow_zerobus_sdk_wrapper::{
    io::{BLOCK, Env},
    reclaim,
    types::Lsn,
    wal::{Appended, Destination, Durability, LogDirectory, PreparedFrame, Wal, WalOptions},
};

use crate::{
    MIB, Result,
    entries::Pool,
    method::{Append, Kind, Method},
};

/// How much of the log is sent and not acknowledged while a lane is busy. A frame of one append has a block at least.
const IN_FLIGHT_BYTES: usize = 32 * MIB;
/// The settler's own figure: a settled open segment of this length is replaced.
const ROLL_BYTES: u64 = 1024 * 1024;
/// How often acknowledgements come.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);
/// How many segments are filled before anything is measured, and in groups of which length.
const WARM_UP_SEGMENTS: u64 = 6;
const WARM_UP_GROUP_BYTES: usize = MIB;
/// How many files a wrapper with the default quota keeps to be segments again.
const SPARE_SEGMENTS: usize = 2;

/// Our log.
pub struct Ours {
    wal: Wal,
    pool: Pool,
    drainer: Drainer,
}

/// Opens a log for the table that nobody has.
///
/// # Errors
///
/// When the log cannot be opened.
pub fn open(dir: &Path, durability: Durability, segment_bytes: u64) -> Result<Wal> {
    let env = Env::os();
    let destination = Destination {
        table: "main.default.benchmark".parse()?,
        endpoint: "http://127.0.0.1:9".to_owned(),
        unity_catalog_url: None,
    };
    let directory = LogDirectory::open(&env, dir, &destination)?;
    let options = WalOptions { segment_bytes, durability, spare_segments: SPARE_SEGMENTS };
    let (wal, _) = Wal::open(&env, directory, options, Lsn::ZERO)?;
    Ok(wal)
}

fn append(wal: &Wal, frame: PreparedFrame) -> Result<Appended> {
    Ok(wal.append_blocking(frame)?)
}

impl Ours {
    /// A log in this directory that has filled and freed some segments already.
    ///
    /// # Errors
    ///
    /// When the log cannot be opened or written.
    pub fn new(dir: &Path, pool: &Pool, segment_bytes: u64) -> Result<Ours> {
        let wal = open(dir, Durability::Sync, segment_bytes)?;
        let drainer = Drainer::start(wal.clone(), pool.entry_bytes())?;
        let batches = pool.batches(0)?;
        let mut next = batches.iter().cycle();
        let mut appended_bytes = 0;
        while appended_bytes < WARM_UP_SEGMENTS * segment_bytes {
            let count = (WARM_UP_GROUP_BYTES / pool.entry_bytes()).max(1);
            let group = next.by_ref().take(count);
            let appends: Vec<_> =
                group.map(|batch| Ok(wal.append(PreparedFrame::new(batch)?))).collect::<Result<_>>()?;
            for append in appends {
                appended_bytes += append.wait()?.frame_bytes;
            }
        }
        Ok(Ours { wal, pool: pool.clone(), drainer })
    }
}

impl Method for Ours {
    fn name(&self) -> &str {
        "this log"
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn before_round(&mut self) -> Result<()> {
        match self.wal.poisoned() {
            Some(reason) => Err(reason.to_string().into()),
            None => Ok(self.drainer.check()?),
        }
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let batches = self.pool.batches(number)?;
        let mut next = 0;
        Ok(Box::new(move || {
            let batch = &batches[next];
            next = (next + 1) % batches.len();
            append(&self.wal, PreparedFrame::new(batch)?)?;
            Ok(())
        }))
    }
}

/// Settles and frees what is durable, a window behind the newest frame, as the settler of a busy lane does.
struct Drainer {
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Drainer {
    fn start(wal: Wal, entry_bytes: usize) -> Result<Drainer> {
        let lag_frames = (IN_FLIGHT_BYTES / entry_bytes.max(BLOCK)).max(1) as u64;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let thread = {
            let is_stopped = Arc::clone(&is_stopped);
            std::thread::Builder::new().name("drainer".to_owned()).spawn(move || {
                while !is_stopped.load(Ordering::Relaxed) {
                    let settled = wal.durable().get().saturating_sub(lag_frames);
                    reclaim::free(&wal, Lsn::new(settled), ROLL_BYTES)?;
                    std::thread::sleep(SETTLE_INTERVAL);
                }
                Ok(())
            })?
        };
        Ok(Drainer { is_stopped, thread: Some(thread) })
    }

    /// What it has failed with, if it has.
    fn check(&mut self) -> std::io::Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            Some(thread) => {
                thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the drainer ended in a panic")))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its failure was told before a round, or does not matter any more.
            let _ = thread.join();
        }
    }
}
