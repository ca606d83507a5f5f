//! One file between two syncs: what the disk has, what the page cache shows, and what a cut makes of the
//! difference.
//!
//! Sectors are independent: each of them has after a cut what it had at the last sync, or after any of the writes
//! that touched it since; one that was covered whole can also be zero. Lengths are in the journal: the first few
//! of those that were set since the last sync count, the others do not.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::image::{ALL, Block, Image, SECTOR, Sectors, sectors};
use super::rng::SplitMix;
use crate::io::BLOCK;

/// More versions of a block than this are not told apart: the oldest ones become one.
const VERSIONS_MAX: usize = 6;
const ZEROS: Block = [0; BLOCK];

#[derive(Debug, Default)]
pub(super) struct Inode {
    platter: Image,
    cache: Image,
    pending: BTreeMap<u64, Vec<Version>>,
    /// The lengths that were set since the last sync, oldest first.
    lengths: VecDeque<u64>,
    /// The cache may show bytes that nobody will ever write: those of a failed sync.
    has_phantoms: bool,
    /// Something failed in a way after which nothing may be written to or synced on this file.
    pub(super) is_failed: bool,
    /// How many have it open.
    pub(super) handles: usize,
}

/// A block after a write that is not synced.
#[derive(Debug)]
struct Version {
    block: Arc<Block>,
    touched: Sectors,
    covered: Sectors,
    /// Counts the writes of the whole disk.
    write: u64,
    direct: bool,
}

/// What a cut does to the unsynced writes of one file.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Kept,
    /// All writes up to this one, nothing of those behind it.
    Prefix(u64),
    /// Blocks one by one.
    Blocks,
    /// Sectors one by one.
    Sectors,
    /// Sectors one by one, zero among the choices.
    Zeroed,
}

impl Inode {
    pub(super) fn with_contents(bytes: &[u8]) -> Inode {
        let mut inode = Inode::default();
        inode.write(bytes, 0, 0, false);
        inode.sync();
        inode
    }

    pub(super) fn cache(&self) -> &Image {
        &self.cache
    }

    pub(super) fn platter(&self) -> &Image {
        &self.platter
    }

