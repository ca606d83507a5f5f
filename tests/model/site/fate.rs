//! What fate does to the files of a log while no process lives: damage, and other ledgers in the place of its own.

use std::path::{Path, PathBuf};

use arrow_zerobus_sdk_wrapper::{
    io::sim::SplitMix,
    ledger::{LedgerRecord, Settled, SimPlace},
    types::Lsn,
    wal::Durability,
};

use super::{DIR, Site};
use crate::oracle::Check;

/// How a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Bit,
    Burst,
    Zeros,
    Cut,
    Gone,
    /// The bodies of all batches from some place on, not their headers.
    Bodies,
}

/// What becomes of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    Lost,
    Old,
    Ahead,
    Garbage,
    /// Its mark is lost.
    Unmarked,
    /// It and its mark are put back from a copy.
    Backup,
}

impl Site {
    fn segments(&self) -> Vec<PathBuf> {
        let mut files = self.world.disk().files(Path::new(DIR));
        files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
        files
    }

    /// Damages a segment while no process lives.
    pub(crate) fn damage(&mut self, damage: Damage, rng: &mut SplitMix) -> Check {
        let segments = self.segments();
        let newest = segments.last().filter(|_| rng.coin());
        let Some(path) = newest.or_else(|| rng.pick(&segments)) else { return Ok(()) };
        let disk = self.world.disk();
        let length = disk.platter(path).map_or(0, |bytes| bytes.len() as u64);
        if self.process.is_some() || length == 0 {
            return Ok(());
        }
        // Most of a segment is often empty; what is hit should not always be.
        let reach = if rng.coin() { length } else { length.min(16 * 1024) };
        let offset = rng.below(reach);
        let (bit, seed) = (rng.below(8), rng.next_u64());
        match damage {
            Damage::Bit => disk.rot(path, offset, 1, |_, byte| byte ^ 1 << bit),
            Damage::Burst => disk.rot(path, offset, 512, |at, byte| byte ^ (seed >> (at % 57)) as u8),
            Damage::Zeros => disk.rot(path, offset, 4096, |_, _| 0),
            Damage::Cut => disk.truncate(path, offset),
            Damage::Gone => disk.erase(path),
            Damage::Bodies => {
                let places = bodies(&disk.platter(path).unwrap_or_default(), offset);
                places.into_iter().try_for_each(|place| disk.rot(path, place, 1, |_, byte| byte ^ 1 << bit))
            }
        }
        .map_err(|error| error.to_string())?;
        self.say(|| format!("{damage:?} at {offset} of {}", path.display()));
        self.oracle.media_damage += 1;
        self.damaged_since_opening += 1;
        let [before, last] = match self.oracle.last_groups {
            // The last call has stored nothing, as far as anybody knows.
            [before, last] if last > self.oracle.last => [0, before],
            groups => groups,
        };
        let is_sync = self.options.durability == Durability::Sync;
        let is_alone = self.damaged_since_opening == 1 && is_sync;
        let from = match (damage, self.ended_cleanly) {
            // A seal tells where a log ended.
            (Damage::Bit | Damage::Bodies, true) if is_alone => return Ok(()),
            // Of one that was not sealed, the last group may be damaged or torn. What is before it has frames
            // behind it; and headers that are whole tell what was durable before them.
            (Damage::Bit | Damage::Bodies, false) if is_alone => last,
            // No longer than a block, so it reaches into two at most.
            (Damage::Burst | Damage::Zeros, false) if is_alone => before,
            _ => 0,
        };
        // The mark of the ledger knows what was durable when it was written.
        self.oracle.tail_may_be_gone_from = Some(from.max(self.oracle.vouched + 1));
        Ok(())
    }

    /// Puts another ledger in the place of ours while no process lives.
    pub(crate) fn forge(&mut self, forgery: Forgery, rng: &mut SplitMix) -> Check {
        let (Some(epoch), None) = (self.epoch, &self.process) else { return Ok(()) };
        let disk = self.world.disk();
        let path = SimPlace::file(Path::new(DIR));
        if disk.platter(&path).is_none() {
            return Ok(());
        }
        let mark = SimPlace::mark(Path::new(DIR));
        let is_marked = disk.platter(&mark).is_some() && !self.oracle.disk_lies;
        let forged = match forgery {
            Forgery::Lost => disk.erase(&path),
            Forgery::Garbage => disk.put(&path, &rng.next_u64().to_le_bytes().repeat(128)),
            Forgery::Unmarked if disk.platter(&mark).is_some() => disk.erase(&mark),
            Forgery::Old | Forgery::Backup if !self.old_ledgers.is_empty() => {
                let at = rng.below(self.old_ledgers.len() as u64) as usize;
                let (ledger, old_mark) = &self.old_ledgers[at];
                match forgery {
                    Forgery::Backup => disk.put(&path, ledger).and_then(|()| disk.put(&mark, old_mark)),
                    _ => disk.put(&path, ledger),
                }
            }
            Forgery::Ahead => {
                let through = Lsn::new(self.oracle.last + rng.below(5));
                let settled = Settled { through, rows_of_next: rng.below(2) as u32 };
                disk.put(&path, &SimPlace::forge(epoch, &LedgerRecord { settled, ..self.oracle.progress }))
            }
            Forgery::Unmarked | Forgery::Old | Forgery::Backup => return Ok(()),
        };
        forged.map_err(|error| error.to_string())?;
        self.say(|| format!("the ledger is {forgery:?}"));
        self.is_forged |= forgery != Forgery::Unmarked;
        match forgery {
            // What vouched for the log is gone; and what was done to the ledger before passes now.
            Forgery::Unmarked if self.is_forged => self.believe_the_forgery(),
            Forgery::Unmarked => self.oracle.nothing_vouches(),
            // Its mark tells what it said.
            Forgery::Lost | Forgery::Old | Forgery::Garbage if is_marked => {}
            _ => self.believe_the_forgery(),
        }
        Ok(())
    }
}

/// Where bodies of batches begin, from the first frame at or behind `offset` on.
fn bodies(segment: &[u8], offset: u64) -> Vec<u64> {
    const HEADER: usize = 80;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| segment[at + i]));
    let is_batch = |at: &usize| {
        segment[*at..].starts_with(b"ZBfr\x02")
            && number(at + 40) == *at as u64
            && number(at + 32) == number(24)
    };
    let places = (offset.next_multiple_of(8) as usize..segment.len().saturating_sub(HEADER)).step_by(8);
    places.filter(is_batch).map(|at| (at + HEADER) as u64).collect()
}
