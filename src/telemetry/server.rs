//! The port on which metrics and health are served. Wrappers of one process that name the same address share one server; it
//! goes with the last of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};

use super::Scraped;
use super::health::LogHealth;
use super::prometheus::{self, Page};

/// Who asks has this long to say what; a connection in use has it again for each request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Prometheus, a probe, and somebody who looks.
const CONNECTIONS_MAX: usize = 16;
/// After a failure to accept, as when there are no file descriptors.
const PAUSE: Duration = Duration::from_millis(200);
/// The server of wrappers that have just been dropped may need a moment to give its port back.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The servers of this process.
static SERVERS: Mutex<Option<HashMap<SocketAddr, Weak<Server>>>> = Mutex::new(None);

/// A server for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Server {
    logs: Arc<Logs>,
    stop: watch::Sender<bool>,
}

/// What is served: the logs of wrappers that live.
#[derive(Debug, Default)]
struct Logs(Mutex<Vec<Weak<Scraped>>>);

impl Logs {
    fn living(&self) -> Vec<Arc<Scraped>> {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|log| log.strong_count() > 0);
        logs.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Server {
    /// The server at this address, begun if no wrapper of this process has one.
    ///
    /// # Errors
    ///
    /// What the system says if the address cannot be had.
    pub(super) fn at(address: SocketAddr, runtime: &Handle) -> io::Result<Arc<Server>> {
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = servers.get_or_insert_with(HashMap::new);
        let known = servers.get(&address);
        if let Some(server) = known.and_then(Weak::upgrade) {
            return Ok(server);
        }
        let listener = listen(address, known.is_some())?;
        listener.set_nonblocking(true)?;
        let (logs, stop) = (Arc::new(Logs::default()), watch::Sender::new(false));
        let _entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        runtime.spawn(serve(listener, Arc::clone(&logs), stop.subscribe()));
        let server = Arc::new(Server { logs, stop });
        servers.insert(address, Arc::downgrade(&server));
        Ok(server)
    }

    pub(super) fn add(&self, log: &Arc<Scraped>) {
        self.logs.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(log));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[expect(clippy::disallowed_methods, reason = "a port is no part of a log")]
fn listen(address: SocketAddr, was_ours: bool) -> io::Result<std::net::TcpListener> {
    let deadline = Instant::now() + TAKEOVER_TIMEOUT;
    loop {
        match std::net::TcpListener::bind(address) {
            Err(error)
                if was_ours && error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            bound => return bound,
        }
    }
}

async fn serve(listener: TcpListener, logs: Arc<Logs>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            // An error means that the server is gone, which is the same.
            _ = stop.wait_for(|stop| *stop) => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        match accepted {
            (Ok((socket, _)), place) => {
                let logs = Arc::clone(&logs);
                connections.spawn(async move {
                    let _place = place;
                    converse(socket, logs).await;
                });
            }
            (Err(error), _) => {
                tracing::debug!(%error, "nobody can ask for metrics just now");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(socket: TcpStream, logs: Arc<Logs>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&logs)));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service);
    if let Err(error) = conversation.await {
        tracing::debug!(%error, "a connection to the port of metrics ended early");
    }
}

async fn answer(request: Request<Incoming>, logs: Arc<Logs>) -> Result<Response<Full<Bytes>>, Infallible> {
    let head_or_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.uri().path().to_owned();
    // Both read files.
    let answered = spawn_blocking(move || match path.as_str() {
        "/metrics" | "/healthz" if !head_or_get => {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refused
        }
        "/metrics" => metrics(&logs.living()),
        "/healthz" => health(&logs.living()),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
    });
    Ok(answered.await.unwrap_or_else(|error| {
        tracing::error!(%error, "metrics could not be read");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be read, the log says why\n")
    }))
}

fn metrics(logs: &[Arc<Scraped>]) -> Response<Full<Bytes>> {
    let mut page = Page::default();
    for log in logs {
        log.add_to(&mut page);
    }
    response(StatusCode::OK, prometheus::CONTENT_TYPE, page.text())
}

/// The answer of `/healthz`.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    logs: Vec<LogHealth>,
}

fn health(logs: &[Arc<Scraped>]) -> Response<Full<Bytes>> {
    let logs: Vec<LogHealth> = logs.iter().filter_map(|log| log.health()).collect();
    let is_healthy = logs.iter().all(|log| log.healthy);
    let (code, status) =
        if is_healthy { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unhealthy") };
    match serde_json::to_string(&Health { status, logs }) {
        Ok(json) => response(code, "application/json", json + "\n"),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

fn plain(code: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(code, "text/plain; charset=utf-8", text.to_owned())
}

fn response(code: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
