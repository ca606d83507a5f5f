//! OAuth tokens for streams: fetched, kept until shortly before they expire, forgotten when refused.
//!
//! The client crate brings a provider too. Ours differs where it matters for weeks of unattended work: a
//! request has a time limit, and 408 and 429 of the token endpoint are transient.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{HeadersProvider, ZerobusError, ZerobusResult};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use crate::config::Credentials;
use crate::error::{ErrorCode, chain};
use crate::transport::TransportError;
use crate::types::TableName;
use crate::wal::Destination;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// A token is replaced this long before it expires, or at half its life if it lives shorter than twice that.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);
/// How much of an error answer is shown.
const ANSWER_CHARS_MAX: usize = 300;

pub(super) struct TokenProvider {
    http: reqwest::Client,
    table: TableName,
    source: Option<TokenSource>,
    cached: Mutex<Option<Cached>>,
    failure: Mutex<Option<TransportError>>,
}

struct TokenSource {
    credentials: Credentials,
    url: String,
    workspace_id: String,
}

struct Cached {
    token: SecretString,
    refresh_at: Instant,
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

impl TokenProvider {
    pub(super) fn new(
        destination: &Destination,
        credentials: Option<Credentials>,
    ) -> Result<TokenProvider, TransportError> {
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().map_err(|error| {
            TransportError::blocked(ErrorCode::Configuration, format!("no HTTP client: {}", chain(&error)))
        })?;
        let source =
            credentials.zip(destination.unity_catalog_url.as_ref()).map(|(credentials, url)| TokenSource {
                credentials,
                url: format!("{url}/oidc/v1/token"),
                workspace_id: workspace_id(&destination.endpoint).to_owned(),
            });
        let table = destination.table.clone();
        Ok(TokenProvider { http, table, source, cached: Mutex::default(), failure: Mutex::default() })
    }

    /// Why the last token could not be had, once.
    pub(super) fn take_failure(&self) -> Option<TransportError> {
        lock(&self.failure).take()
    }

    /// Makes the next stream fetch a new token.
    pub(super) fn forget(&self) {
        *lock(&self.cached) = None;
    }

    fn cached(&self) -> Option<SecretString> {
        let cached = lock(&self.cached);
        cached.as_ref().filter(|it| Instant::now() < it.refresh_at).map(|it| it.token.clone())
    }

    async fn fetch(&self, source: &TokenSource) -> Result<SecretString, TransportError> {
        let transient = |text: String| TransportError::transient(ErrorCode::TokenRefresh, text);
        let response = self
            .http
            .post(&source.url)
            .basic_auth(&source.credentials.client_id, Some(source.credentials.client_secret.expose_secret()))
            .form(&[
                ("grant_type", "client_credentials"),
                ("scope", "all-apis"),
                (
                    "resource",
                    &format!("api://databricks/workspaces/{}/zerobusDirectWriteApi", source.workspace_id),
                ),
                ("authorization_details", &authorization_details(&self.table)),
            ])
            .send()
            .await
            .map_err(|error| transient(format!("no token: {}", chain(&error.without_url()))))?;
        let status = response.status();
        if !status.is_success() {
            return Err(refused(status, response).await);
        }
        // The answer itself is never shown: it may hold a token.
        let answer: Answer = response.json().await.map_err(|_| {
            transient("no token: the token endpoint gave an answer that is no token".to_owned())
        })?;
        if let Some(expires_in) = answer.expires_in.map(Duration::from_secs) {
            let kept = expires_in.saturating_sub(REFRESH_AHEAD).max(expires_in / 2);
            *lock(&self.cached) =
                Some(Cached { token: answer.access_token.clone(), refresh_at: Instant::now() + kept });
        }
        Ok(answer.access_token)
    }
}

#[async_trait]
impl HeadersProvider for TokenProvider {
    async fn get_headers(&self) -> ZerobusResult<HashMap<&'static str, String>> {
        let mut headers = HashMap::from([("x-databricks-zerobus-table-name", self.table.to_string())]);
        let Some(source) = &self.source else { return Ok(headers) };
        let token = match self.cached() {
            Some(token) => token,
            None => self.fetch(source).await.map_err(|failure| {
                let error = ZerobusError::TokenFetchError(failure.message.clone());
                *lock(&self.failure) = Some(failure);
                error
            })?,
        };
        headers.insert("authorization", format!("Bearer {}", token.expose_secret()));
        Ok(headers)
    }

    async fn invalidate(&self) {
        self.forget();
    }
}

/// 408, 425, 429 and 5xx pass by themselves; any other refusal needs a person.
async fn refused(status: StatusCode, response: reqwest::Response) -> TransportError {
    let passes = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body: String = response.text().await.unwrap_or_default().chars().take(ANSWER_CHARS_MAX).collect();
    let text = format!("no token: the token endpoint answered {status}: {body}");
    let error = if passes {
        TransportError::transient(ErrorCode::TokenRefresh, text)
    } else {
        TransportError::blocked(ErrorCode::Authentication, text)
    };
    TransportError { retry_after, ..error }
}

/// The first label of the endpoint's host.
fn workspace_id(endpoint: &str) -> &str {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    host.split(['.', ':', '/']).next().unwrap_or_default()
}

fn authorization_details(table: &TableName) -> String {
    let [catalog, schema, _] = table.parts();
    serde_json::json!([
        {
            "type": "unity_catalog_privileges",
            "privileges": ["USE CATALOG"],
            "object_type": "CATALOG",
            "object_full_path": catalog,
        },
        {
            "type": "unity_catalog_privileges",
            "privileges": ["USE SCHEMA"],
            "object_type": "SCHEMA",
            "object_full_path": format!("{catalog}.{schema}"),
        },
        {
            "type": "unity_catalog_privileges",
            "privileges": ["SELECT", "MODIFY"],
            "object_type": "TABLE",
            "object_full_path": table.as_str(),
            "operations": ["zerobuswrite"],
        },
    ])
    .to_string()
}

/// The data behind these locks is whole at every moment, whatever a thread that held one died of.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_id_is_the_first_label_of_the_host() {
        assert_eq!(workspace_id("https://1234.zerobus.eu-west-1.cloud.databricks.com"), "1234");
        assert_eq!(workspace_id("http://127.0.0.1:8080"), "127");
        assert_eq!(workspace_id("http://localhost:8080"), "localhost");
    }

    #[test]
    fn the_token_is_asked_for_exactly_this_table() {
        let details = authorization_details(&"cat.sch.tab".parse().unwrap());
        assert!(details.contains("\"cat.sch\"") && details.contains("\"cat.sch.tab\""), "{details}");
        assert!(details.contains("zerobuswrite"));
    }
}
