//! How results are shown: tables on a terminal, Markdown for the documentation, JSON for programs.

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, TableStyle, presets};
use serde::Serialize;

use crate::{Result, doc, goals::Goal, summary::CaseSummary};

/// Where a report goes besides the terminal.
#[derive(Clone, Debug, clap::Args)]
pub struct Targets {
    /// Writes the results as JSON to this file, beside those of the other benchmarks
    #[arg(long, value_name = "FILE", value_parser = in_checkout)]
    pub json: Option<PathBuf>,
    /// Replaces this benchmark's tables in a Markdown file by new ones
    #[arg(long, value_name = "FILE", value_parser = page)]
    pub markdown: Option<PathBuf>,
}

/// A path that is meant from the checkout: cargo starts a benchmark in the directory of its package.
fn in_checkout(path: &str) -> std::result::Result<PathBuf, std::convert::Infallible> {
    Ok(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path))
}

/// The same, of a file that is there: what was measured for minutes should not end in an error.
fn page(path: &str) -> std::result::Result<PathBuf, String> {
    let Ok(path) = in_checkout(path);
    if path.is_file() { Ok(path) } else { Err(format!("there is no file {}", path.display())) }
}

/// Rows below a heading.
pub struct Grid {
    heading: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table without rows.
    pub fn new(heading: &str, columns: &[&str]) -> Grid {
        let columns = columns.iter().map(ToString::to_string).collect();
        Grid { heading: heading.to_owned(), columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn table(&self, style: TableStyle) -> Table {
        let mut table = Table::new();
        table.load_style(style).set_header(&self.columns);
        self.rows.iter().for_each(|row| {
            table.add_row(row);
        });
        for (number, column) in table.column_iter_mut().enumerate() {
            let is_text = |row: &Vec<String>| row[number].starts_with(char::is_alphabetic);
            if !self.rows.iter().any(is_text) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        format!("{}\n{}\n", self.heading, self.table(presets::NOTHING).trim_fmt())
    }

    /// For a page.
    pub fn markdown(&self) -> String {
        format!("{}\n\n{}\n", self.heading, self.table(presets::ASCII_MARKDOWN).trim_fmt())
    }
}

/// The methods of one case.
pub fn case_grid(case: &CaseSummary) -> Grid {
    let heading = format!("{} ({} rounds)", case.case, case.rounds);
    let columns = [
        "method",
        "appends/s",
        "MB/s",
        "p50 µs",
        "p99 µs",
        "CPU µs",
        "device B/B",
        "process B/B",
        "writes",
        "group",
    ];
    let mut grid = Grid::new(&heading, &columns);
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    for method in &case.methods {
        grid.row(vec![
            method.name.clone(),
            format!("{:.0}", method.appends_per_second),
            format!("{:.1}", method.megabytes_per_second),
            format!("{:.0}", method.p50_micros),
            format!("{:.0}", method.p99_micros),
            format!("{:.1}", method.processor_micros),
            optional(method.device_bytes),
            format!("{:.2}", method.process_bytes),
            optional(method.device_writes),
            optional(method.group),
        ]);
    }
    grid
}

/// Ours against the others, case by case.
pub fn ratio_grid(cases: &[CaseSummary]) -> Grid {
    let mut grid = Grid::new(
        "This log against others, medians of ratios",
        &["case", "kind", "best of it", "rate", "p99"],
    );
    for case in cases {
        let others = [
            ("raw", &case.against_raw),
            ("raw, aligned", &case.against_aligned),
            ("crate", &case.against_store),
        ];
        for (kind, against) in others {
            let Some(against) = against else { continue };
            grid.row(vec![
                case.case.clone(),
                kind.to_owned(),
                against.name.clone(),
                format!("{:.2}", against.rate),
                format!("{:.2}", against.p99),
            ]);
        }
    }
    grid
}

/// The goals, with what was measured.
pub fn goal_grid(goals: &[Goal]) -> Grid {
    let mut grid = Grid::new("Goals", &["case", "goal", "measured"]);
    for goal in goals {
        grid.row(vec![goal.case.clone(), goal.what.clone(), goal.verdict()]);
    }
    grid
}

/// The results that other benchmarks have written to the file; each has its own key.
fn existing(path: &Path) -> Result<serde_json::Map<String, serde_json::Value>> {
    match std::fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(serde_json::Map::new()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the files that were asked for; what was printed to the terminal already is not printed again.
///
/// # Errors
///
/// When a file cannot be written, or the Markdown file has no place for this benchmark.
pub fn write(
    targets: &Targets,
    benchmark: &str,
    machine: &str,
    grids: &[Grid],
    json: &impl Serialize,
) -> Result<()> {
    if let Some(path) = &targets.json {
        let mut results = existing(path)?;
        results.insert(benchmark.to_owned(), serde_json::to_value(json)?);
        std::fs::write(path, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    if let Some(path) = &targets.markdown {
        let tables: Vec<String> = grids.iter().map(Grid::markdown).collect();
        doc::replace(Path::new(path), benchmark, &format!("{machine}\n\n{}", tables.join("\n")))?;
    }
    Ok(())
}
