//! What an observer outside the world knows: what was appended, what was promised, what was delivered, and what was
//! done to the disk that no log can mend.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use arrow_zerobus_sdk_wrapper::{
    ledger::{LedgerRecord, Ranges},
    wal::{Damage, DamageReason, Durability},
};

use crate::batches;

/// The outcome of a check: the rule that is broken, and how.
pub(crate) type Check<T = ()> = Result<T, String>;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The append failed, or the power went before it answered: the batch is stored or not.
    Unknown,
    /// The append answered with this number.
    Stored {
        lsn: u64,
        /// No power cut may take it any more.
        promised: bool,
    },
}

/// The observer.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Batches are numbered in the order in which they are appended, from 1 on.
    pub(crate) batches: u64,
    pub(crate) fates: BTreeMap<u64, Fate>,
    /// The last process was killed, and nothing has come since that could take what it had stored, promised or not.
    pub(crate) outlives: bool,
    /// Which batch a frame is, from when on it must not be another one.
    pub(crate) contents: BTreeMap<u64, u64>,
    /// The last number that an append, or an opening, has told.
    pub(crate) last: u64,
    /// What the drainer has delivered since it was started, on top of what the ledger said.
    pub(crate) progress: LedgerRecord,
    /// And this above its watermark.
    pub(crate) ranges: Ranges,
    /// What the ledger said at its last checkpoint; none if it may say anything that it ever said.
    pub(crate) checkpoint: Option<(LedgerRecord, Ranges)>,
    pub(crate) delivered: BTreeSet<u64>,
    /// Batches that were promised and that damage took.
    pub(crate) lost: BTreeSet<u64>,
    /// How often bytes were changed behind the log's back.
    pub(crate) media_damage: u64,
    /// Promised frames from this one on may be gone from the end of the log, and nothing can tell.
    pub(crate) tail_may_be_gone_from: Option<u64>,
    /// Frames up to here the mark of the ledger knows to have been durable: they are there, or settled, or reported.
    pub(crate) vouched: u64,
    /// The first frames of the last two calls that appended. Each begins in a block of its own.
    pub(crate) last_groups: [u64; 2],
    /// The ledger was replaced or lost.
    pub(crate) ledger_forged: bool,
    /// The disk lies about syncs.
    pub(crate) disk_lies: bool,
    /// Frames of groups that a cut left in part, as the log has said.
    unsynced: BTreeSet<u64>,
    torn: BTreeSet<PathBuf>,
    /// Frames that the log has called lost before anybody could rely on them. It has stepped over them, also over one that
    /// can be read later, because another segment has its schema by then.
    never_promised: BTreeSet<u64>,
    pub(crate) damage_reports: u64,
    /// Reports that call such a frame something else later.
    pub(crate) renamed_reports: u64,
    pub(crate) duplicates: u64,
}

impl Oracle {
    /// An append has answered.
    pub(crate) fn stored(&mut self, batch: u64, lsn: u64, promised: bool) -> Check {
        if lsn != self.last + 1 {
            return Err(format!("R3: batch {batch} got number {lsn} after {}", self.last));
        }
        self.last = lsn;
        self.never_promised.remove(&lsn);
        self.fates.insert(batch, Fate::Stored { lsn, promised });
        if promised { self.relied_on(lsn, batch) } else { Ok(()) }
    }

    /// From now on a frame must not be another batch.
    fn relied_on(&mut self, lsn: u64, batch: u64) -> Check {
        match self.contents.insert(lsn, batch) {
            // Without the segment that took its number, a frame that had failed is there again.
            _ if self.tail_may_be_gone_from.is_some_and(|from| lsn >= from) => Ok(()),
            Some(other) if other != batch && !self.disk_lies => {
                Err(format!("R10: frame {lsn} was batch {other} and is batch {batch} now"))
            }
            _ => Ok(()),
        }
    }

    /// Everything up to this number is durable.
    pub(crate) fn durable(&mut self, durable: u64) -> Check {
        let mut promised = Vec::new();
        for (batch, fate) in self.fates.iter_mut().rev() {
            match fate {
                Fate::Stored { promised: true, .. } => break,
                Fate::Stored { lsn, promised: is_promised } if *lsn <= durable => {
                    *is_promised = true;
                    promised.push((*lsn, *batch));
                }
                _ => {}
            }
        }
        promised.into_iter().try_for_each(|(lsn, batch)| self.relied_on(lsn, batch))
    }

    /// A frame was read from the log.
    pub(crate) fn read(&mut self, lsn: u64, batch: u64, is_durable: bool) -> Check {
        if batch == 0 || batch > self.batches {
            return Err(format!("R2: frame {lsn} is batch {batch}, which was never appended"));
        }
        match self.fates.get(&batch) {
            Some(Fate::Stored { lsn: told, .. }) if *told != lsn => {
                return Err(format!("R10: batch {batch} was stored as frame {told} and is frame {lsn} now"));
            }
            _ => {}
        }
        if is_durable { self.relied_on(lsn, batch) } else { Ok(()) }
    }

