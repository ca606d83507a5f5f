//! The run of a replay: rows from the logs into the log of its own, and from there to the table.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::pace::Pace;
use super::record::{FILE, Finished, Noted, Record};
use super::{ReplayError, ReplayOptions};
use crate::admin::chosen::{ChosenLog, Found, LogsError, Piece, Position, Unreadable};
use crate::admin::progress::Progress;
use crate::config::{OnFull, Validate, WaitFor, WrapperConfiguration};
use crate::deaths::{Death, reached};
use crate::io::Env;
use crate::types::Epoch;
use crate::wal::{self, Destination, LOCK_FILE, LogDirectory};
use crate::wrapper::{DeliveryError, OpenError, ZerobusWrapper};

/// A note is made durable for so many batches together, or so many bytes.
const GROUP_PIECES: usize = 128;
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// How often somebody who waits looks whether he still should.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A replay that is run.
pub(super) struct Run<'r> {
    pub(super) env: &'r Env,
    pub(super) logs: &'r [ChosenLog],
    pub(super) options: &'r ReplayOptions<'r>,
    pub(super) configuration: &'r WrapperConfiguration,
    pub(super) directory: &'r Path,
    pub(super) is_new: bool,
    /// Whether it was done, and rows have come since.
    pub(super) goes_on: bool,
    pub(super) progress: &'r Progress,
    /// Rows of which the progress knows that they are through.
    pub(super) told: Cell<u64>,
}

/// Batches that are appended after one note.
#[derive(Default)]
struct Group {
    pieces: Vec<(Epoch, Piece)>,
    bytes: usize,
}

