//! Writes the pieces of a long frame while the next ones are copied, on a thread of its own.
//!
//! ```text
//!  this thread    copies  head │ piece 1 │ piece 2 │ piece 3 │        │ writes the head │ syncs
//!  the other one                         │ writes 1 │ writes 2 and 3  │
//! ```
//!
//! The frame is promised when all of it is synced, like any other; until then it is as torn as a write that a crash cut
//! off. Its header has the checksum of the body, so its beginning is written last.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use arrow_buffer::Buffer;

use super::{
    aligned::{AlignedBuf, LARGE_PAGE},
    format::FRAME_HEADER,
};
use crate::io::StorageFile;

/// How much of a frame waits for its header: little, so that the disk soon has something to do.
const HEAD_BYTES: usize = 256 * 1024;
/// As much as there is in one large page.
const PIECE_BYTES: usize = LARGE_PAGE;
/// So many pieces are filled or being written at a time.
const PIECES_MAX: usize = 4;

/// The pieces on their way, and the thread that writes them.
#[derive(Debug)]
pub(super) struct Ahead {
    /// None: pieces are written where they are copied.
    writer: Option<Writer>,
    /// Whether there is to be one from the first piece on.
    wants_writer: bool,
    in_flight: usize,
    free: Vec<AlignedBuf>,
    /// The first failure since the last [`Ahead::finish`].
    failed: Option<io::Error>,
}

/// The beginning of a frame, with room for its header.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) head: AlignedBuf,
    pub(super) body_checksum: u32,
}

#[derive(Debug)]
struct Writer {
    jobs: Sender<Piece>,
    done: Receiver<Done>,
    /// What is queued after a failure is not written any more \[I8\].
    has_failed: Arc<AtomicBool>,
}

/// The memory of a piece, and what became of it.
type Done = (AlignedBuf, io::Result<()>);

#[derive(Debug)]
struct Piece {
    file: Arc<dyn StorageFile>,
    offset: u64,
    bytes: AlignedBuf,
}

impl Ahead {
    /// With a thread of its own from the first piece on, if that is wanted and there is one to be had.
    pub(super) fn new(wants_writer: bool) -> Ahead {
        Ahead { writer: None, wants_writer, in_flight: 0, free: Vec::new(), failed: None }
    }

    /// Copies the body of a frame that begins at `offset`, and begins to write all of it but for its beginning. Whether that
    /// succeeds is what [`Ahead::finish`] says.
    pub(super) fn copy(&mut self, body: &[Buffer], file: &Arc<dyn StorageFile>, offset: u64) -> Begun {
        let mut checksum = crc32fast::Hasher::new();
        let mut head = self.memory();
        head.extend_zeros(FRAME_HEADER);
        let mut parts: VecDeque<&[u8]> = body.iter().map(Buffer::as_slice).collect();
        head.fill_summed(HEAD_BYTES, &mut parts, &mut checksum);
        head.fill_block();
        let mut end = offset + head.len() as u64;
        while !parts.is_empty() {
            let mut piece = self.memory();
            piece.fill_summed(PIECE_BYTES, &mut parts, &mut checksum);
            piece.fill_block();
            let length = piece.len() as u64;
            self.begin(Piece { file: Arc::clone(file), offset: end, bytes: piece });
            end += length;
        }
        Begun { head, body_checksum: checksum.finalize() }
    }

    /// Waits until everything that was begun is written, and says whether it was. Nothing of it is synced.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        while self.in_flight > 0 {
            self.wait_for_one();
        }
        if let Some(writer) = &self.writer {
            writer.has_failed.store(false, Ordering::Relaxed);
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Memory that comes back to be used again.
    pub(super) fn take_back(&mut self, mut memory: AlignedBuf) {
        memory.clear();
        self.free.push(memory);
    }

    /// Room for a piece, once there is some.
    fn memory(&mut self) -> AlignedBuf {
        while self.free.is_empty() && self.in_flight >= PIECES_MAX {
            self.wait_for_one();
        }
        self.free.pop().unwrap_or_else(|| AlignedBuf::of_large_pages(PIECE_BYTES))
    }

    fn begin(&mut self, piece: Piece) {
        if self.failed.is_some() {
            return self.take_back(piece.bytes);
        }
        if std::mem::take(&mut self.wants_writer) {
            self.writer = Writer::start();
        }
        let piece = match &self.writer {
            Some(writer) => match writer.jobs.send(piece) {
                Ok(()) => {
                    self.in_flight += 1;
                    // It may have been woken on this processor, where it would wait until everything is copied.
                    std::thread::yield_now();
                    return;
                }
                Err(refused) => refused.0,
            },
            None => piece,
        };
        let written = write(std::slice::from_ref(&piece));
        self.is_done(piece.bytes, written);
    }

    fn wait_for_one(&mut self) {
        match self.writer.as_ref().map(|writer| writer.done.recv()) {
            Some(Ok((bytes, written))) => {
                self.in_flight -= 1;
                self.is_done(bytes, written);
            }
            // It ended in a panic. Nothing is known of what it had.
            _ => {
                (self.writer, self.in_flight) = (None, 0);
                self.failed.get_or_insert_with(|| io::Error::other("the thread that writes is gone"));
            }
        }
    }

    fn is_done(&mut self, bytes: AlignedBuf, written: io::Result<()>) {
        self.take_back(bytes);
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }
}

