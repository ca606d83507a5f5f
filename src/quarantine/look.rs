//! What somebody who only looks finds in a quarantine: its files by name, and what the end of each says.

use std::path::{Path, PathBuf};

use super::error::{FileError, PutError};
use super::file::{self, FileName, Told};
use super::{DIRECTORY, list};
use crate::io::{Env, Storage};
use crate::types::{Epoch, Lsn};

/// A file that has the name of one of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeptFile {
    name: FileName,
    path: PathBuf,
}

impl KeptFile {
    /// The frame that its rows are of, as its name says.
    pub(crate) fn lsn(&self) -> Lsn {
        self.name.lsn
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What its end says, and how many bytes it has. All of it is compared with its checksums.
    ///
    /// # Errors
    ///
    /// [`FileError`] if it is damaged, not of this log, or gone.
    pub(crate) fn told(&self, storage: &dyn Storage, epoch: Epoch) -> Result<(Told, u64), FileError> {
        let (told, bytes) = file::read_whole(storage, &self.path, epoch)?;
        if told.lsn == self.name.lsn {
            return Ok((told, bytes));
        }
        let reason = format!("it holds rows of frame {}, which its name does not say", told.lsn);
        Err(FileError::NotOurs { path: self.path.clone(), reason })
    }
}

/// The directory of the quarantine of the log in this writer directory.
pub(crate) fn directory(writer_directory: &Path) -> PathBuf {
    writer_directory.join(DIRECTORY)
}

/// The files in quarantine, in the order of their frames and rows.
///
/// # Errors
///
/// [`PutError`] if the directory cannot be read.
pub(crate) fn files(env: &Env, writer_directory: &Path) -> Result<Vec<KeptFile>, PutError> {
    let directory = directory(writer_directory);
    let names = list(env.storage.as_ref(), &directory)?.unwrap_or_default();
    let of_name = |name: String| {
        FileName::parse(&name).map(|parsed| KeptFile { name: parsed, path: directory.join(&name) })
    };
    let mut files: Vec<KeptFile> = names.into_iter().filter_map(of_name).collect();
    files.sort_unstable();
    Ok(files)
}
