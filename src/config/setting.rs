//! What a setting is: its name, what its values are, and where in [`WrapperConfiguration`] it goes.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::WrapperConfiguration;
use crate::wal::Durability;

/// The prefix that every setting has in the environment.
pub const VARIABLE_PREFIX: &str = "ARROW_ZEROBUS_";

/// The interval of `durability = "interval"`, where nobody gives one.
pub(super) const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Python holds integers up to here as the core does.
const INTEGER_MAX: u64 = i64::MAX as u64;

/// One setting, the same everywhere: argument, field, key of a file, variable of the environment.
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it means, in Markdown.
    pub meaning: &'static str,
    /// What becomes of it where its default is no value.
    pub default_note: Option<&'static str>,
    /// A variable without the prefix, which other programs of the service know too.
    pub plain_variable: Option<&'static str>,
    /// The other way to say the same; of the two, the one of the more important source counts.
    pub(super) alternative: Option<&'static str>,
    pub(super) place: Place,
}

/// A field of the configuration.
pub(super) type Field<T> = fn(&mut WrapperConfiguration) -> &mut T;

/// Where in the configuration a setting goes, and with that of what kind it is.
pub(super) enum Place {
    RequiredText(Field<String>),
    Text(Field<Option<String>>),
    Secret(Field<Option<SecretString>>),
    Path(Field<Option<PathBuf>>),
    Bytes(Field<u64>),
    BytesOrNone(Field<Option<u64>>),
    BytesInMemory(Field<usize>),
    Count(Field<usize>),
    Attempts(Field<u32>),
    Port(Field<Option<u16>>),
    Millis(Field<Duration>),
    Seconds(Field<Duration>),
    SecondsOrNone(Field<Option<Duration>>),
    Flag(Field<bool>),
    Choice(&'static dyn Choices),
    /// Part of another setting's value.
    SyncInterval,
}

/// What the values of a setting are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that nobody is to see.
    Secret,
    /// A path.
    Path,
    /// A number of bytes.
    Bytes,
    /// A number of bytes, or `none`.
    BytesOrNone,
    /// A number, with its largest value.
    Count(u64),
    /// Whole milliseconds.
    Millis,
    /// Seconds, with fractions.
    Seconds,
    /// Seconds, or `none`.
    SecondsOrNone,
    /// `true` or `false`.
    Flag,
    /// One of a few words.
    Choice,
}

/// A value of a setting, of its kind.
#[derive(Clone, Debug)]
pub enum Value {
    /// For [`Kind::Text`].
    Text(String),
    /// For [`Kind::Secret`].
    Secret(SecretString),
    /// For [`Kind::Path`].
    Path(PathBuf),
    /// For [`Kind::Bytes`], [`Kind::BytesOrNone`] and [`Kind::Count`].
    Number(u64),
    /// For [`Kind::Millis`], [`Kind::Seconds`] and [`Kind::SecondsOrNone`].
    Duration(Duration),
    /// For [`Kind::SecondsOrNone`] and [`Kind::BytesOrNone`].
    None,
    /// For [`Kind::Flag`].
    Flag(bool),
    /// For [`Kind::Choice`]: one of [`Setting::choices`].
    Choice(String),
}

/// A value of another kind than the setting's; a bug of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is of another kind than the setting {setting}")]
pub struct WrongKind {
    /// Name of the setting.
    pub setting: &'static str,
}

impl Setting {
    /// What its values are.
    pub fn kind(&self) -> Kind {
        match self.place {
            Place::RequiredText(_) | Place::Text(_) => Kind::Text,
            Place::Secret(_) => Kind::Secret,
            Place::Path(_) => Kind::Path,
            Place::Bytes(_) | Place::BytesInMemory(_) => Kind::Bytes,
            Place::BytesOrNone(_) => Kind::BytesOrNone,
            Place::Count(_) => Kind::Count(INTEGER_MAX),
            Place::Attempts(_) => Kind::Count(u32::MAX.into()),
            Place::Port(_) => Kind::Count(u16::MAX.into()),
            Place::Millis(_) | Place::SyncInterval => Kind::Millis,
            Place::Seconds(_) => Kind::Seconds,
            Place::SecondsOrNone(_) => Kind::SecondsOrNone,
            Place::Flag(_) => Kind::Flag,
            Place::Choice(_) => Kind::Choice,
        }
    }

    /// Whether there is no wrapper without it.
    pub fn is_required(&self) -> bool {
        matches!(self.place, Place::RequiredText(_))
    }

