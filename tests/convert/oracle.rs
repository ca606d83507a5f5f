//! What must come out for a value, worked out from the specification by other means than the code under test:
//! decimals as strings of digits, floats by their exact decimal text, times in nanoseconds.

use arrow_buffer::i256;
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use arrow_zerobus_sdk_wrapper::convert::{
    DeltaType, NullList, Policies, RowErrorReason, TableColumn, TimestampNs,
};
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};

use crate::cells::{Cell, Leaf};
use crate::shape::{Record, Shape};
use crate::types;

/// What a null becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnNull {
    Omit,
    /// A null list.
    Empty,
    Refuse(RowErrorReason),
}

impl OnNull {
    pub(crate) const ELEMENT: OnNull = OnNull::Refuse(RowErrorReason::NullElement);
    pub(crate) const MAP_KEY: OnNull = OnNull::Refuse(RowErrorReason::NullMapKey);
    pub(crate) const MAP_VALUE: OnNull = OnNull::Refuse(RowErrorReason::NullMapValue);

    pub(crate) fn of(column: &TableColumn, policies: Policies) -> OnNull {
        let is_list = matches!(column.delta_type, DeltaType::Array { .. } | DeltaType::Map { .. });
        match (column.nullable, is_list, policies.null_list) {
            (false, _, _) => OnNull::Refuse(RowErrorReason::NullInRequired),
            (true, false, _) => OnNull::Omit,
            (true, true, NullList::Empty) => OnNull::Empty,
            (true, true, NullList::Error) => OnNull::Refuse(RowErrorReason::NullList),
        }
    }
}

/// What the reader of a record must find.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    Nothing,
    Is(Value),
    /// Some NaN, when the bits of the input cannot be kept.
    Nan,
    /// The fields by number.
    Message(Vec<(u32, Wanted)>),
    List(Vec<Wanted>),
    Map(Vec<(Wanted, Wanted)>),
}

/// What is counted in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) floored: u64,
    pub(crate) emptied: u64,
}

/// Where a value is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) path: String,
    pub(crate) reason: RowErrorReason,
}

impl Refusal {
    fn new(reason: RowErrorReason) -> Refusal {
        Refusal { path: String::new(), reason }
    }

    fn within(self, name: &str) -> Refusal {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{name}.{}", self.path) };
        Refusal { path, reason: self.reason }
    }
}

/// The first fault of a row.
pub(crate) fn row_fault(record: &Record, row: &Cell, policies: Policies) -> Option<Refusal> {
    record_fault(record, &[row], policies)
}

/// The record of a row without a fault.
pub(crate) fn row_wanted(record: &Record, row: &Cell, policies: Policies, counts: &mut Counts) -> Wanted {
    message(record, row, policies, counts)
}

/// The first fault among values of one row that are in the same place: nulls come before the other values, and
/// column comes after column.
pub(crate) fn fault(shape: &Shape, cells: &[&Cell], on_null: OnNull, policies: Policies) -> Option<Refusal> {
    if let OnNull::Refuse(reason) = on_null
        && cells.contains(&&Cell::Null)
    {
        return Some(Refusal::new(reason));
    }
    let lists = || {
        cells.iter().filter_map(|cell| match cell {
            Cell::List(elements) => Some(elements),
            _ => None,
        })
    };
    let maps = || {
        cells.iter().filter_map(|cell| match cell {
            Cell::Map(entries) => Some(entries),
            _ => None,
        })
    };
    match shape {
        Shape::Null { .. } => None,
        Shape::Keyed { values, .. } | Shape::Runs { values, .. } => fault(values, cells, on_null, policies),
        Shape::Scalar { .. } => cells.iter().find_map(|cell| match cell {
            Cell::Leaf(leaf) => scalar(shape, leaf, policies).err().map(Refusal::new),
            _ => None,
        }),
        Shape::Struct(record) => {
            let present: Vec<&Cell> = cells.iter().copied().filter(|cell| **cell != Cell::Null).collect();
            record_fault(record, &present, policies)
        }
        Shape::List(_, element) => {
            let elements: Vec<&Cell> = lists().flatten().collect();
            let refusal = fault(&element.shape, &elements, OnNull::ELEMENT, policies)?;
            Some(refusal.within("element"))
        }
        Shape::Map { key, value } => {
            let keys: Vec<&Cell> = maps().flatten().map(|entry| &entry.0).collect();
            if let Some(refusal) = fault(&key.shape, &keys, OnNull::MAP_KEY, policies) {
                return Some(refusal.within("key"));
            }
            let values: Vec<&Cell> = maps().flatten().map(|entry| &entry.1).collect();
            if let Some(refusal) = fault(&value.shape, &values, OnNull::MAP_VALUE, policies) {
                return Some(refusal.within("value"));
            }
            let is_twice = |entries: &Vec<(Cell, Cell)>| {
                entries.iter().enumerate().any(|(n, entry)| {
                    entries[..n].iter().any(|earlier| is_same_key(&key.shape, &earlier.0, &entry.0))
                })
            };
            let twice = maps().any(is_twice);
            twice.then(|| Refusal::new(RowErrorReason::DuplicateMapKey).within("key"))
        }
    }
}

