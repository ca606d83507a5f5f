//! What a live log and those who ask it say to each other: questions, answers, and why there is none.
//!
//! One line of JSON in, one line out. The question says which version of this protocol asks; an answer says which version
//! of the program gives it. Programs before the protocol had versions sent no version and got a bare status: they still
//! do, and what they answer is understood.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Coded, ErrorCode};
use crate::pause::Pause;
use crate::wrapper::{Freeing, Status};

/// The version of the protocol.
pub(super) const PROTOCOL_VERSION: u32 = 2;
/// An owner that does not answer within this time is stopped or overloaded.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What somebody asks of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
pub(crate) enum Question {
    /// How the log stands.
    Status,
    /// End a pause, and try to deliver now.
    Resume,
    /// Send nothing more.
    Pause {
        #[serde(default)]
        reason: Option<String>,
    },
    /// Free what is settled, or say what that would be.
    Reclaim { executes: bool },
    /// Look for logs of the dead now.
    Adopt,
}

impl Question {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Question::Status => "status",
            Question::Resume => "resume",
            Question::Pause { .. } => "pause",
            Question::Reclaim { .. } => "reclaim",
            Question::Adopt => "adopt",
        }
    }
}

/// A question as it is sent. The first programs knew nothing but the question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked<Q> {
    #[serde(default)]
    pub(super) protocol: u32,
    #[serde(flatten)]
    pub(super) question: Q,
}

/// Which question it is, if nothing else of it is understood.
#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    pub(super) protocol: u32,
    pub(super) question: String,
}

/// What an owner says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// How the log stood before it did what was asked.
    Status { status: Box<Status> },
    /// Delivery is paused; how the log stood before.
    Paused { pause: Pause, status: Box<Status> },
    /// What was freed, or would be.
    Reclaimed { freeing: Freeing },
    /// It looks for logs of the dead.
    Looks,
    /// It is a question that this program does not know.
    NotKnown,
    /// It did not do it.
    Refused { code: String, reason: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) protocol: u32,
    /// Of the program that answers.
    pub(super) program_version: String,
    #[serde(flatten)]
    pub(super) answer: Answer,
}

/// Why the owner of a log has not done what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody owns the log.
    #[error(
        "nobody owns the log in {directory}; start the program, or: zerobus-wal drain {directory}",
        directory = .directory.display()
    )]
    NoOwner {
        /// The writer directory.
        directory: PathBuf,
    },
    /// A process owns the log, and does not listen.
    #[error(
        "process {pid} owns the log in {directory} and listens to nobody: it starts or ends just now, or its file \
         system has no sockets; try again, or restart it",
        directory = .directory.display()
    )]
    NotListening {
        /// The writer directory.
        directory: PathBuf,
        /// The owner.
        pid: u32,
    },
    /// The owner has not answered in time.
    #[error(
        "process {pid}, which owns the log in {directory}, has not answered within {} s: it is stopped or overloaded; \
         look at it, or restart it",
        ANSWER_TIMEOUT.as_secs(),
        directory = .directory.display()
    )]
    Silent {
        /// The writer directory.
        directory: PathBuf,
        /// The owner.
        pid: u32,
    },
    /// The program of the owner is another version.
    #[error(
        "process {pid}, which owns the log in {directory}, does not know {question:?}: it is {version}; update it, or \
         stop it and ask again",
        directory = .directory.display()
    )]
    NotKnown {
        /// The writer directory.
        directory: PathBuf,
        /// The owner.
        pid: u32,
        /// What was asked.
        question: &'static str,
        /// The owner's version.
        version: String,
    },
    /// The owner could not do it.
    #[error("process {pid}, which owns the log in {directory}, could not {question}: {reason}", directory = .directory.display())]
    Refused {
        /// The writer directory.
        directory: PathBuf,
        /// The owner.
        pid: u32,
        /// What was asked.
        question: &'static str,
        /// The name of its error in the table.
        code: String,
        /// Why not.
        reason: String,
    },
    /// Who listens there may not be the owner.
    #[error("the socket in {directory} is not asked: {reason}", directory = .directory.display())]
    Untrusted {
        /// The writer directory.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The conversation broke off.
    #[error("the owner of the log in {directory} cannot be asked", directory = .directory.display())]
    Broken {
        /// The writer directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl AskError {
    /// Whether this user may not connect to the owner's socket. That says nothing about the owner.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, AskError::Broken { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }
}

impl Coded for AskError {
    fn code(&self) -> ErrorCode {
        match self {
            AskError::NoOwner { .. } | AskError::NotKnown { .. } | AskError::Untrusted { .. } => {
                ErrorCode::Configuration
            }
            AskError::NotListening { .. } | AskError::Silent { .. } => ErrorCode::Locked,
            AskError::Refused { code, .. } => {
                let named = ErrorCode::ALL.into_iter().find(|known| known.info().name == code);
                named.unwrap_or(ErrorCode::Storage)
            }
            AskError::Broken { .. } => ErrorCode::Storage,
        }
    }
}
