//! Which class an error of the client is, by type and gRPC code, never by its text.

use databricks_zerobus_ingest_sdk::ZerobusError;
use tonic::{Code, Status};

use crate::error::ErrorCode;
use crate::transport::{ErrorClass, TransportError};

/// The class and code of an error of the client crate. What we do not know is transient.
pub(super) fn classify(error: ZerobusError) -> TransportError {
    let (class, code) = match &error {
        ZerobusError::StreamClosedError(status) | ZerobusError::CreateStreamError(status) => {
            by_status(status)
        }
        ZerobusError::InvalidArgument(_) | ZerobusError::InvalidSchema { .. } => {
            (ErrorClass::Poison, ErrorCode::Transmission)
        }
        ZerobusError::InvalidUCTokenError(_) => (ErrorClass::Blocked, ErrorCode::Authentication),
        ZerobusError::InvalidZerobusEndpointError(_)
        | ZerobusError::InvalidTableName(_)
        | ZerobusError::InvalidUCEndpointError(_) => (ErrorClass::Blocked, ErrorCode::Configuration),
        ZerobusError::TokenFetchError(_) => (ErrorClass::Transient, ErrorCode::TokenRefresh),
        _ => (ErrorClass::Transient, ErrorCode::Connection),
    };
    TransportError { class, code, message: message(&error), retry_after: None }
}

fn by_status(status: &Status) -> (ErrorClass, ErrorCode) {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => (ErrorClass::Blocked, ErrorCode::Authentication),
        Code::NotFound | Code::Unimplemented => (ErrorClass::Blocked, ErrorCode::Transmission),
        Code::InvalidArgument | Code::OutOfRange => (ErrorClass::Poison, ErrorCode::Transmission),
        _ => (ErrorClass::Transient, ErrorCode::Connection),
    }
}

/// What the service said, without the dump of headers that a status prints.
fn message(error: &ZerobusError) -> String {
    match error {
        ZerobusError::CreateStreamError(status) => format!("the service refused a stream: {}", said(status)),
        ZerobusError::StreamClosedError(status) => format!("the service ended the stream: {}", said(status)),
        other => other.to_string(),
    }
}

fn said(status: &Status) -> String {
    let code = status.code();
    match status.message() {
        "" => format!("{code:?}"),
        text => format!("{code:?}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grpc_code_has_the_class_of_the_design() {
        use Code::*;
        let expect = |codes: &[Code], class| {
            for &code in codes {
                for error in [
                    ZerobusError::CreateStreamError(Status::new(code, "x")),
                    ZerobusError::StreamClosedError(Status::new(code, "x")),
                ] {
                    assert_eq!(classify(error).class, class, "{code:?}");
                }
            }
        };
        expect(
            &[
                Ok,
                Unavailable,
                DeadlineExceeded,
                ResourceExhausted,
                Aborted,
                Internal,
                Unknown,
                Cancelled,
                AlreadyExists,
                FailedPrecondition,
                DataLoss,
            ],
            ErrorClass::Transient,
        );
        expect(&[Unauthenticated, PermissionDenied, NotFound, Unimplemented], ErrorClass::Blocked);
        expect(&[InvalidArgument, OutOfRange], ErrorClass::Poison);
    }

    #[test]
    fn the_message_says_what_the_service_said() {
        let error = ZerobusError::CreateStreamError(Status::permission_denied("no MODIFY on a.b.c"));
        assert_eq!(
            classify(error).message,
            "the service refused a stream: PermissionDenied: no MODIFY on a.b.c"
        );
    }
}
