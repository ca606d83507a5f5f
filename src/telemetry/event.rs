//! What an event of this crate says, as text and plain values with a limit, for those who carry it out of the process: to
//! Python's `logging`, and over OTLP.

use std::fmt::{Debug, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};

/// Longest text of one field in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Where the areas are.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// The part of this crate that a target is in, if it is.
pub(crate) fn area(target: &str) -> Option<&str> {
    let path = target.strip_prefix(CRATE)?;
    match path.strip_prefix("::") {
        Some(path) => path.split("::").next(),
        None => path.is_empty().then_some(""),
    }
}

/// What an event says.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) message: String,
    /// In their order.
    pub(crate) fields: Vec<(&'static str, Value)>,
}

impl Seen {
    fn add(&mut self, field: &Field, value: Value) {
        self.fields.push((field.name(), value));
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = Short::default();
        // It is cut where it is too long, which is no failure.
        let _ = write!(text, "{value:?}");
        match field.name() {
            "message" => self.message = text.0,
            _ => self.add(field, text.0.into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Short::default();
        let _ = text.write_str(value);
        self.add(field, text.0.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

/// A text that takes no more than [`TEXT_BYTES_MAX`].
#[derive(Debug, Default)]
struct Short(String);

impl std::fmt::Write for Short {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = TEXT_BYTES_MAX - self.0.len();
        let fits = |end: &usize| more.is_char_boundary(*end);
        let end = (0..=room.min(more.len())).rev().find(fits).unwrap_or(0);
        self.0.push_str(&more[..end]);
        if end < more.len() { Err(std::fmt::Error) } else { Ok(()) }
    }
}
