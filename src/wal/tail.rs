//! How durable frames are read: in order, from any position, up to the durable one and on as it moves.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_schema::SchemaRef;

use super::{
    Damage, DamageReason, Durability, Frame, ReadError, SchemaFingerprint,
    format::{self, FrameHeader, FrameKind},
    frame::decode_schema,
    index::{Index, Segment},
    memory::ReadMemory,
    queue::Shared,
    walk::{Step, Stretch, Walk},
};
use crate::{
    io::{Access, Env},
    types::{Epoch, Lsn, SegmentId},
};

/// More schemas than this are not kept; those that are needed again are read again.
const SCHEMAS_MAX: usize = 1024;

/// What a reader comes to next.
#[derive(Clone, Debug)]
pub enum Next {
    /// A frame whose checksums match.
    Frame(Frame),
    /// A stretch that cannot be read. Reported once, stepped over.
    Damaged(Damage),
}

/// Whose frames are read.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A log that this process owns; it moves on.
    Own(Arc<Shared>),
    /// A log as it was when somebody looked at it.
    Seen(Arc<Seen>),
}

/// What a look at a log has shown.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) env: Env,
    pub(super) dir: PathBuf,
    pub(super) epoch: Epoch,
    pub(super) index: Index,
    pub(super) last: Lsn,
}

/// Reads the durable frames of a log in order.
///
/// Frames and damage together name every LSN from the first one asked for on exactly once, in order:
/// a number that is nowhere in the log comes as [`DamageReason::Missing`].
#[derive(Debug)]
pub struct LogReader {
    source: Source,
    next: Lsn,
    /// The segment that the last frame was in, as it was then.
    segment: Option<Arc<Segment>>,
    cursor: Option<Cursor>,
    is_uncached: bool,
    /// What the cursors before have read into.
    pub(super) memory: ReadMemory,
    bookmark: Option<Bookmark>,
    /// The frame before which damage was met once, and not yet a second time.
    doubted: Option<Lsn>,
    schemas: HashMap<SchemaFingerprint, SchemaRef>,
}

/// Where a reader that has caught up goes on. It keeps no file open meanwhile: the disk gets the space of a
/// reclaimed segment back only when nobody has it open.
#[derive(Clone, Debug)]
struct Bookmark {
    segment: SegmentId,
    position: u64,
    passed: Lsn,
    pending: Option<(Stretch, DamageReason)>,
}

/// The one file that a reader keeps open.
#[derive(Debug)]
struct Cursor {
    segment: SegmentId,
    walk: Walk,
    /// A stretch since the last batch that was read.
    pending: Option<(Stretch, DamageReason)>,
}

impl LogReader {
    pub(super) fn new(source: Source, from: Lsn) -> LogReader {
        LogReader {
            source,
            next: from.max(Lsn::FIRST),
            segment: None,
            cursor: None,
            is_uncached: false,
            memory: ReadMemory::default(),
            bookmark: None,
            doubted: None,
            schemas: HashMap::new(),
        }
    }

    /// The same reader, which reads long frames past the page cache where they were written past it, each while its caller
    /// has the one before: that costs the processor a tenth. So it is for those who have work for it meanwhile.
    #[must_use]
    pub fn uncached(self) -> LogReader {
        LogReader { is_uncached: true, ..self }
    }

    /// The frame that comes next, if it is there.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Goes on at this frame.
    pub(crate) fn go_to(&mut self, lsn: Lsn) {
        self.next = lsn.max(Lsn::FIRST);
        (self.segment, self.cursor, self.bookmark, self.doubted) = (None, None, None, None);
    }

    /// The next frame or damage; none when everything durable was read.
    ///
    /// # Errors
    ///
    /// When the file system fails. The reader stays where it is, so the call can be repeated.
    #[expect(clippy::should_implement_trait, reason = "none is not the end: more may become durable")]
    pub fn next(&mut self) -> Result<Option<Next>, ReadError> {
        // The durable position first: a segment that is found after it holds at least as much.
        let durable = self.source.durable();
        if self.next > durable {
            self.rest();
            return Ok(None);
        }
        let Some(segment) = self.segment() else {
            return Ok(Some(self.missing(self.source.dir().to_owned(), durable)));
        };
        if self.next < segment.totals.first {
            return Ok(Some(self.missing(segment.path.clone(), segment.totals.first.previous())));
        }
        let (next, bookmark) = (self.next, self.bookmark());
        match self.read(&segment) {
            Ok(Next::Damaged(_)) if self.doubted != Some(next) => {
                (self.next, self.bookmark, self.cursor) = (next, bookmark, None);
                self.look_again(&segment)?;
                self.doubted = Some(next);
                self.next()
            }
            Ok(found) => {
                self.doubted = None;
                if let Next::Damaged(damage) = &found {
                    self.source.mark(&segment, damage);
                }
                Ok(Some(found))
            }
            Err(source) if source.kind() == ErrorKind::NotFound => {
                (self.cursor, self.segment) = (None, None);
                if self.segment().is_some_and(|found| found.id == segment.id) {
                    return Ok(Some(self.missing(segment.path.clone(), segment.totals.last)));
                }
                self.next()
            }
            Err(source) => {
                // What was read ahead may be what failed.
                self.cursor = None;
                Err(ReadError { action: "read", path: segment.path.clone(), source })
            }
        }
    }

