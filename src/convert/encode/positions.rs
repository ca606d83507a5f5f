//! Where the value of a slot stands: in the array itself, or behind dictionary keys and run ends.
//!
//! A level is a run of slots that are filled together: the rows of a chunk, the elements of its lists, the
//! fields of its structs. Nulls are decided here and nowhere else. Slices need no care: Arrow's accessors
//! count from the start of the slice.

use arrow_array::types::{ArrowDictionaryKeyType, RunEndIndexType};
use arrow_array::{Array, DictionaryArray, RunArray, downcast_dictionary_array, downcast_run_array};
use arrow_buffer::bit_chunk_iterator::BitChunks;
use arrow_buffer::{ArrowNativeType, NullBuffer};

/// What a level is about: slot n has value n of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::convert) enum Slots<'s> {
    /// Values that follow one another.
    Run { first: usize, len: usize },
    /// Values anywhere, by their positions.
    Each(&'s [usize]),
}

impl Slots<'_> {
    pub(in crate::convert) fn len(self) -> usize {
        match self {
            Slots::Run { len, .. } => len,
            Slots::Each(positions) => positions.len(),
        }
    }

    pub(in crate::convert) fn position(self, slot: usize) -> usize {
        match self {
            Slots::Run { first, .. } => first + slot,
            Slots::Each(positions) => positions[slot],
        }
    }
}

/// The values that are not null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::convert) enum Present<'s> {
    /// Every slot has one.
    All(Slots<'s>),
    /// Slot `slots[n]` has the one at `positions[n]`.
    Some { slots: &'s [usize], positions: &'s [usize] },
}

impl<'s> Present<'s> {
    pub(in crate::convert) fn len(self) -> usize {
        self.values().len()
    }

    /// The level that these values are.
    pub(in crate::convert) fn values(self) -> Slots<'s> {
        match self {
            Present::All(slots) => slots,
            Present::Some { positions, .. } => Slots::Each(positions),
        }
    }

    /// Which slot has the n-th of these values.
    pub(in crate::convert) fn slot(self, n: usize) -> usize {
        match self {
            Present::All(_) => n,
            Present::Some { slots, .. } => slots[n],
        }
    }

    /// Where the value of a slot stands, if it has one.
    pub(in crate::convert) fn position(self, slot: usize) -> Option<usize> {
        match self {
            Present::All(all) => Some(all.position(slot)),
            Present::Some { slots, positions } => Some(positions[slots.binary_search(&slot).ok()?]),
        }
    }

    /// The slots that have none.
    pub(in crate::convert) fn missing(self, slots_len: usize) -> impl Iterator<Item = usize> {
        let mut present = match self {
            Present::All(_) => &[][..],
            Present::Some { slots, .. } => slots,
        };
        let from = if self.len() == slots_len { slots_len } else { 0 };
        (from..slots_len).filter(move |slot| match present.split_first() {
            Some((first, rest)) if first == slot => {
                present = rest;
                false
            }
            _ => true,
        })
    }

    /// Calls `visit` for each value with its slot's entry of `of_slots`.
    pub(in crate::convert) fn visit(self, of_slots: &mut [usize], mut visit: impl FnMut(usize, &mut usize)) {
        match self {
            Present::All(_) => of_slots.iter_mut().enumerate().for_each(|(n, of_slot)| visit(n, of_slot)),
            Present::Some { slots, .. } => {
                slots.iter().enumerate().for_each(|(n, slot)| visit(n, &mut of_slots[*slot]));
            }
        }
    }
}

/// The way from the slots of a level to the values of an array.
pub(in crate::convert) struct Way<'a> {
    steps: Vec<Box<dyn Step + 'a>>,
    nulls: Option<&'a NullBuffer>,
    found: Found,
    slots: Vec<usize>,
    positions: Vec<usize>,
}

/// What [`Way::find`] has found.
enum Found {
    /// Nothing is in the way: the level's own slots.
    Itself,
    /// Every slot has the value at its position.
    Positions,
    /// These slots have the values at these positions.
    Both,
}

impl<'a> Way<'a> {
    /// The way into an array, and the array behind all keys and runs.
    pub(in crate::convert) fn new(array: &'a dyn Array) -> (Way<'a>, &'a dyn Array) {
        let (mut steps, mut values) = (Vec::new(), array);
        while let Some((step, behind)) = step(values) {
            steps.push(step);
            values = behind;
        }
        let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        let way = Way { steps, nulls, found: Found::Itself, slots: Vec::new(), positions: Vec::new() };
        (way, values)
    }

