//! Writing stored rows into files that others read: Parquet, Arrow, CSV, JSON Lines.
//!
//! Rows are read and written a batch at a time, so memory is bounded whatever the size of the log. A file has its name
//! only once it is complete and durable. Batches of different tables or schemas go into files of their own.

mod columns;
mod format;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use serde::{Deserialize, Serialize};

use format::Writer;
pub use format::{Format, UnknownFormat};
pub use target::Target;
use target::{Failure, Place};

use super::chosen::{self, ChooseError, ChosenLog, Found, LogsError, Piece, Unreadable};
use super::progress::Progress;
use super::select::{RowState, Selection, SelectionError};
use crate::error::{Coded, ErrorCode};
use crate::io::Env;
use crate::types::{Lsn, TableName};

/// Version of [`ExportReport`] as JSON.
pub const EXPORT_VERSION: u32 = 1;
/// A log with batches of more schemas than this is exported in parts.
pub const SCHEMAS_MAX: usize = 100;
/// What writers keep in memory together before the largest of them has to write.
const BUFFERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What to export, and how.
#[derive(Debug)]
pub struct ExportOptions {
    /// A writer directory, or a directory with logs below it.
    pub root: PathBuf,
    /// The rows.
    pub selection: Selection,
    /// As what.
    pub format: Format,
    /// Where to.
    pub target: Target,
    /// Whether a file that is there may be replaced.
    pub force: bool,
    /// Whether each row says where it stood.
    pub with_position: bool,
}

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReport {
    /// [`EXPORT_VERSION`].
    pub version: u32,
    /// The files, one for each table and schema, in the order in which these came.
    pub files: Vec<ExportedFile>,
    /// Rows in all of them.
    pub rows: u64,
    /// The same rows by state.
    pub rows_by_state: BTreeMap<RowState, u64>,
    /// What was asked for and is not there to be read.
    pub unreadable: Vec<Unreadable>,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedFile {
    /// The table whose rows it holds; `None` if their log has lost its identity.
    pub table: Option<TableName>,
    /// Where; `-` is the standard output.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The first frame of which it has rows.
    pub first_lsn: Lsn,
    /// The last frame of which it has rows; of several logs, that of the last one.
    pub last_lsn: Lsn,
    /// Its columns, each as `name: type`.
    pub columns: Vec<String>,
}

/// Why nothing, or not everything, was exported. Files that were not complete are gone; those that are named stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// What was chosen means nothing.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The logs cannot be read.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// A log cannot be read on.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// A file would be replaced.
    #[error("{path} is there already; give another --output, or --force to replace it", path = .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Whoever reads the standard output has gone.
    #[error("nobody reads the output any more")]
    ReaderGone,
    /// The format has nothing for a column.
    #[error(
        "column {column:?} of the type {data_type} cannot stand in a file of the format {format}; {what_to_do}"
    )]
    Column {
        /// Its name.
        column: String,
        /// Its type.
        data_type: String,
        /// The format.
        format: Format,
        /// What can be done.
        what_to_do: &'static str,
    },
    /// The format cannot be written.
    #[error("rows of frame {lsn} cannot be written as {format}: {reason}")]
    Write {
        /// The frame.
        lsn: Lsn,
        /// The format.
        format: Format,
        /// Why not.
        reason: String,
    },
    /// There is one output and several schemas.
    #[error(
        "frame {lsn} has another schema than the frames before it, and one {format} output holds one schema; give a file \
         with --output, then each schema gets a file of its own, or --to jsonl"
    )]
    OtherSchema {
        /// The first frame with another schema.
        lsn: Lsn,
        /// The format.
        format: Format,
    },
    /// There is one output and several tables.
    #[error(
        "the logs are of the tables {}, and one output holds the rows of one; give --table, or a file with --output, then \
         each table gets a file of its own", .tables.join(", ")
    )]
    SeveralTables {
        /// The tables.
        tables: Vec<String>,
    },
    /// More schemas than files are written at a time.
    #[error(
        "the chosen frames have more than {SCHEMAS_MAX} schemas, frame {lsn} has one more; export them in parts, with --table \
         or --lsn"
    )]
    TooManySchemas {
        /// The frame with one too many.
        lsn: Lsn,
    },
    /// It was stopped.
    #[error("interrupted after {rows} rows; no file was written")]
    Cancelled {
        /// How far it was.
        rows: u64,
    },
}

