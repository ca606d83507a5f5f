//! Certificates and proxy of the settings, in the form that the client crate takes.

use std::sync::Arc;

use databricks_zerobus_ingest_sdk::{
    ProxyConnector, TlsConfig, ZerobusError, ZerobusResult, ZerobusSdkBuilder,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::trust::Trust;

/// The builder with what the settings say; what they do not say stays as it is.
pub(super) fn apply(trust: &Trust, mut builder: ZerobusSdkBuilder) -> ZerobusResult<ZerobusSdkBuilder> {
    if trust.ca_pem.is_some() || trust.identity.is_some() {
        builder = builder.tls_config(Arc::new(OwnTls::new(trust)));
    }
    if let Some(proxy) = trust.proxy.clone() {
        ProxyConnector::new(&proxy)?;
        // It was made once, so it can be made again.
        builder = builder.connector_factory(Arc::new(move |_| ProxyConnector::new(&proxy).ok()));
    }
    Ok(builder)
}

struct OwnTls {
    config: ClientTlsConfig,
    has_ca: bool,
}

impl OwnTls {
    fn new(trust: &Trust) -> OwnTls {
        let mut config = ClientTlsConfig::new();
        if let Some(pem) = &trust.ca_pem {
            config = config.ca_certificate(Certificate::from_pem(pem));
        }
        if let Some(identity) = &trust.identity {
            config = config.identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem));
        }
        OwnTls { config, has_ca: trust.ca_pem.is_some() }
    }
}

impl TlsConfig for OwnTls {
    fn configure_endpoint(&self, endpoint: Endpoint) -> ZerobusResult<Endpoint> {
        if !is_https(&endpoint) {
            return Ok(endpoint);
        }
        let with_those_of_the_system = endpoint.clone().tls_config(self.config.clone().with_native_roots());
        with_those_of_the_system
            // A machine without any certificates needs none where it is given one.
            .or_else(|error| if self.has_ca { endpoint.tls_config(self.config.clone()) } else { Err(error) })
            .map_err(|_| ZerobusError::FailedToEstablishTlsConnectionError)
    }
}

/// Without TLS there is nothing to configure.
fn is_https(endpoint: &Endpoint) -> bool {
    endpoint.uri().scheme_str() == Some("https")
}
