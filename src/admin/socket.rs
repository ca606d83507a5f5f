//! The owner's socket: where a live log answers, and how others ask it. What they say is in `protocol.rs`.
//!
//! Only the user of the owner, and root, may ask; and only a socket of the log's user is asked.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::protocol::{ANSWER_TIMEOUT, Answer, Answered, AskError, Asked, Named, PROTOCOL_VERSION, Question};
use crate::error::ErrorCode;
use crate::io::Env;
use crate::wal;
use crate::wrapper::{Inner, Status};

const FILE_NAME: &str = "owner.sock";
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// A status with very many names is far shorter.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

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
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let opened = File::open(directory)?;
        let listener = std::os::unix::net::UnixListener::bind(short_path(directory, &opened))?;
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

/// Whether this user may ask an owner that this process is.
fn may_ask(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

async fn answer(stream: tokio::net::UnixStream, inner: Weak<Inner>) -> io::Result<()> {
    // Until its mode was set, others may have been able to connect.
    let asks = stream.peer_cred()?.uid();
    if !may_ask(asks) {
        return Err(io::Error::new(ErrorKind::PermissionDenied, format!("user {asks} may not ask")));
    }
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(reader.take(QUESTION_BYTES_MAX)).read_line(&mut line).await?;
    let named: Named = serde_json::from_str(&line)?;
    let Some(inner) = inner.upgrade() else { return Ok(()) };
    let answer = match serde_json::from_str::<Asked<Question>>(&line) {
        // It counts what is in the log, or writes to the disk.
        Ok(Asked { question, .. }) => {
            spawn_blocking(move || done(&inner, &question)).await.map_err(io::Error::other)?
        }
        Err(error) => {
            tracing::debug!(question = named.question, %error, "a question to the owner is not known");
            Answer::NotKnown
        }
    };
    let mut text = match (named.protocol, answer) {
        (0, Answer::Status { status }) => serde_json::to_vec(&status)?,
        (_, answer) => serde_json::to_vec(&Answered {
            protocol: PROTOCOL_VERSION,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            answer,
        })?,
    };
    text.push(b'\n');
    writer.write_all(&text).await
}

/// Does what is asked.
fn done(inner: &Inner, question: &Question) -> Answer {
    let status = || Box::new(inner.status());
    let refused = |error: io::Error| Answer::Refused {
        code: ErrorCode::Storage.info().name.to_owned(),
        reason: error.to_string(),
    };
    match question {
        Question::Status => Answer::Status { status: status() },
        Question::Resume => {
            let status = status();
            inner.resume().map_or_else(refused, |()| Answer::Status { status })
        }
        Question::Pause { reason } => {
            let status = status();
            let paused = inner.pause(reason.as_deref());
            paused.map_or_else(refused, |pause| Answer::Paused { pause, status })
        }
        Question::Reclaim { executes } => {
            inner.free_settled(*executes).map_or_else(refused, |freeing| Answer::Reclaimed { freeing })
        }
        Question::Adopt if inner.look_for_orphans() => Answer::Looks,
        Question::Adopt => Answer::Refused {
            code: ErrorCode::Configuration.info().name.to_owned(),
            reason: "it delivers this log only, and adopts none".to_owned(),
        },
    }
}

/// The status of a log as its owner says.
pub(super) fn status(directory: &Path) -> Result<Status, AskError> {
    match ask(directory, &Question::Status)? {
        Answer::Status { status } => Ok(*status),
        other => Err(unexpected(directory, &other)),
    }
}

/// Asks the owner of a log; what it does not know or refuses is an error.
pub(super) fn ask(directory: &Path, question: &Question) -> Result<Answer, AskError> {
    let owner = || wal::owner_as_far_as_known(&Env::os(), directory).map(|owner| owner.pid);
    let no_owner = || AskError::NoOwner { directory: directory.to_owned() };
    let line = match converse(directory, question) {
        Ok(line) => line,
        Err(Broken::Untrusted(reason)) => {
            return Err(AskError::Untrusted { directory: directory.to_owned(), reason });
        }
        Err(Broken::Io(error)) => {
            // Nobody listens where nobody is.
            let Some(pid) = owner() else { return Err(no_owner()) };
            let directory = directory.to_owned();
            return Err(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    AskError::NotListening { directory, pid }
                }
                ErrorKind::WouldBlock | ErrorKind::TimedOut => AskError::Silent { directory, pid },
                _ => AskError::Broken { directory, source: error },
            });
        }
    };
    let not_known = |pid, version| AskError::NotKnown {
        directory: directory.to_owned(),
        pid,
        question: question.name(),
        version,
    };
    if line.is_empty() {
        // A program before the versions hangs up on what it does not know; one that ends does so too.
        let Some(pid) = owner() else { return Err(no_owner()) };
        return Err(match question {
            Question::Status | Question::Resume => {
                AskError::NotListening { directory: directory.to_owned(), pid }
            }
            _ => not_known(pid, "an older version, or ends just now".to_owned()),
        });
    }
    let broken =
        |error: serde_json::Error| AskError::Broken { directory: directory.to_owned(), source: error.into() };
    let text: serde_json::Value = serde_json::from_str(&line).map_err(broken)?;
    if text.get("answer").is_none() {
        let status = serde_json::from_value(text).map_err(broken)?;
        return Ok(Answer::Status { status });
    }
    let Answered { program_version, answer, .. } = serde_json::from_value(text).map_err(broken)?;
    let pid = || owner().unwrap_or_default();
    match answer {
        Answer::NotKnown => Err(not_known(pid(), format!("version {program_version}"))),
        Answer::Refused { code, reason } => Err(AskError::Refused {
            directory: directory.to_owned(),
            pid: pid(),
            question: question.name(),
            code,
            reason,
        }),
        answer => Ok(answer),
    }
}

/// An answer to another question than the one that was asked.
pub(super) fn unexpected(directory: &Path, answer: &Answer) -> AskError {
    let source = io::Error::other(format!("the answer is to another question: {answer:?}"));
    AskError::Broken { directory: directory.to_owned(), source }
}

/// Why there is no answer.
enum Broken {
    Untrusted(String),
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Io(error)
    }
}

/// One line there, one line back. An empty one means that the other side hung up.
fn converse(directory: &Path, question: &Question) -> Result<String, Broken> {
    let opened = File::open(directory)?;
    let path = short_path(directory, &opened);
    let file = fs::symlink_metadata(&path)?;
    if file.mode() & 0o077 != 0 {
        let reason = format!("others than its user may connect to it (mode {:o})", file.mode() & 0o777);
        return Err(Broken::Untrusted(reason));
    }
    // Only who may write into the directory can put a socket there, and it is his. The numbers of files are compared with each
    // other and not with that of the process: where a mount shows files as another user's, they still agree.
    let (user, user_of_log) = (file.uid(), opened.metadata()?.uid());
    if user != user_of_log && user != 0 {
        let reason = format!("it is user {user}'s, and the log is user {user_of_log}'s");
        return Err(Broken::Untrusted(reason));
    }
    let mut stream = UnixStream::connect(&path)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut text =
        serde_json::to_vec(&Asked { protocol: PROTOCOL_VERSION, question }).map_err(io::Error::from)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    match BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(String::new()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(line),
    }
}

/// A socket's path may have 108 bytes, a writer directory's any number: go through the open directory, where the system
/// has a name for that.
fn short_path(directory: &Path, opened: &File) -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from(format!("/proc/self/fd/{}/{FILE_NAME}", opened.as_raw_fd()));
    }
    directory.join(FILE_NAME)
}
