//! Opening a ledger: the store that is there, or a new one with what its mark says.

use std::fmt;
use std::path::PathBuf;

use super::contents::{Contents, StoredStreams, open_and_read};
use super::judge::{Digests, Verdict, judge};
use super::mark::{Mark, Sent};
use super::mark_file::{MarkFile, Marked};
use super::{
    CachedTable, Ledger, LedgerError, LedgerPlace, LedgerRecord, LedgerStore, Ranges, Streams, bytes_of,
};
use crate::canary::Canaries;
use crate::error::chain;
use crate::types::{Epoch, Lsn};

/// What opening a ledger found.
#[derive(Debug)]
pub struct LedgerOpened {
    /// The ledger, ready for checkpoints.
    pub ledger: Ledger,
    /// What it says; the beginning of everything if it said nothing.
    pub record: LedgerRecord,
    /// What is settled above the record's watermark.
    pub ranges: Ranges,
    /// What an earlier owner knew of the table's columns; `None` too if that cannot be read.
    pub table: Option<CachedTable>,
    /// What an earlier owner recorded of persistent streams, or why it cannot be read.
    pub streams: Result<Streams, String>,
    /// Rows of which nobody knows whether they are in the table, because damage took what was recorded of streams.
    pub unsure: Unsure,
    /// The highest frame of which something was sent on a persistent stream. No other frame may have its number \[I12\].
    pub sent: Lsn,
    /// Every frame of the log up to here was durable once.
    pub log_durable: Lsn,
    /// What was wrong with the store.
    pub damage: Option<LedgerDamage>,
    /// What was wrong with its mark, so that nobody could tell an older store from the newest.
    pub mark_damage: Option<String>,
}

/// Rows that may be in the table though they wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsure {
    /// None: what was sent is known.
    Nothing,
    /// At most so many.
    Rows(u64),
    /// Perhaps all that wait.
    Everything,
}

/// A store that was not believed.
#[derive(Debug)]
pub struct LedgerDamage {
    /// What is wrong with it.
    pub reason: LedgerError,
    /// Where it was moved to; `None` if there was nothing to move.
    pub set_aside: Option<PathBuf>,
    /// What stands in its place.
    pub renewed: Renewed,
}

/// With what a ledger goes on whose store was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// With what the mark says: the last checkpoint, to the frame.
    FromMark,
    /// With what the mark says, without some frames that were settled out of order: they are sent again.
    FromMarkInPart,
    /// With nothing, for there is no mark: what was delivered and not reclaimed is sent again, and the counts are estimates.
    Empty,
}

impl fmt::Display for LedgerDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", chain(&self.reason))?;
        if let Some(path) = &self.set_aside {
            write!(f, "; it was moved to {}", path.display())?;
        }
        f.write_str(match self.renewed {
            Renewed::FromMark => "; its mark has what the last checkpoint said, and delivery goes on there",
            Renewed::FromMarkInPart => {
                "; its mark has what the last checkpoint said but for frames that were delivered out of order, which are \
                 delivered again; the counts are estimates"
            }
            Renewed::Empty => {
                "; there is no whole mark, so what was delivered and not reclaimed is delivered again; the counts are estimates"
            }
        })
    }
}

/// A store to go on with.
struct Found {
    open: Box<dyn LedgerStore>,
    record: LedgerRecord,
    ranges: Ranges,
    table: Option<CachedTable>,
    streams: StoredStreams,
    stored: Digests,
    unsure: Unsure,
    damage: Option<LedgerDamage>,
}

pub(super) fn open(
    mut place: Box<dyn LedgerPlace>,
    epoch: Epoch,
    canaries: Canaries,
) -> Result<LedgerOpened, LedgerError> {
    // Before the store: whatever a mark says the store has said before.
    let (mark_file, marked) = MarkFile::open(place.storage(), place.directory(), epoch);
    let was_there = place.is_there();
    let mut found = open_and_read(&*place, epoch);
    if found.as_ref().is_err_and(LedgerError::is_out_of_space) && place.give_up_reserve() {
        found = open_and_read(&*place, epoch);
    }
    let marked = match marked {
        // A disk that fails says nothing of what the mark holds either, and without it a store that is damaged or gone would
        // begin anew, and the mark with it.
        Marked::Unreadable(error)
            if !found.as_ref().is_ok_and(|(contents, _)| contents.generation.is_some()) =>
        {
            return Err(LedgerError::io("read the mark of", &mark_file.path())(error));
        }
        marked => marked,
    };
    let mark = marked.whole();
    let damaged = |reason| LedgerError::Damaged { path: place.path().to_owned(), reason };
    let generation = found.as_ref().ok().and_then(|(contents, _)| contents.generation);
    let mut found = match found {
        // A disk that fails or is full says nothing about what the ledger holds.
        Err(error) if !error.is_damage() => return Err(error),
        Err(error) => renewed(&*place, None, error, None, mark)?,
        Ok((contents, open)) => match mark.map_or(Verdict::Sound, |mark| judge(&contents, mark)) {
            Verdict::Sound => Found::whole(contents, open, mark),
            Verdict::Behind(reason) if was_there => {
                drop(open);
                renewed(&*place, None, damaged(reason), contents.table, mark)?
            }
            Verdict::Behind(_) => {
                renewed(&*place, Some(open), damaged("it is not there".to_owned()), None, mark)?
            }
            Verdict::WithoutTable => {
                drop(open);
                let reason = "what was known of the table's columns is gone".to_owned();
                let set_aside = Some(place.move_aside()?);
                let damage = LedgerDamage { reason: damaged(reason), set_aside, renewed: Renewed::FromMark };
                let whole = Found::whole(contents, place.open()?, mark);
                Found { damage: Some(damage), stored: Digests::default(), ..whole }
            }
        },
    };
    // A store may write lazily: without this the first file of a new one would be made when the disk may
    // be full.
    found.open.flush()?;
    found.open.sync()?;
    place.hold_reserve();
    found.ledger((place, mark_file, marked), generation, epoch, canaries)
}

