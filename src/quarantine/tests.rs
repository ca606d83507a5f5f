//! Whatever happens while rows are put into quarantine, they are there as a whole or not at all.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, DictionaryArray, Int64Array, ListArray, RecordBatch, RunArray,
    StringArray, StringViewArray, StructArray, UInt32Array,
};
use arrow_ipc::reader::FileReader;
use arrow_schema::{DataType, Field};

use super::*;
use crate::io::sim::{EIO, ENOSPC, Planned, World};
use crate::types::Epoch;

const DIR: &str = "/log";
const EPOCH: Epoch = Epoch::new(7);
const MAX_BYTES: u64 = 1 << 20;

fn source() -> Source {
    Source { table: "main.default.events".parse().unwrap(), epoch: EPOCH }
}

fn world(seed: u64) -> World {
    let world = World::new(seed);
    world.env().storage.create_dir_all(Path::new(DIR)).unwrap();
    world
}

fn open_with(world: &World, settled: u64, max_bytes: u64) -> Quarantine {
    Quarantine::open(&world.env(), Path::new(DIR), source(), Lsn::new(settled), max_bytes).unwrap()
}

fn open(world: &World) -> Quarantine {
    open_with(world, 0, MAX_BYTES)
}

fn batch(rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

/// These rows of a frame of ten.
fn refused(lsn: u64, rows: &[u32]) -> RefusedRows {
    let why = |row: &u32| (*row, Refusal::new("conversion", &format!("row {row} is too large")));
    RefusedRows { lsn: Lsn::new(lsn), batch: batch(10), rows: rows.iter().map(why).collect() }
}

fn rows_of(quarantine: &Quarantine, lsn: u64) -> String {
    quarantine.rows_of(Lsn::new(lsn)).map(|rows| rows.to_string()).unwrap_or_default()
}

/// The whole of a file, as any reader of Arrow sees it.
fn read(world: &World, name: &str) -> RecordBatch {
    let bytes = world.disk().platter(&Path::new(DIR).join(DIRECTORY).join(name)).unwrap();
    let reader = FileReader::try_new(Cursor::new(bytes), None).unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    arrow_select::concat::concat_batches(&schema, &batches).unwrap()
}

fn names(world: &World) -> Vec<String> {
    let files = world.disk().files(&Path::new(DIR).join(DIRECTORY));
    files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_file_has_the_rows_as_they_were_and_says_why_they_are_there() {
    let world = world(1);
    open(&world).put(&[refused(5, &[2, 7, 8])]).unwrap();
    assert_eq!(names(&world), ["00000000000000000005-0000000002.arrow"]);
    let rows = read(&world, "00000000000000000005-0000000002.arrow");
    let column = |name: &str| rows.column_by_name(name).unwrap().clone();
    assert_eq!(column("id").as_primitive::<Int64Type>().values(), &[2, 7, 8]);
    assert_eq!(column("_zerobus_lsn").as_primitive::<UInt64Type>().values(), &[5, 5, 5]);
    assert_eq!(column("_zerobus_row").as_primitive::<UInt32Type>().values(), &[2, 7, 8]);
    assert_eq!(column("_zerobus_reason").as_string::<i32>().value(1), "row 7 is too large");
    assert_eq!(column("_zerobus_code").as_string::<i32>().value(1), "conversion");
    assert_eq!(
        column("_zerobus_time").data_type(),
        &DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()))
    );
    let schema = rows.schema();
    assert_eq!(schema.metadata()["zerobus.table"], "main.default.events");
    assert_eq!(schema.metadata()["zerobus.epoch"], EPOCH.to_string());
    assert_eq!(
        (schema.metadata()["zerobus.lsn"].as_str(), schema.metadata()["zerobus.format"].as_str()),
        ("5", "1")
    );
    let report = open(&world).report_of(Lsn::new(5)).unwrap();
    assert_eq!((report.rows.to_string(), report.reason.as_str()), ("2,7-8".to_owned(), "row 2 is too large"));
}

