//! What a wrapper can be told, with the defaults, and what of it is refused.

mod access;
mod bounds;
mod debug;
mod file;
mod observability;
mod parse;
mod registry;
mod setting;
mod sources;
mod transport;
#[cfg(test)]
mod page;
#[cfg(test)]
mod sources_tests;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::convert::{NullList, TimestampNs};
use crate::error::{Coded, ErrorCode};
use crate::types::TableName;
use crate::wal::{Destination, Durability};
use crate::wrapper::table_directory;
use transport::STREAMS_MAX;

pub(crate) use access::{Credentials, Secret, check_client_id, check_client_secret};
pub use bounds::OnFull;
pub use observability::{LogExport, OtlpProtocol};
pub(crate) use observability::{headers, resource_attributes};
#[cfg(feature = "cli")]
pub(crate) use parse::{a_time, seconds};
pub use registry::{SETTINGS, setting};
pub use setting::{Kind, Setting, VARIABLE_PREFIX, Value, WrongKind};
pub use sources::{Origin, Resolved, Sources};
pub use transport::{Compression, DeliveryGuarantee, TransportKind};

const MIB: u64 = 1024 * 1024;

/// The smallest quota: below it, a segment would hold less than a batch of ordinary size.
pub const WAL_BYTES_MIN: u64 = MIB;
/// The smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// The largest request that the service takes, framing included, as the client crate counts it.
pub const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024 - 64 * 1024;

/// The longest time that a setting can name: more than a century.
const SECONDS_MAX: u128 = u32::MAX as u128;

/// When `send_batch` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// When the batch is durable in the log.
    Stored,
    /// When the service has acknowledged the batch.
    Delivered,
}

/// Whether `send_batch` refuses a batch that can never be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    /// It does, by the schema of the batch: against the table's columns if they are known, else against what any table
    /// can have.
    Strict,
    /// Everything is stored, and delivery finds out.
    Off,
}

impl std::str::FromStr for Validate {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Validate, ConfigError> {
        match text {
            "strict" => Ok(Validate::Strict),
            "off" => Ok(Validate::Off),
            _ => Err(invalid("validate", text, "strict or off")),
        }
    }
}

