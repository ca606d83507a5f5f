//! Rotation, retention, flushes and failures of the debug files, on a real directory and on a disk that fails.
#![expect(clippy::disallowed_methods, reason = "a test looks at files and the clock as anybody would")]

use std::path::Path;
use std::time::Instant;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;

use super::*;

const TABLE: &str = "a.b.c";

fn settings(directory: &Path) -> DebugSettings {
    DebugSettings {
        directory: directory.to_owned(),
        flush_interval: Duration::from_secs(3600),
        file_bytes_max: None,
        retained_max: 10,
        has_arrow: true,
        has_protobuf: true,
        policies: Policies::default(),
    }
}

fn start(settings: DebugSettings) -> DebugFiles {
    let table = Arc::new(KnownTable::without_catalog(None));
    DebugFiles::start(&Env::os(), settings, &TABLE.parse().unwrap(), table).unwrap()
}

fn batch(id: i64) -> RecordBatch {
    let ids: Arc<dyn arrow_array::Array> = Arc::new(Int64Array::from(vec![id]));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

fn other(name: &str) -> RecordBatch {
    let names: Arc<dyn arrow_array::Array> = Arc::new(StringArray::from(vec![name]));
    RecordBatch::try_from_iter([("name", names)]).unwrap()
}

fn offer(files: &DebugFiles, batch: &RecordBatch) {
    files.offer(files.copy(&PreparedFrame::new(batch).unwrap()).unwrap());
}

/// Hands these batches to new files, and ends them.
async fn written(settings: DebugSettings, batches: &[RecordBatch]) {
    let files = start(settings);
    batches.iter().for_each(|batch| offer(&files, batch));
    files.close().await;
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> Vec<RecordBatch> {
    let stream = StreamReader::try_new(std::fs::File::open(path).unwrap(), None).unwrap();
    stream.map(Result::unwrap).collect()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_schema_that_changes_and_a_start_begin_new_files_and_the_old_ones_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (arrow, proto) = (directory.path().join("zerobus/arrow"), directory.path().join("zerobus/proto"));
    written(settings(directory.path()), &[batch(1), batch(2), other("x")]).await;
    assert_eq!(names(&arrow), ["a.b.c.000001.arrows", "a.b.c.arrows"]);
    assert_eq!(names(&proto), ["a.b.c.000001.binpb", "a.b.c.000001.desc", "a.b.c.binpb", "a.b.c.desc"]);
    assert_eq!(read(&arrow.join("a.b.c.000001.arrows")), [batch(1), batch(2)]);
    assert_eq!(read(&arrow.join("a.b.c.arrows")), [other("x")]);
    written(settings(directory.path()), &[batch(3)]).await;
    assert_eq!(read(&arrow.join("a.b.c.000002.arrows")), [other("x")]);
    assert_eq!(read(&arrow.join("a.b.c.arrows")), [batch(3)]);
}

#[tokio::test]
async fn files_keep_below_their_size_and_only_the_last_of_this_table_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let arrow = directory.path().join("zerobus/arrow");
    std::fs::create_dir_all(&arrow).unwrap();
    let strangers =
        ["a.b.c2.000001.arrows", "a.b.c2.arrows", "a.b.c-writer-002.000001.arrows", "a.b.c.1.arrows"];
    for stranger in strangers {
        std::fs::write(arrow.join(stranger), stranger).unwrap();
    }
    let bytes_max = 1024;
    let limited =
        DebugSettings { file_bytes_max: Some(bytes_max), retained_max: 2, ..settings(directory.path()) };
    let batches: Vec<RecordBatch> = (0..40).map(batch).collect();
    written(limited, &batches).await;
    let own: Vec<String> =
        names(&arrow).into_iter().filter(|name| !strangers.contains(&name.as_str())).collect();
    assert_eq!(own.len(), 3, "{own:?}");
    let mut kept = Vec::new();
    for name in &own {
        let path = arrow.join(name);
        assert!(std::fs::metadata(&path).unwrap().len() <= bytes_max, "{name}");
        kept.extend(read(&path));
    }
    assert!(kept.len() >= 3 && batches.ends_with(&kept), "{kept:?}");
    for stranger in strangers {
        assert_eq!(std::fs::read_to_string(arrow.join(stranger)).unwrap(), stranger);
    }
}

#[tokio::test]
async fn a_second_writer_of_a_table_has_files_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let arrow = directory.path().join("zerobus/arrow");
    let quick = || DebugSettings { flush_interval: Duration::from_millis(1), ..settings(directory.path()) };
    let (first, second) = (start(quick()), start(quick()));
    offer(&first, &batch(1));
    until("the first file", || arrow.join("a.b.c.arrows").exists());
    offer(&second, &batch(2));
    second.close().await;
    first.close().await;
    assert_eq!(read(&arrow.join("a.b.c.arrows")), [batch(1)]);
    assert_eq!(read(&arrow.join("a.b.c-writer-002.arrows")), [batch(2)]);
}