impl Coded for ExportError {
    fn code(&self) -> ErrorCode {
        match self {
            ExportError::Selection(error) => error.code(),
            ExportError::Logs(error) => error.code(),
            ExportError::Choose(error) => error.code(),
            ExportError::Exists { .. }
            | ExportError::OtherSchema { .. }
            | ExportError::SeveralTables { .. }
            | ExportError::TooManySchemas { .. } => ErrorCode::Configuration,
            ExportError::Io { .. } | ExportError::ReaderGone => ErrorCode::Storage,
            ExportError::Column { .. } | ExportError::Write { .. } => ErrorCode::Conversion,
            ExportError::Cancelled { .. } => ErrorCode::Closed,
        }
    }

    fn lsn(&self) -> Option<Lsn> {
        match self {
            ExportError::Write { lsn, .. }
            | ExportError::OtherSchema { lsn, .. }
            | ExportError::TooManySchemas { lsn } => Some(*lsn),
            ExportError::Choose(error) => error.lsn(),
            _ => None,
        }
    }
}

impl ExportError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ExportError {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::BrokenPipe => ExportError::ReaderGone,
            _ => ExportError::Io { action, path, source },
        }
    }
}

/// Writes the chosen rows. Takes no lock and changes no log. Progress is in rows that lie behind, chosen or not.
///
/// Without a row there is no schema, so no file is written either.
///
/// # Errors
///
/// [`ExportError`]; then no file has got its name, but for those whose naming was not what failed.
///
/// # Durability
///
/// When this returns, the files are there after a power cut.
pub fn export(options: ExportOptions, progress: &Progress) -> Result<ExportReport, ExportError> {
    let env = Env::os();
    let selection = options.selection.resolved(env.clock.unix_micros())?;
    let logs = chosen::logs(&env, &options.root, &selection)?;
    let tables: BTreeSet<Option<&TableName>> = logs.iter().map(table_of).collect();
    options.target.check(options.force, &tables)?;
    let is_by_table = tables.len() > 1;
    progress.set_total(logs.iter().map(|log| log.rows_to_read(&selection)).sum());
    let added = columns::Added {
        with_position: options.with_position,
        with_reason: selection.has(RowState::Quarantined),
    };
    let place = Place::new(options.target, options.force, is_by_table);
    let mut files = Files { format: options.format, place, open: Vec::new() };
    let mut report = ExportReport { version: EXPORT_VERSION, ..ExportReport::default() };
    for log in &logs {
        let mut pieces = log.pieces(&selection, None);
        while let Some(found) = pieces.next()? {
            match found {
                Found::Rows(piece) => {
                    report.rows += piece.batch.num_rows() as u64;
                    for (state, rows) in piece.counts() {
                        *report.rows_by_state.entry(state).or_default() += rows;
                    }
                    files.write(table_of(log), &piece, added)?;
                }
                Found::Unreadable(unreadable) => report.unreadable.push(unreadable),
            }
            progress.add(pieces.take_passed());
            if progress.is_stopped() {
                return Err(ExportError::Cancelled { rows: report.rows });
            }
        }
        progress.add(pieces.take_passed());
    }
    report.files = files.finish()?;
    Ok(report)
}

fn table_of(log: &ChosenLog) -> Option<&TableName> {
    log.destination().map(|destination| &destination.table)
}

/// Rows in quarantine with where they stood and why they are there.
pub(super) fn positions(batch: RecordBatch, piece: &Piece) -> Result<RecordBatch, ArrowError> {
    columns::with_position(batch, piece, columns::Added { with_position: true, with_reason: true })
}

/// The files that are being written, one for each table and schema.
struct Files {
    format: Format,
    place: Place,
    open: Vec<OpenFile>,
}

