//! One table: error code → retryable → Python class → exit code of the command.
//!
//! Every operation has an error enum of its own; each of its variants points at a row of this table
//! through [`Coded`], so that Rust, Python, the command and the documentation say the same thing.

use crate::types::Lsn;

/// What kind of failure an error is, for programs that must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A setting is wrong.
    Configuration,
    /// The service or the token endpoint does not accept who we are or what we may do.
    Authentication,
    /// The service cannot be reached.
    Connection,
    /// A batch cannot become protobuf.
    Conversion,
    /// The service refuses rows, or the table; or frames were dropped, which a setting allows.
    Transmission,
    /// The attempts that the caller allowed have all failed; delivery goes on.
    RetryExhausted,
    /// The token endpoint gave no token.
    TokenRefresh,
    /// The time that the caller allowed for delivery is over; delivery goes on.
    FlushTimeout,
    /// The log is at its quota, or its disk is full, and the caller is not to wait, or not any longer.
    BufferFull,
    /// The batch is larger than a frame can be.
    BatchTooLarge,
    /// The disk or the file system failed.
    Storage,
    /// The log refuses appends after a failed write or sync.
    Poisoned,
    /// The log on disk is damaged.
    Corruption,
    /// Another process owns the writer directory.
    Locked,
    /// The wrapper was shut down.
    Closed,
    /// The wrapper belongs to the parent process.
    Forked,
    /// The stream of batches that the caller gave failed.
    Source,
    /// An argument of a call is of a wrong type.
    ArgumentType,
    /// Somebody has paused delivery; it goes on once somebody ends that.
    Paused,
    /// A bug of ours.
    Internal,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorInfo {
    /// Stable name, for logs and programs.
    pub name: &'static str,
    /// Whether the same call can succeed later without a change by the caller.
    pub retryable: bool,
    /// The exception of the Python package.
    pub python_class: &'static str,
    /// The exit code of `zerobus-wal`.
    pub exit_code: u8,
}

impl ErrorInfo {
    /// The page that says what to do about it, below `docs`. Its address is stable, as the name is.
    pub fn page(self) -> String {
        format!("operations/errors/{}.md", self.name)
    }
}

const fn row(name: &'static str, retryable: bool, python_class: &'static str, exit_code: u8) -> ErrorInfo {
    ErrorInfo { name, retryable, python_class, exit_code }
}

impl ErrorCode {
    /// Every code, in the order of the table.
    pub const ALL: [ErrorCode; 20] = [
        ErrorCode::Configuration,
        ErrorCode::Authentication,
        ErrorCode::Connection,
        ErrorCode::Conversion,
        ErrorCode::Transmission,
        ErrorCode::RetryExhausted,
        ErrorCode::TokenRefresh,
        ErrorCode::FlushTimeout,
        ErrorCode::BufferFull,
        ErrorCode::BatchTooLarge,
        ErrorCode::Storage,
        ErrorCode::Poisoned,
        ErrorCode::Corruption,
        ErrorCode::Locked,
        ErrorCode::Closed,
        ErrorCode::Forked,
        ErrorCode::Source,
        ErrorCode::ArgumentType,
        ErrorCode::Paused,
        ErrorCode::Internal,
    ];

    /// The row of this code. Exit code 1 is left to bugs and 2 to usage, as `clap` has it.
    pub const fn info(self) -> ErrorInfo {
        match self {
            ErrorCode::Configuration => row("configuration", false, "ConfigurationError", 2),
            ErrorCode::Authentication => row("authentication", false, "AuthenticationError", 10),
            ErrorCode::Connection => row("connection", true, "ConnectionError", 11),
            ErrorCode::Conversion => row("conversion", false, "ConversionError", 12),
            ErrorCode::Transmission => row("transmission", false, "TransmissionError", 13),
            ErrorCode::RetryExhausted => row("retry_exhausted", true, "RetryExhausted", 14),
            ErrorCode::TokenRefresh => row("token_refresh", true, "TokenRefreshError", 15),
            ErrorCode::FlushTimeout => row("flush_timeout", true, "FlushTimeoutError", 16),
            ErrorCode::BufferFull => row("buffer_full", true, "BufferFullError", 17),
            ErrorCode::BatchTooLarge => row("batch_too_large", false, "BatchTooLargeError", 18),
            ErrorCode::Storage => row("storage", false, "StorageError", 20),
            ErrorCode::Poisoned => row("poisoned", false, "PoisonedError", 21),
            ErrorCode::Corruption => row("corruption", false, "CorruptionError", 22),
            ErrorCode::Locked => row("locked", true, "LockedError", 23),
            ErrorCode::Closed => row("closed", false, "ClosedError", 24),
            ErrorCode::Forked => row("forked", false, "ForkedProcessError", 25),
            ErrorCode::Source => row("source", false, "SourceError", 26),
            ErrorCode::ArgumentType => row("argument_type", false, "ArgumentTypeError", 27),
            ErrorCode::Paused => row("paused", true, "PausedError", 28),
            ErrorCode::Internal => row("internal", false, "ZerobusError", 1),
        }
    }