    /// Finds the values of the slots; [`present`](Way::present) returns them until this is called again.
    pub(in crate::convert) fn find(&mut self, slots: Slots<'_>) {
        self.found = Found::Itself;
        if self.steps.is_empty() {
            let Some(nulls) = self.nulls else { return };
            if let Slots::Run { first, len } = slots {
                return self.find_in_run(nulls, first, len);
            }
        }
        let Way { slots: kept, positions, .. } = self;
        kept.clear();
        kept.extend(0..slots.len());
        positions.clear();
        match slots {
            Slots::Run { first, len } => positions.extend(first..first + len),
            Slots::Each(each) => positions.extend_from_slice(each),
        }
        for step in &self.steps {
            step.follow(kept, positions);
        }
        if let Some(nulls) = self.nulls {
            follow(kept, positions, |position| nulls.is_valid(position).then_some(position));
        }
        self.found = if kept.len() == slots.len() { Found::Positions } else { Found::Both };
    }

    /// The common case: a column with nulls and nothing in the way.
    fn find_in_run(&mut self, nulls: &NullBuffer, first: usize, len: usize) {
        self.slots.resize(len, 0);
        let bits = BitChunks::new(nulls.validity(), nulls.offset() + first, len);
        let mut count = 0;
        for (word, start) in bits.iter_padded().zip((0..len).step_by(64)) {
            let mut rest = word;
            while rest != 0 {
                self.slots[count] = start + rest.trailing_zeros() as usize;
                count += 1;
                rest &= rest - 1;
            }
        }
        if count < len {
            self.found = Found::Both;
            self.slots.truncate(count);
            self.positions.clear();
            self.positions.extend(self.slots.iter().map(|slot| first + slot));
        }
    }

    /// The values that [`find`](Way::find) has found for the same slots.
    pub(in crate::convert) fn present<'s>(&'s self, slots: Slots<'s>) -> Present<'s> {
        match self.found {
            Found::Itself => Present::All(slots),
            Found::Positions => Present::All(Slots::Each(&self.positions)),
            Found::Both => Present::Some { slots: &self.slots, positions: &self.positions },
        }
    }
}

/// Something between a slot and its value.
trait Step {
    /// Replaces each position by the one that it leads to; slots that end at a null go.
    fn follow(&self, slots: &mut Vec<usize>, positions: &mut Vec<usize>);
}

/// The step into an array of keys or runs, and the array that it leads to.
fn step(array: &dyn Array) -> Option<(Box<dyn Step + '_>, &dyn Array)> {
    downcast_dictionary_array!(
        array => return Some((Box::new(array), array.values().as_ref())),
        _ => {}
    );
    downcast_run_array!(
        array => return Some((Box::new(array), array.values().as_ref())),
        _ => {}
    );
    None
}

fn follow(slots: &mut Vec<usize>, positions: &mut Vec<usize>, mut next: impl FnMut(usize) -> Option<usize>) {
    let mut kept = 0;
    for n in 0..positions.len() {
        if let Some(position) = next(positions[n]) {
            positions[kept] = position;
            slots[kept] = slots[n];
            kept += 1;
        }
    }
    positions.truncate(kept);
    slots.truncate(kept);
}

impl<K: ArrowDictionaryKeyType> Step for &DictionaryArray<K> {
    fn follow(&self, slots: &mut Vec<usize>, positions: &mut Vec<usize>) {
        let keys = self.keys().values();
        match self.keys().nulls() {
            None => positions.iter_mut().for_each(|position| *position = keys[*position].as_usize()),
            // A null key may be any number, so it must not be looked up.
            Some(nulls) => follow(slots, positions, |position| {
                nulls.is_valid(position).then(|| keys[position].as_usize())
            }),
        }
    }
}