    /// Blocks that a write of this range would need space for.
    pub(super) fn blocks_wanted(&self, offset: u64, length: u64) -> impl Iterator<Item = u64> + '_ {
        let blocks = offset / BLOCK as u64..(offset + length).div_ceil(BLOCK as u64);
        blocks.filter(|number| !self.cache.has_space(*number))
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, write: u64, direct: bool) {
        let end = offset + bytes.len() as u64;
        if end > self.cache.length() {
            self.cache.set_length(end);
            self.lengths.push_back(end);
        }
        let mut at = offset;
        while at < end {
            let within = (at % BLOCK as u64) as usize;
            let count = (BLOCK - within).min((end - at) as usize);
            let from = (at - offset) as usize;
            self.write_block(at / BLOCK as u64, within, &bytes[from..from + count], write, direct);
            at += count as u64;
        }
    }

    fn write_block(&mut self, number: u64, within: usize, bytes: &[u8], write: u64, direct: bool) {
        let range = within..within + bytes.len();
        self.cache.block_mut(number)[range.clone()].copy_from_slice(bytes);
        let Some(block) = self.cache.block(number).cloned() else { return };
        let (touched, covered) = sectors(range);
        let versions = self.pending.entry(number).or_default();
        if versions.len() == VERSIONS_MAX {
            let oldest = versions.remove(0);
            if let Some(next) = versions.first_mut() {
                next.touched |= oldest.touched;
                next.covered &= !(oldest.touched & !oldest.covered);
            }
        }
        versions.push(Version { block, touched, covered, write, direct });
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.cache.length() {
            self.pending.split_off(&length.div_ceil(BLOCK as u64));
            let tail = (length % BLOCK as u64) as usize;
            if let Some(versions) = self.pending.get_mut(&(length / BLOCK as u64)) {
                versions.iter_mut().for_each(|version| Arc::make_mut(&mut version.block)[tail..].fill(0));
            }
        }
        self.cache.set_length(length);
        self.lengths.push_back(length);
    }

    pub(super) fn reserve(&mut self, offset: u64, length: u64) {
        for number in offset / BLOCK as u64..(offset + length).div_ceil(BLOCK as u64) {
            self.cache.reserve(number);
        }
        if offset + length > self.cache.length() {
            self.cache.set_length(offset + length);
            self.lengths.push_back(offset + length);
        }
    }

    /// Makes everything that is pending durable.
    pub(super) fn sync(&mut self) {
        for length in self.lengths.drain(..) {
            self.platter.set_length(length);
        }
        self.platter.set_length(self.cache.length());
        self.platter.take_reserved(&self.cache);
        for (number, versions) in std::mem::take(&mut self.pending) {
            let Some(last) = versions.last() else { continue };
            let touched = versions.iter().fold(0, |touched, version| touched | version.touched);
            if touched == ALL || !self.has_phantoms {
                self.platter.take_block(number, &self.cache);
            } else {
                self.platter.take_sectors(number, &last.block, touched);
            }
        }
    }

    /// Makes one range durable, with as much of the length as it needs; what else is pending stays so.
    pub(super) fn sync_range(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        while self.platter.length() < end
            && let Some(length) = self.lengths.pop_front()
        {
            self.platter.set_length(length);
        }
        if self.platter.length() < end {
            self.platter.set_length(end);
        }
        for number in offset / BLOCK as u64..end.div_ceil(BLOCK as u64) {
            let start = number * BLOCK as u64;
            let range = offset.saturating_sub(start) as usize..(end - start).min(BLOCK as u64) as usize;
            let (touched, _) = sectors(range);
            if let Some(block) = self.cache.block(number) {
                self.platter.take_sectors(number, block, touched);
            }
            if let Some(versions) = self.pending.get_mut(&number) {
                versions.iter_mut().for_each(|version| version.touched &= !touched);
                versions.retain(|version| version.touched != 0);
                if versions.is_empty() {
                    self.pending.remove(&number);
                }
            }
        }
    }

    /// A sync that fails: some of the bytes may arrive, and nobody will try again with the others. The page cache
    /// goes on showing them.
    pub(super) fn fail_sync(&mut self, rng: &mut SplitMix) {
        if rng.coin() {
            self.lengths.clear();
            self.platter.set_length(self.cache.length());
        }
        let fate = Fate::draw(rng, 0);
        for (number, versions) in std::mem::take(&mut self.pending) {
            land(&mut self.platter, number, &versions, fate, rng);
            if versions.last().is_some_and(|last| last.direct) {
                self.cache.take_block(number, &self.platter);
            } else {
                self.has_phantoms = true;
            }
        }
    }

    /// Lets go of cached blocks that are not waiting to be written.
    pub(super) fn drop_clean(&mut self, range: Range<u64>) {
        if !self.has_phantoms {
            return;
        }
        let block = BLOCK as u64;
        let blocks = self.cache.length().div_ceil(block);
        let dropped = range.start / block..blocks.min(range.end / block);
        for number in dropped.clone().filter(|number| !self.pending.contains_key(number)) {
            self.cache.take_block(number, &self.platter);
        }
        self.has_phantoms = !self.pending.is_empty() || dropped != (0..blocks);
    }

    /// The power goes: what was not synced is kept, lost, torn or zero, and the cache is gone.
    pub(super) fn cut(&mut self, rng: &mut SplitMix) {
        self.is_failed = false;
        self.handles = 0;
        if self.pending.is_empty() && self.lengths.is_empty() && !self.has_phantoms {
            return;
        }
        let newest = self.pending.values().flatten().map(|version| version.write).max().unwrap_or(0);
        let oldest = self.pending.values().flatten().map(|version| version.write).min().unwrap_or(0);
        let prefix = oldest + rng.below(newest - oldest + 1);
        let fate = Fate::draw(rng, prefix);
        let lengths = match fate {
            Fate::Lost => 0,
            Fate::Kept => self.lengths.len() as u64,
            _ => rng.below(self.lengths.len() as u64 + 1),
        };
        for length in self.lengths.drain(..).take(lengths as usize) {
            self.platter.set_length(length);
        }
        for (number, versions) in std::mem::take(&mut self.pending) {
            land(&mut self.platter, number, &versions, fate, rng);
        }
        self.lengths.clear();
        self.has_phantoms = false;
        self.cache = self.platter.clone();
    }

    /// Changes bytes on the disk behind everybody's back, and in the cache.
    pub(super) fn rot(&mut self, offset: u64, change: impl Fn(usize, u8) -> u8, count: usize) {
        let end = self.platter.length().min(offset + count as u64);
        for at in offset..end {
            let (number, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let byte = &mut self.platter.block_mut(number)[within];
            *byte = change((at - offset) as usize, *byte);
        }
        for number in offset / BLOCK as u64..end.div_ceil(BLOCK as u64) {
            if !self.pending.contains_key(&number) {
                self.cache.take_block(number, &self.platter);
            }
        }
    }
}

impl Fate {
    fn draw(rng: &mut SplitMix, prefix: u64) -> Fate {
        match rng.below(8) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 | 3 => Fate::Prefix(prefix),
            4 => Fate::Blocks,
            5 | 6 => Fate::Sectors,
            _ => Fate::Zeroed,
        }
    }
}

/// What of a block's pending versions arrives on the platter.
fn land(platter: &mut Image, number: u64, versions: &[Version], fate: Fate, rng: &mut SplitMix) {
    match fate {
        Fate::Lost => {}
        Fate::Kept => land_up_to(platter, number, versions),
        Fate::Prefix(write) => {
            let count = versions.partition_point(|version| version.write <= write);
            land_up_to(platter, number, &versions[..count]);
        }
        Fate::Blocks => {
            let count = rng.below(versions.len() as u64 + 1) as usize;
            land_up_to(platter, number, &versions[..count]);
        }
        Fate::Sectors | Fate::Zeroed => {
            for sector in 0..BLOCK / SECTOR {
                let bit = 1 << sector;
                let candidates = || versions.iter().filter(|version| version.touched & bit != 0);
                let zero = matches!(fate, Fate::Zeroed)
                    && candidates().next().is_some()
                    && candidates().all(|version| version.covered & bit != 0);
                let count = candidates().count() as u64;
                match rng.below(count + 1 + u64::from(zero)) {
                    0 => {}
                    n if n <= count => {
                        if let Some(version) = candidates().nth(n as usize - 1) {
                            platter.take_sectors(number, &version.block, bit);
                        }
                    }
                    _ => platter.take_sectors(number, &ZEROS, bit),
                }
            }
        }
    }
}

fn land_up_to(platter: &mut Image, number: u64, versions: &[Version]) {
    let mut touched = 0;
    for version in versions.iter().rev() {
        platter.take_sectors(number, &version.block, version.touched & !touched);
        touched |= version.touched;
    }
}
