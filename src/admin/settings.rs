//! Which value each setting has and who gave it, and whether a wrapper would take them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::config::{ConfigError, Kind, Origin, SETTINGS, Setting, Sources, Value, default_wal_dir};
use crate::error::{Coded, ErrorCode, chain};
use crate::wrapper::{OpenError, check_configuration};

/// What stands for a secret that is given.
const HIDDEN: &str = "********";

/// A setting with the value that counts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SettingReport {
    /// Its name.
    pub name: &'static str,
    /// Its value: text, a number or a flag; times in the unit that the name ends in; a secret as asterisks; `null` for
    /// none.
    pub value: serde_json::Value,
    /// Where it came from.
    pub source: SettingSource,
    /// The variable, or the file and the line; `None` for a default.
    pub origin: Option<String>,
    /// Where the default is no value, what is done then.
    pub default_note: Option<&'static str>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// Nobody gave it.
    Default,
    /// A file of settings.
    File,
    /// A variable of the environment.
    Environment,
    /// The program.
    Argument,
    /// Nobody gave it, and there is no wrapper without it.
    Missing,
}

impl SettingSource {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            SettingSource::Default => "default",
            SettingSource::File => "file",
            SettingSource::Environment => "environment",
            SettingSource::Argument => "argument",
            SettingSource::Missing => "missing",
        }
    }
}

/// Settings that no wrapper would take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// One is wrong by itself or beside another.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// What one names cannot be used.
    #[error("{}{}", chain(error), origin.as_ref().map_or(String::new(), |origin| format!("; it was set {origin}")))]
    Unusable {
        /// What the constructor says.
        error: OpenError,
        /// Where the setting was given.
        origin: Option<String>,
    },
}

impl Coded for SettingsError {
    fn code(&self) -> ErrorCode {
        match self {
            SettingsError::Setting(error) => error.code(),
            SettingsError::Unusable { error, .. } => error.code(),
        }
    }

    fn setting(&self) -> Option<&'static str> {
        match self {
            SettingsError::Setting(error) => error.setting(),
            SettingsError::Unusable { error, .. } => error.setting(),
        }
    }
}

/// Every setting, in the order of the registry, as an environment and perhaps a file give it. One that is missing is an
/// entry like the others.
///
/// # Errors
///
/// [`SettingsError`] if the file cannot be read, or something in it or in the environment is no setting, or no value of one.
pub fn show(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    file: Option<&Path>,
) -> Result<Vec<SettingReport>, SettingsError> {
    let given = sources(environment, file)?.given();
    let mut given: BTreeMap<&str, _> = given.into_iter().map(|given| (given.setting.name, given)).collect();
    let report = |setting: &'static Setting| {
        let (value, source, origin) = match given.remove(setting.name) {
            Some(given) => (Some(given.value), source_of(&given.origin), Some(place_of(&given.origin))),
            None if setting.is_required() => (None, SettingSource::Missing, None),
            None => (setting.default(), SettingSource::Default, None),
        };
        let value = match value {
            // Where it is resolved is what people want to know.
            None if setting.name == "wal_dir" => default_wal_dir().ok().map(Value::Path),
            value => value,
        };
        SettingReport {
            name: setting.name,
            value: value.as_ref().map_or(serde_json::Value::Null, |value| shown(setting.kind(), value)),
            source,
            origin,
            default_note: setting.default_note,
        }
    };
    Ok(SETTINGS.iter().map(report).collect())
}

/// Checks what an environment and perhaps a file give as the constructor of a wrapper would, without touching the log or
/// the network. Files that settings name are read.
///
/// # Errors
///
/// [`SettingsError`] names the first setting that is wrong, its value, where it was set, and what is allowed.
pub fn check(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    file: Option<&Path>,
) -> Result<(), SettingsError> {
    let (configuration, origins) = sources(environment, file)?.configured()?;
    check_configuration(&configuration).map_err(|error| {
        let origin = error.setting().and_then(|setting| origins.get(setting)).map(ToString::to_string);
        SettingsError::Unusable { error, origin }
    })
}

fn sources(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    file: Option<&Path>,
) -> Result<Sources, SettingsError> {
    let sources = Sources::new().environment(environment)?;
    Ok(match file {
        Some(path) => sources.file(path)?,
        None => sources,
    })
}