impl<R: RunEndIndexType> Step for &RunArray<R> {
    fn follow(&self, _: &mut Vec<usize>, positions: &mut Vec<usize>) {
        let (ends, offset) = (self.run_ends().values(), self.run_ends().offset());
        let mut run = 0..0;
        let mut index = 0;
        for position in positions {
            let logical = *position + offset;
            // Neighbours mostly are in the same run or in the next one.
            if !run.contains(&logical) {
                let is_next = logical == run.end && run.end > 0;
                index =
                    if is_next { index + 1 } else { ends.partition_point(|end| end.as_usize() <= logical) };
                let start = if index == 0 { 0 } else { ends[index - 1].as_usize() };
                run = start..ends[index].as_usize();
            }
            *position = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::{Int8Type, Int16Type, UInt64Type};
    use arrow_array::{Int16Array, Int32Array, PrimitiveArray, StringArray};
    use arrow_buffer::ScalarBuffer;

    use super::*;

    /// Each slot with the position of its value.
    fn found(array: &dyn Array, slots: Slots<'_>) -> Vec<(usize, usize)> {
        let (mut way, _) = Way::new(array);
        way.find(slots);
        let present = way.present(slots);
        let found: Vec<_> =
            (0..present.len()).map(|n| (present.slot(n), present.values().position(n))).collect();
        assert!(found.iter().all(|(slot, position)| present.position(*slot) == Some(*position)));
        let missing: Vec<_> = present.missing(slots.len()).collect();
        assert!(missing.iter().all(|slot| present.position(*slot).is_none()));
        assert!(
            (0..slots.len()).all(|slot| missing.contains(&slot) != found.iter().any(|one| one.0 == slot))
        );
        found
    }

    #[test]
    fn plain_slots_are_their_own_positions_and_slices_count_from_their_start() {
        assert_eq!(
            found(&Int32Array::from(vec![5, 6, 7]), Slots::Run { first: 1, len: 2 }),
            [(0, 1), (1, 2)]
        );
        let array = Int32Array::from(vec![Some(1), None, Some(3), None]);
        assert_eq!(found(&array, Slots::Run { first: 0, len: 4 }), [(0, 0), (2, 2)]);
        assert_eq!(found(&array.slice(1, 3), Slots::Run { first: 0, len: 3 }), [(1, 1)]);
        assert_eq!(found(&array, Slots::Each(&[3, 2, 2, 0])), [(1, 2), (2, 2), (3, 0)]);
        assert_eq!(found(&array, Slots::Each(&[])), []);
    }

    #[test]
    fn nulls_are_found_in_every_word_of_the_mask() {
        let values: Vec<Option<i32>> = (0..300).map(|n| (n % 7 != 3).then_some(n)).collect();
        let array = Int32Array::from(values);
        for (first, len) in [(0, 300), (5, 64), (63, 129), (299, 1), (3, 1), (4, 6)] {
            let wanted: Vec<_> = (0..len).map(|n| (n, first + n)).filter(|(_, at)| at % 7 != 3).collect();
            assert_eq!(found(&array, Slots::Run { first, len }), wanted);
            assert_eq!(found(&array.slice(first, len), Slots::Run { first: 0, len }).len(), wanted.len());
        }
    }

    #[test]
    fn a_dictionary_row_is_null_if_its_key_or_its_value_is() {
        let values = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
        // The null key is out of the range of the values.
        let keys = PrimitiveArray::<Int8Type>::new(
            ScalarBuffer::from(vec![2, 1, 99, 0]),
            Some(NullBuffer::from(vec![true, true, false, true])),
        );
        let array = DictionaryArray::new(keys, values.clone());
        assert_eq!(found(&array, Slots::Run { first: 0, len: 4 }), [(0, 2), (3, 0)]);
        assert_eq!(found(&array.slice(2, 2), Slots::Run { first: 0, len: 2 }), [(1, 0)]);
        let wide = DictionaryArray::<UInt64Type>::new(vec![0, 2].into(), values);
        assert_eq!(found(&wide, Slots::Run { first: 0, len: 2 }), [(0, 0), (1, 2)]);
    }

    #[test]
    fn runs_are_found_from_any_position_of_any_slice() {
        let values = StringArray::from(vec![Some("a"), None, Some("c")]);
        let array = RunArray::<Int16Type>::try_new(&Int16Array::from(vec![2, 3, 6]), &values).unwrap();
        let all = [(0, 0), (1, 0), (3, 2), (4, 2), (5, 2)];
        assert_eq!(found(&array, Slots::Run { first: 0, len: 6 }), all);
        assert_eq!(found(&array, Slots::Each(&[5, 0, 2, 1, 3])), [(0, 2), (1, 0), (3, 0), (4, 2)]);
        let slice = array.slice(1, 3);
        assert_eq!(found(&slice, Slots::Run { first: 0, len: 3 }), [(0, 0), (2, 2)]);
    }

    #[test]
    fn keys_and_runs_may_stand_behind_each_other() {
        let values = StringArray::from(vec![Some("a"), None, Some("c")]);
        let runs = RunArray::<Int16Type>::try_new(&Int16Array::from(vec![2, 3, 6]), &values).unwrap();
        let array = DictionaryArray::<Int8Type>::new(vec![5, 2, 0].into(), Arc::new(runs));
        assert_eq!(found(&array, Slots::Run { first: 0, len: 3 }), [(0, 2), (2, 0)]);
    }
}
