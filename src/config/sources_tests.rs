//! What sources give, which one counts, and what their errors say.

#![expect(clippy::disallowed_methods, reason = "files of settings are no part of a log")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

const REQUIRED: [(&str, &str); 2] =
    [("ZEROBUS_ENDPOINT", "http://127.0.0.1:9"), ("ZEROBUS_TABLE_NAME", "a.b.c")];

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, text)| (name.into(), text.into())).collect()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<WrapperConfiguration, ConfigError> {
    let all: Vec<_> = REQUIRED.iter().chain(variables).copied().collect();
    Sources::new().environment(environment(&all))?.configuration()
}

fn file_named(name: &str, text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn from_file(name: &str, text: &str) -> Result<WrapperConfiguration, ConfigError> {
    let (_directory, path) = file_named(name, text);
    Sources::new().file(&path)?.environment(environment(&REQUIRED))?.configuration()
}

#[track_caller]
fn refused(outcome: Result<WrapperConfiguration, ConfigError>) -> String {
    outcome.map(|_| ()).expect_err("was accepted").to_string()
}

#[test]
fn every_setting_has_its_name_once_and_a_meaning() {
    let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), SETTINGS.len());
    for setting in SETTINGS {
        assert!(!setting.meaning.is_empty(), "{}", setting.name);
        for (suffix, kinds) in [
            ("_bytes", &[Kind::Bytes] as &[Kind]),
            ("_ms", &[Kind::Millis]),
            ("_secs", &[Kind::Seconds, Kind::SecondsOrNone]),
            ("_file", &[Kind::Path]),
        ] {
            let is_kind = kinds.contains(&setting.kind());
            assert!(
                !setting.name.ends_with(suffix) || is_kind,
                "{} has not the unit of its name",
                setting.name
            );
        }
    }
}

#[test]
fn every_choice_is_what_its_name_parses_to() {
    for name in ["on_full", "transport", "delivery", "compression", "validate", "timestamp_ns", "null_list"] {
        for choice in setting(name).unwrap().choices() {
            let is_known = match name {
                "on_full" => choice.parse::<OnFull>().is_ok(),
                "transport" => choice.parse::<TransportKind>().is_ok(),
                "delivery" => choice.parse::<DeliveryGuarantee>().is_ok(),
                "compression" => choice.parse::<Compression>().is_ok(),
                "validate" => choice.parse::<Validate>().is_ok(),
                "timestamp_ns" => choice.parse::<TimestampNs>().is_ok(),
                _ => choice.parse::<NullList>().is_ok(),
            };
            assert!(is_known, "{name} = {choice}");
        }
    }
}

#[test]
fn every_default_that_is_given_changes_nothing() {
    let mut sources = Sources::new().argument("endpoint", "http://127.0.0.1:9").unwrap();
    sources = sources.argument("table_name", "a.b.c").unwrap();
    let plain = sources.clone().configuration().unwrap();
    for setting in SETTINGS.iter().filter(|setting| !setting.is_required()) {
        let text = match setting.default() {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Duration(time)) if setting.kind() == Kind::Millis => time.as_millis().to_string(),
            Some(Value::Duration(time)) => time.as_secs_f64().to_string(),
            Some(Value::Choice(choice)) => choice,
            Some(Value::Flag(flag)) => flag.to_string(),
            _ => continue,
        };
        sources = sources.argument(setting.name, &text).unwrap();
    }
    assert_eq!(format!("{:?}", sources.configuration().unwrap()), format!("{plain:?}"));
}

