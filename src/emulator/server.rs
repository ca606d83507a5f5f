//! The life of an emulator: data directory, ports, servers, and the way down.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::StreamExt as _;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;

use super::catalog::Catalog;
use super::connection::{Acceptor, HttpListener};
use super::delta::DeltaEngine;
use super::faults::Faults;
use super::flight::FlightSide;
use super::http::{Context, router};
use super::opening::Service;
use super::store::create_directories;
use super::tls::{ClientFiles, ServerTls};
use super::token::Tokens;
use super::wire_format::zerobus_server::ZerobusServer;
use super::{EmulatorError, EmulatorOptions, control, ddl};
use crate::platform::threads::work_in_background;
use crate::types::TableName;

/// Files of the emulator itself; Delta tables stand three directories deep and never here.
const OWN_DIRECTORY: &str = "_emulator";
/// A message may hold 10 MiB of records and the framing around very small ones.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// HTTP/2 windows that keep one stream busy while a commit is on its way.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Connections that a client keeps open without a stream do not hold up the end longer than this.
const GRACE: Duration = Duration::from_secs(5);

/// Told to the starter once connections are taken.
pub(super) struct Ready {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) data_dir: PathBuf,
    pub(super) catalog: Arc<Catalog>,
    pub(super) faults: Arc<Faults>,
    pub(super) client_files: Option<ClientFiles>,
}

/// Runs an emulator until it is stopped.
pub(super) fn run(
    options: &EmulatorOptions,
    stop: watch::Receiver<bool>,
    ready: &Sender<Ready>,
) -> Result<(), EmulatorError> {
    let start = |source| EmulatorError::Start { source };
    let tables = requested_tables(options)?;
    let data_dir = data_directory(&options.data_dir)?;
    let own = data_dir.join(OWN_DIRECTORY);
    let _lock = lock(&own, &data_dir)?;
    let unusable = |source| EmulatorError::DataDirectory { path: data_dir.clone(), source };
    let tokens = Tokens::open(&own.join("token.key"), options.credentials.clone(), options.token_lifetime)
        .map_err(unusable)?;
    let tls = options.tls.as_ref().map(|tls| ServerTls::open(tls, &own)).transpose()?;
    let client_files = tls.as_ref().map(|tls| tls.client.clone());
    let grpc = listen(options.port)?;
    let http = listen(options.http_port)?;
    // A service on another machine takes no processor from its client for each packet that comes; nor does this one.
    let runtime = Builder::new_multi_thread()
        .thread_name("emulator")
        .on_thread_start(work_in_background)
        .enable_all()
        .build()
        .map_err(start)?;
    let unserved = |source| EmulatorError::Table { path: data_dir.clone(), source };
    let engine = DeltaEngine::new(runtime.handle().clone());
    let catalog =
        Arc::new(Catalog::open(&data_dir, engine, options.commit_interval, options.sink).map_err(unserved)?);
    for (name, columns) in &tables {
        catalog.create(name, columns).map_err(unserved)?;
    }
    let addresses = (grpc.local_addr().map_err(start)?, http.local_addr().map_err(start)?);
    let faults = Arc::new(Faults::default());
    let parts =
        Parts { tokens: Arc::new(tokens), catalog: Arc::clone(&catalog), faults: Arc::clone(&faults), tls };
    let servers = {
        let _context = runtime.enter();
        Servers::start(options, parts, (grpc, http), &stop).map_err(start)?
    };
    // A starter that has gone stops us through `stop`.
    let catalog_of_starter = Arc::clone(&catalog);
    let _ = ready.send(Ready {
        grpc: addresses.0,
        http: addresses.1,
        data_dir,
        catalog: catalog_of_starter,
        faults,
        client_files,
    });
    let end = runtime.block_on(servers.serve(stop));
    catalog.stop();
    runtime.shutdown_timeout(GRACE);
    end
}

fn requested_tables(
    options: &EmulatorOptions,
) -> Result<Vec<(TableName, delta_kernel::schema::StructType)>, EmulatorError> {
    let mut tables = Vec::new();
    for (name, columns) in &options.tables {
        let table: TableName = name.parse()?;
        let columns = ddl::parse_columns(columns)
            .map_err(|source| EmulatorError::Columns { table: table.clone(), source })?;
        tables.push((table, columns));
    }
    Ok(tables)
}

