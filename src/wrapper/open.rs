//! Opening: the parts of one log, wired together.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};

use tokio::sync::{Notify, watch};

use super::adopt::{Adopter, AdoptionReport};
use super::append::Stored;
use super::check::CheckedSchemas;
use super::pace::Pace;
use super::runtime::SharedRuntime;
use super::shutdown::{Adoption, Tasks};
use super::writers::{self, table_directory};
use super::{Inner, OpenError, Settings};
use crate::admin::socket::OwnerSocket;
use crate::admission::{Admission, Limits};
use crate::catalog::{Catalog, KnownTable, Reader};
use crate::config::{DeliveryGuarantee, Validated, WrapperConfiguration, invalid};
use crate::convert::{Policies, TableSchema};
use crate::debug_files::{DebugFiles, DebugSettings};
use crate::drain::{
    Grace, Lane, LaneSettings, Plans, Progress, Reads, Settler, SettlerStatus, TableToRemember,
};
use crate::error::chain;
use crate::http;
use crate::io::Env;
use crate::ledger::{CachedTable, Ledger, LedgerOpened, LedgerRecord, Ranges, Streams, Unsure};
use crate::pause::{self, Pause};
use crate::principal::{self, Principal};
use crate::quarantine::{self, Quarantine};
use crate::reclaim::{self, Retention};
use crate::telemetry::{MetricsExport, Opened, Outlets, Read, Telemetry};
use crate::transport::zerobus::ZerobusTransport;
use crate::trust::Trust;
use crate::types::{Epoch, TableName};
use crate::wal::{self, Destination, Known, LogDirectory, Recovery, Wal, WalOptions};

/// What the logs of one wrapper have in common: its own, and those that it adopts.
pub(super) struct Access {
    configuration: WrapperConfiguration,
    validated: Validated,
    runtime: Arc<SharedRuntime>,
    trust: Trust,
    http: reqwest::Client,
    principal: Option<Arc<Principal>>,
}

impl Access {
    /// # Errors
    ///
    /// [`OpenError`] if a setting is wrong; nothing was created then.
    fn new(configuration: WrapperConfiguration) -> Result<Access, OpenError> {
        let (validated, trust, http) = check(&configuration)?;
        let runtime = SharedRuntime::get()?;
        let principal =
            validated.credentials.clone().map(|credentials| Arc::new(Principal::new(credentials)));
        Ok(Access { configuration, validated, runtime, trust, http, principal })
    }

    /// The ways out of telemetry; none has begun.
    fn outlets(&self, metrics: MetricsExport) -> Result<Outlets, OpenError> {
        let runtime = self.runtime.handle();
        Ok(Outlets::open(&self.configuration, metrics, &self.trust, self.http.clone(), runtime)?)
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.validated.destination
    }

    /// Whether this is the service that ours goes to, told from the same workspace.
    pub(super) fn delivers_to(&self, endpoint: &str, unity_catalog_url: Option<&str>) -> bool {
        let destination = self.destination();
        destination.endpoint == endpoint && destination.unity_catalog_url.as_deref() == unity_catalog_url
    }

    fn transport(&self) -> Result<ZerobusTransport, OpenError> {
        let _entered = self.runtime.handle().enter();
        let (http, principal) = (self.http.clone(), self.principal.clone());
        let window = self.configuration.max_inflight_requests;
        let compression = self.configuration.compression.unwrap_or_default();
        Ok(ZerobusTransport::new(http, self.destination(), principal, &self.trust, window, compression)?)
    }
}

/// Everything that can be said against a configuration before a log is opened.
fn check(configuration: &WrapperConfiguration) -> Result<(Validated, Trust, reqwest::Client), OpenError> {
    let validated = configuration.validate()?;
    let trust = Trust::read(configuration)?;
    if !configuration.writer_disabled {
        check_secret_file(configuration)?;
    }
    let http = http::client(&trust)?;
    Ok((validated, trust, http))
}

/// Whether a wrapper would take this configuration. Reads the files that it names; creates nothing.
///
/// # Errors
///
/// [`OpenError`] names the first setting that is wrong.
pub(crate) fn check_configuration(configuration: &WrapperConfiguration) -> Result<(), OpenError> {
    check(configuration).map(drop)
}

