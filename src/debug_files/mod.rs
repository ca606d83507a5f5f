//! What was stored, once more as files that people read: how a batch gets from an append to the debug files.
//!
//! ```text
//!  append ─ returned ─► DebugFiles (bounded queue) ─► one thread ─► arrow/<table>.arrows
//!                                                             └──► proto/<table>.binpb, .desc
//! ```
//!
//! They are no part of the promise. Nothing waits for them: what does not fit into the queue is left out, what cannot
//! be written is given up, and both are told in the log.

mod descriptor;
mod names;
mod protobuf;
mod series;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::worker::Worker;
use crate::catalog::KnownTable;
use crate::config::WrapperConfiguration;
use crate::convert::Policies;
use crate::io::Env;
use crate::types::TableName;
use crate::wal::{FrameCopy, PreparedFrame};

/// Batches that wait for the thread, at most.
const WAITING_BATCHES_MAX: usize = 1024;
/// Bytes of them, at most.
const WAITING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a shutdown waits for what was handed over before it; a disk that takes longer is not waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What of the configuration the debug files need.
#[derive(Clone, Debug)]
pub(crate) struct DebugSettings {
    pub(crate) directory: PathBuf,
    pub(crate) flush_interval: Duration,
    pub(crate) file_bytes_max: Option<u64>,
    pub(crate) retained_max: usize,
    pub(crate) has_arrow: bool,
    pub(crate) has_protobuf: bool,
    pub(crate) policies: Policies,
}

impl DebugSettings {
    /// None if nobody wants debug files.
    pub(crate) fn of(configuration: &WrapperConfiguration, policies: Policies) -> Option<DebugSettings> {
        let directory = configuration.debug_output_dir.clone().filter(|_| configuration.debug_enabled)?;
        Some(DebugSettings {
            directory,
            flush_interval: configuration.debug_flush_interval,
            file_bytes_max: configuration.debug_max_file_size,
            retained_max: configuration.debug_max_files_retained,
            has_arrow: configuration.debug_arrow_enabled,
            has_protobuf: configuration.debug_protobuf_enabled,
            policies,
        })
    }
}

/// The debug files of one wrapper. Dropped, it lets its thread write what waits and end.
#[derive(Debug)]
pub(crate) struct DebugFiles {
    sender: Mutex<Option<SyncSender<Message>>>,
    waiting: Arc<Waiting>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What the thread is told.
#[derive(Debug)]
enum Message {
    Batch(Copied),
    /// Something did not fit.
    LeftOut,
    /// Somebody waits until what came before is in the files.
    Flush(oneshot::Sender<()>),
}

/// What is on its way to the thread, and what is not.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicU64,
    left_out: AtomicU64,
}

/// A batch that has its place in memory until it is dropped.
#[derive(Debug)]
pub(crate) struct Copied {
    frame: FrameCopy,
    bytes: u64,
    waiting: Arc<Waiting>,
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl DebugFiles {
    /// Starts the thread. Files are made with the first batch; none is opened before.
    pub(crate) fn start(
        env: &Env,
        settings: DebugSettings,
        name: &TableName,
        table: Arc<KnownTable>,
    ) -> Option<DebugFiles> {
        let (sender, receiver) = sync_channel(WAITING_BATCHES_MAX);
        let (end, ended) = oneshot::channel();
        let waiting = Arc::new(Waiting::default());
        let worker = Worker::new(env.clone(), settings, name.clone(), table, Arc::clone(&waiting));
        let work = move || {
            worker.run(&receiver);
            // Nobody waits any more if this fails.
            let _ = end.send(());
        };
        match std::thread::Builder::new().name("zerobus-debug".to_owned()).spawn(work) {
            Ok(_) => {
                Some(DebugFiles { sender: Mutex::new(Some(sender)), waiting, ended: Mutex::new(Some(ended)) })
            }
            Err(error) => {
                tracing::warn!(%error, "there is no thread for debug files, so none are written");
                None
            }
        }
    }

    /// The batch of a frame, to be offered once the frame is stored; none if there is no room for it.
    pub(crate) fn copy(&self, frame: &PreparedFrame) -> Option<Copied> {
        let bytes = frame.frame_bytes();
        let add = |waiting: u64| waiting.checked_add(bytes).filter(|sum| *sum <= WAITING_BYTES_MAX);
        match self.waiting.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Some(Copied { frame: frame.copy(), bytes, waiting: Arc::clone(&self.waiting) }),
            Err(_) => {
                self.leave_out();
                None
            }
        }
    }

    /// Hands a batch over that was stored. Never waits.
    pub(crate) fn offer(&self, copied: Copied) {
        if !self.send(Message::Batch(copied)) {
            self.leave_out();
        }
    }

    /// Waits until what was offered before is in the files, or is given up.
    pub(crate) async fn flush(&self, runtime: &Handle) {
        let (done, flushed) = oneshot::channel();
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return };
        // The queue may be full, and then this waits for its place.
        let sent = runtime.spawn_blocking(move || sender.send(Message::Flush(done)));
        if matches!(sent.await, Ok(Ok(()))) {
            // An error means that the thread has ended, and with it everything that it had.
            let _ = flushed.await;
        }
    }

    /// Takes nothing more, and waits for a while until what was offered is written.
    pub(crate) async fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ended) = ended else { return };
        if tokio::time::timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            let secs = CLOSE_TIMEOUT.as_secs();
            tracing::warn!(
                secs,
                "the debug files could not be finished in time and may lack the last batches"
            );
        }
    }

    fn leave_out(&self) {
        // The thread tells of it, once for all that it finds. One that is busy will look by itself.
        if self.waiting.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
            self.send(Message::LeftOut);
        }
    }

    fn send(&self, message: Message) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref().map(|sender| sender.try_send(message)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => false,
        }
    }
}

#[cfg(test)]
mod tests;
