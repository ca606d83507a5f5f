//! The rows that a selection means, read from a log and its quarantine, in order, beside whoever owns them.
//!
//! ```text
//!  frames of the log      1   2 ─ 3 ─────── 5 …      4 is damaged, 1 is gone
//!  files in quarantine            3a  3b        6
//!  what comes out      gone 1, 2, 3, 3a, 3b, damaged 4, 5, 6
//! ```
//!
//! One batch is in memory at a time. Nothing is locked or written.

mod error;
mod pieces;

use std::path::{Path, PathBuf};

use arrow_array::{RecordBatch, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};

pub use error::{ChooseError, LogsError};
pub(crate) use pieces::{Pieces, open_ipc, split};

use super::select::{Lsns, RowState, Selection};
use crate::error::chain;
use crate::io::Env;
use crate::ledger::{self, CachedTable, LedgerRecord, Ranges};
use crate::quarantine::look::{self, KeptFile};
use crate::quarantine::{PutError, Rows};
use crate::types::{Epoch, Lsn};
use crate::wal::{Destination, LogView};

/// Frames that were asked for and are not there to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The writer directory.
    pub directory: PathBuf,
    /// The first of them.
    pub first_lsn: Lsn,
    /// The last of them.
    pub last_lsn: Lsn,
    /// Whether they were freed, because they were settled and nothing retains them; otherwise something is wrong.
    pub is_freed: bool,
    /// What is wrong, or what would have kept them.
    pub reason: String,
}

/// A log and what is known of its rows.
#[derive(Debug)]
pub(crate) struct ChosenLog {
    env: Env,
    pub(crate) directory: PathBuf,
    view: LogView,
    pub(crate) record: LedgerRecord,
    ranges: Ranges,
    pub(crate) table: Option<CachedTable>,
    files: Vec<KeptFile>,
}

/// Rows that stand together.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Their frame.
    pub(crate) lsn: Lsn,
    /// Their columns, as the caller gave them.
    pub(crate) batch: RecordBatch,
    /// Where they stood in the frame, ascending.
    pub(crate) rows: UInt32Array,
    /// When the frame was stored, or they were put into quarantine.
    pub(crate) unix_micros: i64,
    /// What a row takes, about.
    pub(crate) row_bytes: usize,
    /// In which state each of them is.
    pub(crate) states: Vec<RowState>,
    /// The file that they are from, with their reasons and codes.
    pub(crate) kept: Option<KeptRows>,
}

/// What stands beside rows in quarantine.
#[derive(Debug)]
pub(crate) struct KeptRows {
    pub(crate) file: String,
    pub(crate) reasons: StringArray,
    pub(crate) codes: StringArray,
}

impl Piece {
    /// How many of them are in which state.
    pub(crate) fn counts(&self) -> Vec<(RowState, u64)> {
        let mut counts: Vec<(RowState, u64)> = Vec::new();
        for state in &self.states {
            match counts.iter_mut().find(|(counted, _)| counted == state) {
                Some((_, count)) => *count += 1,
                None => counts.push((*state, 1)),
            }
        }
        counts
    }

    /// Rows of it from one on, so many at most.
    pub(crate) fn part(&self, start: usize, limit: usize) -> Piece {
        let rows = limit.min(self.batch.num_rows() - start);
        let kept = self.kept.as_ref().map(|kept| KeptRows {
            file: kept.file.clone(),
            reasons: kept.reasons.slice(start, rows),
            codes: kept.codes.slice(start, rows),
        });
        Piece {
            batch: self.batch.slice(start, rows),
            rows: self.rows.slice(start, rows),
            states: self.states[start..start + rows].to_vec(),
            kept,
            ..*self
        }
    }
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Found {
    Rows(Box<Piece>),
    Unreadable(Unreadable),
}

/// A place among the chosen rows of a log: everything up to this row is behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) lsn: Lsn,
    /// The file in quarantine, or none for the frame itself, which comes first.
    pub(crate) file: Option<String>,
    pub(crate) row: u32,
}

/// What the name of the directory of a replay begins with.
pub(crate) const REPLAY_PREFIX: &str = "replay-";

/// Whether a replay has this directory for itself.
fn is_of_replay(directory: &Path) -> bool {
    directory.file_name().unwrap_or_default().to_string_lossy().starts_with(REPLAY_PREFIX)
}

/// The logs at and below a directory that may hold what is meant. The log of a replay holds rows of other logs once more, so
/// it counts only where it is named itself.
pub(crate) fn logs(env: &Env, root: &Path, selection: &Selection) -> Result<Vec<ChosenLog>, LogsError> {
    let mut logs = Vec::new();
    for directory in super::find_logs(root)? {
        if directory != root && is_of_replay(&directory) {
            continue;
        }
        let log = ChosenLog::open(env, &directory)?;
        let wanted = selection.table.as_ref();
        if wanted.is_none_or(|table| log.destination().is_some_and(|it| it.table == *table)) {
            logs.push(log);
        }
    }
    if logs.is_empty() {
        let table = selection.table.as_ref().map(ToString::to_string);
        return Err(ChooseError::NoLog { root: root.to_owned(), table }.into());
    }
    if let Some(asked) = &selection.lsns
        && asked.is_bounded()
        && logs.iter().all(|log| asked.first() > log.last())
    {
        let held: Vec<String> = logs.iter().map(ChosenLog::held).collect();
        let (root, asked, held) = (root.to_owned(), asked.clone(), held.join(", "));
        return Err(ChooseError::NoFrames { root, asked, held }.into());
    }
    Ok(logs)
}

