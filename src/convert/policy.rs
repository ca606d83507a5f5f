//! What becomes of values that protobuf cannot carry exactly: decided by the user, by name.

use std::str::FromStr;

/// The policies of one wrapper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// For timestamps in nanoseconds.
    pub timestamp_ns: TimestampNs,
    /// For null lists and maps.
    pub null_list: NullList,
}

/// What becomes of nanoseconds: the service counts in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampNs {
    /// The microsecond in which the instant lies, before 1970 too; counted.
    #[default]
    Floor,
    /// The row is refused.
    Error,
}

/// What becomes of a null list or map in a nullable column: protobuf has no difference between it and an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NullList {
    /// An empty one; counted.
    #[default]
    Empty,
    /// The row is refused.
    Error,
}

/// A name that no policy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no policy, allowed is: {allowed}")]
pub struct UnknownPolicy {
    /// What was given.
    pub name: String,
    /// The names that there are.
    pub allowed: &'static str,
}

impl FromStr for TimestampNs {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<TimestampNs, UnknownPolicy> {
        match name {
            "floor" => Ok(TimestampNs::Floor),
            "error" => Ok(TimestampNs::Error),
            _ => Err(UnknownPolicy { name: name.to_owned(), allowed: "floor, error" }),
        }
    }
}

impl FromStr for NullList {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<NullList, UnknownPolicy> {
        match name {
            "empty" => Ok(NullList::Empty),
            "error" => Ok(NullList::Error),
            _ => Err(UnknownPolicy { name: name.to_owned(), allowed: "empty, error" }),
        }
    }
}
