//! The page of reference, `docs/settings.md`, as the registry has it: a test writes it, and compares it.

use super::registry::SETTINGS;
use super::setting::{Kind, Setting, Value};
use crate::generated_page::compare;

const HEAD: &str = "\
# Settings

Every setting has one name everywhere: the argument of `ZerobusWrapper`, the key in a file, and, in capitals and with the
prefix `ARROW_ZEROBUS_`, the variable of the environment. A field of Rust's `WrapperConfiguration` that is a time has its
name without the unit.

The library reads nothing that it was not asked to: the constructor goes by its arguments alone. With `observability_enabled` the variables of
OpenTelemetry count where its settings are silent ([operations/observability.md](operations/observability.md)).

| Python | Rust | reads |
|---|---|---|
| `ZerobusWrapper.from_env()` | `WrapperConfiguration::from_env()` | the environment |
| `ZerobusWrapper.from_file(path)` | `WrapperConfiguration::from_file(path)` | the file, and the environment |

What counts is argument, then environment, then file, then default. Arguments of these two, as in
`from_env(wal_dir=\"/data\")`, are those of the constructor; Rust has `config::Sources` for them. Of `client_secret` and `client_secret_file`, which say the same in two
ways, the one of the more important source counts.

**A file** is TOML or YAML, as its name ends: `.toml`, `.yaml` or `.yml`. It has one setting in a line and no sections. A relative path
in it starts from the directory of the file; in the environment it starts from the working directory. `~` and `$` mean
nothing special. In YAML, null counts as not set.

```toml
endpoint = \"https://1234567890.zerobus.eu-west-1.cloud.databricks.com\"
table_name = \"main.default.events\"
unity_catalog_url = \"https://dbc-a1b2c3d4.cloud.databricks.com\"
client_id = \"6a1b4f7e-0000-0000-0000-000000000000\"
client_secret_file = \"/run/secrets/zerobus\"
wal_max_bytes = \"20GiB\"
retry_max_delay_ms = \"1m\"
```

**A variable** that is empty counts as not set. Where one setting has two variables, the one with the prefix counts. A variable that begins
with `ARROW_ZEROBUS_` and is no setting is refused, so a mistake in a name is not overlooked; a Kubernetes service that is called
`arrow-zerobus` makes such ones, unless the pod has `enableServiceLinks: false`.

**Values.** A size is a number of bytes or has a unit: `kB`, `MB`, `GB`, `TB` of 1000, `KiB`, `MiB`, `GiB`, `TiB` of 1024. A time is a
number in the unit of the setting's name, or has its own: `ms`, `s`, `m`, `h`, `d`. In Python's arguments both are plain numbers.

**Errors** name the variable or the line, the value, and what is allowed; a name that does not exist comes with the closest one that does. A
secret is never repeated. A file with `client_secret` that everybody on the machine can read is used and warned about in the log; better
keep the secret in a file of its own and give `client_secret_file`.

";

const FOOT: &str = "
This page is made from the registry in `src/config/registry.rs` by
`UPDATE_SETTINGS_PAGE=1 cargo test --features cli,emulator,sim --lib config::page`.
";

/// The page.
fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| setting | value | default | meaning |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let plain = setting.plain_variable.map_or(String::new(), |name| format!(" (also `{name}`)"));
        let row =
            [&format!("`{}`{plain}", setting.name), &value(setting), &default(setting), setting.meaning];
        page.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    page.push_str(FOOT);
    page
}

fn value(setting: &Setting) -> String {
    match setting.kind() {
        Kind::Text => "text".to_owned(),
        Kind::Secret => "secret text".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Bytes => "size".to_owned(),
        Kind::BytesOrNone => "size or `none`".to_owned(),
        Kind::Count(_) => "integer".to_owned(),
        Kind::Millis | Kind::Seconds => "time".to_owned(),
        Kind::SecondsOrNone => "time or `none`".to_owned(),
        Kind::Flag => "`true`, `false`".to_owned(),
        Kind::Choice => {
            setting.choices().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        }
    }
}

fn default(setting: &Setting) -> String {
    if let Some(note) = setting.default_note {
        return note.to_owned();
    }
    match (setting.kind(), setting.default()) {
        _ if setting.is_required() => "must be given".to_owned(),
        (_, None) => "not set".to_owned(),
        (Kind::Bytes, Some(Value::Number(bytes))) => format!("`{}`", size(bytes)),
        (Kind::Millis, Some(Value::Duration(time))) => format!("`{}`", time.as_millis()),
        (_, Some(Value::Duration(time))) => format!("`{}`", time.as_secs_f64()),
        (_, Some(Value::Number(number))) => format!("`{number}`"),
        (_, Some(Value::Flag(flag))) => format!("`{flag}`"),
        (_, Some(Value::Text(text) | Value::Choice(text))) => format!("`{text}`"),
        (_, Some(Value::Path(path))) => format!("`{}`", path.display()),
        (_, Some(Value::Secret(_) | Value::None)) => "`none`".to_owned(),
    }
}

/// A size in the largest binary unit of which it is a multiple.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[test]
fn the_page_of_reference_is_what_the_registry_says() {
    compare("docs/settings.md", &page(), "SETTINGS", "src/config/registry.rs", "config::page");
}
