//! A local Zerobus: the official clients talk to it, and rows land in real Delta tables on disk.
//!
//! ```text
//! client ─► http: token, catalog
//!        └► session: checks, decodes ─► writer of the table: collects ─► delta: commit, sync
//!                 ▲ acknowledgement ◄────────────────────────────────────────┘
//! ```
//!
//! An acknowledgement is sent only after the Delta commit that holds the rows is on the disk, so the
//! emulator may be killed at any moment and loses no acknowledged row.

#![expect(clippy::disallowed_methods, reason = "the emulator stands for a service elsewhere")]

mod acks;
mod catalog;
mod columns;
mod connection;
mod control;
mod ddl;
mod delta;
mod derive;
mod envelope;
pub mod faults;
mod flight;
mod format;
mod http;
mod json;
mod link;
mod opening;
mod persistent;
mod protobuf;
mod server;
mod session;
mod sql;
mod store;
mod tls;
mod token;
mod unity;
mod wire;
mod writer;

#[expect(unreachable_pub, reason = "generated code")]
mod wire_format {
    tonic::include_proto!("databricks.zerobus");
}

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use self::catalog::Catalog;
pub use self::catalog::TableError;
pub use self::ddl::DdlError;
pub use self::delta::DeltaError;
use self::faults::Faults;
pub use self::sql::SqlError;
use self::tls::ClientFiles;
pub use self::tls::{TlsFiles, TlsOptions};
pub use self::token::Credentials;
use crate::error::{Coded, ErrorCode};
use crate::types::{InvalidTableName, TableName};

/// What becomes of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sink {
    /// They land in Delta tables.
    #[default]
    Delta,
    /// They are acknowledged without being decoded or kept; for benchmarks.
    Discard,
}

/// How to run an emulator.
#[derive(Clone, Debug)]
pub struct EmulatorOptions {
    /// Where the tables are: `<data_dir>/<catalog>/<schema>/<table>`; made if it is missing.
    pub data_dir: PathBuf,
    /// The gRPC port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The HTTP port on 127.0.0.1; 0 takes a free one.
    pub http_port: u16,
    /// Tables to make, by name, with their columns as Delta DDL: `id BIGINT NOT NULL, name STRING`.
    pub tables: Vec<(String, String)>,
    /// Make a missing table from the descriptor of the first stream that names it.
    pub auto_create: bool,
    /// The one client that gets tokens; without it every client does.
    pub credentials: Option<Credentials>,
    /// How long rows wait for others before they are committed together.
    pub commit_interval: Duration,
    /// What becomes of the rows.
    pub sink: Sink,
    /// How long a token is good for.
    pub token_lifetime: Duration,
    /// Serve both ports over TLS.
    pub tls: Option<TlsOptions>,
    /// Have streams that outlive their connections; without, their calls are UNIMPLEMENTED as at an older service.
    pub persistent_streams: bool,
}

impl EmulatorOptions {
    /// Free ports, no tables, any client, a commit every 200 ms, tokens for an hour, persistent streams.
    pub fn new(data_dir: impl Into<PathBuf>) -> EmulatorOptions {
        EmulatorOptions {
            data_dir: data_dir.into(),
            port: 0,
            http_port: 0,
            tables: Vec::new(),
            auto_create: false,
            credentials: None,
            commit_interval: Duration::from_millis(200),
            sink: Sink::Delta,
            token_lifetime: Duration::from_secs(3600),
            tls: None,
            persistent_streams: true,
        }
    }
}