    /// What happened, in a line.
    pub const fn meaning(self) -> &'static str {
        match self {
            ErrorCode::Configuration => "wrong usage: an option, a setting, or a directory without a log",
            ErrorCode::Authentication => "the service does not accept who we are or what we may do",
            ErrorCode::Connection => "the service cannot be reached",
            ErrorCode::Conversion => "rows cannot be converted for the table",
            ErrorCode::Transmission => "the service refuses rows, or rows were dropped",
            ErrorCode::RetryExhausted => "all attempts that were allowed have failed; nothing is lost",
            ErrorCode::TokenRefresh => "the token endpoint gave no token",
            ErrorCode::FlushTimeout => "the time that was allowed is over; nothing is lost",
            ErrorCode::BufferFull => "the log is at its quota, or its disk is full",
            ErrorCode::BatchTooLarge => "a batch is larger than a frame can be",
            ErrorCode::Storage => "the disk or the file system failed",
            ErrorCode::Poisoned => "the log refuses batches after a failed write or sync",
            ErrorCode::Corruption => "something on the disk is damaged",
            ErrorCode::Locked => "another process owns the log",
            ErrorCode::Paused => "somebody has paused the delivery of the log; resume it first",
            ErrorCode::Closed => "interrupted",
            ErrorCode::Forked => "the log belongs to a parent process",
            ErrorCode::Source => "what gives the batches failed",
            ErrorCode::ArgumentType => "an argument is of a wrong type",
            ErrorCode::Internal => "a bug of this program",
        }
    }
}

/// What `zerobus-wal status --check` ends with when a limit is violated.
pub const EXIT_VIOLATED: u8 = 3;

/// One way in which `zerobus-wal` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExitCode {
    /// The number.
    pub code: u8,
    /// Stable name, as in the table.
    pub name: &'static str,
    /// Whether the same call can succeed later without a change.
    pub retryable: bool,
    /// What happened.
    pub meaning: &'static str,
}

/// Every exit code of `zerobus-wal`, ascending.
pub fn exit_codes() -> Vec<ExitCode> {
    let exit = |code, name, meaning| ExitCode { code, name, retryable: false, meaning };
    let of_error = |code: ErrorCode| {
        let ErrorInfo { name, retryable, exit_code, .. } = code.info();
        ExitCode { code: exit_code, name, retryable, meaning: code.meaning() }
    };
    let mut codes = vec![
        exit(0, "ok", "done"),
        exit(EXIT_VIOLATED, "violated", "`status --check` found that a limit is violated"),
    ];
    codes.extend(ErrorCode::ALL.map(of_error));
    codes.sort_by_key(|code| code.code);
    codes
}

/// The code with this name.
pub fn code_of(name: &str) -> Option<ErrorCode> {
    ErrorCode::ALL.into_iter().find(|code| code.info().name == name)
}

/// An error that stands in the table.
pub trait Coded: std::error::Error {
    /// The row that says how to treat it.
    fn code(&self) -> ErrorCode;

    /// The frame that it is about, if there is one.
    fn lsn(&self) -> Option<Lsn> {
        None
    }

    /// The rows of that frame that were refused for good, if that is what it says; it may name some of many.
    fn refused_rows(&self) -> Option<&[u32]> {
        None
    }

    /// The setting that is wrong, if it is about one.
    fn setting(&self) -> Option<&'static str> {
        None
    }

    /// The column that does not fit, if that is what is wrong.
    fn misfit(&self) -> Option<Misfit> {
        None
    }
}

/// A column of a batch that does not fit into the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Its name; one inside of others is named by its path.
    pub column: String,
    /// Its type in the batch, if it is there.
    pub arrow_type: Option<String>,
    /// Its type in the table, if it is there and known.
    pub delta_type: Option<String>,
}

/// The message of an error with those of its sources, for whoever handles it: it is printed once, here.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Libraries often repeat their source's text in their own; say it once.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_exit_codes_are_unique() {
        let infos: Vec<ErrorInfo> = ErrorCode::ALL.iter().map(|code| code.info()).collect();
        assert_eq!(infos.iter().map(|i| i.name).collect::<HashSet<_>>().len(), infos.len());
        assert_eq!(infos.iter().map(|i| i.exit_code).collect::<HashSet<_>>().len(), infos.len());
        let exits = exit_codes();
        assert!(exits.is_sorted_by(|a, b| a.code < b.code), "two ways to end have one code: {exits:?}");
        assert_eq!(exits.len(), infos.len() + 2);
    }
}
