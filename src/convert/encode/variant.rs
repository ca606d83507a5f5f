//! Variants: a struct of two byte strings in Arrow, one JSON text in the record.
//!
//! How long a text is is known when it is made, so it is made while the values are measured, and kept until they are
//! written.

use arrow_array::{Array, StructArray};

use super::column::Conversion;
use super::field::{Field, Header};
use super::positions::{Slots, Way};
use super::report::{Fault, Path, Report};
use super::source::AnyBytes;
use super::wire::{delimited_len, put_delimited};
use crate::convert::error::RowErrorReason;
use crate::convert::values::put_variant;

/// Writes variants that are not shredded as JSON.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct VariantAsJson;

impl VariantAsJson {
    /// The fields of the struct.
    pub(in crate::convert) const METADATA: &str = "metadata";
    pub(in crate::convert) const VALUE: &str = "value";
}

impl Conversion for VariantAsJson {
    fn bind<'a>(
        &self,
        header: &'a Header,
        way: Way<'a>,
        array: &'a dyn Array,
    ) -> Option<Box<dyn Field + 'a>> {
        let parts = Parts::bind(array)?;
        Some(Box::new(Variants { header, way, parts, texts: Vec::new(), ends: Vec::new() }))
    }
}

/// Leaves variants that are not shredded as they are; only whether they have both parts is looked at. It writes nothing.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct VariantAsIs;

impl Conversion for VariantAsIs {
    fn bind<'a>(
        &self,
        header: &'a Header,
        way: Way<'a>,
        array: &'a dyn Array,
    ) -> Option<Box<dyn Field + 'a>> {
        Some(Box::new(Whole { header, way, parts: Parts::bind(array)? }))
    }
}

/// Variants as they are.
struct Whole<'a> {
    header: &'a Header,
    way: Way<'a>,
    parts: Parts<'a>,
}

impl Field for Whole<'_> {
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        let Whole { header, way, parts } = self;
        way.find(slots);
        let present = way.present(slots);
        header.report_missing(present, slots.len(), report);
        let values = present.values();
        parts.find(values);
        present.visit(sizes, |n, _| {
            if parts.metadata.at(values, n).is_none() || parts.value.at(values, n).is_none() {
                let reason = RowErrorReason::InvalidVariant;
                let fault = Fault { reason, value: &|| "a variant without one of its parts".to_owned() };
                report.fault(present.slot(n), Path::to(&header.name), fault);
            }
        });
    }

    fn write(&mut self, _: Slots<'_>, _: &mut [usize], _: &mut [u8]) {}

    fn text(&mut self, _: usize) -> String {
        "a variant".to_owned()
    }
}

/// The two byte strings of each variant.
struct Parts<'a> {
    metadata: Part<'a>,
    value: Part<'a>,
}

impl<'a> Parts<'a> {
    fn bind(array: &'a dyn Array) -> Option<Parts<'a>> {
        let array = array.as_any().downcast_ref::<StructArray>()?;
        let part = |name| Part::bind(array.column_by_name(name)?.as_ref());
        Some(Parts { metadata: part(VariantAsJson::METADATA)?, value: part(VariantAsJson::VALUE)? })
    }

    /// Goes to these slots.
    fn find(&mut self, level: Slots<'_>) {
        self.metadata.way.find(level);
        self.value.way.find(level);
    }
}

/// One of the two byte strings.
struct Part<'a> {
    way: Way<'a>,
    bytes: AnyBytes<'a>,
}

impl<'a> Part<'a> {
    fn bind(array: &'a dyn Array) -> Option<Part<'a>> {
        let (way, array) = Way::new(array);
        Some(Part { way, bytes: AnyBytes::reader(array)? })
    }

    /// The bytes in a slot of the level that was found last.
    fn at(&self, level: Slots<'_>, slot: usize) -> Option<&'a [u8]> {
        self.way.present(level).position(slot).map(|position| self.bytes.at(position))
    }
}

struct Variants<'a> {
    header: &'a Header,
    way: Way<'a>,
    parts: Parts<'a>,
    /// The texts of the values that were measured, one after the other.
    texts: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl Field for Variants<'_> {
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        let Variants { header, way, parts, texts, ends } = self;
        way.find(slots);
        let present = way.present(slots);
        header.report_missing(present, slots.len(), report);
        let values = present.values();
        parts.find(values);
        texts.clear();
        ends.clear();
        present.visit(sizes, |n, size| {
            let start = texts.len();
            match put_variant(parts.metadata.at(values, n), parts.value.at(values, n), texts) {
                Ok(()) => *size += header.key.len() + delimited_len(texts.len() - start),
                Err(unfit) => {
                    let fault = Fault { reason: unfit.reason, value: &|| unfit.value.clone() };
                    report.fault(present.slot(n), Path::to(&header.name), fault);
                }
            }
            ends.push(texts.len());
        });
    }

    fn write(&mut self, slots: Slots<'_>, cursors: &mut [usize], out: &mut [u8]) {
        let Variants { header, way, texts, ends, .. } = self;
        let mut start = 0;
        way.present(slots).visit(cursors, |n, cursor| {
            let at = header.key.put(out, *cursor);
            *cursor = put_delimited(&texts[start..ends[n]], out, at);
            start = ends[n];
        });
    }

    fn text(&mut self, _: usize) -> String {
        "a variant".to_owned()
    }
}
