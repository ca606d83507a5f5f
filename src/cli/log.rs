//! What the core has to say while a verb runs: warnings go to stderr, and more of it if somebody wants that.

use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::telemetry::{export_event, exported_level};

/// Where the core is. Events of others stay where they are: nobody has looked through them for secrets \[I9\].
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// Writes events of this crate to stderr, one in a line, and hands them to those that export them: a program that runs the command
/// may have such wrappers.
struct ToStderr {
    wanted: LevelFilter,
}

/// Has warnings of the core written to stderr from now on; with `is_verbose` what it does besides.
pub(super) fn start(is_verbose: bool) {
    let wanted = if is_verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    // A program that runs the command may have its own, which then gets them.
    let _ = tracing::subscriber::set_global_default(ToStderr { wanted });
}

impl Subscriber for ToStderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().split("::").next() == Some(CRATE);
        metadata.is_event() && is_ours && *metadata.level() <= self.wanted.max(exported_level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.wanted.max(exported_level()))
    }

    fn event(&self, event: &Event<'_>) {
        export_event(event);
        if *event.metadata().level() > self.wanted {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        // Nobody may read it any more.
        let _ =
            writeln!(io::stderr(), "{}: {}{}", word(*event.metadata().level()), line.message, line.fields);
    }

    // There are no spans: they are never enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// An event as a line.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into memory does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_fields_as_people_read_them() {
        struct Seen(std::sync::Mutex<String>);
        impl Subscriber for Seen {
            fn enabled(&self, metadata: &Metadata<'_>) -> bool {
                ToStderr { wanted: LevelFilter::WARN }.enabled(metadata)
            }
            fn event(&self, event: &Event<'_>) {
                let mut line = Line::default();
                event.record(&mut line);
                self.0.lock().unwrap().push_str(&format!("{}{}\n", line.message, line.fields));
            }
            fn new_span(&self, _: &Attributes<'_>) -> Id {
                Id::from_u64(1)
            }
            fn record(&self, _: &Id, _: &Record<'_>) {}
            fn record_follows_from(&self, _: &Id, _: &Id) {}
            fn enter(&self, _: &Id) {}
            fn exit(&self, _: &Id) {}
        }
        let seen = std::sync::Arc::new(Seen(std::sync::Mutex::default()));
        tracing::subscriber::with_default(std::sync::Arc::clone(&seen), || {
            tracing::warn!(path = %"/a/b", rows = 3, reason = "no \"quotes\" around", "something is odd");
            tracing::info!("nobody asked for this");
            tracing::warn!(target: "hyper::client", "secret of somebody else");
        });
        let expected = "something is odd, path: /a/b, rows: 3, reason: no \"quotes\" around\n";
        assert_eq!(*seen.0.lock().unwrap(), expected);
    }
}
