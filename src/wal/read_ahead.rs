//! Reads what a walk comes to next, on a thread of its own, while its caller works on what it has.
//!
//! A read past the page cache keeps the processor free and its caller waiting. So the next one begins as soon as the one
//! before was handed out.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use bytes::BytesMut;

use crate::io::StorageFile;

/// What is read ahead, one stretch at a time, and the thread that reads it.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// None before the first stretch.
    reader: Option<Reader>,
    /// What was begun and not taken.
    begun: Option<Begun>,
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug)]
struct Begun {
    start: u64,
    length: usize,
}

/// A stretch that was read.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) start: u64,
    /// How much of it there is; the memory may be longer.
    pub(super) length: usize,
    pub(super) memory: BytesMut,
}

#[derive(Debug)]
struct Reader {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

#[derive(Debug)]
struct Job {
    file: Arc<dyn StorageFile>,
    start: u64,
    memory: BytesMut,
}

/// The memory of a job, and how much of it was read.
type Done = (BytesMut, io::Result<usize>);

impl ReadAhead {
    /// Begins to read from `start` on into this memory, of which `length` bytes are wanted; nothing if there is no thread to
    /// be had, or if something was begun and not taken.
    pub(super) fn begin(&mut self, file: &Arc<dyn StorageFile>, start: u64, length: usize, memory: BytesMut) {
        if self.begun.is_some() {
            return;
        }
        self.reader = self.reader.take().or_else(Reader::start);
        let Some(reader) = &self.reader else { return };
        match reader.jobs.send(Job { file: Arc::clone(file), start, memory }) {
            Ok(()) => self.begun = Some(Begun { start, length }),
            Err(_) => self.reader = None,
        }
    }

    /// What was begun, once it was read; the file is closed by then. Nothing if it could not be: whoever wants it reads it
    /// himself and hears why.
    pub(super) fn take(&mut self) -> Option<Fetched> {
        let Begun { start, length } = self.begun.take()?;
        match self.reader.as_ref()?.done.recv() {
            Ok((memory, Ok(count))) => Some(Fetched { start, length: count.min(length), memory }),
            Ok((_, Err(_))) => None,
            // It ended in a panic.
            Err(_) => {
                self.reader = None;
                None
            }
        }
    }
}

impl Reader {
    /// None if there is no thread to be had.
    fn start() -> Option<Reader> {
        let (jobs, todo) = channel();
        let (tell, done) = channel();
        let run = move || read_all(&todo, &tell);
        std::thread::Builder::new().name("wal-reader".to_owned()).spawn(run).ok()?;
        Some(Reader { jobs, done })
    }
}

/// Reads what comes until nobody sends or listens any more.
fn read_all(todo: &Receiver<Job>, tell: &Sender<Done>) {
    while let Ok(Job { file, start, mut memory }) = todo.recv() {
        let read = file.read_at(&mut memory, start);
        // Whoever hears of it has the file alone again.
        drop(file);
        if tell.send((memory, read)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Access, OsStorage, Storage};

    fn file(bytes: &[u8]) -> (tempfile::TempDir, Arc<dyn StorageFile>) {
        let dir = tempfile::tempdir().unwrap();
        let file = OsStorage.open(&dir.path().join("file"), Access::New).unwrap();
        file.write_at(&mut [io::IoSlice::new(bytes)], 0).unwrap();
        (dir, file)
    }

    #[test]
    fn one_stretch_is_read_at_a_time_and_the_file_is_closed_then() {
        let (_dir, file) = file(b"0123456789");
        let mut ahead = ReadAhead::default();
        assert!(ahead.take().is_none(), "nothing was begun");
        ahead.begin(&file, 2, 3, BytesMut::zeroed(4));
        ahead.begin(&file, 0, 4, BytesMut::zeroed(4));
        let fetched = ahead.take().unwrap();
        assert_eq!((fetched.start, fetched.length, &fetched.memory[..]), (2, 3, &b"2345"[..]));
        assert_eq!(Arc::strong_count(&file), 1);
        assert!(ahead.take().is_none(), "it is taken once");
        ahead.begin(&file, 8, 4, BytesMut::zeroed(4));
        assert_eq!(ahead.take().unwrap().length, 2, "there is no more");
    }

    #[cfg(feature = "sim")]
    #[test]
    fn what_cannot_be_read_is_nothing_and_the_next_stretch_can() {
        let world = crate::io::sim::World::new(1);
        let storage = world.env().storage;
        let file = storage.open(std::path::Path::new("/file"), Access::New).unwrap();
        file.write_at(&mut [io::IoSlice::new(b"0123456789")], 0).unwrap();
        let read = world.disk().reads() + 1;
        world.disk().faults(|faults| faults.reads_at(read..=read, crate::io::sim::EIO));
        let mut ahead = ReadAhead::default();
        ahead.begin(&file, 0, 4, BytesMut::zeroed(4));
        assert!(ahead.take().is_none());
        ahead.begin(&file, 0, 4, BytesMut::zeroed(4));
        assert_eq!(&ahead.take().unwrap().memory[..], b"0123");
    }
}