fn data_directory(path: &Path) -> Result<PathBuf, EmulatorError> {
    let unusable = |source| EmulatorError::DataDirectory { path: path.to_owned(), source };
    create_directories(path).map_err(unusable)?;
    let path = path.canonicalize().map_err(unusable)?;
    create_directories(&path.join(OWN_DIRECTORY)).map_err(unusable)?;
    Ok(path)
}

fn lock(own: &Path, data_dir: &Path) -> Result<File, EmulatorError> {
    let unusable = |source| EmulatorError::DataDirectory { path: data_dir.to_owned(), source };
    let file = File::options().create(true).append(true).open(own.join("lock")).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmulatorError::Locked { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

fn listen(port: u16) -> Result<StdTcpListener, EmulatorError> {
    let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, port));
    listener
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| EmulatorError::Listen { port, source })
}

/// What both servers work with.
struct Parts {
    tokens: Arc<Tokens>,
    catalog: Arc<Catalog>,
    faults: Arc<Faults>,
    tls: Option<ServerTls>,
}

struct Servers {
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
    http: JoinHandle<io::Result<()>>,
}

impl Servers {
    /// To be called on the runtime that serves.
    fn start(
        options: &EmulatorOptions,
        parts: Parts,
        (grpc, http): (StdTcpListener, StdTcpListener),
        stop: &watch::Receiver<bool>,
    ) -> io::Result<Servers> {
        let Parts { tokens, catalog, faults, tls } = parts;
        let (grpc_tls, http_tls) = tls.map(|tls| (tls.grpc, tls.http)).unzip();
        let service = Service {
            tokens: Arc::clone(&tokens),
            catalog: Arc::clone(&catalog),
            faults: Arc::clone(&faults),
            sink: options.sink,
            auto_create: options.auto_create,
            persistent_streams: options.persistent_streams,
            stop: stop.clone(),
        };
        let stopping = || {
            let mut stop = stop.clone();
            async move { stopped(&mut stop).await }
        };
        let acceptor = Acceptor { tls: grpc_tls, faults: Some(Arc::clone(&faults)), stop: stop.clone() };
        let incoming = acceptor.start(grpc)?.map(Ok::<_, io::Error>);
        let grpc = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(
                FlightServiceServer::new(FlightSide(service.clone()))
                    .max_decoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(ZerobusServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX))
            .serve_with_incoming_shutdown(incoming, stopping());
        let app = router(Context { tokens, catalog, faults: Arc::clone(&faults), stop: stop.clone() })
            .merge(control::router(faults));
        let address = http.local_addr()?;
        // Here rules are removed, so none breaks connections.
        let connections = Acceptor { tls: http_tls, faults: None, stop: stop.clone() }.start(http)?;
        let http = axum::serve(HttpListener { connections, address }, app).with_graceful_shutdown(stopping());
        Ok(Servers { grpc: tokio::spawn(grpc), http: tokio::spawn(http.into_future()) })
    }

    /// Serves until the streams have ended after a stop; a server that ends before one is a failure.
    async fn serve(self, mut stop: watch::Receiver<bool>) -> Result<(), EmulatorError> {
        let asked = stop.clone();
        let ended = |reason: String| match *asked.borrow() {
            true => Ok(()),
            false => Err(EmulatorError::Down { reason }),
        };
        let grpc = async { ended(format!("gRPC server: {:?}", self.grpc.await)) };
        let http = async { ended(format!("HTTP server: {:?}", self.http.await)) };
        let out_of_patience = async {
            stopped(&mut stop).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            end = async { tokio::try_join!(grpc, http) } => end.map(drop),
            () = out_of_patience => {
                tracing::warn!("connections were cut because their clients kept them open");
                Ok(())
            }
        }
    }
}

/// Ends when the emulator is stopped, or dropped by its owner.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone, which is a stop as well.
    let _ = stop.wait_for(|stopping| *stopping).await;
}
