//! The thread that owns the debug files: takes batches, flushes on time, and makes the best of a disk that fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::protobuf::RecordFile;
use super::series::{Opening, Place, Series, SeriesError};
use super::{DebugSettings, Message, Waiting, names};
use crate::catalog::KnownTable;
use crate::error::chain;
use crate::io::{Env, FileLock, LockAttempt};
use crate::types::TableName;
use crate::wal::FrameCopy;
use crate::wrapper::WRITERS_MAX;

/// The directory below the one of the settings.
const ROOT: &str = "zerobus";
const ARROW_DIRECTORY: &str = "arrow";
const PROTOBUF_DIRECTORY: &str = "proto";

pub(super) struct Worker {
    env: Env,
    settings: DebugSettings,
    name: TableName,
    table: Arc<KnownTable>,
    waiting: Arc<Waiting>,
    state: State,
    /// When what was taken has to be in the files; none if it is.
    flush_due: Option<Duration>,
}

enum State {
    /// Nothing was written yet, or a failure has closed everything.
    Closed {
        /// None while there was no failure.
        failed: Option<Failed>,
    },
    Open(Box<Files>),
}

/// How it stands after a failure.
struct Failed {
    retry_at: Duration,
    batches: u64,
}

struct Files {
    arrow: Option<Series>,
    protobuf: Option<RecordFile>,
    /// Batches that a failure has cost before and that are told with the next flush.
    missed: Option<u64>,
    _lock: Box<dyn FileLock>,
}

