//! The settings of telemetry: where metrics go, under which name, and what of that is refused.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::Level;

use super::{ConfigError, SECONDS_MAX, WrapperConfiguration, invalid};

/// Where [`WrapperConfiguration::metrics_port`] listens, if nobody says otherwise: this machine alone.
pub(crate) const METRICS_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

const ENDPOINT_ALLOWED: &str =
    "a URL of the form http://host[:port] or https://host[:port], without a user name in it";
const PAIRS_ALLOWED: &str = "name=value pairs with commas between them; %2C is a comma, %3D an equals sign";

/// How telemetry travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// Protobuf messages over HTTP.
    Http,
}

impl OtlpProtocol {
    /// The name that settings and OpenTelemetry have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            OtlpProtocol::Grpc => "grpc",
            OtlpProtocol::Http => "http/protobuf",
        }
    }
}

/// Of which level on what is logged is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogExport {
    /// Nothing is.
    Off,
    /// Errors.
    Error,
    /// Warnings and errors.
    Warning,
    /// What happens, too.
    Info,
    /// Everything.
    Debug,
}

impl LogExport {
    /// Each with the name that settings have for it.
    pub(super) const NAMED: [(&'static str, LogExport); 5] = [
        ("off", LogExport::Off),
        ("error", LogExport::Error),
        ("warning", LogExport::Warning),
        ("info", LogExport::Info),
        ("debug", LogExport::Debug),
    ];

    /// The most verbose level that is exported, if any is.
    pub(crate) fn level(self) -> Option<Level> {
        match self {
            LogExport::Off => None,
            LogExport::Error => Some(Level::ERROR),
            LogExport::Warning => Some(Level::WARN),
            LogExport::Info => Some(Level::INFO),
            LogExport::Debug => Some(Level::DEBUG),
        }
    }
}

impl WrapperConfiguration {
    pub(super) fn check_observability(&self) -> Result<(), ConfigError> {
        if let Some(endpoint) = &self.observability_endpoint
            && !is_url(endpoint)
        {
            // What stands before an @ is a user name and perhaps a password [I9].
            let shown = if endpoint.contains('@') { "(hidden)" } else { endpoint };
            return Err(invalid("observability_endpoint", shown, ENDPOINT_ALLOWED));
        }
        headers(self.observability_headers.as_ref())?;
        resource_attributes(self.observability_resource_attributes.as_deref())?;
        if self.observability_service_name.as_deref().is_some_and(|name| name.trim().is_empty()) {
            return Err(invalid("observability_service_name", "", "a name that is not blank"));
        }
        let interval = self.observability_interval;
        if interval < Duration::from_millis(100) || u128::from(interval.as_secs()) > SECONDS_MAX {
            let allowed = format!("0.1 to {SECONDS_MAX} s");
            return Err(invalid(
                "observability_interval_secs",
                &interval.as_secs_f64().to_string(),
                &allowed,
            ));
        }
        if self.metrics_port == Some(0) {
            return Err(invalid("metrics_port", "0", "1 to 65535"));
        }
        self.metrics_ip().map(drop)
    }

    /// Where metrics are served.
    pub(crate) fn metrics_ip(&self) -> Result<IpAddr, ConfigError> {
        let Some(address) = &self.metrics_address else { return Ok(METRICS_ADDRESS) };
        let allowed = "an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for every one it has";
        address.parse().map_err(|_| invalid("metrics_address", address, allowed))
    }
}

fn is_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// The headers of each export, which may be secrets \[I9\].
pub(crate) fn headers(given: Option<&SecretString>) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let wrong = || invalid("observability_headers", "(hidden)", PAIRS_ALLOWED);
    let Some(given) = given else { return Ok(Vec::new()) };
    let header = |(name, value): (String, String)| {
        let (name, mut value) = (name.parse().ok()?, HeaderValue::from_str(&value).ok()?);
        value.set_sensitive(true);
        Some((name, value))
    };
    let pairs = pairs(given.expose_secret()).ok_or_else(wrong)?;
    pairs.into_iter().map(header).collect::<Option<_>>().ok_or_else(wrong)
}

/// What is told about this process with each export.
pub(crate) fn resource_attributes(given: Option<&str>) -> Result<Vec<(String, String)>, ConfigError> {
    let given = given.unwrap_or_default();
    pairs(given).ok_or_else(|| invalid("observability_resource_attributes", given, PAIRS_ALLOWED))
}

/// Pairs as the variables of OpenTelemetry have them.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decoded = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text.trim()).decode_utf8().ok()?;
        Some(decoded.into_owned())
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = decoded(name).filter(|name| !name.is_empty())?;
        Some((name, decoded(value)?))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut WrapperConfiguration)) -> String {
        let mut configuration = WrapperConfiguration::new("http://127.0.0.1:1", "a.b.c");
        configuration.wal_dir = Some("/tmp/never-created".into());
        change(&mut configuration);
        configuration.validate().map(drop).expect_err("was accepted").to_string()
    }

    #[test]
    fn wrong_settings_of_telemetry_are_refused_by_name() {
        for endpoint in ["collector:4317", "ftp://collector", "http://", "http://host?x=1"] {
            let error = refused(|c| c.observability_endpoint = Some(endpoint.into()));
            assert!(error.contains("observability_endpoint") && error.contains(endpoint), "{error}");
        }
        assert!(refused(|c| c.observability_resource_attributes = Some("a".into())).contains("name=value"));
        assert!(refused(|c| c.observability_service_name = Some(" ".into())).contains("service_name"));
        assert!(
            refused(|c| c.observability_interval = Duration::ZERO).contains("observability_interval_secs")
        );
        assert!(
            refused(|c| c.observability_interval = Duration::MAX).contains("observability_interval_secs")
        );
        assert!(refused(|c| c.metrics_port = Some(0)).contains("metrics_port is \"0\""));
        assert!(refused(|c| c.metrics_address = Some("localhost".into())).contains("metrics_address"));
    }

    #[test]
    fn secrets_of_telemetry_are_never_repeated() {
        for headers in ["authorization", "a b=hunter2", "key=hunter2%0A"] {
            let error = refused(|c| c.observability_headers = Some(headers.into()));
            assert!(error.contains("observability_headers") && !error.contains("hunter2"), "{error}");
        }
        let error = refused(|c| c.observability_endpoint = Some("http://me:hunter2@host".into()));
        assert!(error.contains("observability_endpoint") && !error.contains("hunter2"), "{error}");
        let mut configuration = WrapperConfiguration::new("http://127.0.0.1:1", "a.b.c");
        configuration.observability_headers = Some("authorization=hunter2".into());
        assert!(!format!("{configuration:?}").contains("hunter2"));
    }

    #[test]
    fn pairs_are_read_as_opentelemetry_writes_them() {
        let read = resource_attributes(Some(" deployment=edge , site=a%2Cb%3D,empty=,")).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read, [pair("deployment", "edge"), pair("site", "a,b="), pair("empty", "")]);
        let read = headers(Some(&"authorization=Bearer%20x".into())).unwrap();
        assert_eq!(read[0].0, "authorization");
        assert_eq!(read[0].1, "Bearer x");
        assert_eq!(format!("{:?}", read[0].1), "Sensitive");
    }
}
