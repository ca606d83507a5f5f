//! The settings of the way to the service: as what the rows travel, how often they arrive, and how they are compressed.

use super::{ConfigError, WrapperConfiguration, invalid};
use crate::ledger::REQUESTS_MAX;

/// More streams than a service lets one client have are no help.
pub(super) const STREAMS_MAX: usize = 64;
/// So many requests may be in flight on all streams together, if there are several: the ledger names what is settled between
/// them.
const REQUESTS_OF_STREAMS_MAX: usize = 2_000;

/// As what the rows travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// Protobuf records on gRPC streams.
    #[default]
    Protobuf,
    /// Arrow batches on Arrow Flight streams.
    ArrowFlight,
}

/// How the bodies of Arrow batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: for a line that is faster than the processor.
    None,
    /// LZ4 frames: little work, some gain.
    Lz4,
    /// Zstandard: the smallest, and what a line over a distance wants.
    #[default]
    Zstd,
}

/// How often a row is in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryGuarantee {
    /// Once, and twice if it was sent and not acknowledged when something failed.
    #[default]
    AtLeastOnce,
    /// Once: over persistent streams, on which the service remembers what is committed. Only with
    /// [`TransportKind::Protobuf`].
    ExactlyOnce,
}

impl TransportKind {
    /// Every transport.
    pub const ALL: [TransportKind; 2] = [TransportKind::Protobuf, TransportKind::ArrowFlight];

    /// The name that settings have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TransportKind::Protobuf => "protobuf",
            TransportKind::ArrowFlight => "arrow_flight",
        }
    }
}

impl std::str::FromStr for TransportKind {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<TransportKind, ConfigError> {
        let named = TransportKind::ALL.into_iter().find(|transport| transport.as_str() == text);
        named.ok_or_else(|| invalid("transport", text, "protobuf or arrow_flight"))
    }
}

impl DeliveryGuarantee {
    /// Every guarantee.
    pub const ALL: [DeliveryGuarantee; 2] = [DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::ExactlyOnce];

    /// The name that settings have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryGuarantee::AtLeastOnce => "at_least_once",
            DeliveryGuarantee::ExactlyOnce => "exactly_once",
        }
    }
}

impl std::str::FromStr for DeliveryGuarantee {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<DeliveryGuarantee, ConfigError> {
        let named = DeliveryGuarantee::ALL.into_iter().find(|guarantee| guarantee.as_str() == text);
        named.ok_or_else(|| invalid("delivery", text, "at_least_once or exactly_once"))
    }
}

impl Compression {
    /// Every compression.
    pub const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    /// The name that settings have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl std::str::FromStr for Compression {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Compression, ConfigError> {
        let named = Compression::ALL.into_iter().find(|compression| compression.as_str() == text);
        named.ok_or_else(|| invalid("compression", text, "none, lz4 or zstd"))
    }
}

impl WrapperConfiguration {
    pub(super) fn check_transport(&self) -> Result<(), ConfigError> {
        if self.transport == TransportKind::ArrowFlight && self.delivery == DeliveryGuarantee::ExactlyOnce {
            let allowed = "at_least_once with transport=\"arrow_flight\", for the service remembers only streams of \
                           transport=\"protobuf\"";
            return Err(invalid("delivery", self.delivery.as_str(), allowed));
        }
        if self.delivery == DeliveryGuarantee::ExactlyOnce && self.max_inflight_requests > REQUESTS_MAX {
            // The ledger names each of them.
            let allowed = format!("at most {REQUESTS_MAX} with delivery=\"exactly_once\"");
            return Err(invalid("max_inflight_requests", &self.max_inflight_requests.to_string(), &allowed));
        }
        if self.streams > 1 && self.delivery == DeliveryGuarantee::ExactlyOnce {
            let allowed = "1 with delivery=\"exactly_once\": the offset up to which one persistent stream is committed \
                           says which rows are in the table, and rows of several would have no common order";
            return Err(invalid("streams", &self.streams.to_string(), allowed));
        }
        if self.streams > 1 && self.streams * self.max_inflight_requests > REQUESTS_OF_STREAMS_MAX {
            let most = REQUESTS_OF_STREAMS_MAX / self.streams;
            let allowed = format!("at most {most} with streams={}", self.streams);
            return Err(invalid("max_inflight_requests", &self.max_inflight_requests.to_string(), &allowed));
        }
        match (self.transport, self.compression) {
            (TransportKind::Protobuf, Some(compression)) => Err(invalid(
                "compression",
                compression.as_str(),
                "nothing with transport=\"protobuf\", for only transport=\"arrow_flight\" compresses",
            )),
            _ => Ok(()),
        }
    }
}
