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

/// A running service; it ends with this value.
#[derive(Debug)]
pub struct Service {
    child: Child,
}

impl Service {
    /// Starts the service with the command `zerobus-wal`, at this port; it takes connections when this returns.
    ///
    /// # Errors
    ///
    /// When the command cannot be run or says nothing.
    pub fn start(command: &str, port: u16, data_dir: &Path) -> Result<Service> {
        let mut words = command.split_whitespace();
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .args(["emulator", "--sink", "discard", "--auto-create", "--exit-with-parent", "--port"])
            .arg(port.to_string())
            .arg("--data-dir")
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

/// A port of this machine that nobody listens at.
///
/// # Errors
///
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// How clients name the service at this port.
pub fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
