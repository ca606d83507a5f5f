//! One file in quarantine: an Arrow IPC file of refused rows, with the reason in columns of its own.
//!
//! ```text
//!  the columns of the batch, as they were │ _zerobus_lsn  _zerobus_row  _zerobus_reason  _zerobus_code  _zerobus_time
//! ```
//!
//! The metadata of the schema says whose rows these are. What a start needs to know stands in the footer's metadata
//! once more, so that it reads the end of a file and not its rows. The checksums stand where Arrow leaves room, see
//! `checksum`.

use std::collections::HashMap;
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    Array as _, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow_ipc::reader::read_footer_length;
use arrow_ipc::root_as_footer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use arrow_select::concat::concat;
use arrow_select::take::take;

use super::checksum::{Checked, Seal};
use super::error::FileError;
use super::rows::Rows;
use crate::io::{Access, Storage, StorageFile};
use crate::types::{Epoch, Lsn, TableName};
use crate::wal::compact;

/// Version of the layout.
const FORMAT: &str = "1";
const FORMAT_KEY: &str = "zerobus.format";
const TABLE_KEY: &str = "zerobus.table";
const EPOCH_KEY: &str = "zerobus.epoch";
const LSN_KEY: &str = "zerobus.lsn";
const ROWS_KEY: &str = "zerobus.rows";
const REASON_KEY: &str = "zerobus.reason";
/// Says that there are checksums, and of which kind.
const CHECKSUM_KEY: &str = "zerobus.checksum";
const CHECKSUM: &str = "crc32";

const EXTENSION: &str = ".arrow";
/// What is longer is not ours: the numbers of the rows of a file, and its columns twice.
const FOOTER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The marker and the empty length that end the messages of an Arrow file.
const END_OF_MESSAGES: usize = 8;
/// Magic and length at the end of an Arrow file.
const TAIL_BYTES: u64 = 10;
/// A reason is for people; a service that says more has said enough.
const REASON_CHARS_MAX: usize = 1000;
/// Rows that are encoded at once.
const SLICE_ROWS: usize = 8192;
/// Bytes that are handed to the file system at once.
const WRITE_BYTES: usize = 256 * 1024;

/// Why a row is in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The kind of it, for programs: `conversion`, `row_too_large`, `schema`, `transmission`.
    pub(crate) code: &'static str,
    /// What exactly, for people.
    pub(crate) reason: Arc<str>,
}

impl Refusal {
    /// With a text that is shortened if it is long.
    pub(crate) fn new(code: &'static str, reason: &str) -> Refusal {
        let end = reason.char_indices().nth(REASON_CHARS_MAX).map_or(reason.len(), |(end, _)| end);
        Refusal { code, reason: reason[..end].into() }
    }
}

/// Rows of one frame that are to be kept.
#[derive(Clone, Debug)]
pub(crate) struct RefusedRows {
    pub(crate) lsn: Lsn,
    pub(crate) batch: RecordBatch,
    /// Where the rows stand in the batch, ascending; never empty.
    pub(crate) rows: Vec<(u32, Refusal)>,
}

impl RefusedRows {
    pub(super) fn numbers(&self) -> Rows {
        Rows::of(self.rows.iter().map(|(row, _)| *row))
    }

    pub(super) fn first_row(&self) -> u32 {
        self.rows.first().map_or(0, |(row, _)| *row)
    }
}

/// Whose rows they are.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) table: TableName,
    pub(crate) epoch: Epoch,
}

/// What the end of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) lsn: Lsn,
    pub(crate) rows: Rows,
    /// That of the first row.
    pub(crate) reason: String,
    /// Whether it has checksums; files of earlier versions have none.
    pub(crate) has_checksums: bool,
}

/// The name of a file: frame and first row, and a number if another file has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName {
    pub(super) lsn: Lsn,
    pub(super) first_row: u32,
    pub(super) number: u32,
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FileName { lsn, first_row, number } = self;
        match number {
            0 => write!(f, "{:020}-{first_row:010}{EXTENSION}", lsn.get()),
            _ => write!(f, "{:020}-{first_row:010}-{number}{EXTENSION}", lsn.get()),
        }
    }
}

impl FileName {
    /// `None` for a name that no file of ours has.
    pub(super) fn parse(name: &str) -> Option<FileName> {
        let mut parts = name.strip_suffix(EXTENSION)?.splitn(3, '-');
        let lsn = Lsn::new(parts.next()?.parse().ok()?);
        let first_row = parts.next()?.parse().ok()?;
        let number = parts.next().map_or(Some(0), |number| number.parse().ok())?;
        let parsed = FileName { lsn, first_row, number };
        (parsed.to_string() == name).then_some(parsed)
    }
}

