//! HTTP to the workspace, for tokens and the catalog: one client with limits on everything.
//!
//! Proxies come from `https_proxy`, `http_proxy` and `no_proxy`, trusted certificates from the system, unless the
//! settings say otherwise. A redirect is an answer like any other and is not followed: the next host would be given what was meant for this one.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;

use crate::error::chain;
use crate::transport::{Symptom, TransportError};
use crate::trust::Trust;

/// For one request, from the connection to the last byte of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an error answer is shown.
const SHOWN_CHARS_MAX: usize = 300;
/// An error answer is read no further than this.
const SHOWN_BYTES_MAX: usize = 16 * 1024;

/// The client. Its clones share their connections.
///
/// # Errors
///
/// [`TransportError`] if the system's certificates cannot be read, or a setting is nothing for it.
pub(crate) fn client(trust: &Trust) -> Result<reqwest::Client, TransportError> {
    let unusable = |error: reqwest::Error| {
        TransportError::of(Symptom::Setting, format!("no HTTP client: {}", chain(&error)))
    };
    let mut builder = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .user_agent(concat!("arrow-zerobus-sdk-wrapper/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = &trust.ca_pem {
        for certificate in reqwest::Certificate::from_pem_bundle(pem).map_err(unusable)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let Some(identity) = &trust.identity {
        let both = [identity.key_pem.as_slice(), b"\n", &identity.certificate_pem].concat();
        builder = builder.identity(reqwest::Identity::from_pem(&both).map_err(unusable)?);
    }
    if let Some(proxy) = &trust.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(unusable)?);
    }
    builder.build().map_err(unusable)
}

/// Why the body of an answer was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than this program reads.
    #[error("the answer has more than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// The connection failed on the way.
    #[error("the answer broke off: {reason}")]
    Broken {
        /// What the client said.
        reason: String,
    },
}

/// The body of an answer, if it has at most so many bytes. No more are held, whatever the other side sends.
pub(crate) async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > bytes_max => {
                return Err(BodyError::TooLong { bytes_max });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(BodyError::Broken { reason: unreachable(error) }),
        }
    }
}

/// The beginning of an error answer, for a message. `secret` is what the other side was told: should it repeat that,
/// it is left out \[I9\].
pub(crate) async fn shown(mut response: Response, secret: &str) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < SHOWN_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = if secret.is_empty() { text } else { text.replace(secret, "(hidden)").into() };
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// What kept a request from being answered, without the address, which the message around it names.
pub(crate) fn unreachable(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

/// The wait that the other side asks for.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
