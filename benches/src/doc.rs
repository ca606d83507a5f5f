//! Where in a Markdown page the tables of a benchmark stand: between two comments that name it.

use std::path::Path;

use crate::Result;

/// Replaces what stands between the comments.
///
/// # Errors
///
/// When the file cannot be read or written, or has no such comments.
pub fn replace(path: &Path, benchmark: &str, tables: &str) -> Result<()> {
    let begin = format!("<!-- begin {benchmark} -->\n");
    let end = format!("<!-- end {benchmark} -->");
    let page = std::fs::read_to_string(path)?;
    let parts = page.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let Some((head, tail)) = parts else {
        return Err(format!("{} has no {} … {end}", path.display(), begin.trim_end()).into());
    };
    std::fs::write(path, format!("{head}{begin}{tables}\n{end}{tail}"))?;
    Ok(())
}