/// Everything a [`ZerobusWrapper`](crate::ZerobusWrapper) is opened with.
///
/// [`WrapperConfiguration::new`] fills in the defaults; change the fields that you need.
#[derive(Clone, Debug)]
pub struct WrapperConfiguration {
    /// Zerobus endpoint; `https://` is added when the scheme is missing. `http://` means no TLS.
    pub endpoint: String,
    /// Target table, `catalog.schema.table`.
    pub table_name: String,
    /// OAuth client id of the service principal.
    pub client_id: Option<String>,
    /// OAuth client secret of the service principal.
    pub client_secret: Option<SecretString>,
    /// A file with the secret, instead of `client_secret`. It is read whenever a token is fetched.
    pub client_secret_file: Option<PathBuf>,
    /// Workspace URL, where tokens and the table's columns come from. Default: the endpoint, unless that is a Zerobus host.
    pub unity_catalog_url: Option<String>,
    /// A PEM file with the CAs that are trusted besides those of the system, for streams, tokens and the catalog.
    pub ca_certificate_file: Option<PathBuf>,
    /// A PEM file with the certificate that we show, where the other side asks for one; with `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    pub client_key_file: Option<PathBuf>,
    /// URL of an HTTP proxy for everything, `http://host:port`. Default: the one of the environment.
    pub proxy: Option<String>,
    /// Root of all logs. Default: `$XDG_STATE_HOME/arrow-zerobus`.
    pub wal_dir: Option<PathBuf>,
    /// Whether a wrapper is refused while another one of this table and `wal_dir` lives. Otherwise it takes a log of its
    /// own beside it.
    pub exclusive: bool,
    /// What an append must survive before `send_batch` returns.
    pub durability: Durability,
    /// When `send_batch` returns.
    pub wait_for: WaitFor,
    /// Whether `send_batch` refuses a batch that can never be delivered.
    pub validate: Validate,
    /// What becomes of timestamps in nanoseconds, for the service counts in microseconds.
    pub timestamp_ns: TimestampNs,
    /// What becomes of null lists and maps, for a record has no difference between them and empty ones.
    pub null_list: NullList,
    /// Size of a segment in bytes; a batch must fit into one.
    pub segment_bytes: u64,
    /// Quota of the log in bytes. At the quota the log is full.
    pub wal_max_bytes: u64,
    /// Bytes that are left free on the file system of the log. A log whose file system has less is full too. To
    /// be set lower on a file system that is hardly larger than this; 0 lets the log take everything.
    pub wal_min_free_bytes: u64,
    /// What `send_batch` does when the log is full.
    pub on_full: OnFull,
    /// How long `send_batch` waits before a full log, with [`OnFull::Block`]; `None` waits for ever.
    pub block_timeout: Option<Duration>,
    /// How old settled segments become before they are freed, counted from their last append.
    ///
    /// This and `retain_delivered_bytes` are ceilings, and the lower one counts. Zero is no ceiling if the
    /// other is given, and frees at once if neither is. A full log frees what it retains before anything else.
    pub retain_delivered: Duration,
    /// How many bytes of settled segments are kept; see `retain_delivered`.
    pub retain_delivered_bytes: u64,
    /// How long a schema that the table refuses is waited for, so that an `ALTER TABLE` can catch up; after that the
    /// frames of that schema are put into quarantine.
    pub schema_grace: Duration,
    /// How many bytes there may be in quarantine. When refused rows do not fit they stay in the log, and with them what is
    /// behind them. 0 puts nothing into quarantine.
    pub quarantine_max_bytes: u64,
    /// As what the rows travel.
    pub transport: TransportKind,
    /// How often a row is in the table, when something failed on the way.
    pub delivery: DeliveryGuarantee,
    /// How the bodies of Arrow batches are compressed; by default [`Compression::Zstd`]. Only with
    /// [`TransportKind::ArrowFlight`].
    pub compression: Option<Compression>,
    /// Largest request in bytes, framing included. Arrow batches are at most 2 MiB, whatever this says, and are counted
    /// before they are compressed.
    pub request_max_bytes: usize,
    /// How many requests may be sent and not acknowledged. Memory and duplicates grow with it.
    pub max_inflight_requests: usize,
    /// How many streams deliver at the same time, at most. With more than one, rows arrive in no order, and memory and
    /// duplicates are those of so many windows. Only with [`DeliveryGuarantee::AtLeastOnce`].
    pub streams: usize,
    /// Age at which a stream is replaced, before the service ends it.
    pub stream_max_age: Duration,
    /// How many attempts in a row may fail before `flush` gives up waiting. Delivery never gives up.
    pub retry_max_attempts: u32,
    /// Shortest upper bound of the random wait between two attempts.
    pub retry_base_delay: Duration,
    /// Longest upper bound of the random wait between two attempts; also how often a refused lane probes.
    pub retry_max_delay: Duration,
    /// How long `shutdown` goes on delivering.
    pub shutdown_timeout: Duration,
    /// Whether each batch that was stored is written into debug files too, below `debug_output_dir`. They are no part
    /// of what is promised: what they cannot take is left out.
    pub debug_enabled: bool,
    /// Where the debug files go; needed for `debug_enabled`.
    pub debug_output_dir: Option<PathBuf>,
    /// How old a batch is, at most, before it stands in the debug files.
    pub debug_flush_interval: Duration,
    /// A debug file that would become larger, in bytes, is rotated; `None` sets no limit.
    pub debug_max_file_size: Option<u64>,
    /// How many rotated debug files of each kind are kept of this table.
    pub debug_max_files_retained: usize,
    /// Whether there is a debug file of Arrow batches.
    pub debug_arrow_enabled: bool,
    /// Whether there is a debug file of protobuf records.
    pub debug_protobuf_enabled: bool,
    /// Whether nothing is delivered: batches are stored and written into the debug files, and no network is touched.
    pub writer_disabled: bool,
    /// Whether metrics, spans and log records are exported over OTLP.
    pub observability_enabled: bool,
    /// Where to, `http://host[:port]`. Default: `OTEL_EXPORTER_OTLP_ENDPOINT`, else the global providers.
    pub observability_endpoint: Option<String>,
    /// How they travel. Default: `OTEL_EXPORTER_OTLP_PROTOCOL`, else [`OtlpProtocol::Grpc`].
    pub observability_protocol: Option<OtlpProtocol>,
    /// Headers of each export, `name=value` with commas between them.
    pub observability_headers: Option<SecretString>,
    /// `service.name`. Default: `OTEL_SERVICE_NAME`, else `arrow-zerobus`.
    pub observability_service_name: Option<String>,
    /// Attributes of the resource, `name=value` with commas between them.
    pub observability_resource_attributes: Option<String>,
    /// Of which level on what is logged is exported, if there is an endpoint.
    pub observability_logs: LogExport,
    /// How often metrics are exported.
    pub observability_interval: Duration,
    /// A port on which metrics are served for Prometheus, and the health of the log.
    pub metrics_port: Option<u16>,
    /// The IP address that it listens at. Default: 127.0.0.1.
    pub metrics_address: Option<String>,
}

