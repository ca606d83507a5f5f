//! The wrapper: opens the parts of one log and wires them together. What the parts do is theirs.

mod access;
mod adopt;
mod append;
mod check;
mod delivery;
mod error;
mod freeing;
mod open;
mod pace;
mod result;
mod runtime;
mod shutdown;
mod status;
mod undelivered;
mod writers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use arrow_array::RecordBatch;
#[cfg(feature = "python")]
use arrow_schema::SchemaRef;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use secrecy::SecretString;
use tokio::sync::{Notify, watch};

pub use adopt::AdoptionReport;
#[cfg(feature = "python")]
pub(crate) use append::{NotStored, Started};
pub use error::{ForkedProcess, OpenError, SendError, SendFailure, ShutdownError, UpdateError};
pub use freeing::SegmentFate;
pub(crate) use freeing::{Freeing, fates, free_settled_of_dead};
#[cfg(feature = "cli")]
pub(crate) use open::ask_catalog;
pub(crate) use open::check_configuration;
pub use result::{BatchState, TransmissionResult};
pub(crate) use status::age_secs;
pub use status::{Counts, LaneReport, STATUS_VERSION, Status, TableReport};
pub use undelivered::{DeliveryError, ROWS_NAMED_MAX};
pub(crate) use writers::{WRITERS_MAX, table_directory, writer_name};

use self::append::Stored;
use self::check::CheckedSchemas;
use self::pace::Pace;
use self::runtime::SharedRuntime;
use self::shutdown::Tasks;
use crate::admission::Admission;
use crate::catalog::KnownTable;
use crate::config::{OnFull, Validate, WaitFor, WrapperConfiguration};
use crate::debug_files::DebugFiles;
#[cfg(feature = "cli")]
use crate::drain::Grace;
use crate::drain::{LaneStatus, SettlerStatus};
use crate::io::Env;
use crate::pause::Pause;
use crate::principal::Principal;
use crate::quarantine::Quarantine;
use crate::reclaim::Retention;
use crate::telemetry::{MetricsExport, Opened, Telemetry, TraceContext};
use crate::types::{Epoch, Lsn};
#[cfg(feature = "python")]
use crate::wal::PreparedFrame;
use crate::wal::{Damage, Destination, Sharing, Wal};

/// A durable buffer before one table.
///
/// Clones are handles of the same buffer. It brings its own threads and needs no runtime of the caller's;
/// its futures may be awaited on any.
///
/// Dropping the last handle stops delivery at once; what was stored stays in the log for the next start.
/// [`ZerobusWrapper::shutdown`] goes on delivering for a while first.
#[derive(Clone)]
pub struct ZerobusWrapper {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    settings: Settings,
    env: Env,
    runtime: Arc<SharedRuntime>,
    pid: u32,
    wal: Wal,
    epoch: Epoch,
    destination: Destination,
    directory: std::path::PathBuf,
    damage: Vec<Damage>,
    /// What was wrong with the ledger when it was opened.
    ledger_damage: Vec<String>,
    admission: Arc<Admission>,
    stored: Arc<Stored>,
    /// Where what is stored is shown too, if somebody wants that.
    debug_files: Option<DebugFiles>,
    /// Up to this frame a `flush` has told what was dropped.
    drops_told: AtomicU64,
    quarantine: Quarantine,
    /// So many rows in quarantine a `flush` has told.
    quarantined_told: AtomicU64,
    table: Arc<KnownTable>,
    checked: CheckedSchemas,
    telemetry: Telemetry,
    opened: Opened,
    lane: watch::Receiver<LaneStatus>,
    settler: watch::Receiver<SettlerStatus>,
    pace: Arc<Pace>,
    nudge: Arc<Notify>,
    /// The schemas that are refused now.
    #[cfg(feature = "cli")]
    grace: Arc<Grace>,
    /// Since when delivery is paused, if it is.
    pause: watch::Sender<Option<Pause>>,
    /// One change of the mark at a time.
    pause_mark: std::sync::Mutex<()>,
    /// Who we are; none where nobody asks.
    principal: Option<Arc<Principal>>,
    /// Who is told to look for logs of the dead; none if this is one of them.
    orphans_wanted: Option<Arc<Notify>>,
    /// What is done for logs of the dead; none if this is one of them.
    adopted: Option<watch::Receiver<AdoptionReport>>,
    is_closed: AtomicBool,
    tasks: std::sync::Mutex<Option<Tasks>>,
    stop: watch::Sender<bool>,
    stopped: watch::Sender<Option<Result<(), String>>>,
}

