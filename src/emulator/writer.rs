//! The writer of one table: collects rows from all streams, commits them, reports what is durable.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::delta::DeltaTable;
use super::persistent::{State, Stream};
use crate::error::chain;

/// Record bytes that a table holds in memory before its streams must wait, in KiB.
const HELD_KIB_MAX: usize = 128 * 1024;
/// Record bytes at which a commit does not wait for its time.
const COMMIT_BYTES: usize = 32 * 1024 * 1024;

/// What a stream learns from the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Every request of the stream up to this offset is in the table and on the disk; −1 for none.
    pub(super) durable: i64,
    /// Why no row of the stream is committed any more.
    pub(super) failure: Option<Failure>,
}

impl Progress {
    /// Of a stream of which everything up to this offset is durable.
    pub(super) fn watched(durable: i64) -> Arc<watch::Sender<Progress>> {
        Arc::new(watch::Sender::new(Progress { durable, failure: None }))
    }
}

/// What has become of a stream that the writer takes no rows of any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Rows could not be committed.
    NotCommitted(String),
    /// Its persistent stream has another connection now, or is retired.
    Fenced,
}

/// Room in memory that rows take until they are committed.
pub(super) struct Room {
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

/// Rows of one stream on their way into the table.
pub(super) struct Chunk {
    pub(super) rows: RecordBatch,
    /// The offset of the last request that is whole in these rows.
    pub(super) upto: i64,
    pub(super) progress: Arc<watch::Sender<Progress>>,
    /// The persistent stream that the offsets are of.
    pub(super) stream: Option<Arc<Stream>>,
    pub(super) room: Vec<Room>,
}

enum Command {
    Append(Chunk),
    /// Commit what is held now.
    Hurry,
}

/// Handle of the thread that writes one table.
pub(super) struct Writer {
    /// None once it is stopped: what was taken before is committed, and nothing is taken behind it.
    commands: Mutex<Option<Sender<Command>>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The writer is gone; its table takes no more rows.
#[derive(Debug)]
pub(super) struct Stopped;

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        table: DeltaTable,
        columns: SchemaRef,
        interval: Duration,
    ) -> std::io::Result<Writer> {
        let (commands, received) = channel();
        let work = Work { table, columns, interval, commands: received };
        let thread =
            std::thread::Builder::new().name("zerobus-table".to_owned()).spawn(move || work.run())?;
        Ok(Writer {
            commands: Mutex::new(Some(commands)),
            room: Arc::new(Semaphore::new(HELD_KIB_MAX)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Room for this many more record bytes, if the table has it now.
    pub(super) fn try_room(&self, bytes: usize) -> Option<Room> {
        let permit = Arc::clone(&self.room).try_acquire_many_owned(kib(bytes)).ok()?;
        Some(Room { bytes, _permit: permit })
    }

    /// Waits until the table can hold this many more record bytes. Only commits make room, so the
    /// caller must have handed over all rows that it has room for.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, Stopped> {
        let permit = Arc::clone(&self.room).acquire_many_owned(kib(bytes)).await.map_err(|_| Stopped)?;
        Ok(Room { bytes, _permit: permit })
    }

    /// Hands rows over; their progress says when they are durable.
    pub(super) fn append(&self, chunk: Chunk) -> Result<(), Stopped> {
        self.send(Command::Append(chunk))
    }

    /// Asks for a commit without waiting for its time.
    pub(super) fn hurry(&self) {
        // A writer that is gone has nothing to hurry with.
        let _ = self.send(Command::Hurry);
    }

    fn send(&self, command: Command) -> Result<(), Stopped> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_ref().ok_or(Stopped)?.send(command).map_err(|_| Stopped)
    }

    /// Commits what is held and ends the thread.
    pub(super) fn stop(&self) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer of a table panicked");
        }
        self.room.close();
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).clamp(1, HELD_KIB_MAX)).unwrap_or(u32::MAX)
}

struct Work {
    table: DeltaTable,
    columns: SchemaRef,
    interval: Duration,
    commands: Receiver<Command>,
}

