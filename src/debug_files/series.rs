//! One kind of debug file of one writer: the file that is written, and the ones before it.
//!
//! Only whole messages are ever handed to the file system, and a file that has failed is cut back to them, so that it
//! can be read up to the last flush.

use std::io::{ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use super::names;
use crate::io::{Access, Storage, StorageFile};

/// Bytes that are kept before they are handed to the file system ahead of the flush.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// What a file of the series is, besides the batches in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// What the file begins with.
    pub(super) head: Vec<u8>,
    /// What stands in a file of its own beside it, if the series has such.
    pub(super) beside: Vec<u8>,
}

/// Where the files of a series are, and when there is a new one.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) stem: String,
    pub(super) extension: &'static str,
    /// Of the file that stands beside each.
    pub(super) beside: Option<&'static str>,
    /// What ends each file.
    pub(super) tail: Vec<u8>,
    pub(super) bytes_max: Option<u64>,
    pub(super) retained_max: usize,
}

#[derive(Debug)]
pub(super) struct Series {
    storage: Arc<dyn Storage>,
    place: Place,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: Arc<dyn StorageFile>,
    opening: Opening,
    written: u64,
    buffer: Vec<u8>,
    /// Whether it has more than its head.
    has_content: bool,
}

/// A debug file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the debug file {}", path.display())]
pub(super) struct SeriesError {
    action: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl Series {
    pub(super) fn new(storage: Arc<dyn Storage>, place: Place) -> Series {
        Series { storage, place, current: None }
    }

    /// Adds messages, which stay together, to the current file, or to a new one: if this opening is another one, or the
    /// file would become too large. What is not in a file yet is after the next flush.
    ///
    /// # Errors
    ///
    /// [`SeriesError`]; then there is no current file any more, and the next call begins a new one.
    pub(super) fn add<'m>(
        &mut self,
        opening: &Opening,
        messages: impl Iterator<Item = &'m [u8]> + Clone,
    ) -> Result<(), SeriesError> {
        let added: u64 = messages.clone().map(|message| message.len() as u64).sum();
        let ending = self.place.tail.len() as u64;
        let fits = |current: &Current| {
            let would_be = current.written + current.buffer.len() as u64 + added + ending;
            current.opening == *opening
                && (!current.has_content || self.place.bytes_max.is_none_or(|max| would_be <= max))
        };
        if !self.current.as_ref().is_some_and(fits) {
            self.finish()?;
            self.current = Some(self.begin(opening)?);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        messages.for_each(|message| current.buffer.extend_from_slice(message));
        current.has_content = true;
        if current.buffer.len() >= BUFFER_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Hands what was added to the file system.
    ///
    /// # Errors
    ///
    /// As [`Series::add`].
    pub(super) fn flush(&mut self) -> Result<(), SeriesError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.buffer.is_empty() {
            return Ok(());
        }
        match current.file.write_at(&mut [IoSlice::new(&current.buffer)], current.written) {
            Ok(()) => {
                current.written += current.buffer.len() as u64;
                current.buffer.clear();
                // What one large batch took is not kept.
                current.buffer.shrink_to(BUFFER_BYTES_MAX);
                Ok(())
            }
            Err(source) => {
                let (file, whole) = (Arc::clone(&current.file), current.written);
                self.current = None;
                let path = self.path(&names::current(&self.place.stem, self.place.extension));
                // Where this fails too, the file ends in a torn message, or stays empty.
                let _ = match whole {
                    // Attempts on a full disk must not push out the files that are good.
                    0 => self.storage.remove(&path),
                    _ => file.set_len(whole),
                };
                Err(SeriesError { action: "write", path, source })
            }
        }
    }

    /// Ends the current file, which keeps its name until there is a new one.
    ///
    /// # Errors
    ///
    /// As [`Series::add`].
    pub(super) fn finish(&mut self) -> Result<(), SeriesError> {
        if let Some(current) = &mut self.current {
            current.buffer.extend_from_slice(&self.place.tail);
        }
        self.flush()?;
        self.current = None;
        Ok(())
    }

    fn begin(&self, opening: &Opening) -> Result<Current, SeriesError> {
        let Place { directory, stem, extension, beside, .. } = &self.place;
        self.storage.create_dir_all(directory).map_err(self.failed("create the directory of", ""))?;
        // Also what an earlier process has left: whether it is whole is not known, so nothing is added to it.
        self.rotate()?;
        if let Some(beside) = beside {
            let name = names::current(stem, beside);
            let written = self
                .storage
                .open(&self.path(&name), Access::New)
                .and_then(|file| file.write_at(&mut [IoSlice::new(&opening.beside)], 0));
            written.map_err(self.failed("write", &name))?;
        }
        let name = names::current(stem, extension);
        let file = self.storage.open(&self.path(&name), Access::New).map_err(self.failed("create", &name))?;
        let (opening, buffer) = (opening.clone(), opening.head.clone());
        Ok(Current { file, opening, written: 0, buffer, has_content: false })
    }

    /// Gives the current file a number, and removes the oldest of those that have one.
    fn rotate(&self) -> Result<(), SeriesError> {
        let Place { directory, stem, extension, beside, retained_max, .. } = &self.place;
        let names = self.storage.list(directory).map_err(self.failed("list the directory of", ""))?;
        let mut numbers = names::numbers(&names, stem, extension);
        let number = numbers.last().map_or(1, |last| last.saturating_add(1));
        let current = names::current(stem, extension);
        let is_there = names.iter().any(|name| *name == *current);
        // What stands beside goes first: dying between the two leaves the file to the next start, which gives it the
        // same number.
        if let Some(beside) = beside {
            let name = names::current(stem, beside);
            if is_there {
                self.existing(
                    self.storage.rename(&self.path(&name), &self.path(&names::rotated(stem, number, beside))),
                )
                .map_err(self.failed("rotate", &name))?;
            } else {
                self.existing(self.storage.remove(&self.path(&name)))
                    .map_err(self.failed("remove", &name))?;
            }
        }
        if is_there {
            let rotated = self.path(&names::rotated(stem, number, extension));
            self.storage.rename(&self.path(&current), &rotated).map_err(self.failed("rotate", &current))?;
            numbers.push(number);
        }
        let surplus = numbers.len().saturating_sub(*retained_max);
        for number in &numbers[..surplus] {
            for extension in [Some(*extension), *beside].into_iter().flatten() {
                let name = names::rotated(stem, *number, extension);
                self.existing(self.storage.remove(&self.path(&name)))
                    .map_err(self.failed("remove", &name))?;
            }
        }
        Ok(())
    }

    /// What is not there is no failure.
    fn existing(&self, done: std::io::Result<()>) -> std::io::Result<()> {
        done.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.directory.join(name)
    }

    fn failed(&self, action: &'static str, name: &str) -> impl FnOnce(std::io::Error) -> SeriesError {
        let path = self.path(name);
        move |source| SeriesError { action, path, source }
    }
}