impl WrapperConfiguration {
    /// The defaults, for this table at this endpoint.
    pub fn new(endpoint: impl Into<String>, table_name: impl Into<String>) -> WrapperConfiguration {
        WrapperConfiguration {
            endpoint: endpoint.into(),
            table_name: table_name.into(),
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            unity_catalog_url: None,
            ca_certificate_file: None,
            client_certificate_file: None,
            client_key_file: None,
            proxy: None,
            wal_dir: None,
            exclusive: false,
            durability: Durability::Sync,
            wait_for: WaitFor::Stored,
            validate: Validate::Strict,
            timestamp_ns: TimestampNs::Floor,
            null_list: NullList::Empty,
            segment_bytes: 64 * MIB,
            wal_max_bytes: 8 * 1024 * MIB,
            wal_min_free_bytes: 512 * MIB,
            on_full: OnFull::Block,
            block_timeout: None,
            retain_delivered: Duration::ZERO,
            retain_delivered_bytes: 0,
            schema_grace: Duration::from_secs(300),
            quarantine_max_bytes: 1024 * MIB,
            transport: TransportKind::Protobuf,
            delivery: DeliveryGuarantee::AtLeastOnce,
            compression: None,
            request_max_bytes: 1_000_000,
            max_inflight_requests: 16,
            streams: 1,
            stream_max_age: Duration::from_secs(600),
            retry_max_attempts: 5,
            retry_base_delay: Duration::from_millis(100),
            retry_max_delay: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(30),
            debug_enabled: false,
            debug_output_dir: None,
            debug_flush_interval: Duration::from_secs(5),
            debug_max_file_size: None,
            debug_max_files_retained: 10,
            debug_arrow_enabled: true,
            debug_protobuf_enabled: true,
            writer_disabled: false,
            observability_enabled: false,
            observability_endpoint: None,
            observability_protocol: None,
            observability_headers: None,
            observability_service_name: None,
            observability_resource_attributes: None,
            observability_logs: LogExport::Info,
            observability_interval: Duration::from_secs(60),
            metrics_port: None,
            metrics_address: None,
        }
    }

    /// Checks every setting, without touching disk or network, and puts them into the form that the
    /// parts use.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that is wrong, its value and what is allowed.
    pub fn validate(&self) -> Result<Validated, ConfigError> {
        let table: TableName = self.table_name.parse().map_err(|_| {
            invalid(
                "table_name",
                &self.table_name,
                "three parts, catalog.schema.table, of ASCII letters, digits and underscores",
            )
        })?;
        let endpoint = service_url("endpoint", &self.endpoint)?;
        // Who delivers nothing shows nobody who he is.
        let credentials = if self.writer_disabled { None } else { self.credentials(&endpoint)? };
        let unity_catalog_url = self.resolved_unity_catalog_url(&endpoint, credentials.is_some())?;
        self.check_access()?;
        self.check_numbers()?;
        self.check_bounds()?;
        self.check_transport()?;
        self.check_debug()?;
        self.check_observability()?;
        let wal_dir = match &self.wal_dir {
            Some(dir) if dir.as_os_str().is_empty() => {
                return Err(invalid("wal_dir", "", "a directory that this process may write"));
            }
            Some(dir) => dir.clone(),
            None => default_wal_dir()?,
        };
        let directory = table_directory(&wal_dir, &table);
        if !directory.components().all(|part| is_file_name(part.as_os_str())) {
            let allowed = "a path whose parts have at most 255 bytes each, and no NUL";
            return Err(match is_file_name(table.as_str().as_ref()) {
                true => invalid("wal_dir", &wal_dir.display().to_string(), allowed),
                false => invalid("table_name", table.as_str(), "at most 255 bytes"),
            });
        }
        Ok(Validated {
            destination: Destination { table, endpoint, unity_catalog_url },
            credentials,
            wal_dir,
            segment_bytes: self.effective_segment_bytes(),
        })
    }

