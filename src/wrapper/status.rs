//! What a log and its lane look like from outside: one answer for Rust, Python and the command.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{AdoptionReport, Inner};
use crate::config::OnFull;
use crate::convert::TableSchema;
use crate::drain::LaneState;
use crate::error::{ErrorCode, chain};
use crate::pause::Pause;
use crate::quarantine::QuarantineReport;
use crate::reclaim::{self, retained_bytes};
use crate::telemetry::Reading;
use crate::types::{Epoch, Lsn, TableName};

/// Version of [`Status`] as JSON; grows when a field changes its meaning or goes away.
pub const STATUS_VERSION: u32 = 1;

/// How a log stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_VERSION`].
    pub version: u32,
    /// Target table.
    pub table: TableName,
    /// Zerobus endpoint.
    pub endpoint: String,
    /// Workspace URL, where tokens come from.
    pub unity_catalog_url: Option<String>,
    /// The writer directory.
    pub directory: PathBuf,
    /// The log's random number.
    pub epoch: Epoch,
    /// Process that owns the log; `None` if it is gone.
    pub owner_pid: Option<u32>,
    /// Every frame up to here is settled, durably so.
    pub settled_lsn: Lsn,
    /// Every frame up to here is durable.
    pub durable_lsn: Lsn,
    /// Rows and frames since the log began. `stored = delivered + quarantined + dropped + waiting` holds at rest;
    /// rows that damage took are in none of them.
    pub rows: Counts,
    /// The same in frames.
    pub frames: Counts,
    /// Frames that the disk damaged and that were stepped over.
    pub damaged_frames: u64,
    /// Timestamps among the delivered rows that lost nanoseconds, as `timestamp_ns = "floor"` has it. Counted when the
    /// service has acknowledged the row, so that a row which is sent again counts once.
    pub floored_timestamps: u64,
    /// Null lists and maps among the delivered rows that became empty ones, as `null_list = "empty"` has it. Counted
    /// as timestamps are.
    pub emptied_lists: u64,
    /// Rows that were sent again on a persistent stream because nobody could say what had become of them, since the log
    /// began: with `delivery = "exactly_once"` at most so many are in the table twice.
    #[serde(default)]
    pub doubtful_rows: u64,
    /// What there is in quarantine.
    #[serde(default)]
    pub quarantine: QuarantineReport,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Of these, bytes of the frames that wait.
    #[serde(default)]
    pub waiting_bytes: u64,
    /// Of these, bytes of segments in which every frame is settled: kept for replay, or not freed yet.
    pub retained_bytes: u64,
    /// Quota of the log in bytes; `None` when nobody owns it.
    pub wal_max_bytes: Option<u64>,
    /// Bytes that are left free on the file system; `None` when nobody owns the log.
    pub wal_min_free_bytes: Option<u64>,
    /// Bytes that are free on the file system of the log, if that can be told.
    pub free_bytes: Option<u64>,
    /// What `send_batch` does when the log is full; `None` when nobody owns the log.
    pub on_full: Option<OnFull>,
    /// Why the log is full, if it is: for the sender that waits, or for the batch that was refused last.
    pub full: Option<String>,
    /// Age in seconds of the oldest frame that waits.
    pub oldest_waiting_secs: Option<f64>,
    /// In how many seconds the log will be full, if what comes and goes does so as in the last minute; 0 if it is. `None` if
    /// it does not fill, or that is not known, as in the first seconds and when nobody owns the log.
    #[serde(default)]
    pub full_in_secs: Option<f64>,
    /// In how many seconds nothing will wait any more, by the same pace; 0 if nothing does. `None` if what waits does not
    /// become less, or that is not known.
    #[serde(default)]
    pub drained_in_secs: Option<f64>,
    /// Since when delivery is paused, and why, if somebody has paused it; what is stored meanwhile waits.
    #[serde(default)]
    pub paused: Option<Pause>,
    /// What the lane is doing; `None` when nobody owns the log.
    pub lane: Option<LaneReport>,
    /// What is known of the table's columns.
    pub table_schema: TableReport,
    /// What was done for owners of other logs of the table that are gone, since the wrapper was opened.
    #[serde(default)]
    pub adoption: AdoptionReport,
    /// Why settling does not move on, if it does not.
    pub settling_failure: Option<String>,
    /// Why the log refuses batches, if it does: a write or a sync has failed. `None` when nobody owns the log.
    #[serde(default)]
    pub poisoned: Option<String>,
    /// What is damaged, by name.
    pub damage: Vec<String>,
}