    /// The words that are allowed, if only some are.
    pub fn choices(&self) -> Vec<&'static str> {
        match self.place {
            Place::Choice(choices) => choices.names(),
            _ => Vec::new(),
        }
    }

    /// Its variables in the environment, the one that counts first.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let prefixed = format!("{VARIABLE_PREFIX}{}", self.name.to_ascii_uppercase());
        [Some(prefixed), self.plain_variable.map(str::to_owned)].into_iter().flatten()
    }

    /// Its value where nobody gives one, if that is a value.
    pub fn default(&self) -> Option<Value> {
        let mut defaults = WrapperConfiguration::new("", "");
        let defaults = &mut defaults;
        match &self.place {
            Place::RequiredText(_) => None,
            Place::Text(field) => field(defaults).clone().map(Value::Text),
            Place::Secret(field) => field(defaults).clone().map(Value::Secret),
            Place::Path(field) => field(defaults).clone().map(Value::Path),
            Place::Bytes(field) => Some(Value::Number(*field(defaults))),
            Place::BytesOrNone(field) => field(defaults).map(Value::Number),
            Place::BytesInMemory(field) | Place::Count(field) => Some(Value::Number(*field(defaults) as u64)),
            Place::Attempts(field) => Some(Value::Number((*field(defaults)).into())),
            Place::Port(field) => field(defaults).map(|port| Value::Number(port.into())),
            Place::Millis(field) | Place::Seconds(field) => Some(Value::Duration(*field(defaults))),
            Place::SecondsOrNone(field) => field(defaults).map(Value::Duration),
            Place::Flag(field) => Some(Value::Flag(*field(defaults))),
            Place::Choice(choices) => choices.get(defaults),
            Place::SyncInterval => Some(Value::Duration(SYNC_INTERVAL)),
        }
    }

    /// Puts a value where it belongs.
    ///
    /// # Errors
    ///
    /// [`WrongKind`] if the value is not of this setting's [`Kind`], or is beyond what its field can hold.
    pub fn put(&self, configuration: &mut WrapperConfiguration, value: Value) -> Result<(), WrongKind> {
        let wrong = WrongKind { setting: self.name };
        match (&self.place, value) {
            (Place::RequiredText(field), Value::Text(text)) => *field(configuration) = text,
            (Place::Text(field), Value::Text(text)) => *field(configuration) = Some(text),
            (Place::Secret(field), Value::Secret(secret)) => *field(configuration) = Some(secret),
            (Place::Path(field), Value::Path(path)) => *field(configuration) = Some(path),
            (Place::Bytes(field), Value::Number(number)) => *field(configuration) = number,
            (Place::BytesOrNone(field), Value::Number(number)) => *field(configuration) = Some(number),
            (Place::BytesOrNone(field), Value::None) => *field(configuration) = None,
            (Place::BytesInMemory(field) | Place::Count(field), Value::Number(number)) => {
                *field(configuration) = number.try_into().map_err(|_| wrong)?;
            }
            (Place::Attempts(field), Value::Number(number)) => {
                *field(configuration) = number.try_into().map_err(|_| wrong)?;
            }
            (Place::Port(field), Value::Number(number)) => {
                *field(configuration) = Some(number.try_into().map_err(|_| wrong)?);
            }
            (Place::Millis(field) | Place::Seconds(field), Value::Duration(duration)) => {
                *field(configuration) = duration;
            }
            (Place::SecondsOrNone(field), Value::Duration(duration)) => {
                *field(configuration) = Some(duration);
            }
            (Place::SecondsOrNone(field), Value::None) => *field(configuration) = None,
            (Place::Flag(field), Value::Flag(flag)) => *field(configuration) = flag,
            (Place::Choice(choices), value) => {
                choices.set(configuration, &value).ok_or(wrong)?;
            }
            (Place::SyncInterval, Value::Duration(duration)) => {
                if let Durability::Interval(interval) = &mut configuration.durability {
                    *interval = duration;
                }
            }
            _ => return Err(wrong),
        }
        Ok(())
    }
}

impl Kind {
    /// The largest number, for kinds that are numbers.
    pub(super) fn number_max(self) -> u64 {
        match self {
            Kind::Count(max) => max,
            _ => INTEGER_MAX,
        }
    }
}

/// A field whose values have names.
pub(super) trait Choices: Sync {
    fn names(&self) -> Vec<&'static str>;
    fn get(&self, configuration: &mut WrapperConfiguration) -> Option<Value>;
    fn set(&self, configuration: &mut WrapperConfiguration, value: &Value) -> Option<()>;
}

/// The values of a field, by name.
pub(super) struct Named<T: 'static> {
    pub(super) field: Field<T>,
    pub(super) named: &'static [(&'static str, T)],
}

impl<T: Copy + PartialEq + Sync> Choices for Named<T> {
    fn names(&self) -> Vec<&'static str> {
        self.named.iter().map(|(name, _)| *name).collect()
    }

    fn get(&self, configuration: &mut WrapperConfiguration) -> Option<Value> {
        let current = *(self.field)(configuration);
        let named = self.named.iter().find(|(_, choice)| *choice == current);
        named.map(|(name, _)| Value::Choice((*name).to_owned()))
    }

    fn set(&self, configuration: &mut WrapperConfiguration, value: &Value) -> Option<()> {
        let Value::Choice(wanted) = value else { return None };
        let (_, choice) = self.named.iter().find(|(name, _)| name == wanted)?;
        *(self.field)(configuration) = *choice;
        Some(())
    }
}