    fn resolved_unity_catalog_url(
        &self,
        endpoint: &str,
        needs_token: bool,
    ) -> Result<Option<String>, ConfigError> {
        match &self.unity_catalog_url {
            Some(url) => service_url("unity_catalog_url", url).map(Some),
            None if !needs_token => Ok(None),
            // A workspace URL serves both; the host of the service itself hands out no tokens.
            None if !endpoint.contains(".zerobus.") => Ok(Some(endpoint.to_owned())),
            None => Err(ConfigError::Missing {
                setting: "unity_catalog_url",
                needed_for: "tokens: give the URL of the workspace",
            }),
        }
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let at_least = |setting, value: u128, least: u128, unit: &str| {
            if value >= least {
                Ok(())
            } else {
                Err(invalid(setting, &value.to_string(), &format!("at least {least}{unit}")))
            }
        };
        let between = |setting, value: u128, least: u128, most: u128, unit: &str| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(invalid(setting, &value.to_string(), &format!("{least} to {most}{unit}")))
            }
        };
        at_least("segment_bytes", self.segment_bytes.into(), SEGMENT_BYTES_MIN.into(), " bytes")?;
        if self.segment_bytes > u32::MAX.into() {
            return Err(invalid(
                "segment_bytes",
                &self.segment_bytes.to_string(),
                "at most 4294967295 bytes",
            ));
        }
        at_least("request_max_bytes", self.request_max_bytes as u128, 1024, " bytes")?;
        if self.request_max_bytes > REQUEST_BYTES_MAX {
            let allowed = format!("at most {REQUEST_BYTES_MAX} bytes, the limit of the service");
            return Err(invalid("request_max_bytes", &self.request_max_bytes.to_string(), &allowed));
        }
        between("max_inflight_requests", self.max_inflight_requests as u128, 1, 10_000, "")?;
        between("streams", self.streams as u128, 1, STREAMS_MAX as u128, "")?;
        between("stream_max_age_secs", self.stream_max_age.as_secs().into(), 1, SECONDS_MAX, " s")?;
        at_least("retry_max_attempts", self.retry_max_attempts.into(), 1, "")?;
        at_least("retry_base_delay_ms", self.retry_base_delay.as_millis(), 1, " ms")?;
        between("retry_max_delay_ms", self.retry_max_delay.as_millis(), 1, SECONDS_MAX * 1000, " ms")?;
        between("shutdown_timeout_secs", self.shutdown_timeout.as_secs().into(), 0, SECONDS_MAX, " s")?;
        if self.retry_max_delay < self.retry_base_delay {
            let allowed = format!("at least retry_base_delay_ms, {} ms", self.retry_base_delay.as_millis());
            return Err(invalid(
                "retry_max_delay_ms",
                &self.retry_max_delay.as_millis().to_string(),
                &allowed,
            ));
        }
        if let Durability::Interval(interval) = self.durability {
            between("sync_interval_ms", interval.as_millis(), 1, SECONDS_MAX * 1000, " ms")?;
        }
        Ok(())
    }
}

/// The settings in the form that the parts use; only [`WrapperConfiguration::validate`] makes one.
#[derive(Clone, Debug)]
pub struct Validated {
    pub(crate) destination: Destination,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) wal_dir: PathBuf,
    pub(crate) segment_bytes: u64,
}