fn record_fault(record: &Record, rows: &[&Cell], policies: Policies) -> Option<Refusal> {
    record.columns.iter().find_map(|place| {
        let member = place.member?;
        let cells: Vec<&Cell> = rows.iter().map(|row| fields(row).get(member).unwrap()).collect();
        let on_null = OnNull::of(&place.column, policies);
        let refusal = fault(&record.members[member].shape, &cells, on_null, policies)?;
        Some(refusal.within(&place.column.name))
    })
}

fn fields(cell: &Cell) -> &[Cell] {
    match cell {
        Cell::Struct(fields) => fields,
        other => panic!("{other:?} is no struct"),
    }
}

/// Whether two good keys are the same for whoever reads them.
pub(crate) fn is_same_key(key: &Shape, a: &Cell, b: &Cell) -> bool {
    let policies = Policies::default();
    let is_good = |cell| fault(key, &[cell], OnNull::MAP_KEY, policies).is_none();
    let wanted = |cell| wanted(key, cell, policies, &mut Counts::default());
    is_good(a) && is_good(b) && wanted(a) == wanted(b)
}

fn message(record: &Record, row: &Cell, policies: Policies, counts: &mut Counts) -> Wanted {
    let wanted = record.columns.iter().map(|place| {
        let wanted = place.member.map_or(Wanted::Nothing, |member| {
            let cell = &fields(row)[member];
            let is_null_list = OnNull::of(&place.column, policies) == OnNull::Empty && *cell == Cell::Null;
            counts.emptied += u64::from(is_null_list);
            wanted(&record.members[member].shape, cell, policies, counts)
        });
        (place.column.number, wanted)
    });
    Wanted::Message(wanted.collect())
}

fn wanted(shape: &Shape, cell: &Cell, policies: Policies, counts: &mut Counts) -> Wanted {
    match (shape, cell) {
        (_, Cell::Null) => Wanted::Nothing,
        (Shape::Keyed { values, .. } | Shape::Runs { values, .. }, _) => {
            wanted(values, cell, policies, counts)
        }
        (Shape::Struct(record), _) => message(record, cell, policies, counts),
        (Shape::List(_, element), Cell::List(elements)) => {
            Wanted::List(elements.iter().map(|cell| wanted(&element.shape, cell, policies, counts)).collect())
        }
        (Shape::Map { key, value }, Cell::Map(entries)) => {
            let entry = |(k, v): &(Cell, Cell)| {
                (wanted(&key.shape, k, policies, counts), wanted(&value.shape, v, policies, counts))
            };
            Wanted::Map(entries.iter().map(entry).collect())
        }
        (_, Cell::Leaf(leaf)) => {
            let (wanted, is_floored) = scalar(shape, leaf, policies).unwrap();
            counts.floored += u64::from(is_floored);
            wanted
        }
        (shape, cell) => panic!("{cell:?} cannot be in {shape:?}"),
    }
}

/// Texts and whether they are JSON.
pub(crate) const JSON_TEXTS: [(&str, bool); 14] = [
    ("0", true),
    ("{\"a\": [1, 2.5e3, null, {\"b\": \"\\u00e9\"}]}", true),
    (" [true, false] ", true),
    ("\"☃\"", true),
    ("[[[[[[[]]]]]]]", true),
    ("-0.0", true),
    ("1e999", true),
    ("", false),
    ("{", false),
    ("{a: 1}", false),
    ("01", false),
    ("NaN", false),
    ("[1,]", false),
    ("1 2", false),
];

