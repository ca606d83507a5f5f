//! What an error of the client crate is a symptom of, by its type and gRPC code. The table has its class.

use databricks_zerobus_ingest_sdk::{SchemaValidationCause, ZerobusError};
use tonic::Status;

use crate::transport::{Symptom, TransportError, retry_after};
use crate::trust;

/// The failure that an error of the client crate is.
pub(super) fn classify(error: ZerobusError) -> TransportError {
    let refused = |symptom| TransportError::of(symptom, message(&error));
    match &error {
        ZerobusError::StreamClosedError(status) | ZerobusError::CreateStreamError(status) => {
            by_status(status, message(&error))
        }
        ZerobusError::InvalidArgument(_) | ZerobusError::InvalidSchema { .. } => refused(Symptom::Unsendable),
        ZerobusError::InvalidUCTokenError(_) => refused(Symptom::BadToken),
        ZerobusError::InvalidZerobusEndpointError(_)
        | ZerobusError::InvalidTableName(_)
        | ZerobusError::InvalidUCEndpointError(_) => refused(Symptom::Setting),
        ZerobusError::TokenFetchError(_) => refused(Symptom::NoToken),
        _ => refused(Symptom::NoConnection),
    }
}

fn by_status(status: &Status, message: String) -> TransportError {
    // A status that the client made of a failed connection has what failed as its source.
    if let Some(refusal) = trust::refusal(status) {
        return TransportError::of(Symptom::Trust, format!("no connection to the service: {refusal}"));
    }
    let error = TransportError::of(Symptom::Grpc(status.code()), message);
    TransportError { retry_after: retry_after(status), ..error }
}

/// What the service said, without the dump of headers that a status prints.
fn message(error: &ZerobusError) -> String {
    match error {
        ZerobusError::CreateStreamError(status) => format!("the service refused a stream: {}", said(status)),
        ZerobusError::StreamClosedError(status) => format!("the service ended the stream: {}", said(status)),
        ZerobusError::InvalidSchema { message, causes, .. } => {
            let causes: Vec<String> = causes.iter().map(cause).collect();
            match causes.is_empty() {
                true => format!("the service refused the schema: {message}"),
                false => format!("the service refused the schema ({}): {message}", causes.join(", ")),
            }
        }
        other => other.to_string(),
    }
}

/// What does not fit, of a schema that the service refused.
fn cause(cause: &SchemaValidationCause) -> String {
    match cause {
        SchemaValidationCause::FieldNotInTable => "a field is not in the table".to_owned(),
        SchemaValidationCause::MissingRequiredColumn => "a NOT NULL column is missing".to_owned(),
        SchemaValidationCause::FieldOutOfOrder => "the fields are not in the order of the table".to_owned(),
        SchemaValidationCause::TypeIncompatible => "a type does not fit its column".to_owned(),
        SchemaValidationCause::FieldCountMismatch => "there are more or fewer fields than columns".to_owned(),
        SchemaValidationCause::Unknown(token) => token.clone(),
        other => format!("{other:?}"),
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
    use tonic::Code;

    use super::*;
    use crate::transport::ErrorClass;

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
