//! The page of reference, `docs/reference/command-line.md`, as the help of the command has it: a test writes it, and
//! compares it.

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::Cli;
use crate::generated_page::compare;

const HEAD: &str = "\
# Command line

`zerobus-wal` comes with the wheel, and from cargo with the feature `cli`. Data goes to stdout, everything else to stderr. The exit code is 0,
or that of the [table of errors](errors.md); 2 is a wrong command line too. `zerobus-wal <verb> --help` says what this page says.

";

const FOOT: &str = "
This page is made from the help of the command by
`UPDATE_COMMAND_PAGE=1 cargo test --features cli,emulator,sim --lib cli::page`.
";

/// The page.
fn page() -> String {
    let mut command = Cli::command();
    command.build();
    let mut page = HEAD.to_owned();
    page.push_str("| verb | does |\n|---|---|\n");
    for verb in verbs(&command) {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("| [`{}`](#{}) | {} |\n", verb.get_name(), anchor(verb), cell(&about)));
    }
    for verb in verbs(&command) {
        describe(verb, &mut page);
    }
    page.push_str(FOOT);
    page
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

/// The name with those of the verbs before it, as it is typed.
fn typed(verb: &Command) -> &str {
    verb.get_bin_name().unwrap_or(verb.get_name())
}

/// As Markdown makes the anchor of the heading.
fn anchor(verb: &Command) -> String {
    typed(verb).replace(' ', "-")
}

fn describe(verb: &Command, page: &mut String) {
    let about = verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    page.push_str(&format!("\n## {}\n\n{}\n\n```text\n{usage}\n```\n", typed(verb), prose(&about)));
    let mut arguments = verb
        .get_arguments()
        .filter(|argument| {
            !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
        })
        .peekable();
    if arguments.peek().is_some() {
        page.push('\n');
    }
    for argument in arguments {
        page.push_str(&format!("- {}: {}\n", name(argument), told(argument)));
    }
    for below in verbs(verb) {
        describe(below, page);
    }
}

fn name(argument: &Arg) -> String {
    let values: Vec<_> =
        argument.get_value_names().unwrap_or_default().iter().map(|value| format!("<{value}>")).collect();
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let names: Vec<_> = [
        argument.get_short().map(|short| format!("-{short}")),
        argument.get_long().map(|long| format!("--{long}")),
        (takes_value && !values.is_empty()).then(|| values.join(" ")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let repeated = if matches!(argument.get_action(), ArgAction::Append) { ", repeatable" } else { "" };
    format!("`{}`{repeated}", names.join(" "))
}

/// What it means, its default, what is allowed, and where it comes from when it is not given.
fn told(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut told = prose(&help).replace('\n', "\n  ");
    let allowed: Vec<_> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !allowed.is_empty() {
        told.push_str(&format!(" One of {}.", allowed.join(", ")));
    }
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if !defaults.is_empty() {
        told.push_str(&format!(" Default {}.", defaults.join(", ")));
    }
    if let Some(variable) = argument.get_env() {
        told.push_str(&format!(" Else from `{}`.", variable.to_string_lossy()));
    }
    told
}

/// Text of the help as Markdown: what looks like a placeholder is no HTML, and a sentence ends with a full stop.
fn prose(text: &str) -> String {
    let text = text.trim().replace('<', "&lt;").replace('>', "&gt;");
    if text.is_empty() || text.ends_with(['.', ':', '!', '?', ')']) { text } else { format!("{text}.") }
}

fn cell(text: &str) -> String {
    prose(text).replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_page_of_the_command_is_what_its_help_says() {
    compare("docs/reference/command-line.md", &page(), "COMMAND", "the help", "cli::page");
}
