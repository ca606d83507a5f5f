//! What a text means as the value of a setting: `64MiB`, `250ms`, `true`, one of a few words.

use std::time::Duration;

use super::setting::{Kind, Setting, Value};
use super::{ConfigError, SECONDS_MAX, invalid};

/// Units of sizes: `MB` is a million bytes, `MiB` is 1024 × 1024.
const SIZES: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1000),
    ("mb", 1000 * 1000),
    ("gb", 1000 * 1000 * 1000),
    ("tb", 1000 * 1000 * 1000 * 1000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Units of durations, in milliseconds.
const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 3600 * 1000), ("d", 24 * 3600 * 1000)];

/// Digits that a number may have: more than any value that is allowed has, and no sum of them overflows.
const DIGITS_MAX: usize = 25;

impl Setting {
    /// The value that this text means.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] names the setting, the text, unless it is a secret, and what is allowed.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let value = match self.kind() {
            Kind::Text => Some(Value::Text(text.to_owned())),
            Kind::Secret => Some(Value::Secret(text.into())),
            Kind::Path => Some(Value::Path(text.into())),
            Kind::BytesOrNone if text == "none" => Some(Value::None),
            Kind::Bytes | Kind::BytesOrNone => {
                bytes(text).filter(|bytes| *bytes <= self.kind().number_max()).map(Value::Number)
            }
            Kind::Count(max) => count(text).filter(|count| *count <= max).map(Value::Number),
            Kind::Millis => duration(text, "ms").filter(is_whole_ms).map(Value::Duration),
            Kind::SecondsOrNone if text == "none" => Some(Value::None),
            Kind::Seconds | Kind::SecondsOrNone => duration(text, "s").map(Value::Duration),
            Kind::Flag => text.parse().ok().map(Value::Flag),
            Kind::Choice => self.choices().contains(&text).then(|| Value::Choice(text.to_owned())),
        };
        value.ok_or_else(|| invalid(self.name, shown(text), &self.allowed()))
    }

    /// What a text may be.
    pub(super) fn allowed(&self) -> String {
        match self.kind() {
            Kind::Text | Kind::Secret => "text".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Bytes => "a number of bytes, with a unit or without, such as 64MiB, 8GiB or 1MB".to_owned(),
            Kind::BytesOrNone => {
                "a number of bytes, with a unit or without, such as 64MiB, 8GiB or 1MB, or none".to_owned()
            }
            Kind::Count(max) => format!("an integer from 0 to {max}"),
            Kind::Millis => {
                "a number of milliseconds, or a time with a unit, such as 250ms or 30s".to_owned()
            }
            Kind::Seconds => {
                "a number of seconds, or a time with a unit, such as 30s, 5m, 2h or 1d".to_owned()
            }
            Kind::SecondsOrNone => {
                "a number of seconds, a time with a unit, such as 30s, 5m, 2h or 1d, or none".to_owned()
            }
            Kind::Flag => "true or false".to_owned(),
            Kind::Choice => self.choices().join(", "),
        }
    }
}

/// A wrong value as errors show it. What looks like more than one value may be a line that ran into the next one, with a
/// secret in it \[I9\].
fn shown(text: &str) -> &str {
    let is_one_value = text.len() <= 40 && !text.contains([':', '=']) && !text.chars().any(char::is_control);
    if is_one_value { text } else { "(not shown)" }
}

fn count(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let factor = unit_of(&SIZES, if unit.is_empty() { "b" } else { unit })?;
    count(number)?.checked_mul(factor)
}

/// A time, of the unit `default_unit` if it names none.
fn duration(text: &str, default_unit: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let unit_ms = unit_of(&DURATIONS, if unit.is_empty() { default_unit } else { unit })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = format!("{whole}{fraction}");
    let is_number =
        !whole.is_empty() && !fraction.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > DIGITS_MAX {
        return None;
    }
    let scale = 10_u128.checked_pow(fraction.len().try_into().ok()?)?;
    let nanos = digits.parse::<u128>().ok()?.checked_mul(u128::from(unit_ms) * 1_000_000)? / scale;
    let (secs, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let is_allowed = secs < SECONDS_MAX || (secs, rest) == (SECONDS_MAX, 0);
    is_allowed.then(|| Duration::new(secs as u64, rest as u32))
}

/// A time as settings are written, in seconds without a unit.
#[cfg(feature = "cli")]
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let allowed = "a number of seconds, or a time with a unit, such as 500ms, 30s, 5m, 2h or 1d";
    duration(text, "s").ok_or_else(|| format!("{text:?} is no time, allowed is: {allowed}"))
}

