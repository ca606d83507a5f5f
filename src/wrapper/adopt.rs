//! Delivering for the dead: what waits in writer directories of the table whose owner is gone is drained, one
//! directory at a time.
//!
//! Every live wrapper looks for such orphans; the lock of a directory decides who adopts it. An adopted log is a log
//! like our own, with its own lane and ledger, to which nobody appends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use super::delivery::{self, Awaited};
use super::open::{Access, start};
use super::writers::writers;
use super::{DeliveryError, Inner, OpenError, Status, shutdown};
use crate::admin;
use crate::error::chain;
use crate::io::Env;
use crate::telemetry::Outlets;
use crate::wal::{self, LogDirectory};

/// A look costs a few system calls for each directory that has not changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// What kept a log from being read may pass without a trace in its directory, such as a full disk.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// What was done for owners that are gone, since the wrapper was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptionReport {
    /// Writer directories that were drained to the end.
    pub drained_logs: u64,
    /// Rows that were delivered for them.
    pub delivered_rows: u64,
    /// The writer directory that is being drained.
    pub draining: Option<PathBuf>,
    /// Writer directories that are left alone although nobody owns them, each with the reason.
    pub left: Vec<String>,
}

/// Drains the orphans of one table for as long as its wrapper lives.
pub(super) struct Adopter {
    access: Arc<Access>,
    orphans: Orphans,
    report: watch::Sender<AdoptionReport>,
    /// Somebody wants the next look now, at everything.
    wanted: Arc<Notify>,
}

/// Where orphans are looked for, and what was found out about those that are there.
#[derive(Clone)]
struct Orphans {
    env: Env,
    table_directory: PathBuf,
    /// The directory of the wrapper itself.
    own: PathBuf,
    access: Arc<Access>,
    /// Directories with nothing to do in them, unless they have changed since.
    settled: HashMap<PathBuf, Settled>,
}

#[derive(Clone)]
struct Settled {
    changed: SystemTime,
    /// Why it is left alone although something waits in it.
    left: Option<String>,
    /// When to try again although nothing has changed, by the monotonic clock.
    retry_at: Option<Duration>,
}

impl Adopter {
    pub(super) fn new(
        access: Arc<Access>,
        env: Env,
        table_directory: PathBuf,
        own: PathBuf,
    ) -> (Adopter, watch::Receiver<AdoptionReport>) {
        let (report, reports) = watch::channel(AdoptionReport::default());
        let orphans =
            Orphans { env, table_directory, own, access: Arc::clone(&access), settled: HashMap::new() };
        (Adopter { access, orphans, report, wanted: Arc::default() }, reports)
    }

    /// Who wakes it.
    pub(super) fn wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.wanted)
    }

    /// Drains orphans until `closing` says true, and then what is adopted for as long as a shutdown may take.
    pub(super) async fn run(mut self, mut closing: watch::Receiver<bool>) {
        let is_over = |closing: &watch::Receiver<bool>| *closing.borrow();
        while !is_over(&closing) {
            for orphan in self.look().await {
                if !is_over(&closing) {
                    self.adopt(orphan, &mut closing).await;
                }
            }
            tokio::select! {
                _ = closing.wait_for(|is_closing| *is_closing) => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                // What kept a log from being adopted may have passed without a trace.
                () = self.wanted.notified() => self.orphans.settled.clear(),
            }
        }
    }

    async fn look(&mut self) -> Vec<PathBuf> {
        let mut orphans = self.orphans.clone();
        let Ok((orphans, found)) = spawn_blocking(move || {
            let found = orphans.find();
            (orphans, found)
        })
        .await
        else {
            return Vec::new();
        };
        self.orphans = orphans;
        let left = self.orphans.settled.values().filter_map(|it| it.left.clone());
        let mut left: Vec<String> = left.collect();
        left.sort_unstable();
        self.report.send_modify(|report| report.left = left);
        found
    }

    async fn adopt(&mut self, directory: PathBuf, closing: &mut watch::Receiver<bool>) {
        // Before it is opened, as before a look.
        let Ok(changed) = changed(&directory) else { return };
        let inner = match self.open(directory.clone()).await {
            Ok(Some(inner)) => inner,
            // It was given another destination since the look, which the next look tells.
            Ok(None) => return,
            // Another process was faster.
            Err(OpenError::Log(wal::OpenError::Locked { .. })) => return,
            Err(error) => {
                let reason = format!("it cannot be opened: {}", chain(&error));
                self.orphans.leave(&directory, changed, &reason, Some(RETRY_INTERVAL));
                return;
            }
        };
        tracing::info!(directory = %directory.display(), "a log whose owner is gone is drained");
        self.report.send_modify(|report| report.draining = Some(directory.clone()));
        let delivered_before = inner.settler.borrow().settled.delivered_rows;
        let is_drained = tokio::select! {
            _ = closing.wait_for(|is_closing| *is_closing) => false,
            is_drained = self.drain(&inner, &directory) => is_drained,
        };
        if let Err(error) = shutdown::shutdown(Arc::clone(&inner)).await {
            tracing::warn!(directory = %directory.display(), error = chain(&error), "an adopted log was not closed cleanly");
        }
        let delivered_rows = inner.settler.borrow().settled.delivered_rows - delivered_before;
        tracing::info!(directory = %directory.display(), delivered_rows, is_drained, "an adopted log is given back");
        self.report.send_modify(|report| {
            report.drained_logs += u64::from(is_drained);
            report.delivered_rows += delivered_rows;
            report.draining = None;
        });
    }

    /// None if it does not go where ours goes.
    async fn open(&self, directory: PathBuf) -> Result<Option<Arc<Inner>>, OpenError> {
        let (access, env) = (Arc::clone(&self.access), self.orphans.env.clone());
        let opened = spawn_blocking(move || {
            let locked = LogDirectory::open_unchanged(&env, &directory, access.destination())?;
            match access.destination() == locked.destination() {
                true => start(&access, env, locked, None, Outlets::default()).map(Some),
                false => Ok(None),
            }
        });
        opened.await.unwrap_or_else(|error| Err(OpenError::Runtime(std::io::Error::other(error))))
    }

    /// Waits until everything in it is settled. Says no when nothing can be delivered just now and other orphans have
    /// not had their turn.
    async fn drain(&self, inner: &Inner, directory: &Path) -> bool {
        let last = inner.stored.last();
        let mut lane = inner.lane.clone();
        loop {
            let failures_before = lane.borrow_and_update().failures;
            match delivery::settled(inner, Awaited::UpTo(last), failures_before).await {
                Ok(()) | Err(DeliveryError::Dropped { .. } | DeliveryError::Quarantined { .. }) => {
                    return true;
                }
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), error = chain(&error), "an adopted log waits");
                    if self.others_wait(directory).await || lane.changed().await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    async fn others_wait(&self, directory: &Path) -> bool {
        let (mut orphans, directory) = (self.orphans.clone(), directory.to_owned());
        let others = spawn_blocking(move || orphans.find().iter().any(|orphan| *orphan != directory));
        others.await.unwrap_or(false)
    }
}