    /// The segment that holds the next frame or, if none does, the one that holds the frame after it.
    fn segment(&mut self) -> Option<Arc<Segment>> {
        let holds_next =
            |segment: &Arc<Segment>| (segment.totals.first..=segment.totals.last).contains(&self.next);
        if !self.segment.as_ref().is_some_and(holds_next) {
            self.segment = self.source.find(self.next).map(Arc::new);
        }
        self.segment.clone()
    }

    /// Damage is believed when it is there a second time, on the disk and not only in memory: another
    /// reader may have filled the page cache while the appender wrote past it, and the file of a
    /// segment that was reclaimed meanwhile holds another one.
    fn look_again(&self, segment: &Segment) -> Result<(), ReadError> {
        let open = self.source.env().storage.open(&segment.path, Access::Read);
        match open.and_then(|file| file.drop_page_cache(0..u64::MAX)) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(ReadError { action: "read", path: segment.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Closes the file until there is more to read. Memory is given back when there still is no more the next time.
    fn rest(&mut self) {
        self.bookmark = self.bookmark();
        self.memory = self.cursor.take().map(|cursor| cursor.walk.into_memory()).unwrap_or_default();
    }

    fn bookmark(&self) -> Option<Bookmark> {
        let of_cursor = |cursor: &Cursor| Bookmark {
            segment: cursor.segment,
            position: cursor.walk.position(),
            passed: cursor.walk.passed(),
            pending: cursor.pending,
        };
        self.cursor.as_ref().map(of_cursor).or_else(|| self.bookmark.clone())
    }

    /// Frames up to `last` that are in no segment.
    fn missing(&mut self, segment: PathBuf, last: Lsn) -> Next {
        let lsns = Some(self.next..=last);
        self.next = last.next();
        Next::Damaged(Damage { segment, offset: 0, bytes: 0, lsns, reason: DamageReason::Missing })
    }

    /// Reads on in a segment that has a frame at or behind `self.next`.
    fn read(&mut self, segment: &Segment) -> io::Result<Next> {
        let next = self.next;
        loop {
            let cursor = self.cursor_of(segment)?;
            let header = match cursor.walk.step()? {
                Step::Bad(stretch) => {
                    cursor.pend(stretch, DamageReason::Overwritten);
                    cursor.walk.go_to(stretch.end);
                    continue;
                }
                Step::Frame(header) if header.kind == FrameKind::Schema => {
                    self.learn(&header)?;
                    continue;
                }
                Step::Frame(header) if header.kind == FrameKind::Batch => header,
                Step::Tail { stretch, .. } => {
                    cursor.pend(stretch, DamageReason::Overwritten);
                    return Ok(self.lost(segment, segment.totals.last));
                }
                Step::Frame(_) | Step::End => return Ok(self.lost(segment, segment.totals.last)),
            };
            if header.lsn < next {
                cursor.pending = None;
                cursor.walk.pass(&header);
            } else if header.lsn > next || cursor.pending.is_some() {
                return Ok(self.lost(segment, header.lsn.previous()));
            } else {
                return self.frame(segment, &header);
            }
        }
    }

    fn cursor_of(&mut self, segment: &Segment) -> io::Result<&mut Cursor> {
        let cursor = match self.cursor.take() {
            Some(cursor) if cursor.segment == segment.id => cursor,
            other => {
                let rested = std::mem::take(&mut self.memory);
                let memory = other.map_or(rested, |other| other.walk.into_memory());
                let file = self.source.env().storage.open(&segment.path, Access::Read)?;
                let walk = Walk::new(file, self.source.epoch(), segment.id, segment.end);
                let is_uncached = self.is_uncached && self.source.is_uncached();
                let reads_ahead = self.source.env().storage.works_side_by_side();
                let mut walk = walk.with_memory(memory).uncached(is_uncached, reads_ahead);
                let bookmark = self.bookmark.take().filter(|bookmark| bookmark.segment == segment.id);
                let pending = bookmark.and_then(|bookmark| {
                    walk.resume(bookmark.position, bookmark.passed);
                    bookmark.pending
                });
                Cursor { segment: segment.id, walk, pending }
            }
        };
        let cursor = self.cursor.insert(cursor);
        cursor.walk.extend(segment.end);
        Ok(cursor)
    }

    /// Reads the schema that the walk stands at.
    fn learn(&mut self, header: &FrameHeader) -> io::Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let fingerprint = SchemaFingerprint(header.fingerprint);
        let stored = cursor.walk.body(header)?.and_then(|body| decode_schema(fingerprint, body).ok());
        match stored {
            Some(schema) => {
                if self.schemas.len() >= SCHEMAS_MAX {
                    self.schemas.clear();
                }
                self.schemas.insert(fingerprint, schema);
            }
            None => cursor.pend(Stretch::of(header.offset..header.end()), DamageReason::Body),
        }
        cursor.walk.pass(header);
        Ok(())
    }

    /// Reads the batch that the walk stands at and that is the next one.
    fn frame(&mut self, segment: &Segment, header: &FrameHeader) -> io::Result<Next> {
        let Some(cursor) = &mut self.cursor else { return Ok(self.lost(segment, header.lsn)) };
        let body = cursor.walk.body(header)?;
        let fingerprint = SchemaFingerprint(header.fingerprint);
        let schema = match self.schemas.get(&fingerprint) {
            Some(schema) => Some(schema.clone()),
            None => self.find_schema(Some(segment.id), fingerprint)?,
        };
        let reason = match (body, schema) {
            (Some(body), Some(schema)) => {
                if let Some(cursor) = &mut self.cursor {
                    cursor.walk.pass(header);
                }
                self.next = header.lsn.next();
                return Ok(Next::Frame(Frame::new(header, schema, body)));
            }
            (None, _) => DamageReason::Body,
            (Some(_), None) => DamageReason::Schema,
        };
        if let Some(cursor) = &mut self.cursor {
            cursor.pend(Stretch::of(header.offset..header.end()), reason);
            cursor.walk.pass(header);
        }
        Ok(self.lost(segment, header.lsn))
    }

    /// Looks for a schema whose frame in this segment is damaged: other segments have it too, as a
    /// rule.
    fn find_schema(
        &mut self,
        except: Option<SegmentId>,
        fingerprint: SchemaFingerprint,
    ) -> io::Result<Option<SchemaRef>> {
        let segments = self.source.segments();
        for other in segments.iter().filter(|other| Some(other.id) != except) {
            let file = match self.source.env().storage.open(&other.path, Access::Read) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                result => result?,
            };
            let mut walk = Walk::new(file, self.source.epoch(), other.id, other.end);
            loop {
                match walk.step()? {
                    Step::Frame(header) => {
                        if header.kind == FrameKind::Schema
                            && header.fingerprint == fingerprint.0
                            && let Some(body) = walk.body(&header)?
                            && let Ok(schema) = decode_schema(fingerprint, body)
                        {
                            self.schemas.insert(fingerprint, schema.clone());
                            return Ok(Some(schema));
                        }
                        walk.pass(&header);
                    }
                    Step::Bad(stretch) => walk.go_to(stretch.end),
                    Step::Tail { .. } | Step::End => break,
                }
            }
        }
        Ok(None)
    }

    /// The frames in a stretch of damage that Arrow can make sense of all the same: their headers are whole, their bodies do
    /// not match their checksums. What they say may be wrong. For those who ask for it by name only.
    ///
    /// # Errors
    ///
    /// When the file system fails. A segment that is gone has nothing.
    #[cfg(feature = "cli")]
    pub(crate) fn salvage(&mut self, damage: &Damage) -> io::Result<Vec<Frame>> {
        let segments = self.source.segments();
        let Some(segment) = segments.iter().find(|segment| segment.path == damage.segment) else {
            return Ok(Vec::new());
        };
        let file = match self.source.env().storage.open(&segment.path, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            result => result?,
        };
        let mut walk = Walk::new(file, self.source.epoch(), segment.id, segment.end);
        walk.go_to(damage.offset);
        let mut frames = Vec::new();
        while walk.position() < damage.offset + damage.bytes {
            let header = match walk.step()? {
                Step::Frame(header) => header,
                Step::Bad(stretch) => {
                    walk.go_to(stretch.end);
                    continue;
                }
                Step::Tail { .. } | Step::End => break,
            };
            walk.pass(&header);
            if header.kind != FrameKind::Batch
                || !damage.lsns.as_ref().is_some_and(|lost| lost.contains(&header.lsn))
            {
                continue;
            }
            let fingerprint = SchemaFingerprint(header.fingerprint);
            let schema = match self.schemas.get(&fingerprint) {
                Some(schema) => Some(schema.clone()),
                None => self.find_schema(None, fingerprint)?,
            };
            let Some(schema) = schema else { continue };
            let frame = Frame::new(&header, schema, walk.unchecked_body(&header)?);
            if frame.decode().is_ok() {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// Reports what stands between the last frame and the one after `last`.
    fn lost(&mut self, segment: &Segment, last: Lsn) -> Next {
        let pending = self.cursor.as_mut().and_then(|cursor| cursor.pending.take());
        let position = self.cursor.as_ref().map_or(0, |cursor| cursor.walk.position());
        let (stretch, reason) = pending.unwrap_or((Stretch::of(position..position), DamageReason::Missing));
        let lsns: Option<RangeInclusive<Lsn>> = (last >= self.next).then_some(self.next..=last);
        self.next = self.next.max(last.next());
        let zeros = reason == DamageReason::Overwritten && stretch.is_zero;
        let known = segment.damage.iter().find(|damage| damage.offset == stretch.start);
        let reason = match known {
            Some(known) => known.reason,
            None if zeros => DamageReason::Zeros,
            None => reason,
        };
        Next::Damaged(Damage {
            segment: segment.path.clone(),
            offset: stretch.start,
            bytes: stretch.length(),
            lsns,
            reason,
        })
    }
}

impl Source {
    fn env(&self) -> &Env {
        match self {
            Source::Own(shared) => &shared.env,
            Source::Seen(seen) => &seen.env,
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Source::Own(shared) => &shared.dir,
            Source::Seen(seen) => &seen.dir,
        }
    }

    fn epoch(&self) -> Epoch {
        match self {
            Source::Own(shared) => shared.epoch,
            Source::Seen(seen) => seen.epoch,
        }
    }

    /// Whether its files were written past the page cache, so that nothing of them is there.
    fn is_uncached(&self) -> bool {
        match self {
            Source::Own(shared) => shared.options.durability == Durability::Sync,
            // Whoever wrote them; they may still be there.
            Source::Seen(_) => false,
        }
    }

    /// Up to here frames may be read.
    fn durable(&self) -> Lsn {
        match self {
            Source::Own(shared) => shared.durable(),
            Source::Seen(seen) => seen.last,
        }
    }

    /// The segment that holds this frame or, if none does, the one that holds the next.
    fn find(&self, lsn: Lsn) -> Option<Segment> {
        match self {
            Source::Own(shared) => shared.index().find(lsn).cloned(),
            Source::Seen(seen) => seen.index.find(lsn).cloned(),
        }
    }

    /// Has a segment set aside when it is freed: what is left of its damaged frames may be worth something to a person.
    /// The mark is durable before anything behind the damage can be settled, so it survives a crash.
    fn mark(&self, segment: &Segment, damage: &Damage) {
        let Source::Own(shared) = self else { return };
        let is_new = {
            let mut index = shared.index();
            let marked = index.segments.iter_mut().find(|it| it.id == segment.id && !it.is_marked);
            marked.map(|marked| marked.is_marked = true).is_some()
        };
        if !is_new || !segment.damage.is_empty() {
            return;
        }
        let storage = &shared.env.storage;
        let created = match storage.open(&format::set_aside_path(&segment.path), Access::New) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            created => created.map(drop),
        };
        // A full disk shall not hold up delivery: then the segment is set aside unless this process dies before.
        if let Err(error) = created.and_then(|()| storage.sync_dir(&shared.dir)) {
            tracing::warn!(%error, %damage, "a damaged segment cannot be marked");
        }
    }

    fn segments(&self) -> Vec<Segment> {
        match self {
            Source::Own(shared) => shared.index().segments.clone(),
            Source::Seen(seen) => seen.index.segments.clone(),
        }
    }
}

impl Cursor {
    fn pend(&mut self, stretch: Stretch, reason: DamageReason) {
        // Stretches without a batch between them are one.
        self.pending = Some(match self.pending {
            Some((first, reason)) => (Stretch { start: first.start, ..stretch }, reason),
            None => (stretch, reason),
        });
    }
}
