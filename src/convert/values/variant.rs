//! Variants as JSON text: the service reads VARIANT columns from nothing else.
//!
//! A variant is the two byte strings of [Parquet's encoding][encoding], made by somebody else. Whatever they are, they
//! become JSON or an error: nothing is read that was not checked, and neither how deep values lie nor how often their
//! bytes are shared is left to who made them. A row that ends the process would do so again after each restart, for
//! it stands in the log.
//!
//! That is why `parquet-variant` is not used here but in the tests: its validation panics at a date out of the range
//! of its calendar and at a UUID that is cut short, has a frame of the stack for each list around a value, and refuses
//! an empty name. And `parquet-variant-json` makes texts of dates and binaries, and no JSON at all of NaN.
//!
//! [encoding]: https://github.com/apache/parquet-format/blob/master/VariantEncoding.md

use std::collections::HashSet;
use std::fmt::Display;
use std::io::Write as _;

use super::text::{SHOWN_CHARS, shown};
use crate::convert::error::RowErrorReason;

/// How many lists and objects a value may be in: more than anybody writes, and little for the stack of a thread.
const DEPTH_MAX: usize = 128;

/// How many bytes of an invalid variant an error shows.
const SHOWN_BYTES: usize = 16;

/// Why a variant is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::convert) struct Unfit {
    pub(in crate::convert) reason: RowErrorReason,
    /// For the text of an error: the bytes, or the path of the value as SQL has it, `$.lines[3].at`.
    pub(in crate::convert) value: String,
}

/// Appends a variant as JSON that is read back as the same value; null bytes are none. After an error, `out` has a part
/// of it.
///
/// Numbers are written so that Spark's `parse_json` gives a double for a double and a decimal for a decimal.
pub(in crate::convert) fn put_variant(
    metadata: Option<&[u8]>,
    value: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let mut put = || {
        let value = value.ok_or(Fault::Invalid)?;
        let names = metadata.and_then(Names::parse).ok_or(Fault::Invalid)?;
        JsonWriter { names, values_left: value.len(), out }.put(value, 0)
    };
    let bytes = || format!("metadata {}, value {}", hex(metadata), hex(value));
    put().map_err(|fault| match fault {
        Fault::Invalid => Unfit { reason: RowErrorReason::InvalidVariant, value: bytes() },
        Fault::TooDeep => Unfit { reason: RowErrorReason::VariantTooDeep, value: bytes() },
        Fault::NotInJson { variant_type, path } => {
            Unfit { reason: RowErrorReason::NotInJson { variant_type }, value: format!("${path}") }
        }
    })
}

/// What is wrong with a value.
enum Fault {
    Invalid,
    TooDeep,
    NotInJson {
        variant_type: &'static str,
        /// From the value that was asked for inwards.
        path: String,
    },
}

impl Fault {
    fn within(self, step: impl FnOnce() -> String) -> Fault {
        match self {
            Fault::NotInJson { variant_type, path } => {
                Fault::NotInJson { variant_type, path: step() + &path }
            }
            other => other,
        }
    }
}

/// Writes the values of one variant.
struct JsonWriter<'v> {
    names: Names<'v>,
    /// Values have at least a byte each that is no other's, so there are not more of them than bytes.
    values_left: usize,
    out: &'v mut Vec<u8>,
}