/// A setting that is wrong. Nothing was created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The value is not allowed.
    #[error("{setting} is {value:?}, allowed is: {allowed}")]
    Invalid {
        /// Name of the setting.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A setting without a default was not given.
    #[error("{setting} is missing, it is needed for {needed_for}")]
    Missing {
        /// Name of the setting.
        setting: &'static str,
        /// Why it is needed.
        needed_for: &'static str,
    },
    /// No source gives a setting that every wrapper needs.
    #[error("{setting} is missing: give it as an argument, in the environment as {variables}, or in a file")]
    Required {
        /// Name of the setting.
        setting: &'static str,
        /// Its variables in the environment.
        variables: String,
    },
    /// No setting has this name.
    #[error("{name} in {place} is no setting, {hint}")]
    Unknown {
        /// What was given.
        name: String,
        /// Where it stands.
        place: String,
        /// The name that was meant, or those that there are.
        hint: String,
    },
    /// A file of settings cannot be read.
    #[error("the settings in {path} cannot be read: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A value is wrong that came from the environment or a file.
    #[error("{error}; it was set {origin}")]
    Set {
        /// What is wrong with it.
        error: Box<ConfigError>,
        /// Where it came from.
        origin: String,
    },
}

impl Coded for ConfigError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Configuration
    }

    fn setting(&self) -> Option<&'static str> {
        match self {
            ConfigError::Invalid { setting, .. }
            | ConfigError::Missing { setting, .. }
            | ConfigError::Required { setting, .. } => Some(setting),
            ConfigError::Set { error, .. } => error.setting(),
            ConfigError::Unknown { .. } | ConfigError::File { .. } => None,
        }
    }
}

pub(crate) fn invalid(setting: &'static str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Invalid { setting, value: value.to_owned(), allowed: allowed.to_owned() }
}

fn is_file_name(name: &OsStr) -> bool {
    name.len() <= 255 && !name.as_encoded_bytes().contains(&0)
}

fn service_url(setting: &'static str, given: &str) -> Result<String, ConfigError> {
    const ALLOWED: &str = "a URL of the form https://host[:port]";
    let with_scheme = if given.contains("://") { given.to_owned() } else { format!("https://{given}") };
    // What stands before an @ is a user name and perhaps a password [I9].
    let shown = if given.contains('@') { "(hidden)" } else { given };
    let url = url::Url::parse(&with_scheme).map_err(|_| invalid(setting, shown, ALLOWED))?;
    let is_origin = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    // A password in a URL would end up in the log's identity file [I9].
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(setting, shown, "a URL without a user name or password in it"));
    }
    if !is_origin {
        return Err(invalid(setting, shown, ALLOWED));
    }
    Ok(with_scheme.trim_end_matches('/').to_owned())
}

