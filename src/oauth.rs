//! OAuth tokens of a service principal: fetched, kept until shortly before they expire, forgotten when refused.
//!
//! Streams and the catalog need different ones, of the same endpoint. The client crate brings a provider for
//! streams; ours differs where it matters for weeks of unattended work: a request has a time limit, an answer a size
//! limit, and 408 and 429 of the token endpoint are transient.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use crate::http;
use crate::principal::{Login, Principal};
use crate::transport::{Symptom, TransportError};
use crate::trust;

/// A token is replaced this long before it expires, or at half its life if it lives shorter than twice that.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);
/// Tokens have a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The tokens of one kind.
pub(crate) struct Tokens {
    http: reqwest::Client,
    url: String,
    principal: Arc<Principal>,
    /// What narrows the token down, besides the grant and the scope.
    form: Vec<(&'static str, String)>,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    token: SecretString,
    refresh_at: Instant,
    /// Who it was given to.
    generation: u64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    #[serde(default)]
    expires_in: Option<u64>,
}

// Not by secrecy's own feature `serde`: it changes the features of serde, and so splits the build of tests
// and wheel.
fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<SecretString, D::Error> {
    String::deserialize(text).map(SecretString::from)
}

impl Tokens {
    /// Tokens of the workspace at this URL. Without anything in `form` they are good for all of its interfaces.
    pub(crate) fn new(
        http: reqwest::Client,
        workspace_url: &str,
        principal: Arc<Principal>,
        form: Vec<(&'static str, String)>,
    ) -> Tokens {
        Tokens {
            http,
            url: format!("{workspace_url}/oidc/v1/token"),
            principal,
            form,
            cached: Mutex::default(),
        }
    }

    /// A token that is good for a while.
    ///
    /// # Errors
    ///
    /// [`TransportError`], classified, without the secret.
    pub(crate) async fn token(&self) -> Result<SecretString, TransportError> {
        match self.cached() {
            Some(token) => Ok(token),
            None => self.fetch().await,
        }
    }

    /// Makes the next one a token that is fetched anew.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// Counts how often somebody has changed who asks.
    pub(crate) fn generation(&self) -> u64 {
        self.principal.generation()
    }

    fn cached(&self) -> Option<SecretString> {
        let (cached, generation) = (self.lock(), self.generation());
        let good = cached.as_ref().filter(|it| Instant::now() < it.refresh_at && it.generation == generation);
        good.map(|it| it.token.clone())
    }

    async fn fetch(&self) -> Result<SecretString, TransportError> {
        let none = |text: String| TransportError::of(Symptom::NoToken, text);
        let Login { generation, client_id, client_secret } = self.principal.login().await?;
        let secret = client_secret.expose_secret();
        let grant = [("grant_type", "client_credentials"), ("scope", "all-apis")];
        let narrowing = self.form.iter().map(|(name, value)| (*name, value.as_str()));
        let form: Vec<(&str, &str)> = grant.into_iter().chain(narrowing).collect();
        let request = self.http.post(&self.url).basic_auth(client_id, Some(secret));
        let response = request.form(&form).send().await.map_err(unanswered)?;
        if !response.status().is_success() {
            return Err(refused(response, secret).await);
        }
        let body = http::body(response, ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| none(format!("no token: {error}")))?;
        // The answer itself is never shown: it may hold a token.
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| none("no token: the token endpoint gave an answer that is no token".to_owned()))?;
        if let Some(expires_in) = answer.expires_in.map(Duration::from_secs) {
            let kept = expires_in.saturating_sub(REFRESH_AHEAD).max(expires_in / 2);
            let refresh_at = Instant::now() + kept;
            *self.lock() = Some(Cached { token: answer.access_token.clone(), refresh_at, generation });
        }
        Ok(answer.access_token)
    }

    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Cached>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unanswered(error: reqwest::Error) -> TransportError {
    match trust::refusal(&error) {
        Some(refusal) => {
            TransportError::of(Symptom::Trust, format!("no token: no connection to the workspace: {refusal}"))
        }
        None => TransportError::of(Symptom::NoToken, format!("no token: {}", http::unreachable(error))),
    }
}

async fn refused(response: reqwest::Response, secret: &str) -> TransportError {
    let (status, retry_after) = (response.status(), http::retry_after(&response));
    let said = http::shown(response, secret).await;
    let text = format!("no token: the token endpoint answered {status}: {said}");
    TransportError { retry_after, ..TransportError::of(Symptom::Token(status), text) }
}
