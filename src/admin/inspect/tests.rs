//! A log shows what was put into it, whole or not.

use super::super::testing::{batch, dead_log, delivered, flip, segments, settle};
use super::*;
use crate::convert::{DeltaType, TableColumn, TableSchema};
use crate::io::Env;
use crate::ledger::{CachedTable, Ledger, Ranges, Settled, SettledRange};
use crate::wal::LogView;

#[test]
fn a_segment_shows_header_footer_and_every_frame() {
    let log = dead_log();
    let mut next = 1;
    for path in segments(log.path()) {
        let report = inspect_segment(&path).unwrap();
        let footer = report.footer.unwrap();
        assert_eq!((report.state, report.header.state), (SegmentState::Sealed, HeaderState::Whole));
        assert_eq!((report.frames, report.rows), (footer.frames, footer.rows));
        assert_eq!((report.header.base_lsn, footer.first_lsn), (Some(Lsn::new(next)), Lsn::new(next)));
        let mut end = 4096;
        for piece in &report.pieces {
            let (offset, bytes, checksum_ok) = match piece {
                PieceReport::Schema { offset, bytes, checksum_ok, .. } => (offset, bytes, checksum_ok),
                PieceReport::Batch { lsn, offset, bytes, checksum_ok, rows, is_void, .. } => {
                    assert_eq!((lsn.get(), *rows, *is_void), (next, 10, false));
                    next += 1;
                    (offset, bytes, checksum_ok)
                }
                other => panic!("{other:?}"),
            };
            assert!(*checksum_ok && *offset >= end);
            end = offset + bytes;
        }
        assert_eq!(end, footer.end);
        assert!(!report.is_damaged);
    }
    assert_eq!(next, 121);
}

#[test]
fn a_segment_with_damage_shows_where_it_is_and_everything_around_it() {
    let log = dead_log();
    let path = &segments(log.path())[0];
    let whole = inspect_segment(path).unwrap();
    let PieceReport::Batch { lsn, offset, .. } = whole.pieces[3] else { panic!("{:?}", whole.pieces[3]) };
    flip(path, offset + 100);
    let body = inspect_segment(path).unwrap();
    let bad: Vec<_> = body
        .pieces
        .iter()
        .filter(|piece| matches!(piece, PieceReport::Batch { checksum_ok: false, .. }))
        .collect();
    assert!(matches!(bad[..], [PieceReport::Batch { lsn: bad, .. }] if *bad == lsn), "{bad:?}");
    assert_eq!((body.is_damaged, body.frames), (true, whole.frames - 1));
    assert_eq!(body.pieces.len(), whole.pieces.len());

    flip(path, offset + 3);
    flip(path, 100);
    let header = inspect_segment(path).unwrap();
    assert_eq!((header.header.state, header.segment), (HeaderState::Damaged, whole.segment));
    let is_stretch =
        |piece: &&PieceReport| matches!(piece, PieceReport::Unreadable { offset: at, .. } if *at == offset);
    assert_eq!(header.pieces.iter().filter(is_stretch).count(), 1);
}

#[test]
fn what_is_no_segment_is_refused_with_what_to_give() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    crate::io::Env::os().storage.open(&path, crate::io::Access::New).unwrap();
    let error = inspect_segment(&path).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Configuration);
    assert!(error.to_string().contains("segment-0000000000000001.wal"), "{error}");
    assert_eq!(inspect_segment(&directory.path().join("gone")).unwrap_err().code(), ErrorCode::Storage);
}

#[test]
fn a_frame_comes_with_its_rows_and_what_became_of_them() {
    let log = dead_log();
    let mut ranges = Ranges::default();
    let at = |through, rows_of_next| Settled { through: Lsn::new(through), rows_of_next };
    ranges.settle(
        &mut at(25, 3),
        SettledRange { start: at(30, 0), end: at(31, 0), frames: 1, rows: 10, requests: 1 },
    );
    settle(log.path(), &delivered(25, 3), &ranges);
    for (lsn, state, settled) in [
        (25, FrameState::Delivered, vec![Run { first: 0, last: 9 }]),
        (26, FrameState::Partly, vec![Run { first: 0, last: 2 }]),
        (27, FrameState::Waiting, vec![]),
        (31, FrameState::Delivered, vec![Run { first: 0, last: 9 }]),
        (120, FrameState::Waiting, vec![]),
    ] {
        let InspectedFrame { report, batch: found } = inspect_frame(log.path(), Lsn::new(lsn)).unwrap();
        assert_eq!((report.state, report.settled_rows), (state, settled), "frame {lsn}");
        assert_eq!(found, batch(lsn as i64));
        let columns: Vec<_> =
            report.columns.iter().map(|it| (&*it.name, &*it.arrow_type, it.nullable)).collect();
        assert_eq!(columns, [("id", "Int64", false), ("name", "Utf8", true)]);
    }
    for absent in [0, 121] {
        let error = inspect_frame(log.path(), Lsn::new(absent)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Configuration);
        assert!(error.to_string().contains("holds 1 to 120"), "{error}");
    }
}

