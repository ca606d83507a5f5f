//! What `inspect` shows people.

use std::path::Path;

use comfy_table::Cell;
use indicatif::HumanBytes;

use super::super::output::{counted, number, table};
use super::super::time::utc;
use crate::admin::inspect::{
    Column, FrameReport, HeaderState, LedgerReport, PieceReport, Run, SchemaReport, SegmentReport,
    SegmentState, TableMatch,
};

fn frames(count: u64) -> String {
    counted(count, "frame", "frames")
}

fn rows(count: u64) -> String {
    counted(count, "row", "rows")
}

pub(super) fn segment_text(report: &SegmentReport) -> String {
    let state = match report.state {
        SegmentState::Sealed => "sealed",
        SegmentState::Open => "open",
    };
    let mut text = format!(
        "{}\nsegment {} of log {}, {state}, {}: {}, {}\n",
        report.path.display(),
        report.segment,
        report.epoch,
        HumanBytes(report.bytes),
        frames(report.frames),
        rows(report.rows),
    );
    match (
        report.header.state,
        report.header.base_lsn,
        report.header.previous_lsn,
        report.header.created_unix_micros,
    ) {
        (HeaderState::Whole, Some(base), Some(previous), Some(created)) => text.push_str(&format!(
            "header: whole; begins at frame {base}, {previous} came before it; made at {}\n",
            utc(created)
        )),
        (HeaderState::Unwritten, ..) => text.push_str("header: never written in full, by a crash\n"),
        _ => text.push_str("header: DAMAGED, it does not match its checksum\n"),
    }
    match &report.footer {
        Some(footer) => text.push_str(&format!(
            "footer: whole; frames {} to {}, {}, {}, up to byte {}; appended from {} to {}\n",
            footer.first_lsn,
            footer.last_lsn,
            frames(footer.frames),
            rows(footer.rows),
            footer.end,
            utc(footer.first_unix_micros),
            utc(footer.last_unix_micros),
        )),
        None => text.push_str("footer: none, so the segment was not sealed, or its footer is lost\n"),
    }
    let mut table = table(["kind", "lsn", "position", "length", "rows", "appended", "schema", "checksum"]);
    let ok = |ok: bool| Cell::new(if ok { "ok" } else { "WRONG" });
    let none = || Cell::new("");
    for piece in &report.pieces {
        table.add_row(match piece {
            PieceReport::Schema { offset, bytes, fingerprint, checksum_ok } => vec![
                Cell::new("schema"),
                none(),
                number(*offset),
                number(*bytes),
                none(),
                none(),
                Cell::new(fingerprint),
                ok(*checksum_ok),
            ],
            PieceReport::Batch {
                lsn,
                offset,
                bytes,
                rows,
                fingerprint,
                appended_unix_micros,
                checksum_ok,
                is_void,
            } => vec![
                Cell::new(if *is_void { "batch (void)" } else { "batch" }),
                Cell::new(lsn),
                number(*offset),
                number(*bytes),
                number((*rows).into()),
                Cell::new(utc(*appended_unix_micros)),
                Cell::new(fingerprint),
                ok(*checksum_ok),
            ],
            PieceReport::Footer { offset, bytes, checksum_ok } => {
                vec![
                    Cell::new("footer"),
                    none(),
                    number(*offset),
                    number(*bytes),
                    none(),
                    none(),
                    none(),
                    ok(*checksum_ok),
                ]
            }
            PieceReport::Unreadable { offset, bytes, is_zero } => {
                let what = if *is_zero { "ZEROS" } else { "NO FRAME" };
                vec![Cell::new(what), none(), number(*offset), number(*bytes), none(), none(), none(), none()]
            }
            PieceReport::Torn { offset, bytes } => {
                vec![
                    Cell::new("unfinished"),
                    none(),
                    number(*offset),
                    number(*bytes),
                    none(),
                    none(),
                    none(),
                    none(),
                ]
            }
        });
    }
    text.push_str(&table.to_string());
    text
}

pub(super) fn frame_text(report: &FrameReport) -> String {
    let mut text = format!(
        "frame {} of {}\n{}, {} at {} in {}, appended at {}, schema {}\nstate: {}",
        report.lsn,
        report.directory.display(),
        rows(report.rows.into()),
        HumanBytes(report.bytes),
        report.offset,
        name_of(&report.segment),
        utc(report.appended_unix_micros),
        report.fingerprint,
        report.state.as_str(),
    );
    if !report.settled_rows.is_empty() && report.settled_rows != [whole(report.rows)] {
        text.push_str(&format!("; settled are rows {}", runs(&report.settled_rows)));
    }
    if !report.quarantined_rows.is_empty() {
        text.push_str(&format!("; in quarantine are rows {}", runs(&report.quarantined_rows)));
    }
    text.push_str(&format!("\ncolumns: {}", columns(&report.columns)));
    text
}

