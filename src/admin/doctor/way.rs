//! Is there a way to the service and to the workspace: names, connections, certificates?

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Finding;
use super::certificate::Certificate;
use crate::config::Validated;
use crate::error::{ErrorCode, chain};
use crate::io::Env;
use crate::trust::{self, Trust};

/// For one connection, and for each step of its handshake.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A certificate that ends sooner wants somebody's eye.
const EXPIRY_WARNING_SECS: i64 = 14 * 86_400;
const DAY_SECS: i64 = 86_400;

/// Where one of the two is.
struct Place {
    host: String,
    port: u16,
    is_tls: bool,
    /// What it speaks, for the handshake.
    protocol: &'static [u8],
}

impl Place {
    fn of(url: &str, protocol: &'static [u8]) -> Option<Place> {
        let url = url::Url::parse(url).ok()?;
        Some(Place {
            // Without the brackets of an IPv6 address.
            host: url.host_str()?.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default()?,
            is_tls: url.scheme() == "https",
            protocol,
        })
    }

    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Looks at the way to both; says whether it is open as far as that can be seen.
pub(super) fn examine(validated: &Validated, trust: &Trust, findings: &mut Vec<Finding>) -> bool {
    let before = findings.len();
    let destination = &validated.destination;
    let endpoint = Place::of(&destination.endpoint, b"h2");
    let workspace = destination.unity_catalog_url.as_deref().and_then(|url| Place::of(url, b"http/1.1"));
    if let Some(proxy) = &trust.proxy {
        // Names are its business, and nothing says that there is another way.
        if let Some(proxy) = Place::of(proxy, b"http/1.1") {
            connect(&proxy, findings);
        }
    } else {
        let mut seen = Vec::new();
        for place in [endpoint, workspace].into_iter().flatten() {
            let name = place.name();
            if seen.contains(&name) {
                continue;
            }
            if let Some(address) = connect(&place, findings)
                && place.is_tls
            {
                findings.push(tls(&place, address, trust));
            }
            seen.push(name);
        }
    }
    findings[before..].iter().all(|finding| finding.code.is_none())
}

/// An address that takes connections.
fn connect(place: &Place, findings: &mut Vec<Finding>) -> Option<SocketAddr> {
    let name = place.name();
    let addresses: Vec<SocketAddr> = match (place.host.as_str(), place.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let advice = "correct the name, or make it known to this machine: /etc/resolv.conf names who is asked; \
                          behind a proxy, name that (proxy)";
            let found = format!("{} has no address: {error}", place.host);
            findings.push(Finding::failed("dns", &place.host, ErrorCode::Connection, found, advice));
            return None;
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    findings.push(Finding::ok("dns", &place.host, shown.join(", ")));
    let clock = Env::os().clock;
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        let before = clock.monotonic();
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(_) => {
                let took = clock.monotonic().saturating_sub(before).as_secs_f64() * 1e3;
                findings.push(Finding::ok("tcp", &name, format!("connected in {took:.1} ms")));
                return Some(address);
            }
            Err(error) => last = error,
        }
    }
    let advice = match last.kind() {
        ErrorKind::ConnectionRefused => {
            "nobody listens there: check host and port, and whether the service runs"
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            "a firewall may swallow it: allow this machine to reach that host and port, or name a proxy (proxy)"
        }
        _ => "check the network of this machine, and host and port",
    };
    let found = format!("no connection: {last}");
    findings.push(Finding::failed("tcp", &name, ErrorCode::Connection, found, advice));
    None
}

/// Decides as everything else does, and keeps what it was shown.
#[derive(Debug)]
struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    shown: Mutex<Vec<Certificate>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = std::iter::once(end_entity)
            .chain(intermediates)
            .filter_map(|der| Certificate::read(der))
            .collect();
        self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

fn tls(place: &Place, address: SocketAddr, trust: &Trust) -> Finding {
    let name = place.name();
    let unusable = |error: &dyn std::error::Error| {
        let advice =
            "install the system's CA certificates, or name a file with those to trust (ca_certificate_file)";
        Finding::failed("tls", &name, ErrorCode::Configuration, chain(error), advice)
    };
    let (witness, config) = match config(trust, place.protocol) {
        Ok(made) => made,
        Err(error) => return unusable(&error),
    };
    let shaken = shake_hands(place, address, config);
    let shown = witness.shown.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Env::os().clock.unix_micros() / 1_000_000;
    let about = shown.first().map(|leaf| {
        let days = (leaf.not_after_unix_secs - now).div_euclid(DAY_SECS);
        format!("certificate of {}, signed by {}, good for {days} days", leaf.subject, leaf.issuer)
    });
    let about = about.unwrap_or_else(|| "no certificate was shown".to_owned());
    match shaken {
        Err(error) => {
            let refusal = trust::refusal(&error).unwrap_or_else(|| chain(&error));
            // The last one names whom the whole chain hangs on.
            let authority = shown.last().map_or("that has signed it", |last| last.issuer.as_str());
            let ended = shown.first().is_some_and(|leaf| leaf.not_after_unix_secs < now);
            let advice = match ended {
                true => "it has ended: its owner renews it; or the clock of this machine is ahead".to_owned(),
                false => format!(
                    "if that is the right service, put the certificate of the CA {authority:?} into a PEM file and name \
                     it (ca_certificate_file); a proxy that looks into TLS has a CA of its own"
                ),
            };
            Finding::failed("tls", &name, ErrorCode::Connection, format!("{refusal}; {about}"), advice)
        }
        Ok(()) => match shown.first() {
            Some(leaf) if leaf.not_after_unix_secs - now < EXPIRY_WARNING_SECS => {
                let advice = "its owner renews it, in time";
                Finding::warning("tls", &name, about, advice)
            }
            _ => Finding::ok("tls", &name, about),
        },
    }
}

/// What everything else uses too: the CAs of the system and those that are named, and our certificate.
fn config(trust: &Trust, protocol: &[u8]) -> Result<(Arc<Witness>, ClientConfig), Box<rustls::Error>> {
    let general = |error: String| Box::new(rustls::Error::General(error));
    let mut roots = RootCertStore::empty();
    // One that cannot be read is as good as none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for pem in trust.ca_pem.iter() {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|error| general(error.to_string()))?).map_err(Box::new)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let judge = judge.map_err(|error| general(error.to_string()))?;
    let witness = Arc::new(Witness { judge, shown: Mutex::default() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Box::new)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as _);
    let mut config = match &trust.identity {
        Some(identity) => {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.certificate_pem).collect();
            let certificates = read.map_err(|error| general(error.to_string()))?;
            // What the reader says of a key may not be shown [I9].
            let key = PrivateKeyDer::from_pem_slice(&identity.key_pem)
                .map_err(|_| general("client_key_file holds no key".to_owned()))?;
            builder.with_client_auth_cert(certificates, key).map_err(Box::new)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok((witness, config))
}

fn shake_hands(place: &Place, address: SocketAddr, config: ClientConfig) -> io::Result<()> {
    let name = ServerName::try_from(place.host.clone()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(())
}
