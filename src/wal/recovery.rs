//! What `open` makes of the segments that it finds: the decisions, and nothing else. `scan` has those about the frames
//! of one that was not sealed.
//!
//! **Per file.** The first line that applies decides.
//!
//! | the file | is |
//! |---|---|
//! | its name is not exactly a segment's | not looked at |
//! | whole header, unknown format version | refused: nothing is opened or changed |
//! | whole header, other epoch or other number than its name | foreign: reported, left alone |
//! | whole header, whole footer at the very end, none of its frames void | sealed: its footer is believed, its frames are not read now |
//! | whole header, anything else | unsealed: scanned; then sealed, if all of it is whole |
//! | no whole header, but frames of ours | reported, scanned all the same; its first frame says what the header said |
//! | no whole header, no frame of ours, a block that can be a header written in part | was being created: empty, nothing was promised in it |
//! | no whole header, no frame of ours, anything else | unreadable: reported, left alone |
//!
//! **Between segments.** Frames that a later segment says came before it, and that no segment has: missing,
//! reported under the name of the missing segment. Everything else is continuous by construction.
//! `docs/internals/recovery.md` argues why no promised frame is lost and no number has two contents.

use std::{
    io::{ErrorKind, IoSlice},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Damage, DamageReason, OpenError,
    checking::Checking,
    directory::{self, storage},
    format::{
        self, FOOTER, FORMAT_VERSION, Footer, SEGMENT_HEADER, SegmentHeader, SegmentHeaderFault, block_end,
    },
    index::Segment,
    scan::{Scan, stretch_damage},
    walk::{Stretch, Walk},
};
use crate::{
    canary::Canary,
    io::{Access, Env, StorageFile},
    types::{Epoch, Lsn, SegmentId},
};

/// What `open` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recovery {
    /// The last frame, or what the ledger knows beyond it.
    pub last: Lsn,
    /// The first frame that is there.
    pub first: Option<Lsn>,
    /// How many segments there are.
    pub segments: usize,
    /// The frames in them.
    pub frames: u64,
    /// The rows of those.
    pub rows: u64,
    /// The bytes of the segments.
    pub bytes: u64,
    /// Bytes behind the last whole frame of a segment: appends that were never promised.
    pub torn_bytes: u64,
    /// What cannot be read. Damage inside a sealed segment shows when it is read.
    pub damage: Vec<Damage>,
}

/// The segments as they are to be used, and the report.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    /// Above the number of every file that is there.
    pub(super) next_segment: SegmentId,
    pub(super) report: Recovery,
}

/// The ends of so many files are fetched at once, and the files are open so long.
const INSPECTED_TOGETHER: usize = 64;

/// What a segment with none behind it may hold.
pub(super) const NO_LIMIT: Lsn = Lsn::new(u64::MAX);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The owner, who makes sure that what it finds is on the disk.
    Owner,
    /// Somebody who only looks, perhaps beside a live owner.
    Onlooker,
}

/// A file that has a segment's name, after its ends were read.
pub(super) struct Found {
    pub(super) id: SegmentId,
    pub(super) path: PathBuf,
    /// Still open if it has no footer: what is scanned is the file that was found, whatever its name is by then. The
    /// others are closed, as a backlog may have more of them than a process may have open.
    file: Option<Arc<dyn StorageFile>>,
    pub(super) length: u64,
    pub(super) header: Option<SegmentHeader>,
    /// Whether what stands in the header's place can be one that was written in part.
    may_be_new: bool,
    /// The first frame, if there is no header to say which one comes before it.
    first: Option<Lsn>,
    pub(super) footer: Option<Footer>,
}

impl Found {
    /// The last frame that stands before this segment.
    fn previous(&self) -> Option<Lsn> {
        self.header.map(|header| header.previous).or_else(|| self.first.map(Lsn::previous))
    }
}

