//! The open segment: created or recycled, written at its end in whole blocks, sealed, and after a failure
//! never touched again.

use std::{
    collections::HashSet,
    io::{self, ErrorKind, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    AppendError, Durability, PreparedFrame, SchemaFingerprint, WalOptions,
    ahead::{Ahead, Begun},
    aligned::AlignedBuf,
    format::{
        self, FOOTER, FRAME_HEADER, Footer, FrameHeader, FrameKind, SEGMENT_HEADER, SegmentHeader, Totals,
        block_end,
    },
    spare::Spares,
};
use crate::{
    canary::{Canaries, Canary},
    io::{Access, BLOCK, Env, StorageFile},
    types::{Epoch, Lsn, SegmentId},
};

/// A group that ends beyond what was ever written of a new file takes so many zeros along. A write to
/// space that is only reserved changes metadata, which costs a durable write half as much again; so
/// the next groups find it written. Large groups gain nothing from that.
const ZEROS_AHEAD: u64 = 256 * 1024;
/// What a large group is, for that purpose.
const ZEROS_AHEAD_GROUP_MAX: u64 = 128 * 1024;
/// So much memory is kept from one group to the next.
const GROUP_BYTES_KEPT: usize = 16 * 1024 * 1024;
/// No frame joins a group from this length on: what waits longer gains nothing from sharing a sync.
const GROUP_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The segment that frames are appended to. One thread at a time has it.
#[derive(Debug)]
pub(super) struct OpenSegment {
    id: SegmentId,
    epoch: Epoch,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    durability: Durability,
    segment_bytes: u64,
    /// Where the next frame goes.
    end: u64,
    /// Where the last frame ends.
    frames_end: u64,
    /// Up to where it is known to be durable.
    durable: u64,
    /// Up to where disk space is reserved; `u64::MAX` where the file system cannot.
    allocated: u64,
    /// Up to where the file was written at some time.
    written: u64,
    totals: Totals,
    schemas: HashSet<SchemaFingerprint>,
    canaries: Canaries,
}

/// What a segment failed at.
pub(super) fn failure(action: &'static str, path: &Path, source: io::Error) -> AppendError {
    AppendError::Storage { action, path: path.to_owned(), source: Arc::new(source) }
}

impl OpenSegment {
    /// Makes a segment out of a spare file, or creates one; it and its name are durable before anything
    /// is promised in it.
    pub(super) fn create(
        env: &Env,
        dir: &Path,
        header: &SegmentHeader,
        options: WalOptions,
        spares: &Spares,
    ) -> Result<OpenSegment, AppendError> {
        let path = dir.join(format::segment_name(header.id));
        let recycled = spares.take(env, &path);
        let is_new = recycled.is_none();
        let written = if is_new { 0 } else { options.segment_bytes };
        let file = match recycled {
            Some(file) => file,
            None => {
                env.storage.open(&path, Access::New).map_err(|source| failure("create", &path, source))?
            }
        };
        begin(env, dir, &*file, header, options.durability, is_new).map_err(|source| {
            // Nothing was promised in it. If it cannot be removed either, its number is not used again.
            let _ = env.storage.remove(&path);
            failure("create", &path, source)
        })?;
        Ok(OpenSegment::empty(env, header, options, file, path, written))
    }

    /// Creates a segment with frames that callers rely on already. It has its name only once they are in it and durable:
    /// until then the segment that failed holds them, and its header would void them there \[I12\]. Whatever fails, and
    /// wherever the process ends, these are in the one or the other. It is longer than others where a schema that stood before
    /// them in the failed one, and has to stand here again, takes the last of the room.
    pub(super) fn create_with(
        env: &Env,
        dir: &Path,
        header: &SegmentHeader,
        options: WalOptions,
        mut frames: Vec<(&mut PreparedFrame, Lsn, i64)>,
        (group, ahead): (&mut AlignedBuf, &mut Ahead),
    ) -> Result<OpenSegment, AppendError> {
        let (path, unnamed) =
            (dir.join(format::segment_name(header.id)), dir.join(format::spare_name(header.id)));
        let mut schemas = HashSet::new();
        let end = frames.iter().fold(SEGMENT_HEADER as u64, |end, (frame, ..)| {
            Place::of(end, frame, schemas.insert(frame.schema.fingerprint)).end
        });
        let options = WalOptions { segment_bytes: options.segment_bytes.max(bytes_up_to(end)), ..options };
        let mut create = || {
            let refused = |source| failure("create", &path, source);
            let file = env.storage.open(&unnamed, Access::New).map_err(refused)?;
            write_header(&*file, header, options.durability).map_err(refused)?;
            let mut segment = OpenSegment::empty(env, header, options, file, path.clone(), 0);
            while !frames.is_empty() {
                let (count, end) = segment.room(frames.iter().map(|(frame, ..)| &**frame));
                segment.reserve(end)?;
                segment.write(frames.drain(..count), group, ahead)?;
            }
            segment.sync()?;
            env.storage.rename(&unnamed, &path).map_err(refused)?;
            sync_name(env, dir).map_err(refused)?;
            Ok(segment)
        };
        create().inspect_err(|_| {
            // As in `create`, under whichever name.
            let _ = env.storage.remove(&unnamed);
            let _ = env.storage.remove(&path);
        })
    }

    fn empty(
        env: &Env,
        header: &SegmentHeader,
        options: WalOptions,
        file: Arc<dyn StorageFile>,
        path: PathBuf,
        written: u64,
    ) -> OpenSegment {
        let end = SEGMENT_HEADER as u64;
        OpenSegment {
            id: header.id,
            epoch: header.epoch,
            path,
            file,
            durability: options.durability,
            segment_bytes: options.segment_bytes,
            end,
            frames_end: end,
            durable: end,
            allocated: written.max(end),
            written: written.max(end),
            totals: Totals::none(header.base),
            schemas: HashSet::new(),
            canaries: env.canaries,
        }
    }

    pub(super) fn id(&self) -> SegmentId {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the last frame ends.
    pub(super) fn frames_end(&self) -> u64 {
        self.frames_end
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// The bytes of a segment that holds this frame and nothing else.
    pub(super) fn bytes_needed(frame: &PreparedFrame) -> u64 {
        bytes_up_to(Place::of(SEGMENT_HEADER as u64, frame, true).end)
    }

    /// How many of the frames fit, with the footer behind them, and make a group; and where they would end.
    pub(super) fn room<'a>(&self, frames: impl Iterator<Item = &'a PreparedFrame>) -> (usize, u64) {
        let (mut count, mut end) = (0, self.end);
        let mut new_schemas = HashSet::new();
        for frame in frames {
            let is_new = !self.schemas.contains(&frame.schema.fingerprint)
                && !new_schemas.contains(&frame.schema.fingerprint);
            let place = Place::of(end, frame, is_new);
            let is_full = end - self.end >= GROUP_BYTES_MAX;
            if is_full || bytes_up_to(place.end) > self.segment_bytes {
                break;
            }
            new_schemas.insert(frame.schema.fingerprint);
            (count, end) = (count + 1, place.end);
        }
        (count, block_end(end))
    }

    /// Reserves disk space up to `end` and a footer: for the whole segment if there is enough, else
    /// for as much as is needed now. A full disk shows here, where it leaves no torn frame behind.
    pub(super) fn reserve(&mut self, end: u64) -> Result<(), AppendError> {
        let needed = end + FOOTER as u64;
        if needed <= self.allocated {
            return Ok(());
        }
        let mut result = Err(ErrorKind::StorageFull.into());
        for target in [self.segment_bytes, needed] {
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

    /// Writes frames, each with its LSN and time, and the schemas that the segment does not have yet, in one
    /// call but for long frames; with [`Durability::Sync`] they are durable then. The memory of `group` and `ahead` is used
    /// for it.
    pub(super) fn write<'a>(
        &mut self,
        frames: impl Iterator<Item = (&'a mut PreparedFrame, Lsn, i64)>,
        group: &mut AlignedBuf,
        ahead: &mut Ahead,
    ) -> Result<(), AppendError> {
        let start = self.end;
        let (parts, end) = self.assemble(frames, group, ahead);
        let is_durable = self.durability == Durability::Sync;
        let end = if is_durable { block_end(end) } else { end };
        self.take_zeros_along(end, group);
        let mut runs = runs(start, group.as_slice(), &parts);
        let written_end = runs.last().map_or(end, Run::end).max(end);
        let is_synced = is_durable && !self.canaries.has(Canary::AcknowledgeBeforeSync);
        let written = match &mut runs[..] {
            [run] if is_synced && !parts.iter().any(Part::is_begun) => {
                self.file.write_durable_at(&mut run.slices, run.offset)
            }
            runs => self.write_behind(ahead, runs, is_synced),
        };
        let written = written.or_else(|error| if is_synced { self.believe_again(error) } else { Err(error) });
        written.map_err(|source| failure("write to", &self.path, source))?;
        for part in parts {
            if let Apart::Begun { head, .. } = part.apart {
                ahead.take_back(head);
            }
        }
        group.give_back(GROUP_BYTES_KEPT);
        self.end = end;
        self.written = self.written.max(written_end);
        if is_durable {
            self.durable = end;
        }
        Ok(())
    }

    /// Writes what is left once everything that is on its way has arrived: a file that failed is left alone \[I8\].
    fn write_behind(&self, ahead: &mut Ahead, runs: &mut [Run<'_>], is_synced: bool) -> io::Result<()> {
        ahead.finish()?;
        for run in runs {
            self.file.write_at(&mut run.slices, run.offset)?;
        }
        if is_synced { self.file.sync_data() } else { Ok(()) }
    }

    /// Puts the group together: frames and schemas are copied, but for the frames apart, which stay where they are, and
    /// long ones, which are on their way but for their beginning.
    fn assemble<'a>(
        &mut self,
        frames: impl Iterator<Item = (&'a mut PreparedFrame, Lsn, i64)>,
        group: &mut AlignedBuf,
        ahead: &mut Ahead,
    ) -> (Vec<Part<'a>>, u64) {
        group.clear();
        let mut parts = Vec::new();
        let mut end = self.end;
        for (frame, lsn, appended_unix_micros) in frames {
            let place = Place::of(end, frame, self.schemas.insert(frame.schema.fingerprint));
            let header = FrameHeader {
                kind: FrameKind::Batch,
                body_length: frame.body_length,
                rows: frame.rows,
                lsn,
                epoch: self.epoch,
                segment: self.id,
                offset: place.frame,
                fingerprint: frame.schema.fingerprint.0,
                appended_unix_micros,
                durable: self.durable,
                body_checksum: 0,
            };
            if let Some(offset) = place.schema {
                let header = FrameHeader {
                    kind: FrameKind::Schema,
                    body_length: frame.schema.message.len() as u32,
                    rows: 0,
                    lsn: Lsn::ZERO,
                    offset,
                    body_checksum: frame.schema.checksum,
                    ..header
                };
                group.extend(&header.encode());
                group.extend(&frame.schema.message);
                end = header.end();
            }
            group.extend_zeros((place.frame - end) as usize);
            let copied_end = group.len();
            let header = if frame.is_long() && self.durability == Durability::Sync {
                let Begun { mut head, body_checksum } = ahead.copy(&frame.shared, &self.file, place.frame);
                let header = FrameHeader { body_checksum, ..header };
                head.as_mut_slice()[..FRAME_HEADER].copy_from_slice(&header.encode());
                parts.push(Part { copied_end, apart: Apart::Begun { head, end: place.end } });
                header
            } else {
                let header = frame.complete(header, group);
                if frame.is_apart() {
                    parts.push(Part { copied_end, apart: Apart::Whole(frame.bytes()) });
                }
                header
            };
            self.totals.add(&header);
            self.frames_end = header.end();
            end = place.end;
        }
        if self.durability == Durability::Sync {
            group.extend_zeros((block_end(end) - end) as usize);
        }
        (parts, end)
    }

    /// Lets a group that ends at `end` take zeros along for those that follow.
    fn take_zeros_along(&self, end: u64, group: &mut AlignedBuf) {
        let is_small = end - self.end <= ZEROS_AHEAD_GROUP_MAX;
        let helps = self.durability == Durability::Sync && self.allocated != u64::MAX;
        if helps && is_small && end > self.written {
            let ahead = (end + ZEROS_AHEAD).min(self.allocated).min(self.segment_bytes - FOOTER as u64);
            group.extend_zeros(ahead.saturating_sub(end) as usize);
        }
    }

    /// The bug that a test plants: a sync that fails is tried again, and believed.
    fn believe_again(&self, error: io::Error) -> io::Result<()> {
        match self.canaries.has(Canary::SyncAgainAfterFailure) {
            true => self.file.sync_data(),
            false => Err(error),
        }
    }

    /// Makes everything written so far durable. What comes next begins in a block of its own: a block
    /// that holds durable frames is not written again.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        let padded = block_end(self.end);
        let padding = [0; BLOCK];
        let padding = &padding[..(padded - self.end) as usize];
        let pad = match padding.is_empty() {
            true => Ok(()),
            false => self.file.write_at(&mut [IoSlice::new(padding)], self.end),
        };
        pad.and_then(|()| self.file.sync_data())
            .or_else(|error| self.believe_again(error))
            .map_err(|source| failure("sync", &self.path, source))?;
        self.end = padded;
        self.durable = padded;
        Ok(())
    }

    /// Ends the segment with its footer, makes all of it durable and says how long its file is. One of full length stays so,
    /// to be recycled, unless it is to be made `short`.
    pub(super) fn seal(&mut self, short: bool) -> Result<u64, AppendError> {
        if self.durable < self.end {
            // A footer vouches for the frames before it, so they are on the disk first.
            self.sync()?;
        }
        let stays = !short && self.allocated == self.segment_bytes;
        let offset = if stays { self.segment_bytes - FOOTER as u64 } else { self.end };
        let footer =
            Footer { epoch: self.epoch, segment: self.id, offset, totals: self.totals, end: self.frames_end };
        let mut block = AlignedBuf::of_blocks(FOOTER);
        block.extend(&footer.encode());
        let bytes = offset + FOOTER as u64;
        let seal = || {
            if !stays {
                self.file.set_len(bytes)?;
            }
            self.file.write_durable_at(&mut [IoSlice::new(block.as_slice())], offset)?;
            match stays && self.durability == Durability::Sync {
                true => Ok(()),
                false => self.file.sync_all(),
            }
        };
        seal().map_err(|source| failure("seal", &self.path, source))?;
        Ok(bytes)
    }
}

/// The bytes of a segment whose last frame ends there, with its footer.
fn bytes_up_to(end: u64) -> u64 {
    block_end(end) + FOOTER as u64
}

/// Makes the header of a new segment, and its name, durable. Durable writes are direct ones from now on, if the file
/// system can.
fn begin(
    env: &Env,
    dir: &Path,
    file: &dyn StorageFile,
    header: &SegmentHeader,
    durability: Durability,
    is_new: bool,
) -> io::Result<()> {
    match is_new {
        true => write_header(file, header, durability).and_then(|()| file.sync_all())?,
        // Nothing else of the file changes, so this takes no journal commit.
        false => {
            let block = header_block(header);
            be_direct(file, durability)?;
            file.write_durable_at(&mut [IoSlice::new(block.as_slice())], 0)?;
        }
    }
    sync_name(env, dir)
}

fn write_header(file: &dyn StorageFile, header: &SegmentHeader, durability: Durability) -> io::Result<()> {
    let block = header_block(header);
    be_direct(file, durability)?;
    file.write_at(&mut [IoSlice::new(block.as_slice())], 0)
}

fn header_block(header: &SegmentHeader) -> AlignedBuf {
    let mut block = AlignedBuf::of_blocks(SEGMENT_HEADER);
    block.extend(&header.encode());
    block
}

fn be_direct(file: &dyn StorageFile, durability: Durability) -> io::Result<()> {
    match file.set_direct(durability == Durability::Sync) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

/// Makes the names in the directory durable.
fn sync_name(env: &Env, dir: &Path) -> io::Result<()> {
    match env.canaries.has(Canary::ForgetDirectorySync) {
        true => Ok(()),
        false => env.storage.sync_dir(dir),
    }
}

/// A frame that has memory of its own, and how much of its group was copied before it.
struct Part<'a> {
    copied_end: usize,
    apart: Apart<'a>,
}

enum Apart<'a> {
    /// All of it is to be written.
    Whole(&'a [u8]),
    /// The rest of it, up to `end`, is on its way.
    Begun { head: AlignedBuf, end: u64 },
}

impl Part<'_> {
    fn is_begun(&self) -> bool {
        matches!(self.apart, Apart::Begun { .. })
    }
}

/// What one call writes.
struct Run<'a> {
    offset: u64,
    slices: Vec<IoSlice<'a>>,
}

impl Run<'_> {
    fn end(&self) -> u64 {
        self.offset + self.slices.iter().map(|slice| slice.len() as u64).sum::<u64>()
    }
}

/// A group in the order of the disk: what was copied, and between it the frames apart. A new run begins where the rest of a
/// frame is on its way.
fn runs<'a>(start: u64, copied: &'a [u8], parts: &'a [Part<'_>]) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    let mut run = Run { offset: start, slices: Vec::with_capacity(2 * parts.len() + 1) };
    let mut copied_end = 0;
    for part in parts {
        run.slices.push(IoSlice::new(&copied[copied_end..part.copied_end]));
        copied_end = part.copied_end;
        match &part.apart {
            Apart::Whole(bytes) => run.slices.push(IoSlice::new(bytes)),
            Apart::Begun { head, end } => {
                run.slices.push(IoSlice::new(head.as_slice()));
                runs.push(std::mem::replace(&mut run, Run { offset: *end, slices: Vec::new() }));
            }
        }
    }
    run.slices.push(IoSlice::new(&copied[copied_end..]));
    runs.push(run);
    runs.iter_mut().for_each(|run| run.slices.retain(|slice| !slice.is_empty()));
    runs.retain(|run| !run.slices.is_empty());
    runs
}

/// Where a frame goes.
struct Place {
    /// Where its schema goes before it, if the segment needs that.
    schema: Option<u64>,
    frame: u64,
    /// Where it ends, with what it does not share.
    end: u64,
}

impl Place {
    fn of(end: u64, frame: &PreparedFrame, is_new_schema: bool) -> Place {
        let schema = is_new_schema.then_some(end);
        let behind = end + if is_new_schema { frame.schema_frame_bytes() } else { 0 };
        let at = if frame.is_large() { block_end(behind) } else { behind };
        let Range { start, end } = at..at + frame.frame_bytes();
        Place { schema, frame: start, end: if frame.is_large() { block_end(end) } else { end } }
    }
}
