//! The positions and names that the whole crate counts in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of a frame in its log: dense, the first is 1, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(u64);

impl Lsn {
    /// The position before the first frame.
    pub const ZERO: Lsn = Lsn(0);
    /// The first frame of a log.
    pub const FIRST: Lsn = Lsn(1);

    /// The position with this number.
    pub const fn new(number: u64) -> Lsn {
        Lsn(number)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The frame after this one.
    #[must_use]
    pub const fn next(self) -> Lsn {
        Lsn(self.0.saturating_add(1))
    }

    /// The frame before this one; [`Lsn::ZERO`] has none and stays.
    #[must_use]
    pub const fn previous(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a segment in its log; grows with every new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(u64);

impl SegmentId {
    /// The segment with this number.
    pub const fn new(number: u64) -> SegmentId {
        SegmentId(number)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The segment after this one.
    #[must_use]
    pub const fn next(self) -> SegmentId {
        SegmentId(self.0.saturating_add(1))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Random number that a log is given once, for life.
///
/// It stands in every segment header and ledger key, so that nothing of another log is ever taken
/// for our own \[I12\].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    pub const fn new(number: u64) -> Epoch {
        Epoch(number)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> String {
        epoch.to_string()
    }
}

impl TryFrom<String> for Epoch {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Epoch, Self::Error> {
        u64::from_str_radix(&text, 16).map(Epoch)
    }
}

/// The acknowledgement number of a request on its Zerobus stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamOffset(i64);

impl StreamOffset {
    /// The offset with this number.
    pub const fn new(number: i64) -> StreamOffset {
        StreamOffset(number)
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The offset so many further on.
    pub(crate) const fn plus(self, count: i64) -> StreamOffset {
        StreamOffset(self.0.saturating_add(count))
    }
}

impl fmt::Display for StreamOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A table of Unity Catalog: exactly three parts of ASCII letters, digits and underscores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TableName(String);

impl TableName {
    /// The whole name, `catalog.schema.table`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Catalog, schema and table.
    pub fn parts(&self) -> [&str; 3] {
        let mut parts = self.0.splitn(3, '.');
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> String {
        name.0
    }
}

/// A table name that the service cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table name {name:?} is not of the form catalog.schema.table with ASCII letters, digits and \
     underscores in each of its three parts"
)]
pub struct InvalidTableName {
    /// What was given.
    pub name: String,
}

impl TryFrom<String> for TableName {
    type Error = InvalidTableName;

    fn try_from(name: String) -> Result<TableName, InvalidTableName> {
        let is_part =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let parts: Vec<&str> = name.split('.').collect();
        if parts.len() == 3 && parts.iter().all(|part| is_part(part)) {
            Ok(TableName(name))
        } else {
            Err(InvalidTableName { name })
        }
    }
}

impl std::str::FromStr for TableName {
    type Err = InvalidTableName;

    fn from_str(name: &str) -> Result<TableName, InvalidTableName> {
        TableName::try_from(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_has_exactly_three_parts() {
        for good in ["a.b.c", "main.default.events_2026", "A1._.x"] {
            assert_eq!(good.parse::<TableName>().map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "a", "a.b", "a.b.c.d", "a..c", "a.b.c-d", "a.b.\u{e9}", "a.b.c "] {
            assert!(bad.parse::<TableName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_epoch_survives_its_text() {
        let epoch = Epoch::new(0x00ff_1234_5678_9abc);
        assert_eq!(Epoch::try_from(epoch.to_string()), Ok(epoch));
    }
}
