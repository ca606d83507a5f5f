//! Where a verb delivers to, who it is there, and as what rows travel: options that several verbs have.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches};
use secrecy::SecretString;

use crate::config::{Compression, ConfigError, TransportKind, Value, WrapperConfiguration, invalid, setting};
use crate::convert::{NullList, TimestampNs};
use crate::wal::Destination;
use crate::wrapper::Status;

/// Where to deliver to, and who we are there.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct DestinationOptions {
    /// OAuth client id of the service principal.
    #[arg(long, value_name = "ID", env = "ZEROBUS_CLIENT_ID")]
    client_id: Option<String>,
    #[command(flatten)]
    secret: SecretOptions,
    /// A PEM file with the CAs that are trusted besides those of the system.
    #[arg(long, value_name = "FILE")]
    ca_certificate_file: Option<PathBuf>,
    /// A PEM file with the certificate to show where one is asked for.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    client_certificate_file: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    #[arg(long, value_name = "FILE", requires = "client_certificate_file")]
    client_key_file: Option<PathBuf>,
    /// URL of an HTTP proxy for everything [default: the one of the environment].
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Zerobus endpoint [default: the one that the log was written for].
    #[arg(long, alias = "to-endpoint", value_name = "URL", env = "ZEROBUS_ENDPOINT")]
    endpoint: Option<String>,
    /// Workspace URL, for tokens [default: the one that the log was written for].
    #[arg(long, alias = "to-unity-catalog-url", value_name = "URL", env = "UNITY_CATALOG_URL")]
    unity_catalog_url: Option<String>,
}

/// Where the secret is: one of two places.
#[derive(Clone, Debug, Default)]
struct SecretOptions {
    client_secret: Option<SecretString>,
    client_secret_file: Option<PathBuf>,
}

/// What may be given of it.
#[derive(Args)]
struct SecretGiven {
    /// OAuth client secret; better given by the environment than on the command line.
    #[arg(long, value_name = "SECRET", env = "ZEROBUS_CLIENT_SECRET", hide_env_values = true)]
    client_secret: Option<SecretString>,
    /// A file with the secret, read whenever a token is fetched. Counts before a secret in the environment.
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
}

impl Args for SecretOptions {
    fn augment_args(command: clap::Command) -> clap::Command {
        SecretGiven::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        SecretGiven::augment_args_for_update(command)
    }
}

// A conflict of `clap` counts what the environment says like what was typed.
impl FromArgMatches for SecretOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SecretOptions, clap::Error> {
        let SecretGiven { mut client_secret, client_secret_file } = SecretGiven::from_arg_matches(matches)?;
        if client_secret.is_some() && client_secret_file.is_some() {
            if matches.value_source("client_secret") != Some(ValueSource::EnvVariable) {
                let text =
                    "--client-secret and --client-secret-file are two places of a secret; give one of them\n";
                return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
            }
            client_secret = None;
        }
        Ok(SecretOptions { client_secret, client_secret_file })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = SecretOptions::from_arg_matches(matches)?;
        Ok(())
    }
}

/// As what rows travel.
#[derive(Args, Clone, Debug)]
pub(super) struct FormOptions {
    /// What becomes of timestamps in nanoseconds: `floor` to the service's microseconds, or `error`.
    #[arg(long, value_name = "POLICY", default_value = "floor")]
    timestamp_ns: TimestampNs,
    /// What becomes of null lists and maps, which a record cannot tell from empty ones: `empty`, or `error`.
    #[arg(long, value_name = "POLICY", default_value = "empty")]
    null_list: NullList,
    /// As what the rows travel: `protobuf`, or `arrow_flight`.
    #[arg(long, value_name = "TRANSPORT", default_value = "protobuf")]
    transport: TransportKind,
    /// How Arrow batches are compressed on the way, `none`, `lz4` or `zstd`; by default `zstd`. Only with
    /// `--transport arrow_flight`.
    #[arg(long, value_name = "COMPRESSION")]
    compression: Option<Compression>,
}