    /// The log says that it cannot read something.
    pub(crate) fn damaged(&mut self, damage: &Damage, durability: Durability) -> Check {
        self.damage_reports += 1;
        let unsynced = damage.reason == DamageReason::Unsynced;
        // Where callers are answered before the sync, what a cut takes has many names.
        let is_weak = durability != Durability::Sync;
        if unsynced {
            self.torn.insert(damage.segment.clone());
        }
        let Some(lsns) = &damage.lsns else {
            let excused =
                is_weak || unsynced || self.media_damage > 0 || self.disk_lies || self.is_torn(damage);
            return if excused { Ok(()) } else { Err(format!("R7: there is no damage, but: {damage}")) };
        };
        for lsn in lsns.start().get()..=lsns.end().get() {
            if unsynced {
                self.unsynced.insert(lsn);
            } else if self.unsynced.contains(&lsn) {
                self.renamed_reports += 1;
            }
            let batch = self.contents.get(&lsn).copied();
            let excused = self.media_damage > 0
                || self.disk_lies
                || match batch {
                    Some(batch) => self.ledger_forged && self.delivered.contains(&batch),
                    None => {
                        self.unsynced.contains(&lsn) || self.is_torn(damage) || self.ledger_forged || is_weak
                    }
                };
            if !excused {
                return Err(format!("R1: frame {lsn} (batch {batch:?}) is lost: {damage}"));
            }
            match batch {
                Some(batch) => drop(self.lost.insert(batch)),
                None => drop(self.never_promised.insert(lsn)),
            }
        }
        Ok(())
    }

    /// Whether the log has said that a cut left this segment in part. What was lost there can leave frames behind it
    /// that nobody can read, such as those whose schema was in that part.
    fn is_torn(&self, damage: &Damage) -> bool {
        self.torn.contains(&damage.segment)
    }

    /// No mark tells any more what was durable, of an end of the log that was damaged before either.
    pub(crate) fn nothing_vouches(&mut self) {
        self.vouched = 0;
        self.tail_may_be_gone_from = self.tail_may_be_gone_from.map(|_| 0);
    }

    /// Without a ledger, what is not there at the front of a log was reclaimed, as far as anybody can tell: a segment
    /// that damage took there is not missed.
    pub(crate) fn ledger_knows_nothing(&mut self, through: u64) {
        if self.media_damage > 0 {
            self.lost.extend(self.contents.range(..=through).map(|(_, batch)| *batch));
        }
    }

    /// A frame that was delivered in part, and then was gone with the end of the log, counts as settled.
    pub(crate) fn given_up(&mut self, stored: u64, through: u64) {
        if let Some(from) = self.tail_may_be_gone_from
            && stored < through
        {
            let first = from.max(stored + 1).min(through + 1);
            self.lost.extend(self.contents.range(first..through + 1).map(|(_, batch)| *batch));
        }
    }

    /// A frame was delivered.
    pub(crate) fn deliver(&mut self, batch: u64) {
        if !self.delivered.insert(batch) {
            self.duplicates += 1;
        }
    }

    /// The log was opened and read from `through` on: what was promised must be there, and nothing else than
    /// what was appended.
    pub(crate) fn reopened(&mut self, through: u64, last: u64, found: &BTreeMap<u64, u64>) -> Check {
        if !found.values().is_sorted_by(|earlier, later| earlier < later) {
            return Err(format!("R3: the frames do not come in the order of their appends: {found:?}"));
        }
        let is_excused = self.disk_lies || self.media_damage > 0 || self.ledger_forged;
        let outlives = std::mem::take(&mut self.outlives) && !is_excused;
        for (batch, fate) in self.fates.iter().filter(|_| outlives) {
            let Fate::Stored { lsn, .. } = *fate else { continue };
            if found.get(&lsn) != Some(batch) && lsn > through {
                return Err(format!(
                    "R1: batch {batch} was stored as frame {lsn} before the kill and is gone; settled through {through}, \
                     the log ends with {last}"
                ));
            }
        }
        for (batch, fate) in &self.fates {
            let Fate::Stored { lsn, promised: true } = *fate else { continue };
            let is_safe = found.get(&lsn) == Some(batch)
                || self.delivered.contains(batch) && (lsn <= through || self.ledger_forged)
                || self.lost.contains(batch)
                || self.never_promised.contains(&lsn);
            if is_safe {
                continue;
            }
            let may_be_gone = self.tail_may_be_gone_from.is_some_and(|from| lsn >= from);
            let is_excused = self.disk_lies || may_be_gone;
            if !is_excused {
                return Err(format!(
                    "R1: batch {batch} was promised as frame {lsn} and is gone; settled through {through}, \
                     the log ends with {last}"
                ));
            }
            self.lost.insert(*batch);
        }
        // A number that nothing remembers is given again.
        let forgotten_from = self.tail_may_be_gone_from.take().unwrap_or(u64::MAX);
        self.contents
            .retain(|lsn, batch| *lsn <= last || *lsn < forgotten_from && !self.lost.contains(batch));
        let lost = &self.lost;
        self.fates.retain(|batch, fate| match *fate {
            Fate::Stored { lsn, promised } => promised && lsn > through && !lost.contains(batch),
            Fate::Unknown => false,
        });
        for (lsn, batch) in found {
            self.relied_on(*lsn, *batch)?;
            self.fates.insert(*batch, Fate::Stored { lsn: *lsn, promised: true });
        }
        self.last = last;
        // Of groups that are gone the ones before are the last now; 0 is one that nobody has noted.
        while self.last_groups[1] > last {
            self.last_groups = [0, self.last_groups[0]];
        }
        Ok(())
    }

    /// Everything that was promised was delivered, or is known to be lost.
    pub(crate) fn drained(&self) -> Check {
        for (batch, fate) in &self.fates {
            let promised = matches!(fate, Fate::Stored { promised: true, .. });
            if promised && !self.delivered.contains(batch) && !self.lost.contains(batch) && !self.disk_lies {
                return Err(format!("I6: batch {batch} was promised and never delivered ({fate:?})"));
            }
        }
        Ok(())
    }

    pub(crate) fn rows(&self, found: &BTreeMap<u64, u64>) -> u64 {
        found.values().map(|batch| batches::rows(*batch)).sum()
    }
}
