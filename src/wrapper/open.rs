//! Opening: the parts of one log, wired together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Notify, watch};

use super::append::{CheckedSchemas, Stored};
use super::runtime::SharedRuntime;
use super::shutdown::Tasks;
use super::{Inner, OpenError, Settings};
use crate::admin::socket::OwnerSocket;
use crate::admission::Admission;
use crate::config::{Validated, WrapperConfiguration, invalid, writer_directory};
use crate::drain::{Lane, LaneSettings, Settler, SettlerStatus};
use crate::error::chain;
use crate::io::Env;
use crate::ledger::{Ledger, LedgerOpened, LedgerRecord};
use crate::transport::zerobus::ZerobusTransport;
use crate::types::Lsn;
use crate::wal::{self, LogDirectory, ReadError, Wal, WalOptions};

pub(super) fn open(configuration: &WrapperConfiguration, env: Env) -> Result<Arc<Inner>, OpenError> {
    let validated = configuration.validate()?;
    let Validated { destination, credentials, wal_dir, segment_bytes } = validated;
    let runtime = SharedRuntime::get().map_err(OpenError::Runtime)?;
    let transport = {
        let _entered = runtime.handle().enter();
        ZerobusTransport::new(&destination, credentials, configuration.max_inflight_requests)?
    };
    let directory = writer_directory(&wal_dir, &destination.table);
    let locked =
        LogDirectory::open(&env, &directory, &destination).map_err(|error| unusable(&wal_dir, error))?;
    let epoch = locked.epoch();
    let LedgerOpened { ledger, mut record, set_aside } = Ledger::open(&directory, epoch)?;
    if let Some((path, reason)) = set_aside {
        tracing::error!(path = %path.display(), %reason, "the ledger was unreadable and is set aside; what was delivered and not reclaimed will be delivered again");
    }
    let options = WalOptions { segment_bytes, durability: configuration.durability };
    let (wal, recovery) = Wal::open(&env, locked, options, record.settled.through)?;
    for damage in &recovery.damage {
        tracing::error!(%damage, "the log is damaged");
    }
    if record == LedgerRecord::default() {
        // A ledger that knows nothing may have been lost; what was reclaimed by then was settled [I5].
        record.settled.through = wal.first().map_or(recovery.last, Lsn::previous);
    }
    let stored = stored_before(&wal, &record, recovery.last)?;

    let admission = Arc::new(Admission::new(wal.clone(), configuration.wal_max_bytes));
    let acknowledged = watch::Sender::new(record);
    let lane_status = Lane::new_status();
    let settler_status = watch::Sender::new(SettlerStatus { settled: record, ..SettlerStatus::default() });
    let nudge = Arc::new(Notify::new());
    let stop = watch::Sender::new(false);
    let (lane, settler) = (lane_status.subscribe(), settler_status.subscribe());
    let socket = OwnerSocket::bind(&directory)
        .map_err(|source| OpenError::Socket { directory: directory.clone(), source })?;
    let tasks = Tasks {
        settler: runtime.handle().spawn(
            Settler {
                ledger,
                wal: wal.clone(),
                admission: Arc::clone(&admission),
                acknowledged: acknowledged.subscribe(),
                status: settler_status,
            }
            .run(),
        ),
        lane: runtime.handle().spawn(
            Lane {
                wal: wal.clone(),
                transport: Box::new(transport),
                env: env.clone(),
                settings: LaneSettings {
                    request_max_bytes: configuration.request_max_bytes,
                    max_inflight_requests: configuration.max_inflight_requests,
                    stream_max_age: configuration.stream_max_age,
                    retry_base_delay: configuration.retry_base_delay,
                    retry_max_delay: configuration.retry_max_delay,
                },
                status: lane_status,
                acknowledged,
                nudge: Arc::clone(&nudge),
            }
            .run(stop.subscribe()),
        ),
    };
    Ok(Arc::new_cyclic(|inner| {
        runtime.handle().spawn(socket.serve(inner.clone(), stop.subscribe()));
        Inner {
            settings: Settings {
                wait_for: configuration.wait_for,
                wal_max_bytes: configuration.wal_max_bytes,
                retry_max_attempts: configuration.retry_max_attempts,
                shutdown_timeout: configuration.shutdown_timeout,
            },
            env,
            runtime,
            pid: std::process::id(),
            wal,
            epoch,
            destination,
            directory,
            damage: recovery.damage,
            admission,
            stored,
            plans: CheckedSchemas::default(),
            lane,
            settler,
            nudge,
            is_closed: AtomicBool::new(false),
            tasks: std::sync::Mutex::new(Some(tasks)),
            stop,
            stopped: watch::Sender::new(None),
        }
    }))
}

/// A directory that cannot be written is a wrong setting, not a failing disk.
fn unusable(wal_dir: &Path, error: wal::OpenError) -> OpenError {
    use std::io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match &error {
        wal::OpenError::Storage { source, .. }
            if matches!(
                source.kind(),
                AlreadyExists | NotADirectory | PermissionDenied | ReadOnlyFilesystem
            ) =>
        {
            let allowed = format!("a directory that this process may write ({})", chain(&error));
            invalid("wal_dir", &wal_dir.display().to_string(), &allowed).into()
        }
        _ => error.into(),
    }
}

/// What was stored before this start: delivered, or still in the log \[I6\].
fn stored_before(wal: &Wal, record: &LedgerRecord, last: Lsn) -> Result<Stored, ReadError> {
    let waiting = wal.count_from(record.settled.through.next())?;
    let frames = record.delivered_frames + waiting.frames;
    // A frame that is delivered in part stands in both counts.
    let rows = record.delivered_rows + waiting.rows - u64::from(record.settled.rows_of_next);
    Ok(Stored::new(last, frames, rows))
}