fn source_of(origin: &Origin) -> SettingSource {
    match origin {
        Origin::Argument => SettingSource::Argument,
        Origin::Variable(_) => SettingSource::Environment,
        Origin::Line { .. } => SettingSource::File,
    }
}

fn place_of(origin: &Origin) -> String {
    match origin {
        Origin::Argument => "argument".to_owned(),
        Origin::Variable(name) => name.clone(),
        Origin::Line { path, line } => format!("{}:{line}", path.display()),
    }
}

/// A value as anybody may see it \[I9\].
fn shown(kind: Kind, value: &Value) -> serde_json::Value {
    match value {
        Value::Secret(_) => json!(HIDDEN),
        // A URL can have a password in it; the check refuses such a one.
        Value::Text(text) if text.contains('@') && text.contains("//") => json!(HIDDEN),
        Value::Text(text) | Value::Choice(text) => json!(text),
        Value::Path(path) => json!(path.display().to_string()),
        Value::Number(number) => json!(number),
        Value::Duration(time) if kind == Kind::Millis => json!(time.as_millis() as u64),
        Value::Duration(time) => json!(time.as_secs_f64()),
        Value::Flag(flag) => json!(flag),
        Value::None => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(of: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        of.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn find<'a>(reports: &'a [SettingReport], name: &str) -> &'a SettingReport {
        reports.iter().find(|report| report.name == name).unwrap()
    }

    #[test]
    fn every_setting_tells_its_value_and_who_gave_it_and_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("zerobus.toml");
        std::fs::write(
            &file,
            "client_secret = \"hunter2\"\nwal_max_bytes = \"2GiB\"\nretry_base_delay_ms = 7\n",
        )
        .unwrap();
        let environment = variables(&[
            ("ARROW_ZEROBUS_RETRY_BASE_DELAY_MS", "250"),
            ("ZEROBUS_ENDPOINT", "http://127.0.0.1:9"),
            ("ARROW_ZEROBUS_PROXY", "http://me:hunter2@proxy:1"),
        ]);
        let reports = show(environment, Some(&file)).unwrap();
        assert_eq!(reports.len(), SETTINGS.len());
        let told = |name| {
            let report = find(&reports, name);
            (report.value.clone(), report.source, report.origin.as_deref())
        };
        let line = |line| format!("{}:{line}", file.display());
        assert_eq!(told("client_secret"), (json!("********"), SettingSource::File, Some(&*line(1))));
        assert_eq!(told("wal_max_bytes"), (json!(2_147_483_648_u64), SettingSource::File, Some(&*line(2))));
        let variable = Some("ARROW_ZEROBUS_RETRY_BASE_DELAY_MS");
        assert_eq!(told("retry_base_delay_ms"), (json!(250), SettingSource::Environment, variable));
        assert_eq!(told("endpoint").2, Some("ZEROBUS_ENDPOINT"));
        assert_eq!(told("table_name"), (json!(null), SettingSource::Missing, None));
        assert_eq!(told("shutdown_timeout_secs"), (json!(30.0), SettingSource::Default, None));
        assert_eq!(told("durability"), (json!("sync"), SettingSource::Default, None));
        assert!(!format!("{reports:?}").contains("hunter2"));
    }

    #[test]
    fn what_a_constructor_would_refuse_is_refused_with_where_it_was_set() {
        let good = [("ZEROBUS_ENDPOINT", "http://127.0.0.1:9"), ("ZEROBUS_TABLE_NAME", "a.b.c")];
        assert!(check(variables(&good), None).is_ok());
        let refused = |more: (&'static str, &'static str)| {
            let mut all = good.to_vec();
            all.push(more);
            check(variables(&all), None).unwrap_err()
        };
        let range = refused(("ARROW_ZEROBUS_STREAMS", "0"));
        assert_eq!((range.code(), range.setting()), (ErrorCode::Configuration, Some("streams")));
        assert!(range.to_string().contains("by ARROW_ZEROBUS_STREAMS"), "{range}");
        let file = refused(("ARROW_ZEROBUS_CA_CERTIFICATE_FILE", "/nowhere/ca.pem"));
        assert_eq!((file.code(), file.setting()), (ErrorCode::Configuration, Some("ca_certificate_file")));
        assert!(file.to_string().contains("by ARROW_ZEROBUS_CA_CERTIFICATE_FILE"), "{file}");
        assert!(
            check(variables(&good[..1]), None).unwrap_err().to_string().contains("table_name is missing")
        );
    }
}