/// Decides about every segment of a directory.
pub(super) fn recover(env: &Env, dir: &Path, epoch: Epoch, role: Role) -> Result<Recovered, OpenError> {
    recover_with(env, dir, epoch, role, None, Lsn::ZERO)
}

/// The same; with `checking` everything is read, and damage in sealed segments is found too. Every frame up to `durable` was
/// so once, as the ledger's mark says.
pub(super) fn recover_with(
    env: &Env,
    dir: &Path,
    epoch: Epoch,
    role: Role,
    mut checking: Option<Checking<'_>>,
    durable: Lsn,
) -> Result<Recovered, OpenError> {
    if role == Role::Owner {
        // [I13] Names too: the removal of a segment that a dead process gave up must not come back and void
        // frames that are read from now on.
        env.storage.sync_dir(dir).map_err(storage("sync", dir))?;
    }
    let directory::Segments { ids, marked } = directory::segments(env, dir)?;
    let next_segment = ids.last().map_or(SegmentId::new(1), |id| id.next());
    if let Some(last) = ids.last().filter(|last| role == Role::Owner && **last == next_segment) {
        let path = dir.join(format::segment_name(*last));
        let source =
            std::io::Error::new(ErrorKind::AlreadyExists, "no number is left behind its own; move it away");
        return Err(OpenError::Storage { action: "begin a segment after", path, source });
    }
    let mut report = Recovery::default();
    let mut found = Vec::new();
    for file in inspect_all(env, dir, epoch, &ids, role)? {
        let Some(file) = file else {
            // Segments go oldest first.
            found.clear();
            continue;
        };
        let foreign = file.header.is_some_and(|header| header.epoch != epoch || header.id != file.id);
        match foreign {
            true if is_gone(env, &file, role) => found.clear(),
            true => report.damage.push(whole_file(&file, DamageReason::Foreign)),
            false => found.push(file),
        }
    }

    let mut segments: Vec<Segment> = Vec::new();
    let mut last = Lsn::ZERO;
    let mut begins_known = false;
    for ((at, file), limit) in found.iter().enumerate().zip(limits(env, &found)) {
        if let Some(header) = file.header.filter(|header| begins_known && header.previous > last) {
            report.damage.push(missing(dir, &segments, file, last.next()..=header.previous));
        }
        let base = file.header.map_or(last.next(), |header| header.base);
        let sealed = file.footer.filter(|footer| file.header.is_some() && footer.totals.last <= limit);
        let segment = match sealed {
            Some(footer) if checking.is_none() => Some(Segment {
                totals: footer.totals,
                end: footer.end,
                bytes: file.length,
                is_sealed: true,
                ..Segment::empty(file.id, file.path.clone(), base)
            }),
            _ => {
                let frames = Frames { base, limit, vouched: vouched(&found, at, limit, durable) };
                scan(env, file, epoch, frames, role, sealed, &mut checking, &mut report)?
            }
        };
        let is_odd = segment.as_ref().is_none_or(|segment| !segment.damage.is_empty());
        if is_odd && is_gone(env, file, role) {
            report.damage.retain(|damage| damage.segment != file.path);
            segments.clear();
            begins_known = false;
            continue;
        }
        let Some(mut segment) = segment else { continue };
        segment.is_marked = marked.binary_search(&segment.id).is_ok();
        // A segment that was being created says nothing about what came before it.
        begins_known |= segment.tells_lsns;
        let by_footer = sealed.map_or(Lsn::ZERO, |footer| footer.totals.last);
        // [I12] Frames that are lost at the end had their numbers.
        last = last.max(segment.last_held()).max(base.previous()).max(by_footer);
        segments.push(segment);
    }

    report.damage.extend(checking.into_iter().flat_map(Checking::lost));
    report.last = last;
    report.segments = segments.len();
    report.first = segments.iter().find(|s| s.totals.frames > 0).map(|s| s.totals.first);
    report.frames = segments.iter().map(|segment| segment.totals.frames).sum();
    report.rows = segments.iter().map(|segment| segment.totals.rows).sum();
    report.bytes = segments.iter().map(|segment| segment.bytes).sum();
    Ok(Recovered { segments, next_segment, report })
}

