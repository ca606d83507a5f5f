//! What the ledger remembers of the table's columns, for a start without network, and its bytes.
//!
//! It is a cache: what cannot be read, or would be too large, is left out and read from the catalog again.

use crate::convert::{DeltaType, TableColumn, TableSchema};
use crate::types::TableName;

/// The columns of the table, as the catalog told them last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedTable {
    /// Whose columns they are.
    pub table: TableName,
    /// When they were read, in microseconds since 1970.
    pub read_unix_micros: i64,
    /// The columns.
    pub schema: TableSchema,
}

/// The key of the one table that a log delivers to. Another log in the same directory has the same one: a record
/// says itself whose columns it holds.
pub(super) const KEY: &[u8] = b"table";

/// What stands there when nothing is known any more; a record begins with its version, which is not zero.
pub(super) const NOTHING: &[u8] = &[0];

/// 2,000 columns with ordinary names have half of it. sled puts what is longer than 128 KiB into a file of its own.
const BYTES_MAX: usize = 96 * 1024;
const VERSION: u8 = 1;
/// Types inside one another: more than the catalog's client reads.
const DEPTH_MAX: usize = 128;

impl CachedTable {
    /// The bytes, unless they would be too many.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![VERSION];
        put_text(&mut bytes, self.table.as_str())?;
        bytes.extend_from_slice(&self.read_unix_micros.to_le_bytes());
        put_columns(&mut bytes, &self.schema.columns, 0)?;
        (bytes.len() <= BYTES_MAX).then_some(bytes)
    }

    /// `None` for bytes that are no such record.
    pub(super) fn decode(bytes: &[u8]) -> Option<CachedTable> {
        let mut reader = Reader { bytes };
        if reader.byte()? != VERSION {
            return None;
        }
        let table = reader.text()?.parse().ok()?;
        let read_unix_micros = i64::from_le_bytes(reader.take()?);
        let schema = TableSchema { columns: reader.columns(0)? };
        reader.bytes.is_empty().then_some(CachedTable { table, read_unix_micros, schema })
    }
}

// Each type is a byte; what it is made of follows.
const BOOLEAN: u8 = 1;
const BYTE: u8 = 2;
const SHORT: u8 = 3;
const INTEGER: u8 = 4;
const LONG: u8 = 5;
const FLOAT: u8 = 6;
const DOUBLE: u8 = 7;
const STRING: u8 = 8;
const BINARY: u8 = 9;
const DATE: u8 = 10;
const TIMESTAMP: u8 = 11;
const TIMESTAMP_NTZ: u8 = 12;
const VARIANT: u8 = 13;
/// Precision and scale follow.
const DECIMAL: u8 = 14;
/// The fields follow.
const STRUCT: u8 = 15;
/// The type of the elements follows.
const ARRAY: u8 = 16;
/// The types of the keys and the values follow.
const MAP: u8 = 17;

fn put_text(bytes: &mut Vec<u8>, text: &str) -> Option<()> {
    bytes.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Some(())
}

fn put_columns(bytes: &mut Vec<u8>, columns: &[TableColumn], depth: usize) -> Option<()> {
    bytes.extend_from_slice(&u16::try_from(columns.len()).ok()?.to_le_bytes());
    for column in columns {
        put_text(bytes, &column.name)?;
        bytes.extend_from_slice(&column.number.to_le_bytes());
        bytes.push(column.nullable.into());
        put_type(bytes, &column.delta_type, depth)?;
    }
    Some(())
}

fn put_type(bytes: &mut Vec<u8>, delta_type: &DeltaType, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let code = match delta_type {
        DeltaType::Boolean => BOOLEAN,
        DeltaType::Byte => BYTE,
        DeltaType::Short => SHORT,
        DeltaType::Integer => INTEGER,
        DeltaType::Long => LONG,
        DeltaType::Float => FLOAT,
        DeltaType::Double => DOUBLE,
        DeltaType::String => STRING,
        DeltaType::Binary => BINARY,
        DeltaType::Date => DATE,
        DeltaType::Timestamp => TIMESTAMP,
        DeltaType::TimestampNtz => TIMESTAMP_NTZ,
        DeltaType::Variant => VARIANT,
        DeltaType::Decimal { .. } => DECIMAL,
        DeltaType::Struct(_) => STRUCT,
        DeltaType::Array { .. } => ARRAY,
        DeltaType::Map { .. } => MAP,
    };
    bytes.push(code);
    match delta_type {
        DeltaType::Decimal { precision, scale } => bytes.extend_from_slice(&[*precision, *scale]),
        DeltaType::Struct(fields) => put_columns(bytes, fields, depth + 1)?,
        DeltaType::Array { element } => put_type(bytes, element, depth + 1)?,
        DeltaType::Map { key, value } => {
            put_type(bytes, key, depth + 1)?;
            put_type(bytes, value, depth + 1)?;
        }
        _ => {}
    }
    Some(())
}

