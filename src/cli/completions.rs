//! `zerobus-wal completions`: what a shell offers after Tab.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::output::print;
use super::{Cli, Failure};

/// Print the completions for a shell.
///
/// For bash: zerobus-wal completions bash > ~/.local/share/bash-completion/completions/zerobus-wal. For zsh: into a file
/// _zerobus-wal in a directory of $fpath. For fish: > ~/.config/fish/completions/zerobus-wal.fish.
#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: ShellName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let shell = match args.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}