/// What of the configuration is needed while the wrapper lives.
#[derive(Clone, Copy, Debug)]
struct Settings {
    wait_for: WaitFor,
    validate: Validate,
    wal_max_bytes: u64,
    wal_min_free_bytes: u64,
    on_full: OnFull,
    block_timeout: Option<Duration>,
    /// The setting that limits a segment, and its value.
    segment_limit: (&'static str, u64),
    retry_max_attempts: u32,
    shutdown_timeout: Duration,
    retention: Retention,
    writer_disabled: bool,
}

impl ZerobusWrapper {
    /// Opens a log of this table, recovers it and begins to deliver what it holds.
    ///
    /// It is the first one below `wal_dir` that nobody owns, made if there is none; each live wrapper has its own. What
    /// waits in the logs of owners that are gone is delivered beside it.
    ///
    /// Needs no network: an unreachable or refusing service is seen in [`ZerobusWrapper::status`] \[I15\].
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a setting is wrong (then nothing was created), if the log shall be the only one and another has
    /// a live owner ([`WrapperConfiguration::exclusive`]), or if the disk fails.
    pub fn open(configuration: WrapperConfiguration) -> Result<ZerobusWrapper, OpenError> {
        ZerobusWrapper::open_exporting(configuration, MetricsExport::Ours)
    }

    /// The same, where it was decided who exports metrics.
    pub(crate) fn open_exporting(
        configuration: WrapperConfiguration,
        metrics: MetricsExport,
    ) -> Result<ZerobusWrapper, OpenError> {
        open::open(configuration, metrics, Env::os()).map(|inner| ZerobusWrapper { inner })
    }

    /// Opens the log in this writer directory and no other, to deliver what waits in it. The destination of the configuration
    /// is not written into it.
    #[cfg(feature = "cli")]
    pub(crate) fn open_in(
        configuration: WrapperConfiguration,
        directory: &std::path::Path,
    ) -> Result<ZerobusWrapper, OpenError> {
        open::open_in(configuration, directory, Env::os()).map(|inner| ZerobusWrapper { inner })
    }

    /// Stores a batch, and waits for its delivery too if the wrapper was opened with
    /// [`WaitFor::Delivered`].
    ///
    /// A batch without rows is a success that stores nothing. Batches may have different schemas. One whose schema
    /// does not fit the table is refused, as far as the table is known ([`Validate`]); before that the
    /// catalog is asked once more, which may take seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`]: either the batch was not stored, and the error hands it back, or it is stored and was
    /// not delivered within the attempts allowed, and the error names its LSN.
    ///
    /// What happens when the log is full is a setting, [`OnFull`].
    ///
    /// # Traces
    ///
    /// With [`WrapperConfiguration::observability_enabled`], and if `opentelemetry::Context::current()` is in a sampled
    /// trace when this is called, the call is a span of it, and the delivery of the batch is linked with that.
    ///
    /// # Durability
    ///
    /// When this returns, the batch is durable in the configured sense \[I3\].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for room in the log, nothing was stored; dropped later, the batch may be
    /// stored. An append that was started is always finished.
    pub fn send_batch(
        &self,
        batch: RecordBatch,
    ) -> impl Future<Output = Result<TransmissionResult, SendError>> + Send + 'static {
        let context = self.inner.current_context();
        append::send_batch(Arc::clone(&self.inner), batch, Sharing::Shared, context)
    }