impl Writer {
    /// None if there is no thread to be had.
    fn start() -> Option<Writer> {
        let (jobs, todo) = channel();
        let (tell, done) = channel();
        let has_failed = Arc::new(AtomicBool::new(false));
        let run = {
            let has_failed = Arc::clone(&has_failed);
            move || write_all(&todo, &tell, &has_failed)
        };
        std::thread::Builder::new().name("wal-writer".to_owned()).spawn(run).ok()?;
        Some(Writer { jobs, done, has_failed })
    }
}

/// Writes what comes, several pieces at once if they are there, until nobody sends or listens any more.
fn write_all(todo: &Receiver<Piece>, tell: &Sender<Done>, has_failed: &AtomicBool) {
    let mut next = None;
    while let Some(first) = next.take().or_else(|| todo.recv().ok()) {
        let mut run: Vec<Piece> = vec![first];
        while let Ok(piece) = todo.try_recv() {
            if !run[run.len() - 1].is_followed_by(&piece) {
                next = Some(piece);
                break;
            }
            run.push(piece);
        }
        let mut written = match has_failed.load(Ordering::Relaxed) {
            true => Ok(()),
            false => write(&run),
        };
        has_failed.fetch_or(written.is_err(), Ordering::Relaxed);
        for Piece { file, bytes, .. } in run {
            // Whoever hears of the last piece has the file alone again.
            drop(file);
            // One failure is enough.
            if tell.send((bytes, std::mem::replace(&mut written, Ok(())))).is_err() {
                return;
            }
        }
    }
}

/// Writes pieces that stand one behind the other.
fn write(run: &[Piece]) -> io::Result<()> {
    let mut slices: Vec<_> = run.iter().map(|piece| IoSlice::new(piece.bytes.as_slice())).collect();
    run[0].file.write_at(&mut slices, run[0].offset)
}

impl Piece {
    fn is_followed_by(&self, next: &Piece) -> bool {
        self.offset + self.bytes.len() as u64 == next.offset && Arc::ptr_eq(&self.file, &next.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Access, BLOCK, OsStorage, Storage};

    fn body(bytes: usize) -> Vec<Buffer> {
        let bytes: Vec<u8> = (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect();
        let (first, second) = bytes.split_at(bytes.len() / 3);
        vec![Buffer::from(first), Buffer::from(Vec::<u8>::new()), Buffer::from(second)]
    }

    #[test]
    fn head_and_pieces_are_the_frame_on_a_thread_and_without() {
        let dir = tempfile::tempdir().unwrap();
        for (number, wants_writer) in [false, true].into_iter().enumerate() {
            let path = dir.path().join(number.to_string());
            let file = OsStorage.open(&path, Access::New).unwrap();
            let mut ahead = Ahead::new(wants_writer);
            let mut offset = BLOCK as u64;
            for bytes in [9_000_000, 100, HEAD_BYTES - FRAME_HEADER, HEAD_BYTES, 30_000_000] {
                let body = body(bytes);
                let Begun { head, body_checksum } = ahead.copy(&body, &file, offset);
                ahead.finish().unwrap();
                file.write_at(&mut [IoSlice::new(head.as_slice())], offset).unwrap();
                ahead.take_back(head);
                let expected = [&[0; FRAME_HEADER], &body[0][..], &body[2][..]].concat();
                assert_eq!(body_checksum, crc32fast::hash(&expected[FRAME_HEADER..]));
                let blocks = expected.len().next_multiple_of(BLOCK);
                assert_eq!(file.length().unwrap(), offset + blocks as u64);
                let mut written = vec![1; blocks];
                file.read_at(&mut written, offset).unwrap();
                assert!(
                    written.starts_with(&expected) && written[expected.len()..].iter().all(|byte| *byte == 0)
                );
                offset += blocks as u64;
            }
            assert_eq!(ahead.writer.is_some(), wants_writer);
            assert!(ahead.free.len() <= PIECES_MAX + 1, "memory is used again");
        }
    }

    #[test]
    fn a_failure_is_told_once_and_the_file_is_left_alone_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, body) = (dir.path().join("file"), body(20_000_000));
        let whole = OsStorage.open(&path, Access::New).unwrap();
        for wants_writer in [false, true] {
            let mut ahead = Ahead::new(wants_writer);
            let unwritable = OsStorage.open(&path, Access::Read).unwrap();
            let head = ahead.copy(&body, &unwritable, 0).head;
            ahead.take_back(head);
            assert!(ahead.finish().is_err());
            assert_eq!(Arc::strong_count(&unwritable), 1, "its space is free once it is removed");
            assert!(ahead.finish().is_ok());
            let head = ahead.copy(&body, &whole, 0).head;
            ahead.take_back(head);
            assert!(ahead.finish().is_ok());
        }
    }
}