/// Opens the first log of the table that nobody owns, and drains those of the dead beside it.
pub(super) fn open(
    configuration: WrapperConfiguration,
    metrics: MetricsExport,
    env: Env,
) -> Result<Arc<Inner>, OpenError> {
    let access = Arc::new(Access::new(configuration)?);
    // A port that cannot be had is a wrong setting, and nothing is created then.
    let outlets = access.outlets(metrics)?;
    let Validated { destination, wal_dir, .. } = &access.validated;
    let table_directory = table_directory(wal_dir, &destination.table);
    let locked = writers::claim(&env, &table_directory, destination, access.configuration.exclusive)
        .map_err(|error| unusable(wal_dir, error))?;
    let own = locked.path().to_owned();
    let adopter = Adopter::new(Arc::clone(&access), env.clone(), table_directory, own);
    start(&access, env, locked, Some(adopter), outlets)
}

/// Opens the log in this writer directory and no other, to deliver it as this configuration says. Where it goes otherwise
/// stays as it is written in it.
#[cfg(feature = "cli")]
pub(super) fn open_in(
    configuration: WrapperConfiguration,
    directory: &Path,
    env: Env,
) -> Result<Arc<Inner>, OpenError> {
    let access = Access::new(configuration)?;
    let locked = LogDirectory::open_unchanged(&env, directory, access.destination())?;
    if access.configuration.delivery == DeliveryGuarantee::ExactlyOnce {
        check_stream(&locked, access.destination())?;
    }
    start(&access, env, locked, None, Outlets::default())
}

/// A persistent stream is one of the service that the log was written for: what arrived on it nobody else can tell.
#[cfg(feature = "cli")]
fn check_stream(log: &LogDirectory, asked: &Destination) -> Result<(), OpenError> {
    let written_for = log.destination();
    let is_elsewhere =
        written_for.endpoint != asked.endpoint || written_for.unity_catalog_url != asked.unity_catalog_url;
    if !is_elsewhere {
        return Ok(());
    }
    let remembered = crate::ledger::peek(log.path(), log.epoch())?;
    if !remembered.streams.read.is_ok_and(|streams| streams.current.is_some()) {
        return Ok(());
    }
    let allowed = format!(
        "at_least_once, or the place that the log was written for: it has a persistent stream at {}, and only there can be \
         told what of it arrived; drain it there first",
        written_for.endpoint
    );
    Err(invalid("delivery", DeliveryGuarantee::ExactlyOnce.as_str(), &allowed).into())
}

/// What the catalog says of the table of this configuration now, as text if it does not tell; none where there is nobody to
/// be asked.
///
/// # Errors
///
/// [`OpenError`] if a setting is wrong.
#[cfg(feature = "cli")]
pub(crate) fn ask_catalog(
    configuration: WrapperConfiguration,
) -> Result<Option<Result<TableSchema, String>>, OpenError> {
    let access = Access::new(configuration)?;
    let Some(catalog) = Catalog::new(access.http.clone(), access.destination(), access.principal.clone())
    else {
        return Ok(None);
    };
    let told = access.runtime.handle().block_on(catalog.table_schema());
    Ok(Some(told.map_err(|error| chain(&error))))
}

