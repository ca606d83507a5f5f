//! Whether the mark of the ledger is whole, and the log has all that it says was durable.

use std::path::Path;

use super::{Finding, FindingKind, Severity};
use crate::ledger::{MARK_FILE, MarkReport};
use crate::types::Lsn;

/// `known` is the last frame that the log has or that is settled. Beside an owner a slot may be half written.
pub(super) fn verify(
    mark: &Result<Option<MarkReport>, String>,
    directory: &Path,
    counts_checkpoints: bool,
    known: Lsn,
    is_owned: bool,
) -> Vec<Finding> {
    let path = directory.join(MARK_FILE);
    let found = |severity, text, advice| {
        Finding::new(FindingKind::LedgerMark, severity, text, advice).at(path.clone())
    };
    let anew = "The next owner makes it anew, and delivers as the ledger says. Whether the ledger was whole until then nobody \
                can tell: look at the disk.";
    match mark {
        Err(reason) => {
            vec![found(Severity::Error, format!("the mark of the ledger is damaged: {reason}"), anew)]
        }
        Ok(None) if counts_checkpoints => {
            vec![found(Severity::Error, "the mark of the ledger is gone".to_owned(), anew)]
        }
        Ok(None) => Vec::new(),
        Ok(Some(mark)) => {
            let mut findings = Vec::new();
            if known < mark.log_durable {
                let lsns = known.next()..=mark.log_durable;
                let text = format!(
                    "frames {} to {} were durable and are not at the end of the log",
                    lsns.start(),
                    lsns.end()
                );
                let advice = "The newest segment was cut, damaged or removed, or put back from an older copy. Their rows are \
                              not delivered from here: send them again from where they came from.";
                let finding = Finding::new(FindingKind::Missing, Severity::Error, text, advice);
                findings.push(finding.about(&lsns));
            }
            if mark.is_one_broken && !is_owned {
                let text = "one of the two slots of the ledger's mark is not whole".to_owned();
                let advice = "Nothing is to be done: that is what a crash leaves while it is written, and the other one counts. \
                              The next checkpoint writes it anew.";
                findings.push(found(Severity::Info, text, advice));
            }
            findings
        }
    }
}
