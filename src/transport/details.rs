//! The details of a gRPC status, `google.rpc`: how long the server wants us to wait, and the number of its error.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use prost_types::Any;
use tonic::Status;

/// What a server says to a busy client that shall stay away for a while, without saying for how long.
const BACK_OFF: &str = "6006";
/// How long that is.
const BACK_OFF_FOR: Duration = Duration::from_secs(60);

/// `google.rpc.Status`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Details {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) retry_delay: Option<prost_types::Duration>,
}

/// `google.rpc.ErrorInfo`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(string, tag = "2")]
    pub(crate) domain: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) metadata: HashMap<String, String>,
}

impl RetryInfo {
    pub(crate) const NAME: &str = "google.rpc.RetryInfo";
}

impl ErrorInfo {
    pub(crate) const NAME: &str = "google.rpc.ErrorInfo";
    /// Under this name the service tells the number of its error.
    pub(crate) const ERROR_CODE: &str = "error_code";
}

/// The wait that a status asks for: in its details, or in a header `retry-after`.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let details = Details::decode(status.details()).map(|details| details.details).unwrap_or_default();
    let asked = details.iter().find_map(|any| {
        let info: RetryInfo = decoded(any, RetryInfo::NAME)?;
        info.retry_delay?.try_into().ok()
    });
    let header = || {
        let seconds = status.metadata().get("retry-after")?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    };
    let by_number = || {
        let number = details.iter().find_map(|any| {
            let info: ErrorInfo = decoded(any, ErrorInfo::NAME)?;
            info.metadata.get(ErrorInfo::ERROR_CODE).cloned()
        });
        number.filter(|number| number == BACK_OFF).map(|_| BACK_OFF_FOR)
    };
    asked.or_else(header).or_else(by_number)
}

fn decoded<M: prost::Message + Default>(any: &Any, name: &str) -> Option<M> {
    let is_it = any.type_url.rsplit('/').next() == Some(name);
    is_it.then(|| M::decode(any.value.as_slice()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_wait_is_read_from_bytes_that_others_have_written() {
        // google.rpc.Status { code: 8, details: [Any { RetryInfo { retry_delay { seconds: 7 } } }] }
        let mut bytes = vec![0x08, 8, 0x1a, 0x2e + 2];
        bytes.extend([0x0a, 40]);
        bytes.extend(b"type.googleapis.com/google.rpc.RetryInfo");
        bytes.extend([0x12, 4, 0x0a, 2, 0x08, 7]);
        let status = Status::with_details(Code::ResourceExhausted, "busy", bytes.into());
        assert_eq!(retry_after(&status), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_header_is_a_wait_too_and_anything_else_is_none() {
        let mut status = Status::unavailable("later");
        assert_eq!(retry_after(&status), None);
        status.metadata_mut().insert("retry-after", "3".parse().unwrap());
        assert_eq!(retry_after(&status), Some(Duration::from_secs(3)));
        status.metadata_mut().insert("retry-after", "soon".parse().unwrap());
        assert_eq!(retry_after(&status), None);
        let garbage = Status::with_details(Code::Unavailable, "x", vec![0xff; 20].into());
        assert_eq!(retry_after(&garbage), None);
    }
}
