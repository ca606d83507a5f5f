//! Whether the files in quarantine are whole, and of this log.

use std::io::BufReader;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use arrow_ipc::reader::FileReader;
use arrow_schema::ArrowError;

use super::{Finding, FindingKind, Severity};
use crate::admin::word;
use crate::error::chain;
use crate::io::Env;
use crate::platform::files::open_regular;
use crate::quarantine::{self, LookedFile};
use crate::types::{Epoch, Lsn};

pub(super) fn verify(env: &Env, directory: &Path, epoch: Epoch) -> Vec<Finding> {
    match quarantine::look(env, directory, epoch, None) {
        Ok(files) => {
            let is_bare = |file: &&LookedFile| file.told.as_ref().is_ok_and(|told| !told.has_checksums);
            let bare = files.iter().filter(is_bare).count();
            let mut findings: Vec<Finding> = files.iter().filter_map(verify_file).collect();
            if bare > 0 {
                let text = format!(
                    "{bare} {} no checksum",
                    word(bare as u64, "file in quarantine has", "files in quarantine have")
                );
                let advice = "An earlier version wrote them. They are read, but a bit that flips in a value is not noticed.";
                findings.push(Finding::new(FindingKind::Quarantine, Severity::Info, text, advice));
            }
            findings
        }
        Err(error) => {
            let advice = "Look at the permissions of the directory, and verify again.";
            vec![Finding::new(FindingKind::Quarantine, Severity::Error, chain(&error), advice)]
        }
    }
}

fn verify_file(file: &LookedFile) -> Option<Finding> {
    let (lsn, text) = match &file.told {
        Err(_) if !file.path.exists() => return None,
        Err(error) => (None, chain(error)),
        Ok(told) => match count_rows(&file.path) {
            Ok(rows) if rows == told.rows.count_in(0..usize::MAX) => return None,
            Ok(rows) => {
                let named = told.rows.count_in(0..usize::MAX);
                (Some(told.lsn), format!("it holds {rows} rows and names {named}"))
            }
            Err(reason) => (Some(told.lsn), format!("its rows cannot be read: {reason}")),
        },
    };
    let (severity, advice) = match file.is_named {
        true => (
            Severity::Error,
            "Rows of a file that cannot be read may be delivered again, or be lost from the quarantine. Keep a copy, and move \
             the file out of the quarantine.",
        ),
        false => {
            (Severity::Warning, "It is left alone and holds no row of this log's quarantine. Move it away.")
        }
    };
    let about = |lsn: Lsn, found: Finding| found.about(&(lsn..=lsn));
    let found = Finding::new(FindingKind::Quarantine, severity, text, advice).at(file.path.clone());
    Some(match lsn {
        Some(lsn) => about(lsn, found),
        None => found,
    })
}

/// The rows of an Arrow file, all of which are read.
fn count_rows(path: &Path) -> Result<u64, String> {
    let count = || -> Result<u64, ArrowError> {
        let reader = FileReader::try_new(BufReader::new(open_regular(path)?), None)?;
        let mut rows = 0;
        for batch in reader {
            rows += batch?.num_rows() as u64;
        }
        Ok(rows)
    };
    // Arrow panics on some files that make no sense [I14].
    match panic::catch_unwind(AssertUnwindSafe(count)) {
        Ok(counted) => counted.map_err(|error| error.to_string()),
        Err(_) => Err("arrow cannot make sense of them".to_owned()),
    }
}