/// A time with a unit, such as `90s` or `2h`; none for anything else.
#[cfg(feature = "cli")]
pub(crate) fn a_time(text: &str) -> Option<Duration> {
    let (_, unit) = split(text);
    (!unit.is_empty()).then(|| duration(text, unit)).flatten()
}

fn is_whole_ms(duration: &Duration) -> bool {
    duration.subsec_nanos().is_multiple_of(1_000_000)
}

/// The number before the unit, and the unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start_matches(' '))
}

fn unit_of(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    use crate::config::setting;

    #[track_caller]
    fn parsed(name: &str, text: &str) -> Option<String> {
        setting(name).unwrap().parse(text).ok().map(|value| format!("{value:?}"))
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("8GiB", 8 << 30),
            ("1MB", 1_000_000),
            ("3kB", 3000),
            ("2TiB", 2 << 40),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(parsed("wal_max_bytes", text), Some(format!("Number({bytes})")), "{text}");
        }
        assert_eq!(parsed("debug_max_file_size", "1MiB").as_deref(), Some("Number(1048576)"));
        assert_eq!(parsed("debug_max_file_size", "none").as_deref(), Some("None"));
        assert_eq!(parsed("wal_max_bytes", "none"), None);
        for text in
            ["", "MiB", "1.5GiB", "-1", "+1", "64M", "1 apple", "9223372036854775808", "99999999TiB", "1\n"]
        {
            assert_eq!(parsed("wal_max_bytes", text), None, "{text}");
        }
    }

    #[test]
    fn durations_without_a_unit_are_in_that_of_the_name() {
        for (name, text, expected) in [
            ("retry_base_delay_ms", "250", "Duration(250ms)"),
            ("retry_base_delay_ms", "250ms", "Duration(250ms)"),
            ("retry_base_delay_ms", "1.5s", "Duration(1.5s)"),
            ("retry_base_delay_ms", "0.1m", "Duration(6s)"),
            ("schema_grace_secs", "5", "Duration(5s)"),
            ("schema_grace_secs", "0.25", "Duration(250ms)"),
            ("schema_grace_secs", "30s", "Duration(30s)"),
            ("schema_grace_secs", "5m", "Duration(300s)"),
            ("schema_grace_secs", "2h", "Duration(7200s)"),
            ("schema_grace_secs", "1d", "Duration(86400s)"),
            ("schema_grace_secs", "4294967295", "Duration(4294967295s)"),
            ("block_timeout_secs", "none", "None"),
            ("block_timeout_secs", "7", "Duration(7s)"),
        ] {
            assert_eq!(parsed(name, text).as_deref(), Some(expected), "{text}");
        }
        for (name, text) in [
            ("retry_base_delay_ms", "0.5ms"),
            ("retry_base_delay_ms", "soon"),
            ("schema_grace_secs", "none"),
            ("schema_grace_secs", "-1"),
            ("schema_grace_secs", "1.s"),
            ("schema_grace_secs", ".5"),
            ("schema_grace_secs", "1.2.3"),
            ("schema_grace_secs", "1w"),
            ("schema_grace_secs", "4294967295.5"),
            ("schema_grace_secs", "99999999999999999999999999d"),
            ("schema_grace_secs", "nan"),
        ] {
            assert_eq!(parsed(name, text), None, "{text}");
        }
    }

    #[test]
    fn integers_are_bounded_by_what_their_field_holds() {
        assert_eq!(parsed("retry_max_attempts", "4294967295").as_deref(), Some("Number(4294967295)"));
        for text in ["4294967296", "1.0", "0x10", "", "five", "-1", "1_000"] {
            assert_eq!(parsed("retry_max_attempts", text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        let error = |name: &str, text: &str| setting(name).unwrap().parse(text).unwrap_err().to_string();
        assert_eq!(
            error("on_full", "explode"),
            "on_full is \"explode\", allowed is: block, reject, drop_oldest"
        );
        assert!(error("wal_max_bytes", "5 apples").contains("\"5 apples\""));
        assert!(error("schema_grace_secs", "soon").contains("30s, 5m, 2h or 1d"));
    }
}
