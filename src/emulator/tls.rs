//! Certificates of the emulator: a private CA of its own, or files that somebody gives.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::EmulatorError;
use super::store::create_directories;
use crate::platform::files::create_private;

/// How to serve over TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The certificates to serve with; without them a CA is made in the data directory, and kept there.
    pub files: Option<TlsFiles>,
    /// Take only clients with a certificate that the CA has signed.
    pub client_certificates: bool,
}

/// PEM files of a service.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The CA.
    pub ca_certificate: PathBuf,
    /// The certificate of the service with those between it and the CA.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The names that the certificate of the service is good for.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// What clients need to trust the service and to be trusted by it.
#[derive(Clone, Debug)]
pub(super) struct ClientFiles {
    pub(super) ca_certificate: PathBuf,
    /// Certificate and key, where the CA is our own.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// The service's side of TLS, for both ports.
pub(super) struct ServerTls {
    pub(super) grpc: TlsAcceptor,
    pub(super) http: TlsAcceptor,
    pub(super) client: ClientFiles,
}

/// Why there is no TLS.
type Failure = Box<dyn std::error::Error + Send + Sync>;

impl ServerTls {
    /// Reads the files that are given, or those in `own`, which are made if they are not there.
    pub(super) fn open(options: &TlsOptions, own: &Path) -> Result<ServerTls, EmulatorError> {
        let (files, identity) = match &options.files {
            Some(files) => (files.clone(), None),
            None => made(own).map_err(|reason| failure(own, &reason))?,
        };
        let read = || -> Result<ServerTls, Failure> {
            let config = |protocol: &[u8]| {
                let mut config = server_config(&files, options.client_certificates)?;
                config.alpn_protocols = vec![protocol.to_vec()];
                Ok::<_, Failure>(TlsAcceptor::from(Arc::new(config)))
            };
            let client = ClientFiles { ca_certificate: files.ca_certificate.clone(), identity };
            Ok(ServerTls { grpc: config(b"h2")?, http: config(b"http/1.1")?, client })
        };
        read().map_err(|reason| failure(&files.certificate, &reason))
    }
}

fn failure(path: &Path, reason: &Failure) -> EmulatorError {
    EmulatorError::Tls { path: path.to_owned(), reason: reason.to_string() }
}

fn server_config(files: &TlsFiles, client_certificates: bool) -> Result<ServerConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if client_certificates {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.ca_certificate)? {
            roots.add(certificate)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("{}: {error}", files.key.display()))?;
    Ok(builder.with_single_cert(certificates(&files.certificate)?, key)?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| format!("{}: {error}", path.display()))?;
    if read.is_empty() { Err(format!("{}: no certificate in it", path.display()).into()) } else { Ok(read) }
}

/// The files of a CA of our own, and of a client that it trusts. They outlive the process, so that clients need
/// not be told again.
fn made(own: &Path) -> Result<(TlsFiles, Option<(PathBuf, PathBuf)>), Failure> {
    let directory = own.join("tls");
    let file = |name| directory.join(name);
    let files =
        TlsFiles { ca_certificate: file("ca.pem"), certificate: file("server.pem"), key: file("server.key") };
    let identity = (file("client.pem"), file("client.key"));
    // It is written last.
    if files.ca_certificate.exists() {
        return Ok((files, Some(identity)));
    }
    create_directories(&directory)?;
    let issuer_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A name of its own, so that nobody takes another emulator's CA for this one.
    let name = format!("Zerobus emulator CA {:08x}", rand::random::<u32>());
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority_pem = authority.self_signed(&issuer_key)?.pem();
    let issuer = Issuer::new(authority, issuer_key);
    for (names, usage, common_name, (certificate, key)) in [
        (
            &NAMES[..],
            ExtendedKeyUsagePurpose::ServerAuth,
            "Zerobus emulator",
            (&files.certificate, &files.key),
        ),
        (&[], ExtendedKeyUsagePurpose::ClientAuth, "Zerobus client", (&identity.0, &identity.1)),
    ] {
        let pair = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![usage];
        params.distinguished_name.push(DnType::CommonName, common_name);
        write(certificate, &params.signed_by(&pair, &issuer)?.pem())?;
        write(key, &pair.serialize_pem())?;
    }
    write(&files.ca_certificate, &authority_pem)?;
    Ok((files, Some(identity)))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = create_private(&unfinished)?;
    file.write_all(text.as_bytes())?;
    fs::rename(unfinished, path)
}