/// Starts what delivers this log. Without an adopter nobody appends to it for long, and nothing is kept ready for that.
pub(super) fn start(
    access: &Access,
    env: Env,
    locked: LogDirectory,
    adopter: Option<(Adopter, watch::Receiver<AdoptionReport>)>,
    outlets: Outlets,
) -> Result<Arc<Inner>, OpenError> {
    let Access { configuration, validated, runtime, http, principal, .. } = access;
    let (destination, segment_bytes) = (validated.destination.clone(), validated.segment_bytes);
    let (runtime, principal) = (Arc::clone(runtime), principal.clone());
    let directory = locked.path().to_owned();
    let is_disabled = configuration.writer_disabled;
    let catalog = match is_disabled {
        true => None,
        false => Catalog::new(http.clone(), &destination, principal.clone()),
    };
    let transport = access.transport()?;
    let spare_segments = match adopter {
        Some(_) => spare_segments(configuration.wal_max_bytes, segment_bytes),
        None => 0,
    };
    let options = WalOptions { segment_bytes, durability: configuration.durability, spare_segments };
    let max_bytes = configuration.quarantine_max_bytes;
    let began = env.clock.monotonic();
    let opened_log = open_log(&env, locked, options, &destination.table, max_bytes, configuration.delivery)?;
    let OpenedLog { epoch, wal, ledger, record, ranges, streams, cached_table, stored, .. } = opened_log;
    let (recovery, ledger_damage, quarantine) =
        (opened_log.recovery, opened_log.ledger_damage, opened_log.quarantine);
    let opened = Opened {
        duration: env.clock.monotonic().saturating_sub(began),
        frames: recovery.frames,
        torn_bytes: recovery.torn_bytes,
        damage: recovery.damage.len() + ledger_damage.len(),
    };
    let telemetry = Telemetry::new(outlets, &destination.table, &directory, &env.clock);
    wal.record(Arc::clone(telemetry.recorder()));
    let wal_written = wal.written_bytes();
    // Without a socket, on a file system that has none, onlookers read the files.
    let socket = OwnerSocket::bind(&directory)
        .inspect_err(|error| tracing::warn!(%error, "nobody can ask this log for its status"));

    let limits = Limits::from(configuration);
    let runtime_handle = runtime.handle().clone();
    let admission = Arc::new(Admission::new(
        runtime_handle,
        &env,
        wal.clone(),
        directory.clone(),
        limits,
        quarantine.clone(),
    ));
    admission.keep_reserves(ledger.missing_reserve_bytes());
    let lane_status = Lane::new_status(&streams);
    let ranges = Arc::new(ranges);
    let settler_status = watch::Sender::new(SettlerStatus {
        settled: record,
        ranges: Arc::clone(&ranges),
        ..SettlerStatus::default()
    });
    let acknowledged =
        watch::Sender::new(Progress { record, ranges, streams: Arc::new(streams), acknowledgements: 0 });
    let nudge = Arc::new(Notify::new());
    let pause = watch::Sender::new(paused(&env, &directory)?);
    let stop = watch::Sender::new(false);
    let (lane, settler) = (lane_status.subscribe(), settler_status.subscribe());
    let cached = cached_table.filter(|cached| cached.table == destination.table);
    let cached: Option<(TableSchema, i64)> = cached.map(|cached| (cached.schema, cached.read_unix_micros));
    let table = Arc::new(match &catalog {
        Some(_) => KnownTable::new(cached),
        None => KnownTable::without_catalog(cached),
    });
    let policies = Policies { timestamp_ns: configuration.timestamp_ns, null_list: configuration.null_list };
    let debug_settings = adopter.as_ref().and_then(|_| DebugSettings::of(configuration, policies));
    let debug_files = debug_settings
        .and_then(|settings| DebugFiles::start(&env, settings, &destination.table, Arc::clone(&table)));
    let settling = Settler {
        env: env.clone(),
        ledger,
        wal: wal.clone(),
        admission: Arc::clone(&admission),
        retention: Retention::from(configuration),
        next_expiry: None,
        acknowledged: acknowledged.subscribe(),
        checkpointed: 0,
        max_inflight_requests: configuration.max_inflight_requests,
        table: TableToRemember::new(destination.table.clone(), table.subscribe()),
        status: settler_status,
    };
    let grace = Arc::new(Grace::new(configuration.schema_grace, configuration.retry_max_delay));
    let delivering = Lane {
        wal: wal.clone(),
        transport: Arc::new(transport),
        table: Arc::clone(&table),
        plans: Plans::new(configuration.transport, policies),
        env: env.clone(),
        settings: LaneSettings::from(configuration),
        status: lane_status,
        acknowledged,
        settler: settler.clone(),
        nudge: Arc::clone(&nudge),
        admission: Arc::clone(&admission),
        reads: Reads::new(),
        quarantine: quarantine.clone(),
        grace: Arc::clone(&grace),
        pause: pause.subscribe(),
        recorder: Arc::clone(telemetry.recorder()),
    };
    if let Some(catalog) = catalog {
        let (clock, patience) = (Arc::clone(&env.clock), configuration.retry_max_delay);
        let reader = Reader { catalog, table: Arc::clone(&table), clock, patience };
        runtime.handle().spawn(reader.run(stop.subscribe()));
    }
    let orphans_wanted = adopter.as_ref().map(|(adopter, _)| adopter.wanted());
    let (adoption, adopted) = match adopter {
        Some((_, adopted)) if is_disabled => (None, Some(adopted)),
        Some((adopter, adopted)) => {
            let closing = watch::Sender::new(false);
            let task = runtime.handle().spawn(adopter.run(closing.subscribe()));
            (Some(Adoption { closing, task }), Some(adopted))
        }
        None => (None, None),
    };
    let tasks = Tasks {
        lane: match is_disabled {
            true => runtime.handle().spawn(delivering.rest(stop.subscribe())),
            false => runtime.handle().spawn(delivering.run(stop.subscribe())),
        },
        settler: runtime.handle().spawn(settling.run()),
        adoption,
    };
    let (stored, clock) = (Arc::new(stored), Arc::clone(&env.clock));
    let pace = Arc::new(Pace::new(clock, Arc::clone(&stored), wal_written, settler.clone()));
    runtime.handle().spawn(Arc::clone(&pace).keep(stop.subscribe()));
    let inner = Arc::new_cyclic(|inner: &Weak<Inner>| {
        if let Ok(socket) = socket {
            runtime.handle().spawn(socket.serve(inner.clone(), stop.subscribe()));
        }
        Inner {
            settings: Settings::from(configuration),
            env,
            runtime,
            pid: std::process::id(),
            wal,
            epoch,
            destination,
            directory,
            damage: recovery.damage,
            ledger_damage,
            admission,
            stored,
            debug_files,
            drops_told: AtomicU64::new(record.dropped.last().get()),
            quarantine,
            quarantined_told: AtomicU64::new(record.quarantined.rows),
            table,
            checked: CheckedSchemas::new(configuration.transport, policies),
            telemetry,
            opened,
            lane,
            settler,
            pace,
            nudge,
            #[cfg(feature = "cli")]
            grace,
            pause,
            pause_mark: std::sync::Mutex::default(),
            principal,
            orphans_wanted,
            adopted,
            is_closed: AtomicBool::new(false),
            tasks: std::sync::Mutex::new(Some(tasks)),
            stop,
            stopped: watch::Sender::new(None),
        }
    });
    let (observed, clock) = (Arc::downgrade(&inner), Arc::clone(&inner.env.clock));
    let read: Arc<Read> = Arc::new(move || observed.upgrade().map(|inner| inner.reading()));
    inner.telemetry.observe(&read, &clock);
    Ok(inner)
}

