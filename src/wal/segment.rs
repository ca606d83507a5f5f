//! The open segment: created, written at its end, synced, sealed, and after a failure never touched
//! again.

use std::{
    collections::HashSet,
    io::{self, ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    AppendError, PreparedFrame, SchemaFingerprint,
    format::{self, FOOTER, FRAME_HEADER, FrameHeader, FrameKind, SEGMENT_HEADER, SegmentHeader, Totals},
};
use crate::{
    io::{Access, Env, StorageFile},
    types::{Epoch, Lsn, SegmentId},
};

/// The segment that frames are appended to. One thread owns it.
#[derive(Debug)]
pub(super) struct OpenSegment {
    id: SegmentId,
    epoch: Epoch,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    /// Where the next frame goes.
    end: u64,
    /// Up to where it is known to be durable.
    durable: u64,
    /// Up to where disk space is reserved; `u64::MAX` where the file system cannot.
    allocated: u64,
    totals: Totals,
    schemas: HashSet<SchemaFingerprint>,
}

/// What a segment failed at.
pub(super) fn failure(action: &'static str, path: &Path, source: io::Error) -> AppendError {
    AppendError::Storage { action, path: path.to_owned(), source: Arc::new(source) }
}

impl OpenSegment {
    /// Creates a segment and makes it, and its name, durable before anything is promised in it.
    pub(super) fn create(env: &Env, dir: &Path, header: &SegmentHeader) -> Result<OpenSegment, AppendError> {
        let path = dir.join(format::segment_name(header.id));
        let file = env.storage.open(&path, Access::New).map_err(|source| failure("create", &path, source))?;
        let durable = file
            .write_at(&mut [IoSlice::new(&header.encode())], 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| env.storage.sync_dir(dir));
        if let Err(source) = durable {
            // Nothing was promised in it. If it cannot be removed either, its number is not used again.
            let _ = env.storage.remove(&path);
            return Err(failure("create", &path, source));
        }
        let end = SEGMENT_HEADER as u64;
        Ok(OpenSegment {
            id: header.id,
            epoch: header.epoch,
            path,
            file,
            end,
            durable: end,
            allocated: end,
            totals: Totals::none(header.base),
            schemas: HashSet::new(),
        })
    }

    pub(super) fn id(&self) -> SegmentId {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// The bytes of a segment that holds this frame and nothing else.
    pub(super) fn bytes_needed(frame: &PreparedFrame) -> u64 {
        (SEGMENT_HEADER + FOOTER) as u64 + frame.schema_frame_bytes() + frame.frame_bytes()
    }

    /// How many of the frames fit, with the footer behind them; and where they would end.
    pub(super) fn room<'a>(
        &self,
        frames: impl Iterator<Item = &'a PreparedFrame>,
        segment_bytes: u64,
    ) -> (usize, u64) {
        let (mut count, mut end) = (0, self.end);
        let mut new_schemas = HashSet::new();
        for frame in frames {
            let is_new =
                !self.schemas.contains(&frame.fingerprint) && !new_schemas.contains(&frame.fingerprint);
            let schema_bytes = if is_new { frame.schema_frame_bytes() } else { 0 };
            let next = end + schema_bytes + frame.frame_bytes();
            if next + FOOTER as u64 > segment_bytes {
                break;
            }
            new_schemas.insert(frame.fingerprint);
            (count, end) = (count + 1, next);
        }
        (count, end)
    }

    /// Reserves disk space up to `end` and a footer: for the whole segment if there is enough, else
    /// for as much as is needed now. A full disk shows here, where it leaves no torn frame behind.
    pub(super) fn reserve(&mut self, end: u64, segment_bytes: u64) -> Result<(), AppendError> {
        let needed = end + FOOTER as u64;
        if needed <= self.allocated {
            return Ok(());
        }
        let mut result = Err(ErrorKind::StorageFull.into());
        for target in [segment_bytes, needed] {
            result = self.file.allocate(self.allocated, target - self.allocated).map(|()| target);
            if !matches!(&result, Err(error) if error.kind() == ErrorKind::StorageFull) {
                break;
            }
        }
        match result {
            Ok(target) => self.allocated = target,
            Err(error) if error.kind() == ErrorKind::Unsupported => self.allocated = u64::MAX,
            Err(source) => return Err(failure("reserve space for", &self.path, source)),
        }
        Ok(())
    }

    /// Writes frames, each with its LSN and time, and the schemas that the segment does not have yet.
    /// Bodies are written from where they are.
    pub(super) fn write<'a>(
        &mut self,
        frames: impl Iterator<Item = (&'a PreparedFrame, Lsn, i64)>,
    ) -> Result<(), AppendError> {
        let mut headers: Vec<[u8; FRAME_HEADER]> = Vec::new();
        let mut bodies: Vec<&[arrow_buffer::Buffer]> = Vec::new();
        let mut end = self.end;
        for (frame, lsn, appended_unix_micros) in frames {
            let header = FrameHeader {
                kind: FrameKind::Batch,
                body_length: frame.body_length,
                rows: frame.rows,
                lsn,
                epoch: self.epoch,
                segment: self.id,
                offset: end,
                fingerprint: frame.fingerprint.0,
                appended_unix_micros,
                durable: self.durable,
                body_checksum: frame.body_checksum,
            };
            let mut push = |header: FrameHeader, body: &'a [arrow_buffer::Buffer]| {
                headers.push(header.encode());
                bodies.push(body);
                header.end()
            };
            if self.schemas.insert(frame.fingerprint) {
                end = push(
                    FrameHeader {
                        kind: FrameKind::Schema,
                        body_length: frame.schema.len() as u32,
                        rows: 0,
                        lsn: Lsn::ZERO,
                        body_checksum: frame.schema_checksum,
                        ..header
                    },
                    std::slice::from_ref(&frame.schema),
                );
            }
            let header = FrameHeader { offset: end, ..header };
            end = push(header, &frame.body);
            self.totals.add(&header);
        }
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(4 * headers.len());
        for (header, body) in headers.iter().zip(&bodies) {
            slices.push(IoSlice::new(header));
            slices.extend(body.iter().map(|part| IoSlice::new(part)));
        }
        self.file
            .write_at(&mut slices, self.end)
            .map_err(|source| failure("write to", &self.path, source))?;
        self.end = end;
        Ok(())
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.file.sync_data().map_err(|source| failure("sync", &self.path, source))?;
        self.durable = self.end;
        Ok(())
    }

    /// Ends the segment with its footer, gives back what is reserved behind it, and makes all of it
    /// durable. Returns the length of the file.
    pub(super) fn seal(&mut self) -> Result<u64, AppendError> {
        let footer = self.totals.encode_footer(self.epoch, self.id, self.end, self.durable);
        let length = self.end + footer.len() as u64;
        self.file
            .sync_data()
            .and_then(|()| self.file.write_at(&mut [IoSlice::new(&footer)], self.end))
            .and_then(|()| self.file.set_len(length))
            .and_then(|()| self.file.sync_all())
            .map_err(|source| failure("seal", &self.path, source))?;
        self.durable = self.end;
        Ok(length)
    }
}