/// What a value becomes, and whether it lost nanoseconds.
fn scalar(shape: &Shape, leaf: &Leaf, policies: Policies) -> Result<(Wanted, bool), RowErrorReason> {
    let Shape::Scalar { data_type, extension, target } = shape else {
        panic!("{leaf:?} cannot be in {shape:?}");
    };
    let mut is_floored = false;
    let value = match (leaf, target) {
        (Leaf::Variant(sample), _) => Value::String(sample.json.clone()?),
        (Leaf::Bool(value), _) => Value::Bool(*value),
        (Leaf::Half(bits), target) => return Ok((half(*bits, *target == DeltaType::Double), false)),
        (Leaf::Single(bits), DeltaType::Double) => Value::F64(f64::from(f32::from_bits(*bits))),
        (Leaf::Single(bits), _) => Value::F32(f32::from_bits(*bits)),
        (Leaf::Double(bits), DeltaType::Double) => Value::F64(f64::from_bits(*bits)),
        (Leaf::Double(bits), _) => {
            let double = f64::from_bits(*bits);
            if double.is_nan() {
                return Ok((Wanted::Nan, false));
            }
            let single = double as f32;
            if double.is_finite() && (f64::from(single) != double) {
                return Err(RowErrorReason::Inexact);
            }
            Value::F32(single)
        }
        (Leaf::Bytes(bytes), DeltaType::Binary) => Value::Bytes(bytes.clone().into()),
        (Leaf::Bytes(bytes), _) if *extension == Some(types::UUID) => Value::String(uuid(bytes)),
        (Leaf::Bytes(bytes), target) => Value::String(text(bytes, target)?),
        (Leaf::Int(number), DeltaType::Boolean) => Value::Bool(*number != i256::ZERO),
        (Leaf::Int(number), target) => match data_type {
            DataType::Timestamp(unit, _) => {
                is_floored = *unit == TimeUnit::Nanosecond && number.to_i128().unwrap() % 1_000 != 0;
                if is_floored && policies.timestamp_ns == TimestampNs::Error {
                    return Err(RowErrorReason::Nanoseconds);
                }
                micros(number, nanos_per(*unit))?
            }
            DataType::Date32 if *target == DeltaType::TimestampNtz => micros(number, 86_400_000_000_000)?,
            DataType::Date64 if *target == DeltaType::TimestampNtz => micros(number, 1_000_000)?,
            DataType::Date64 => {
                let millis = number.to_i128().unwrap();
                if millis % 86_400_000 != 0 {
                    return Err(RowErrorReason::TimeOfDay);
                }
                whole(&i256::from_i128(millis / 86_400_000), &DeltaType::Date)?
            }
            DataType::Time32(unit) | DataType::Time64(unit) if *target == DeltaType::String => {
                Value::String(time_of_day(number.to_i128().unwrap(), *unit)?)
            }
            DataType::Duration(unit) if *target == DeltaType::String => {
                let (sign, seconds) = seconds(number.to_i128().unwrap(), *unit);
                Value::String(format!("{sign}PT{seconds}S"))
            }
            DataType::Interval(IntervalUnit::YearMonth) if *target == DeltaType::String => {
                Value::String(format!("P{number}M"))
            }
            other => number_into(number, types::decimal(other).map_or(0, |(_, scale)| scale), target)?,
        },
        (Leaf::DayTime { days, milliseconds }, _) => {
            let (sign, seconds) = seconds((*milliseconds).into(), TimeUnit::Millisecond);
            Value::String(format!("P{days}DT{sign}{seconds}S"))
        }
        (Leaf::MonthDayNano { months, days, nanoseconds }, _) => {
            let (sign, seconds) = seconds((*nanoseconds).into(), TimeUnit::Nanosecond);
            Value::String(format!("P{months}M{days}DT{sign}{seconds}S"))
        }
    };
    Ok((Wanted::Is(value), is_floored))
}

/// A float of 16 bits by its definition.
fn half(bits: u16, is_double: bool) -> Wanted {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
    let value = match exponent {
        0x1f if fraction > 0.0 => return Wanted::Nan,
        0x1f => f64::INFINITY,
        0 => fraction * 2_f64.powi(-14),
        _ => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    };
    Wanted::Is(if is_double { Value::F64(sign * value) } else { Value::F32((sign * value) as f32) })
}