/// A store in the place of one that is not believed, with what the mark says, if there is one.
fn renewed(
    place: &dyn LedgerPlace,
    open: Option<Box<dyn LedgerStore>>,
    reason: LedgerError,
    table: Option<CachedTable>,
    mark: Option<&Mark>,
) -> Result<Found, LedgerError> {
    let (open, set_aside) = match open {
        Some(open) => (open, None),
        None => {
            let aside = place.move_aside()?;
            (place.open()?, Some(aside))
        }
    };
    let (record, ranges, streams) = mark.map(Mark::contents).unwrap_or_default();
    let renewed = match mark {
        None => Renewed::Empty,
        Some(mark) if mark.left_out == Default::default() => Renewed::FromMark,
        Some(_) => Renewed::FromMarkInPart,
    };
    Ok(Found {
        open,
        record,
        ranges,
        table,
        streams: StoredStreams { read: Ok(streams), ..StoredStreams::default() },
        stored: Digests::default(),
        unsure: unsure(mark),
        damage: Some(LedgerDamage { reason, set_aside, renewed }),
    })
}

/// What is not known when what was recorded of streams is lost.
fn unsure(mark: Option<&Mark>) -> Unsure {
    mark.map_or(Unsure::Everything, |mark| Unsure::Rows(mark.sent.open_rows))
}

impl Found {
    fn whole(contents: Contents, open: Box<dyn LedgerStore>, mark: Option<&Mark>) -> Found {
        let Contents { record, table, streams, digests: stored, .. } = contents;
        let (record, ranges) = record.unwrap_or_default();
        let unsure = if streams.read.is_ok() { Unsure::Nothing } else { unsure(mark) };
        Found { open, record, ranges, table, streams, stored, unsure, damage: None }
    }

    fn ledger(
        self,
        (place, mark_file, marked): (Box<dyn LedgerPlace>, MarkFile, Marked),
        generation: Option<u64>,
        epoch: Epoch,
        canaries: Canaries,
    ) -> Result<LedgerOpened, LedgerError> {
        let Found { open, record, ranges, table, streams, stored, unsure, damage } = self;
        let StoredStreams { bytes, descriptor, read: streams } = streams;
        let mark = marked.whole();
        let marked_sent = mark.map(|mark| mark.sent).unwrap_or_default();
        let known = streams.as_ref().map(Sent::of).unwrap_or(marked_sent);
        let log_durable = mark.map_or(Lsn::ZERO, |mark| mark.log_durable);
        let mark_damage = match &marked {
            Marked::Absent if generation.is_some() => Some("it is gone".to_owned()),
            marked => marked.fault(),
        };
        let mut ledger = Ledger {
            place,
            epoch,
            open: Some(open),
            mark: mark_file,
            generation: generation.unwrap_or(0).max(mark.map_or(0, |mark| mark.generation)),
            canaries,
            ranges: ranges.clone(),
            are_ranges_due: false,
            table: bytes_of(table.as_ref()),
            is_table_due: false,
            streams: bytes,
            are_streams_due: false,
            sent: known,
            descriptor,
            log_durable,
            stored,
        };
        if damage.is_some() {
            if let Ok(streams) = &streams {
                ledger.remember_streams(streams);
            }
            ledger.is_table_due = table.is_some();
            ledger.are_streams_due = !ledger.streams.is_empty();
            ledger.descriptor.forget_place();
            // So that a crash finds it as it is now.
            ledger.checkpoint(&record)?;
        } else if mark.is_none_or(|mark| mark.generation < ledger.generation)
            // What could not be read stays until the log is open, and that is reported: the first checkpoint replaces it.
            && !matches!(marked, Marked::Unreadable(_))
            && let Err(error) = ledger.write_mark(&record)
        {
            // The first checkpoint tries again, and has space that is kept for it.
            tracing::warn!(
                reason = chain(&error),
                "the mark of the ledger does not say yet what the ledger says"
            );
        }
        let sent = known.highest.max(marked_sent.highest);
        Ok(LedgerOpened {
            ledger,
            record,
            ranges,
            table,
            streams,
            unsure,
            sent,
            log_durable,
            damage,
            mark_damage,
        })
    }
}
