//! The owner's socket where the system has none: nobody listens, and whoever asks is told so.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Weak;

use tokio::sync::watch;

use super::protocol::{Answer, AskError, Question};
use crate::io::Env;
use crate::wal;
use crate::wrapper::{Inner, Status};

/// The listening end.
#[derive(Debug)]
pub(crate) enum OwnerSocket {}

impl OwnerSocket {
    pub(crate) fn bind(_directory: &Path) -> Result<OwnerSocket> {
        let reason = "this system has no sockets that only the user of a log may ask";
        Err(Error::new(ErrorKind::Unsupported, reason))
    }

    pub(crate) async fn serve(self, _inner: Weak<Inner>, _stop: watch::Receiver<bool>) {
        match self {}
    }
}

/// The status of a log as its owner says.
pub(super) fn status(directory: &Path) -> std::result::Result<Status, AskError> {
    Err(not_listening(directory))
}

/// Asks the owner of a log; what it does not know or refuses is an error.
pub(super) fn ask(directory: &Path, _question: &Question) -> std::result::Result<Answer, AskError> {
    Err(not_listening(directory))
}

/// An answer to another question than the one that was asked.
pub(super) fn unexpected(directory: &Path, answer: &Answer) -> AskError {
    let source = Error::other(format!("the answer is to another question: {answer:?}"));
    AskError::Broken { directory: directory.to_owned(), source }
}

fn not_listening(directory: &Path) -> AskError {
    let directory = directory.to_owned();
    match wal::owner(&Env::os(), &directory).ok().flatten() {
        Some(owner) => AskError::NotListening { directory, pid: owner.pid },
        None => AskError::NoOwner { directory },
    }
}
