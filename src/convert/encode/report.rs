//! How what is found in a value gets from where it is found, however deep, to its row.

use std::fmt;

use crate::convert::error::RowErrorReason;

/// Where a value stands, from the column inwards.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Path<'p> {
    name: &'p str,
    inner: Option<&'p Path<'p>>,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.inner {
            Some(inner) => write!(f, ".{inner}"),
            None => Ok(()),
        }
    }
}

impl<'p> Path<'p> {
    pub(in crate::convert) fn to(name: &'p str) -> Path<'p> {
        Path { name, inner: None }
    }
}

/// What is wrong with a value. The text is made only for a row that nothing is known against yet.
pub(in crate::convert) struct Fault<'f> {
    pub(in crate::convert) reason: RowErrorReason,
    pub(in crate::convert) value: &'f dyn Fn() -> String,
}

/// Takes what is found while a level is measured.
pub(in crate::convert) trait Report {
    /// The value of a slot cannot be sent.
    fn fault(&mut self, slot: usize, path: Path<'_>, fault: Fault<'_>);

    /// This many timestamps lose nanoseconds.
    fn floored_timestamps(&mut self, count: u64);

    /// This many null lists become empty ones.
    fn emptied_lists(&mut self, count: u64);
}

/// The report of the values inside of other ones.
pub(in crate::convert) struct Within<'r> {
    pub(in crate::convert) outer: &'r mut dyn Report,
    pub(in crate::convert) name: &'r str,
    /// The slot of the value that a slot of this level is in.
    pub(in crate::convert) owner: &'r dyn Fn(usize) -> usize,
}

impl Report for Within<'_> {
    fn fault(&mut self, slot: usize, path: Path<'_>, fault: Fault<'_>) {
        // The entry of a map has no name of its own in a path.
        let path = match (self.name, path.name) {
            ("", _) => path,
            (name, "") => Path::to(name),
            (name, _) => Path { name, inner: Some(&path) },
        };
        self.outer.fault((self.owner)(slot), path, fault);
    }

    fn floored_timestamps(&mut self, count: u64) {
        self.outer.floored_timestamps(count);
    }

    fn emptied_lists(&mut self, count: u64) {
        self.outer.emptied_lists(count);
    }
}
