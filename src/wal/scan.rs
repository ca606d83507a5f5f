//! What is made of the frames of a segment that was not sealed, one after the other.
//!
//! | at the position | and then | is |
//! |---|---|---|
//! | whole frame | | kept |
//! | whole frame, LSN above what a later segment says came before it | | void: it failed, and its number was given again \[I12\] |
//! | zeros up to the end of the block | the next frame, or none | padding |
//! | whole header, bad body | a frame behind it | damage: that frame is lost |
//! | whole header, bad body | nothing behind it, and nothing that knows it was durable | torn tail, cut |
//! | whole header, bad body | another one behind it that says the bytes were durable | damage: that frame is lost |
//! | no header | a frame behind it that says the bytes were durable | damage: the frames between are lost |
//! | no header | frames behind it, none of which says so | reported as an unsynced group, frames kept |
//! | no header | nothing behind it | torn tail, cut; or what the file holds from an earlier life |
//! | anything that is cut | a later segment, or the ledger's mark, that knows of frames in it | damage: those frames are lost |
//! | footer | | sealed after all |

use std::{
    collections::HashSet,
    io,
    ops::{ControlFlow, RangeInclusive},
    sync::Arc,
};

use super::{
    Damage, DamageReason,
    checking::OnProgress,
    format::{Footer, FrameHeader, FrameKind, SEGMENT_HEADER, Totals},
    recovery::{Found, NO_LIMIT},
    walk::{Step, Stretch, Walk},
};
use crate::{
    io::StorageFile,
    types::{Epoch, Lsn},
};

/// A scan of one segment, and what it has found up to now.
pub(super) struct Scan<'a> {
    found: &'a Found,
    walk: Walk,
    /// Frames up to here stand in earlier segments.
    floor: Lsn,
    limit: Lsn,
    pub(super) totals: Totals,
    /// Where the last batch ends; 0 before the first.
    pub(super) end: u64,
    /// Where the last frame ends that is not whole.
    pub(super) torn_end: u64,
    /// Where the last bytes end that say anything of this segment.
    pub(super) keep_end: u64,
    /// The highest position that any frame knew to be durable.
    durable: u64,
    /// The stretch since the last batch.
    pending: Option<(Stretch, DamageReason)>,
    /// The headers in it that are whole, of batches whose bodies are not.
    unread: Vec<FrameHeader>,
    /// The last batch that a footer names whose body is not whole.
    sealed: Lsn,
    /// Whether a whole footer came that vouches for the batches before it.
    pub(super) has_footer: bool,
    /// Bytes up to the end that are no frame.
    tail: Option<Stretch>,
    bad: Vec<(Stretch, Damage)>,
    /// The schemas that were passed.
    pub(super) schemas: HashSet<u64>,
    /// Whether a batch came whose schema did not.
    pub(super) has_orphans: bool,
    /// Those batches.
    pub(super) orphans: Vec<Orphans>,
    /// A bug that a test plants.
    pub(super) stops_at_damage: bool,
}