struct OpenFile {
    /// The schema of the batches as the log has it, which tells files of a table apart.
    schema: SchemaRef,
    writer: Writer,
    failure: Failure,
    told: ExportedFile,
}

impl Files {
    fn write(
        &mut self,
        table: Option<&TableName>,
        piece: &Piece,
        added: columns::Added,
    ) -> Result<(), ExportError> {
        let (lsn, format) = (piece.lsn, self.format);
        let failed = |error: ArrowError| ExportError::of_rows(error, lsn, format);
        let batch = columns::plain(&piece.batch, format).map_err(failed)?;
        let batch = columns::with_position(batch, piece, added).map_err(failed)?;
        let schema = batch.schema();
        let is_same =
            |open: &OpenFile| open.told.table.as_ref() == table && open.schema.fields() == schema.fields();
        let found = self.open.iter().position(is_same);
        let at = match found {
            Some(at) => at,
            None => self.begin(table, schema, lsn)?,
        };
        let open = &mut self.open[at];
        open.writer
            .write(&batch)
            .map_err(|error| open.failure.of_write(error, &open.told.path, lsn, format))?;
        open.told.rows += batch.num_rows() as u64;
        open.told.last_lsn = lsn;
        let buffered: usize = self.open.iter().map(|open| open.writer.buffered_bytes()).sum();
        if buffered > BUFFERED_BYTES_MAX
            && let Some(largest) = self.open.iter_mut().max_by_key(|open| open.writer.buffered_bytes())
        {
            let OpenFile { writer, failure, told, .. } = largest;
            writer.flush().map_err(|error| failure.of_write(error, &told.path, lsn, format))?;
        }
        Ok(())
    }

    /// Begins the file of another table or schema.
    fn begin(
        &mut self,
        table: Option<&TableName>,
        schema: SchemaRef,
        lsn: Lsn,
    ) -> Result<usize, ExportError> {
        let format = self.format;
        columns::check(&schema, format)?;
        if self.open.len() == SCHEMAS_MAX {
            return Err(ExportError::TooManySchemas { lsn });
        }
        if !self.open.is_empty() && self.place.is_single() && format != Format::Jsonl {
            return Err(ExportError::OtherSchema { lsn, format });
        }
        let number = self.open.iter().filter(|open| open.told.table.as_ref() == table).count();
        let (sink, path) = self.place.begin(table, number)?;
        let failure = sink.failure();
        let writer = Writer::new(format, sink, &schema)
            .map_err(|error| failure.of_write(error, &path, lsn, format))?;
        let columns = schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type()));
        let told = ExportedFile {
            table: table.cloned(),
            path,
            rows: 0,
            bytes: 0,
            first_lsn: lsn,
            last_lsn: lsn,
            columns: columns.collect(),
        };
        self.open.push(OpenFile { schema, writer, failure, told });
        Ok(self.open.len() - 1)
    }

    /// Completes all files, and only then names the first.
    fn finish(self) -> Result<Vec<ExportedFile>, ExportError> {
        let (format, mut place) = (self.format, self.place);
        let mut complete = Vec::new();
        for OpenFile { writer, failure, mut told, .. } in self.open {
            let failed = |error| failure.of_write(error, &told.path, told.last_lsn, format);
            let mut sink = writer.finish().map_err(failed)?;
            told.bytes = sink.complete()?;
            complete.push((sink, told));
        }
        let mut files = Vec::new();
        for (sink, told) in complete {
            place.name(sink, &told.path)?;
            files.push(told);
        }
        place.sync()?;
        Ok(files)
    }
}

impl ExportError {
    fn of_rows(error: ArrowError, lsn: Lsn, format: Format) -> ExportError {
        ExportError::Write { lsn, format, reason: error.to_string() }
    }
}

impl Failure {
    /// Why a writer failed: because of what it wrote into, or of what it was to write. The libraries tell the first only as a
    /// text, so the place itself is asked.
    fn of_write(&self, error: ArrowError, path: &Path, lsn: Lsn, format: Format) -> ExportError {
        match self.take() {
            Some(source) => ExportError::io("write", path)(source),
            None => ExportError::of_rows(error, lsn, format),
        }
    }
}
