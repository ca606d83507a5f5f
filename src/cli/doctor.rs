//! `zerobus-wal doctor`: would delivery work from here, and what to do if it would not.

use std::path::{Path, PathBuf};

use clap::Args;

use super::destination::{DestinationOptions, FormOptions};
use super::output::{Format, print_all, table};
use super::progress::{Unit, watched};
use super::{Failure, root};
use crate::admin;
use crate::admin::doctor::{self, DOCTOR_VERSION, DoctorOptions, Examination};
use crate::config::{ConfigError, WrapperConfiguration};
use crate::error::chain;

/// Look at everything that delivery needs: settings, disk, names, connections, certificates, clock, token, grants, and
/// whether what waits fits the table.
///
/// Each line says ok, warning or failed, and what to do about it. Takes no lock, sends no row, and writes nothing but a
/// file of its own for a moment, to see how fast the disk is. Beside logs it goes by what they were written for and by
/// the options; without any log, or with --settings, by the settings of a file and of ARROW_ZEROBUS_* in the
/// environment. The exit code is that of the first thing that has failed.
#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// A writer directory, or a directory with logs below it [default: the directory that wrappers use].
    directory: Option<PathBuf>,
    /// The file with the settings of the program, TOML or YAML.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Leave out everything that needs the network.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    destination: DestinationOptions,
    #[command(flatten)]
    form: FormOptions,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let examinations = match patients(args)? {
        Patients::Logs(patients) => {
            let options = DoctorOptions { offline: args.offline };
            let examine = |(directory, configuration): &(PathBuf, WrapperConfiguration)| {
                let name = directory.display().to_string();
                watched(&name, Unit::Rows, |progress| {
                    doctor::examine(directory, configuration, options, progress)
                })
            };
            patients.iter().map(examine).collect()
        }
        Patients::Unreadable(directory, error) => vec![doctor::unreadable_settings(&directory, &error)],
    };
    print_all(args.format, ("examinations", DOCTOR_VERSION), &examinations, tables)?;
    let failed = examinations.iter().find_map(Examination::code);
    let text = "something has failed; the lines above say what to do".to_owned();
    failed.map_or(Ok(()), |code| Err(Failure { code, text }))
}

/// What is looked at.
enum Patients {
    /// Directories, each with the settings of a wrapper there.
    Logs(Vec<(PathBuf, WrapperConfiguration)>),
    /// The settings cannot be read.
    Unreadable(PathBuf, Box<ConfigError>),
}

fn patients(args: &DoctorArgs) -> Result<Patients, Failure> {
    let given = args.settings.as_deref().map(WrapperConfiguration::from_file);
    let given = match given.transpose() {
        Ok(given) => given,
        Err(error) => {
            let directory = args.directory.clone().or_else(|| args.settings.clone()).unwrap_or_default();
            return Ok(Patients::Unreadable(directory, Box::new(error)));
        }
    };
    let wal_dir = given.as_ref().and_then(|given| given.wal_dir.clone());
    let root = root(args.directory.as_ref().or(wal_dir.as_ref()))?;
    let mut patients = Vec::new();
    for directory in if root.is_dir() { admin::find_logs(&root)? } else { Vec::new() } {
        let log = match admin::status(&directory) {
            Ok(log) => log,
            Err(error) => {
                eprintln!("warning: {}; it is left out", chain(&error));
                continue;
            }
        };
        let configuration = match &given {
            Some(given) if given.table_name != log.table.as_str() => continue,
            Some(given) => {
                let mut configuration = given.clone();
                args.destination.override_in(&mut configuration);
                configuration
            }
            None => {
                let mut configuration = args.destination.configuration(&log);
                args.form.apply_to(&mut configuration);
                configuration
            }
        };
        patients.push((directory, configuration));
    }
    if !patients.is_empty() {
        return Ok(Patients::Logs(patients));
    }
    let made = match given {
        Some(given) => Ok(given),
        None => WrapperConfiguration::from_env(),
    };
    Ok(match made {
        Ok(mut configuration) => {
            args.destination.override_in(&mut configuration);
            configuration.wal_dir = Some(root.clone());
            Patients::Logs(vec![(would_be(&root, &configuration), configuration)])
        }
        Err(error) => Patients::Unreadable(root, Box::new(error)),
    })
}

/// Where the first log of the table would be made.
fn would_be(root: &Path, configuration: &WrapperConfiguration) -> PathBuf {
    root.join(&configuration.table_name).join(crate::wrapper::writer_name(1))
}

fn tables(examinations: &[Examination]) -> String {
    let mut text = Vec::new();
    for examination in examinations {
        let mut table = table(["", "what", "of", "found", "what to do"]);
        for finding in &examination.findings {
            let advice = finding.advice.as_deref().unwrap_or("");
            let row = [finding.verdict.as_str(), &finding.check, &finding.subject, &finding.found, advice];
            table.add_row(row);
        }
        let Examination { table: name, directory, endpoint, .. } = examination;
        text.push(format!("{name} in {}, to {endpoint}\n{table}", directory.display()));
    }
    text.join("\n\n")
}
