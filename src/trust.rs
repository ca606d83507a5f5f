//! Whom connections trust, who we are for the other side, and through which proxy they go; and whether a failure is
//! about that.
//!
//! The files are read once, at construction. What they hold is used for streams, tokens and the catalog alike.

#![expect(clippy::disallowed_methods, reason = "certificates are no part of the log")]

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::AlertDescription as Alert;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::{ConfigError, WrapperConfiguration, invalid};

/// What the settings say about TLS and the way out. Without any of them the system's certificates are trusted, and
/// proxies are taken from the environment.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// PEM text of the CAs that are trusted besides those of the system.
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) proxy: Option<String>,
}

/// PEM texts of who we are.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate_pem: Vec<u8>,
    pub(crate) key_pem: Vec<u8>,
}

impl Trust {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting whose file is missing, or is not what it should be.
    pub(crate) fn read(configuration: &WrapperConfiguration) -> Result<Trust, ConfigError> {
        let ca_pem = configuration.ca_certificate_file.as_deref().map(authorities).transpose()?;
        let identity = match (&configuration.client_certificate_file, &configuration.client_key_file) {
            (Some(certificate), Some(key)) => Some(identity(certificate, key)?),
            // Checked with the other settings.
            _ => None,
        };
        Ok(Trust { ca_pem, identity, proxy: configuration.proxy.clone() })
    }
}

fn wrong(setting: &'static str, path: &Path, wanted: &str, reason: impl std::fmt::Display) -> ConfigError {
    invalid(setting, &path.display().to_string(), &format!("{wanted} ({reason})"))
}

fn authorities(path: &Path) -> Result<Vec<u8>, ConfigError> {
    const WANTED: &str = "a PEM file with the certificates of one or more CAs";
    let wrong = |reason: String| wrong("ca_certificate_file", path, WANTED, reason);
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem).map_err(&wrong)? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(pem)
}

fn identity(certificate: &PathBuf, key: &PathBuf) -> Result<Identity, ConfigError> {
    const WANTED: &str = "a PEM file with our certificate and those between it and the CA";
    const WANTED_KEY: &str = "a PEM file with the key of client_certificate_file, not encrypted";
    let wrong_certificate = |reason: String| wrong("client_certificate_file", certificate, WANTED, reason);
    let wrong_key = |reason: String| wrong("client_key_file", key, WANTED_KEY, reason);
    let certificate_pem = std::fs::read(certificate).map_err(|error| wrong_certificate(error.to_string()))?;
    let chain = certificates(&certificate_pem).map_err(wrong_certificate)?;
    let key_pem = std::fs::read(key).map_err(|error| wrong_key(error.to_string()))?;
    // What the reader says of a key may not be shown [I9]; this says enough.
    let parsed = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| wrong_key("no key in it".to_owned()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match CertifiedKey::from_der(chain, parsed, &provider) {
        Ok(_) => Ok(Identity { certificate_pem, key_pem }),
        Err(rustls::Error::InvalidCertificate(reason)) => Err(wrong_certificate(format!("{reason:?}"))),
        Err(error) => Err(wrong_key(error.to_string())),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err("no certificate in it".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(error.to_string()),
    }
}

/// What one side has against the certificate of the other, if that is why the connection failed; by type, not by text.
pub(crate) fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<rustls::Error>().and_then(of_rustls) {
            return Some(refusal);
        }
        // An I/O error shows as its source what is below the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn of_rustls(error: &rustls::Error) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(reason) => Some(format!(
            "its certificate is not trusted ({reason}); ca_certificate_file names the CAs that are, besides those of the \
             system"
        )),
        rustls::Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired),
        ) => Some(format!(
            "it does not accept our certificate ({alert:?}); client_certificate_file and client_key_file name it"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_however_deep_it_is_wrapped() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, untrusted);
        let found = refusal(&Outer(io::Error::other(Outer(wrapped)))).unwrap();
        assert!(found.contains("ca_certificate_file"), "{found}");
        let alert = rustls::Error::AlertReceived(Alert::CertificateRequired);
        assert!(refusal(&Outer(io::Error::other(alert))).unwrap().contains("client_certificate_file"));
        assert_eq!(refusal(&Outer(io::ErrorKind::ConnectionRefused.into())), None);
        assert_eq!(refusal(&rustls::Error::AlertReceived(Alert::InternalError)), None);
    }
}
