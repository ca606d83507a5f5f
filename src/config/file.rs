//! What stands in a file of settings: keys and the texts of their values, from TOML or YAML.
//!
//! A value is what its text says: `8GiB` and `"8GiB"` are the same in YAML, and a secret that looks like a number stays
//! what it is. Nothing here repeats what stands in the file, but for names of keys: it may be a secret \[I9\].

use std::io::Read;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use toml::de::{DeTable, DeValue};

use crate::platform::files::{is_public, open_regular};

/// More than any settings need; somebody may name another file by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A key with its value.
pub(super) struct Entry {
    pub(super) key: String,
    /// None where YAML says null.
    pub(super) text: Option<String>,
    pub(super) line: usize,
}

/// What is in a file.
pub(super) struct Contents {
    pub(super) entries: Vec<Entry>,
    /// Whether everybody on this machine can read it.
    pub(super) is_public: bool,
}

#[derive(Clone, Copy)]
enum Syntax {
    Toml,
    Yaml,
}

/// Reads a file, whose name says what it is.
///
/// # Errors
///
/// Why it cannot be read, with the line.
pub(super) fn read(path: &Path) -> Result<Contents, String> {
    let syntax = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Syntax::Toml,
        Some("yaml" | "yml") => Syntax::Yaml,
        _ => {
            return Err(
                "its name says nothing about it, allowed is: .toml, .yaml or .yml at the end".to_owned()
            );
        }
    };
    let opened = open_regular(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is too large, allowed are {FILE_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not valid UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let entries = match syntax {
        Syntax::Toml => from_toml(text)?,
        Syntax::Yaml => from_yaml(text)?,
    };
    Ok(Contents { entries, is_public: is_public(&metadata) })
}

fn from_toml(text: &str) -> Result<Vec<Entry>, String> {
    let line_of = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        format!("line {line} is not valid TOML: {}", error.message())
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        let wrong = |what: &str| Err(wrong_value(key.get_ref(), what, line));
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Integer(_) => return wrong("a number that is not decimal"),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(_) => return wrong("a date or a time of day"),
            DeValue::Array(_) => return wrong("an array"),
            DeValue::Table(_) => return wrong("a table"),
        };
        entries.push(Entry { key: key.get_ref().to_string(), text: Some(text), line });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn from_yaml(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut events = Events(Parser::new_from_str(text));
    loop {
        match events.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            // A file that is empty, or has comments only.
            (Event::StreamEnd, _) => return Ok(entries),
            (Event::Scalar(text, ScalarStyle::Plain, ..), _) if is_null(&text) => {
                return at_end(entries, events);
            }
            (Event::MappingStart(..), _) => break,
            _ => return Err("it is not a mapping, allowed are lines of the form key: value".to_owned()),
        }
    }
    loop {
        let (key, line) = match events.next()? {
            (Event::Scalar(key, ..), span) => (key.into_owned(), span.start.line()),
            (Event::MappingEnd, _) => return at_end(entries, events),
            (_, span) => return Err(format!("line {}: a key is not text", span.start.line())),
        };
        if entries.iter().any(|entry| entry.key == key) {
            return Err(format!("line {line}: {} stands there a second time", shown_key(&key)));
        }
        let text = match events.next()?.0 {
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => None,
            Event::Scalar(text, ..) => Some(text.into_owned()),
            Event::Alias(_) => return Err(wrong_value(&key, "an alias", line)),
            Event::SequenceStart(..) => return Err(wrong_value(&key, "a sequence", line)),
            _ => return Err(wrong_value(&key, "a mapping", line)),
        };
        entries.push(Entry { key, text, line });
    }
}

/// What the parser of YAML sees, one after the other.
struct Events<'a>(Parser<'a, StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.0.next_event().transpose() {
            // After the end it says nothing more.
            Ok(event) => Ok(event.unwrap_or((Event::StreamEnd, Span::default()))),
            Err(error) => Err(not_yaml(&error)),
        }
    }
}

/// The entries, if nothing comes behind them.
fn at_end(entries: Vec<Entry>, mut events: Events<'_>) -> Result<Vec<Entry>, String> {
    loop {
        match events.next()? {
            (Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::StreamEnd, _) => return Ok(entries),
            (_, span) => return Err(format!("line {}: a second document begins", span.start.line())),
        }
    }
}

fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

fn not_yaml(error: &ScanError) -> String {
    format!("line {} is not valid YAML: {}", error.marker().line(), error.info())
}

fn wrong_value(key: &str, what: &str, line: usize) -> String {
    format!("line {line}: {} is {what}, allowed is: one value", shown_key(key))
}

/// A key as errors show it. What is no name may be a line that went wrong, with a secret in it.
pub(super) fn shown_key(key: &str) -> &str {
    let is_name = !key.is_empty()
        && key.len() <= 64
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_name { key } else { "a key that is no name" }
}
