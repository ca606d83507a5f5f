//! What a replay knows of itself: a file that says how far it is, and survives every crash.
//!
//! Before rows are appended to the replay's own log, the record says which, and after which number of that log. After a
//! crash the last number of the log says how many of them were appended, so none is appended twice and none is left out:
//!
//! ```text
//!  record: after LSN 7 come A, B, C      log ends with 7   nothing of it was appended
//!                                        log ends with 9   A and B were, C is next
//! ```

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ReplayError;
use crate::admin::chosen::{Position, Unreadable};
use crate::admin::select::{RowState, Selection};
use crate::platform::files::open_regular;
use crate::types::{Epoch, Lsn, TableName};

/// Name of the file in the replay's directory.
pub(super) const FILE: &str = "replay.json";
const FORMAT: u32 = 1;
/// So many stretches that cannot be read are remembered; the others are told while they are met.
const UNREADABLE_MAX: usize = 1_000;

/// What somebody asked for: two replays with the same one are the same replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Where the logs are.
    pub(super) root: PathBuf,
    /// As it was given, so that `2h` stays `2h`.
    pub(super) selection: Selection,
    pub(super) table: TableName,
    pub(super) endpoint: String,
}

impl Request {
    /// A number that stands for it.
    pub(super) fn hash(&self) -> u64 {
        let text = serde_json::to_vec(self).unwrap_or_default();
        // FNV-1a; the record itself is compared too.
        text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    pub(super) request: Request,
    /// With times of day in place of how long ago.
    pub(super) selection: Selection,
    pub(super) started_unix_micros: i64,
    /// How far each log was taken.
    positions: BTreeMap<String, Position>,
    /// What is appended next.
    pending: Option<Pending>,
    /// Rows that were appended.
    pub(super) rows: u64,
    pub(super) rows_by_state: BTreeMap<RowState, u64>,
    pub(super) unreadable: Vec<Unreadable>,
    /// Rows that were delivered from logs of this replay that are gone.
    pub(super) delivered_before: u64,
    pub(super) finished: Option<Finished>,
}

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) unix_micros: i64,
    pub(super) delivered_rows: u64,
    pub(super) quarantined_rows: u64,
}

impl Finished {
    /// Whether nothing was refused, so that the record is all that is kept.
    pub(super) fn is_clean(self) -> bool {
        self.quarantined_rows == 0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    /// The last frame of the replay's log before them.
    after: Lsn,
    pieces: Vec<Noted>,
}

/// One batch that is appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    pub(super) epoch: Epoch,
    /// Its last row.
    pub(super) position: Position,
    pub(super) rows: u64,
    pub(super) counts: Vec<(RowState, u64)>,
}

impl Record {
    pub(super) fn new(request: Request, selection: Selection, now_unix_micros: i64) -> Record {
        Record {
            format: FORMAT,
            request,
            selection,
            started_unix_micros: now_unix_micros,
            positions: BTreeMap::new(),
            pending: None,
            rows: 0,
            rows_by_state: BTreeMap::new(),
            unreadable: Vec::new(),
            delivered_before: 0,
            finished: None,
        }
    }

