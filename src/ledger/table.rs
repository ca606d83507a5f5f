//! What the ledger remembers of the table's columns, for a start without network, and its bytes.
//!
//! It is a cache: what cannot be read, or would be too large, is left out and read from the catalog again.

use serde::{Deserialize, Serialize};

use crate::convert::TableSchema;
use crate::types::TableName;

/// The columns of the table, as the catalog told them last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What stands there when nothing is known any more: no record.
pub(super) const NOTHING: &[u8] = &[0];

/// sled puts what is longer than 128 KiB into a file of its own; 2,000 columns with long names stay below.
const BYTES_MAX: usize = 120 * 1024;

impl CachedTable {
    /// The bytes, unless they would be too many.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok().filter(|bytes| bytes.len() <= BYTES_MAX)
    }

    /// `None` for bytes that are no such record, or have more types inside one another than the reader follows.
    pub(super) fn decode(bytes: &[u8]) -> Option<CachedTable> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{DeltaType, TableColumn};

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
        let deep = cached(vec![column("deep", 1, deep)]).encode().unwrap();
        assert_eq!(CachedTable::decode(&deep), None, "nobody follows that far");
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
        let endless = "{\"table\":".repeat(1_000_000).into_bytes();
        assert_eq!(CachedTable::decode(&endless), None);
    }
}