/// Since when the delivery of this log is paused, if it is.
fn paused(env: &Env, directory: &Path) -> Result<Option<Pause>, OpenError> {
    let paused = pause::read(env, directory).map_err(|source| wal::OpenError::Storage {
        action: "read the mark of a pause in",
        path: directory.to_owned(),
        source,
    })?;
    if let Some(pause) = &paused {
        tracing::warn!(directory = %directory.display(), %pause, "nothing is sent from this log");
    }
    Ok(paused)
}

/// A secret that cannot be read now is a wrong setting; later it is a reason to try again.
fn check_secret_file(configuration: &WrapperConfiguration) -> Result<(), OpenError> {
    let Some(path) = &configuration.client_secret_file else { return Ok(()) };
    let allowed = |reason| format!("a file that holds the secret and that this process may read ({reason})");
    principal::read_secret(path)
        .map(drop)
        .map_err(|reason| invalid("client_secret_file", &path.display().to_string(), &allowed(reason)).into())
}

/// Files that are kept to be segments again: enough for a reclaim that frees a few at once, and never more
/// than a small part of the quota.
fn spare_segments(wal_max_bytes: u64, segment_bytes: u64) -> usize {
    (wal_max_bytes / 8 / segment_bytes).min(2) as usize
}

/// A log and what is known of it.
pub(super) struct OpenedLog {
    epoch: Epoch,
    pub(super) wal: Wal,
    pub(super) ledger: Ledger,
    pub(super) record: LedgerRecord,
    pub(super) ranges: Ranges,
    streams: Streams,
    cached_table: Option<CachedTable>,
    stored: Stored,
    recovery: Recovery,
    ledger_damage: Vec<String>,
    quarantine: Quarantine,
}

