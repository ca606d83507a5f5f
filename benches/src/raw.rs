//! The baselines: what the disk gives to a program that only writes bytes and makes them durable.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rustix::{
    fs::{Advice, OFlags, fadvise},
    io::{ReadWriteFlags, pwritev, pwritev2},
};

use crate::{
    MIB, Result,
    entries::{BLOCK, Pool},
    group::{Group, GroupWriter},
    method::{Append, Kind, Method},
};

/// How long a file that is written round and round is; longer if a group needs it.
const RING_BYTES: usize = 64 * MIB;

/// A way of making bytes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A file that grows: `pwritev`, `fdatasync`.
    Growing,
    /// A file that was written before, groups padded to the block: `pwritev`, `fdatasync`.
    Recycled,
    /// The same with one `pwritev2(RWF_DSYNC)`.
    RecycledDsync,
    /// The same file with `O_DIRECT|O_DSYNC`; the bytes are copied to aligned memory first.
    Direct,
    /// As before, but the bytes lie in aligned memory already, each entry padded to the block.
    DirectAligned,
}

impl How {
    /// All of them, the simplest first.
    pub const ALL: [How; 5] =
        [How::Growing, How::Recycled, How::RecycledDsync, How::Direct, How::DirectAligned];

    fn name(self) -> &'static str {
        match self {
            How::Growing => "raw growing, fdatasync",
            How::Recycled => "raw recycled, fdatasync",
            How::RecycledDsync => "raw recycled, RWF_DSYNC",
            How::Direct => "raw O_DIRECT, O_DSYNC",
            How::DirectAligned => "raw O_DIRECT, aligned",
        }
    }

    fn is_direct(self) -> bool {
        matches!(self, How::Direct | How::DirectAligned)
    }
}

/// A baseline.
pub struct Raw {
    how: How,
    pool: Pool,
    group: Group<RawFile>,
}

impl Raw {
    /// A baseline in this directory.
    ///
    /// # Errors
    ///
    /// When the file cannot be made; [`io::ErrorKind::InvalidInput`] where the file system knows no `O_DIRECT`.
    pub fn new(how: How, dir: &Path, pool: &Pool, producers: usize) -> Result<Raw> {
        let entry_bytes = pool.entry_bytes().next_multiple_of(BLOCK);
        let ring_bytes = RING_BYTES.max(2 * producers * entry_bytes);
        let file = RawFile::new(how, dir, ring_bytes)?;
        Ok(Raw { how, pool: pool.clone(), group: Group::new(file) })
    }
}

impl Method for Raw {
    fn name(&self) -> &str {
        self.how.name()
    }

    fn kind(&self) -> Kind {
        if self.how == How::DirectAligned { Kind::RawAligned } else { Kind::Raw }
    }

    fn before_round(&mut self) -> Result<()> {
        Ok(self.group.writer().start_over()?)
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let entries = match self.how {
            How::DirectAligned => self.pool.aligned_entries(number),
            _ => self.pool.entries(number),
        };
        let mut entries = entries.into_iter().cycle();
        Ok(Box::new(move || Ok(self.group.append(entries.next().unwrap_or_default())?)))
    }

    fn groups(&self) -> Option<u64> {
        Some(self.group.groups())
    }
}

/// The one file of a baseline.
struct RawFile {
    how: How,
    path: PathBuf,
    file: File,
    ring_bytes: usize,
    position: usize,
    /// Where the direct one puts its bytes.
    buffer: Vec<u8>,
}

impl RawFile {
    fn new(how: How, dir: &Path, ring_bytes: usize) -> io::Result<RawFile> {
        let path = dir.join("file");
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        if how != How::Growing {
            let zeros = vec![0; MIB];
            for offset in (0..ring_bytes).step_by(MIB) {
                file.write_all_at(&zeros, offset as u64)?;
            }
        }
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        if how.is_direct() {
            fadvise(&file, 0, None, Advice::DontNeed)?;
            let flags = OFlags::DIRECT | OFlags::DSYNC;
            file = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(&path)?;
        }
        let buffer = if how == How::Direct { vec![0; ring_bytes / 2 + 2 * BLOCK] } else { Vec::new() };
        Ok(RawFile { how, path, file, ring_bytes, position: 0, buffer })
    }

    /// A growing file begins anew, so that it does not grow for ever.
    fn start_over(&mut self) -> io::Result<()> {
        if self.how == How::Growing {
            std::fs::remove_file(&self.path)?;
            self.file = OpenOptions::new().write(true).create_new(true).open(&self.path)?;
            self.file.sync_all()?;
            self.position = 0;
        }
        Ok(())
    }

    /// Where the next group goes.
    fn place(&mut self, length: usize) -> u64 {
        if self.how != How::Growing && self.position + length > self.ring_bytes {
            self.position = 0;
        }
        let place = self.position as u64;
        self.position += length;
        place
    }

    fn write_copied(&mut self, entries: &[Bytes], length: usize) -> io::Result<()> {
        let place = self.place(length);
        let start = self.buffer.as_ptr().align_offset(BLOCK);
        let mut end = start;
        for entry in entries {
            self.buffer[end..end + entry.len()].copy_from_slice(entry);
            end += entry.len();
        }
        self.buffer[end..start + length].fill(0);
        self.file.write_all_at(&self.buffer[start..start + length], place)
    }
}

impl GroupWriter for RawFile {
    fn write(&mut self, entries: &[Bytes]) -> io::Result<()> {
        const PADDING: [u8; BLOCK] = [0; BLOCK];
        let bytes: usize = entries.iter().map(Bytes::len).sum();
        let padded = if self.how == How::Growing { bytes } else { bytes.next_multiple_of(BLOCK) };
        if self.how == How::Direct {
            return self.write_copied(entries, padded);
        }
        let place = self.place(padded);
        let mut slices: Vec<IoSlice<'_>> = entries.iter().map(|entry| IoSlice::new(entry)).collect();
        slices.push(IoSlice::new(&PADDING[..padded - bytes]));
        let file = &self.file;
        let dsync = self.how == How::RecycledDsync;
        write_all(&mut slices, place, |slices, offset| match dsync {
            true => pwritev2(file, slices, offset, ReadWriteFlags::DSYNC),
            false => pwritev(file, slices, offset),
        })?;
        match self.how {
            How::Growing | How::Recycled => self.file.sync_data(),
            How::RecycledDsync | How::Direct | How::DirectAligned => Ok(()),
        }
    }
}

fn write_all(
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
    write: impl Fn(&[IoSlice<'_>], u64) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match write(slices, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
        }
    }
    Ok(())
}