impl Run<'_> {
    /// Runs it to its end. Returns the record, and how many rows were sent again after they had been sent.
    pub(super) fn run(&self, mut record: Record) -> Result<(Record, u64), ReplayError> {
        let wrapper = ZerobusWrapper::open_in(self.settings(), self.directory)?;
        // Only now it is ours: somebody else may have gone on with it meanwhile.
        match Record::read(self.directory)? {
            Some(known) if known.request == record.request => record = known,
            Some(_) => return Err(self.odd("it is about another replay")),
            None if self.is_new => {}
            None => return Err(self.odd("it is gone")),
        }
        match record.finished {
            // The log of what was done before is gone, if nothing of it was refused.
            Some(finished) if self.goes_on => record.reopen(finished),
            Some(_) => return Err(self.odd("another process has just done this replay")),
            None => {}
        }
        let outcome = self.feed(&wrapper, &mut record).and_then(|()| self.deliver(&wrapper, &record));
        let shut_down = wrapper.runtime().block_on(wrapper.shutdown());
        let after = wrapper.status();
        drop(wrapper);
        if let Err(ReplayError::Gone { .. }) = &outcome {
            self.clear_all()?;
        }
        outcome?;
        shut_down?;
        reached(Death::ReplayDelivered);
        let delivered_rows = record.delivered_before + after.rows.delivered;
        let quarantined_rows = after.rows.quarantined;
        let unix_micros = self.env.clock.unix_micros();
        record.finished = Some(Finished { unix_micros, delivered_rows, quarantined_rows });
        record.write(self.directory)?;
        if quarantined_rows == 0 && after.rows.waiting == 0 {
            clear(self.env, self.directory, &self.configuration.validate()?.destination)?;
        }
        Ok((record, after.lane.map_or(0, |lane| lane.resent_rows)))
    }

    fn settings(&self) -> WrapperConfiguration {
        WrapperConfiguration {
            // What the table does not take goes into quarantine, row by row, as with any other wrapper.
            validate: Validate::Off,
            wait_for: WaitFor::Stored,
            on_full: OnFull::Block,
            block_timeout: None,
            shutdown_timeout: Duration::ZERO,
            wal_dir: Some(self.directory.to_owned()),
            ..self.configuration.clone()
        }
    }

    fn odd(&self, reason: &str) -> ReplayError {
        ReplayError::Record { path: self.directory.join(FILE), reason: reason.to_owned() }
    }

    /// Appends what is chosen and not appended yet.
    fn feed(&self, wrapper: &ZerobusWrapper, record: &mut Record) -> Result<(), ReplayError> {
        record.catch_up(self.directory, wrapper.status().durable_lsn)?;
        let selection = record.selection.clone();
        let mut pace = Pace::new(self.options.rows_per_sec, self.env.clock.monotonic());
        self.progress.set_total(self.logs.iter().map(|log| log.rows_to_read(&selection)).sum());
        let (mut group, mut gone) = (Group::default(), None);
        for log in self.logs {
            let mut pieces = log.pieces(&selection, record.position(log.epoch()));
            while let Some(found) = pieces.next().map_err(LogsError::from)? {
                match found {
                    Found::Unreadable(unreadable) => {
                        record.remember_unreadable(&unreadable);
                        gone.get_or_insert(unreadable);
                    }
                    Found::Rows(piece) => {
                        let chosen = piece.batch.num_rows() as u64;
                        self.progress.add(pieces.take_passed().saturating_sub(chosen));
                        for part in parts(&piece, pace.rows_at_once()) {
                            group.add(log.epoch(), part);
                            if group.is_full() {
                                self.append(wrapper, record, &mut group, &mut pace)?;
                            }
                        }
                    }
                }
                self.tell(wrapper);
                self.check(record)?;
            }
            self.progress.add(pieces.take_passed());
        }
        self.append(wrapper, record, &mut group, &mut pace)?;
        match gone {
            // Whoever asks for frames by number wants to hear that there are none.
            Some(Unreadable { first_lsn: first, last_lsn: last, reason, .. })
                if record.rows == 0 && selection.lsns.is_some() =>
            {
                Err(ReplayError::Gone { first, last, reason })
            }
            _ => Ok(()),
        }
    }

    /// Tells how many rows are through by now, delivered or refused for good.
    fn tell(&self, wrapper: &ZerobusWrapper) {
        let through = wrapper.settled_rows();
        self.progress.add(through.saturating_sub(self.told.replace(through)));
    }

    fn check(&self, record: &Record) -> Result<(), ReplayError> {
        match self.progress.is_stopped() {
            true => {
                Err(ReplayError::Cancelled { rows: record.rows, directory: Some(self.directory.to_owned()) })
            }
            false => Ok(()),
        }
    }

    /// Notes what comes next, durably, and appends it.
    fn append(
        &self,
        wrapper: &ZerobusWrapper,
        record: &mut Record,
        group: &mut Group,
        pace: &mut Pace,
    ) -> Result<(), ReplayError> {
        let Group { pieces, .. } = std::mem::take(group);
        if pieces.is_empty() {
            // What could not be read is to be known after a crash too.
            return record.write(self.directory);
        }
        let after = wrapper.status().durable_lsn;
        record.note(after, pieces.iter().map(|(epoch, piece)| noted(*epoch, piece)).collect());
        record.write(self.directory)?;
        reached(Death::ReplayNoted);
        let runtime = wrapper.runtime();
        let mut last = after;
        let appended = pieces.into_iter().try_for_each(|(_, piece)| {
            let (lsn, rows) = (piece.lsn, piece.batch.num_rows() as u64);
            let wait = pace.wait(rows, self.env.clock.monotonic());
            let sent = runtime.block_on(async {
                if !wait.is_zero() {
                    self.unless_cancelled(tokio::time::sleep(wait), record, wrapper).await?;
                }
                self.unless_cancelled(wrapper.send_batch(piece.batch), record, wrapper).await
            })?;
            let sent = sent.map_err(|source| ReplayError::Store { lsn, source: Box::new(source) })?;
            last = sent.lsn.unwrap_or(last);
            reached(Death::ReplayAppended);
            Ok(())
        });
        match appended {
            Ok(()) => record.catch_up(self.directory, last).map(drop),
            // What was begun is known from the log, by whoever goes on.
            Err(error) => Err(error),
        }
    }

    /// Waits until everything is delivered or refused for good.
    fn deliver(&self, wrapper: &ZerobusWrapper, record: &Record) -> Result<(), ReplayError> {
        let flushed = async {
            loop {
                match wrapper.flush(None).await {
                    // It goes on being tried; what is refused for good is told in the end.
                    Err(DeliveryError::RetryExhausted { .. }) => {}
                    Ok(()) | Err(DeliveryError::Quarantined { .. }) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        let patient = async {
            match self.options.timeout {
                None => flushed.await,
                Some(timeout) => {
                    let waited = tokio::time::timeout(timeout, flushed).await;
                    waited.unwrap_or(Err(DeliveryError::Timeout { timeout }))
                }
            }
        };
        let delivered = wrapper.runtime().block_on(self.unless_cancelled(patient, record, wrapper))?;
        let directory = self.directory.to_owned();
        delivered.map_err(|source| ReplayError::Deliver { rows: record.rows, directory, source })
    }

    /// Waits for something, unless somebody does not want it any more.
    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = T>,
        record: &Record,
        wrapper: &ZerobusWrapper,
    ) -> Result<T, ReplayError> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    self.tell(wrapper);
                    self.check(record)?;
                }
            }
        }
    }

    /// Leaves nothing of a replay that had nothing to send.
    fn clear_all(&self) -> Result<(), ReplayError> {
        let removed = std::fs::remove_dir_all(self.directory);
        removed.map_err(|source| ReplayError::Io {
            action: "remove",
            path: self.directory.to_owned(),
            source,
        })
    }
}