#[test]
fn columns_of_every_kind_and_of_our_own_names_come_back_as_they_went() {
    let world = world(2);
    let texts = || (0..10).map(|row| (row % 3 > 0).then(|| format!("a text that is long enough, {row}")));
    let dictionary: DictionaryArray<Int32Type> =
        texts().collect::<Vec<_>>().iter().map(|it| it.as_deref()).collect();
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..10).map(|row| (row % 4 > 0).then(|| (0..row).map(Some).collect::<Vec<_>>())),
    );
    let ends = arrow_array::Int32Array::from(vec![4, 10]);
    let runs = RunArray::try_new(&ends, &StringArray::from(vec!["x", "y"])).unwrap();
    let flags: ArrayRef = Arc::new(BooleanArray::from_iter((0..10).map(|row| Some(row % 2 == 0))));
    let nested = StructArray::from(vec![(Arc::new(Field::new("flag", DataType::Boolean, true)), flags)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("dictionary", Arc::new(dictionary)),
        ("view", Arc::new(texts().collect::<StringViewArray>())),
        ("list", Arc::new(lists)),
        ("run", Arc::new(runs)),
        ("nested", Arc::new(nested)),
        ("_ZEROBUS_LSN", Arc::new(Int64Array::from_iter_values(0..10))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let why = Refusal::new("schema", "no");
    let some = RefusedRows {
        lsn: Lsn::new(1),
        batch: batch.clone(),
        rows: vec![(3, why.clone()), (9, why.clone())],
    };
    let all = RefusedRows {
        lsn: Lsn::new(2),
        batch: batch.clone(),
        rows: (0..10).map(|row| (row, why.clone())).collect(),
    };
    open(&world).put(&[some, all]).unwrap();
    for (name, numbers) in [
        ("00000000000000000001-0000000003.arrow", vec![3, 9]),
        ("00000000000000000002-0000000000.arrow", (0..10).collect()),
    ] {
        let rows = read(&world, name);
        let indices = UInt32Array::from(numbers);
        for (index, column) in batch.columns().iter().enumerate() {
            let expected = arrow_select::take::take(column, &indices, None).unwrap();
            assert_eq!(rows.schema().field(index), batch.schema().field(index));
            assert_eq!(&rows.column(index).to_data(), &expected.to_data(), "{}", batch.schema().field(index));
        }
        assert!(rows.column_by_name("__zerobus_lsn").is_some(), "the name was taken");
    }
}

#[test]
fn a_crash_or_an_error_at_any_operation_leaves_all_rows_or_none_and_what_was_answered_holds() {
    let mut outcomes = [0; 2];
    for planned in [Planned::Cut, Planned::Error(EIO), Planned::Error(ENOSPC)] {
        for for_ever in [false, true] {
            for at in 1.. {
                let world = world(at);
                let disk = world.disk();
                let quarantine = open(&world);
                quarantine.put(&[refused(1, &[0])]).unwrap();
                let before = disk.operations();
                disk.faults(|faults| {
                    let first = before + at;
                    faults.at(first..=if for_ever { u64::MAX } else { first }, planned);
                });
                let put = quarantine.put(&[refused(5, &[2, 7]), refused(6, &[1]), refused(5, &[9])]);
                let is_over = disk.operations() < before + at;
                assert_eq!(rows_of(&quarantine, 5), if put.is_ok() { "2,7,9" } else { "" });
                outcomes[usize::from(put.is_ok())] += 1;
                if disk.is_off() {
                    world.crash();
                } else {
                    world.kill();
                }
                disk.heal();
                let reopened = open(&world);
                let found = (rows_of(&reopened, 1), rows_of(&reopened, 5), rows_of(&reopened, 6));
                let all = ("0".to_owned(), "2,7,9".to_owned(), "1".to_owned());
                let told = format!("{planned:?} at {at}, {for_ever}: {put:?}, {found:?}");
                assert_eq!(found.0, "0", "{told}");
                // One rename may have gone through and another not; each file stands for itself.
                assert!(put.is_err() || found == all, "{told}");
                for (lsn, rows) in [(5, &found.1), (6, &found.2)] {
                    for row in rows.split(',').filter(|row| !row.is_empty()) {
                        assert!(rows_of_refused(lsn).contains(&row), "{told}");
                    }
                }
                assert!(names(&world).iter().all(|name| !name.ends_with(NEW_EXTENSION)), "{told}");
                // What is missing is tried again, as the feed does.
                let missing: Vec<RefusedRows> = [(5, 2), (5, 7), (5, 9), (6, 1)]
                    .into_iter()
                    .filter(|(lsn, row)| {
                        reopened.rows_of(Lsn::new(*lsn)).is_none_or(|rows| rows.count_in(*row..*row + 1) == 0)
                    })
                    .map(|(lsn, row)| refused(lsn, &[row as u32]))
                    .collect();
                reopened.put(&missing).unwrap();
                world.crash();
                let last = open(&world);
                assert_eq!((rows_of(&last, 1), rows_of(&last, 5), rows_of(&last, 6)), all, "{told}");
                let mut rows: Vec<(u64, u32)> = names(&world)
                    .iter()
                    .map(|name| read(&world, name))
                    .flat_map(|batch| {
                        let lsns = batch
                            .column_by_name("_zerobus_lsn")
                            .unwrap()
                            .as_primitive::<UInt64Type>()
                            .clone();
                        let rows = batch
                            .column_by_name("_zerobus_row")
                            .unwrap()
                            .as_primitive::<UInt32Type>()
                            .clone();
                        lsns.values().iter().copied().zip(rows.values().iter().copied()).collect::<Vec<_>>()
                    })
                    .collect();
                rows.sort_unstable();
                assert_eq!(rows, [(1, 0), (5, 2), (5, 7), (5, 9), (6, 1)], "each row once: {told}");
                assert_eq!(disk.violations(), Vec::<String>::new(), "{told}");
                if is_over {
                    break;
                }
            }
        }
    }
    assert!(outcomes[0] > 50 && outcomes[1] > 5, "{outcomes:?}");
}

fn rows_of_refused(lsn: u64) -> &'static [&'static str] {
    if lsn == 5 { &["2", "7", "9"] } else { &["1"] }
}

/// How much of the reserve is held.
fn held(world: &World) -> u64 {
    let reserve = Path::new(DIR).join(RESERVE_FILE);
    world.env().storage.open(&reserve, Access::Read).and_then(|file| file.length()).unwrap_or(0)
}

/// Nothing is free any more: somebody else has taken it.
fn fill(world: &World) {
    let used_bytes = world.disk().used_bytes();
    world.disk().faults(|faults| faults.capacity_bytes = Some(used_bytes));
}

#[test]
fn what_a_full_disk_refuses_fits_into_the_space_that_is_kept() {
    let world = world(3);
    let quarantine = open(&world);
    assert_eq!(held(&world), RESERVE_BYTES);
    fill(&world);
    quarantine.put(&[refused(5, &[2])]).unwrap();
    assert_eq!(rows_of(&quarantine, 5), "2");
    let left = RESERVE_BYTES - GIVEN_UP_BYTES;
    assert_eq!((held(&world), quarantine.missing_reserve_bytes()), (left, GIVEN_UP_BYTES), "for the row");
    quarantine.take_back_reserve();
    assert_eq!(
        (held(&world), quarantine.missing_reserve_bytes()),
        (left, GIVEN_UP_BYTES),
        "there is no room"
    );
    world.disk().heal();
    quarantine.put(&[refused(6, &[2])]).unwrap();
    assert_eq!((held(&world), quarantine.missing_reserve_bytes()), (RESERVE_BYTES, 0), "it is taken back");
}

#[test]
fn what_a_row_leaves_of_the_reserve_is_there_for_the_next_whatever_others_take_and_after_a_kill() {
    let world = world(4);
    let mut quarantine = open(&world);
    fill(&world);
    let rows = RESERVE_BYTES / GIVEN_UP_BYTES;
    for lsn in 1..=rows {
        quarantine.put(&[refused(lsn, &[2])]).unwrap();
        fill(&world);
        if lsn % 5 == 0 {
            drop(quarantine);
            world.kill();
            quarantine = open(&world);
            fill(&world);
        }
    }
    assert_eq!((held(&world), quarantine.missing_reserve_bytes()), (0, RESERVE_BYTES));
    assert!(quarantine.put(&[refused(rows + 1, &[2])]).unwrap_err().is_out_of_space());
    assert_eq!(quarantine.highest(), Lsn::new(rows));
}

#[test]
fn a_row_that_needs_much_gets_much_of_the_reserve() {
    let world = world(5);
    let quarantine = open(&world);
    fill(&world);
    let text = "x".repeat(100_000);
    let large = RecordBatch::try_from_iter([("text", Arc::new(StringArray::from(vec![text])) as ArrayRef)]);
    let why = refused(5, &[0]).rows[0].1.clone();
    let rows = RefusedRows { lsn: Lsn::new(5), batch: large.unwrap(), rows: vec![(0, why)] };
    quarantine.put(&[rows]).unwrap();
    assert_eq!(rows_of(&quarantine, 5), "0");
    assert!((1..RESERVE_BYTES - 100_000).contains(&held(&world)));
}

#[test]
fn the_reserve_is_taken_back_as_soon_as_there_is_room_without_a_row_that_needs_it() {
    let world = world(3);
    let quarantine = open(&world);
    let used_bytes = world.disk().used_bytes();
    world.disk().faults(|faults| faults.capacity_bytes = Some(used_bytes));
    quarantine.put(&[refused(5, &[2])]).unwrap();
    world.disk().heal();
    quarantine.take_back_reserve();
    assert_eq!(quarantine.missing_reserve_bytes(), 0);
    assert!(world.env().storage.open(&Path::new(DIR).join(RESERVE_FILE), Access::Read).is_ok());
}

#[test]
fn the_quota_holds_and_what_somebody_takes_out_makes_room() {
    let world = world(4);
    let quarantine = open_with(&world, 0, 8 * 1024);
    quarantine.put(&[refused(1, &[0])]).unwrap();
    quarantine.put(&[refused(2, &[0])]).unwrap();
    let error = quarantine.put(&[refused(3, &[0])]).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PutError::Full { used_bytes: 8192, .. }), "{error:?}");
    assert!(text.contains("quarantine_max_bytes = 8192") && text.contains("/log/quarantine"), "{text}");
    assert_eq!((rows_of(&quarantine, 3), names(&world).len()), (String::new(), 2));
    world.env().storage.remove(&Path::new(DIR).join(DIRECTORY).join(&names(&world)[0])).unwrap();
    quarantine.put(&[refused(3, &[0])]).unwrap();
    assert_eq!(quarantine.report().files, 2);
    assert!(matches!(open_with(&world, 0, 0).put(&[refused(4, &[0])]), Err(PutError::Off)));
}

