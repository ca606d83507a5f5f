//! Whether somebody has paused the delivery of a log: a mark in its directory, which outlives its owner.
//!
//! Whoever pauses before the maintenance of a table wants nothing to be sent until it is over, whatever is restarted
//! meanwhile. Batches are stored all the same. The mark is no part of the log: without it delivery goes on.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::io::{Access, Env};

const MARK_FILE: &str = "PAUSED";
/// Where the next mark is written before it takes its name.
const MARK_FILE_NEW: &str = "PAUSED.new";
/// What is longer was not written by us.
const MARK_BYTES_MAX: usize = 16 * 1024;
/// So many characters of a reason are kept.
const REASON_CHARS_MAX: usize = 1_000;

/// Since when delivery is paused, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when, in microseconds since 1970 in UTC.
    pub since_unix_micros: i64,
    /// What the person who paused it has said.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Pause {
    /// From now on. A reason is cut after 1,000 characters; a blank one is none.
    pub(crate) fn new(env: &Env, reason: Option<&str>) -> Pause {
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        Pause {
            since_unix_micros: env.clock.unix_micros(),
            reason: reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect()),
        }
    }
}

impl Pause {
    /// A log that is paused already stays so since then and for the reason that was given first.
    pub(crate) fn after(mut self, before: Option<&Pause>) -> Pause {
        if let Some(before) = before {
            self.since_unix_micros = before.since_unix_micros;
            self.reason = before.reason.clone().or(self.reason);
        }
        self
    }
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("delivery was paused")?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))?;
        f.write_str("; zerobus-wal resume ends that")
    }
}

/// The mark in a writer directory. One that cannot be understood is one: somebody has paused this log.
///
/// # Errors
///
/// When the file system fails.
pub(crate) fn read(env: &Env, directory: &Path) -> io::Result<Option<Pause>> {
    let file = match env.storage.open(&directory.join(MARK_FILE), Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = vec![0; MARK_BYTES_MAX];
    let length = file.read_at(&mut text, 0)?;
    let unclear = |error| Pause {
        since_unix_micros: 0,
        reason: Some(format!("by a mark that cannot be understood: {error}")),
    };
    Ok(Some(serde_json::from_slice(&text[..length]).unwrap_or_else(unclear)))
}

/// Leaves the mark. A crash leaves the one that was there before, or this one.
///
/// # Errors
///
/// When the file system fails; then nothing is promised about the mark.
///
/// # Durability
///
/// When this returns, the mark survives a power cut.
pub(crate) fn mark(env: &Env, directory: &Path, pause: &Pause) -> io::Result<()> {
    let new = directory.join(MARK_FILE_NEW);
    let mut text = serde_json::to_vec(pause)?;
    text.push(b'\n');
    remove(env, &new)?;
    let file = env.storage.open(&new, Access::New)?;
    file.write_at(&mut [IoSlice::new(&text)], 0)?;
    file.sync_all()?;
    env.storage.rename(&new, &directory.join(MARK_FILE))?;
    env.storage.sync_dir(directory)
}

/// Takes the mark away; says whether there was one.
///
/// # Errors
///
/// When the file system fails.
pub(crate) fn clear(env: &Env, directory: &Path) -> io::Result<bool> {
    let was_there = remove(env, &directory.join(MARK_FILE))?;
    if was_there {
        env.storage.sync_dir(directory)?;
    }
    Ok(was_there)
}

fn remove(env: &Env, path: &Path) -> io::Result<bool> {
    match env.storage.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_there_until_it_is_taken_away_and_a_reason_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::os();
        assert_eq!(read(&env, dir.path()).unwrap(), None);
        assert!(!clear(&env, dir.path()).unwrap());
        let pause = Pause::new(&env, Some(" the table is rebuilt "));
        assert_eq!(pause.reason.as_deref(), Some("the table is rebuilt"));
        mark(&env, dir.path(), &pause).unwrap();
        mark(&env, dir.path(), &pause).unwrap();
        assert_eq!(read(&env, dir.path()).unwrap(), Some(pause));
        assert!(clear(&env, dir.path()).unwrap());
        assert_eq!(read(&env, dir.path()).unwrap(), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test writes what we would not")]
    fn a_mark_that_cannot_be_understood_pauses() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{", "null", "{\"since_unix_micros\": \"yesterday\"}"] {
            std::fs::write(dir.path().join(MARK_FILE), text).unwrap();
            let found = read(&Env::os(), dir.path()).unwrap().expect(text);
            assert!(found.reason.unwrap().contains("cannot be understood"), "{text}");
        }
    }
}
