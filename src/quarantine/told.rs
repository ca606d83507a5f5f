//! What is in the quarantine of a log that nobody owns, or somebody else: for those who only look.

use std::path::{Path, PathBuf};

use super::error::{FileError, PutError};
use super::file::{self, FileName};
use super::rows::Rows;
use super::{DIRECTORY, NEW_EXTENSION, list};
use crate::io::Env;
use crate::types::{Epoch, Lsn};

/// A file, as its end tells.
#[derive(Debug)]
pub(crate) struct LookedFile {
    pub(crate) path: PathBuf,
    /// Whether its name is that of a file of ours.
    pub(crate) is_named: bool,
    pub(crate) told: Result<LookedRows, FileError>,
}

/// Which rows a file holds.
#[derive(Debug)]
pub(crate) struct LookedRows {
    pub(crate) lsn: Lsn,
    pub(crate) rows: Rows,
    /// Whether the file has checksums.
    pub(crate) has_checksums: bool,
}

/// Every file, in the order of their names and compared with its checksums; of this frame, if one is given. What an owner is writing is left out.
///
/// # Errors
///
/// [`PutError`] if the directory cannot be listed.
pub(crate) fn look(
    env: &Env,
    writer_directory: &Path,
    epoch: Epoch,
    of: Option<Lsn>,
) -> Result<Vec<LookedFile>, PutError> {
    let directory = writer_directory.join(DIRECTORY);
    let mut names = list(env.storage.as_ref(), &directory)?.unwrap_or_default();
    names.retain(|name| !name.ends_with(NEW_EXTENSION));
    names.sort();
    let look = |name: String| {
        let (path, parsed) = (directory.join(&name), FileName::parse(&name));
        if of.is_some() && parsed.map(|parsed| parsed.lsn) != of {
            return None;
        }
        let not_ours = |reason| FileError::NotOurs { path: path.clone(), reason };
        let told = match parsed {
            None => Err(not_ours("it has another name".to_owned())),
            Some(parsed) => file::read_whole(env.storage.as_ref(), &path, epoch).and_then(|(told, _)| {
                let is_it = told.lsn == parsed.lsn;
                let looked = LookedRows { lsn: told.lsn, rows: told.rows, has_checksums: told.has_checksums };
                is_it
                    .then_some(looked)
                    .ok_or_else(|| not_ours(format!("it holds rows of frame {}", told.lsn)))
            }),
        };
        Some(LookedFile { path, is_named: parsed.is_some(), told })
    };
    Ok(names.into_iter().filter_map(look).collect())
}

/// The rows of a frame that are there. A file that cannot be read says nothing.
pub(crate) fn rows_in_quarantine(env: &Env, writer_directory: &Path, epoch: Epoch, lsn: Lsn) -> Rows {
    let mut rows = Rows::default();
    for looked in look(env, writer_directory, epoch, Some(lsn)).unwrap_or_default() {
        if let Ok(told) = looked.told {
            rows.merge(&told.rows);
        }
    }
    rows
}