impl JsonWriter<'_> {
    /// Writes the value that the bytes begin with.
    fn put(&mut self, bytes: &[u8], depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(Fault::Invalid)?;
        let (header, rest) = bytes.split_first().ok_or(Fault::Invalid)?;
        let bits = header >> 2;
        match header & 0b11 {
            0 => self.put_primitive(bits, rest),
            1 => self.put_text(usize::from(bits), rest).ok_or(Fault::Invalid),
            2 => self.put_object(bits, rest, depth),
            _ => self.put_list(bits, rest, depth),
        }
    }

    fn put_primitive(&mut self, type_id: u8, rest: &[u8]) -> Result<(), Fault> {
        let not_in_json = |variant_type| Err(Fault::NotInJson { variant_type, path: String::new() });
        let written = match type_id {
            0 => self.put_plain("null"),
            1 => self.put_plain("true"),
            2 => self.put_plain("false"),
            3 => first(rest).map(i8::from_le_bytes).and_then(|number| self.put_plain(number)),
            4 => first(rest).map(i16::from_le_bytes).and_then(|number| self.put_plain(number)),
            5 => first(rest).map(i32::from_le_bytes).and_then(|number| self.put_plain(number)),
            6 => first(rest).map(i64::from_le_bytes).and_then(|number| self.put_plain(number)),
            7 => match first(rest).map(f64::from_le_bytes) {
                Some(number) if !number.is_finite() => return not_in_json("double that is not finite"),
                number => number.and_then(|number| self.put_float(number)),
            },
            8 => first::<5>(rest).and_then(|[scale, digits @ ..]| {
                self.put_decimal(i32::from_le_bytes(digits).into(), scale, 9)
            }),
            9 => first::<9>(rest).and_then(|[scale, digits @ ..]| {
                self.put_decimal(i64::from_le_bytes(digits).into(), scale, 18)
            }),
            10 => first::<17>(rest)
                .and_then(|[scale, digits @ ..]| self.put_decimal(i128::from_le_bytes(digits), scale, 38)),
            11 => return not_in_json("date"),
            12 => return not_in_json("timestamp"),
            13 => return not_in_json("timestamp_ntz"),
            14 => match first(rest).map(f32::from_le_bytes) {
                Some(number) if !number.is_finite() => return not_in_json("float that is not finite"),
                number => number.and_then(|number| self.put_float(number.into())),
            },
            15 => return not_in_json("binary"),
            16 => first(rest).and_then(|len| {
                let len = usize::try_from(u32::from_le_bytes(len)).ok()?;
                self.put_text(len, &rest[4..])
            }),
            17 => return not_in_json("time"),
            18 => return not_in_json("timestamp in nanoseconds"),
            19 => return not_in_json("timestamp_ntz in nanoseconds"),
            20 => return not_in_json("uuid"),
            _ => None,
        };
        written.ok_or(Fault::Invalid)
    }

    fn put_plain(&mut self, text: impl Display) -> Option<()> {
        write!(self.out, "{text}").ok()
    }

    /// With an exponent, without which it would be read as a decimal; the fewest digits that make this very float.
    fn put_float(&mut self, number: f64) -> Option<()> {
        write!(self.out, "{number:e}").ok()
    }

    /// With all digits of the scale, in which it is read back.
    fn put_decimal(&mut self, unscaled: i128, scale: u8, precision: u8) -> Option<()> {
        let digits = unscaled.unsigned_abs();
        if scale > precision || digits >= 10_u128.pow(precision.into()) {
            return None;
        }
        let one = 10_u128.pow(scale.into());
        let sign = if unscaled < 0 { "-" } else { "" };
        self.put_plain(format_args!("{sign}{}", digits / one))?;
        match scale {
            0 => Some(()),
            scale => self.put_plain(format_args!(".{:0width$}", digits % one, width = usize::from(scale))),
        }
    }

    fn put_text(&mut self, len: usize, rest: &[u8]) -> Option<()> {
        let text = str::from_utf8(rest.get(..len)?).ok()?;
        serde_json::to_writer(&mut *self.out, text).ok()
    }

    fn put_list(&mut self, bits: u8, rest: &[u8], depth: usize) -> Result<(), Fault> {
        let list = List::parse(bits, rest).ok_or(Fault::Invalid)?;
        self.out.push(b'[');
        for n in 0..list.len {
            if n > 0 {
                self.out.push(b',');
            }
            let element = list.element(n).ok_or(Fault::Invalid)?;
            self.put(element, depth + 1).map_err(|fault| fault.within(|| format!("[{n}]")))?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn put_object(&mut self, bits: u8, rest: &[u8], depth: usize) -> Result<(), Fault> {
        let object = Object::parse(bits, rest).ok_or(Fault::Invalid)?;
        object.check_names(&self.names).ok_or(Fault::Invalid)?;
        self.out.push(b'{');
        for n in 0..object.len {
            if n > 0 {
                self.out.push(b',');
            }
            let name = object.name(n, &self.names).ok_or(Fault::Invalid)?;
            self.put_text(name.len(), name.as_bytes()).ok_or(Fault::Invalid)?;
            self.out.push(b':');
            let value = object.value(n).ok_or(Fault::Invalid)?;
            self.put(value, depth + 1).map_err(|fault| fault.within(|| name_step(name)))?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// The names of the fields of all objects: the metadata of a variant.
struct Names<'m> {
    offsets: Offsets<'m>,
    text: &'m [u8],
}

impl<'m> Names<'m> {
    fn parse(metadata: &'m [u8]) -> Option<Names<'m>> {
        const VERSION: u8 = 1;
        let (header, mut rest) = metadata.split_first()?;
        if header & 0b1111 != VERSION {
            return None;
        }
        let width = 1 + usize::from(header >> 6);
        let len = number(take(&mut rest, width)?);
        let offsets = Offsets::take(&mut rest, len.checked_add(1)?, width)?;
        Some(Names { offsets, text: rest })
    }

    fn get(&self, id: usize) -> Option<&'m str> {
        let range = self.offsets.get(id)?..self.offsets.get(id + 1)?;
        str::from_utf8(self.text.get(range)?).ok()
    }
}

struct List<'v> {
    len: usize,
    offsets: Offsets<'v>,
    values: &'v [u8],
}

impl<'v> List<'v> {
    fn parse(bits: u8, mut rest: &'v [u8]) -> Option<List<'v>> {
        let width = 1 + usize::from(bits & 0b11);
        let len = number(take(&mut rest, if bits & 0b100 == 0 { 1 } else { 4 })?);
        let offsets = Offsets::take(&mut rest, len.checked_add(1)?, width)?;
        Some(List { len, offsets, values: rest })
    }

    fn element(&self, n: usize) -> Option<&'v [u8]> {
        self.values.get(self.offsets.get(n)?..self.offsets.get(n + 1)?)
    }
}

struct Object<'v> {
    len: usize,
    name_ids: Offsets<'v>,
    offsets: Offsets<'v>,
    values: &'v [u8],
}

impl<'v> Object<'v> {
    fn parse(bits: u8, mut rest: &'v [u8]) -> Option<Object<'v>> {
        let (offset_width, id_width) = (1 + usize::from(bits & 0b11), 1 + usize::from(bits >> 2 & 0b11));
        let len = number(take(&mut rest, if bits & 0b1_0000 == 0 { 1 } else { 4 })?);
        let name_ids = Offsets::take(&mut rest, len, id_width)?;
        let offsets = Offsets::take(&mut rest, len.checked_add(1)?, offset_width)?;
        let values = rest.get(..offsets.get(len)?)?;
        Some(Object { len, name_ids, offsets, values })
    }

    /// Checks that no name stands there twice: whoever reads the JSON would refuse it, or keep one of the values.
    ///
    /// Names should be sorted, but Java's order of texts is another one than that of their bytes.
    fn check_names(&self, names: &Names<'_>) -> Option<()> {
        let mut last = None;
        for n in 0..self.len {
            let name = Some(self.name(n, names)?);
            if name <= last {
                let mut seen = HashSet::new();
                return (0..self.len).all(|n| seen.insert(self.name(n, names))).then_some(());
            }
            last = name;
        }
        Some(())
    }

    fn name<'m>(&self, n: usize, names: &Names<'m>) -> Option<&'m str> {
        names.get(self.name_ids.get(n)?)
    }

    /// Values may stand in any order, so only the value itself says where it ends.
    fn value(&self, n: usize) -> Option<&'v [u8]> {
        self.values.get(self.offsets.get(n)?..)
    }
}

