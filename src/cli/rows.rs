//! Which rows a verb is about: options that several verbs have, and what they say of rows that are not there.

use std::path::PathBuf;

use clap::Args;

use crate::admin::{Lsns, Moment, RowState, Selection, Unreadable};
use crate::types::TableName;

/// Logs, and rows in them by number, time and reason.
#[derive(Args, Clone, Debug)]
pub(super) struct RowsOptions {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    pub(super) directory: Option<PathBuf>,
    /// Only logs of this table, catalog.schema.table.
    #[arg(long, value_name = "TABLE")]
    table: Option<TableName>,
    /// Only frames with these numbers: `5`, `5-9` with both ends, `5-`, `-9`, several with commas: `3,7-9`. Without a
    /// table or a directory that says otherwise, in each log.
    #[arg(long, value_name = "LSNS", allow_hyphen_values = true)]
    lsn: Option<Lsns>,
    /// Only rows that were stored then or later; of rows in quarantine, those put there then or later. A time of day such as
    /// `2026-11-28T14:00:00Z`, or how long ago: `30m`, `2h`, `7d`.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only rows that were stored, or put into quarantine, before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

impl RowsOptions {
    pub(super) fn selection(&self, states: &[RowState], reasons: &[String]) -> Selection {
        Selection {
            table: self.table.clone(),
            lsns: self.lsn.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            states: states.to_vec(),
            reasons: reasons.to_vec(),
        }
    }
}

/// Says what was asked for and is not there to be read.
pub(super) fn warn_unreadable(unreadable: &[Unreadable]) {
    for Unreadable { directory, first_lsn, last_lsn, reason, .. } in unreadable {
        let frames = match first_lsn == last_lsn {
            true => format!("frame {first_lsn}"),
            false => format!("frames {first_lsn} to {last_lsn}"),
        };
        eprintln!("warning: {frames} of {} cannot be read: {reason}", directory.display());
    }
}
