//! The table of error classes: what went wrong, what to do about it, and its row in the table of errors.
//!
//! By type and code, never by the text of a message. What stands nowhere here is transient.

use reqwest::StatusCode;
use tonic::Code;

use super::ErrorClass;
use crate::error::ErrorCode;

/// What went wrong, as far as that decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symptom {
    /// The service refused a stream, or ended it.
    Grpc(Code),
    /// The token endpoint answered with this and no token.
    Token(StatusCode),
    /// The token endpoint did not answer, or with something that is no token.
    NoToken,
    /// The file with the secret cannot be read.
    SecretFile,
    /// One side does not trust the certificate of the other.
    Trust,
    /// There is no connection, or no answer in time.
    NoConnection,
    /// The client refuses what is to be sent.
    Unsendable,
    /// The client refuses a setting.
    Setting,
    /// The client refuses the token that it was given.
    BadToken,
}

impl Symptom {
    /// The row of the table.
    pub(crate) fn class(self) -> (ErrorClass, ErrorCode) {
        use ErrorClass::{Blocked, Poison, Transient};
        match self {
            Symptom::Grpc(code) => match code {
                Code::Unauthenticated | Code::PermissionDenied => (Blocked, ErrorCode::Authentication),
                Code::NotFound | Code::Unimplemented => (Blocked, ErrorCode::Transmission),
                Code::InvalidArgument | Code::OutOfRange => (Poison, ErrorCode::Transmission),
                Code::Ok
                | Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::AlreadyExists
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss => (Transient, ErrorCode::Connection),
            },
            Symptom::Token(status) => match status {
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                    (Transient, ErrorCode::TokenRefresh)
                }
                status if status.is_client_error() => (Blocked, ErrorCode::Authentication),
                // 5xx, and what no token endpoint says: some gateway does, and goes away again.
                _ => (Transient, ErrorCode::TokenRefresh),
            },
            Symptom::NoToken => (Transient, ErrorCode::TokenRefresh),
            Symptom::SecretFile => (Blocked, ErrorCode::Authentication),
            Symptom::Trust => (Blocked, ErrorCode::Connection),
            Symptom::NoConnection => (Transient, ErrorCode::Connection),
            Symptom::Unsendable => (Poison, ErrorCode::Transmission),
            Symptom::Setting => (Blocked, ErrorCode::Configuration),
            Symptom::BadToken => (Blocked, ErrorCode::Authentication),
        }
    }
}
