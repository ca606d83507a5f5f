//! Opening: the parts of one log, wired together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use tokio::sync::{Notify, watch};

use super::append::Stored;
use super::check::CheckedSchemas;
use super::runtime::SharedRuntime;
use super::shutdown::Tasks;
use super::{Inner, OpenError, Settings};
use crate::admin::socket::OwnerSocket;
use crate::admission::{Admission, Limits};
use crate::catalog::{Catalog, KnownTable, Reader};
use crate::config::{DeliveryGuarantee, Validated, WrapperConfiguration, invalid, writer_directory};
use crate::convert::{Policies, TableSchema};
use crate::drain::{
    Grace, Lane, LaneSettings, Plans, Progress, Reads, Settler, SettlerStatus, TableToRemember,
};
use crate::error::chain;
use crate::http;
use crate::io::Env;
use crate::ledger::{CachedTable, Ledger, LedgerOpened, LedgerRecord, Ranges, RecordedStream, Streams};
use crate::principal::{self, Principal};
use crate::quarantine::{self, Quarantine};
use crate::reclaim::{self, Retention};
use crate::transport::zerobus::ZerobusTransport;
use crate::trust::Trust;
use crate::types::{Epoch, Lsn, TableName};
use crate::wal::{self, Damage, LogDirectory, Wal, WalOptions};

pub(super) fn open(configuration: &WrapperConfiguration, env: Env) -> Result<Arc<Inner>, OpenError> {
    let Validated { destination, credentials, wal_dir, segment_bytes } = configuration.validate()?;
    let runtime = SharedRuntime::get()?;
    let trust = Trust::read(configuration)?;
    check_secret_file(configuration)?;
    let http = http::client(&trust)?;
    let principal = credentials.map(|credentials| Arc::new(Principal::new(credentials)));
    let catalog = Catalog::new(http.clone(), &destination, principal.clone());
    let transport = {
        let _entered = runtime.handle().enter();
        let window = configuration.max_inflight_requests;
        let compression = configuration.compression.unwrap_or_default();
        ZerobusTransport::new(http, &destination, principal.clone(), &trust, window, compression)?
    };
    let directory = writer_directory(&wal_dir, &destination.table);
    let locked =
        LogDirectory::open(&env, &directory, &destination).map_err(|error| unusable(&wal_dir, error))?;
    let spare_segments = spare_segments(configuration.wal_max_bytes, segment_bytes);
    let options = WalOptions { segment_bytes, durability: configuration.durability, spare_segments };
    let max_bytes = configuration.quarantine_max_bytes;
    let OpenedLog { epoch, wal, ledger, record, ranges, streams, cached_table, stored, damage, quarantine } =
        open_log(&env, locked, options, &destination.table, max_bytes, configuration.delivery)?;
    // Without a socket, on a file system that has none, onlookers read the files.
    let socket = OwnerSocket::bind(&directory)
        .inspect_err(|error| tracing::warn!(%error, "nobody can ask this log for its status"));

    let limits = Limits::from(configuration);
    let runtime_handle = runtime.handle().clone();
    let admission = Arc::new(Admission::new(runtime_handle, &env, wal.clone(), directory.clone(), limits));
    let lane_status = Lane::new_status(&streams);
    let ranges = Arc::new(ranges);
    let settler_status = watch::Sender::new(SettlerStatus {
        settled: record,
        ranges: Arc::clone(&ranges),
        ..SettlerStatus::default()
    });
    let acknowledged = watch::Sender::new(Progress { record, ranges, streams: Arc::new(streams) });
    let nudge = Arc::new(Notify::new());
    let stop = watch::Sender::new(false);
    let (lane, settler) = (lane_status.subscribe(), settler_status.subscribe());
    let cached = cached_table.filter(|cached| cached.table == destination.table);
    let cached: Option<(TableSchema, i64)> = cached.map(|cached| (cached.schema, cached.read_unix_micros));
    let table = Arc::new(match &catalog {
        Some(_) => KnownTable::new(cached),
        None => KnownTable::without_catalog(cached),
    });
    let policies = Policies { timestamp_ns: configuration.timestamp_ns, null_list: configuration.null_list };
    let settling = Settler {
        env: env.clone(),
        ledger,
        wal: wal.clone(),
        admission: Arc::clone(&admission),
        retention: Retention::from(configuration),
        next_expiry: None,
        acknowledged: acknowledged.subscribe(),
        table: TableToRemember::new(destination.table.clone(), table.subscribe()),
        status: settler_status,
    };
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
        grace: Arc::new(Grace::new(configuration.schema_grace, configuration.retry_max_delay)),
    };
    if let Some(catalog) = catalog {
        let (clock, patience) = (Arc::clone(&env.clock), configuration.retry_max_delay);
        let reader = Reader { catalog, table: Arc::clone(&table), clock, patience };
        runtime.handle().spawn(reader.run(stop.subscribe()));
    }
    let tasks = Tasks {
        lane: runtime.handle().spawn(delivering.run(stop.subscribe())),
        settler: runtime.handle().spawn(settling.run()),
    };
    Ok(Arc::new_cyclic(|inner| {
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
            damage,
            admission,
            stored,
            drops_told: AtomicU64::new(record.dropped.last().get()),
            quarantine,
            quarantined_told: AtomicU64::new(record.quarantined.rows),
            table,
            checked: CheckedSchemas::new(configuration.transport, policies),
            lane,
            settler,
            nudge,
            principal,
            is_closed: AtomicBool::new(false),
            tasks: std::sync::Mutex::new(Some(tasks)),
            stop,
            stopped: watch::Sender::new(None),
        }
    }))
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
struct OpenedLog {
    epoch: Epoch,
    wal: Wal,
    ledger: Ledger,
    record: LedgerRecord,
    ranges: Ranges,
    streams: Streams,
    cached_table: Option<CachedTable>,
    stored: Stored,
    damage: Vec<Damage>,
    quarantine: Quarantine,
}

