//! The chosen rows of one log as they come: frames and files in quarantine, merged by their numbers.

use std::fs::File;
use std::io::BufReader;
use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{TimestampMicrosecondType, UInt32Type};
use arrow_array::{RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow_ipc::reader::FileReader;
use arrow_schema::{ArrowError, Schema};
use arrow_select::take::take;

use super::{ChooseError, ChosenLog, Found, KeptRows, Piece, Position, Unreadable};
use crate::admin::select::{RowState, Selection};
use crate::error::chain;
use crate::quarantine::look::KeptFile;
use crate::quarantine::{ADDED_COLUMNS, is_ours, rows_of};
use crate::types::Lsn;
use crate::wal::{Damage, DamageReason, Frame, LogReader, Next, ReadError};

/// The chosen rows of one log, in order.
pub(crate) struct Pieces<'l> {
    log: &'l ChosenLog,
    selection: &'l Selection,
    /// None once the log is read, or if it is not to be.
    reader: Option<LogReader>,
    files: Peekable<std::slice::Iter<'l, KeptFile>>,
    /// The file that is being read, and what a row of it takes.
    reading: Option<(&'l KeptFile, FileReader<BufReader<File>>, usize)>,
    /// Frames that were damaged, the next one last.
    salvaged: Vec<Frame>,
    /// What the log has next.
    ahead: Option<Ahead>,
    after: Option<Position>,
    /// Rows that lie behind, chosen or not.
    passed: u64,
}

enum Ahead {
    Frame(Frame, RowStateOfAll),
    Damaged(Damage),
}

/// Whether each row has the state of its place, or all are damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowStateOfAll {
    ByPlace,
    Damaged,
}

impl Ahead {
    fn lsn(&self) -> Lsn {
        match self {
            Ahead::Frame(frame, _) => frame.lsn,
            Ahead::Damaged(damage) => damage.lsns.as_ref().map_or(Lsn::ZERO, |lsns| *lsns.start()),
        }
    }
}

