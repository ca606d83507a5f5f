//! Does the service take us: who we are, what we may do, and the clock that tokens and certificates go by?

use std::path::Path;
use std::sync::Arc;

use super::Finding;
use super::time;
use crate::catalog::{Catalog, CatalogError, CatalogErrorClass};
use crate::config::{Validated, WrapperConfiguration};
use crate::convert::{TableSchema, table_descriptor};
use crate::error::{ErrorCode, chain};
use crate::http;
use crate::io::Env;
use crate::oauth::Tokens;
use crate::principal::Principal;
use crate::transport::zerobus::ZerobusTransport;
use crate::transport::{ErrorClass, Format, Transport as _, TransportError};
use crate::trust::Trust;

/// From here on it should be corrected.
const SKEW_WARNING_SECS: i64 = 30;
/// From here on tokens may be refused: they are good from and until some minutes.
const SKEW_FAILED_SECS: i64 = 300;

/// What the service is asked with.
pub(super) struct Service<'c> {
    configuration: &'c WrapperConfiguration,
    validated: &'c Validated,
    trust: &'c Trust,
    directory: &'c Path,
    principal: Option<Arc<Principal>>,
}

impl<'c> Service<'c> {
    pub(super) fn new(
        configuration: &'c WrapperConfiguration,
        validated: &'c Validated,
        trust: &'c Trust,
        directory: &'c Path,
    ) -> Service<'c> {
        let principal =
            validated.credentials.clone().map(|credentials| Arc::new(Principal::new(credentials)));
        Service { configuration, validated, trust, directory, principal }
    }

    /// Asks; returns the columns of the table if the catalog tells them.
    pub(super) fn examine(&self, findings: &mut Vec<Finding>) -> Option<TableSchema> {
        let unusable = |code, text: String| {
            let advice = "see that this process may start threads and open files";
            Finding::failed("settings", self.directory.display(), code, text, advice)
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                findings.push(unusable(ErrorCode::Storage, chain(&error)));
                return None;
            }
        };
        runtime.block_on(async {
            let http = match http::client(self.trust) {
                Ok(http) => http,
                Err(error) => {
                    findings.push(unusable(error.code, chain(&error)));
                    return None;
                }
            };
            findings.extend(self.clock(&http).await);
            let is_known = self.token(&http, findings).await;
            if !is_known {
                return None;
            }
            let columns = self.catalog(&http, findings).await;
            findings.extend(self.stream(http, columns.as_ref()).await);
            columns
        })
    }

    async fn clock(&self, http: &reqwest::Client) -> Option<Finding> {
        let workspace = self.validated.destination.unity_catalog_url.as_deref()?;
        let answer = http.get(workspace).send().await;
        let now = Env::os().clock.unix_micros() / 1_000_000;
        let date = answer
            .ok()
            .and_then(|answer| time::of_http(answer.headers().get(reqwest::header::DATE)?.to_str().ok()?));
        let Some(date) = date else {
            let advice = "none is needed: the answers of this workspace have no date to compare with";
            return Some(Finding::warning("clock", workspace, "the workspace tells no time", advice));
        };
        Some(clock(workspace, now - date))
    }

    /// Says whether there is a token, or none is needed.
    async fn token(&self, http: &reqwest::Client, findings: &mut Vec<Finding>) -> bool {
        let destination = &self.validated.destination;
        let (Some(principal), Some(workspace)) = (&self.principal, &destination.unity_catalog_url) else {
            let advice =
                "give client_id and client_secret, or client_secret_file, unless this service asks for none";
            findings.push(Finding::warning(
                "token",
                &destination.endpoint,
                "no credentials are given",
                advice,
            ));
            return true;
        };
        let tokens = Tokens::new(http.clone(), workspace, Arc::clone(principal), Vec::new());
        match tokens.token().await {
            Ok(_) => findings.push(Finding::ok("token", workspace, "the workspace gives one")),
            Err(error) => {
                let advice = match (error.class, error.code) {
                    (ErrorClass::Blocked, ErrorCode::Authentication) => {
                        "check client_id and client_secret: the secret may have ended, been rotated, or be of another \
                         workspace"
                    }
                    (ErrorClass::Transient, _) => {
                        "check that unity_catalog_url is the workspace; then try again"
                    }
                    _ => "do what the message says",
                };
                findings.push(Finding::failed("token", workspace, error.code, chain(&error), advice));
                return false;
            }
        }
        true
    }

    async fn catalog(&self, http: &reqwest::Client, findings: &mut Vec<Finding>) -> Option<TableSchema> {
        let destination = &self.validated.destination;
        let catalog = Catalog::new(http.clone(), destination, self.principal.clone())?;
        let table = &destination.table;
        match catalog.table_schema().await {
            Ok(schema) => {
                let found = format!("the table has {} columns", schema.columns.len());
                findings.push(Finding::ok("catalog", table, found));
                Some(schema)
            }
            Err(error) => {
                findings.push(unread(table.as_str(), &error));
                None
            }
        }
    }

    /// Opens a stream, on which nothing is sent.
    async fn stream(&self, http: reqwest::Client, columns: Option<&TableSchema>) -> Option<Finding> {
        let destination = &self.validated.destination;
        let (table, principal) = (destination.table.as_str(), self.principal.clone());
        // Without columns there is nothing to open one for.
        let descriptor = match table_descriptor(columns?) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                let advice = "change the table so that the service can fill its columns (docs/types.md)";
                return Some(Finding::failed("stream", table, ErrorCode::Conversion, chain(&error), advice));
            }
        };
        let compression = self.configuration.compression.unwrap_or_default();
        let window = self.configuration.max_inflight_requests;
        let transport = ZerobusTransport::new(http, destination, principal, self.trust, window, compression);
        let opened = match transport {
            Ok(transport) => transport.open(&Format::Protobuf(Arc::new(descriptor))).await,
            Err(error) => Err(error),
        };
        Some(match opened {
            Ok(stream) => {
                stream.close().await;
                Finding::ok("stream", table, "the service opens one for this table and these columns")
            }
            Err(error) => refused(table, &error),
        })
    }
}

