//! The settings that say who we are, whom we trust, and through which proxy we go.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, WrapperConfiguration, invalid, service_url};

/// The service principal that delivers.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) secret: Secret,
}

/// Where its secret comes from.
#[derive(Clone, Debug)]
pub(crate) enum Secret {
    Given(SecretString),
    /// Read anew for each token.
    File(PathBuf),
}

impl WrapperConfiguration {
    pub(super) fn credentials(&self, endpoint: &str) -> Result<Option<Credentials>, ConfigError> {
        let secret = match (&self.client_secret, &self.client_secret_file) {
            (Some(_), Some(file)) => {
                let allowed = "none beside client_secret";
                return Err(invalid("client_secret_file", &file.display().to_string(), allowed));
            }
            (Some(secret), None) => Some(Secret::Given(secret.clone())),
            (None, Some(file)) => Some(Secret::File(file.clone())),
            (None, None) => None,
        };
        match (&self.client_id, secret) {
            (Some(id), Some(secret)) => {
                check_client_id(id)?;
                if let Secret::Given(secret) = &secret {
                    check_client_secret(secret)?;
                }
                Ok(Some(Credentials { client_id: id.clone(), secret }))
            }
            // Without TLS there is no Databricks at the other end: a local emulator needs no token.
            (None, None) if endpoint.starts_with("http://") => Ok(None),
            (None, _) => Err(ConfigError::Missing { setting: "client_id", needed_for: "authentication" }),
            (_, None) => Err(ConfigError::Missing { setting: "client_secret", needed_for: "authentication" }),
        }
    }

    pub(super) fn check_access(&self) -> Result<(), ConfigError> {
        if self.client_key_file.is_some() && self.client_certificate_file.is_none() {
            let needed_for = "client_key_file, which is the key of a certificate";
            return Err(ConfigError::Missing { setting: "client_certificate_file", needed_for });
        }
        if self.client_certificate_file.is_some() && self.client_key_file.is_none() {
            let needed_for = "client_certificate_file, which is nothing without its key";
            return Err(ConfigError::Missing { setting: "client_key_file", needed_for });
        }
        match &self.proxy {
            Some(proxy) if !proxy.contains("://") => {
                Err(invalid("proxy", "(no scheme)", "a URL of the form http://host:port"))
            }
            Some(proxy) => service_url("proxy", proxy).map(drop),
            None => Ok(()),
        }
    }
}

pub(crate) fn check_client_id(id: &str) -> Result<(), ConfigError> {
    match id.trim() {
        "" => Err(invalid("client_id", id, "the id of a service principal")),
        _ => Ok(()),
    }
}

pub(crate) fn check_client_secret(secret: &SecretString) -> Result<(), ConfigError> {
    match secret.expose_secret().trim() {
        "" => Err(invalid("client_secret", "(blank)", "the secret of the service principal")),
        _ => Ok(()),
    }
}