/// What is left to read.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn text(&mut self) -> Option<&str> {
        let length = u16::from_le_bytes(self.take()?);
        let (text, rest) = self.bytes.split_at_checked(length.into())?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }

    fn columns(&mut self, depth: usize) -> Option<Vec<TableColumn>> {
        let count = u16::from_le_bytes(self.take()?);
        // Grows with what is there, not with what the count says.
        let mut columns = Vec::new();
        for _ in 0..count {
            let name = self.text()?.to_owned();
            let number = u32::from_le_bytes(self.take()?);
            let nullable = match self.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            columns.push(TableColumn { name, number, nullable, delta_type: self.delta_type(depth)? });
        }
        Some(columns)
    }

    fn delta_type(&mut self, depth: usize) -> Option<DeltaType> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match self.byte()? {
            BOOLEAN => DeltaType::Boolean,
            BYTE => DeltaType::Byte,
            SHORT => DeltaType::Short,
            INTEGER => DeltaType::Integer,
            LONG => DeltaType::Long,
            FLOAT => DeltaType::Float,
            DOUBLE => DeltaType::Double,
            STRING => DeltaType::String,
            BINARY => DeltaType::Binary,
            DATE => DeltaType::Date,
            TIMESTAMP => DeltaType::Timestamp,
            TIMESTAMP_NTZ => DeltaType::TimestampNtz,
            VARIANT => DeltaType::Variant,
            DECIMAL => {
                let [precision, scale] = self.take()?;
                DeltaType::Decimal { precision, scale }
            }
            STRUCT => DeltaType::Struct(self.columns(depth + 1)?),
            ARRAY => DeltaType::Array { element: Box::new(self.delta_type(depth + 1)?) },
            MAP => DeltaType::Map {
                key: Box::new(self.delta_type(depth + 1)?),
                value: Box::new(self.delta_type(depth + 1)?),
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, number: u32, delta_type: DeltaType) -> TableColumn {
        TableColumn { name: name.to_owned(), number, delta_type, nullable: number.is_multiple_of(2) }
    }

    fn every_type() -> Vec<DeltaType> {
        use DeltaType::*;
        let decimal = Decimal { precision: 38, scale: 18 };
        let nested = Struct(vec![
            column("x", 1, Array { element: Box::new(Date) }),
            column(
                "y",
                2,
                Map { key: Box::new(String), value: Box::new(Struct(vec![column("z", 1, Long)])) },
            ),
        ]);
        vec![
            Boolean,
            Byte,
            Short,
            Integer,
            Long,
            Float,
            Double,
            String,
            Binary,
            Date,
            Timestamp,
            TimestampNtz,
            Variant,
            decimal,
            nested,
        ]
    }

    fn cached(columns: Vec<TableColumn>) -> CachedTable {
        let table = "main.default.events".parse().unwrap();
        CachedTable { table, read_unix_micros: -5, schema: TableSchema { columns } }
    }

    #[test]
    fn columns_of_every_type_survive_their_bytes() {
        let columns =
            (1..).zip(every_type()).map(|(number, it)| column(&format!("c{number}"), number * 3, it));
        let cached = cached(columns.collect());
        assert_eq!(CachedTable::decode(&cached.encode().unwrap()), Some(cached));
    }

    #[test]
    fn the_widest_table_of_the_service_is_kept_and_one_without_end_is_not() {
        let wide = |count| {
            let columns = (1..=count)
                .map(|number| column(&format!("a_column_of_a_wide_table_{number}"), number, DeltaType::Long));
            cached(columns.collect())
        };
        let widest = wide(2_000);
        assert_eq!(CachedTable::decode(&widest.encode().unwrap()), Some(widest));
        assert_eq!(wide(20_000).encode(), None);
        let mut deep = DeltaType::Long;
        for _ in 0..1_000 {
            deep = DeltaType::Array { element: Box::new(deep) };
        }
        assert_eq!(cached(vec![column("deep", 1, deep)]).encode(), None);
    }

    #[test]
    fn other_bytes_are_no_record_whatever_they_are() {
        let columns = (1..).zip(every_type()).map(|(number, it)| column("c", number, it)).collect();
        let good = cached(columns).encode().unwrap();
        for length in 0..good.len() {
            assert_eq!(CachedTable::decode(&good[..length]), None, "{length} bytes were taken for a record");
        }
        assert_eq!(CachedTable::decode(&[&good[..], &[0]].concat()), None);
        for at in 0..good.len() {
            for byte in [0, 1, 16, 17, u8::MAX] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                // It may be another record; it must be a result.
                let _ = CachedTable::decode(&bytes);
            }
        }
        let mut endless = good[..1 + 2 + 19 + 8].to_vec();
        endless.extend_from_slice(&[1, 0, 1, 0, b'c', 1, 0, 0, 0, 1]);
        endless.extend(std::iter::repeat_n(ARRAY, 1_000_000));
        assert_eq!(CachedTable::decode(&endless), None);
    }
}