impl Work {
    fn run(mut self) {
        loop {
            let (chunks, goes_on) = self.collect();
            if !chunks.is_empty() {
                self.commit(chunks);
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Waits for rows and then for more of them until it is time to commit.
    fn collect(&self) -> (Vec<Chunk>, bool) {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        let mut deadline = None;
        loop {
            let command = match deadline {
                None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    self.commands.recv_timeout(Instant::saturating_duration_since(&deadline, Instant::now()))
                }
            };
            match command {
                Ok(Command::Append(chunk)) => {
                    bytes += chunk.room.iter().map(|room| room.bytes).sum::<usize>();
                    chunks.push(chunk);
                    deadline.get_or_insert_with(|| Instant::now() + self.interval);
                    if bytes >= COMMIT_BYTES {
                        return (chunks, true);
                    }
                }
                Ok(Command::Hurry) | Err(RecvTimeoutError::Timeout) => return (chunks, true),
                Err(RecvTimeoutError::Disconnected) => return (chunks, false),
            }
        }
    }

    fn commit(&mut self, chunks: Vec<Chunk>) {
        let streams: BTreeMap<String, Arc<Stream>> = chunks
            .iter()
            .filter_map(|it| Some((it.stream.as_ref()?.id().to_owned(), it.stream.clone()?)))
            .collect();
        // Whoever resumes one of these streams waits until the commit is on the disk, and is told its offset.
        let mut locked: BTreeMap<&str, MutexGuard<'_, State>> =
            streams.iter().map(|(id, stream)| (id.as_str(), stream.lock())).collect();
        // What a stream sends behind rows that failed would leave a gap; what it sends behind its fence is not its own.
        let chunks: Vec<Chunk> =
            chunks.into_iter().filter(|chunk| chunk.progress.borrow().failure.is_none()).collect();
        if chunks.is_empty() {
            return;
        }
        let offsets: BTreeMap<&str, i64> =
            chunks.iter().filter_map(|chunk| Some((chunk.stream.as_ref()?.id(), chunk.upto))).collect();
        locked.retain(|id, _| offsets.contains_key(id));
        // Until it has gone well, only the table knows.
        locked.values_mut().for_each(|state| state.committed = None);
        let batches = chunks.iter().map(|chunk| &chunk.rows);
        let outcome = concat_batches(&self.columns, batches)
            .map_err(|error| error.to_string())
            .and_then(|rows| self.table.append(&rows, &offsets).map_err(|error| chain(&error)));
        match outcome {
            Ok(version) => {
                locked.iter_mut().for_each(|(id, state)| state.committed = offsets.get(id).copied());
                // The commit is on the disk; only now may a client hear of it.
                for chunk in &chunks {
                    chunk.progress.send_modify(|progress| progress.durable = chunk.upto);
                }
                drop(locked);
                if let Err(error) = self.table.checkpoint(version) {
                    tracing::warn!(error = chain(&error), "no checkpoint");
                }
            }
            Err(reason) => {
                tracing::error!(reason, "rows could not be committed");
                for chunk in &chunks {
                    let failure = Failure::NotCommitted(reason.clone());
                    chunk.progress.send_modify(|progress| progress.failure = Some(failure));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::delta::tests::{count, log, reopen, rows, table};
    use super::super::format::Encoding;
    use super::*;

    #[test]
    fn whatever_is_taken_before_a_stop_is_committed() {
        let (_runtime, _dir, table) = table();
        let batch = rows(&table, 0);
        let mut landed = 0;
        for round in 0..50 {
            let writer = Writer::start(reopen(&table), batch.schema(), Duration::ZERO).unwrap();
            let progress = Progress::watched(-1);
            let taken = std::thread::scope(|scope| {
                let sending = scope.spawn(|| {
                    let chunk = |upto| {
                        let (rows, progress) = (batch.clone(), Arc::clone(&progress));
                        Chunk { rows, upto, progress, stream: None, room: Vec::new() }
                    };
                    (0..).find(|upto| writer.append(chunk(*upto)).is_err()).unwrap()
                });
                std::thread::sleep(Duration::from_micros(rand::random::<u64>() % 2000));
                writer.stop();
                sending.join().unwrap()
            });
            assert_eq!(*progress.borrow(), Progress { durable: taken - 1, failure: None }, "round {round}");
            landed += usize::try_from(taken).unwrap();
        }
        assert_eq!(count(&reopen(&table)), landed);
    }

    #[test]
    fn what_a_stream_sends_behind_rows_that_failed_does_not_land() {
        let (_runtime, _dir, table) = table();
        let batches = [0, 1, 2].map(|id| rows(&table, id));
        let (_commands, received) = channel();
        let columns = batches[0].schema();
        let mut work = Work { table: reopen(&table), columns, interval: Duration::ZERO, commands: received };
        let stream = Arc::new(Stream::new("a".to_owned(), Encoding::Json, Some(-1), false));
        let failing = Progress::watched(-1);
        let chunk = |id: usize, upto, progress: &Arc<watch::Sender<Progress>>| Chunk {
            rows: batches[id].clone(),
            upto,
            progress: Arc::clone(progress),
            stream: Some(Arc::clone(&stream)),
            room: Vec::new(),
        };
        let (log, aside) = (log(&table), log(&table).with_file_name("aside"));
        std::fs::rename(&log, &aside).unwrap();
        std::fs::write(&log, "no directory").unwrap();
        work.commit(vec![chunk(0, 0, &failing)]);
        assert!(matches!(failing.borrow().failure, Some(Failure::NotCommitted(_))));
        assert_eq!(stream.lock().committed, None, "only the table knows");
        std::fs::remove_file(&log).unwrap();
        std::fs::rename(&aside, &log).unwrap();

        let other = Progress::watched(-1);
        work.commit(vec![chunk(1, 1, &failing), Chunk { stream: None, ..chunk(2, 0, &other) }]);
        assert_eq!((failing.borrow().durable, other.borrow().durable), (-1, 0));
        let table = reopen(&table);
        assert_eq!((count(&table), table.application_version("a").unwrap()), (1, None));
        let resumed =
            stream.take(|| table.application_version("a").map(|it| it.unwrap_or(-1))).unwrap().unwrap();
        work.commit(vec![chunk(0, 0, &resumed), chunk(1, 1, &resumed)]);
        assert_eq!((resumed.borrow().durable, stream.lock().committed), (1, Some(1)));
        let table = reopen(&table);
        assert_eq!((count(&table), table.application_version("a").unwrap()), (3, Some(1)));
    }
}