#[test]
fn a_setting_goes_to_its_field_from_each_source() {
    let toml = "durability = \"interval\"\nsync_interval_ms = 5\nwal_max_bytes = \"2GiB\"\nshutdown_timeout_secs = 1.5\n\
                block_timeout_secs = \"1m\"\nretry_max_attempts = 7\nclient_id = \"id\"\nclient_secret = 12_345\n\
                unity_catalog_url = \"https://w.example\"\ntimestamp_ns = \"error\"\nmax_inflight_requests = 3\n";
    let yaml = "durability: interval\nsync_interval_ms: 5ms\nwal_max_bytes: 2GiB\nshutdown_timeout_secs: '1500ms'\n\
                block_timeout_secs: 60\nretry_max_attempts: 7\nclient_id: id\nclient_secret: 12345\n\
                unity_catalog_url: https://w.example\ntimestamp_ns: error\nmax_inflight_requests: 3\nproxy: ~\nwal_dir:\n";
    for configuration in [from_file("a.toml", toml), from_file("a.yaml", yaml), from_file("a.yml", yaml)] {
        let configuration = configuration.unwrap();
        assert_eq!(configuration.durability, Durability::Interval(Duration::from_millis(5)));
        assert_eq!(configuration.wal_max_bytes, 2 << 30);
        assert_eq!(configuration.shutdown_timeout, Duration::from_millis(1500));
        assert_eq!(configuration.block_timeout, Some(Duration::from_secs(60)));
        assert_eq!(configuration.retry_max_attempts, 7);
        assert_eq!(configuration.client_secret.unwrap().expose_secret(), "12345");
        assert_eq!(configuration.timestamp_ns, TimestampNs::Error);
        assert_eq!(configuration.max_inflight_requests, 3);
        assert_eq!((configuration.proxy, configuration.wal_dir), (None, None));
    }
}

#[test]
fn an_argument_counts_before_the_environment_and_that_before_a_file() {
    let (_directory, path) =
        file_named("a.toml", "segment_bytes = \"1MiB\"\nwal_max_bytes = \"1GiB\"\non_full = \"reject\"\n");
    let variables = environment(&[
        ("ARROW_ZEROBUS_SEGMENT_BYTES", "2MiB"),
        ("ARROW_ZEROBUS_WAL_MAX_BYTES", "2GiB"),
        ("ARROW_ZEROBUS_ENDPOINT", "http://127.0.0.1:1"),
        ("ZEROBUS_ENDPOINT", "http://127.0.0.1:2"),
        ("ZEROBUS_TABLE_NAME", "a.b.c"),
    ]);
    let add_argument = |sources: Sources| sources.argument("segment_bytes", "3MiB").unwrap();
    let all = [
        add_argument(Sources::new()).file(&path).unwrap().environment(variables.clone()).unwrap(),
        // The order of the calls means nothing.
        add_argument(Sources::new().environment(variables).unwrap().file(&path).unwrap()),
    ];
    for sources in all {
        let configuration = sources.configuration().unwrap();
        assert_eq!(configuration.segment_bytes, 3 << 20);
        assert_eq!(configuration.wal_max_bytes, 2 << 30);
        assert_eq!(configuration.on_full, OnFull::Reject);
        assert_eq!(configuration.endpoint, "http://127.0.0.1:1", "the variable with the prefix counts");
        assert_eq!(configuration.max_inflight_requests, 16);
    }
}