/// `$XDG_STATE_HOME/arrow-zerobus`, where the XDG base directory specification puts such data.
pub(crate) fn default_wal_dir() -> Result<PathBuf, ConfigError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("arrow-zerobus"))
        .ok_or(ConfigError::Missing {
            setting: "wal_dir",
            needed_for: "the log: neither XDG_STATE_HOME nor HOME is set",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> WrapperConfiguration {
        let mut configuration =
            WrapperConfiguration::new("https://1.zerobus.eu.cloud.databricks.com", "a.b.c");
        configuration.client_id = Some("id".into());
        configuration.client_secret = Some("secret".into());
        configuration.unity_catalog_url = Some("https://1.cloud.databricks.com/".into());
        configuration.wal_dir = Some("/tmp/never-created".into());
        configuration
    }

    fn refused(change: impl FnOnce(&mut WrapperConfiguration)) -> String {
        let mut configuration = good();
        change(&mut configuration);
        configuration.validate().map(|_| ()).expect_err("was accepted").to_string()
    }

    #[test]
    fn the_defaults_are_valid_and_urls_are_brought_into_one_form() {
        let validated = good().validate().unwrap();
        assert_eq!(
            validated.destination.unity_catalog_url.as_deref(),
            Some("https://1.cloud.databricks.com")
        );

        let mut bare = good();
        bare.endpoint = "host.example".into();
        assert_eq!(bare.validate().unwrap().destination.endpoint, "https://host.example");
    }

    #[test]
    fn each_wrong_setting_is_refused_by_its_name() {
        assert!(refused(|c| c.table_name = "events".into()).contains("table_name is \"events\""));
        assert!(refused(|c| c.endpoint = "ftp://host".into()).contains("endpoint"));
        assert!(refused(|c| c.endpoint = "https://host/path".into()).contains("endpoint"));
        assert!(refused(|c| c.endpoint = String::new()).contains("endpoint"));
        assert!(refused(|c| c.unity_catalog_url = Some("not a url".into())).contains("unity_catalog_url"));
        assert!(refused(|c| c.unity_catalog_url = None).contains("unity_catalog_url is missing"));
        assert!(refused(|c| c.client_id = None).contains("client_id is missing"));
        assert!(refused(|c| c.client_secret_file = Some("/x".into())).contains("client_secret_file"));
        assert!(
            refused(|c| c.client_key_file = Some("/x".into())).contains("client_certificate_file is missing")
        );
        assert!(
            refused(|c| c.client_certificate_file = Some("/x".into())).contains("client_key_file is missing")
        );
        assert!(refused(|c| c.proxy = Some("proxy:3128".into())).contains("proxy"));
        assert!(refused(|c| c.proxy = Some("ftp://proxy".into())).contains("proxy"));
        assert!(!refused(|c| c.proxy = Some("http://me:hunter2@proxy:1".into())).contains("hunter2"));
        assert!(refused(|c| c.client_secret = None).contains("client_secret is missing"));
        assert!(refused(|c| c.wal_max_bytes = 5).contains("wal_max_bytes is \"5\""));
        assert!(refused(|c| c.wal_min_free_bytes = u64::MAX).contains("wal_min_free_bytes"));
        assert!(refused(|c| c.block_timeout = Some(Duration::MAX)).contains("block_timeout_secs"));
        assert!(refused(|c| c.retain_delivered = Duration::MAX).contains("retain_delivered_secs"));
        assert!(
            refused(|c| c.retain_delivered_bytes = u64::MAX).contains("at most wal_max_bytes, 8589934592")
        );
        assert!(refused(|c| c.schema_grace = Duration::MAX).contains("schema_grace_secs"));
        assert!(refused(|c| c.quarantine_max_bytes = u64::MAX).contains("quarantine_max_bytes"));
        assert!(refused(|c| c.segment_bytes = 5).contains("segment_bytes"));
        assert!(refused(|c| c.request_max_bytes = 20 << 20).contains("request_max_bytes"));
        assert!(refused(|c| c.max_inflight_requests = usize::MAX).contains("max_inflight_requests"));
        assert!(refused(|c| c.stream_max_age = Duration::MAX).contains("stream_max_age_secs"));
        assert!(refused(|c| c.durability = Durability::Interval(Duration::MAX)).contains("sync_interval_ms"));
        assert!(refused(|c| c.client_secret = Some(" ".into())).contains("client_secret"));
        assert!(refused(|c| c.wal_dir = Some("x".repeat(300).into())).contains("wal_dir"));
        assert!(refused(|c| c.wal_dir = Some("a\0b".into())).contains("wal_dir"));
        assert!(refused(|c| c.table_name = format!("{}.b.c", "a".repeat(260))).contains("table_name"));
        assert!(refused(|c| c.max_inflight_requests = 0).contains("max_inflight_requests"));
        assert!(refused(|c| c.streams = 0).contains("streams is \"0\", allowed is: 1 to 64"));
        assert!(refused(|c| c.streams = 65).contains("streams"));
        assert!(refused(|c| c.stream_max_age = Duration::ZERO).contains("stream_max_age_secs"));
        assert!(refused(|c| c.retry_max_attempts = 0).contains("retry_max_attempts"));
        assert!(refused(|c| c.retry_base_delay = Duration::ZERO).contains("retry_base_delay_ms"));
        assert!(refused(|c| c.retry_max_delay = Duration::from_millis(1)).contains("retry_max_delay_ms"));
        assert!(
            refused(|c| c.durability = Durability::Interval(Duration::ZERO)).contains("sync_interval_ms")
        );
    }

    #[test]
    fn a_compression_is_refused_where_nothing_is_compressed() {
        let text = refused(|c| c.compression = Some(Compression::Lz4));
        assert!(text.contains("compression is \"lz4\"") && text.contains("arrow_flight"), "{text}");
        let mut flight = good();
        flight.transport = TransportKind::ArrowFlight;
        assert!(flight.validate().is_ok());
        flight.compression = Some(Compression::None);
        assert!(flight.validate().is_ok());
    }

    #[test]
    fn exactly_once_is_refused_where_the_service_remembers_no_streams() {
        let text = refused(|c| {
            c.transport = TransportKind::ArrowFlight;
            c.delivery = DeliveryGuarantee::ExactlyOnce;
        });
        assert!(text.contains("delivery is \"exactly_once\"") && text.contains("arrow_flight"), "{text}");
        let mut exactly = good();
        exactly.delivery = "exactly_once".parse().unwrap();
        assert!(exactly.validate().is_ok());
        let text = refused(|c| {
            c.delivery = DeliveryGuarantee::ExactlyOnce;
            c.max_inflight_requests = 2_001;
        });
        assert!(text.contains("at most 2000 with delivery=\"exactly_once\""), "{text}");
        assert!("once".parse::<DeliveryGuarantee>().unwrap_err().to_string().contains("at_least_once"));
    }

    #[test]
    fn several_streams_are_refused_where_each_row_is_to_be_there_once_and_where_the_ledger_has_no_room() {
        let text = refused(|c| {
            c.streams = 2;
            c.delivery = DeliveryGuarantee::ExactlyOnce;
        });
        assert!(text.contains("streams is \"2\"") && text.contains("one persistent stream"), "{text}");
        let text = refused(|c| {
            c.streams = 4;
            c.max_inflight_requests = 501;
        });
        assert!(text.contains("at most 500 with streams=4"), "{text}");
        let mut many = good();
        (many.streams, many.max_inflight_requests) = (4, 500);
        assert!(many.validate().is_ok());
        (many.streams, many.max_inflight_requests) = (1, 10_000);
        assert!(many.validate().is_ok());
    }

    #[test]
    fn a_timeout_for_waiting_is_refused_where_nobody_waits() {
        for on_full in [OnFull::Reject, OnFull::DropOldest] {
            let text = refused(|c| {
                c.on_full = on_full;
                c.block_timeout = Some(Duration::from_secs(5));
            });
            assert!(text.contains("block_timeout_secs") && text.contains(on_full.as_str()), "{text}");
        }
        let mut blocking = good();
        blocking.block_timeout = Some(Duration::ZERO);
        assert!(blocking.validate().is_ok());
    }

    #[test]
    fn a_password_in_a_url_is_refused_without_being_repeated() {
        for url in ["https://user:hunter2@host", "https://user:hunter2@host:99999", "ftp://user:hunter2@host"]
        {
            let text = refused(|c| c.endpoint = url.into());
            assert!(text.contains("endpoint") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_workspace_url_as_endpoint_serves_tokens_too() {
        let mut configuration = good();
        configuration.endpoint = "https://workspace.cloud.databricks.com".into();
        configuration.unity_catalog_url = None;
        let destination = configuration.validate().unwrap().destination;
        assert_eq!(destination.unity_catalog_url.as_deref(), Some("https://workspace.cloud.databricks.com"));
    }

    #[test]
    fn without_tls_no_credentials_are_needed() {
        let mut configuration = WrapperConfiguration::new("http://127.0.0.1:1", "a.b.c");
        configuration.wal_dir = Some("/tmp/never-created".into());
        assert!(configuration.validate().unwrap().credentials.is_none());
        configuration.client_id = Some("id".into());
        assert!(configuration.validate().is_err());
    }

    #[test]
    fn the_debug_text_hides_the_secret() {
        assert!(!format!("{:?}", good()).contains("\"secret\""));
    }
}
