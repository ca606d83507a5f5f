//! How the debug files of a writer are called, and which files in a directory are its own.

use std::ffi::OsString;

use crate::types::TableName;
use crate::wrapper::writer_name;

/// Digits of the number of a rotated file: names sort as their numbers do.
const DIGITS: usize = 6;

/// The stem of the files of the writer with this number of a table; the first is 1. The name of a table has exactly three
/// parts and no hyphen, so that neither stems nor rotated files of two tables are ever the same.
pub(super) fn stem(table: &TableName, writer: u32) -> String {
    match writer {
        1 => table.to_string(),
        _ => format!("{table}-{}", writer_name(writer)),
    }
}

/// The file that is written.
pub(super) fn current(stem: &str, extension: &str) -> String {
    format!("{stem}.{extension}")
}

/// A file that was written before.
pub(super) fn rotated(stem: &str, number: u64, extension: &str) -> String {
    format!("{stem}.{number:0DIGITS$}.{extension}")
}

/// The numbers of the rotated files among these, ascending.
pub(super) fn numbers(names: &[OsString], stem: &str, extension: &str) -> Vec<u64> {
    let number = |name: &OsString| {
        let name = name.to_str()?;
        let digits =
            name.strip_prefix(stem)?.strip_prefix('.')?.strip_suffix(extension)?.strip_suffix('.')?;
        let number = digits.parse().ok()?;
        (rotated(stem, number, extension) == name).then_some(number)
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rotated_files_of_one_writer_of_one_table_are_its_own() {
        let table: TableName = "a.b.c".parse().unwrap();
        assert_eq!([stem(&table, 1), stem(&table, 2)], ["a.b.c", "a.b.c-writer-002"]);
        let names: Vec<OsString> = [
            "a.b.c.arrows",
            "a.b.c.000002.arrows",
            "a.b.c.000001.arrows",
            "a.b.c.1000000.arrows",
            "a.b.c.000003.binpb",
            "a.b.c.3.arrows",
            "a.b.c.+00003.arrows",
            "a.b.c.000003.arrows.gz",
            "a.b.c2.000004.arrows",
            "a.b.c2.arrows",
            "xa.b.c.000005.arrows",
            "a.b.c-writer-002.000006.arrows",
            "a.b.c-writer-002.arrows",
            "a.b.c_1.000007.arrows",
        ]
        .map(OsString::from)
        .into();
        assert_eq!(numbers(&names, "a.b.c", "arrows"), [1, 2, 1_000_000]);
        assert_eq!(numbers(&names, "a.b.c", "binpb"), [3]);
        assert_eq!(numbers(&names, "a.b.c-writer-002", "arrows"), [6]);
        assert_eq!(numbers(&names, "a.b.c2", "arrows"), [4]);
    }
}
