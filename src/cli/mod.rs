//! `zerobus-wal`: what operators type. The same code is the Rust binary and the script of the wheel.
//!
//! Data goes to stdout, everything else to stderr; exit codes are those of the table of errors.

mod completions;
mod config;
mod adopt;
mod destination;
mod doctor;
mod drain;
#[cfg(feature = "emulator")]
mod emulator;
mod exit_codes;
mod inspect;
mod log;
mod ls;
mod export;
mod output;
#[cfg(all(test, feature = "emulator"))]
mod page;
mod pause;
mod progress;
mod reclaim;
mod remap;
mod repair;
mod quarantine;
mod reconcile;
mod replay;
mod resume;
mod shown;
mod rows;
mod status;
mod time;
mod verify;
mod watch;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, default_wal_dir};
use crate::error::{Coded, EXIT_VIOLATED, ErrorCode, chain, exit_codes};

/// Looks after the write-ahead logs of arrow-zerobus-sdk-wrapper.
#[derive(Debug, Parser)]
#[command(name = "zerobus-wal", version, propagate_version = true, after_help = after_help())]
struct Cli {
    /// Say on stderr what is done, not only what is odd.
    #[arg(long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::StatusArgs),
    Ls(ls::LsArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Config(config::ConfigArgs),
    Adopt(adopt::AdoptArgs),
    Doctor(Box<doctor::DoctorArgs>),
    Drain(Box<drain::DrainArgs>),
    Pause(pause::PauseArgs),
    Reclaim(reclaim::ReclaimArgs),
    Remap(remap::RemapArgs),
    Repair(repair::RepairArgs),
    Resume(resume::ResumeArgs),
    Export(Box<export::ExportArgs>),
    Quarantine(Box<quarantine::QuarantineArgs>),
    Replay(Box<replay::ReplayArgs>),
    Reconcile(reconcile::ReconcileArgs),
    #[cfg(feature = "emulator")]
    Emulator(Box<emulator::EmulatorArgs>),
    Completions(completions::CompletionsArgs),
    ExitCodes(exit_codes::ExitCodesArgs),
}

/// What the command ends with stands below its help.
fn after_help() -> String {
    let lines =
        exit_codes().into_iter().map(|exit| format!("  {:>2}  {}: {}", exit.code, exit.name, exit.meaning));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// Runs the command with these arguments, the first of which is its own name, and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version come this way too; a closed pipe is nobody's error.
            let _ = usage.print();
            return u8::try_from(usage.exit_code()).unwrap_or(ErrorCode::Configuration.info().exit_code);
        }
    };
    log::start(cli.verbose);
    let outcome = match cli.command {
        Command::Status(args) => match status::run(&args) {
            Ok(status::Verdict::Violated) => return EXIT_VIOLATED,
            told => told.map(drop),
        },
        Command::Ls(args) => ls::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::ExitCodes(args) => exit_codes::run(&args),
        Command::Adopt(args) => adopt::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Pause(args) => pause::run(&args),
        Command::Reclaim(args) => reclaim::run(&args),
        Command::Remap(args) => remap::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Resume(args) => resume::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Quarantine(args) => quarantine::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        #[cfg(feature = "emulator")]
        Command::Emulator(args) => emulator::run(&args).map_err(Failure::from),
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {}", failure.text);
            failure.code.info().exit_code
        }
    }
}

/// What a verb ends with when it cannot do its work.
#[derive(Debug)]
struct Failure {
    code: ErrorCode,
    text: String,
}

impl<E: Coded + Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { code: error.code(), text: chain(&error) }
    }
}

/// Where to look when nobody says where.
fn root(given: Option<&PathBuf>) -> Result<PathBuf, ConfigError> {
    let root = given.cloned().map_or_else(default_wal_dir, Ok)?;
    // A relative path hides in which wal_dir a writer directory lies; what does not exist is told later.
    Ok(std::fs::canonicalize(&root).unwrap_or(root))
}

/// What is said where there is no log.
fn no_log(root: &Path) -> Failure {
    let text = format!("no log in or below {}; give the wal_dir of the program", root.display());
    Failure { code: ErrorCode::Configuration, text }
}
