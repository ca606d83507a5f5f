//! `zerobus-wal exit-codes`: what the command ends with, and why.

use clap::Args;

use super::Failure;
use super::output::{Format, print_all, table};
use crate::error::{ExitCode, exit_codes};

/// Version of the JSON.
const VERSION: u32 = 1;

/// List the exit codes of this command.
///
/// Of several logs, the first that fails decides. Whether the same call can succeed later without a change is told as
/// `retryable`.
#[derive(Args, Debug)]
#[command(after_help = super::after_help())]
pub(super) struct ExitCodesArgs {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &ExitCodesArgs) -> Result<(), Failure> {
    print_all(args.format, ("exit_codes", VERSION), &exit_codes(), text)
}

fn text(codes: &[ExitCode]) -> String {
    let mut table = table(["code", "name", "retryable", "meaning"]);
    for code in codes {
        let retryable = if code.retryable { "yes" } else { "no" };
        table.add_row([&code.code.to_string(), code.name, retryable, code.meaning]);
    }
    table.to_string()
}