impl DestinationOptions {
    /// The settings of a wrapper that delivers this log, in its own directory.
    pub(super) fn configuration(&self, log: &Status) -> WrapperConfiguration {
        let destination = Destination {
            table: log.table.clone(),
            endpoint: log.endpoint.clone(),
            unity_catalog_url: log.unity_catalog_url.clone(),
        };
        self.configuration_to(&destination, &log.directory)
    }

    /// The same for the log in this directory, which was written for this destination.
    pub(super) fn configuration_to(&self, log: &Destination, directory: &Path) -> WrapperConfiguration {
        let mut configuration = self.configuration_for(&log.endpoint, log.table.as_str(), directory);
        let workspace = self.unity_catalog_url.clone().or_else(|| log.unity_catalog_url.clone());
        configuration.unity_catalog_url = workspace;
        configuration
    }

    /// The endpoint that was given, and the workspace.
    pub(super) fn place(&self) -> Option<(String, Option<String>)> {
        self.endpoint.clone().map(|endpoint| (endpoint, self.unity_catalog_url.clone()))
    }

    /// The settings of a wrapper of this table. Without `--endpoint` it delivers there.
    pub(super) fn configuration_for(
        &self,
        endpoint: &str,
        table: &str,
        directory: &Path,
    ) -> WrapperConfiguration {
        let endpoint = self.endpoint.clone().unwrap_or_else(|| endpoint.to_owned());
        let mut configuration = WrapperConfiguration::new(endpoint, table);
        configuration.client_id = self.client_id.clone();
        configuration.client_secret = self.secret.client_secret.clone();
        configuration.client_secret_file = self.secret.client_secret_file.clone();
        configuration.ca_certificate_file = self.ca_certificate_file.clone();
        configuration.client_certificate_file = self.client_certificate_file.clone();
        configuration.client_key_file = self.client_key_file.clone();
        configuration.proxy = self.proxy.clone();
        configuration.unity_catalog_url = self.unity_catalog_url.clone();
        // It is known already; a program without a home has no other.
        configuration.wal_dir = Some(directory.to_owned());
        configuration
    }
}

impl DestinationOptions {
    /// What is given here counts before what these settings say.
    pub(super) fn override_in(&self, configuration: &mut WrapperConfiguration) {
        fn set<T: Clone>(setting: &mut Option<T>, given: &Option<T>) {
            if given.is_some() {
                setting.clone_from(given);
            }
        }
        if let Some(endpoint) = &self.endpoint {
            configuration.endpoint.clone_from(endpoint);
        }
        // One of them is given; the other one is not meant then.
        let SecretOptions { client_secret, client_secret_file } = &self.secret;
        if client_secret.is_some() || client_secret_file.is_some() {
            configuration.client_secret.clone_from(client_secret);
            configuration.client_secret_file.clone_from(client_secret_file);
        }
        set(&mut configuration.client_id, &self.client_id);
        set(&mut configuration.unity_catalog_url, &self.unity_catalog_url);
        set(&mut configuration.ca_certificate_file, &self.ca_certificate_file);
        set(&mut configuration.client_certificate_file, &self.client_certificate_file);
        set(&mut configuration.client_key_file, &self.client_key_file);
        set(&mut configuration.proxy, &self.proxy);
    }
}

impl FormOptions {
    pub(super) fn apply_to(&self, configuration: &mut WrapperConfiguration) {
        configuration.timestamp_ns = self.timestamp_ns;
        configuration.null_list = self.null_list;
        configuration.transport = self.transport;
        configuration.compression = self.compression;
    }
}

/// How the option of a setting that is a time reads it: as everywhere.
pub(super) fn duration_of(name: &'static str) -> impl Fn(&str) -> Result<Duration, ConfigError> + Clone {
    move |text| match setting(name).map(|setting| setting.parse(text)).transpose()? {
        Some(Value::Duration(time)) => Ok(time),
        _ => Err(invalid(name, text, "a time")),
    }
}

/// The same for a size.
pub(super) fn bytes_of(name: &'static str) -> impl Fn(&str) -> Result<u64, ConfigError> + Clone {
    move |text| match setting(name).map(|setting| setting.parse(text)).transpose()? {
        Some(Value::Number(bytes)) => Ok(bytes),
        _ => Err(invalid(name, text, "a size")),
    }
}
