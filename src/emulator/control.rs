//! The routes of `/control`: rules for faults are added, shown and removed.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::faults::{Faults, Rule};

/// What may be done to the rules. Nobody needs a token: this is no part of the service.
pub(super) fn router(faults: Arc<Faults>) -> Router {
    Router::new().route("/control", get(list).post(add).delete(clear)).with_state(faults)
}

async fn list(State(faults): State<Arc<Faults>>) -> Response {
    Json(json!({ "rules": faults.list() })).into_response()
}

/// Takes one rule, a list of rules, or `{"rules": […]}`.
async fn add(State(faults): State<Arc<Faults>>, Json(body): Json<Value>) -> Response {
    let given = match body {
        Value::Array(rules) => rules,
        Value::Object(mut object) => match object.remove("rules") {
            Some(Value::Array(rules)) => rules,
            Some(rule) => vec![rule],
            None => vec![Value::Object(object)],
        },
        other => vec![other],
    };
    let rules = given.into_iter().map(Rule::from_json).collect::<Result<Vec<_>, _>>();
    match rules.and_then(|rules| faults.add(rules)) {
        Ok(ids) => Json(json!({ "ids": ids })).into_response(),
        Err(error) => {
            (StatusCode::BAD_REQUEST, Json(json!({ "message": error.to_string() }))).into_response()
        }
    }
}

async fn clear(State(faults): State<Arc<Faults>>) -> Response {
    faults.clear();
    Json(json!({ "rules": [] })).into_response()
}
