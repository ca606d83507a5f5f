//! What is stored comes back equal, and only what is asked for is stored.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, RecordBatchOptions, StringArray, StringViewArray, StructArray,
    TimestampNanosecondArray,
    types::{Int8Type, Int32Type},
};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::{
    io::Env,
    types::Lsn,
    wal::{Durability, Next, PreparedFrame, WalOptions},
};

use crate::support::*;

fn many_kinds() -> Vec<RecordBatch> {
    let dictionary: DictionaryArray<Int8Type> =
        vec![Some("a"), None, Some("b"), Some("a"), Some("c")].into_iter().collect();
    let long = "longer than the twelve bytes of a view";
    let views: StringViewArray = vec![Some("short"), None, Some(long), Some(""), Some("x")].into();
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("inner", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4), Some(5)])) as ArrayRef,
    )]);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(4)]),
        Some(vec![Some(5), Some(6)]),
    ]);
    let times = TimestampNanosecondArray::from(vec![Some(1), None, Some(-1), Some(i64::MAX), Some(0)])
        .with_timezone("Europe/Zurich");
    let all = of(vec![
        ("dictionary", Arc::new(dictionary) as ArrayRef),
        ("view", Arc::new(views)),
        ("bytes", Arc::new(BinaryViewArray::from(vec![&b"1"[..], b"", b"3", long.as_bytes(), b"5"]))),
        ("nested", Arc::new(nested)),
        ("list", Arc::new(list)),
        ("time", Arc::new(times)),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), None]))),
        ("number", Arc::new(Float64Array::from(vec![f64::MIN, -0.0, 0.0, f64::INFINITY, 1.5]))),
    ]);
    let no_columns = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(7)),
    )
    .unwrap();
    let with_metadata = Schema::new_with_metadata(
        vec![Field::new("a", DataType::Int64, false)],
        [("key".to_owned(), "value".to_owned())].into(),
    );
    let described =
        RecordBatch::try_new(Arc::new(with_metadata), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    vec![all.slice(1, 3), all.slice(0, 0), all, no_columns, described, batch(1, 10_000), batch(2, 1)]
}

#[test]
fn batches_of_many_schemas_come_back_equal_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { segment_bytes: 1024 * 1024, ..options(Durability::Sync) };
    let (wal, _) = open_with(&Env::os(), dir.path(), options, 0);
    let batches: Vec<RecordBatch> = (0..3).flat_map(|_| many_kinds()).collect();
    for batch in &batches {
        wal.append(PreparedFrame::new(batch).unwrap()).wait().unwrap();
    }
    for wal in [wal, {
        let again = copy(dir.path());
        open_with(&arrow_zerobus_sdk_wrapper::io::Env::os(), &again.keep(), options, 0).0
    }] {
        for from in [1, 2, batches.len() / 2, batches.len()] {
            let (read, damage) = read_all(&mut wal.reader(Lsn::new(from as u64)));
            assert_eq!(damage, []);
            let read: Vec<RecordBatch> = read.into_values().collect();
            assert_eq!(read, batches[from - 1..]);
        }
    }
}

#[test]
fn a_slice_is_stored_without_the_rest_of_its_parent() {
    let rows = 100_000;
    let text: Vec<String> = (0..rows).map(|row| format!("a value that is long enough {row}")).collect();
    let dictionary: DictionaryArray<Int32Type> = text.iter().map(|text| Some(text.as_str())).collect();
    let parent = of(vec![
        ("number", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(&text))),
        ("view", Arc::new(StringViewArray::from_iter_values(&text))),
        ("dictionary", Arc::new(dictionary)),
    ]);
    let whole = PreparedFrame::new(&parent).unwrap().frame_bytes();
    let slice = parent.slice(50_001, 10);
    let part = PreparedFrame::new(&slice).unwrap();
    assert!(whole > 10_000_000 && part.frame_bytes() < 4096, "{whole} and {}", part.frame_bytes());

    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    wal.append(part).wait().unwrap();
    let (read, _) = read_all(&mut wal.reader(Lsn::FIRST));
    assert_eq!(read[&1], slice);
}

#[test]
fn equal_schemas_have_equal_fingerprints_and_others_have_others() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    for batch in [batch(1, 1), batch(2, 5), of(vec![("id", Arc::new(Int64Array::from(vec![1])) as _)])] {
        wal.append(PreparedFrame::new(&batch).unwrap()).wait().unwrap();
    }
    let mut reader = wal.reader(Lsn::FIRST);
    let mut next = || match reader.next().unwrap().unwrap() {
        Next::Frame(frame) => frame,
        Next::Damaged(damage) => panic!("{damage}"),
    };
    let (first, second, third) = (next(), next(), next());
    assert_eq!(first.fingerprint, second.fingerprint);
    assert_ne!(first.fingerprint, third.fingerprint);
    // The format promises this number to other programs and later versions.
    assert_eq!(first.fingerprint.to_string(), "50d37694e1e18edd");
    assert_eq!(first.rows, 1);
    assert_eq!(third.decode().unwrap().column(0).len(), 1);
}

#[test]
fn frames_of_any_size_stand_beside_each_other_copied_or_shared_in_direct_writes_or_not() {
    let sizes = [1, 3000, 4010, 30_000, 32_768, 70_001, 500_000, 524_288, 600_003, 2_500_000, 17, 4_300_000];
    let options = WalOptions { segment_bytes: 8 << 20, spare_segments: 1, ..options(Durability::Sync) };
    for dir in [tempfile::tempdir().unwrap(), memory_dir()] {
        let (wal, _) = open_with(&Env::os(), dir.path(), options, 0);
        let batches: Vec<RecordBatch> =
            (0..33).map(|number| blob(number, sizes[(number * 7) % sizes.len()])).collect();
        for (number, group) in batches.chunks(3).enumerate() {
            let prepare = [PreparedFrame::new, PreparedFrame::copied][number % 2];
            let appends: Vec<_> = group.iter().map(|batch| wal.append(prepare(batch).unwrap())).collect();
            appends.into_iter().for_each(|append| assert!(append.wait().unwrap().durable));
            if number % 4 == 1 {
                wal.reclaim(Lsn::new(number as u64 * 3 - 2), u64::MAX).unwrap();
            }
        }
        let first = wal.first().unwrap().get();
        assert!(first > 1, "files were recycled");
        let (_copy, crashed, recovery) = open_copy(dir.path());
        assert_eq!((recovery.damage, recovery.torn_bytes, recovery.last.get()), (vec![], 0, 33));
        for wal in [wal, crashed] {
            let reader = || wal.reader(Lsn::new(first));
            for mut reader in [reader(), reader().uncached()] {
                let (read, damage) = read_all(&mut reader);
                assert_eq!(damage, []);
                let expected = batches.iter().enumerate().skip(first as usize - 1);
                assert!(read.into_values().eq(expected.map(|(_, batch)| batch.clone())));
            }
        }
    }
}