/// Batches one after the other whose schema does not stand before them in their segment.
#[derive(Debug)]
pub(super) struct Orphans {
    pub(super) fingerprint: u64,
    pub(super) lsns: RangeInclusive<Lsn>,
    /// Where the first one stands.
    pub(super) offset: u64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        found: &'a Found,
        file: Arc<dyn StorageFile>,
        epoch: Epoch,
        base: Lsn,
        limit: Lsn,
    ) -> Scan<'a> {
        let walk_end = found.footer.map_or(found.length, |footer| footer.end);
        Scan {
            found,
            walk: Walk::new(file, epoch, found.id, walk_end),
            floor: base.previous(),
            limit,
            totals: Totals::none(base),
            end: 0,
            torn_end: 0,
            keep_end: found.footer.map_or(0, |_| found.length),
            durable: 0,
            pending: None,
            unread: Vec::new(),
            sealed: Lsn::ZERO,
            has_footer: false,
            tail: None,
            bad: Vec::new(),
            schemas: HashSet::new(),
            has_orphans: false,
            orphans: Vec::new(),
            stops_at_damage: false,
        }
    }

    pub(super) fn run(&mut self, on_progress: OnProgress<'_>) -> io::Result<()> {
        loop {
            if let ControlFlow::Break(()) = on_progress(self.walk.position()) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match self.walk.step()? {
                Step::End => return Ok(()),
                Step::Tail { torn_end, stretch } => {
                    match self.found.footer {
                        Some(_) => self.pend(stretch, DamageReason::Overwritten),
                        None => self.tail = Some(stretch),
                    }
                    self.torn_end = self.torn_end.max(torn_end.unwrap_or(0));
                    return Ok(());
                }
                Step::Bad(_) if self.stops_at_damage => return Ok(()),
                Step::Bad(stretch) => {
                    self.pend(stretch, DamageReason::Overwritten);
                    self.walk.go_to(stretch.end);
                }
                Step::Frame(header) => {
                    self.keep_end = self.keep_end.max(header.end());
                    if !self.walk.body_is_whole(&header)? {
                        if self.stops_at_damage {
                            return Ok(());
                        }
                        self.torn_end = self.torn_end.max(header.end());
                        self.pend(Stretch::of(header.offset..header.end()), DamageReason::Body);
                        self.note_unread(header);
                        self.walk.go_to(header.end());
                        continue;
                    }
                    self.walk.pass(&header);
                    match header.kind {
                        // A schema counts with the batch that needs it.
                        FrameKind::Schema => {
                            self.durable = self.durable.max(header.durable);
                            self.schemas.insert(header.fingerprint);
                        }
                        FrameKind::Batch => self.accept(&header),
                        FrameKind::Footer => {
                            self.footer(&header);
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// A header has a checksum of its own: what it says holds, whatever became of its body.
    fn note_unread(&mut self, header: FrameHeader) {
        let is_void = header.lsn > self.limit || header.lsn <= self.floor;
        match header.kind {
            FrameKind::Schema => {}
            _ if is_void => return,
            FrameKind::Batch => self.unread.push(header),
            // It is written when everything before it is durable.
            FrameKind::Footer => self.sealed = header.lsn,
        }
        self.durable = self.durable.max(header.durable);
    }

    fn pend(&mut self, stretch: Stretch, reason: DamageReason) {
        // Stretches without a batch between them are one.
        self.pending = Some(match self.pending {
            Some((first, reason)) => (Stretch { start: first.start, ..stretch }, reason),
            None => (stretch, reason),
        });
    }

    /// Counts a batch; what could not be read before it is damage.
    fn accept(&mut self, header: &FrameHeader) {
        // [I12] Void: the write failed, and a later segment gave the number again; or it stands in an earlier
        // segment, and this one never came so far as to have a header.
        if header.lsn > self.limit || header.lsn <= self.floor {
            return;
        }
        self.durable = self.durable.max(header.durable);
        if !self.schemas.contains(&header.fingerprint) {
            self.add_orphan(header);
        }
        self.conclude(header.lsn.previous(), header.offset);
        self.unread.clear();
        self.totals.add(header);
        self.end = header.end();
    }

    fn add_orphan(&mut self, header: &FrameHeader) {
        self.has_orphans = true;
        match self.orphans.last_mut() {
            Some(Orphans { fingerprint, lsns, .. })
                if (*fingerprint, lsns.end().next()) == (header.fingerprint, header.lsn) =>
            {
                *lsns = *lsns.start()..=header.lsn;
            }
            _ => self.orphans.push(Orphans {
                fingerprint: header.fingerprint,
                lsns: header.lsn..=header.lsn,
                offset: header.offset,
            }),
        }
    }

    /// Sees the footer at the end of the file: what it vouches for was durable, and should have come by now.
    pub(super) fn vouched_for(&mut self, footer: &Footer) {
        self.durable = self.durable.max(footer.end);
        self.conclude(footer.totals.last, footer.end);
    }

    /// Sees a segment that was sealed although its footer is not at the end of its file.
    fn footer(&mut self, header: &FrameHeader) {
        if header.lsn <= self.limit {
            self.has_footer = true;
            self.durable = self.durable.max(header.durable);
            // What lies between the last frame and the footer means nothing.
            self.pending = self.pending.take().filter(|(stretch, _)| stretch.start < header.durable);
            self.conclude(header.lsn, header.offset);
        }
    }

    /// Sees the end of a segment without a footer: what lies behind the last batch is torn only beyond what somebody knows
    /// to have been durable. `vouched` is the last frame of this segment that a later one, or the ledger's mark, knows of.
    pub(super) fn tail_vouched_for(&mut self, vouched: Lsn) {
        let last = self.vouched_by_headers().max(self.sealed).max(vouched.min(self.limit));
        if self.stops_at_damage || last <= self.totals.last {
            return;
        }
        if let Some(tail) = self.tail.take() {
            self.pend(tail, DamageReason::Overwritten);
        }
        if vouched >= last {
            self.durable = u64::MAX;
        }
        self.conclude(last, self.walk.position());
        // Nothing of it is cut: somebody may want to look at what is left.
        let damaged_end = self.bad.last().map_or(0, |(stretch, _)| stretch.end);
        (self.torn_end, self.keep_end) = (0, self.keep_end.max(damaged_end));
    }

    /// The last batch behind the whole ones that a header behind it knows to have been durable.
    fn vouched_by_headers(&self) -> Lsn {
        if self.pending.is_none_or(|(pending, _)| pending.start >= self.durable) {
            return Lsn::ZERO;
        }
        let before =
            self.unread.iter().filter(|header| header.end() <= self.durable).map(|header| header.lsn);
        // A group begins where everything was durable, so its first batch is the one behind.
        let behind = self.unread.iter().find(|header| header.offset >= self.durable);
        let behind = behind.map(|header| header.lsn.previous());
        // Where no header names a number there was one frame at least.
        before.max().max(behind).unwrap_or(self.totals.last.next())
    }

    /// What could not be read up to `offset`, where batches up to `last` should have come, is damage.
    fn conclude(&mut self, last: Lsn, offset: u64) {
        let expected = self.totals.last.next();
        let lsns = (last >= expected).then_some(expected..=last);
        let gap = || (Stretch::of(self.end.max(SEGMENT_HEADER as u64)..offset), DamageReason::Missing);
        if let Some((stretch, reason)) = self.pending.take().or_else(|| lsns.is_some().then(gap)) {
            self.bad.push((stretch, stretch_damage(self.found, stretch, lsns, reason)));
        }
    }

    /// The totals, and the damage now that everything behind it was seen.
    pub(super) fn finish(self) -> (Totals, Vec<Damage>) {
        // A later segment is begun only when what it counts on is durable; within this one, the
        // frames say up to where it was.
        let durable = if self.limit == NO_LIMIT { self.durable } else { u64::MAX };
        let classify = |(stretch, damage): (Stretch, Damage)| {
            let reason = match damage.reason {
                _ if stretch.start >= durable => DamageReason::Unsynced,
                DamageReason::Overwritten if stretch.is_zero => DamageReason::Zeros,
                reason => reason,
            };
            Damage { reason, ..damage }
        };
        (self.totals, self.bad.into_iter().map(classify).collect())
    }
}

/// Damage of a stretch of this file.
pub(super) fn stretch_damage(
    found: &Found,
    stretch: Stretch,
    lsns: Option<std::ops::RangeInclusive<Lsn>>,
    reason: DamageReason,
) -> Damage {
    Damage { segment: found.path.clone(), offset: stretch.start, bytes: stretch.length(), lsns, reason }
}
