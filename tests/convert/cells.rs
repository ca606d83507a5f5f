//! Values as the generator keeps them beside the arrays, and how it makes them up.

use arrow_buffer::i256;
use arrow_schema::{DataType, IntervalUnit};
use arrow_zerobus_sdk_wrapper::convert::{DeltaType, Policies};

use crate::choices::Choices;
use crate::oracle::{self, OnNull};
use crate::shape::{Layout, Place, Record, Shape};
use crate::types;
use crate::variants::Sample;

/// What a slot of a column holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Leaf(Leaf),
    /// The fields in the order of the batch.
    Struct(Vec<Cell>),
    List(Vec<Cell>),
    Map(Vec<(Cell, Cell)>),
}

/// A value without parts, as Arrow keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Bool(bool),
    /// Every type that is a count of something.
    Int(i256),
    Half(u16),
    Single(u32),
    Double(u64),
    Bytes(Vec<u8>),
    DayTime {
        days: i32,
        milliseconds: i32,
    },
    MonthDayNano {
        months: i32,
        days: i32,
        nanoseconds: i64,
    },
    Variant(Sample),
}

/// Makes up values.
pub(crate) struct Cells<'c> {
    pub(crate) choices: &'c mut Choices,
    pub(crate) policies: Policies,
    /// One in so many values may be one that has to be refused; 0 for none.
    pub(crate) wild: usize,
}