/// Writes the rows into a new file, which is durable then under that name, as far as names are.
pub(super) fn write(
    file: &dyn StorageFile,
    refused: &RefusedRows,
    source: &Source,
    unix_micros: i64,
) -> Result<u64, ArrowError> {
    let batch = with_reasons(refused, source, unix_micros)?;
    let mut writer = FileWriter::try_new(Sink::of(file), &batch.schema())?;
    for (key, value) in [
        (FORMAT_KEY, FORMAT.to_owned()),
        (EPOCH_KEY, source.epoch.to_string()),
        (LSN_KEY, refused.lsn.to_string()),
        (ROWS_KEY, refused.numbers().to_string()),
        (REASON_KEY, refused.rows.first().map(|(_, why)| why.reason.to_string()).unwrap_or_default()),
        (CHECKSUM_KEY, CHECKSUM.to_owned()),
    ] {
        writer.write_metadata(key, value);
    }
    // A slice of views would bring along what all of them refer to.
    let has_views = batch.schema().flattened_fields().iter().any(|field| is_view(field.data_type()));
    let slice_rows = if has_views { batch.num_rows() } else { SLICE_ROWS };
    for start in (0..batch.num_rows()).step_by(slice_rows) {
        writer.write(&batch.slice(start, slice_rows.min(batch.num_rows() - start)))?;
    }
    writer.get_mut().begin_end();
    writer.finish()?;
    let mut sink = writer.into_inner()?;
    sink.seal()?;
    file.sync_all()?;
    Ok(sink.offset)
}

fn is_view(data_type: &DataType) -> bool {
    use DataType::{BinaryView, LargeListView, ListView, Utf8View};
    matches!(data_type, BinaryView | LargeListView(_) | ListView(_) | Utf8View)
}

/// The rows as they were, and why they are here.
fn with_reasons(refused: &RefusedRows, source: &Source, unix_micros: i64) -> Result<RecordBatch, ArrowError> {
    let RefusedRows { lsn, batch, rows } = refused;
    let count = rows.len();
    let columns: Vec<ArrayRef> = match count == batch.num_rows() {
        true => batch.columns().to_vec(),
        false => {
            let numbers = UInt32Array::from_iter_values(rows.iter().map(|(row, _)| *row));
            // Views and dictionaries bring along what belongs to other rows.
            compact(&rows_of(batch, &numbers)?)?.columns().to_vec()
        }
    };
    let reasons = StringArray::from_iter_values(rows.iter().map(|(_, why)| why.reason.as_ref()));
    let codes = StringArray::from_iter_values(rows.iter().map(|(_, why)| why.code));
    let times = TimestampMicrosecondArray::from_value(unix_micros, count).with_timezone("UTC");
    let added: [(&str, ArrayRef); 5] = [
        ("_zerobus_lsn", Arc::new(UInt64Array::from_value(lsn.get(), count))),
        ("_zerobus_row", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(row, _)| *row)))),
        ("_zerobus_reason", Arc::new(reasons)),
        ("_zerobus_code", Arc::new(codes)),
        ("_zerobus_time", Arc::new(times)),
    ];
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    let mut columns = columns;
    for (name, column) in added {
        fields.push(Arc::new(Field::new(free_name(&fields, name), type_of(&column), false)));
        columns.push(column);
    }
    let mut metadata: HashMap<String, String> = batch.schema().metadata().clone();
    metadata.extend([
        (FORMAT_KEY.to_owned(), FORMAT.to_owned()),
        (TABLE_KEY.to_owned(), source.table.to_string()),
        (EPOCH_KEY.to_owned(), source.epoch.to_string()),
        (LSN_KEY.to_owned(), lsn.to_string()),
    ]);
    RecordBatch::try_new(Arc::new(Schema::new(fields).with_metadata(metadata)), columns)
}

/// These rows of a batch. They share what views and dictionaries refer to.
pub(crate) fn rows_of(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    let taken = batch.columns().iter().map(|column| {
        // Not every type can be taken from; each can be put together from its rows.
        take(column, rows, None).or_else(|_| {
            let each = rows.values().iter().map(|row| column.slice(*row as usize, 1));
            let each: Vec<ArrayRef> = each.collect();
            concat(&each.iter().map(AsRef::as_ref).collect::<Vec<_>>())
        })
    });
    let taken = taken.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(batch.schema(), taken, &options)
}

/// How many columns stand behind those of the batch: frame, row, reason, code, time.
#[cfg(feature = "cli")]
pub(crate) const ADDED_COLUMNS: usize = 5;

/// The name, or the first with underscores in front that no column has.
pub(crate) fn free_name(fields: &[Arc<Field>], name: &str) -> String {
    let mut name = name.to_owned();
    while fields.iter().any(|field| field.name().eq_ignore_ascii_case(&name)) {
        name.insert(0, '_');
    }
    name
}

/// Whether a key of a schema's metadata is one of those that stand in files of ours.
#[cfg(feature = "cli")]
pub(crate) fn is_ours(key: &str) -> bool {
    [FORMAT_KEY, TABLE_KEY, EPOCH_KEY, LSN_KEY].contains(&key)
}

fn type_of(column: &ArrayRef) -> DataType {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        other => other.clone(),
    }
}

