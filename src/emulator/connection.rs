//! Connections that come in: taken, broken where a rule says so, and wrapped in TLS where that is wanted.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::channel::mpsc;
use futures::task::AtomicWaker;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::faults::{Fault, Faults, Occasion};
use super::server::stopped;

/// Connections that were taken and that no server has asked for yet.
const WAITING_MAX: usize = 64;
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// A client that does not finish its handshake is gone.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How connections to one port are taken.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) tls: Option<TlsAcceptor>,
    /// The rules that may break them; none where the rules themselves are changed.
    pub(super) faults: Option<Arc<Faults>>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Acceptor {
    /// Takes connections until the emulator stops. To be called on a runtime.
    pub(super) fn start(self, listener: StdTcpListener) -> io::Result<mpsc::Receiver<Connection>> {
        let listener = TcpListener::from_std(listener)?;
        let (taken, connections) = mpsc::channel(WAITING_MAX);
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped(&mut stop) => {}
                () = self.accept(&listener, &taken) => {}
            }
        });
        Ok(connections)
    }

    async fn accept(&self, listener: &TcpListener, taken: &mpsc::Sender<Connection>) {
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                // Out of descriptors, or a client that went away: neither is the end.
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            };
            let mut taken = taken.clone();
            let acceptor = self.clone();
            // A handshake that takes long keeps nobody else waiting.
            tokio::spawn(async move {
                if let Some(connection) = acceptor.prepare(tcp).await {
                    // A server that has gone takes no more.
                    let _ = taken.send(connection).await;
                }
            });
        }
    }

    async fn prepare(mut self, tcp: TcpStream) -> Option<Connection> {
        // An answer that waits for more to say is late.
        tcp.set_nodelay(true).ok()?;
        let mut socket = Socket { tcp, cut: Arc::default(), bytes_left: None };
        match self.faults.as_ref().and_then(|faults| faults.strike(Occasion::Connection, None)) {
            Some(Fault::RefuseConnection {}) => {
                socket.reset();
                return None;
            }
            Some(Fault::HangConnection {}) => {
                tokio::select! {
                    () = stopped(&mut self.stop) => {}
                    () = drain(&mut socket.tcp) => {}
                }
                return None;
            }
            Some(Fault::ResetConnection { after_bytes }) => socket.bytes_left = Some(after_bytes),
            _ => {}
        }
        match self.tls {
            None => Some(Connection::Plain(socket)),
            Some(tls) => {
                let cut = Cutter(Arc::clone(&socket.cut));
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await;
                // A client that does not trust us says so and goes; that is its own business.
                let stream = handshake.ok()?.inspect_err(|error| tracing::debug!(%error, "TLS")).ok()?;
                Some(Connection::Tls(Box::new(stream), cut))
            }
        }
    }
}

/// Reads until the client goes.
async fn drain(tcp: &mut TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while matches!(tcp.read(&mut buffer).await, Ok(1..)) {}
}

/// Resets a connection from outside.
#[derive(Clone, Debug)]
pub(super) struct Cutter(Arc<Cut>);

#[derive(Debug, Default)]
struct Cut {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

impl Cutter {
    pub(super) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.reader.wake();
    }
}

/// A TCP connection that can be made to fail.
pub(super) struct Socket {
    tcp: TcpStream,
    cut: Arc<Cut>,
    /// How much more is read before it is reset.
    bytes_left: Option<u64>,
}

impl Socket {
    /// The other side gets a reset, and not a proper end, when this is dropped.
    fn reset(&self) -> io::Error {
        if let Err(error) = self.tcp.set_zero_linger() {
            tracing::debug!(%error, "a connection is closed instead of reset");
        }
        io::ErrorKind::ConnectionReset.into()
    }

    fn check(&self) -> io::Result<()> {
        let is_over = self.bytes_left == Some(0) || self.cut.is_cut.load(Ordering::Acquire);
        if is_over { Err(self.reset()) } else { Ok(()) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut.reader.register(context.waker());
        self.check()?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        if let Some(left) = &mut self.bytes_left {
            *left = left.saturating_sub(read);
            self.check()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// A connection as the servers take it.
pub(super) enum Connection {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>, Cutter),
}

impl Connected for Connection {
    type ConnectInfo = Cutter;

    fn connect_info(&self) -> Cutter {
        match self {
            Connection::Plain(socket) => Cutter(Arc::clone(&socket.cut)),
            Connection::Tls(_, cutter) => cutter.clone(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Connection::Tls(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Connection::Tls(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(socket) => Pin::new(socket).poll_write_vectored(context, bytes),
            Connection::Tls(stream, _) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Plain(socket) => socket.is_write_vectored(),
            Connection::Tls(stream, _) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(socket) => Pin::new(socket).poll_flush(context),
            Connection::Tls(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Connection::Tls(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The connections of the HTTP port, in the form that its server wants.
pub(super) struct HttpListener {
    pub(super) connections: mpsc::Receiver<Connection>,
    pub(super) address: SocketAddr,
}

impl axum::serve::Listener for HttpListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.next().await {
            Some(connection) => (connection, self.address),
            // The emulator stops, and with it the server that asks.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