impl Cells<'_> {
    /// The rows of a batch.
    pub(crate) fn rows(&mut self, record: &Record, len: usize) -> Vec<Cell> {
        self.structs(record, len)
    }

    /// As many values of a field; null only if Arrow allows it.
    pub(crate) fn level(&mut self, shape: &Shape, nullable: bool, on_null: OnNull, len: usize) -> Vec<Cell> {
        let mut cells = match shape {
            Shape::Null { .. } => return vec![Cell::Null; len],
            Shape::Scalar { data_type, target, extension } => {
                (0..len).map(|_| self.good_leaf(shape, data_type, *extension, target)).collect()
            }
            Shape::Struct(record) => self.structs(record, len),
            Shape::List(layout, element) => {
                let lens: Vec<usize> = (0..len)
                    .map(|_| match layout {
                        Layout::FixedSize(len) => *len,
                        _ => *self.choices.pick(&[0, 1, 2, 1, 3]),
                    })
                    .collect();
                let on_null = OnNull::ELEMENT;
                let all = self.level(&element.shape, element.nullable, on_null, lens.iter().sum());
                split(all, &lens).map(Cell::List).collect()
            }
            Shape::Map { key, value } => {
                let lens: Vec<usize> = (0..len).map(|_| *self.choices.pick(&[0, 1, 2, 1, 20])).collect();
                let total = lens.iter().sum();
                let keys = self.level(&key.shape, key.nullable, OnNull::MAP_KEY, total);
                let values = self.level(&value.shape, value.nullable, OnNull::MAP_VALUE, total);
                let entries = keys.into_iter().zip(values).collect();
                split(entries, &lens).map(|entries| Cell::Map(self.distinct(&key.shape, entries))).collect()
            }
            // Few values, as one has in a dictionary.
            Shape::Keyed { values, .. } => {
                let some = 1 + self.choices.below(4);
                let pool = self.level(values, nullable, on_null, some);
                return (0..len).map(|_| self.choices.pick(&pool).clone()).collect();
            }
            Shape::Runs { values, .. } => {
                let mut cells = self.level(values, nullable, on_null, len);
                for n in 1..len {
                    if self.choices.one_in(2) {
                        cells[n] = cells[n - 1].clone();
                    }
                }
                return cells;
            }
        };
        let is_refused = matches!(on_null, OnNull::Refuse(_));
        if nullable && (!is_refused || self.wild > 0) {
            let often = if is_refused { 4 * self.wild } else { *self.choices.pick(&[4, 2, 1_000]) };
            for cell in &mut cells {
                if self.choices.one_in(often) {
                    *cell = Cell::Null;
                }
            }
        }
        cells
    }

    fn structs(&mut self, record: &Record, len: usize) -> Vec<Cell> {
        let mut structs = vec![Vec::new(); len];
        for (n, member) in record.members.iter().enumerate() {
            let place = record.columns.iter().find(|place| place.member == Some(n));
            let on_null =
                place.map_or(OnNull::Omit, |Place { column, .. }| OnNull::of(column, self.policies));
            let cells = self.level(&member.shape, member.nullable, on_null, len);
            structs.iter_mut().zip(cells).for_each(|(fields, cell)| fields.push(cell));
        }
        structs.into_iter().map(Cell::Struct).collect()
    }

    /// Only the first entry of each key, except where wild.
    fn distinct(&mut self, key: &Shape, entries: Vec<(Cell, Cell)>) -> Vec<(Cell, Cell)> {
        let mut kept: Vec<(Cell, Cell)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let is_twice = kept.iter().any(|earlier| oracle::is_same_key(key, &earlier.0, &entry.0));
            if !is_twice || self.wild > 0 && self.choices.one_in(self.wild) {
                kept.push(entry);
            }
        }
        kept
    }

    /// A value that goes into the table, except where wild.
    fn good_leaf(
        &mut self,
        shape: &Shape,
        data_type: &DataType,
        extension: types::Extension,
        target: &DeltaType,
    ) -> Cell {
        let is_wild = self.wild > 0 && self.choices.one_in(self.wild);
        for _ in 0..12 {
            let leaf = self.leaf(data_type, extension, target);
            let cell = Cell::Leaf(leaf);
            if is_wild || oracle::fault(shape, &[&cell], OnNull::Omit, self.policies).is_none() {
                return cell;
            }
        }
        Cell::Leaf(match self.leaf(data_type, extension, target) {
            Leaf::Int(_) => Leaf::Int(i256::ZERO),
            Leaf::Double(_) => Leaf::Double(0),
            Leaf::Variant(_) => Leaf::Variant(Sample::null()),
            _ => Leaf::Bytes(b"0".to_vec()),
        })
    }

    fn leaf(&mut self, data_type: &DataType, extension: types::Extension, target: &DeltaType) -> Leaf {
        const DAY_MILLIS: i64 = 86_400_000;
        match data_type {
            DataType::Struct(_) => Leaf::Variant(Sample::any(self.choices)),
            DataType::Boolean => Leaf::Bool(self.choices.one_in(2)),
            DataType::Float16 => {
                let any = self.choices.bits() as u16;
                Leaf::Half(*self.choices.pick(&[0x3c00, any, any, 0, 0x8000, 0x7c00, 0x7e01, 1]))
            }
            DataType::Float32 => {
                let any = self.choices.bits() as u32;
                let special = [1.0, 0.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX];
                let special = self.choices.pick(&special).to_bits();
                Leaf::Single(*self.choices.pick(&[special, any, 1]))
            }
            DataType::Float64 => {
                let any = self.choices.bits();
                let short = f64::from(f32::from_bits(any as u32)).to_bits();
                let special = [1.0, 0.1, -0.0, f64::NAN, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX];
                let special = self.choices.pick(&special).to_bits();
                Leaf::Double(*self.choices.pick(&[special, short, any]))
            }
            DataType::Interval(IntervalUnit::DayTime) => {
                Leaf::DayTime { days: self.int(32) as i32, milliseconds: self.int(32) as i32 }
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => Leaf::MonthDayNano {
                months: self.int(32) as i32,
                days: self.int(32) as i32,
                nanoseconds: self.int(64) as i64,
            },
            DataType::Date64 if !self.choices.one_in(3) => {
                Leaf::Int(i256::from((self.int(32) as i64).saturating_mul(DAY_MILLIS)))
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                let bits = if matches!(data_type, DataType::Time32(_)) { 32 } else { 64 };
                let any = i256::from_i128(self.int(bits));
                Leaf::Int(if self.choices.one_in(8) {
                    any
                } else {
                    i256::from(self.choices.below(86_400) as i64)
                })
            }
            DataType::FixedSizeBinary(len) => {
                Leaf::Bytes((0..*len).map(|_| self.choices.bits() as u8).collect())
            }
            text if types::is_text(text) => Leaf::Bytes(self.text(extension, target).into_bytes()),
            binary if types::is_binary(binary) => {
                let len = self.len();
                Leaf::Bytes((0..len).map(|_| self.choices.bits() as u8).collect())
            }
            other => Leaf::Int(match types::decimal(other) {
                Some((precision, _)) => self.unscaled(precision),
                None => self.integer(other),
            }),
        }
    }

    /// Lengths around those at which something changes: a view holds 12 bytes itself, a varint 127.
    fn len(&mut self) -> usize {
        let any = self.choices.below(40);
        *self.choices.pick(&[1, any, any, any, 0, 12, 13, 127, 128])
    }

    fn text(&mut self, extension: types::Extension, target: &DeltaType) -> String {
        if *target == DeltaType::Variant || extension == Some(types::JSON) {
            let texts = oracle::JSON_TEXTS.map(|(text, _)| text);
            return (*self.choices.pick(&texts)).to_owned();
        }
        if matches!(target, DeltaType::Decimal { .. }) {
            let digits = self.unscaled(30).to_string();
            let at = self.choices.below(digits.len() + 1);
            let odd = ["1e3", "", "-", ".5", "5.", "+1", "0x1", " 1", "1_000", "NaN", "--1", "1.2.3", "٣"];
            return match self.choices.below(5) {
                0 => digits,
                1 => format!("00{}", digits.trim_start_matches('-')),
                2 => (*self.choices.pick(&odd)).to_owned(),
                _ => format!("{}.{}0", &digits[..at], &digits[at..]),
            };
        }
        let chars = ['a', 'é', '☃', '\u{10ffff}', '\0', '"', 'Z', '7'];
        (0..self.len()).map(|_| *self.choices.pick(&chars)).collect()
    }

    /// A number of at most so many digits; more often than not with zeros at its end.
    fn unscaled(&mut self, precision: u8) -> i256 {
        let digits = 1 + self.choices.below(precision.into());
        let zeros = self.choices.below(digits);
        let text: String =
            (0..digits)
                .map(|n| {
                    if n > 0 && n >= digits - zeros { '0' } else { *self.choices.pick(&['1', '9', '0', '5']) }
                })
                .collect();
        let number = i256::from_string(&text).unwrap();
        if self.choices.one_in(2) { number.wrapping_neg() } else { number }
    }

    fn integer(&mut self, data_type: &DataType) -> i256 {
        let bits = 8 * data_type.primitive_width().unwrap() as u32;
        if data_type.is_unsigned_integer() {
            let any = self.int(65).unsigned_abs() & (u128::MAX >> (128 - bits));
            return i256::from_i128(any as i128);
        }
        i256::from_i128(self.int(bits))
    }

    /// A signed number of at most so many bits: small, next to a power of two, next to an end, or any.
    fn int(&mut self, bits: u32) -> i128 {
        let sign = if self.choices.one_in(2) { -1 } else { 1 };
        let near = self.choices.below(4) as i128 - 2;
        let power = 1_i128 << self.choices.below(bits as usize - 1);
        let (min, max) = (-1_i128 << (bits - 1), (1_i128 << (bits - 1)) - 1);
        let number = match self.choices.below(8) {
            0..3 => near,
            3 | 4 => sign * (power + near),
            5 => sign * max,
            6 => min,
            _ => i128::from(self.choices.bits() as i64),
        };
        if (min..=max).contains(&number) { number } else { near }
    }
}

/// Runs of these lengths, in their order.
fn split<T>(all: Vec<T>, lens: &[usize]) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    lens.iter().map(move |len| all.by_ref().take(*len).collect())
}
