//! Maps: a list of entries, no two of which may have the same key.
//!
//! Whether two keys are the same is decided by the bytes that are sent, so that it means the same for every type of
//! key: whatever reads the record would keep one of the two.

use std::ops::Range;

use super::field::{Field, Header, write_fields};
use super::list::{Offsets, Repeated};
use super::positions::{Slots, Way};
use super::report::{Fault, Path, Report, Within};
use super::wire::SLACK_BYTES;
use crate::convert::error::RowErrorReason;

/// Up to this many keys are compared each with each, which needs no memory.
const FEW_KEYS: usize = 16;

/// A map field.
pub(in crate::convert) struct Map<'a> {
    entries: Repeated<'a, Offsets<'a, i32>>,
    keys: Box<dyn Field + 'a>,
    encoded: EncodedKeys,
}

/// The keys of all maps of a level as they will be sent.
#[derive(Default)]
struct EncodedKeys {
    bytes: Vec<u8>,
    /// Where each key begins, and where the last one ends.
    bounds: Vec<usize>,
    /// The size of each key, then where it goes.
    places: Vec<usize>,
    /// The positions of the good keys, once some are not.
    good: Vec<usize>,
    /// Memory for the many keys of one map.
    sorted: Vec<usize>,
}

impl<'a> Map<'a> {
    /// The entry is bound to the entries of the maps that the way leads to, `keys` to their keys alone.
    pub(in crate::convert) fn new(
        header: &'a Header,
        way: Way<'a>,
        offsets: &'a [i32],
        entry: Box<dyn Field + 'a>,
        keys: Box<dyn Field + 'a>,
    ) -> Map<'a> {
        let entries = Repeated::new(header, way, Offsets(offsets), entry);
        Map { entries, keys, encoded: EncodedKeys::default() }
    }
}

impl Field for Map<'_> {
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        self.entries.measure(slots, sizes, report);
        let Map { entries, keys, encoded } = self;
        let header = entries.header();
        let (elements, slot_of) = entries.measured(slots);
        let maps = 0..elements.lists();
        if maps.clone().all(|map| elements.of_list(map).len() < 2) {
            return;
        }
        encoded.encode(keys, elements.slots());
        for map in maps {
            let Some(key) = encoded.twice(elements.of_list(map)) else { continue };
            let position = elements.slots().position(key);
            let text = keys.text(position);
            let fault = Fault { reason: RowErrorReason::DuplicateMapKey, value: &|| text.clone() };
            let mut report = Within { outer: report, name: &header.name, owner: &slot_of };
            report.fault(map, Path::to(super::KEY_NAME), fault);
        }
    }

    fn write(&mut self, slots: Slots<'_>, cursors: &mut [usize], out: &mut [u8]) {
        self.entries.write(slots, cursors, out);
    }

    fn text(&mut self, _: usize) -> String {
        "a map".to_owned()
    }
}

impl EncodedKeys {
    /// Encodes the keys. One that cannot be sent is left empty: its row is refused for it already.
    fn encode(&mut self, keys: &mut Box<dyn Field + '_>, slots: Slots<'_>) {
        let EncodedKeys { bytes, bounds, places, good, .. } = self;
        places.clear();
        places.resize(slots.len(), 0);
        keys.measure(slots, places, &mut Unheard);
        let mut end = 0;
        bounds.clear();
        bounds.push(0);
        for place in places.iter_mut() {
            end += std::mem::replace(place, end);
            bounds.push(end);
        }
        if bytes.len() < end + SLACK_BYTES {
            bytes.resize(end + SLACK_BYTES, 0);
        }
        // A good key takes at least the byte that says which field it is.
        let is_good = |slot: usize| bounds[slot] < bounds[slot + 1];
        if (0..slots.len()).all(is_good) {
            return write_fields(std::slice::from_mut(keys), slots, places, bytes);
        }
        let good_slots = || (0..slots.len()).filter(|slot| is_good(*slot));
        good.clear();
        good.extend(good_slots().map(|slot| slots.position(slot)));
        places.clear();
        places.resize(good.len(), 0);
        keys.measure(Slots::Each(good), places, &mut Unheard);
        places.iter_mut().zip(good_slots()).for_each(|(place, slot)| *place = bounds[slot]);
        write_fields(std::slice::from_mut(keys), Slots::Each(good), places, bytes);
    }

    fn key(&self, slot: usize) -> &[u8] {
        &self.bytes[self.bounds[slot]..self.bounds[slot + 1]]
    }

    #[inline]
    fn is_same(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.key(a), self.key(b));
        // The ends tell most keys apart without a call; the beginnings are the same tag and length.
        a.len() == b.len() && a.last() == b.last() && a == b
    }

    /// The second of two of these entries that have the same key.
    fn twice(&mut self, entries: Range<usize>) -> Option<usize> {
        if entries.len() <= FEW_KEYS {
            let is_twice = |slot: &usize| (entries.start..*slot).any(|earlier| self.is_same(earlier, *slot));
            return entries.clone().find(is_twice);
        }
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        sorted.extend(entries);
        sorted.sort_by(|a, b| self.key(*a).cmp(self.key(*b)));
        let twice = sorted.windows(2).find(|pair| self.key(pair[0]) == self.key(pair[1])).map(|pair| pair[1]);
        self.sorted = sorted;
        twice
    }
}

/// For what is reported elsewhere.
struct Unheard;

impl Report for Unheard {
    fn fault(&mut self, _: usize, _: Path<'_>, _: Fault<'_>) {}

    fn floored_timestamps(&mut self, _: u64) {}

    fn emptied_lists(&mut self, _: u64) {}
}
