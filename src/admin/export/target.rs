//! Where exported bytes go: files that get their names when they are complete, or one stream.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::ExportError;
use crate::types::TableName;

/// Where to export to.
pub enum Target {
    /// A file, and for each further schema another one beside it: `rows.parquet`, `rows.schema-2.parquet`. With logs of several
    /// tables each table has its own, `rows.main.default.events.parquet`.
    File(PathBuf),
    /// One stream, the standard output as a rule.
    Stream(Box<dyn Write + Send>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::File(path) => f.debug_tuple("File").field(path).finish(),
            Target::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl Target {
    /// Whether it can be written to with rows of these tables, asked before the logs are read.
    pub(super) fn check(
        &self,
        force: bool,
        tables: &BTreeSet<Option<&TableName>>,
    ) -> Result<(), ExportError> {
        let is_by_table = tables.len() > 1;
        let Target::File(path) = self else {
            let tables = tables.iter().map(|table| text_of(*table)).collect();
            return if is_by_table { Err(ExportError::SeveralTables { tables }) } else { Ok(()) };
        };
        if path.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(ExportError::Io { action: "write into", path: path.clone(), source });
        }
        match path.symlink_metadata() {
            Ok(_) if !force && !is_by_table => Err(ExportError::Exists { path: path.clone() }),
            _ => Ok(()),
        }
    }
}

/// A table in the name of a file, and in a message.
fn text_of(table: Option<&TableName>) -> String {
    table.map_or_else(|| "unknown-table".to_owned(), ToString::to_string)
}

/// What a writer writes into.
pub(super) struct Sink {
    into: Held,
    failure: Failure,
}

enum Held {
    File(Box<BufWriter<NamedTempFile>>),
    Stream(Shared),
}

/// What the file system, or whoever reads, said last when bytes could not be written.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps one and hands one on: errors cannot be copied.
    fn keep(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        let copy = match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(kind, error.to_string()),
        };
        // Whoever writes tries again then.
        if kind != io::ErrorKind::Interrupted {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        }
        error
    }
}

/// One stream for several writers, each of which writes whole lines.
#[derive(Clone)]
pub(super) struct Shared {
    stream: Arc<Mutex<Box<dyn Write + Send>>>,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.into {
            Held::File(file) => file.write(bytes),
            Held::Stream(shared) => shared.write(bytes),
        };
        written.map_err(|error| self.failure.keep(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = match &mut self.into {
            Held::File(file) => file.flush(),
            Held::Stream(shared) => shared.stream.lock().unwrap_or_else(PoisonError::into_inner).flush(),
        };
        flushed.map_err(|error| self.failure.keep(error))
    }
}

impl Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }
}

impl Sink {
    fn new(into: Held) -> Sink {
        Sink { into, failure: Failure::default() }
    }

    /// Where to look for what went wrong while somebody else has it.
    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    /// Makes the bytes durable, and says how many there are.
    pub(super) fn complete(&mut self) -> Result<u64, ExportError> {
        let flushed = self.flush();
        match &self.into {
            Held::File(file) => {
                let file = file.get_ref();
                let complete = || {
                    flushed?;
                    file.as_file().sync_all()?;
                    Ok(file.as_file().metadata()?.len())
                };
                complete().map_err(ExportError::io("sync", file.path()))
            }
            Held::Stream(shared) => {
                flushed.map_err(ExportError::io("write", Path::new("-")))?;
                Ok(shared.bytes)
            }
        }
    }
}

/// Where the files of one export are made.
pub(super) struct Place {
    target: Made,
    force: bool,
    /// Whether names say the table.
    is_by_table: bool,
}

enum Made {
    Beside(PathBuf),
    Stream(Arc<Mutex<Box<dyn Write + Send>>>),
}

impl Place {
    pub(super) fn new(target: Target, force: bool, is_by_table: bool) -> Place {
        let target = match target {
            Target::File(path) => Made::Beside(path),
            Target::Stream(stream) => Made::Stream(Arc::new(Mutex::new(stream))),
        };
        Place { target, force, is_by_table }
    }

    /// Whether there is room for one schema only.
    pub(super) fn is_single(&self) -> bool {
        matches!(self.target, Made::Stream(_))
    }

    /// A place for the bytes of the schema of the table with this number, from 0, and the name that they will have.
    pub(super) fn begin(
        &self,
        table: Option<&TableName>,
        number: usize,
    ) -> Result<(Sink, PathBuf), ExportError> {
        match &self.target {
            Made::Stream(stream) => {
                let shared = Shared { stream: Arc::clone(stream), bytes: 0 };
                Ok((Sink::new(Held::Stream(shared)), PathBuf::from("-")))
            }
            Made::Beside(path) => {
                let path = name_of(path, self.is_by_table.then(|| text_of(table)), number);
                if !self.force && path.symlink_metadata().is_ok() {
                    return Err(ExportError::Exists { path });
                }
                let directory = directory_of(&path);
                let mut made = tempfile::Builder::new();
                made.prefix(".zerobus-export-");
                // Who may read it is for the umask to say, as with any file that a command writes.
                #[cfg(unix)]
                made.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
                let file =
                    made.tempfile_in(directory).map_err(ExportError::io("create a file in", directory))?;
                Ok((Sink::new(Held::File(Box::new(BufWriter::new(file)))), path))
            }
        }
    }

    /// Gives a complete file its name.
    pub(super) fn name(&mut self, sink: Sink, path: &Path) -> Result<(), ExportError> {
        let Held::File(file) = sink.into else { return Ok(()) };
        let (file, _) = file.into_parts();
        let named = if self.force { file.persist(path) } else { file.persist_noclobber(path) };
        match named {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ExportError::Exists { path: path.to_owned() })
            }
            Err(error) => Err(ExportError::io("rename", path)(error.error)),
        }
    }

    /// Makes the names durable.
    pub(super) fn sync(&self) -> Result<(), ExportError> {
        let Made::Beside(path) = &self.target else { return Ok(()) };
        let directory = directory_of(path);
        File::open(directory).and_then(|it| it.sync_all()).map_err(ExportError::io("sync", directory))
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The first has the name that was given, and the table if there are several; the second of `rows.parquet` is
/// `rows.schema-2.parquet`.
fn name_of(path: &Path, table: Option<String>, number: usize) -> PathBuf {
    if table.is_none() && number == 0 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    if let Some(table) = table {
        name.push(format!(".{table}"));
    }
    if number > 0 {
        name.push(format!(".schema-{}", number + 1));
    }
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_schema_has_a_name_that_says_which_one_it_is() {
        let names =
            |path: &str| [0, 1, 2].map(|number| name_of(Path::new(path), None, number).display().to_string());
        assert_eq!(
            names("a/rows.parquet"),
            ["a/rows.parquet", "a/rows.schema-2.parquet", "a/rows.schema-3.parquet"]
        );
        assert_eq!(names("rows"), ["rows", "rows.schema-2", "rows.schema-3"]);
        let of_table = |number| name_of(Path::new("a/rows.csv"), Some("a.b.c".to_owned()), number);
        assert_eq!(
            [of_table(0), of_table(1)],
            [PathBuf::from("a/rows.a.b.c.csv"), "a/rows.a.b.c.schema-2.csv".into()]
        );
    }
}
