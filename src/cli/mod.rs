//! cli
pub mod emulator;
use clap::{Parser, Subcommand};
#[derive(Parser)]
#[command(name = "zerobus-wal")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}
#[derive(Subcommand)]
enum Command {
    Emulator(emulator::EmulatorArgs),
}
/// Runs.
pub fn run(args: impl Iterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    use crate::error::Coded as _;
    let Command::Emulator(args) = Cli::parse_from(args).command;
    match emulator::run(&args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", crate::error::chain(&e));
            std::process::ExitCode::from(e.code().info().exit_code)
        }
    }
}
