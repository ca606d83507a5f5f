//! A local Zerobus in a process of its own, that acknowledges and keeps nothing.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::Result;

/// The table of all benchmarks.
pub const TABLE: &str = "main.default.benchmark";
/// Those of [`crate::conversion::readings`].
const COLUMNS: &str = "id BIGINT, ts TIMESTAMP, device STRING, value DOUBLE, payload STRING";
/// The service takes every client; it wants to see one.
pub const CLIENT: (&str, &str) = ("benchmark", "secret");

/// A running service; it ends with this value.
#[derive(Debug)]
pub struct Service {
    child: Child,
}

impl Service {
    /// Starts the service with the command `zerobus-wal`, at these ports; it takes connections when this returns.
    ///
    /// # Errors
    ///
    /// When the command cannot be run or says nothing.
    pub fn start(command: &str, ports: Ports, data_dir: &Path) -> Result<Service> {
        let mut words = command.split_whitespace();
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .args([
                "emulator",
                "--sink",
                "discard",
                "--exit-with-parent",
                "--table",
                &format!("{TABLE}={COLUMNS}"),
            ])
            .args(["--port", &ports.grpc.to_string(), "--http-port", &ports.http.to_string(), "--data-dir"])
            .arg(data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {command}: {error}"))?;
        let mut ready = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        let service = Service { child };
        if ready.is_empty() { Err(format!("{command} did not start").into()) } else { Ok(service) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It keeps nothing, so there is nothing to end cleanly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the service is; known before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For streams.
    pub grpc: u16,
    /// For tokens.
    pub http: u16,
}

impl Ports {
    /// Ports of this machine that nobody listens at.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn free() -> Result<Ports> {
        let listeners =
            [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        let [grpc, http] = listeners.map(|listener| listener.local_addr().map(|address| address.port()));
        Ok(Ports { grpc: grpc?, http: http? })
    }

    /// How clients name the service.
    pub fn endpoint(self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// How clients name the workspace.
    pub fn unity_catalog_url(self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }
}
