//! Where settings come from beside arguments, and which source counts: argument > environment > file > default.
//!
//! Nothing is read that nobody asked for: [`Sources`] begins empty, and each method adds one source.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{self, Entry, shown_key};
use super::registry::{SETTINGS, setting};
use super::setting::{Kind, Setting, VARIABLE_PREFIX, Value};
use super::{ConfigError, WrapperConfiguration, invalid};
use crate::error::Coded;

/// How alike two names must be for the one to be offered for the other, from 0 to 1.
const LIKENESS_MIN: f64 = 0.8;

/// The sources of the settings of one wrapper.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    arguments: Layer,
    environment: Layer,
    file: Layer,
}

/// What one source says.
type Layer = BTreeMap<&'static str, Given>;

/// A value and where it came from. Without one, it is given elsewhere, and other sources do not count.
#[derive(Clone, Debug)]
struct Given {
    value: Option<Value>,
    origin: Origin,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program gave it.
    Argument,
    /// A variable of the environment.
    Variable(String),
    /// A line of a file.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, the first is 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Argument => f.write_str("by an argument"),
            Origin::Variable(name) => write!(f, "by {name} in the environment"),
            Origin::Line { path, line } => write!(f, "in line {line} of {}", path.display()),
        }
    }
}

/// A setting with the value that counts.
pub struct Resolved {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

impl Sources {
    /// No source: every setting has its default.
    pub fn new() -> Sources {
        Sources::default()
    }

    /// Gives one setting, as a text as it could stand in a file. It counts before every other source.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if there is no such setting, or the text is no value of it.
    pub fn argument(mut self, name: &str, text: &str) -> Result<Sources, ConfigError> {
        let setting = setting(name).ok_or_else(|| unknown(name, "", "an argument"))?;
        let given = Given { value: Some(setting.parse(text)?), origin: Origin::Argument };
        self.arguments.insert(setting.name, given);
        Ok(self)
    }

    /// Says that the caller gives this setting by itself: no source counts for it, nor for what says the same in
    /// another way.
    #[cfg(feature = "python")]
    pub(crate) fn given_elsewhere(mut self, name: &str) -> Sources {
        if let Some(setting) = setting(name) {
            self.arguments.insert(setting.name, Given { value: None, origin: Origin::Argument });
        }
        self
    }

    /// Adds the variables of an environment, such as [`std::env::vars_os`]: those with the prefix `ARROW_ZEROBUS_`,
    /// and the plain names that other programs of the service know. An empty one counts as not set.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a variable with the prefix is no setting, or a text is no value of its setting.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Sources, ConfigError> {
        let variables: BTreeMap<OsString, OsString> =
            variables.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        let known: Vec<String> = SETTINGS.iter().flat_map(Setting::variables).collect();
        for name in variables.keys().map(|name| name.to_string_lossy()) {
            if name.starts_with(VARIABLE_PREFIX) && !known.iter().any(|known| *known == name) {
                return Err(unknown(&name, VARIABLE_PREFIX, "the environment"));
            }
        }
        for setting in SETTINGS {
            let set = setting.variables().find_map(|name| {
                let text = variables.get(OsStr::new(&name))?;
                Some((name, text))
            });
            let Some((name, text)) = set else { continue };
            let origin = Origin::Variable(name);
            let allowed = || invalid(setting.name, "(not valid Unicode)", "text that is valid Unicode");
            let parsed = text.to_str().ok_or_else(allowed).and_then(|text| setting.parse(text));
            let value = Some(parsed.map_err(|error| error.set(&origin))?);
            self.environment.insert(setting.name, Given { value, origin });
        }
        Ok(self)
    }

    /// Adds a file, TOML or YAML as its name says. Relative paths in it start from where the file lies.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it cannot be read, has a key that is no setting, or a value that its setting cannot have.
    pub fn file(mut self, path: &Path) -> Result<Sources, ConfigError> {
        let unreadable = |reason| ConfigError::File { path: path.display().to_string(), reason };
        let contents = file::read(path).map_err(unreadable)?;
        let path = std::path::absolute(path).map_err(|error| unreadable(error.to_string()))?;
        for Entry { key, text, line } in contents.entries {
            let origin = Origin::Line { path: path.clone(), line };
            let setting = setting(&key)
                .ok_or_else(|| unknown(&key, "", &format!("line {line} of {}", path.display())))?;
            let Some(text) = text else { continue };
            let mut value = setting.parse(&text).map_err(|error| error.set(&origin))?;
            if let (Value::Path(relative), Some(directory)) = (&mut value, path.parent()) {
                // An empty one stays wrong.
                if !relative.as_os_str().is_empty() {
                    *relative = directory.join(&*relative);
                }
            }
            if setting.kind() == Kind::Secret && contents.is_public {
                tracing::warn!(
                    path = %path.display(),
                    setting = setting.name,
                    "everybody on this machine can read a secret in a file of settings"
                );
            }
            self.file.insert(setting.name, Given { value: Some(value), origin });
        }
        Ok(self)
    }