impl Orphans {
    /// The directories that nobody owns, in which something waits that goes where ours goes.
    fn find(&mut self) -> Vec<PathBuf> {
        let writers = writers(&self.env, &self.table_directory).unwrap_or_else(|error| {
            tracing::debug!(%error, "the writer directories cannot be listed");
            Vec::new()
        });
        self.settled.retain(|directory, _| writers.contains(directory));
        writers.into_iter().filter(|directory| *directory != self.own && self.is_orphan(directory)).collect()
    }

    fn is_orphan(&mut self, directory: &Path) -> bool {
        // Before the look: whoever owns it after this changes it again, at the latest by its socket.
        let Ok(changed) = changed(directory) else { return false };
        let is_due = |at: Duration| self.env.clock.monotonic() >= at;
        if self
            .settled
            .get(directory)
            .is_some_and(|it| it.changed == changed && !it.retry_at.is_some_and(is_due))
        {
            return false;
        }
        self.settled.remove(directory);
        match wal::owner(&self.env, directory) {
            Ok(None) => {}
            Ok(Some(_)) => return false,
            Err(error) => {
                let reason =
                    format!("whether somebody owns it is not known, its file LOCK cannot be read: {error}");
                self.leave(directory, changed, &reason, Some(RETRY_INTERVAL));
                return false;
            }
        }
        match admin::status(directory) {
            Ok(status) if status.owner_pid.is_some() => {}
            Ok(status) if status.rows.waiting == 0 => {
                let nothing = Settled { changed, left: None, retry_at: None };
                self.settled.insert(directory.to_owned(), nothing);
            }
            Ok(Status { paused: Some(pause), .. }) => {
                self.leave(directory, changed, &pause.to_string(), None);
            }
            Ok(status) if self.access.delivers_to(&status.endpoint, status.unity_catalog_url.as_deref()) => {
                return true;
            }
            Ok(status) => {
                let (rows, endpoint) = (status.rows.waiting, status.endpoint);
                let reason = format!("its {rows} rows are for {endpoint}; drain it with zerobus-wal drain");
                self.leave(directory, changed, &reason, None);
            }
            Err(error) => self.leave(directory, changed, &chain(&error), Some(RETRY_INTERVAL)),
        }
        false
    }

    /// Leaves a directory alone until it changes, or for so long.
    fn leave(&mut self, directory: &Path, changed: SystemTime, reason: &str, retry_after: Option<Duration>) {
        let left = Some(format!("{}: {reason}", directory.display()));
        let retry_at = retry_after.map(|after| self.env.clock.monotonic() + after);
        tracing::warn!(directory = %directory.display(), reason, "a log whose owner is gone is left alone");
        self.settled.insert(directory.to_owned(), Settled { changed, left, retry_at });
    }
}

/// When an entry of the directory was made or removed last.
fn changed(directory: &Path) -> std::io::Result<SystemTime> {
    directory.metadata()?.modified()
}
