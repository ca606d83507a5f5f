//! The HTTP side of the service: access tokens, the catalog, and the warehouse that changes tables.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::catalog::Catalog;
use super::faults::{Fault, Faults, Occasion};
use super::server::stopped;
use super::sql::{self, Privilege};
use super::token::{Purpose, Tokens};
use super::unity::TableInfo;
use crate::error::chain;

/// What the routes answer from.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) tokens: Arc<Tokens>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) faults: Arc<Faults>,
    pub(super) stop: watch::Receiver<bool>,
}

/// The routes of the HTTP port.
pub(super) fn router(context: Context) -> Router {
    Router::new()
        .route("/oidc/v1/token", post(token))
        .route("/api/2.1/unity-catalog/tables/{full_name}", get(table))
        .route("/api/2.0/sql/statements", post(statement))
        .with_state(context)
}

/// Client credentials, from the header or, as OAuth also allows, from the form.
fn client(headers: &HeaderMap, form: &[(String, String)]) -> Option<(String, String)> {
    if let Some(header) = headers.get(AUTHORIZATION) {
        let encoded = header.to_str().ok()?.strip_prefix("Basic ")?;
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = decoded.split_once(':')?;
        return Some((id.to_owned(), secret.to_owned()));
    }
    Some((field(form, "client_id")?.to_owned(), field(form, "client_secret")?.to_owned()))
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response {
    let body = Json(json!({ "error": error, "error_description": description }));
    match status {
        StatusCode::UNAUTHORIZED => (status, [(WWW_AUTHENTICATE, "Basic")], body).into_response(),
        _ => (status, body).into_response(),
    }
}

/// An answer that a rule asks for, with a word for it.
fn failed_by_rule(status: u16, retry_after_secs: Option<u64>, word: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = oauth_error(status, word, "asked for by a rule");
    if let Some(seconds) = retry_after_secs {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Answers nothing for as long as the emulator runs.
async fn hang(mut stop: watch::Receiver<bool>) -> Response {
    stopped(&mut stop).await;
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

async fn token(State(context): State<Context>, headers: HeaderMap, body: String) -> Response {
    let honest = (context.tokens.lifetime(), None);
    let (lifetime, claim_secs) = match context.faults.strike(Occasion::Token, None) {
        Some(Fault::FailToken { status, retry_after_secs }) => {
            return failed_by_rule(status, retry_after_secs, "temporarily_unavailable");
        }
        Some(Fault::HangToken {}) => return hang(context.stop).await,
        Some(Fault::ExpireToken { after_ms, claim_secs }) => (Duration::from_millis(after_ms), claim_secs),
        _ => honest,
    };
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    match field(&form, "grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            let text = "grant_type must be client_credentials";
            return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type", text);
        }
        None => return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "grant_type is missing"),
    }
    let known = client(&headers, &form).is_some_and(|(id, secret)| context.tokens.knows(&id, &secret));
    if !known {
        return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", "client authentication failed");
    }
    let purpose = Purpose::of(field(&form, "scope"), field(&form, "resource"));
    let answer = json!({
        "access_token": context.tokens.issue(purpose, lifetime),
        "token_type": "Bearer",
        "scope": field(&form, "scope").unwrap_or("all-apis"),
        "expires_in": claim_secs.unwrap_or(lifetime.as_secs()),
    });
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

fn api_error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error_code": code, "message": message }))).into_response()
}

/// The refusal of whoever has no token for the interfaces of the workspace; the token of a stream is none.
fn refusal(context: &Context, headers: &HeaderMap) -> Option<Response> {
    let authorization = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    match context.tokens.purpose(authorization) {
        Some(Purpose::AllApis) => None,
        Some(_) => {
            let text = "Provided OAuth token does not have required scopes: all-apis";
            Some(api_error(StatusCode::FORBIDDEN, "PERMISSION_DENIED", text))
        }
        None => {
            let text = "the access token is not valid";
            Some(api_error(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", text))
        }
    }
}

async fn table(
    State(context): State<Context>,
    headers: HeaderMap,
    Path(full_name): Path<String>,
) -> Response {
    let name = full_name.parse().ok();
    match context.faults.strike(Occasion::Catalog, name.as_ref()) {
        Some(Fault::FailCatalog { status, retry_after_secs }) => {
            return failed_by_rule(status, retry_after_secs, "unavailable");
        }
        Some(Fault::HangCatalog {}) => return hang(context.stop).await,
        _ => {}
    }
    if let Some(refused) = refusal(&context, &headers) {
        return refused;
    }
    match name.and_then(|name| context.catalog.find(&name)) {
        Some(table) if !context.catalog.has(table.name(), Privilege::Select) => {
            let text = format!("User does not have SELECT on Table '{full_name}'.");
            api_error(StatusCode::FORBIDDEN, "PERMISSION_DENIED", &text)
        }
        Some(table) => {
            let location = format!("file://{}", table.directory().display());
            Json(TableInfo::new(table.name(), table.schema(), location)).into_response()
        }
        None => {
            let text = format!("Table '{full_name}' does not exist.");
            api_error(StatusCode::NOT_FOUND, "TABLE_DOES_NOT_EXIST", &text)
        }
    }
}

#[derive(Deserialize)]
struct Statement {
    statement: String,
}

/// Runs a statement and waits for its end, as the service does for short ones.
async fn statement(
    State(context): State<Context>,
    headers: HeaderMap,
    Json(Statement { statement }): Json<Statement>,
) -> Response {
    if let Some(refused) = refusal(&context, &headers) {
        return refused;
    }
    let ran = tokio::task::spawn_blocking(move || sql::run(&context.catalog, &statement)).await;
    let status = match ran {
        Ok(Ok(())) => json!({ "state": "SUCCEEDED" }),
        Ok(Err(error)) => failed(&chain(&error)),
        Err(error) => failed(&error.to_string()),
    };
    let statement_id = format!("{:032x}", rand::random::<u128>());
    Json(json!({ "statement_id": statement_id, "status": status })).into_response()
}

fn failed(message: &str) -> serde_json::Value {
    json!({ "state": "FAILED", "error": { "error_code": "BAD_REQUEST", "message": message } })
}