/// Why an emulator could not start or went down.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The data directory cannot be used.
    #[error("data directory {} cannot be used; choose one that you can write to", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Another emulator is at work there.
    #[error(
        "data directory {} belongs to another running emulator; stop it or choose another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The port cannot be listened on.
    #[error("cannot listen on 127.0.0.1:{port}; choose another port, or 0 for a free one")]
    Listen {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A table to make has a wrong name.
    #[error(transparent)]
    TableName(#[from] InvalidTableName),
    /// A table to make has wrong columns.
    #[error("table {table}")]
    Columns {
        /// The table.
        table: TableName,
        /// What is wrong, and where.
        source: DdlError,
    },
    /// A table cannot be served.
    #[error("cannot serve the tables in {}", path.display())]
    Table {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        source: TableError,
    },
    /// There are no certificates to serve TLS with.
    #[error("cannot serve TLS with {}: {reason}", path.display())]
    Tls {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gave no thread or runtime.
    #[error("cannot start the emulator")]
    Start {
        /// What the system said.
        source: io::Error,
    },
    /// A server ended on its own.
    #[error("the emulator went down: {reason}")]
    Down {
        /// What it said.
        reason: String,
    },
}

impl Coded for EmulatorError {
    fn code(&self) -> ErrorCode {
        match self {
            EmulatorError::DataDirectory { .. }
            | EmulatorError::Listen { .. }
            | EmulatorError::TableName(_)
            | EmulatorError::Columns { .. }
            | EmulatorError::Tls { .. }
            | EmulatorError::Table { source: TableError::Different { .. }, .. } => ErrorCode::Configuration,
            EmulatorError::Locked { .. } => ErrorCode::Locked,
            EmulatorError::Table { .. } => ErrorCode::Storage,
            EmulatorError::Start { .. } | EmulatorError::Down { .. } => ErrorCode::Internal,
        }
    }
}

/// A running emulator. It works on threads of its own, so it can be started with or without a runtime.
///
/// Dropping it is stopping it.
pub struct Emulator {
    endpoint: String,
    unity_catalog_url: String,
    data_dir: PathBuf,
    catalog: Arc<Catalog>,
    faults: Arc<Faults>,
    client_files: Option<ClientFiles>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), EmulatorError>>>,
}

impl Emulator {
    /// Starts an emulator; it takes connections when this returns.
    ///
    /// # Errors
    ///
    /// Settings that do not work: see [`EmulatorError`].
    pub fn start(options: EmulatorOptions) -> Result<Emulator, EmulatorError> {
        let (stop, stopping) = watch::channel(false);
        let (ready, started) = channel();
        let thread = std::thread::Builder::new()
            .name("zerobus-emulator".to_owned())
            .spawn(move || server::run(&options, stopping, &ready))
            .map_err(|source| EmulatorError::Start { source })?;
        match started.recv() {
            Ok(server::Ready { grpc, http, data_dir, catalog, faults, client_files }) => {
                let scheme = if client_files.is_some() { "https" } else { "http" };
                Ok(Emulator {
                    endpoint: format!("{scheme}://{grpc}"),
                    unity_catalog_url: format!("{scheme}://{http}"),
                    data_dir,
                    catalog,
                    faults,
                    client_files,
                    stop,
                    thread: Some(thread),
                })
            }
            // It ended before it was ready, so joining gives the reason.
            Err(_) => Err(join(thread).err().unwrap_or_else(|| EmulatorError::Down {
                reason: "it stopped before it was ready".to_owned(),
            })),
        }
    }

    /// Where the gRPC service is, as clients take it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where tokens and the catalog are, as clients take it.
    pub fn unity_catalog_url(&self) -> &str {
        &self.unity_catalog_url
    }

    /// The absolute path of the data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where a table is or will be.
    pub fn table_path(&self, table: &TableName) -> PathBuf {
        self.data_dir.join(table.parts().iter().collect::<PathBuf>())
    }

    /// What goes wrong on request.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The CA that clients must trust, as a PEM file; none without TLS.
    pub fn ca_certificate_file(&self) -> Option<&Path> {
        Some(&self.client_files.as_ref()?.ca_certificate)
    }

    /// Certificate and key of a client that this CA has signed; none without TLS or with a CA that is not its own.
    pub fn client_identity_files(&self) -> Option<(&Path, &Path)> {
        let (certificate, key) = self.client_files.as_ref()?.identity.as_ref()?;
        Some((certificate, key))
    }

    /// Runs a statement as a warehouse of the workspace would: `CREATE TABLE`, `DROP TABLE`, `ALTER TABLE … ADD COLUMNS`,
    /// `ALTER TABLE … ALTER COLUMN … DROP NOT NULL`, and `GRANT` and `REVOKE` of SELECT or MODIFY. Blocks until it is done.
    ///
    /// # Errors
    ///
    /// [`SqlError`]; then nothing was changed.
    pub fn sql(&self, statement: &str) -> Result<(), SqlError> {
        // On a thread of its own, because the caller's may drive a runtime.
        let ran = std::thread::scope(|scope| scope.spawn(|| sql::run(&self.catalog, statement)).join());
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Whether the servers have ended on their own.
    pub fn is_down(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes no more requests, commits and acknowledges those that came, ends the streams. Blocks until done.
    ///
    /// # Errors
    ///
    /// [`EmulatorError::Down`] if a server had ended on its own before.
    pub fn stop(mut self) -> Result<(), EmulatorError> {
        self.halt()
    }

    fn halt(&mut self) -> Result<(), EmulatorError> {
        self.stop.send_replace(true);
        self.thread.take().map_or(Ok(()), join)
    }
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator")
            .field("endpoint", &self.endpoint)
            .field("unity_catalog_url", &self.unity_catalog_url)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Err(error) = self.halt() {
            tracing::error!(error = crate::error::chain(&error), "emulator");
        }
    }
}

fn join(thread: JoinHandle<Result<(), EmulatorError>>) -> Result<(), EmulatorError> {
    thread.join().unwrap_or_else(|_| Err(EmulatorError::Down { reason: "its thread panicked".to_owned() }))
}