fn uuid(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
    groups.map(|group| digits[group].to_owned()).join("-")
}

/// A text for STRING, VARIANT or DECIMAL.
fn text(bytes: &[u8], target: &DeltaType) -> Result<String, RowErrorReason> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    match target {
        DeltaType::Variant => match JSON_TEXTS.iter().find(|known| known.0 == text) {
            Some((_, true)) => {}
            _ => return Err(RowErrorReason::InvalidJson),
        },
        DeltaType::Decimal { precision, scale } => {
            let digits = text.strip_prefix('-').unwrap_or(&text);
            let parts: Vec<&str> = digits.split('.').collect();
            let is_plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
            if parts.len() > 2 || !parts.iter().all(is_plain) {
                return Err(RowErrorReason::InvalidDecimal);
            }
            if parts[0].trim_start_matches('0').len() > usize::from(precision - scale) {
                return Err(RowErrorReason::OutOfRange);
            }
            if parts.get(1).is_some_and(|part| part.trim_end_matches('0').len() > usize::from(*scale)) {
                return Err(RowErrorReason::Inexact);
            }
        }
        _ => {}
    }
    Ok(text)
}

fn nanos_per(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn micros(count: &i256, nanos_per: i128) -> Result<Value, RowErrorReason> {
    let nanos = count.to_i128().unwrap() * nanos_per;
    let micros = (nanos - nanos.rem_euclid(1_000)) / 1_000;
    i64::try_from(micros).map(Value::I64).map_err(|_| RowErrorReason::TimestampOverflow)
}

/// A sign, and seconds with the digits of the unit.
fn seconds(count: i128, unit: TimeUnit) -> (&'static str, String) {
    let nanos = count.abs() * nanos_per(unit);
    let digits = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let surplus = nanos_per(unit).to_string().len() - 1;
    let text = digits[..digits.len() - surplus].trim_end_matches('.').to_owned();
    (if count < 0 { "-" } else { "" }, text)
}

fn time_of_day(count: i128, unit: TimeUnit) -> Result<String, RowErrorReason> {
    let minutes_nanos = 60 * nanos_per(TimeUnit::Second);
    let nanos = count * nanos_per(unit);
    if !(0..24 * 60 * minutes_nanos).contains(&nanos) {
        return Err(RowErrorReason::OutOfRange);
    }
    let (minutes, below) = (nanos / minutes_nanos, count % (minutes_nanos / nanos_per(unit)));
    let (_, seconds) = seconds(below, unit);
    let zero = if seconds.find('.').unwrap_or(seconds.len()) < 2 { "0" } else { "" };
    Ok(format!("{:02}:{:02}:{zero}{seconds}", minutes / 60, minutes % 60))
}

/// A number with a scale into any type of number, or STRING.
fn number_into(number: &i256, scale: i8, target: &DeltaType) -> Result<Value, RowErrorReason> {
    let digits = number.to_string();
    let (sign, magnitude) = digits.strip_prefix('-').map_or(("", &*digits), |magnitude| ("-", magnitude));
    match target {
        DeltaType::Float => {
            let single = number.to_i128().unwrap() as f32;
            let is_same = format!("{single:.0}") == digits;
            if is_same { Ok(Value::F32(single)) } else { Err(RowErrorReason::Inexact) }
        }
        DeltaType::Double => {
            let double = number.to_i128().unwrap() as f64;
            let is_same = format!("{double:.0}") == digits;
            if is_same { Ok(Value::F64(double)) } else { Err(RowErrorReason::Inexact) }
        }
        DeltaType::Decimal { precision, scale: to } => {
            let plain = rescaled(magnitude, scale.into(), (*to).into(), (*precision).into())?;
            Ok(Value::String(format!("{sign}{plain}")))
        }
        DeltaType::String => {
            let plain = rescaled(magnitude, scale.into(), scale.max(0).into(), usize::MAX)?;
            Ok(Value::String(format!("{sign}{plain}")))
        }
        _ => whole(number, target),
    }
}

/// The digits of a number of one scale in another one, with a point.
fn rescaled(digits: &str, from: i32, to: i32, precision: usize) -> Result<String, RowErrorReason> {
    let digits = digits.trim_start_matches('0');
    let digits = if from <= to || digits.is_empty() {
        let zeros = if digits.is_empty() { 0 } else { (to - from).unsigned_abs() as usize };
        format!("{digits}{}", "0".repeat(zeros))
    } else {
        let surplus = (from - to).unsigned_abs() as usize;
        let kept = digits.len().checked_sub(surplus).ok_or(RowErrorReason::Inexact)?;
        if digits[kept..].contains(|digit| digit != '0') {
            return Err(RowErrorReason::Inexact);
        }
        digits[..kept].to_owned()
    };
    if digits.len() > precision {
        return Err(RowErrorReason::OutOfRange);
    }
    let scale = to.unsigned_abs() as usize;
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    Ok(if scale > 0 { format!("{whole}.{fraction}") } else { whole.to_owned() })
}

fn whole(number: &i256, target: &DeltaType) -> Result<Value, RowErrorReason> {
    let number = number.to_i128().unwrap_or(i128::MAX);
    let value = match target {
        DeltaType::Byte => i8::try_from(number).ok().map(|number| Value::I32(number.into())),
        DeltaType::Short => i16::try_from(number).ok().map(|number| Value::I32(number.into())),
        DeltaType::Integer | DeltaType::Date => i32::try_from(number).ok().map(Value::I32),
        DeltaType::Long => i64::try_from(number).ok().map(Value::I64),
        other => panic!("{other} takes no whole numbers"),
    };
    value.ok_or(RowErrorReason::OutOfRange)
}

/// Whether a record has what it must have, and nothing else. The error says where it has not.
pub(crate) fn check(wanted: &Wanted, message: &DynamicMessage) -> Result<(), String> {
    let Wanted::Message(fields) = wanted else {
        return Err(format!("a message instead of {wanted:?}"));
    };
    let descriptor = message.descriptor();
    for (number, wanted) in fields {
        let field = descriptor.get_field(*number).ok_or_else(|| format!("no field {number}"))?;
        let found = message.has_field(&field).then(|| message.get_field(&field).into_owned());
        let is_right = match (wanted, &found) {
            (Wanted::Nothing, None) => Ok(()),
            (Wanted::List(elements), None) if elements.is_empty() => Ok(()),
            (Wanted::Map(entries), None) if entries.is_empty() => Ok(()),
            (wanted, Some(found)) => check_value(wanted, found),
            (wanted, None) => Err(format!("nothing instead of {wanted:?}")),
        };
        is_right.map_err(|text| format!("{}: {text}", field.name()))?;
    }
    if message.unknown_fields().count() > 0 || message.fields().count() > fields.len() {
        return Err("more fields than wanted".to_owned());
    }
    Ok(())
}

fn check_value(wanted: &Wanted, found: &Value) -> Result<(), String> {
    let is_right = match (wanted, found) {
        (Wanted::Is(wanted), found) => is_same(wanted, found),
        (Wanted::Nan, Value::F32(found)) => found.is_nan(),
        (Wanted::Nan, Value::F64(found)) => found.is_nan(),
        (Wanted::Message(_), Value::Message(found)) => return check(wanted, found),
        (Wanted::List(wanted), Value::List(found)) if wanted.len() == found.len() => {
            return wanted.iter().zip(found).try_for_each(|(wanted, found)| check_value(wanted, found));
        }
        (Wanted::Map(wanted), Value::Map(found)) if wanted.len() == found.len() => {
            return wanted.iter().try_for_each(|(key, value)| {
                let found = map_key(key).and_then(|key| found.get(&key));
                check_value(value, found.ok_or_else(|| format!("no key {key:?}"))?)
            });
        }
        _ => false,
    };
    if is_right { Ok(()) } else { Err(format!("{found:?} instead of {wanted:?}")) }
}

fn map_key(key: &Wanted) -> Option<MapKey> {
    let Wanted::Is(key) = key else { return None };
    Some(match key {
        Value::Bool(key) => MapKey::Bool(*key),
        Value::I32(key) => MapKey::I32(*key),
        Value::I64(key) => MapKey::I64(*key),
        Value::String(key) => MapKey::String(key.clone()),
        _ => return None,
    })
}

/// Equality of bits, for NaN and -0.0.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}
