//! Which writer directory is ours: the first below the table's directory that nobody owns.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::chain;
use crate::io::Env;
use crate::types::TableName;
use crate::wal::{self, Destination, LogDirectory};

/// More live writers of one table than this share no disk.
pub(crate) const WRITERS_MAX: u32 = 999;

/// Where the writer directories of a table lie.
pub(crate) fn table_directory(wal_dir: &Path, table: &TableName) -> PathBuf {
    wal_dir.join(table.as_str())
}

/// The name of the writer directory with this number; the first is 1.
pub(crate) fn writer_name(number: u32) -> String {
    format!("writer-{number:03}")
}

/// Whether this is the name of a writer directory.
fn is_writer_name(name: &str) -> bool {
    let number = name.strip_prefix("writer-").and_then(|digits| digits.parse().ok());
    number.is_some_and(|number| number > 0 && writer_name(number) == name)
}

/// The writer directories of a table that are there, in the order of their numbers.
pub(super) fn writers(env: &Env, table_directory: &Path) -> io::Result<Vec<PathBuf>> {
    let names = match env.storage.list(table_directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let mut writers: Vec<PathBuf> = names
        .iter()
        .filter(|name| name.to_str().is_some_and(is_writer_name))
        .map(|name| table_directory.join(name))
        .collect();
    writers.sort_unstable();
    Ok(writers)
}

/// Takes the first writer directory that nobody owns. One that has lost its identity beyond what the log can mend by itself is
/// left as it is for `zerobus-wal repair`, and the next one taken: it is reported with the orphans, and the program goes on.
///
/// # Errors
///
/// [`wal::OpenError::Locked`] if `is_exclusive` and the table has a live owner already, which it names.
pub(super) fn claim(
    env: &Env,
    table_directory: &Path,
    destination: &Destination,
    is_exclusive: bool,
) -> Result<LogDirectory, wal::OpenError> {
    if is_exclusive {
        refuse_company(env, table_directory)?;
    }
    let mut number = 1;
    loop {
        match LogDirectory::open(env, &table_directory.join(writer_name(number)), destination) {
            Err(wal::OpenError::Locked { .. }) if !is_exclusive && number < WRITERS_MAX => number += 1,
            Err(error @ wal::OpenError::Identity { .. }) if !is_exclusive && number < WRITERS_MAX => {
                tracing::error!(
                    error = chain(&error),
                    "a log does not say whose it is and is left alone; nothing of it is lost: zerobus-wal repair"
                );
                number += 1;
            }
            claimed => return claimed,
        }
    }
}

fn refuse_company(env: &Env, table_directory: &Path) -> Result<(), wal::OpenError> {
    let storage =
        |action, path: &Path, source| wal::OpenError::Storage { action, path: path.to_owned(), source };
    let writers = writers(env, table_directory).map_err(|error| storage("list", table_directory, error))?;
    for dir in writers {
        if let Some(owner) =
            wal::owner(env, &dir).map_err(|error| storage("read the lock in", &dir, error))?
        {
            return Err(wal::OpenError::Locked { dir, pid: Some(owner.pid), program: owner.program });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_writer_gets_are_names_of_writers() {
        assert_eq!([writer_name(1), writer_name(999)], ["writer-001", "writer-999"]);
        for name in ["writer-001", "writer-042", "writer-999", "writer-1000"] {
            assert!(is_writer_name(name), "{name}");
        }
        for name in
            ["writer-000", "writer-1", "writer-0001", "writer-", "writer-01a", "writer-+01", "lost+found"]
        {
            assert!(!is_writer_name(name), "{name}");
        }
    }
}
