fn main() -> std::process::ExitCode {
    arrow_zerobus_sdk_wrapper::cli::run(std::env::args_os())
}
