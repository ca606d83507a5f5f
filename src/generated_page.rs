//! Pages of the documentation that are made of the code: a test compares each with what is written.

/// Compares a page with what it should be, and writes it anew if `UPDATE_<NAME>_PAGE` is in the environment.
///
/// The page is named by its path in the repository, `source` is what it is made of, and `tests` the filter that runs its
/// test.
#[expect(clippy::disallowed_methods, reason = "a page is no part of a log")]
pub(crate) fn compare(path: &str, text: &str, name: &str, source: &str, tests: &str) {
    let full_path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let variable = format!("UPDATE_{name}_PAGE");
    if std::env::var_os(&variable).is_some() {
        std::fs::write(&full_path, text).unwrap();
    }
    let written = std::fs::read_to_string(&full_path).unwrap_or_default();
    assert!(
        written == text,
        "{path} is not what {source} says; write it anew with {variable}=1 cargo test --features cli,emulator,sim \
         --lib {tests}"
    );
}