impl<'l> Pieces<'l> {
    /// Without a reader the log is not read.
    pub(super) fn new(
        log: &'l ChosenLog,
        selection: &'l Selection,
        reader: Option<LogReader>,
        files: &'l [KeptFile],
        after: Option<Position>,
    ) -> Pieces<'l> {
        Pieces {
            log,
            selection,
            reader,
            files: files.iter().peekable(),
            reading: None,
            salvaged: Vec::new(),
            ahead: None,
            after,
            passed: 0,
        }
    }

    /// How many rows lie behind that did not when this was asked last.
    pub(crate) fn take_passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    /// What comes next; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, ChooseError> {
        loop {
            if let Some(found) = self.next_kept()? {
                return Ok(Some(found));
            }
            if self.ahead.is_none() {
                self.ahead = self.read()?;
            }
            let next_file = self.files.peek().map(|file| file.lsn());
            let comes_first = match (&self.ahead, next_file) {
                (None, None) => return Ok(None),
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some(ahead), Some(file)) => file < ahead.lsn(),
            };
            if comes_first {
                if let Some(unreadable) = self.open_file() {
                    return Ok(Some(Found::Unreadable(unreadable)));
                }
                continue;
            }
            let found = match self.ahead.take() {
                Some(Ahead::Frame(frame, state)) => self.of_frame(&frame, state)?,
                Some(Ahead::Damaged(damage)) => self.of_damage(damage)?,
                None => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// What the log has next.
    fn read(&mut self) -> Result<Option<Ahead>, ChooseError> {
        if let Some(frame) = self.salvaged.pop() {
            return Ok(Some(Ahead::Frame(frame, RowStateOfAll::Damaged)));
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let behind = reader.next_lsn().previous();
        let is_over = self.selection.lsns.as_ref().is_some_and(|lsns| !lsns.goes_beyond(behind));
        let next = if is_over { None } else { reader.next()? };
        let ahead = match next {
            Some(Next::Frame(frame)) => {
                self.passed += u64::from(frame.rows);
                Some(Ahead::Frame(frame, RowStateOfAll::ByPlace))
            }
            Some(Next::Damaged(damage)) => Some(Ahead::Damaged(damage)),
            None => {
                self.reader = None;
                None
            }
        };
        Ok(ahead)
    }

    fn of_frame(&self, frame: &Frame, state: RowStateOfAll) -> Result<Option<Found>, ChooseError> {
        let (lsn, selection) = (frame.lsn, self.selection);
        if !selection.has_lsn(lsn) || !selection.has_time(frame.appended_unix_micros) {
            return Ok(None);
        }
        let after = self.after_row(lsn, None);
        let states = match state {
            RowStateOfAll::Damaged => vec![Some(RowState::Damaged); frame.rows as usize],
            RowStateOfAll::ByPlace => self.log.states(lsn, frame.rows),
        };
        let of_row = |(row, state): (u32, Option<RowState>)| Some((row, state?));
        let chosen = (0..frame.rows).zip(states).filter_map(of_row);
        let chosen =
            chosen.filter(|(row, state)| selection.has(*state) && after.is_none_or(|after| *row > after));
        let (rows, states): (Vec<u32>, Vec<RowState>) = chosen.unzip();
        if rows.is_empty() {
            return Ok(None);
        }
        let batch = frame.decode().map_err(|source| ChooseError::Decode { lsn, source })?;
        let rows = UInt32Array::from(rows);
        let batch = match rows.len() == batch.num_rows() {
            true => batch,
            false => rows_of(&batch, &rows).map_err(|source| ChooseError::Take { lsn, source })?,
        };
        let unix_micros = frame.appended_unix_micros;
        let row_bytes = (frame.frame_bytes() / u64::from(frame.rows.max(1))) as usize;
        Ok(Some(Found::Rows(Box::new(Piece {
            lsn,
            batch,
            rows,
            unix_micros,
            row_bytes,
            states,
            kept: None,
        }))))
    }

    /// The row that is behind already in this frame or file, if one is.
    fn after_row(&self, lsn: Lsn, file: Option<&str>) -> Option<u32> {
        let after = self.after.as_ref()?;
        let place = (lsn, file);
        match place.cmp(&(after.lsn, after.file.as_deref())) {
            std::cmp::Ordering::Less => Some(u32::MAX),
            std::cmp::Ordering::Equal => Some(after.row),
            std::cmp::Ordering::Greater => None,
        }
    }

    fn of_damage(&mut self, damage: Damage) -> Result<Option<Found>, ChooseError> {
        let Some(lsns) = damage.lsns.clone() else { return Ok(None) };
        if self.selection.has(RowState::Damaged)
            && damage.reason == DamageReason::Body
            && let Some(reader) = &mut self.reader
        {
            let read = |source| ReadError { action: "read", path: damage.segment.clone(), source };
            let mut salvaged = reader.salvage(&damage).map_err(read)?;
            if !salvaged.is_empty() {
                salvaged.reverse();
                self.salvaged = salvaged;
                return Ok(None);
            }
        }
        let is_freed = damage.reason == DamageReason::Missing && *lsns.end() <= self.log.settled();
        let is_passed = |lsn: Lsn| self.after.as_ref().is_some_and(|after| lsn <= after.lsn);
        let asked = match &self.selection.lsns {
            Some(asked) => asked.within(&lsns).into_iter().next(),
            // Whoever wants what waits does not miss what was delivered, and whoever wants damage knows of some.
            None if is_freed && !self.selection.has(RowState::Delivered) => None,
            None => Some(lsns),
        };
        let Some(asked) = asked.filter(|asked| !is_passed(*asked.end())) else { return Ok(None) };
        Ok(Some(Found::Unreadable(self.unreadable(&asked, is_freed, &damage))))
    }

    fn unreadable(&self, lsns: &RangeInclusive<Lsn>, is_freed: bool, damage: &Damage) -> Unreadable {
        let reason = match is_freed {
            true => "they were settled and are freed; retain_delivered_secs or retain_delivered_bytes of the program would \
                     have kept them"
                .to_owned(),
            false => damage.to_string(),
        };
        Unreadable {
            directory: self.log.directory.clone(),
            first_lsn: *lsns.start(),
            last_lsn: *lsns.end(),
            is_freed,
            reason,
        }
    }

    /// Opens the next file in quarantine, if it is one that is meant. Says so if it cannot be read.
    fn open_file(&mut self) -> Option<Unreadable> {
        let file = self.files.next()?;
        let name = file_name(file);
        if !self.selection.has_lsn(file.lsn()) || self.after_row(file.lsn(), Some(&name)) == Some(u32::MAX) {
            return None;
        }
        let opened = || {
            let told = file.told(self.log.env.storage.as_ref(), self.log.epoch());
            let (told, bytes) = told.map_err(|error| chain(&error))?;
            let rows = told.rows.count();
            open_ipc(file.path()).map(|reader| (reader, rows, (bytes / rows.max(1)) as usize))
        };
        match opened() {
            Ok((reader, rows, row_bytes)) => {
                self.passed += rows;
                self.reading = Some((file, reader, row_bytes));
                None
            }
            Err(reason) => Some(self.unreadable_file(file, reason)),
        }
    }

    fn unreadable_file(&self, file: &KeptFile, reason: String) -> Unreadable {
        let (first_lsn, last_lsn) = (file.lsn(), file.lsn());
        Unreadable { directory: self.log.directory.clone(), first_lsn, last_lsn, is_freed: false, reason }
    }

    /// The next rows of the file that is being read.
    fn next_kept(&mut self) -> Result<Option<Found>, ChooseError> {
        while let Some((file, reader, row_bytes)) = &mut self.reading {
            let (file, row_bytes) = (*file, *row_bytes);
            let read = reader.next().map(|read| read.and_then(|batch| split(&batch)));
            let piece = match read {
                None => {
                    self.reading = None;
                    return Ok(None);
                }
                Some(Ok(kept)) => self.of_kept(file, kept, row_bytes),
                Some(Err(error)) => {
                    let reason = format!("{} cannot be read: {error}", file.path().display());
                    let unreadable = self.unreadable_file(file, reason);
                    self.reading = None;
                    return Ok(Some(Found::Unreadable(unreadable)));
                }
            };
            let take = |source| ChooseError::Take { lsn: file.lsn(), source };
            if let Some(piece) = piece.map_err(take)? {
                return Ok(Some(Found::Rows(Box::new(piece))));
            }
        }
        Ok(None)
    }

    fn of_kept(&self, file: &KeptFile, kept: Kept, row_bytes: usize) -> Result<Option<Piece>, ArrowError> {
        let name = file_name(file);
        let after = self.after_row(file.lsn(), Some(&name));
        let is_meant = |row: usize| {
            self.selection.has_time(kept.times[row])
                && self.selection.has_reason(kept.codes.value(row))
                && after.is_none_or(|after| kept.rows.value(row) > after)
        };
        let meant = (0..kept.rows.len()).filter(|row| is_meant(*row)).map(|row| row as u32);
        let meant = UInt32Array::from_iter_values(meant);
        if meant.is_empty() {
            return Ok(None);
        }
        Ok(Some(Piece {
            lsn: file.lsn(),
            batch: rows_of(&kept.batch, &meant)?,
            rows: take(&kept.rows, &meant, None)?.as_primitive::<UInt32Type>().clone(),
            unix_micros: kept.times.first().copied().unwrap_or(0),
            row_bytes,
            states: vec![RowState::Quarantined; meant.len()],
            kept: Some(KeptRows {
                file: name,
                reasons: take(&kept.reasons, &meant, None)?.as_string::<i32>().clone(),
                codes: take(&kept.codes, &meant, None)?.as_string::<i32>().clone(),
            }),
        }))
    }
}

pub(crate) fn file_name(file: &KeptFile) -> String {
    file.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens an Arrow file; Arrow panics over some that make no sense.
pub(crate) fn open_ipc(path: &Path) -> Result<FileReader<BufReader<File>>, String> {
    let file = File::open(path).map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
    let opened = std::panic::catch_unwind(|| FileReader::try_new(BufReader::new(file), None));
    let failed = |reason: &str| format!("{} is no Arrow file that can be read: {reason}", path.display());
    match opened {
        Ok(Ok(reader)) => Ok(reader),
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(_) => Err(failed("arrow cannot make sense of it")),
    }
}

/// Rows in quarantine, and what stands beside them.
pub(crate) struct Kept {
    pub(crate) batch: RecordBatch,
    pub(crate) rows: UInt32Array,
    pub(crate) reasons: StringArray,
    pub(crate) codes: StringArray,
    pub(crate) times: Vec<i64>,
}

/// Takes the columns that were added from those of the caller.
pub(crate) fn split(batch: &RecordBatch) -> Result<Kept, ArrowError> {
    let odd = || ArrowError::SchemaError("it has not the columns of a file in quarantine".to_owned());
    let own = batch.num_columns().checked_sub(ADDED_COLUMNS).ok_or_else(odd)?;
    let added = &batch.columns()[own..];
    let [_, rows, reasons, codes, times] = added else { return Err(odd()) };
    let rows = rows.as_primitive_opt::<UInt32Type>().ok_or_else(odd)?.clone();
    let reasons = reasons.as_string_opt::<i32>().ok_or_else(odd)?.clone();
    let codes = codes.as_string_opt::<i32>().ok_or_else(odd)?.clone();
    let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(odd)?.values().to_vec();
    let schema = batch.schema();
    let mut metadata = schema.metadata().clone();
    metadata.retain(|key, _| !is_ours(key));
    let fields: Vec<_> = schema.fields().iter().take(own).cloned().collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Arc::new(Schema::new(fields).with_metadata(metadata));
    let batch = RecordBatch::try_new_with_options(schema, batch.columns()[..own].to_vec(), &options)?;
    Ok(Kept { batch, rows, reasons, codes, times })
}
