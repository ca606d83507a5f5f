//! The Rust binary of `zerobus-wal`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(arrow_zerobus_sdk_wrapper::cli::run(std::env::args_os()))
}