fn whole(rows: u32) -> Run {
    Run { first: 0, last: u64::from(rows).saturating_sub(1) }
}

fn columns(columns: &[Column]) -> String {
    let column = |column: &Column| {
        let not_null = if column.nullable { "" } else { " not null" };
        format!("{} {}{not_null}", column.name, column.arrow_type)
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn runs(runs: &[Run]) -> String {
    let run = |run: &Run| match run.first == run.last {
        true => run.first.to_string(),
        false => format!("{} to {}", run.first, run.last),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn ledger_text(report: &LedgerReport) -> String {
    let mut lines = vec![format!("ledger of {}, log {}", report.directory.display(), report.epoch)];
    if !report.is_known {
        lines.push("it says nothing of this log: nothing was settled yet, or it is lost".to_owned());
    }
    let settled = report.settled;
    let part = match settled.rows_of_next {
        0 => String::new(),
        count => format!(", and {} of frame {}", rows(count.into()), settled.through.next()),
    };
    lines.push(format!("settled: up to frame {}{part}", settled.through));
    for range in &report.ranges {
        lines.push(format!(
            "settled above that: behind frame {} (row {}) up to frame {} (row {}): {}, {}",
            range.start.through,
            range.start.rows_of_next,
            range.end.through,
            range.end.rows_of_next,
            frames(range.frames),
            rows(range.rows)
        ));
    }
    lines.push(format!(
        "delivered: {}, {}; in quarantine: {}, {} as a whole; dropped: {}, {}; damaged: {}",
        rows(report.delivered_rows),
        frames(report.delivered_frames),
        rows(report.quarantined.rows),
        frames(report.quarantined.frames),
        rows(report.dropped_rows),
        frames(report.dropped_frames),
        frames(report.damaged_frames),
    ));
    for range in &report.dropped {
        lines.push(format!("dropped: frames {} to {}", range.first, range.last));
    }
    if report.bent != Default::default() {
        lines.push(format!(
            "bent: {} lost nanoseconds, {} empty",
            counted(report.bent.floored_timestamps, "timestamp", "timestamps"),
            counted(report.bent.emptied_lists, "null list became", "null lists became")
        ));
    }
    if report.doubtful_rows > 0 {
        lines.push(format!("doubtful: {} sent again", counted(report.doubtful_rows, "row was", "rows were")));
    }
    match (&report.stream, &report.streams_failure) {
        (_, Some(failure)) => lines.push(format!("persistent stream: CANNOT BE READ: {failure}")),
        (None, None) => lines.push("persistent stream: none".to_owned()),
        (Some(stream), None) => lines.push(format!(
            "persistent stream: {}, next offset {}; recorded and not settled: {} with {}{}",
            stream.id,
            stream.next_offset,
            counted(stream.requests, "request", "requests"),
            rows(stream.rows),
            if stream.void_offsets > 0 { "; it cannot go on, the next owner begins another" } else { "" }
        )),
    }
    for path in &report.set_aside {
        lines.push(format!("set aside: {}", path.display()));
    }
    match &report.table {
        None => lines.push("table: its columns are not known".to_owned()),
        Some(known) => {
            lines.push(format!("table: {}, as read at {}", known.name, utc(known.read_unix_micros)));
            let mut columns = table(["column", "type", "number", "nullable"]);
            for column in &known.columns {
                let nullable = if column.nullable { "yes" } else { "no" };
                columns.add_row([&column.name, &column.delta_type, &column.number.to_string(), nullable]);
            }
            lines.push(columns.to_string());
        }
    }
    lines.join("\n")
}

pub(super) fn schema_text(report: &SchemaReport) -> String {
    if report.schemas.is_empty() {
        return format!("{} holds no frames", report.directory.display());
    }
    let mut lines = Vec::new();
    for schema in &report.schemas {
        let fits = match schema.table_match {
            TableMatch::Fits => "fits the table",
            TableMatch::Misfit => "does NOT fit the table",
            TableMatch::Unknown => "cannot be compared, the table's columns are not known",
        };
        lines.push(format!(
            "schema {}: {}, {}; {fits}",
            schema.fingerprint,
            frames(schema.frames),
            rows(schema.rows)
        ));
        let told = schema.columns.as_deref().map_or("LOST".to_owned(), columns);
        lines.push(format!("  columns: {told}"));
        lines.push(format!("  frames: {}", runs(&schema.lsns)));
        lines
            .extend(schema.misfits.iter().map(|(transport, reason)| format!("  with {transport}: {reason}")));
    }
    lines.join("\n")
}
