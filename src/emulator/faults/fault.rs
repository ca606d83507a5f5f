//! Every fault there is, and the occasion on which it strikes.

use std::time::Duration;

use prost::Message as _;
use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::condition::Condition;
use crate::transport::{Details, ErrorInfo, RetryInfo};

/// Something that the emulator does wrong. Times are in the unit that their names end with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// A connection to the gRPC port is reset as soon as it is made.
    RefuseConnection {},
    /// A connection to the gRPC port is made, and nothing is ever answered on it.
    HangConnection {},
    /// A connection to the gRPC port is reset once the client has sent so many bytes.
    ResetConnection {
        /// How many.
        after_bytes: u64,
    },
    /// A stream is asked for, and nothing is answered.
    HangOpen {},
    /// A stream is refused.
    FailOpen {
        /// With what.
        #[serde(flatten)]
        refusal: Refusal,
    },
    /// From this request on the stream takes everything and answers nothing.
    HangStream {},
    /// The stream ends at this request, which does not land. Those before it are committed and acknowledged.
    FailStream {
        /// With what; OK is a clean end.
        #[serde(flatten)]
        refusal: Refusal,
    },
    /// The stream says at this request that it will end, goes on for a while, and ends as one that is too old does:
    /// UNAVAILABLE, error 6002.
    CloseSignal {
        /// For how long it goes on.
        grace_ms: u64,
    },
    /// This request and those before it land; none is acknowledged any more, and the stream ends.
    DropAck {
        /// With a reset of the connection; else with UNAVAILABLE.
        #[serde(default)]
        reset: bool,
    },
    /// Of this batch only the first rows land and are acknowledged, and the stream ends with UNAVAILABLE. Arrow Flight only:
    /// a request of records lands as a whole.
    CutRequest {
        /// How many rows.
        rows: usize,
    },
    /// A request with such a record ends the stream with INVALID_ARGUMENT, which names neither the record nor the
    /// condition. None of its rows lands; the requests before it are committed and acknowledged.
    RejectRecords {
        /// Which records.
        #[serde(flatten)]
        condition: Condition,
    },
    /// The acknowledgement comes so much later than it could.
    DelayAcks {
        /// How much.
        delay_ms: u64,
    },
    /// From this acknowledgement on the stream goes on without any.
    WithholdAcks {},
    /// The token endpoint answers with this status.
    FailToken {
        /// The HTTP status.
        status: u16,
        /// For a header `Retry-After`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_secs: Option<u64>,
    },
    /// The token endpoint does not answer.
    HangToken {},
    /// The token is good for so long only.
    ExpireToken {
        /// How long.
        after_ms: u64,
        /// What the answer says instead, as if the token were revoked early; without it the truth.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claim_secs: Option<u64>,
    },
    /// The catalog answers with this status.
    FailCatalog {
        /// The HTTP status.
        status: u16,
        /// For a header `Retry-After`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_secs: Option<u64>,
    },
    /// The catalog does not answer.
    HangCatalog {},
}

/// When a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emulator) enum Occasion {
    Connection,
    Open,
    Request,
    Records,
    Ack,
    Token,
    Catalog,
}

impl Occasion {
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether it is known then which table it is about.
    pub(super) fn has_table(self) -> bool {
        !matches!(self, Occasion::Connection | Occasion::Token)
    }
}

impl Fault {
    pub(super) fn occasion(&self) -> Occasion {
        match self {
            Fault::RefuseConnection {} | Fault::HangConnection {} | Fault::ResetConnection { .. } => {
                Occasion::Connection
            }
            Fault::HangOpen {} | Fault::FailOpen { .. } => Occasion::Open,
            Fault::HangStream {}
            | Fault::FailStream { .. }
            | Fault::CloseSignal { .. }
            | Fault::DropAck { .. }
            | Fault::CutRequest { .. } => Occasion::Request,
            Fault::RejectRecords { .. } => Occasion::Records,
            Fault::DelayAcks { .. } | Fault::WithholdAcks {} => Occasion::Ack,
            Fault::FailToken { .. } | Fault::HangToken {} | Fault::ExpireToken { .. } => Occasion::Token,
            Fault::FailCatalog { .. } | Fault::HangCatalog {} => Occasion::Catalog,
        }
    }
}

/// A gRPC status that somebody asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its code, by name: `UNAVAILABLE`.
    #[serde(with = "code_name")]
    pub code: Code,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long the client shall wait, as `google.rpc.RetryInfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The number of the error, as `error_code` of `google.rpc.ErrorInfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u32>,
}

impl Refusal {
    /// A status with this code and nothing else.
    pub fn new(code: Code) -> Refusal {
        Refusal { code, message: None, retry_after_ms: None, error_code: None }
    }

    pub(in crate::emulator) fn status(&self) -> Status {
        let message = self.message.clone().unwrap_or_else(|| "asked for by a rule".to_owned());
        let message = if self.code == Code::Ok { String::new() } else { message };
        let mut details = Vec::new();
        if let Some(error_code) = self.error_code {
            details.push(any(ErrorInfo::NAME, &error_info(error_code)));
        }
        if let Some(delay_ms) = self.retry_after_ms {
            let retry_delay = Duration::from_millis(delay_ms).try_into().ok();
            details.push(any(RetryInfo::NAME, &RetryInfo { retry_delay }));
        }
        if details.is_empty() {
            return Status::new(self.code, message);
        }
        let details = Details { code: self.code as i32, message: message.clone(), details };
        let bytes = details.encode_to_vec().into();
        Status::with_details_and_metadata(self.code, message, bytes, MetadataMap::new())
    }
}

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn error_info(error_code: u32) -> ErrorInfo {
    ErrorInfo {
        reason: "ZEROBUS_ERROR".to_owned(),
        domain: "zerobus.databricks.com".to_owned(),
        metadata: [(ErrorInfo::ERROR_CODE.to_owned(), error_code.to_string())].into(),
    }
}

/// Codes by the names that gRPC has for them.
mod code_name {
    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use tonic::Code;

    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    pub(super) fn serialize<S: Serializer>(code: &Code, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(NAMES[*code as usize])
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Code, D::Error> {
        let name = String::deserialize(from)?;
        let number = NAMES.iter().position(|it| *it == name);
        let number = number.ok_or_else(|| {
            de::Error::custom(format!("{name:?} is no gRPC code, allowed are: {}", NAMES.join(", ")))
        })?;
        Ok(Code::from(number as i32))
    }
}