#[test]
fn of_a_secret_and_its_file_the_one_of_the_more_important_source_counts() {
    let (_directory, path) = file_named("a.toml", "client_id = \"id\"\nclient_secret = \"s3cret\"\n");
    let variables = [("ARROW_ZEROBUS_CLIENT_SECRET_FILE", "/run/secret")];
    let all: Vec<_> = REQUIRED.iter().chain(&variables).copied().collect();
    let sources = Sources::new().file(&path).unwrap().environment(environment(&all)).unwrap();
    let configuration = sources.configuration().unwrap();
    assert!(configuration.client_secret.is_none());
    assert_eq!(configuration.client_secret_file, Some("/run/secret".into()));

    let both = [variables[0], ("ZEROBUS_CLIENT_SECRET", "s3cret")];
    let text = refused(from_environment(&both));
    assert!(text.contains("none beside client_secret") && !text.contains("s3cret"), "{text}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let configuration = from_environment(&[("ARROW_ZEROBUS_WAL_MAX_BYTES", ""), ("ARROW_ZEROBUS_TYPO", "")]);
    assert_eq!(configuration.unwrap().wal_max_bytes, 8 << 30);
}

#[test]
fn other_variables_are_nobodys_business() {
    let configuration =
        from_environment(&[("ZEROBUS_WAL_DIR", "x"), ("WAL_DIR", "x"), ("arrow_zerobus_wal_dir", "x")]);
    assert_eq!(configuration.unwrap().wal_dir, None);
}

#[test]
fn a_name_that_is_no_setting_is_refused_with_the_closest_one() {
    let text = refused(from_environment(&[("ARROW_ZEROBUS_WAL_DRI", "x")]));
    assert_eq!(
        text,
        "ARROW_ZEROBUS_WAL_DRI in the environment is no setting, did you mean ARROW_ZEROBUS_WAL_DIR?"
    );
    let text = refused(from_environment(&[("ARROW_ZEROBUS_XYZ", "x")]));
    assert!(text.contains("allowed are: ARROW_ZEROBUS_ENDPOINT, "), "{text}");
    for (name, contents) in
        [("a.toml", "# one\nsegment-bytes = 1\n"), ("a.yaml", "# one\nsegment-bytes: 1\n")]
    {
        let text = refused(from_file(name, contents));
        assert!(text.contains("segment-bytes in line 2 of ") && text.contains(name), "{text}");
        assert!(text.ends_with("did you mean segment_bytes?"), "{text}");
    }
    let text = refused(from_file("a.toml", "ARROW_ZEROBUS_WAL_DIR = 1\n"));
    assert!(text.ends_with("did you mean wal_dir?"), "{text}");
    assert!(Sources::new().argument("wal_dri", "x").unwrap_err().to_string().contains("wal_dir"));
}

#[test]
fn a_wrong_value_is_named_with_the_place_where_it_was_set() {
    let text = refused(from_environment(&[("ARROW_ZEROBUS_WAL_MAX_BYTES", "5 apples")]));
    assert!(text.starts_with("wal_max_bytes is \"5 apples\", allowed is: "), "{text}");
    assert!(text.ends_with("it was set by ARROW_ZEROBUS_WAL_MAX_BYTES in the environment"), "{text}");
    // Of the right kind, but out of range: what only all settings together show.
    let text = refused(from_file("a.yaml", "\n\nwal_max_bytes: 5\n"));
    assert!(text.contains("wal_max_bytes is \"5\"") && text.contains("it was set in line 3 of "), "{text}");
    assert!(text.ends_with("a.yaml"), "{text}");
}

#[test]
fn a_value_that_is_no_unicode_is_refused() {
    let not_unicode = OsString::from_vec(vec![b'/', 0xff]);
    let variables = [("ARROW_ZEROBUS_WAL_DIR".into(), not_unicode)];
    let text = Sources::new().environment(variables).unwrap_err().to_string();
    assert!(text.contains("valid Unicode") && text.contains("ARROW_ZEROBUS_WAL_DIR"), "{text}");
}

#[test]
fn what_nobody_gives_is_missing_by_its_name() {
    let text = refused(Sources::new().configuration());
    assert!(text.contains("endpoint is missing"), "{text}");
    assert!(text.contains("ARROW_ZEROBUS_ENDPOINT or ZEROBUS_ENDPOINT"), "{text}");
}

#[test]
fn a_relative_path_in_a_file_starts_where_the_file_lies() {
    let (directory, path) =
        file_named("a.toml", "wal_dir = \"logs\"\nca_certificate_file = \"/etc/ca.pem\"\n");
    let sources = Sources::new().file(&path).unwrap().environment(environment(&REQUIRED)).unwrap();
    let configuration = sources.configuration().unwrap();
    assert_eq!(configuration.wal_dir, Some(directory.path().join("logs")));
    assert_eq!(configuration.ca_certificate_file, Some("/etc/ca.pem".into()));
    let relative = from_environment(&[("ARROW_ZEROBUS_WAL_DIR", "logs")]).unwrap();
    assert_eq!(relative.wal_dir, Some("logs".into()));
    assert!(refused(from_file("a.toml", "wal_dir = \"\"\n")).contains("wal_dir is \"\""));
}

#[test]
fn what_is_no_flat_list_of_settings_is_refused_with_its_line() {
    for (name, contents, expected) in [
        ("a.toml", "x = [", "line 1 is not valid TOML"),
        ("a.toml", "proxy = 1\nproxy = 2\n", "line 2 is not valid TOML: duplicate key"),
        ("a.toml", "[wal]\ndir = 1\n", "line 1: wal is a table"),
        ("a.toml", "\nwal_dir = [\"a\"]\n", "line 2: wal_dir is an array"),
        ("a.toml", "segment_bytes = 0x40\n", "not decimal"),
        ("a.toml", "segment_bytes = 2020-01-01\n", "a date"),
        ("a.yaml", "- a\n", "not a mapping"),
        ("a.yaml", "just text\n", "not a mapping"),
        ("a.yaml", "wal:\n  dir: x\n", "line 1: wal is a mapping"),
        ("a.yaml", "\nwal_dir: [a]\n", "line 2: wal_dir is a sequence"),
        ("a.yaml", "proxy: &a x\nwal_dir: *a\n", "line 2: wal_dir is an alias"),
        ("a.yaml", "proxy: a\nproxy: b\n", "line 2: proxy stands there a second time"),
        ("a.yaml", "proxy: a\n---\nwal_dir: b\n", "a second document"),
        ("a.yaml", "proxy: \"a\n", "is not valid YAML"),
        ("a.yaml", "? [a]\n: b\n", "a key is not text"),
        ("a.json", "{}", ".toml, .yaml or .yml"),
        ("toml", "", ".toml, .yaml or .yml"),
    ] {
        let text = refused(from_file(name, contents));
        assert!(text.contains(expected), "{contents:?}: {text}");
    }
    for (name, contents) in
        [("a.toml", ""), ("a.yaml", ""), ("a.yaml", "# nothing\n"), ("a.yaml", "---\nnull\n...\n")]
    {
        assert!(from_file(name, contents).is_ok(), "{contents:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    assert!(Sources::new().file(&missing).unwrap_err().to_string().contains("No such file"));
    let folder = directory.path().join("folder.toml");
    std::fs::create_dir(&folder).unwrap();
    assert!(Sources::new().file(&folder).unwrap_err().to_string().contains("not a file"));
    let (_directory, large) = file_named("a.toml", &"#".repeat((1 << 20) + 1));
    assert!(Sources::new().file(&large).unwrap_err().to_string().contains("too large"));
    std::fs::write(&large, b"proxy = \"\xff\"").unwrap();
    assert!(Sources::new().file(&large).unwrap_err().to_string().contains("UTF-8"));
}

/// Goal: a file that went wrong in any way does not make an error repeat its secret. Method: each character of good
/// files is taken away, doubled, or replaced by one that means something; what is not accepted is looked at.
#[test]
fn no_error_repeats_a_secret_however_a_file_went_wrong() {
    let files = [
        ("a.toml", "proxy = \"x\"\nclient_secret = \"hunter2hunter2\"\n"),
        ("a.toml", "client_secret = \'hunter2hunter2\'\n"),
        ("a.toml", "client_secret = \"\"\"\nhunter2hunter2\"\"\"\n"),
        ("a.yaml", "proxy: x\nclient_secret: hunter2hunter2\n"),
        ("a.yaml", "client_secret: \"hunter2hunter2\"\n"),
        ("a.yaml", "client_secret: |\n  hunter2hunter2\n"),
        ("a.yaml", "on_full: \"reject\nclient_secret: hunter2hunter2\"\n"),
        ("a.toml", "on_full = \"\"\"reject\nclient_secret = hunter2hunter2\"\"\"\n"),
    ];
    let mut refusals = 0;
    for (name, good) in files {
        let (_directory, path) = file_named(name, good);
        for at in 0..good.len() {
            let (before, after) = (&good[..at], &good[at + 1..]);
            let doubled = &good[at..=at];
            let replacements = ["", "\n", "\"", "'", ":", " ", "[", "{", "#", "\\", "\0", "&", "!", "-"];
            for put in replacements.into_iter().chain([&*doubled.repeat(2)]) {
                std::fs::write(&path, format!("{before}{put}{after}")).unwrap();
                let outcome = Sources::new()
                    .file(&path)
                    .and_then(|sources| sources.environment(environment(&REQUIRED))?.configuration());
                let shown = match outcome {
                    Ok(configuration) => {
                        format!("{:?}", WrapperConfiguration { client_id: None, ..configuration })
                    }
                    Err(error) => {
                        refusals += 1;
                        format!("{error} {error:?}")
                    }
                };
                // Half of it would be too much already.
                assert!(!shown.contains("hunter2"), "{before}{put}{after}: {shown}");
            }
        }
    }
    assert!(refusals > 1000, "{refusals}");
}

#[test]
fn a_flag_is_true_or_false() {
    let flag = setting("exclusive").unwrap();
    assert_eq!(flag.kind(), Kind::Flag);
    assert!(matches!(flag.parse("true"), Ok(Value::Flag(true))));
    assert!(matches!(flag.parse("false"), Ok(Value::Flag(false))));
    assert!(flag.parse("yes").unwrap_err().to_string().ends_with("true or false"));
}
