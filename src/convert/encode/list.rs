//! Lists of all kinds: a repeated field, each element with its own key.

use std::ops::Range;

use arrow_buffer::ArrowNativeType;

use super::field::{Field, Header, write_fields};
use super::positions::{Slots, Way};
use super::report::{Report, Within};

/// Says which elements a list has.
pub(in crate::convert) trait Lists {
    /// The positions of the elements of the list at a position.
    fn elements(&self, position: usize) -> Range<usize>;
}

/// Lists whose elements follow one another.
pub(in crate::convert) struct Offsets<'a, O>(pub(in crate::convert) &'a [O]);

impl<O: ArrowNativeType> Lists for Offsets<'_, O> {
    #[inline]
    fn elements(&self, position: usize) -> Range<usize> {
        self.0[position].as_usize()..self.0[position + 1].as_usize()
    }
}

/// Lists whose elements are anywhere.
pub(in crate::convert) struct ListViews<'a, O> {
    pub(in crate::convert) offsets: &'a [O],
    pub(in crate::convert) sizes: &'a [O],
}

impl<O: ArrowNativeType> Lists for ListViews<'_, O> {
    #[inline]
    fn elements(&self, position: usize) -> Range<usize> {
        let start = self.offsets[position].as_usize();
        start..start + self.sizes[position].as_usize()
    }
}

/// Lists of one length.
pub(in crate::convert) struct FixedLists {
    pub(in crate::convert) list_len: usize,
}

impl Lists for FixedLists {
    #[inline]
    fn elements(&self, position: usize) -> Range<usize> {
        position * self.list_len..(position + 1) * self.list_len
    }
}

/// A repeated field.
pub(in crate::convert) struct Repeated<'a, L> {
    header: &'a Header,
    way: Way<'a>,
    lists: L,
    /// The field that each element is.
    element: Box<dyn Field + 'a>,
    elements: Elements,
    /// The size of each element, then where it goes.
    places: Vec<usize>,
}

/// The elements of some lists, as the slots of a level.
#[derive(Default)]
pub(super) struct Elements {
    /// Where the slots of each list begin, and where those of the last one end.
    bounds: Vec<usize>,
    /// Where the elements begin if they follow one another; else they stand in `positions`.
    first: Option<usize>,
    positions: Vec<usize>,
}

impl Elements {
    fn find(&mut self, lists: &impl Lists, of: Slots<'_>) {
        let Elements { bounds, first, positions } = self;
        bounds.clear();
        bounds.push(0);
        let (mut start, mut next, mut len, mut is_run) = (0, 0, 0, true);
        for list in 0..of.len() {
            let elements = lists.elements(of.position(list));
            if !elements.is_empty() {
                if len == 0 {
                    start = elements.start;
                } else {
                    is_run &= elements.start == next;
                }
                next = elements.end;
                len += elements.len();
            }
            bounds.push(len);
        }
        *first = is_run.then_some(start);
        positions.clear();
        if !is_run {
            positions.reserve(len);
            positions.extend((0..of.len()).flat_map(|list| lists.elements(of.position(list))));
        }
    }

    pub(super) fn slots(&self) -> Slots<'_> {
        match self.first {
            Some(first) => Slots::Run { first, len: self.bounds.last().copied().unwrap_or(0) },
            None => Slots::Each(&self.positions),
        }
    }

    /// How many lists there are.
    pub(super) fn lists(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// The slots of the elements of a list.
    #[inline]
    pub(super) fn of_list(&self, list: usize) -> Range<usize> {
        self.bounds[list]..self.bounds[list + 1]
    }

    /// Which list an element is in.
    fn list(&self, slot: usize) -> usize {
        self.bounds.partition_point(|bound| *bound <= slot) - 1
    }
}

impl<'a, L: Lists> Repeated<'a, L> {
    /// The element is bound to the values of the lists that the way leads to.
    pub(in crate::convert) fn new(
        header: &'a Header,
        way: Way<'a>,
        lists: L,
        element: Box<dyn Field + 'a>,
    ) -> Repeated<'a, L> {
        Repeated { header, way, lists, element, elements: Elements::default(), places: Vec::new() }
    }

    pub(super) fn header(&self) -> &'a Header {
        self.header
    }

    /// The elements that were measured, and which slot has the list that comes n-th among them.
    pub(super) fn measured<'s>(&'s self, slots: Slots<'s>) -> (&'s Elements, impl Fn(usize) -> usize + 's) {
        let present = self.way.present(slots);
        (&self.elements, move |list| present.slot(list))
    }
}

impl<L: Lists> Field for Repeated<'_, L> {
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        let Repeated { header, way, lists, element, elements, places } = self;
        way.find(slots);
        let present = way.present(slots);
        header.report_missing(present, slots.len(), report);
        elements.find(lists, present.values());
        places.clear();
        places.resize(elements.slots().len(), 0);
        let owner = |slot| present.slot(elements.list(slot));
        element.measure(
            elements.slots(),
            places,
            &mut Within { outer: report, name: &header.name, owner: &owner },
        );
        present.visit(sizes, |list, size| *size += places[elements.of_list(list)].iter().sum::<usize>());
    }

    fn write(&mut self, slots: Slots<'_>, cursors: &mut [usize], out: &mut [u8]) {
        let Repeated { way, element, elements, places, .. } = self;
        way.present(slots).visit(cursors, |list, cursor| {
            for place in &mut places[elements.of_list(list)] {
                *cursor += std::mem::replace(place, *cursor);
            }
        });
        write_fields(std::slice::from_mut(element), elements.slots(), places, out);
    }

    fn text(&mut self, _: usize) -> String {
        "a list".to_owned()
    }
}
