//! Fields with one value per slot that has no fields itself: the loops over values, where their type is known.

use std::fmt;
use std::marker::PhantomData;

use arrow_array::Array;

use super::ahead::{Ahead, LONG_BYTES};
use super::field::{Field, Header};
use super::positions::{Present, Slots, Way};
use super::report::{Fault, Path, Report};
use super::source::{Reader, Source};
use crate::convert::values::Write;

/// How the values of one Arrow type are read and written.
pub(in crate::convert) trait Conversion: fmt::Debug + Send + Sync {
    /// The field of an array, which is behind the way, if it has the right type.
    fn bind<'a>(&self, header: &'a Header, way: Way<'a>, array: &'a dyn Array)
    -> Option<Box<dyn Field + 'a>>;
}

/// Reads as `S` and writes as `W`.
pub(in crate::convert) struct Converted<S, W> {
    writer: W,
    source: PhantomData<fn() -> S>,
}

impl<S, W> Converted<S, W> {
    pub(in crate::convert) fn new(writer: W) -> Converted<S, W> {
        Converted { writer, source: PhantomData }
    }
}

impl<S, W: fmt::Debug> fmt::Debug for Converted<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writer.fmt(f)
    }
}

impl<S: Source, W> Conversion for Converted<S, W>
where
    W: for<'v> Write<S::Value<'v>> + fmt::Debug + Copy + Send + Sync + 'static,
{
    fn bind<'a>(
        &self,
        header: &'a Header,
        way: Way<'a>,
        array: &'a dyn Array,
    ) -> Option<Box<dyn Field + 'a>> {
        let reader = S::reader(array)?;
        let is_long = reader.mean_bytes() >= LONG_BYTES;
        let column = Box::new(Column::<S, W> { header, way, reader, writer: self.writer });
        Some(if is_long { Box::new(Ahead::new(column)) } else { column })
    }
}

struct Column<'a, S: Source, W> {
    header: &'a Header,
    way: Way<'a>,
    reader: S::Reader<'a>,
    writer: W,
}

impl<'a, S: Source, W: Write<S::Value<'a>>> Field for Column<'a, S, W> {
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        let Column { header, way, reader, writer } = self;
        way.find(slots);
        let present = way.present(slots);
        header.report_missing(present, slots.len(), report);
        let (key_len, mut floored) = (header.key.len(), 0);
        each(reader, present, sizes, |slot, size, value| match writer.size(value) {
            Some(bytes) => {
                *size += key_len + bytes;
                floored += u64::from(writer.is_floored(value));
            }
            None => {
                let fault = Fault { reason: writer.reason(value), value: &|| writer.text(value) };
                report.fault(slot, Path::to(&header.name), fault);
            }
        });
        if floored > 0 {
            report.floored_timestamps(floored);
        }
    }

    fn check(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        if !W::TAKES_ALL {
            return self.measure(slots, sizes, report);
        }
        self.way.find(slots);
        self.header.report_missing(self.way.present(slots), slots.len(), report);
    }

    fn write(&mut self, slots: Slots<'_>, cursors: &mut [usize], out: &mut [u8]) {
        let Column { header, way, reader, writer } = self;
        let key = header.key;
        each(reader, way.present(slots), cursors, |_, cursor, value| {
            let at = key.put(out, *cursor);
            *cursor = writer.put(value, out, at);
        });
    }

    fn text(&mut self, position: usize) -> String {
        let positions = [position];
        let slots = Slots::Each(&positions);
        self.way.find(slots);
        let present = self.way.present(slots);
        if present.len() == 0 {
            return "null".to_owned();
        }
        self.writer.text(self.reader.at(present.values().position(0)))
    }
}

/// Calls `visit` for each value with its slot and the slot's entry of `of_slots`.
#[inline]
fn each<R: Reader>(
    reader: &R,
    present: Present<'_>,
    of_slots: &mut [usize],
    mut visit: impl FnMut(usize, &mut usize, R::Value),
) {
    match present {
        Present::All(Slots::Run { first, len }) => {
            for ((slot, of_slot), value) in of_slots.iter_mut().enumerate().zip(reader.run(first, len)) {
                visit(slot, of_slot, value);
            }
        }
        Present::All(Slots::Each(positions)) => {
            for ((slot, of_slot), position) in of_slots.iter_mut().enumerate().zip(positions) {
                visit(slot, of_slot, reader.at(*position));
            }
        }
        Present::Some { slots, positions } => {
            for (&slot, &position) in slots.iter().zip(positions) {
                visit(slot, &mut of_slots[slot], reader.at(position));
            }
        }
    }
}