/// Debug files cannot be written.
#[derive(Debug, thiserror::Error)]
enum DebugError {
    #[error(transparent)]
    Series(#[from] SeriesError),
    #[error("cannot {action} of debug files {directory}")]
    Directory { action: &'static str, directory: String, source: std::io::Error },
    #[error("{WRITERS_MAX} live wrappers write debug files of the table into {directory}")]
    TooManyWriters { directory: String },
}

impl Worker {
    pub(super) fn new(
        env: Env,
        settings: DebugSettings,
        name: TableName,
        table: Arc<KnownTable>,
        waiting: Arc<Waiting>,
    ) -> Worker {
        let state = State::Closed { failed: None };
        Worker { env, settings, name, table, waiting, state, flush_due: None }
    }

    /// Works until nobody sends any more.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let received = match self.flush_due {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => receiver.recv_timeout(due.saturating_sub(self.env.clock.monotonic())),
            };
            let now = self.env.clock.monotonic();
            match received {
                Ok(Message::Flush(done)) => {
                    self.flush(now);
                    // Who does not wait any more needs no answer.
                    let _ = done.send(());
                }
                Ok(message) => {
                    self.flush_due.get_or_insert(now + self.settings.flush_interval);
                    if let Message::Batch(copied) = message {
                        self.take(&copied.frame, now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.flush_due.is_some_and(|due| due <= now) {
                self.flush(now);
            }
        }
        self.tell_left_out();
        let now = self.env.clock.monotonic();
        self.try_with(now, Files::finish);
    }

    fn flush(&mut self, now: Duration) {
        self.flush_due = None;
        self.tell_left_out();
        self.try_with(now, Files::flush);
    }

    fn take(&mut self, frame: &FrameCopy, now: Duration) {
        if let State::Closed { failed } = &mut self.state {
            if let Some(failed) = failed.as_mut().filter(|failed| now < failed.retry_at) {
                failed.batches += 1;
                return;
            }
            let missed = failed.as_ref().map(|failed| failed.batches);
            match self.open(missed) {
                Ok(files) => self.state = State::Open(Box::new(files)),
                Err(error) => return self.fail(&error, missed, now),
            }
        }
        self.try_with(now, |files| files.add(frame));
    }

    fn try_with(&mut self, now: Duration, act: impl FnOnce(&mut Files) -> Result<(), SeriesError>) {
        let State::Open(files) = &mut self.state else { return };
        let missed = files.missed;
        if let Err(error) = act(files) {
            self.fail(&error.into(), missed, now);
        }
    }

    /// Closes everything until the next attempt. Tells of the first failure in a row only.
    fn fail(&mut self, error: &DebugError, missed: Option<u64>, now: Duration) {
        if missed.is_none() {
            tracing::warn!(
                error = chain(error),
                "debug files cannot be written; delivery goes on. Make room or give the rights, it is tried again \
                 every debug_flush_interval_secs; or set debug_enabled to false"
            );
        }
        let failed = Failed {
            retry_at: now.saturating_add(self.settings.flush_interval),
            batches: missed.unwrap_or(0) + 1,
        };
        self.state = State::Closed { failed: Some(failed) };
    }

    fn tell_left_out(&self) {
        let batches = self.waiting.left_out.swap(0, Ordering::Relaxed);
        if batches > 0 {
            tracing::warn!(
                batches,
                "batches came faster than debug files are written; these are not in them"
            );
        }
    }

    /// The files of the first writer of the table that nobody is.
    fn open(&self, missed: Option<u64>) -> Result<Files, DebugError> {
        let root = self.settings.directory.join(ROOT);
        let (stem, lock) = self.claim(&root)?;
        let place = |directory: &str, extension, beside, tail| Place {
            directory: root.join(directory),
            stem: stem.clone(),
            extension,
            beside,
            tail,
            bytes_max: self.settings.file_bytes_max,
            retained_max: self.settings.retained_max,
        };
        let series = |place| Series::new(Arc::clone(&self.env.storage), place);
        let end = FrameCopy::end_of_stream().to_vec();
        let arrow = self.settings.has_arrow.then(|| series(place(ARROW_DIRECTORY, "arrows", None, end)));
        let protobuf = self.settings.has_protobuf.then(|| {
            let series = series(place(PROTOBUF_DIRECTORY, "binpb", Some("desc"), Vec::new()));
            RecordFile::new(series, self.name.clone(), Arc::clone(&self.table), self.settings.policies)
        });
        Ok(Files { arrow, protobuf, missed, _lock: lock })
    }

    fn claim(&self, root: &Path) -> Result<(String, Box<dyn FileLock>), DebugError> {
        let directory = root.display().to_string();
        let failed = |action| {
            let directory = directory.clone();
            move |source| DebugError::Directory { action, directory, source }
        };
        self.env.storage.create_dir_all(root).map_err(failed("create the directory"))?;
        let note = std::process::id().to_string();
        for writer in 1..=WRITERS_MAX {
            let stem = names::stem(&self.name, writer);
            let path = root.join(names::current(&stem, "lock"));
            match self
                .env
                .storage
                .lock(&path, note.as_bytes())
                .map_err(failed("lock names in the directory"))?
            {
                LockAttempt::Held(lock) => {
                    if writer > 1 {
                        tracing::info!(
                            name = stem,
                            "another wrapper writes debug files of the table; ours are named"
                        );
                    }
                    return Ok((stem, lock));
                }
                LockAttempt::Busy { .. } => {}
            }
        }
        Err(DebugError::TooManyWriters { directory })
    }
}

impl Files {
    fn add(&mut self, frame: &FrameCopy) -> Result<(), SeriesError> {
        if let Some(arrow) = &mut self.arrow {
            let opening = Opening { head: frame.schema_message().to_vec(), beside: Vec::new() };
            arrow.add(&opening, frame.body())?;
        }
        self.protobuf.as_mut().map_or(Ok(()), |protobuf| protobuf.add(frame))
    }

    fn flush(&mut self) -> Result<(), SeriesError> {
        self.each(Series::flush)?;
        if let Some(batches) = self.missed.take() {
            tracing::warn!(batches, "debug files are written again; at least these batches are not in them");
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SeriesError> {
        self.each(Series::finish)
    }

    fn each(&mut self, act: impl Fn(&mut Series) -> Result<(), SeriesError>) -> Result<(), SeriesError> {
        self.arrow.as_mut().map_or(Ok(()), &act)?;
        self.protobuf.as_mut().map_or(Ok(()), |protobuf| act(&mut protobuf.series))
    }
}