/// What the end of a file says, if it is a file of this log. The end has a checksum of its own, which is compared; the rows
/// are not read.
pub(super) fn read(storage: &dyn Storage, path: &Path, epoch: Epoch) -> Result<(Told, u64), FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let file = storage.open(path, Access::Read).map_err(io)?;
    read_end(&*file, path, epoch).map(|(told, _, length)| (told, length))
}

/// As [`read`], and the whole file is compared with its checksum.
pub(super) fn read_whole(storage: &dyn Storage, path: &Path, epoch: Epoch) -> Result<(Told, u64), FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let file = storage.open(path, Access::Read).map_err(io)?;
    let (told, checked, length) = read_end(&*file, path, epoch)?;
    if let Some(checked) = checked {
        checked.compare_rows(&*file).map_err(io)?.map_err(|reason| not_ours(path, reason))?;
    }
    Ok((told, length))
}

fn not_ours(path: &Path, reason: String) -> FileError {
    FileError::NotOurs { path: path.to_owned(), reason }
}

fn read_end(
    file: &dyn StorageFile,
    path: &Path,
    epoch: Epoch,
) -> Result<(Told, Option<Checked>, u64), FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let not_ours = |reason: String| not_ours(path, reason);
    let length = file.length().map_err(io)?;
    let footer_at = |footer_bytes: u64| {
        let is_possible = footer_bytes <= FOOTER_BYTES_MAX;
        length.checked_sub(TAIL_BYTES + footer_bytes).filter(|_| is_possible)
    };
    let mut tail = [0; TAIL_BYTES as usize];
    let tail_at = footer_at(0).ok_or_else(|| not_ours(format!("it has {length} bytes")))?;
    file.read_at(&mut tail, tail_at).map_err(io)?;
    let footer_bytes = read_footer_length(tail).map_err(|error| not_ours(error.to_string()))?;
    let footer_at =
        footer_at(footer_bytes as u64).ok_or_else(|| not_ours("its end is cut off".to_owned()))?;
    let mut end = vec![0; footer_bytes + tail.len()];
    file.read_at(&mut end, footer_at).map_err(io)?;
    // Before the footer is looked into: what is not whole is not worth that.
    let checked = Checked::read(file, footer_at, &end).map_err(io)?.map_err(not_ours)?;
    let told = told(&end[..footer_bytes], epoch).map_err(not_ours)?;
    if told.has_checksums && checked.is_none() {
        return Err(not_ours("its checksums are not there".to_owned()));
    }
    Ok((told, checked, length))
}

fn told(footer: &[u8], epoch: Epoch) -> Result<Told, String> {
    let footer = root_as_footer(footer).map_err(|error| error.to_string())?;
    let metadata = footer.custom_metadata().ok_or("it says nothing about its rows")?;
    let value = |wanted: &str| {
        let pair = metadata.iter().find(|pair| pair.key() == Some(wanted));
        pair.and_then(|pair| pair.value())
    };
    let of = |wanted: &str| value(wanted).ok_or_else(|| format!("it has no {wanted}"));
    match of(FORMAT_KEY)? {
        FORMAT => {}
        other => return Err(format!("it has format {other:.20}, this program reads {FORMAT}")),
    }
    if of(EPOCH_KEY)? != epoch.to_string() {
        return Err("it is from a log that was here before".to_owned());
    }
    let lsn = of(LSN_KEY)?.parse().map(Lsn::new).map_err(|_| format!("its {LSN_KEY} is no number"))?;
    Ok(Told {
        lsn,
        rows: of(ROWS_KEY)?.parse()?,
        reason: of(REASON_KEY)?.to_owned(),
        has_checksums: value(CHECKSUM_KEY).is_some(),
    })
}

/// Writes from the beginning of a file on, in large pieces, with the checksums before its footer.
struct Sink<'f> {
    file: &'f dyn StorageFile,
    buffer: Vec<u8>,
    offset: u64,
    rows: crc32fast::Hasher,
    /// What Arrow writes last, from the end of its messages on.
    end: Option<Vec<u8>>,
}

impl Sink<'_> {
    fn of(file: &dyn StorageFile) -> Sink<'_> {
        Sink { file, buffer: Vec::new(), offset: 0, rows: crc32fast::Hasher::new(), end: None }
    }

    /// From here on Arrow writes the mark of the end of the messages and the footer.
    fn begin_end(&mut self) {
        self.end = Some(Vec::new());
    }

    /// Writes what is held back, with the checksums where Arrow leaves room for them.
    fn seal(&mut self) -> io::Result<()> {
        let end = self.end.take().unwrap_or_default();
        let (end_of_messages, footer) = end.split_at(END_OF_MESSAGES.min(end.len()));
        self.put(end_of_messages)?;
        let seal = Seal::of(self.rows.clone().finalize(), footer);
        self.put(&seal.encode())?;
        self.put(footer)?;
        self.hand_over()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rows.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(&mut [IoSlice::new(&self.buffer)], self.offset)?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.end {
            Some(end) => end.extend_from_slice(bytes),
            None => self.put(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}