#[test]
fn only_rows_of_frames_that_are_not_settled_are_kept_in_memory() {
    let world = world(5);
    let quarantine = open(&world);
    quarantine.put(&[refused(1, &[0]), refused(2, &[1]), refused(3, &[2])]).unwrap();
    quarantine.settled(Lsn::new(2));
    let kept = |quarantine: &Quarantine| [1, 2, 3].map(|lsn| rows_of(quarantine, lsn));
    assert_eq!(kept(&quarantine), ["", "", "2"]);
    assert_eq!(kept(&open_with(&world, 2, MAX_BYTES)), ["", "", "2"]);
    assert_eq!(quarantine.report_of(Lsn::new(1)).unwrap().rows.to_string(), "0", "the file is there");
    assert_eq!(quarantine.report_of(Lsn::new(4)), None);
}

#[test]
fn files_that_are_not_ours_or_damaged_are_left_alone_and_hide_nothing() {
    let world = world(6);
    open(&world).put(&[refused(5, &[2, 3]), refused(6, &[4])]).unwrap();
    let directory = Path::new(DIR).join(DIRECTORY);
    let good = world.disk().platter(&directory.join("00000000000000000005-0000000002.arrow")).unwrap();
    let other = Source { epoch: Epoch::new(8), ..source() };
    let foreign = Quarantine::open(&world.env(), Path::new(DIR), other, Lsn::ZERO, MAX_BYTES).unwrap();
    assert_eq!(rows_of(&foreign, 5), "", "another log's rows say nothing about ours");
    foreign.put(&[refused(6, &[4])]).unwrap();
    assert_eq!(names(&world).len(), 3, "and are not replaced");
    let name = directory.join("00000000000000000007-0000000000.arrow");
    for length in (0..good.len()).step_by(7).chain([good.len()]) {
        world.disk().put(&name, &good[..length]).unwrap();
        let quarantine = open(&world);
        assert_eq!((rows_of(&quarantine, 5), rows_of(&quarantine, 7)), ("2-3".to_owned(), String::new()));
    }
    for at in good.len().saturating_sub(1_500)..good.len() {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            world.disk().put(&name, &bytes).unwrap();
            // It may be taken for what it says it is; it must be a result.
            assert_eq!(rows_of(&open(&world), 6), "4");
        }
    }
    for name in ["nonsense", "5-2.arrow", "00000000000000000005-0000000002-0.arrow", "\u{fc}.arrow"] {
        world.disk().put(&directory.join(name), b"nothing").unwrap();
    }
    let before = names(&world);
    assert_eq!(rows_of(&open(&world), 5), "2-3");
    assert_eq!(names(&world), before, "nothing is deleted");
}

