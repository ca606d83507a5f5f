//! The page of reference, `docs/reference/errors.md`, as the table in `error.rs` has it: a test writes it, and compares it.

use crate::error::ErrorCode;
use crate::generated_page::compare;

const HEAD: &str = "\
# Table of errors

Every failure has a row of this table: in Rust as `Coded::code()`, in Python as the class of the exception and its `code`, and as the
exit code of `zerobus-wal`. What to do about each is on its page.

*Retryable* means that the same call can succeed later without a change by the caller. It says nothing about rows that are stored: those go on
being delivered in any case, and must not be sent again.

";

const FOOT: &str = "
The command ends with 0 for success, and with 2 for a wrong command line too. A verb that has an exit code for what it found, such as damage, says
so in its help.

The path of a page, `operations/errors/<code>`, is stable: a code keeps its name and its page.

This page is made from the table in `src/error.rs` by
`UPDATE_ERRORS_PAGE=1 cargo test --features cli,emulator,sim --lib error_page`.
";

/// The page.
fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| code | meaning | retryable | Python | exit code |\n|---|---|---|---|---:|\n");
    for code in ErrorCode::ALL {
        let info = code.info();
        page.push_str(&format!(
            "| [`{name}`](../{page}) | {meaning} | {retryable} | `{class}` | {exit} |\n",
            name = info.name,
            page = info.page(),
            meaning = meaning(code),
            retryable = if info.retryable { "yes" } else { "no" },
            class = info.python_class,
            exit = info.exit_code,
        ));
    }
    page.push_str(FOOT);
    page
}

/// What the documentation of the variant says. The source is read for it, so that it is written once.
fn meaning(code: ErrorCode) -> String {
    let source = include_str!("error.rs");
    let body = source.split_once("pub enum ErrorCode {").and_then(|(_, rest)| rest.split_once("\n}"));
    let (variants, _) = body.expect("error.rs has the enum of codes");
    let mut text = Vec::new();
    for line in variants.lines().map(str::trim) {
        if let Some(sentence) = line.strip_prefix("///") {
            text.push(sentence.trim());
        } else if line == format!("{code:?},") {
            break;
        } else {
            text.clear();
        }
    }
    assert!(!text.is_empty(), "{code:?} has no documentation");
    text.join(" ")
}

#[test]
fn the_page_of_errors_is_what_the_table_says() {
    compare("docs/reference/errors.md", &page(), "ERRORS", "src/error.rs", "error_page");
}
