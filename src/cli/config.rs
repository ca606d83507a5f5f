//! `zerobus-wal config`: which settings count here, and would a wrapper take them?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Failure;
use super::output::{Format, print, print_all, table};
use crate::admin::settings::{SettingReport, SettingSource, check, show};

/// Version of the JSON.
const VERSION: u32 = 1;

/// Show the settings that an environment and a file give, or check them as a wrapper would.
#[derive(Args, Debug)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Show(ShowArgs),
    Check(CheckArgs),
}

/// Show every setting with its value. Secrets are masked.
///
/// What a variable of the environment gives counts before a line of the file, and that before the default. Arguments of a
/// program count before all of them and are not seen here.
#[derive(Args, Debug)]
struct ShowArgs {
    /// A TOML or YAML file with settings.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Show where each value comes from.
    #[arg(long)]
    sources: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Check the settings as the constructor of a wrapper would; ends with 2 if it would refuse them.
///
/// Files that settings name are read. Neither the log nor the network is touched.
#[derive(Args, Debug)]
struct CheckArgs {
    /// A TOML or YAML file with settings.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    match &args.what {
        What::Show(args) => {
            let settings = show(std::env::vars_os(), args.settings.as_deref())?;
            print_all(args.format, ("settings", VERSION), &settings, |settings| text(settings, args.sources))
        }
        What::Check(args) => {
            check(std::env::vars_os(), args.settings.as_deref())?;
            print("a wrapper would take these settings")
        }
    }
}

fn text(settings: &[SettingReport], with_sources: bool) -> String {
    let value_of = |setting: &SettingReport| match (&setting.value, setting.source) {
        (_, SettingSource::Missing) => "(missing)".to_owned(),
        (Value::String(text), _) => text.clone(),
        (Value::Null, _) => setting.default_note.map_or("none".to_owned(), |note| note.replace('`', "")),
        (value, _) => value.to_string(),
    };
    if with_sources {
        let mut table = table(["setting", "value", "source", "given by"]);
        for setting in settings {
            let origin = setting.origin.clone().unwrap_or_default();
            table.add_row([
                setting.name.to_owned(),
                value_of(setting),
                setting.source.as_str().to_owned(),
                origin,
            ]);
        }
        table.to_string()
    } else {
        let mut table = table(["setting", "value"]);
        for setting in settings {
            table.add_row([setting.name.to_owned(), value_of(setting)]);
        }
        table.to_string()
    }
}
