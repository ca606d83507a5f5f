//! What a stream shows the service: its table, and a token that is good for writing to this table only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{HeadersProvider, ZerobusError, ZerobusResult};
use secrecy::ExposeSecret;

use crate::oauth::Tokens;
use crate::principal::Principal;
use crate::transport::TransportError;
use crate::types::TableName;
use crate::wal::Destination;

pub(super) struct TokenProvider {
    table: TableName,
    /// None where the service asks for no token.
    tokens: Option<Tokens>,
    failure: Mutex<Option<TransportError>>,
}

impl TokenProvider {
    pub(super) fn new(
        http: reqwest::Client,
        destination: &Destination,
        principal: Option<Arc<Principal>>,
    ) -> TokenProvider {
        let form = vec![
            ("resource", resource(&destination.endpoint)),
            ("authorization_details", authorization_details(&destination.table)),
        ];
        let tokens = principal
            .zip(destination.unity_catalog_url.as_ref())
            .map(|(principal, url)| Tokens::new(http, url, principal, form));
        TokenProvider { table: destination.table.clone(), tokens, failure: Mutex::default() }
    }

    /// Why the last token could not be had, once.
    pub(super) fn take_failure(&self) -> Option<TransportError> {
        self.failure().take()
    }

    /// Makes the next stream fetch a new token.
    pub(super) fn forget(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.forget();
        }
    }

    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of.
    fn failure(&self) -> std::sync::MutexGuard<'_, Option<TransportError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HeadersProvider for TokenProvider {
    async fn get_headers(&self) -> ZerobusResult<HashMap<&'static str, String>> {
        let mut headers = HashMap::from([("x-databricks-zerobus-table-name", self.table.to_string())]);
        let Some(tokens) = &self.tokens else { return Ok(headers) };
        let token = tokens.token().await.map_err(|failure| {
            let error = ZerobusError::TokenFetchError(failure.message.clone());
            *self.failure() = Some(failure);
            error
        })?;
        headers.insert("authorization", format!("Bearer {}", token.expose_secret()));
        Ok(headers)
    }

    async fn invalidate(&self) {
        self.forget();
    }
}

/// The interface that the token is for.
fn resource(endpoint: &str) -> String {
    format!("api://databricks/workspaces/{}/zerobusDirectWriteApi", workspace_id(endpoint))
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
