//! Asks Unity Catalog for one table: `GET /api/2.1/unity-catalog/tables/{catalog.schema.table}`.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use secrecy::ExposeSecret;

use super::columns::table_schema;
use super::error::CatalogError;
use crate::convert::TableSchema;
use crate::http;
use crate::oauth::Tokens;
use crate::principal::Principal;
use crate::types::TableName;
use crate::wal::Destination;

/// For a token and the answer together. A stream waits for this before it is opened, so it is short.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A table of 2,000 columns with long comments has a few MiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The catalog, as far as it knows one table.
pub(crate) struct Catalog {
    http: reqwest::Client,
    /// Good for all interfaces of the workspace: those of the streams are good for writing only.
    tokens: Tokens,
    table: TableName,
    url: String,
}

impl Catalog {
    /// The catalog of the destination; none without credentials, for it answers nobody unknown.
    pub(crate) fn new(
        http: reqwest::Client,
        destination: &Destination,
        principal: Option<Arc<Principal>>,
    ) -> Option<Catalog> {
        let (principal, workspace) = principal.zip(destination.unity_catalog_url.as_deref())?;
        Some(Catalog {
            tokens: Tokens::new(http.clone(), workspace, principal, Vec::new()),
            // A table's name is letters, digits, underscores and points: nothing to escape.
            url: format!("{workspace}/api/2.1/unity-catalog/tables/{}", destination.table),
            table: destination.table.clone(),
            http,
        })
    }

    /// Counts how often somebody has changed who asks.
    pub(super) fn generation(&self) -> u64 {
        self.tokens.generation()
    }

    /// The columns of the table now.
    ///
    /// # Errors
    ///
    /// [`CatalogError`], at the latest after ten seconds.
    pub(crate) async fn table_schema(&self) -> Result<TableSchema, CatalogError> {
        let asking = tokio::time::timeout(TIMEOUT, self.ask());
        asking.await.unwrap_or(Err(CatalogError::Timeout { timeout: TIMEOUT }))
    }

    async fn ask(&self) -> Result<TableSchema, CatalogError> {
        let away = |reason: String| CatalogError::Away { reason };
        let mut is_fresh_token_tried = false;
        loop {
            let token = self.tokens.token().await.map_err(CatalogError::Token)?;
            let request = self.http.get(&self.url).bearer_auth(token.expose_secret());
            let response = request.send().await.map_err(|error| away(http::unreachable(error)))?;
            let status = response.status();
            match status {
                StatusCode::OK => {
                    let body = http::body(response, ANSWER_BYTES_MAX).await;
                    return Ok(table_schema(&body.map_err(|error| away(error.to_string()))?)?);
                }
                // A token may have been revoked early.
                StatusCode::UNAUTHORIZED if !is_fresh_token_tried => {
                    is_fresh_token_tried = true;
                    self.tokens.forget();
                }
                _ => {
                    let said = http::shown(response, token.expose_secret()).await;
                    let (table, answer) = (self.table.clone(), format!("{status}: {said}"));
                    return Err(match status {
                        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                            CatalogError::Refused { table, answer }
                        }
                        StatusCode::NOT_FOUND if said.contains("error_code") => {
                            CatalogError::NoSuchTable { table }
                        }
                        // A redirect, or the page of some proxy: whatever it is, it is not the catalog.
                        _ => away(format!("it answered {answer}")),
                    });
                }
            }
        }
    }
}
