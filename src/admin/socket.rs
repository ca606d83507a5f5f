//! The owner's socket: a live log answers questions about itself.
//!
//! One line of JSON in, one line out. Only the owner's user may connect.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::wrapper::{Inner, Status};

const FILE_NAME: &str = "owner.sock";
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// An owner that does not answer within this time is stopped or overloaded.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
enum Question {
    Status,
    Resume,
}

/// The listening end.
#[derive(Debug)]
pub(crate) struct OwnerSocket {
    listener: std::os::unix::net::UnixListener,
}

impl OwnerSocket {
    /// Listens in this writer directory. The caller owns its lock, so a socket that is there is a dead one's.
    pub(crate) fn bind(directory: &Path) -> io::Result<OwnerSocket> {
        let path = directory.join(FILE_NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let opened = File::open(directory)?;
        let listener = std::os::unix::net::UnixListener::bind(short_path(&opened))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(OwnerSocket { listener })
    }

    /// Answers until the wrapper is gone or stopped. The file stays: nobody answers there then, and the next
    /// owner replaces it, which may have happened already.
    pub(crate) async fn serve(self, inner: Weak<Inner>, mut stop: watch::Receiver<bool>) {
        let answered = async {
            let listener = UnixListener::from_std(self.listener)?;
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, or a client that went away: neither is the end.
                        tracing::debug!(%error, "a connection to the owner socket was not accepted");
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                        continue;
                    }
                };
                let inner = Weak::clone(&inner);
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(ANSWER_TIMEOUT, answer(stream, inner)).await;
                    if let Ok(Err(error)) = answered {
                        tracing::debug!(%error, "a question to the owner was not answered");
                    }
                });
            }
        };
        let ended: io::Result<()> = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            ended = answered => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the owner socket is closed");
        }
    }
}

async fn answer(stream: tokio::net::UnixStream, inner: Weak<Inner>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(reader.take(QUESTION_BYTES_MAX)).read_line(&mut line).await?;
    let question = serde_json::from_str(&line)?;
    let Some(inner) = inner.upgrade() else { return Ok(()) };
    if matches!(question, Question::Resume) {
        inner.resume();
    }
    // Counting reads the log.
    let status = spawn_blocking(move || inner.status()).await.map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&status)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

/// Asks the owner of a log for its status; `None` if nobody answers there.
pub(super) fn ask_status(directory: &Path) -> Option<Status> {
    ask(directory, &Question::Status)
}

/// Lets the owner of a log try to deliver now, and returns how the log stood then; `None` if nobody answers there.
pub fn resume(directory: &Path) -> Option<Status> {
    ask(directory, &Question::Resume)
}

fn ask(directory: &Path, question: &Question) -> Option<Status> {
    let ask = || -> io::Result<Status> {
        let opened = File::open(directory)?;
        let mut stream = UnixStream::connect(short_path(&opened))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let mut question = serde_json::to_vec(question)?;
        question.push(b'\n');
        stream.write_all(&question)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    ask().ok()
}

/// A socket's path may have 108 bytes, a writer directory's any number: go through the open directory.
fn short_path(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{FILE_NAME}", directory.as_raw_fd()))
}