    /// Reads the record in a directory; none if there is none.
    pub(super) fn read(directory: &Path) -> Result<Option<Record>, ReplayError> {
        let path = directory.join(FILE);
        let text = match open_regular(&path).and_then(std::io::read_to_string) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| ReplayError::Io { action: "read", path: path.clone(), source })?,
        };
        let odd = |reason: String| ReplayError::Record { path: path.clone(), reason };
        let record: Record = serde_json::from_str(&text).map_err(|error| odd(error.to_string()))?;
        match record.format {
            FORMAT => Ok(Some(record)),
            other => Err(odd(format!("it has format {other}, this program reads {FORMAT}"))),
        }
    }

    /// Makes the record durable: after a crash it is this one, or the one before.
    pub(super) fn write(&self, directory: &Path) -> Result<(), ReplayError> {
        let path = directory.join(FILE);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            serde_json::to_writer(&mut file, self)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            std::fs::File::open(directory)?.sync_all()
        };
        write().map_err(|source| ReplayError::Io { action: "write", path: path.clone(), source })
    }

    /// How far the log of this epoch was taken.
    pub(super) fn position(&self, epoch: Epoch) -> Option<Position> {
        self.positions.get(&epoch.to_string()).cloned()
    }

    /// Goes on, though it was done: rows have come since.
    pub(super) fn reopen(&mut self, finished: Finished) {
        if finished.is_clean() {
            self.delivered_before = finished.delivered_rows;
        }
        self.finished = None;
    }

    /// Notes what is appended next. To be made durable before the first of it is.
    pub(super) fn note(&mut self, after: Lsn, pieces: Vec<Noted>) {
        self.pending = Some(Pending { after, pieces });
    }

    /// Takes in how far the replay's log has come. Returns the rows that were appended and were not known to be.
    pub(super) fn catch_up(&mut self, directory: &Path, last: Lsn) -> Result<u64, ReplayError> {
        let before = self.rows;
        let Some(pending) = self.pending.take() else {
            return match (self.rows, last) {
                (0, last) if last > Lsn::ZERO => Err(odd_end(directory, last, "no row")),
                _ => Ok(0),
            };
        };
        let appended =
            last.get().checked_sub(pending.after.get()).and_then(|count| usize::try_from(count).ok());
        let Some(appended) = appended.filter(|count| *count <= pending.pieces.len()) else {
            let expected =
                format!("{} to {}", pending.after, pending.after.get() + pending.pieces.len() as u64);
            return Err(odd_end(directory, last, &expected));
        };
        for noted in pending.pieces.into_iter().take(appended) {
            self.rows += noted.rows;
            for (state, rows) in noted.counts {
                *self.rows_by_state.entry(state).or_default() += rows;
            }
            self.positions.insert(noted.epoch.to_string(), noted.position);
        }
        Ok(self.rows - before)
    }

    pub(super) fn remember_unreadable(&mut self, unreadable: &Unreadable) {
        if self.unreadable.len() < UNREADABLE_MAX && !self.unreadable.contains(unreadable) {
            self.unreadable.push(unreadable.clone());
        }
    }
}

fn odd_end(directory: &Path, last: Lsn, expected: &str) -> ReplayError {
    ReplayError::Record {
        path: directory.join(FILE),
        reason: format!(
            "the log beside it ends with frame {last}, and by the record it should end with {expected}: somebody else has \
             appended to it, or one of the two was put back from a copy; deliver what is there with zerobus-wal drain {}, and \
             replay the rest with --again",
            directory.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let selection = Selection::of([RowState::Quarantined]);
        let request = Request {
            root: "/wal".into(),
            selection: selection.clone(),
            table: "a.b.c".parse().unwrap(),
            endpoint: "http://127.0.0.1:9".to_owned(),
        };
        Record::new(request, selection, 5)
    }

    fn noted(lsn: u64) -> Noted {
        Noted {
            epoch: Epoch::new(7),
            position: Position { lsn: Lsn::new(lsn), file: None, row: 9 },
            rows: 10,
            counts: vec![(RowState::Quarantined, 10)],
        }
    }

    #[test]
    fn the_end_of_the_log_says_how_many_of_the_noted_batches_were_appended() {
        let directory = tempfile::tempdir().unwrap();
        for appended in 0..=3 {
            let mut record = record();
            record.note(Lsn::new(7), vec![noted(1), noted(4), noted(6)]);
            record.write(directory.path()).unwrap();
            let mut record = Record::read(directory.path()).unwrap().unwrap();
            assert_eq!(record.catch_up(directory.path(), Lsn::new(7 + appended)).unwrap(), 10 * appended);
            let lsn = record.position(Epoch::new(7)).map(|position| position.lsn.get());
            assert_eq!(lsn, [None, Some(1), Some(4), Some(6)][appended as usize]);
            assert_eq!(record.position(Epoch::new(8)), None, "another log");
        }
    }

    #[test]
    fn a_log_that_ends_elsewhere_is_no_reason_to_guess() {
        for last in [6, 11] {
            let mut record = record();
            record.note(Lsn::new(7), vec![noted(1), noted(4), noted(6)]);
            let error = record.catch_up(Path::new("/wal/r"), Lsn::new(last)).unwrap_err();
            assert!(error.to_string().contains("7 to 10"), "{error}");
        }
        assert!(record().catch_up(Path::new("/wal/r"), Lsn::FIRST).is_err(), "a record that was lost");
    }

    #[test]
    fn the_same_request_has_the_same_number_and_another_one_another() {
        let one = record().request;
        assert_eq!(one.hash(), record().request.hash());
        assert_ne!(one.hash(), Request { endpoint: "http://127.0.0.1:8".to_owned(), ..one.clone() }.hash());
        let lsns = Selection { lsns: "5".parse().ok(), ..one.selection.clone() };
        assert_ne!(one.hash(), Request { selection: lsns, ..one.clone() }.hash());
    }
}
