//! Where exported bytes go: files that get their names when they are complete, or one stream.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::ExportError;

/// Where to export to.
pub enum Target {
    /// A file, and for each further schema another one beside it: `rows.parquet`, `rows.schema-2.parquet`.
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
    /// Whether it can be written to, asked before the log is read.
    pub(super) fn check(&self, force: bool) -> Result<(), ExportError> {
        let Target::File(path) = self else { return Ok(()) };
        if path.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(ExportError::Io { action: "write into", path: path.clone(), source });
        }
        match path.symlink_metadata() {
            Ok(_) if !force => Err(ExportError::Exists { path: path.clone() }),
            _ => Ok(()),
        }
    }
}

/// What a writer writes into.
pub(super) enum Sink {
    File(Box<BufWriter<NamedTempFile>>),
    Stream(Shared),
}

/// One stream for several writers, each of which writes whole lines.
#[derive(Clone)]
pub(super) struct Shared {
    stream: Arc<Mutex<Box<dyn Write + Send>>>,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File(file) => file.write(bytes),
            Sink::Stream(shared) => {
                let written = shared.stream.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)?;
                shared.bytes += written as u64;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::File(file) => file.flush(),
            Sink::Stream(shared) => shared.stream.lock().unwrap_or_else(PoisonError::into_inner).flush(),
        }
    }
}

impl Sink {
    /// Makes the bytes durable, and says how many there are.
    pub(super) fn complete(&mut self) -> Result<u64, ExportError> {
        let flushed = self.flush();
        match self {
            Sink::File(file) => {
                let file = file.get_ref();
                let complete = || {
                    flushed?;
                    file.as_file().sync_all()?;
                    Ok(file.as_file().metadata()?.len())
                };
                complete().map_err(ExportError::io("sync", file.path()))
            }
            Sink::Stream(shared) => {
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
}

enum Made {
    Beside(PathBuf),
    Stream(Arc<Mutex<Box<dyn Write + Send>>>),
}

impl Place {
    pub(super) fn new(target: Target, force: bool) -> Place {
        let target = match target {
            Target::File(path) => Made::Beside(path),
            Target::Stream(stream) => Made::Stream(Arc::new(Mutex::new(stream))),
        };
        Place { target, force }
    }

    /// Whether there is room for one schema only.
    pub(super) fn is_single(&self) -> bool {
        matches!(self.target, Made::Stream(_))
    }

    /// A place for the bytes of the schema with this number, from 0, and the name that they will have.
    pub(super) fn begin(&self, number: usize) -> Result<(Sink, PathBuf), ExportError> {
        match &self.target {
            Made::Stream(stream) => {
                Ok((Sink::Stream(Shared { stream: Arc::clone(stream), bytes: 0 }), PathBuf::from("-")))
            }
            Made::Beside(path) => {
                let path = name_of(path, number);
                if !self.force && path.symlink_metadata().is_ok() {
                    return Err(ExportError::Exists { path });
                }
                let directory = directory_of(&path);
                let made = tempfile::Builder::new()
                    .prefix(".zerobus-export-")
                    .permissions(std::fs::Permissions::from_mode(0o666))
                    .tempfile_in(directory);
                let file = made.map_err(ExportError::io("create a file in", directory))?;
                Ok((Sink::File(Box::new(BufWriter::new(file))), path))
            }
        }
    }

    /// Gives a complete file its name.
    pub(super) fn name(&mut self, sink: Sink, path: &Path) -> Result<(), ExportError> {
        let Sink::File(file) = sink else { return Ok(()) };
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

/// The first has the name that was given; the second of `rows.parquet` is `rows.schema-2.parquet`.
fn name_of(path: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".schema-{}", number + 1));
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
            |path: &str| [0, 1, 2].map(|number| name_of(Path::new(path), number).display().to_string());
        assert_eq!(
            names("a/rows.parquet"),
            ["a/rows.parquet", "a/rows.schema-2.parquet", "a/rows.schema-3.parquet"]
        );
        assert_eq!(names("rows"), ["rows", "rows.schema-2", "rows.schema-3"]);
    }
}