impl ChosenLog {
    /// Looks at the log in this writer directory.
    pub(crate) fn open(env: &Env, directory: &Path) -> Result<ChosenLog, ChooseError> {
        let log = |source| ChooseError::Log { directory: directory.to_owned(), source };
        let view = LogView::read(env, directory).map_err(log)?;
        let peeked = ledger::peek(directory, view.epoch());
        let ledger = |source| ChooseError::Ledger { directory: directory.to_owned(), source };
        let contents = peeked.map_err(ledger)?;
        let (mut record, ranges) = contents.record.unwrap_or_default();
        if record.settled == ledger::Settled::default() {
            // A ledger that knows nothing may have been lost; what was freed by then was settled.
            record.settled.through = view.first().map_or(view.last(), Lsn::previous);
        }
        // After the ledger: what it has settled and was refused has its file by then.
        let quarantine = |error: PutError| ChooseError::Quarantine {
            directory: directory.to_owned(),
            reason: chain(&error),
        };
        let files = look::files(env, directory).map_err(quarantine)?;
        let directory = directory.to_owned();
        Ok(ChosenLog { env: env.clone(), directory, view, record, ranges, table: contents.table, files })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.view.epoch()
    }

    /// The highest number that a row of it has, in the log or in quarantine.
    fn last(&self) -> Lsn {
        let kept = self.files.iter().map(KeptFile::lsn).max().unwrap_or(Lsn::ZERO);
        self.view.last().max(kept)
    }

    /// Which frames it has, for people.
    fn held(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy();
        match (self.view.first(), self.last()) {
            (Some(first), last) => format!("{name} has {first} to {last}"),
            (None, Lsn::ZERO) => format!("{name} has none"),
            (None, last) => format!("the last one of {name} was {last}"),
        }
    }

    pub(crate) fn destination(&self) -> Option<&Destination> {
        self.view.destination()
    }

    /// Every frame up to here is settled.
    pub(crate) fn settled(&self) -> Lsn {
        self.record.settled.through
    }

    /// The files in quarantine, in order.
    pub(crate) fn files(&self) -> &[KeptFile] {
        &self.files
    }

    /// How many rows are to be looked at, at most, for those who watch.
    pub(crate) fn rows_to_read(&self, selection: &Selection) -> u64 {
        let in_log = match self.reads_log(selection) {
            // Who cannot count reads all the same.
            true => self.view.count_from(self.first_frame(selection)).map_or(0, |count| count.rows),
            false => 0,
        };
        let files = if selection.has(RowState::Quarantined) { self.files.as_slice() } else { &[] };
        let told = files.iter().filter_map(|file| file.told(self.env.storage.as_ref(), self.epoch()).ok());
        in_log + told.map(|(told, _)| told.rows.count()).sum::<u64>()
    }

    fn reads_log(&self, selection: &Selection) -> bool {
        selection.states.iter().any(|state| *state != RowState::Quarantined)
    }

    /// Of what waits and of nothing else, all that is settled can be passed at once.
    fn first_frame(&self, selection: &Selection) -> Lsn {
        let asked = selection.lsns.as_ref().map_or(Lsn::FIRST, Lsns::first);
        let waits = selection.states.iter().all(|it| matches!(it, RowState::Waiting | RowState::Quarantined));
        if waits { asked.max(self.record.settled.through.next()) } else { asked }
    }

    /// The chosen rows behind a position, or all.
    pub(crate) fn pieces<'l>(&'l self, selection: &'l Selection, after: Option<Position>) -> Pieces<'l> {
        let from = self.first_frame(selection).max(after.as_ref().map_or(Lsn::FIRST, |it| it.lsn));
        let reader = self.reads_log(selection).then(|| self.view.reader(from));
        let files = if selection.has(RowState::Quarantined) { self.files.as_slice() } else { &[] };
        Pieces::new(self, selection, reader, files, after)
    }

    /// The rows of a frame that are in quarantine. A file that cannot be read counts for what its name says at least.
    fn kept_rows(&self, lsn: Lsn) -> Rows {
        let first = self.files.partition_point(|file| file.lsn() < lsn);
        let mut rows = Rows::default();
        for file in self.files[first..].iter().take_while(|file| file.lsn() == lsn) {
            if let Ok((told, _)) = file.told(self.env.storage.as_ref(), self.epoch()) {
                rows.merge(&told.rows);
            }
        }
        rows
    }

    /// In which state each row of a frame is; none for one in quarantine, which stands there.
    fn states(&self, lsn: Lsn, rows: u32) -> Vec<Option<RowState>> {
        let settled = self.record.settled;
        let dropped = self.record.dropped.find(lsn);
        let passed = match dropped {
            Some(range) if range.is_whole => RowState::Dropped,
            _ => RowState::Delivered,
        };
        let mut states = vec![Some(RowState::Waiting); rows as usize];
        let mut settle =
            |rows: std::ops::Range<u32>| states[rows.start as usize..rows.end as usize].fill(Some(passed));
        if lsn <= settled.through {
            settle(0..rows);
        } else {
            if lsn == settled.through.next() {
                settle(0..settled.rows_of_next.min(rows));
            }
            self.ranges.rows_of(lsn, rows).into_iter().filter(|run| !run.is_empty()).for_each(settle);
        }
        for run in self.kept_rows(lsn).runs_in(0..rows as usize) {
            states[run].fill(None);
        }
        states
    }
}