    /// The settings that some source gives, each with the value that counts, in the order of the registry.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Required`] if nobody gives a setting that every wrapper needs.
    pub fn resolve(self) -> Result<Vec<Resolved>, ConfigError> {
        let layers = [&self.arguments, &self.environment, &self.file];
        let is_given = |setting: &Setting| layers.iter().any(|layer| layer.contains_key(setting.name));
        match SETTINGS.iter().find(|setting| setting.is_required() && !is_given(setting)) {
            Some(setting) => {
                let variables = setting.variables().collect::<Vec<_>>().join(" or ");
                Err(ConfigError::Required { setting: setting.name, variables })
            }
            None => Ok(self.given()),
        }
    }

    /// The same, whatever is missing.
    pub(crate) fn given(self) -> Vec<Resolved> {
        let layers = [self.arguments, self.environment, self.file];
        let level = |name| layers.iter().position(|layer| layer.contains_key(name));
        let mut resolved = Vec::new();
        for setting in SETTINGS {
            let Some(own) = level(setting.name) else { continue };
            let other = setting.alternative.and_then(level);
            if other.is_some_and(|other| other < own) {
                continue;
            }
            let Given { value, origin } = &layers[own][setting.name];
            if let Some(value) = value.clone() {
                resolved.push(Resolved { setting, value, origin: origin.clone() });
            }
        }
        resolved
    }

    /// The configuration that the sources make, checked as [`WrapperConfiguration::validate`] does.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that is wrong, its value, where it was set, and what is allowed.
    pub fn configuration(self) -> Result<WrapperConfiguration, ConfigError> {
        self.configured().map(|(configuration, _)| configuration)
    }

    /// The same, with where each setting was given.
    pub(crate) fn configured(
        self,
    ) -> Result<(WrapperConfiguration, BTreeMap<&'static str, Origin>), ConfigError> {
        let mut configuration = WrapperConfiguration::new("", "");
        let mut origins = BTreeMap::new();
        for Resolved { setting, value, origin } in self.resolve()? {
            let put = setting.put(&mut configuration, value);
            put.map_err(|error| invalid(setting.name, "(of another kind)", &error.to_string()))?;
            origins.insert(setting.name, origin);
        }
        match configuration.validate() {
            Ok(_) => Ok((configuration, origins)),
            Err(error) => Err(match error.setting().and_then(|name| origins.get(name)) {
                Some(origin) => error.set(origin),
                None => error,
            }),
        }
    }
}

impl WrapperConfiguration {
    /// The configuration that the environment gives: `ARROW_ZEROBUS_` and the name of a setting in capitals.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the variable that is wrong, its value and what is allowed, or what is missing.
    pub fn from_env() -> Result<WrapperConfiguration, ConfigError> {
        Sources::new().environment(std::env::vars_os())?.configuration()
    }

    /// The configuration that a TOML or YAML file gives, and the environment, which counts before the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the line or the variable that is wrong, its value and what is allowed, or what is missing.
    pub fn from_file(path: impl AsRef<Path>) -> Result<WrapperConfiguration, ConfigError> {
        Sources::new().file(path.as_ref())?.environment(std::env::vars_os())?.configuration()
    }
}

impl ConfigError {
    /// The same error, of a value that came from there.
    fn set(self, origin: &Origin) -> ConfigError {
        ConfigError::Set { error: Box::new(self), origin: origin.to_string() }
    }
}

/// The error about a name that no setting has; `prefix` is what names have where it stands.
fn unknown(name: &str, prefix: &str, place: &str) -> ConfigError {
    let as_setting =
        name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name).to_ascii_lowercase().replace('-', "_");
    let likeness = |setting: &&Setting| strsim::jaro_winkler(&as_setting, setting.name);
    let closest = SETTINGS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let spelled = |setting: &Setting| match prefix {
        "" => setting.name.to_owned(),
        _ => format!("{prefix}{}", setting.name.to_ascii_uppercase()),
    };
    let hint = match closest.filter(|closest| likeness(closest) >= LIKENESS_MIN) {
        Some(closest) => format!("did you mean {}?", spelled(closest)),
        None => format!("allowed are: {}", SETTINGS.iter().map(spelled).collect::<Vec<_>>().join(", ")),
    };
    ConfigError::Unknown { name: shown_key(name).to_owned(), place: place.to_owned(), hint }
}
