//! The table's columns: read from the catalog, cached, checked against, and never a reason to deliver nothing.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::types::Lsn;
use arrow_zerobus_sdk_wrapper::{LaneState, Status, TimestampNs, Validate, ZerobusWrapper, admin};

use crate::gate::{Catalog, Gate};
use crate::site::{Site, TABLE, assert_conserved, batch, once, wait_until};
use crate::support::read_table;

fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

/// The test's batch with one column more.
fn with_extra(ids: std::ops::Range<i64>) -> RecordBatch {
    let usual = batch(ids.clone());
    let extra: ArrayRef = Arc::new(Int32Array::from_iter_values(ids.map(|id| id as i32)));
    batch_of(vec![("id", usual.column(0).clone()), ("name", usual.column(1).clone()), ("extra", extra)])
}

fn knows(columns: usize) -> impl Fn(&Status) -> bool {
    move |status| status.table_schema.columns == Some(columns) && status.table_schema.reason.is_none()
}

fn is_poisoned(status: &Status) -> bool {
    status.lane.as_ref().unwrap().state == LaneState::Poison
}

fn reason(wrapper: &ZerobusWrapper) -> String {
    wrapper.status().table_schema.reason.unwrap_or_default()
}

fn streams(wrapper: &ZerobusWrapper) -> u64 {
    wrapper.status().lane.unwrap().streams_opened
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_are_read_and_cached_and_a_start_without_network_goes_by_them() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    let status = wait_until(&wrapper, "the columns", knows(2)).await;
    assert!(status.table_schema.age_secs.is_some_and(|age| age < 60.0));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    drop(wrapper);
    let dead = admin::status(&site.writer_directory()).unwrap().table_schema;
    assert_eq!(dead.columns, Some(2));

    let wrapper = site.open();
    assert_eq!(wrapper.status().table_schema.columns, Some(2), "known before anybody was asked");
    let error = wrapper.send_batch(with_extra(0..10)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conversion);
    assert!(chain(&error).contains("\"extra\""), "{}", chain(&error));
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let status = wait_until(&wrapper, "the reason", |it| it.table_schema.reason.is_some()).await;
    assert_eq!(status.table_schema.columns, Some(2), "{:?}", status.table_schema);

    let emulator = site.serve();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_come_in_any_order_and_nullable_ones_may_be_missing() {
    let site = Site::new();
    let columns = "id BIGINT NOT NULL, name STRING, price DECIMAL(10,2), at TIMESTAMP";
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), columns.to_owned())]);
    let wrapper = site.open();
    wait_until(&wrapper, "the columns", knows(4)).await;
    wrapper.send_batch(batch(0..10).project(&[1, 0]).unwrap()).await.unwrap();
    wrapper.send_batch(batch(10..20).project(&[0]).unwrap()).await.unwrap();
    let error = wrapper.send_batch(batch(20..30).project(&[1]).unwrap()).await.unwrap_err();
    assert!(chain(&error).contains("\"id\""), "NOT NULL and missing: {}", chain(&error));
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
    let rows = read_table(&site.table_path(TABLE));
    let names = rows.column_by_name("name").unwrap().as_string::<i32>();
    for (row, id) in
        rows.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().iter().enumerate()
    {
        let expected = (*id < 10).then(|| format!("row {id}"));
        assert_eq!(names.iter().nth(row).unwrap(), expected.as_deref());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_can_never_fit_is_refused_with_column_and_types_before_anything_is_stored() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wait_until(&wrapper, "the columns", knows(2)).await;
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
    for (refused, said) in [
        (with_extra(0..10), vec!["\"extra\""]),
        (batch_of(vec![("id", texts)]), vec!["\"id\"", "Utf8", "BIGINT"]),
    ] {
        let error = wrapper.send_batch(refused.clone()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conversion);
        let text = chain(&error);
        assert!(said.iter().all(|it| text.contains(it)), "{text}");
        assert_eq!(error.into_batch(), Some(refused), "it is handed back");
    }
    assert_eq!(wrapper.status().frames.stored, 0);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alter_table_lets_the_next_batch_in_and_needs_no_restart() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    assert!(wrapper.send_batch(with_extra(10..20)).await.is_err());
    emulator.sql(&format!("ALTER TABLE {TABLE} ADD COLUMNS (extra INT)")).unwrap();
    // The answer of a moment ago is still believed for a second.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while wrapper.send_batch(with_extra(10..20)).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "{:?}", wrapper.status().table_schema);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wrapper.send_batch(batch(20..30)).await.unwrap();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..30));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_unchecked_parks_with_the_reason_and_heals_once_the_table_fits() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.validate = Validate::Off);
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.send_batch(with_extra(10..20)).await.unwrap();
    wrapper.send_batch(batch(20..30)).await.unwrap();
    let status = wait_until(&wrapper, "the refusal", is_poisoned).await;
    let lane = status.lane.as_ref().unwrap();
    assert_eq!(lane.code.as_deref(), Some("conversion"));
    assert!(lane.reason.as_ref().unwrap().contains("\"extra\""), "{lane:?}");
    let status = wait_until(&wrapper, "what is good", |it| it.rows.delivered == 10).await;
    assert_eq!(status.rows.waiting, 20, "nothing overtakes it");
    emulator.sql(&format!("ALTER TABLE {TABLE} ADD COLUMNS (extra INT)")).unwrap();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..30));
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_take_turns_share_one_stream_and_one_request() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wait_until(&wrapper, "the columns", knows(2)).await;
    let narrow = |ids: std::ops::Range<i64>| {
        let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(ids.map(|id| id as i32)));
        batch_of(vec![("id", ids)])
    };
    for start in (0..1_000).step_by(30) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
        wrapper.send_batch(batch(start + 10..start + 20).project(&[1, 0]).unwrap()).await.unwrap();
        wrapper.send_batch(narrow(start + 20..start + 30)).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    assert_eq!(streams(&wrapper), 1, "the descriptor is that of the table, whatever the batch");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..1_020));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_away_stops_nobody_and_is_not_asked_for_every_stream() {
    let site = Site::new();
    let emulator = site.serve();
    let gate = Gate::before(emulator.unity_catalog_url(), Catalog::Away);
    let wrapper = site.open_with(|c| {
        c.unity_catalog_url = Some(gate.url.clone());
        c.retry_max_delay = Duration::from_secs(30);
    });
    // Without the table's columns each of these needs another descriptor, and so another stream.
    for start in (0..100).step_by(10) {
        wrapper.send_batch(batch(start..start + 5)).await.unwrap();
        wrapper.send_batch(batch(start + 5..start + 10).project(&[0]).unwrap()).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    assert!(
        streams(&wrapper) > 10 && gate.asked() < 5,
        "{} streams, asked {}",
        streams(&wrapper),
        gate.asked()
    );
    assert!(reason(&wrapper).contains("503"), "{}", reason(&wrapper));
    assert_eq!(wrapper.status().table_schema.columns, None);
    wrapper.shutdown().await.unwrap();
    drop(wrapper);

    // With columns that were known before it delivers too, and goes by those.
    gate.set(Catalog::Open);
    let open = || site.open_with(|c| c.unity_catalog_url = Some(gate.url.clone()));
    let wrapper = open();
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    gate.set(Catalog::Away);
    let wrapper = open();
    for start in (100..200).step_by(10) {
        wrapper.send_batch(batch(start..start + 5)).await.unwrap();
        wrapper.send_batch(batch(start + 5..start + 10).project(&[0]).unwrap()).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    assert_eq!((streams(&wrapper), wrapper.status().table_schema.columns), (1, Some(2)));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_back_is_noticed_by_a_log_that_has_nothing_to_send() {
    let site = Site::new();
    let emulator = site.serve();
    let gate = Gate::before(emulator.unity_catalog_url(), Catalog::Away);
    let wrapper = site.open_with(|c| c.unity_catalog_url = Some(gate.url.clone()));
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    assert!(reason(&wrapper).contains("503"), "{}", reason(&wrapper));
    gate.set(Catalog::Open);
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_catalog_says_it_costs_seconds_and_no_row_and_no_secret() {
    let site = Site::new();
    let emulator = site.serve();
    let gate = Gate::before(emulator.unity_catalog_url(), Catalog::Open);
    let mut sent = 0;
    for (catalog, said) in [
        (Catalog::Silent, "within 10 s"),
        (Catalog::Elsewhere, "302"),
        (Catalog::Endless, "16777216"),
        (Catalog::Parrot, "(hidden)"),
    ] {
        gate.set(catalog);
        let wrapper = site.open_with(|c| c.unity_catalog_url = Some(gate.url.clone()));
        wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
        sent += 10;
        wrapper.flush(Some(Duration::from_secs(60))).await.unwrap();
        wait_until(&wrapper, "the reason", |it| it.table_schema.reason.is_some()).await;
        assert!(reason(&wrapper).contains(said), "{catalog:?}: {}", reason(&wrapper));
        wrapper.shutdown().await.unwrap();
    }
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_select_on_the_table_everything_goes_by_the_arrow_schema() {
    let site = Site::new();
    let emulator = site.serve();
    emulator.sql(&format!("REVOKE SELECT ON TABLE {TABLE} FROM edge_box")).unwrap();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    let known = wrapper.status().table_schema;
    assert_eq!(known.columns, None);
    assert!(known.reason.as_ref().unwrap().contains("SELECT"), "{known:?}");
    // What cannot fit is the service's to refuse.
    wrapper.send_batch(with_extra(10..20)).await.unwrap();
    let status = wait_until(&wrapper, "the refusal", is_poisoned).await;
    assert_eq!(status.lane.unwrap().code.as_deref(), Some("transmission"));
    emulator.sql(&format!("GRANT SELECT ON TABLE {TABLE} TO edge_box")).unwrap();
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_another_table_of_the_name_is_another_table() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    emulator.stop().unwrap();
    std::fs::remove_dir_all(site.directory.path().join("data")).unwrap();

    let columns = "extra INT, name STRING, id DECIMAL(20,0)";
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), columns.to_owned())]);
    let wrapper = site.open();
    wait_until(&wrapper, "the columns", knows(3)).await;
    wrapper.send_batch(with_extra(10..20)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let rows = read_table(&site.table_path(TABLE));
    let ids = rows.column_by_name("id").unwrap().as_primitive::<arrow_array::types::Decimal128Type>();
    let mut ids: Vec<i128> = ids.values().to_vec();
    ids.sort_unstable();
    assert_eq!(ids, (10..20).collect::<Vec<i128>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_replaced_and_a_token_that_is_not_good_any_more_are_noticed_while_running() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    // So long an answer is believed.
    wait_until(&wrapper, "a second", |it| it.table_schema.age_secs.is_some_and(|age| age > 1.0)).await;
    emulator.stop().unwrap();
    // The key of the tokens goes with the rest.
    std::fs::remove_dir_all(site.directory.path().join("data")).unwrap();
    let columns = "name STRING, extra INT, id BIGINT NOT NULL";
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), columns.to_owned())]);
    wrapper.send_batch(batch(10..20)).await.unwrap();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wait_until(&wrapper, "the columns", knows(3)).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(10..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_the_service_refuses_and_the_catalog_cannot_confirm_are_forgotten() {
    let site = Site::new();
    let wide = "id BIGINT, name STRING, extra INT";
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), wide.to_owned())]);
    let gate = Gate::before(emulator.unity_catalog_url(), Catalog::Open);
    let open = || site.open_with(|c| c.unity_catalog_url = Some(gate.url.clone()));
    let wrapper = open();
    wait_until(&wrapper, "the columns", knows(3)).await;
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    emulator.stop().unwrap();
    std::fs::remove_dir_all(site.directory.path().join("data")).unwrap();

    gate.set(Catalog::Away);
    let emulator = site.serve();
    let wrapper = open();
    assert_eq!(wrapper.status().table_schema.columns, Some(3));
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    assert_eq!(wrapper.status().table_schema.columns, None);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