fn open_log(
    env: &Env,
    locked: LogDirectory,
    options: WalOptions,
    table: &TableName,
    quarantine_max_bytes: u64,
    delivery: DeliveryGuarantee,
) -> Result<OpenedLog, OpenError> {
    let epoch = locked.epoch();
    let opened = Ledger::open(locked.path(), epoch)?;
    let LedgerOpened { ledger, record, mut ranges, table: cached_table, streams, set_aside } = opened;
    let is_lost = set_aside.is_some() || streams.is_err();
    if let Some((path, reason)) = set_aside {
        tracing::error!(
            path = %path.display(),
            reason = chain(&reason),
            "the ledger was unreadable and is set aside; what was delivered and not reclaimed is delivered again"
        );
    }
    let mut streams = streams.unwrap_or_else(|reason| {
        tracing::error!(reason, "which persistent stream was in use is not known; a new one is begun");
        Streams::default()
    });
    let source = quarantine::Source { table: table.clone(), epoch };
    let settled = record.settled.through;
    let quarantine = Quarantine::open(env, locked.path(), source, settled, quarantine_max_bytes)?;
    // [I12] A frame that went with a power cut can have rows in quarantine or in a request that was sent: no other frame
    // may have its number.
    let recorded = streams.current.as_ref().map_or(Lsn::ZERO, RecordedStream::highest);
    let highest = record.settled.highest().max(ranges.highest()).max(quarantine.highest()).max(recorded);
    let (wal, recovery) = Wal::open(env, locked, options, highest)?;
    for damage in &recovery.damage {
        tracing::error!(%damage, "the log is damaged");
    }
    let record = reclaim::reconcile(record, &mut ranges, &wal, recovery.last)?;
    let behind = wal.count_from(record.settled.through.next())?;
    let waiting = reclaim::waiting(behind, record.settled, &ranges);
    // [I6] Delivered, in quarantine, dropped or still in the log; a frame that is delivered in part stands in two counts.
    let frames = record.delivered_frames + record.quarantined.frames + record.dropped.frames + waiting.frames;
    let rows = record.delivered_rows + record.quarantined.rows + record.dropped.rows + waiting.rows;
    let stored = Stored::new(recovery.last, frames, rows);
    if is_lost && delivery == DeliveryGuarantee::ExactlyOnce {
        // What of it was delivered is not known.
        streams.doubtful_rows += waiting.rows;
    }
    Ok(OpenedLog {
        epoch,
        wal,
        ledger,
        record,
        ranges,
        streams,
        cached_table,
        stored,
        damage: recovery.damage,
        quarantine,
    })
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