#[test]
fn a_damaged_frame_says_so_and_one_whose_schema_only_another_segment_has_is_read() {
    let log = dead_log();
    let path = &segments(log.path())[0];
    let PieceReport::Batch { lsn, offset, .. } = inspect_segment(path).unwrap().pieces[3] else { panic!() };
    flip(path, 4096 + 100);
    assert_eq!(inspect_frame(log.path(), lsn).unwrap().batch, batch(lsn.get() as i64));
    flip(path, offset + 100);
    let error = inspect_frame(log.path(), lsn).unwrap_err();
    assert_eq!((error.code(), error.lsn()), (ErrorCode::Corruption, Some(lsn)));
}

#[test]
fn the_ledger_tells_what_is_settled_and_the_schemas_how_they_go_with_the_table() {
    let log = dead_log();
    let view = LogView::read(&Env::os(), log.path()).unwrap();
    let mut opened = Ledger::open(log.path(), view.epoch()).unwrap();
    let column = |name: &str, number, delta_type| TableColumn {
        name: name.to_owned(),
        number,
        delta_type,
        nullable: true,
    };
    let mut table = CachedTable {
        table: "main.default.events".parse().unwrap(),
        read_unix_micros: 5,
        schema: TableSchema {
            columns: vec![column("id", 1, DeltaType::Long), column("name", 2, DeltaType::String)],
        },
    };
    opened.ledger.remember_table(Some(&table));
    opened.ledger.checkpoint(&delivered(25, 3)).unwrap();
    drop(opened);
    let ledger = inspect_ledger(log.path()).unwrap();
    assert!(ledger.is_known && ledger.set_aside.is_empty() && ledger.stream.is_none());
    assert_eq!(
        (ledger.settled, ledger.delivered_rows),
        (Settled { through: Lsn::new(25), rows_of_next: 3 }, 253)
    );
    let schemas = inspect_schema(log.path()).unwrap();
    let [schema] = &schemas.schemas[..] else { panic!("{schemas:?}") };
    assert_eq!(
        (schema.frames, schema.rows, &schema.lsns[..]),
        (120, 1200, &[Run { first: 1, last: 120 }][..])
    );
    assert_eq!((schema.table_match, schema.misfits.len()), (TableMatch::Fits, 0));
    let fingerprint = inspect_frame(log.path(), Lsn::new(3)).unwrap().report.fingerprint;
    assert_eq!(schema.fingerprint, fingerprint);

    table.schema.columns[1].delta_type = DeltaType::Date;
    let mut opened = Ledger::open(log.path(), view.epoch()).unwrap();
    opened.ledger.remember_table(Some(&table));
    opened.ledger.checkpoint(&delivered(25, 3)).unwrap();
    drop(opened);
    let schemas = inspect_schema(log.path()).unwrap();
    assert_eq!(schemas.schemas[0].table_match, TableMatch::Misfit);
    assert!(schemas.schemas[0].misfits["protobuf"].contains("name"), "{:?}", schemas.schemas[0].misfits);
}

#[test]
fn of_several_logs_one_has_to_be_named() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(one_log(root.path()), Err(InspectError::NoLog { .. })));
    for writer in ["writer-000", "writer-001"] {
        super::super::testing::open(&root.path().join(writer)).close();
    }
    let error = one_log(root.path()).unwrap_err();
    assert!(error.to_string().contains("2 logs") && error.to_string().contains("writer-000"), "{error}");
    let second = root.path().join("writer-001");
    assert_eq!(one_log(&second).unwrap(), second);
}