/// The highest frame that each segment may hold: a later one says which frames came before it, and what
/// is above that is void \[I12\].
fn limits(env: &Env, found: &[Found]) -> Vec<Lsn> {
    let mut limits = vec![NO_LIMIT; found.len()];
    let mut limit = NO_LIMIT;
    for (at, file) in found.iter().enumerate().rev() {
        limits[at] = limit;
        if !env.canaries.has(Canary::ReuseLsn) {
            limit = file.previous().map_or(limit, |previous| limit.min(previous));
        }
    }
    limits
}

/// The last frame that must be in this segment, as the one behind it says or, if it is the last, the mark of the ledger.
fn vouched(found: &[Found], at: usize, limit: Lsn, durable: Lsn) -> Lsn {
    let Some(next) = found.get(at + 1) else { return durable };
    let follows = next.id == found[at].id.next();
    next.header.filter(|_| follows).map_or(Lsn::ZERO, |header| header.previous.min(limit))
}

/// Which frames a segment can hold.
#[derive(Clone, Copy)]
struct Frames {
    base: Lsn,
    limit: Lsn,
    /// It held them up to here.
    vouched: Lsn,
}

/// Whether a file that looks odd was reclaimed while an onlooker read it: its bytes are another segment's
/// then.
fn is_gone(env: &Env, found: &Found, role: Role) -> bool {
    let open = || env.storage.open(&found.path, Access::Read);
    role == Role::Onlooker && open().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Reads both ends of all files, a few files at a time. Nothing of those that went away meanwhile, which they may
/// for an onlooker.
fn inspect_all(
    env: &Env,
    dir: &Path,
    epoch: Epoch,
    ids: &[SegmentId],
    role: Role,
) -> Result<Vec<Option<Found>>, OpenError> {
    let mut all = Vec::with_capacity(ids.len());
    for ids in ids.chunks(INSPECTED_TOGETHER) {
        let opened =
            ids.iter().map(|id| open_file(env, dir, *id, role)).collect::<Result<Vec<_>, OpenError>>()?;
        for opened in opened {
            all.push(opened.map(|opened| inspect(opened, epoch, role)).transpose()?);
        }
    }
    Ok(all)
}

/// A file that has a segment's name.
struct Opened {
    id: SegmentId,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    length: u64,
}

/// Opens a file and has the system fetch both of its ends.
fn open_file(env: &Env, dir: &Path, id: SegmentId, role: Role) -> Result<Option<Opened>, OpenError> {
    let path = dir.join(format::segment_name(id));
    let file = match env.storage.open(&path, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound && role == Role::Onlooker => return Ok(None),
        result => result.map_err(storage("open", &path))?,
    };
    let length = file.length().map_err(storage("read", &path))?;
    let ends = [0..SEGMENT_HEADER as u64, length.saturating_sub(FOOTER as u64)..u64::MAX];
    for end in ends {
        if role == Role::Owner {
            // [I13] What a failed sync left behind as if it were written leaves the page cache. What a dead process
            // left unwritten stays: a footer vouches for frames that were synced before it, so it may be believed.
            file.drop_page_cache(end.clone()).map_err(storage("read", &path))?;
        }
        file.prefetch(end);
    }
    Ok(Some(Opened { id, path, file, length }))
}

/// Reads both ends of a file.
fn inspect(opened: Opened, epoch: Epoch, role: Role) -> Result<Found, OpenError> {
    let Opened { id, path, file, length } = opened;
    let mut block = vec![0; SEGMENT_HEADER];
    let count = file.read_at(&mut block, 0).map_err(storage("read", &path))?;
    let header = match SegmentHeader::decode(&block[..count]) {
        Ok(header) => Some(header),
        Err(SegmentHeaderFault::Checksum) => None,
        Err(SegmentHeaderFault::Version(version)) => {
            return Err(OpenError::UnsupportedVersion { path, version, known: FORMAT_VERSION });
        }
    };
    let may_be_new = SegmentHeader::may_be_torn(&block[..count]);
    let footer = read_footer(&*file, epoch, id, length).map_err(storage("read", &path))?;
    let first = match header {
        Some(_) => None,
        None => first_batch(&file, epoch, id, length, role).map_err(storage("read", &path))?,
    };
    let file = footer.is_none().then_some(file);
    Ok(Found { id, path, file, length, header, may_be_new, first, footer })
}

/// Frames are only written behind a header that is durable, so the first of them says what a lost header said: the frames
/// of earlier segments from its number on are void \[I12\].
fn first_batch(
    file: &Arc<dyn StorageFile>,
    epoch: Epoch,
    id: SegmentId,
    length: u64,
    role: Role,
) -> std::io::Result<Option<Lsn>> {
    if role == Role::Owner {
        file.drop_page_cache(0..u64::MAX)?;
    }
    Walk::new(Arc::clone(file), epoch, id, length).first_batch()
}

fn read_footer(
    file: &dyn StorageFile,
    epoch: Epoch,
    id: SegmentId,
    length: u64,
) -> std::io::Result<Option<Footer>> {
    let Some(offset) = length.checked_sub(FOOTER as u64) else { return Ok(None) };
    let mut block = vec![0; FOOTER];
    if file.read_at(&mut block, offset)? < FOOTER {
        return Ok(None);
    }
    Ok(Footer::decode(&block)
        .filter(|footer| (footer.epoch, footer.segment, footer.offset) == (epoch, id, offset)))
}

/// Reads a segment frame by frame. Nothing if it holds nothing that can be used. `sealed` is the footer that is to be
/// compared with what it vouches for.
#[expect(clippy::too_many_arguments, reason = "what is known of one segment, and of those before it")]
fn scan(
    env: &Env,
    found: &Found,
    epoch: Epoch,
    Frames { base, limit, vouched }: Frames,
    role: Role,
    sealed: Option<Footer>,
    checking: &mut Option<Checking<'_>>,
    report: &mut Recovery,
) -> Result<Option<Segment>, OpenError> {
    let file = match &found.file {
        Some(file) => Arc::clone(file),
        None => match env.storage.open(&found.path, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound && role == Role::Onlooker => return Ok(None),
            result => result.map_err(storage("open", &found.path))?,
        },
    };
    if role == Role::Owner {
        // [I13] Here what a dead process left unwritten goes to the disk too. What is read then is on the disk.
        file.sync_data().map_err(storage("sync", &found.path))?;
        file.drop_page_cache(0..u64::MAX).map_err(storage("read", &found.path))?;
    }
    let mut scan = Scan::new(found, Arc::clone(&file), epoch, base, limit);
    scan.stops_at_damage = env.canaries.has(Canary::CutAtFirstBadChecksum);
    match checking {
        None => scan.run(&mut |_| ControlFlow::Continue(())).map_err(storage("read", &found.path))?,
        Some(checking) => {
            // Whoever checks wants to know what the disk has.
            file.drop_page_cache(0..u64::MAX).map_err(storage("read", &found.path))?;
            let Checking { done_bytes, on_progress, schemas, orphans } = checking;
            scan.run(&mut |position| on_progress(*done_bytes + position))
                .map_err(storage("read", &found.path))?;
            *done_bytes += found.length;
            schemas.extend(&scan.schemas);
            orphans.extend(scan.orphans.drain(..).map(|orphans| (found.path.clone(), orphans)));
        }
    }
    match &sealed {
        Some(footer) => scan.vouched_for(footer),
        None if found.footer.is_none() => scan.tail_vouched_for(vouched),
        None => {}
    }

    let (base, has_orphans) = (scan.totals.first, scan.has_orphans);
    let has_frames = scan.end > 0;
    let end = scan.end.max(SEGMENT_HEADER as u64);
    let torn_end = scan.torn_end.max(end);
    let (is_torn, has_footer) = (torn_end > end, scan.has_footer || found.footer.is_some());
    let keep_end = block_end(scan.keep_end.max(torn_end));
    let (totals, mut damage) = scan.finish();
    if let Some(footer) = sealed.filter(|footer| damage.is_empty() && footer.totals != totals) {
        let block = Stretch::of(footer.offset..found.length);
        damage.push(stretch_damage(found, block, None, DamageReason::Footer));
    }
    if found.header.is_none() && has_frames {
        let header = Stretch::of(0..SEGMENT_HEADER as u64);
        damage.insert(0, stretch_damage(found, header, None, DamageReason::SegmentHeader));
    } else if found.header.is_none() && !found.may_be_new {
        report.damage.push(whole_file(found, DamageReason::Unreadable));
        return Ok(None);
    }
    if sealed.is_none() {
        report.torn_bytes += torn_end - end;
    }
    report.damage.extend(damage.iter().cloned());
    let mut bytes = keep_end.min(found.length).max(end);
    if role == Role::Owner {
        give_back(env, found, keep_end)?;
        let is_whole = found.header.is_some() && !is_torn && !has_orphans && damage.is_empty();
        if is_whole && has_frames && !has_footer {
            let footer = Footer { epoch, segment: found.id, offset: keep_end, totals, end };
            bytes = seal(env, found, &footer).unwrap_or(bytes);
        }
    }
    let tells_lsns = found.header.is_some() || has_frames;
    let empty = Segment { tells_lsns, ..Segment::empty(found.id, found.path.clone(), base) };
    Ok(Some(Segment { totals, end, bytes, has_orphans, damage, ..empty }))
}

fn whole_file(found: &Found, reason: DamageReason) -> Damage {
    Damage { segment: found.path.clone(), offset: 0, bytes: found.length, lsns: None, reason }
}

/// Frames that a segment says came before it, and that are not there.
fn missing(dir: &Path, before: &[Segment], found: &Found, lsns: std::ops::RangeInclusive<Lsn>) -> Damage {
    let follows = before.last().map(|segment| segment.id.next());
    let (segment, offset) = match (follows, before.last()) {
        (Some(id), Some(last)) if id == found.id => (last.path.clone(), last.end),
        (Some(id), _) => (dir.join(format::segment_name(id)), 0),
        (None, _) => (found.path.clone(), 0),
    };
    Damage { segment, offset, bytes: 0, lsns: Some(lsns), reason: DamageReason::Missing }
}

/// Cuts what a segment does not use: a dead process's reserve must not fill the disk.
fn give_back(env: &Env, found: &Found, keep_end: u64) -> Result<(), OpenError> {
    if keep_end >= found.length {
        return Ok(());
    }
    let cut = || env.storage.open(&found.path, Access::Write)?.set_len(keep_end);
    cut().map_err(storage("cut", &found.path))
}

/// Ends a segment that a dead process left open, so that the next opening need not read it again \[I11\]: its frames were just
/// read from the disk, and a footer may vouch for them. How long the file is then; none if it stays as it was, for nothing
/// depends on it.
fn seal(env: &Env, found: &Found, footer: &Footer) -> Option<u64> {
    let write = || {
        let file = env.storage.open(&found.path, Access::Write)?;
        file.write_at(&mut [IoSlice::new(&footer.encode())], footer.offset)?;
        file.sync_all()
    };
    match write() {
        Ok(()) => Some(footer.offset + FOOTER as u64),
        Err(error) => {
            let segment = found.path.display();
            tracing::warn!(%segment, %error, "a segment cannot be sealed; it is read again at the next opening");
            None
        }
    }
}
