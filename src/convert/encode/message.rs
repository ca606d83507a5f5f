//! Structs: a message inside of a message, with its length in front of it.

use super::field::{Field, Header, write_fields};
use super::positions::{Slots, Way};
use super::report::{Report, Within};
use super::wire::{delimited_len, put_len};

/// A field that is a message. What is not null has one, even if that is empty.
pub(in crate::convert) struct Message<'a> {
    header: &'a Header,
    way: Way<'a>,
    fields: Vec<Box<dyn Field + 'a>>,
    /// The size of each message, then where its next field goes.
    places: Vec<usize>,
}

impl<'a> Message<'a> {
    /// The fields are bound to the children of the array that the way leads to.
    pub(in crate::convert) fn new(
        header: &'a Header,
        way: Way<'a>,
        fields: Vec<Box<dyn Field + 'a>>,
    ) -> Message<'a> {
        Message { header, way, fields, places: Vec::new() }
    }
}

impl Field for Message<'_> {
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        let Message { header, way, fields, places } = self;
        way.find(slots);
        let present = way.present(slots);
        header.report_missing(present, slots.len(), report);
        places.clear();
        places.resize(present.len(), 0);
        let mut report = Within { outer: report, name: &header.name, owner: &|n| present.slot(n) };
        for field in fields {
            field.measure(present.values(), places, &mut report);
        }
        let key_len = header.key.len();
        present.visit(sizes, |n, size| *size += key_len + delimited_len(places[n]));
    }

    fn write(&mut self, slots: Slots<'_>, cursors: &mut [usize], out: &mut [u8]) {
        let Message { header, way, fields, places } = self;
        let present = way.present(slots);
        present.visit(cursors, |n, cursor| {
            let at = header.key.put(out, *cursor);
            let start = put_len(places[n], out, at);
            *cursor = start + places[n];
            places[n] = start;
        });
        write_fields(fields, present.values(), places, out);
    }

    fn text(&mut self, _: usize) -> String {
        "a struct".to_owned()
    }
}