    /// As [`ZerobusWrapper::send_batch`], for a batch whose memory is another language's: once it is encoded,
    /// nobody looks at that memory again. Its runtime has a trace of its own: the caller says which.
    #[cfg(feature = "python")]
    pub(crate) fn send_foreign_batch(
        &self,
        batch: RecordBatch,
        context: Option<TraceContext>,
    ) -> impl Future<Output = Result<TransmissionResult, SendError>> + Send + 'static {
        append::send_batch(Arc::clone(&self.inner), batch, Sharing::Copied, context)
    }

    /// Hands a frame of this schema to the log, if nothing has to be waited for first; else nothing was done.
    #[cfg(feature = "python")]
    pub(crate) fn start_frame(&self, schema: &SchemaRef, frame: PreparedFrame) -> Option<Started> {
        append::Started::new(&self.inner, schema, frame)
    }

    /// Waits until the frame with this number is settled.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`] after `retry_max_attempts` failed attempts, a refusal, or the timeout. Nothing is
    /// lost and delivery goes on, but for [`DeliveryError::Dropped`]: with [`OnFull::DropOldest`] the frame
    /// may have been dropped; and for [`DeliveryError::Quarantined`]: rows of it were refused for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn wait_delivered(
        &self,
        lsn: Lsn,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<TransmissionResult, DeliveryError>> + Send + 'static {
        delivery::wait_delivered(Arc::clone(&self.inner), lsn, timeout)
    }

    /// Waits until every frame that was appended before the call is settled.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`] as for [`ZerobusWrapper::wait_delivered`]. What was dropped is told once, and so is what was put into
    /// quarantine.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn flush(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send + 'static {
        delivery::flush(Arc::clone(&self.inner), timeout)
    }

    /// Stops intake, goes on delivering for at most `shutdown_timeout`, makes the ledger durable and gives
    /// the log back. What is left is delivered after the next start.
    ///
    /// Idempotent: a second call waits for the first.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if something could not be made durable.
    ///
    /// # Cancel safety
    ///
    /// A shutdown that was started is always finished.
    pub fn shutdown(&self) -> impl Future<Output = Result<(), ShutdownError>> + Send + 'static {
        shutdown::shutdown(Arc::clone(&self.inner))
    }

    /// From now on streams and the catalog use these credentials; the client id stays if none is given. Delivery that
    /// is parked or waits tries again at once. Nothing is stored: the next start needs them too.
    ///
    /// A secret that is given here counts instead of the one in `client_secret_file`.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if they are blank, or the wrapper was opened without any, or was shut down; then nothing was
    /// changed.
    pub fn update_credentials(
        &self,
        client_id: Option<String>,
        client_secret: SecretString,
    ) -> Result<(), UpdateError> {
        self.inner.update_credentials(client_id, client_secret)
    }

    /// How the log stands. Reads the headers of at most one segment.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// State and rows, at once.
    #[cfg(feature = "python")]
    pub(crate) fn glance(&self) -> (crate::drain::LaneState, Counts) {
        self.inner.glance()
    }

    /// Rows that are delivered, in quarantine or dropped since the log began, at once.
    #[cfg(feature = "cli")]
    pub(crate) fn settled_rows(&self) -> u64 {
        let settled = self.inner.settler.borrow().settled;
        settled.delivered_rows + settled.quarantined.rows + settled.dropped.rows
    }

    /// Whether a schema that the table refuses is waited for, before its frames are put into quarantine.
    #[cfg(feature = "cli")]
    pub(crate) fn waits_for_schema(&self) -> bool {
        self.inner.grace.is_waiting()
    }

    /// What the metrics are now.
    #[cfg(feature = "python")]
    pub(crate) fn samples(&self) -> Vec<crate::telemetry::Sample> {
        self.inner.reading().samples()
    }

    /// The threads that do the work, for callers that want to spawn the futures of this wrapper.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.inner.runtime.handle().clone()
    }
}

impl std::fmt::Debug for ZerobusWrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZerobusWrapper")
            .field("table", &self.inner.destination.table.as_str())
            .field("directory", &self.inner.directory)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// A forked child has neither the threads nor the lock.
    fn check_process(&self) -> Result<(), ForkedProcess> {
        let current = std::process::id();
        if current == self.pid { Ok(()) } else { Err(ForkedProcess { owner: self.pid, current }) }
    }

    /// The trace that the caller is in, if spans are wanted.
    fn current_context(&self) -> Option<TraceContext> {
        self.telemetry.recorder().spans()?;
        Context::map_current(|context| TraceContext::of(context.span().span_context()))
    }
}