fn nanos(first: i64, rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
    let at = TimestampNanosecondArray::from_iter_values((first..first + rows).map(|id| id * 1_000 + 999));
    let at: ArrayRef = Arc::new(at.with_timezone("UTC"));
    batch_of(vec![("id", ids), ("at", at)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_that_loses_nanoseconds_is_counted_once_however_often_it_is_sent() {
    const ROWS: i64 = 3_000;
    let site = Site::new();
    let columns = "id BIGINT, at TIMESTAMP";
    let serve = || site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), columns.to_owned())]);
    // Requests end in the middle of what is converted at once.
    let open = || site.open_with(|c| c.request_max_bytes = 3_333);
    let mut emulator = serve();
    let wrapper = open();
    for number in 0..20 {
        wrapper.send_batch(nanos(number * ROWS, ROWS)).await.unwrap();
        let status = wrapper.status();
        assert_eq!(status.floored_timestamps, status.rows.delivered, "every one of them loses something");
        if number % 5 == 4 {
            emulator.stop().unwrap();
            emulator = serve();
        }
    }
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_eq!(wrapper.status().floored_timestamps as i64, 20 * ROWS);
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    assert_eq!(admin::status(&site.writer_directory()).unwrap().floored_timestamps as i64, 20 * ROWS);
    assert_eq!(open().status().floored_timestamps as i64, 20 * ROWS, "since the log began");
    emulator.stop().unwrap();
    let rows = read_table(&site.table_path(TABLE));
    let ids = rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let at = rows.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(ids.values(), at.values(), "the floor");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_error_puts_what_would_lose_something_into_quarantine() {
    let site = Site::new();
    let columns = "id BIGINT, at TIMESTAMP";
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), columns.to_owned())]);
    let wrapper = site.open_with(|c| c.timestamp_ns = TimestampNs::Error);
    wrapper.send_batch(nanos(0, 10)).await.unwrap();
    let error = wrapper.wait_delivered(Lsn::FIRST, None).await.unwrap_err();
    assert!(chain(&error).contains("\"at\""), "{}", chain(&error));
    let status = wrapper.status();
    assert_eq!((status.floored_timestamps, status.rows.quarantined), (0, 10));
    assert_conserved(&status);
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let wrapper = site.open();
    wrapper.send_batch(nanos(10, 10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    assert_eq!(wrapper.status().floored_timestamps, 10);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(10..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_validation_off_even_what_no_table_holds_is_stored() {
    let site = Site::new();
    let schema =
        Schema::new(vec![Field::new("id", DataType::Duration(arrow_schema::TimeUnit::Second), true)]);
    let odd =
        RecordBatch::try_new(schema.into(), vec![Arc::new(arrow_array::DurationSecondArray::from(vec![1]))])
            .unwrap();
    let wrapper = site.open();
    assert_eq!(wrapper.send_batch(odd.clone()).await.unwrap_err().code(), ErrorCode::Conversion);
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let wrapper = site.open_with(|c| c.validate = Validate::Off);
    wrapper.send_batch(odd).await.unwrap();
    wait_until(&wrapper, "the refusal", is_poisoned).await;
    drop(wrapper);
}
