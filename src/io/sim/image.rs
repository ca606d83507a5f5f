//! The bytes of one file, sparse, by blocks: what a read of all of it would return.

use std::{ops::Range, sync::Arc};

use crate::io::BLOCK;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
/// Sectors of a block; one bit each in a [`Sectors`].
const SECTORS: usize = BLOCK / SECTOR;
/// All sectors of a block.
pub(super) const ALL: Sectors = u8::MAX;

/// A set of sectors of one block.
pub(super) type Sectors = u8;
pub(super) type Block = [u8; BLOCK];

const _: () = assert!(SECTORS == Sectors::BITS as usize);

/// The sectors in a range of a block's bytes: those that it touches, and those that it covers.
pub(super) fn sectors(range: Range<usize>) -> (Sectors, Sectors) {
    let mask = |from: usize, to: usize| -> Sectors {
        (from..to.max(from)).fold(0, |mask, sector| mask | 1 << sector)
    };
    let touched = mask(range.start / SECTOR, range.end.div_ceil(SECTOR));
    let covered = mask(range.start.div_ceil(SECTOR), range.end / SECTOR);
    (touched, covered)
}

#[derive(Clone, Debug, Default)]
enum Slot {
    /// Zeros that take no space.
    #[default]
    Hole,
    /// Zeros that have space.
    Reserved,
    Data(Arc<Block>),
}

/// A file as somebody sees it: the disk, or the page cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    length: u64,
    slots: Vec<Slot>,
}

impl Image {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Cuts the file, or extends it with zeros.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.slots.truncate(length.div_ceil(BLOCK as u64) as usize);
            let tail = (length % BLOCK as u64) as usize;
            let last = length / BLOCK as u64;
            if tail > 0 && self.block(last).is_some() {
                self.block_mut(last)[tail..].fill(0);
            }
        }
        self.length = length;
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.length.min(offset.saturating_add(buffer.len() as u64));
        let mut at = offset;
        while at < end {
            let within = (at % BLOCK as u64) as usize;
            let count = (BLOCK - within).min((end - at) as usize);
            let from = (at - offset) as usize;
            let target = &mut buffer[from..from + count];
            match self.block(at / BLOCK as u64) {
                Some(block) => target.copy_from_slice(&block[within..within + count]),
                None => target.fill(0),
            }
            at += count as u64;
        }
        end.saturating_sub(offset) as usize
    }

    pub(super) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        match self.slots.get(number as usize) {
            Some(Slot::Data(block)) => Some(block),
            _ => None,
        }
    }

    fn slot_mut(&mut self, number: u64) -> &mut Slot {
        let index = number as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::Hole);
        }
        &mut self.slots[index]
    }

    /// The block, made of zeros if there was none. It may lie behind the end of the file, where only a longer
    /// file shows it; whoever puts bytes there makes the file longer.
    pub(super) fn block_mut(&mut self, number: u64) -> &mut Block {
        let slot = self.slot_mut(number);
        if !matches!(slot, Slot::Data(_)) {
            *slot = Slot::Data(Arc::new([0; BLOCK]));
        }
        match slot {
            Slot::Data(block) => Arc::make_mut(block),
            Slot::Hole | Slot::Reserved => unreachable!("it was made data above"),
        }
    }

    /// Takes a block over from another image of the same file.
    pub(super) fn take_block(&mut self, number: u64, from: &Image) {
        match from.slots.get(number as usize) {
            Some(slot) => *self.slot_mut(number) = slot.clone(),
            None if (number as usize) < self.slots.len() => self.slots[number as usize] = Slot::Hole,
            None => {}
        }
    }

    /// Takes some sectors of a block over, as far as they lie before the end of the file.
    pub(super) fn take_sectors(&mut self, number: u64, from: &Block, which: Sectors) {
        let room = self.length.saturating_sub(number * BLOCK as u64).min(BLOCK as u64) as usize;
        if which == 0 || room == 0 {
            return;
        }
        let block = self.block_mut(number);
        for sector in (0..SECTORS).filter(|sector| which & 1 << sector != 0) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(room);
            if let Some(target) = block.get_mut(range.clone()) {
                target.copy_from_slice(&from[range]);
            }
        }
    }

    /// Whether the block has space on the disk.
    pub(super) fn has_space(&self, number: u64) -> bool {
        !matches!(self.slots.get(number as usize), None | Some(Slot::Hole))
    }

    /// Gives the block space.
    pub(super) fn reserve(&mut self, number: u64) {
        let slot = self.slot_mut(number);
        if matches!(slot, Slot::Hole) {
            *slot = Slot::Reserved;
        }
    }

    /// Blocks that have space.
    pub(super) fn blocks(&self) -> u64 {
        self.slots.iter().filter(|slot| !matches!(slot, Slot::Hole)).count() as u64
    }

    /// Gives space to whatever has it in another image of the same file.
    pub(super) fn take_reserved(&mut self, from: &Image) {
        for (number, slot) in from.slots.iter().enumerate() {
            if matches!(slot, Slot::Reserved) {
                self.reserve(number as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_reads_as_zeros_when_the_file_grows_again() {
        let mut image = Image::default();
        image.set_length(3 * BLOCK as u64);
        image.block_mut(0).fill(1);
        image.block_mut(2).fill(3);
        image.set_length(100);
        image.set_length(3 * BLOCK as u64);
        let mut bytes = vec![9; 4 * BLOCK];
        assert_eq!(image.read(&mut bytes, 0), 3 * BLOCK);
        assert!(bytes[..100].iter().all(|byte| *byte == 1));
        assert!(bytes[100..3 * BLOCK].iter().all(|byte| *byte == 0));
        assert_eq!(image.read(&mut bytes, 4 * BLOCK as u64), 0);
    }

    #[test]
    fn sectors_of_a_range_are_told_apart_by_touched_and_covered() {
        assert_eq!(sectors(0..BLOCK), (ALL, ALL));
        assert_eq!(sectors(100..200), (0b1, 0));
        assert_eq!(sectors(100..1100), (0b111, 0b10));
        assert_eq!(sectors(512..1024), (0b10, 0b10));
    }

    #[test]
    fn sectors_behind_the_end_are_not_taken() {
        let mut image = Image::default();
        image.set_length(700);
        image.take_sectors(0, &[7; BLOCK], ALL);
        image.set_length(2000);
        let mut bytes = vec![9; 2000];
        image.read(&mut bytes, 0);
        assert!(bytes[..700].iter().all(|byte| *byte == 7));
        assert!(bytes[700..].iter().all(|byte| *byte == 0));
    }
}
