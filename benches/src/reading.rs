//! Reading a log back from the disk: through our reader, and as raw bytes of the same files.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use arrow_zerobus_sdk_wrapper::{
    types::Lsn,
    wal::{Durability, Next, Wal},
};
use rustix::fs::{Advice, OFlags, fadvise};

use crate::{MIB, Result, entries::BLOCK, machine, ours};

/// How the bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Through our reader, which compares checksums.
    Frames,
    /// The same, and each frame becomes an Arrow batch.
    Batches,
    /// `pread` of 1 MiB after `FADV_SEQUENTIAL`.
    Pread,
    /// `O_DIRECT` of 1 MiB.
    Direct,
}

impl How {
    /// All of them.
    pub const ALL: [How; 4] = [How::Frames, How::Batches, How::Pread, How::Direct];

    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            How::Frames => "this log, checksums",
            How::Batches => "this log, decoded",
            How::Pread => "raw pread 1 MiB, sequential",
            How::Direct => "raw O_DIRECT 1 MiB",
        }
    }

    /// Whether it is a baseline.
    pub fn is_raw(self) -> bool {
        matches!(self, How::Pread | How::Direct)
    }
}

/// A log to be read again and again.
pub struct Readable {
    wal: Wal,
    files: Vec<PathBuf>,
    entries: usize,
}

impl Readable {
    /// Opens the log of a directory, which holds so many entries.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open(dir: &Path, entries: usize, segment_bytes: u64) -> Result<Readable> {
        let wal = ours::open(dir, Durability::Sync, segment_bytes)?;
        let segments = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "wal");
        let files = machine::files_below(dir)?.into_iter().filter(segments).collect();
        Ok(Readable { wal, files, entries })
    }

    /// Reads everything from the disk; bytes per second, of frames for us and of files for the baselines.
    ///
    /// A virtual machine may have given memory back to its host that nobody used for a second, and whoever uses it
    /// next pays for getting it again. So everything is read twice in the same way, and the second time counts.
    ///
    /// # Errors
    ///
    /// When something is missing or cannot be read.
    pub fn read_cold(&self, how: How, everything: bool) -> Result<f64> {
        self.read(how)?;
        machine::make_cold(&self.files, everything)?;
        let start = Instant::now();
        let bytes = self.read(how)?;
        Ok(bytes as f64 / start.elapsed().as_secs_f64())
    }

    fn read(&self, how: How) -> Result<u64> {
        match how {
            How::Frames => self.read_frames(false),
            How::Batches => self.read_frames(true),
            How::Pread | How::Direct => self.read_raw(how == How::Direct),
        }
    }

    fn read_frames(&self, decoded: bool) -> Result<u64> {
        let mut reader = self.wal.reader(Lsn::FIRST);
        let (mut count, mut bytes) = (0, 0);
        while let Some(next) = reader.next()? {
            match next {
                Next::Frame(frame) => {
                    count += 1;
                    bytes += frame.frame_bytes();
                    if decoded {
                        std::hint::black_box(frame.decode()?);
                    }
                }
                Next::Damaged(damage) => return Err(damage.to_string().into()),
            }
        }
        if count == self.entries {
            Ok(bytes)
        } else {
            Err(format!("{count} of {} entries came back", self.entries).into())
        }
    }

    fn read_raw(&self, direct: bool) -> Result<u64> {
        let mut memory = vec![1; MIB + BLOCK];
        let aligned = memory.as_ptr().align_offset(BLOCK);
        let buffer = &mut memory[aligned..aligned + MIB];
        let mut bytes = 0;
        for path in &self.files {
            let file = if direct {
                OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path)?
            } else {
                let file = File::open(path)?;
                fadvise(&file, 0, None, Advice::Sequential)?;
                file
            };
            let mut offset = 0;
            loop {
                let read = file.read_at(buffer, offset)?;
                std::hint::black_box(&buffer[..read]);
                if read < buffer.len() {
                    bytes += offset + read as u64;
                    break;
                }
                offset += read as u64;
            }
        }
        Ok(bytes)
    }
}