/// Leaves the record of a replay that is done, and nothing else, unless somebody is at it.
pub(super) fn clear(env: &Env, directory: &Path, destination: &Destination) -> Result<(), ReplayError> {
    let io = |source| ReplayError::Io { action: "clear", path: directory.to_owned(), source };
    let names = || -> std::io::Result<Vec<OsString>> {
        std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    };
    if names().map_err(io)?.iter().all(|name| name == FILE) {
        return Ok(());
    }
    let locked = match LogDirectory::open(env, directory, destination) {
        Err(wal::OpenError::Locked { .. }) => return Ok(()),
        locked => locked.map_err(OpenError::from)?,
    };
    if Record::read(directory)?.is_none_or(|record| record.finished.is_none()) {
        return Ok(());
    }
    let mut names = names().map_err(io)?;
    // The lock comes last: until then nobody else makes anything here.
    names.sort_by_key(|name| name == LOCK_FILE);
    for name in names.iter().filter(|name| *name != FILE) {
        let path = directory.join(name);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(io)?;
    }
    drop(locked);
    env.storage.sync_dir(directory).map_err(io)
}

impl Group {
    fn add(&mut self, epoch: Epoch, piece: Piece) {
        self.bytes += piece.row_bytes * piece.batch.num_rows();
        self.pieces.push((epoch, piece));
    }

    fn is_full(&self) -> bool {
        self.pieces.len() >= GROUP_PIECES || self.bytes >= GROUP_BYTES
    }
}

/// The piece in parts: of so many rows at most, and each far from what a segment holds.
fn parts(piece: &Piece, rows_max: usize) -> impl Iterator<Item = Piece> {
    let rows = piece.batch.num_rows();
    let rows_max = rows_max.min((GROUP_BYTES / piece.row_bytes.max(1)).max(1));
    (0..rows).step_by(rows_max).map(move |start| piece.part(start, rows_max))
}

fn noted(epoch: Epoch, piece: &Piece) -> Noted {
    let row = piece.rows.values().last().copied().unwrap_or(0);
    let file = piece.kept.as_ref().map(|kept| kept.file.clone());
    let position = Position { lsn: piece.lsn, file, row };
    Noted { epoch, position, rows: piece.batch.num_rows() as u64, counts: piece.counts() }
}