/// The file as an earlier version wrote it: without the seal, and without the word for it.
fn without_checksums(bytes: &[u8]) -> Vec<u8> {
    let seal = bytes.windows(8).rposition(|it| it == b"ZBQCRC32").unwrap();
    let mut earlier = [&bytes[..seal], &bytes[seal + 16..]].concat();
    let word = earlier.windows(16).rposition(|it| it == b"zerobus.checksum").unwrap();
    earlier[word + 15] = b'?';
    earlier
}

#[test]
fn no_bit_of_a_file_flips_in_silence() {
    let world = world(7);
    open(&world).put(&[refused(5, &[2, 3])]).unwrap();
    let path = Path::new(DIR).join(DIRECTORY).join("00000000000000000005-0000000002.arrow");
    let good = world.disk().platter(&path).unwrap();
    let env = world.env();
    let whole = |of| file::read_whole(env.storage.as_ref(), &path, of).map(|(told, _)| told);
    let end = || file::read(env.storage.as_ref(), &path, EPOCH).map(|(told, _)| told);
    let told = whole(EPOCH).unwrap();
    assert_eq!((told.rows.to_string(), told.has_checksums), ("2-3".to_owned(), true));
    for bit in 0..8 * good.len() {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        world.disk().put(&path, &bytes).unwrap();
        assert!(whole(EPOCH).is_err(), "bit {bit} of {}", 8 * good.len());
        // Who reads the end alone believes nothing that is not what was written.
        assert!(end().is_err() || end().is_ok_and(|found| found == told), "bit {bit}");
        let mut looked = look(&env, Path::new(DIR), EPOCH, None).unwrap();
        assert!(looked.remove(0).told.is_err(), "bit {bit}");
    }
    println!("{} bits, each was found", 8 * good.len());
}