#[tokio::test]
async fn what_finds_no_room_is_left_out_and_counted_and_room_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let files = start(settings(directory.path()));
    let frame = PreparedFrame::new(&batch(1)).unwrap();
    let held = files.waiting.bytes.fetch_add(WAITING_BYTES_MAX, Ordering::Relaxed);
    assert_eq!(held, 0);
    assert!(files.copy(&frame).is_none());
    assert_eq!(files.waiting.left_out.load(Ordering::Relaxed), 1);
    files.waiting.bytes.fetch_sub(WAITING_BYTES_MAX, Ordering::Relaxed);
    drop(files.copy(&frame).unwrap());
    assert_eq!(files.waiting.bytes.load(Ordering::Relaxed), 0);
    files.close().await;
    files.offer(files.copy(&frame).unwrap());
    assert_eq!(files.waiting.left_out.load(Ordering::Relaxed), 1, "after the end nothing is taken");
}

#[cfg(feature = "sim")]
#[test]
fn on_a_full_disk_good_files_stay_and_the_series_goes_on_once_there_is_room() {
    use super::series::{Opening, Place, Series};
    use crate::io::sim::World;

    let world = World::new(1);
    let (directory, storage) = (PathBuf::from("/debug"), world.env().storage);
    let place = Place {
        directory: directory.clone(),
        stem: TABLE.to_owned(),
        extension: "binpb",
        beside: Some("desc"),
        tail: Vec::new(),
        bytes_max: None,
        retained_max: 2,
    };
    let mut series = Series::new(Arc::clone(&storage), place);
    let opening = Opening { head: Vec::new(), beside: b"described".to_vec() };
    let add = |series: &mut Series, message: &[u8]| {
        series.add(&opening, [message].into_iter()).and_then(|()| series.flush())
    };
    add(&mut series, b"good").unwrap();
    world.disk().faults(|faults| faults.capacity_bytes = Some(0));
    for _ in 0..5 {
        let error = add(&mut series, &[7; 100_000]).unwrap_err();
        assert!(error.to_string().contains("/debug/a.b.c."), "{error}");
    }
    world.disk().heal();
    add(&mut series, b"again").unwrap();
    series.finish().unwrap();
    let contents = |name: &str| {
        let file = storage.open(&directory.join(name), crate::io::Access::Read).unwrap();
        let mut bytes = vec![0; 100];
        let length = file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(length);
        bytes
    };
    let mut left = storage.list(&directory).unwrap();
    left.sort();
    assert_eq!(left, ["a.b.c.000001.binpb", "a.b.c.000001.desc", "a.b.c.binpb", "a.b.c.desc"]);
    assert_eq!(
        (contents("a.b.c.000001.binpb"), contents("a.b.c.binpb")),
        (b"good".to_vec(), b"again".to_vec())
    );
    assert_eq!(contents("a.b.c.desc"), b"described");
}