fn clock(workspace: &str, ahead_secs: i64) -> Finding {
    let found = match ahead_secs {
        0 => "this machine and the workspace agree to the second".to_owned(),
        1.. => format!("this machine is {ahead_secs} s ahead of the workspace"),
        _ => format!("this machine is {} s behind the workspace", -ahead_secs),
    };
    let advice = "set the clock, or have it set (chrony, systemd-timesyncd)";
    match ahead_secs.abs() {
        SKEW_FAILED_SECS.. => {
            let found = format!("{found}: tokens and certificates are good from and until some time");
            Finding::failed("clock", workspace, ErrorCode::Authentication, found, advice)
        }
        SKEW_WARNING_SECS.. => Finding::warning("clock", workspace, found, advice),
        _ => Finding::ok("clock", workspace, found),
    }
}

/// The catalog has not told the columns.
fn unread(table: &str, error: &CatalogError) -> Finding {
    let found = chain(error);
    match error.class() {
        CatalogErrorClass::Blocked => {
            let advice = format!(
                "GRANT USE CATALOG, USE SCHEMA and SELECT ON TABLE {table} to the service principal; until then columns \
                 are taken from the batches, and nothing is checked before it is stored"
            );
            Finding::warning("catalog", table, found, advice)
        }
        CatalogErrorClass::Transient => {
            let advice = "check that unity_catalog_url is the workspace; then try again";
            Finding::warning("catalog", table, found, advice)
        }
        CatalogErrorClass::NoSuchTable => {
            let advice = "create the table, correct table_name, or GRANT USE CATALOG and USE SCHEMA: what may not be \
                          used is not shown";
            Finding::failed("catalog", table, ErrorCode::Transmission, found, advice)
        }
        CatalogErrorClass::Unsuitable => {
            let advice = "change the table so that the service can fill its columns (docs/types.md)";
            Finding::failed("catalog", table, ErrorCode::Transmission, found, advice)
        }
    }
}

/// The service has opened no stream.
fn refused(table: &str, error: &TransportError) -> Finding {
    let advice = match (error.class, error.code) {
        (ErrorClass::Blocked, ErrorCode::Authentication) => format!(
            "GRANT USE CATALOG, USE SCHEMA, and SELECT and MODIFY ON TABLE {table} to the service principal; ALL \
             PRIVILEGES is not enough"
        ),
        (ErrorClass::Blocked, ErrorCode::Transmission) => {
            "create the table, or correct table_name and endpoint: the endpoint is one of the same workspace and region"
                .to_owned()
        }
        (ErrorClass::Poison, _) => "change the table as the message says (docs/types.md)".to_owned(),
        (ErrorClass::Transient, _) => "try again; if it stays, check endpoint".to_owned(),
        _ => "do what the message says".to_owned(),
    };
    Finding::failed("stream", table, error.code, chain(error), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::doctor::Verdict;

    #[test]
    fn a_clock_that_is_wrong_by_minutes_has_failed_in_either_direction() {
        for (ahead, verdict) in [
            (0, Verdict::Ok),
            (-29, Verdict::Ok),
            (30, Verdict::Warning),
            (-299, Verdict::Warning),
            (300, Verdict::Failed),
            (-86_400, Verdict::Failed),
        ] {
            assert_eq!(clock("w", ahead).verdict, verdict, "{ahead}");
        }
        assert!(clock("w", -40).found.contains("40 s behind"));
    }
}