#[test]
fn files_of_an_earlier_version_are_read_and_said_to_have_no_checksum() {
    let world = world(8);
    open(&world).put(&[refused(5, &[2, 3])]).unwrap();
    let name = "00000000000000000005-0000000002.arrow";
    let path = Path::new(DIR).join(DIRECTORY).join(name);
    let earlier = without_checksums(&world.disk().platter(&path).unwrap());
    world.disk().put(&path, &earlier).unwrap();
    let (told, length) = file::read_whole(world.env().storage.as_ref(), &path, EPOCH).unwrap();
    assert_eq!((told.rows.to_string(), told.has_checksums), ("2-3".to_owned(), false));
    assert_eq!(length, earlier.len() as u64);
    assert_eq!(rows_of(&open(&world), 5), "2-3");
    assert_eq!(read(&world, name).num_rows(), 2);
}

#[test]
fn a_file_that_is_written_in_many_pieces_has_the_checksum_of_all_of_them() {
    let world = world(9);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let why = Refusal::new("schema", "no");
    let rows = (0..100_000).map(|row| (row, why.clone())).collect();
    open_with(&world, 0, 1 << 30).put(&[RefusedRows { lsn: Lsn::new(3), batch, rows }]).unwrap();
    let name = "00000000000000000003-0000000000.arrow";
    let path = Path::new(DIR).join(DIRECTORY).join(name);
    assert!(world.disk().platter(&path).unwrap().len() > 1 << 20);
    file::read_whole(world.env().storage.as_ref(), &path, EPOCH).unwrap();
    assert_eq!(read(&world, name).num_rows(), 100_000);
}