impl Status {
    /// The name of the writer directory.
    pub(crate) fn writer(&self) -> std::borrow::Cow<'_, str> {
        self.directory.file_name().unwrap_or_default().to_string_lossy()
    }

    /// The log as people call it; several may be for one table.
    #[cfg(feature = "cli")]
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.table, self.writer())
    }
}

/// A quantity and where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Stored since the log began.
    pub stored: u64,
    /// Delivered since the log began.
    pub delivered: u64,
    /// Put into quarantine since the log began. A frame counts here if no row of it was delivered.
    #[serde(default)]
    pub quarantined: u64,
    /// Dropped since the log began because it was full, as `on_full = "drop_oldest"` allows.
    pub dropped: u64,
    /// Still to be delivered.
    pub waiting: u64,
}

/// What a lane is doing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneReport {
    /// `idle`, `connecting`, `streaming`, `isolating`, `backing_off`, `blocked`, `poison`, `unreadable`, `paused`,
    /// `disabled` or `stopped`.
    pub state: crate::drain::LaneState,
    /// Why nothing is delivered, if nothing is.
    pub reason: Option<String>,
    /// The error code of the reason.
    pub code: Option<String>,
    /// Failed attempts since the last acknowledgement.
    pub failures_in_a_row: u32,
    /// Failed attempts since the wrapper was opened.
    pub failures: u64,
    /// Streams opened since the wrapper was opened.
    pub streams_opened: u64,
    /// Rows that were sent and not acknowledged when a stream failed, and so are sent again: at most so many are in the
    /// table twice because of that, since the wrapper was opened. A killed process leaves at most one full window more.
    /// None with `delivery = "exactly_once"`.
    pub resent_rows: u64,
    /// The persistent stream in use, with `delivery = "exactly_once"`.
    #[serde(default)]
    pub stream_id: Option<String>,
}

/// What is known of the table's columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableReport {
    /// How many columns the table has; `None` if nothing is known of them. Then records are made after the Arrow schema.
    pub columns: Option<usize>,
    /// How many seconds ago the catalog told that last.
    pub age_secs: Option<f64>,
    /// Why nothing is known, or why what is known may be out of date.
    pub reason: Option<String>,
}

impl TableReport {
    /// Of this schema, which was read then.
    pub(crate) fn new(
        schema: Option<&TableSchema>,
        read_unix_micros: i64,
        now_unix_micros: i64,
        reason: Option<String>,
    ) -> TableReport {
        TableReport {
            columns: schema.map(|schema| schema.columns.len()),
            age_secs: schema.map(|_| age_secs(read_unix_micros, now_unix_micros)),
            reason,
        }
    }
}

/// The seconds between two times of day; none if the clock was set back in between.
pub(crate) fn age_secs(then_unix_micros: i64, now_unix_micros: i64) -> f64 {
    (now_unix_micros - then_unix_micros).max(0) as f64 / 1e6
}

impl Inner {
    /// What the lane is doing, and how many rows are where, without a look at the disk: what damage took while this
    /// process ran counts as waiting.
    #[cfg(feature = "python")]
    pub(crate) fn glance(&self) -> (LaneState, Counts) {
        let settled = self.settler.borrow().settled;
        let mut rows = Counts {
            stored: self.stored.rows(),
            delivered: settled.delivered_rows,
            quarantined: settled.quarantined.rows,
            dropped: settled.dropped.rows,
            waiting: 0,
        };
        rows.waiting = rows.stored.saturating_sub(rows.delivered + rows.quarantined + rows.dropped);
        (self.lane.borrow().state, rows)
    }

    /// What telemetry tells.
    pub(crate) fn reading(&self) -> Reading {
        let (status, counted) = (self.status(), self.telemetry.recorder().counted());
        Reading {
            status,
            counted,
            opened: self.opened,
            poisoned: self.wal.poisoned().map(|reason| reason.to_string()),
        }
    }