pub(super) fn open_log(
    env: &Env,
    locked: LogDirectory,
    options: WalOptions,
    table: &TableName,
    quarantine_max_bytes: u64,
    delivery: DeliveryGuarantee,
) -> Result<OpenedLog, OpenError> {
    let epoch = locked.epoch();
    let opened = Ledger::open(locked.path(), epoch)?;
    let ledger_damage = told_damage(&opened);
    let LedgerOpened {
        ledger,
        record,
        mut ranges,
        table: cached_table,
        streams,
        unsure,
        sent,
        log_durable,
        ..
    } = opened;
    let mut streams = streams.unwrap_or_else(|reason| {
        tracing::error!(reason, "which persistent stream was in use is not known; a new one is begun");
        Streams::default()
    });
    let source = quarantine::Source { table: table.clone(), epoch };
    let settled = record.settled.through;
    let quarantine = Quarantine::open(env, locked.path(), source, settled, quarantine_max_bytes)?;
    // [I12] A frame that went with a power cut can have rows in quarantine or in a request that was sent: no other frame
    // may have its number.
    let highest = record.settled.highest().max(ranges.highest()).max(quarantine.highest()).max(sent);
    let known = Known { highest, settled, durable: log_durable };
    let (wal, recovery) = Wal::open_knowing(env, locked, options, known)?;
    for damage in &recovery.damage {
        tracing::error!(%damage, "the log is damaged");
    }
    let record = reclaim::reconcile(record, &mut ranges, &wal, recovery.last, log_durable)?;
    let behind = wal.count_from(record.settled.through.next())?;
    let waiting = reclaim::waiting(behind, record.settled, &ranges);
    // [I6] Delivered, in quarantine, dropped or still in the log; a frame that is delivered in part stands in two counts.
    let frames = record.delivered_frames + record.quarantined.frames + record.dropped.frames + waiting.frames;
    let rows = record.delivered_rows + record.quarantined.rows + record.dropped.rows + waiting.rows;
    let stored = Stored::new(recovery.last, frames, rows);
    // What of it was delivered is not known.
    streams.doubtful_rows += match unsure {
        Unsure::Nothing => 0,
        Unsure::Rows(rows) => rows.min(waiting.rows),
        Unsure::Everything if delivery == DeliveryGuarantee::ExactlyOnce => waiting.rows,
        Unsure::Everything => 0,
    };
    Ok(OpenedLog {
        epoch,
        wal,
        ledger,
        record,
        ranges,
        streams,
        cached_table,
        stored,
        recovery,
        ledger_damage,
        quarantine,
    })
}

/// What is wrong with a ledger, once as an event and once for the status.
fn told_damage(opened: &LedgerOpened) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(damage) = &opened.damage {
        tracing::error!(%damage, "the ledger is damaged");
        told.push(damage.to_string());
    }
    if let Some(reason) = &opened.mark_damage {
        let path = opened.ledger.mark_path();
        let text = format!(
            "the mark of the ledger, {}, was damaged: {reason}; it is made anew, and whether the ledger itself was whole before nobody knows",
            path.display()
        );
        tracing::error!(path = %path.display(), reason, "the mark of the ledger was damaged");
        told.push(text);
    }
    told
}

/// A directory that cannot be written is a wrong setting, not a failing disk.
fn unusable(wal_dir: &Path, error: wal::OpenError) -> OpenError {
    use std::io::ErrorKind::{AlreadyExists, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    match &error {
        wal::OpenError::Storage { source, .. }
            if matches!(
                source.kind(),
                AlreadyExists | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem
            ) =>
        {
            let allowed = format!("a directory that this process may write ({})", chain(&error));
            invalid("wal_dir", &wal_dir.display().to_string(), &allowed).into()
        }
        _ => error.into(),
    }
}

impl From<&WrapperConfiguration> for Settings {
    fn from(configuration: &WrapperConfiguration) -> Settings {
        Settings {
            wait_for: configuration.wait_for,
            validate: configuration.validate,
            wal_max_bytes: configuration.wal_max_bytes,
            wal_min_free_bytes: configuration.wal_min_free_bytes,
            on_full: configuration.on_full,
            block_timeout: configuration.block_timeout,
            segment_limit: configuration.segment_limit(),
            retry_max_attempts: configuration.retry_max_attempts,
            shutdown_timeout: configuration.shutdown_timeout,
            retention: Retention::from(configuration),
            writer_disabled: configuration.writer_disabled,
        }
    }
}

impl From<&WrapperConfiguration> for Limits {
    fn from(configuration: &WrapperConfiguration) -> Limits {
        Limits {
            wal_max_bytes: configuration.wal_max_bytes,
            wal_min_free_bytes: configuration.wal_min_free_bytes,
            on_full: configuration.on_full,
            block_timeout: configuration.block_timeout,
        }
    }
}

impl From<&WrapperConfiguration> for Retention {
    fn from(configuration: &WrapperConfiguration) -> Retention {
        Retention { age_max: configuration.retain_delivered, bytes_max: configuration.retain_delivered_bytes }
    }
}

impl From<&WrapperConfiguration> for LaneSettings {
    fn from(configuration: &WrapperConfiguration) -> LaneSettings {
        LaneSettings {
            request_max_bytes: configuration.request_max_bytes,
            max_inflight_requests: configuration.max_inflight_requests,
            streams: configuration.streams,
            stream_max_age: configuration.stream_max_age,
            retry_base_delay: configuration.retry_base_delay,
            retry_max_delay: configuration.retry_max_delay,
            delivery: configuration.delivery,
        }
    }
}