/// Numbers of one width.
struct Offsets<'v> {
    bytes: &'v [u8],
    width: usize,
}

impl<'v> Offsets<'v> {
    fn take(rest: &mut &'v [u8], len: usize, width: usize) -> Option<Offsets<'v>> {
        Some(Offsets { bytes: take(rest, len.checked_mul(width)?)?, width })
    }

    fn get(&self, n: usize) -> Option<usize> {
        let start = n.checked_mul(self.width)?;
        Some(number(self.bytes.get(start..start + self.width)?))
    }
}

/// Takes bytes off the front.
fn take<'v>(rest: &mut &'v [u8], len: usize) -> Option<&'v [u8]> {
    let (taken, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(taken)
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// A little-endian number of at most four bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// A field of an object in a path.
fn name_step(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_plain && (1..=SHOWN_CHARS).contains(&name.len()) {
        format!(".{name}")
    } else {
        format!("[{}]", shown(name.as_bytes()))
    }
}

/// The first bytes as an error shows them.
fn hex(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let digits: String = bytes.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN_BYTES {
        format!("x'{digits}'… ({} bytes)", bytes.len())
    } else {
        format!("x'{digits}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON of a value without names.
    fn json(value: &[u8]) -> Result<String, RowErrorReason> {
        let mut out = Vec::new();
        put_variant(Some(&[1, 0, 0]), Some(value), &mut out).map_err(|unfit| unfit.reason)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn primitive(type_id: u8, bytes: &[u8]) -> Vec<u8> {
        [&[type_id << 2], bytes].concat()
    }

    #[test]
    fn numbers_keep_what_they_are() {
        let decimal =
            |scale: u8, digits: i32| json(&primitive(8, &[&[scale][..], &digits.to_le_bytes()].concat()));
        assert_eq!(decimal(2, -1_250).unwrap(), "-12.50");
        assert_eq!(decimal(9, 1).unwrap(), "0.000000001");
        assert_eq!(decimal(0, -7).unwrap(), "-7");
        assert_eq!(decimal(10, 1), Err(RowErrorReason::InvalidVariant));
        assert_eq!(decimal(0, 1_000_000_000), Err(RowErrorReason::InvalidVariant));
        let double = |number: f64| json(&primitive(7, &number.to_le_bytes())).unwrap();
        let numbers = [1.0, -0.0, 0.1, f64::MAX, f64::MIN_POSITIVE];
        let texts = ["1e0", "-0e0", "1e-1", "1.7976931348623157e308", "2.2250738585072014e-308"];
        assert_eq!(numbers.map(double), texts);
        // Exactly the float, which is not the decimal 0.1.
        assert_eq!(json(&primitive(14, &0.1_f32.to_le_bytes())).unwrap(), "1.0000000149011612e-1");
        assert_eq!(json(&primitive(6, &i64::MIN.to_le_bytes())).unwrap(), i64::MIN.to_string());
    }

    #[test]
    fn what_ends_too_early_is_no_variant() {
        let mut whole =
            vec![primitive(16, &[3, 0, 0, 0, b'a', b'b', b'c']), vec![3 << 2 | 1, b'a', b'b', b'c']];
        whole.extend(
            [(3, 1), (4, 2), (5, 4), (6, 8), (7, 8), (8, 5), (9, 9), (10, 17), (14, 4)]
                .map(|(type_id, len)| primitive(type_id, &vec![0; len])),
        );
        whole.push(vec![0b11, 1, 0, 1, 0]);
        for value in whole {
            assert!(json(&value).is_ok(), "{value:?}");
            for len in 0..value.len() {
                assert_eq!(json(&value[..len]), Err(RowErrorReason::InvalidVariant), "{len} of {value:?}");
            }
        }
    }
}