    pub(crate) fn status(&self) -> Status {
        // Read in the order against the flow, so that nothing is counted twice that moves meanwhile.
        let count = || {
            let settler = self.settler.borrow().clone();
            let waiting = self.wal.count_from(settler.settled.settled.through.next());
            (settler, waiting)
        };
        // A segment can be reclaimed between the look at the index and the look into it; then it is settled.
        let (settler, waiting) = match count() {
            (_, Err(_)) => count(),
            counted => counted,
        };
        let settled = settler.settled.settled;
        let uncounted =
            waiting.as_ref().err().map(|error| format!("waiting rows are not counted: {}", chain(error)));
        let waiting = reclaim::waiting(waiting.unwrap_or_default(), settled, &settler.ranges);
        let lane = self.lane.borrow().clone();
        let paused = self.pause.borrow().clone();
        let rests = paused.as_ref().filter(|_| lane.state == LaneState::Paused);
        let (table, now) = (self.table.now(), self.env.clock.unix_micros());
        let (log_bytes, free_bytes) = (self.wal.bytes(), self.admission.free_bytes());
        let retained_bytes = retained_bytes(&self.wal.segment_infos(), settled.through);
        let full = self.admission.why_full().map(|full| full.to_string());
        let rates = self.pace.rates();
        // What is retained goes first when the log is full.
        let in_quota = (self.settings.wal_max_bytes + retained_bytes).saturating_sub(log_bytes);
        let on_disk =
            free_bytes.map(|free| (free + retained_bytes).saturating_sub(self.settings.wal_min_free_bytes));
        let room_bytes = on_disk.map_or(in_quota, |on_disk| on_disk.min(in_quota));
        let full_in_secs = match full {
            Some(_) => Some(0.0),
            None => rates.and_then(|rates| rates.full_in_secs(room_bytes)),
        };
        let drained_in_secs = match waiting.frames {
            // Uncounted is not nothing.
            0 => uncounted.is_none().then_some(0.0),
            _ => rates.and_then(|rates| rates.drained_in_secs(waiting.rows)),
        };
        Status {
            version: STATUS_VERSION,
            table: self.destination.table.clone(),
            endpoint: self.destination.endpoint.clone(),
            unity_catalog_url: self.destination.unity_catalog_url.clone(),
            directory: self.directory.clone(),
            epoch: self.epoch,
            owner_pid: Some(self.pid),
            settled_lsn: settled.through,
            durable_lsn: self.wal.durable(),
            rows: Counts {
                stored: self.stored.rows(),
                delivered: settler.settled.delivered_rows,
                quarantined: settler.settled.quarantined.rows,
                dropped: settler.settled.dropped.rows,
                waiting: waiting.rows,
            },
            frames: Counts {
                stored: self.stored.frames(),
                delivered: settler.settled.delivered_frames,
                quarantined: settler.settled.quarantined.frames,
                dropped: settler.settled.dropped.frames,
                waiting: waiting.frames,
            },
            damaged_frames: settler.settled.damaged_frames,
            floored_timestamps: settler.settled.bent.floored_timestamps,
            emptied_lists: settler.settled.bent.emptied_lists,
            doubtful_rows: lane.doubtful_rows,
            quarantine: self.quarantine.report(),
            log_bytes,
            waiting_bytes: waiting.bytes,
            retained_bytes,
            wal_max_bytes: Some(self.settings.wal_max_bytes),
            wal_min_free_bytes: Some(self.settings.wal_min_free_bytes),
            free_bytes,
            on_full: Some(self.settings.on_full),
            full,
            oldest_waiting_secs: waiting.oldest_unix_micros.map(|oldest| age_secs(oldest, now)),
            full_in_secs,
            drained_in_secs,
            paused: paused.clone(),
            lane: Some(LaneReport {
                state: lane.state,
                reason: rests
                    .map(ToString::to_string)
                    .or_else(|| lane.failure.as_ref().map(ToString::to_string)),
                code: rests
                    .map(|_| ErrorCode::Paused)
                    .or_else(|| lane.failure.as_ref().map(|failure| failure.code))
                    .map(|code| code.info().name.to_owned()),
                failures_in_a_row: lane.failures_in_a_row,
                failures: lane.failures,
                streams_opened: lane.streams_opened,
                resent_rows: lane.resent_rows,
                stream_id: lane.stream_id,
            }),
            table_schema: TableReport::new(
                table.schema.as_deref(),
                table.read_unix_micros,
                now,
                table.doubt.as_ref().map(ToString::to_string),
            ),
            adoption: self.adopted.as_ref().map(|adopted| adopted.borrow().clone()).unwrap_or_default(),
            settling_failure: settler.failure,
            poisoned: self.wal.poisoned().map(|reason| reason.to_string()),
            damage: {
                let of_log = self.damage.iter().map(ToString::to_string);
                of_log.chain(self.ledger_damage.iter().cloned()).chain(uncounted).collect()
            },
        }
    }
}
