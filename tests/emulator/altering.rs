//! What becomes of rows and streams when their table is altered.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tonic::Code;

use crate::raw_stream::raw_events;
use crate::site::{DEADLINE, EVENTS, bearer, by_id, event, http, serve};

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_keeps_its_rows_and_ends_its_streams() {
    let service = serve(|_| {});
    let mut stream = raw_events(&service).await;
    stream.ingest(0, vec![event(1, "before").encode_to_vec()]).await.unwrap();
    let url = service.emulator.unity_catalog_url();
    let run = |statement: &str| {
        let headers = [("Authorization", &*bearer(url)), ("Content-Type", "application/json")];
        let body = serde_json::json!({ "statement": statement, "warehouse_id": "1" }).to_string();
        let (status, body) = http(url, "POST", "/api/2.0/sql/statements", &headers, &body);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["status"].clone()
    };
    let status = run(&format!("ALTER TABLE {EVENTS} ADD COLUMNS (extra INT, more STRUCT<x: DATE>)"));
    assert_eq!(status["state"], "SUCCEEDED", "{status}");
    // What the stream had handed over is there; what comes now finds no writer, or a stream that has ended.
    let _ = stream.ingest(1, vec![event(2, "after").encode_to_vec()]).await;
    let (acknowledged, end) = stream.acknowledged().await;
    assert_eq!(end.map_err(|status| status.code()), Err(Code::Unavailable));
    assert_eq!(by_id(&service.read(EVENTS)).len() as i64, acknowledged + 1);

    assert_eq!(service.descriptor(EVENTS).field.len(), 4);
    let mut stream = raw_events(&service).await;
    stream.ingest(0, vec![event(3, "new").encode_to_vec()]).await.unwrap();
    assert!(matches!(stream.next().await, Ok(Some(_))));
    assert_eq!(service.read(EVENTS).num_columns(), 4);
    service.emulator.sql(&format!("ALTER TABLE {EVENTS} ALTER COLUMN id DROP NOT NULL")).unwrap();
    assert!(!service.descriptor(EVENTS).field.iter().any(|field| field.label == Some(2)), "none is required");

    for (statement, said) in [
        ("TRUNCATE TABLE main.default.events".to_owned(), "TRUNCATE"),
        (format!("ALTER TABLE {EVENTS} ADD COLUMNS (y INT NOT NULL)"), "y"),
        ("ALTER TABLE main.default.other ADD COLUMNS (y INT)".to_owned(), "main.default.other"),
    ] {
        let status = run(&statement);
        assert_eq!(status["state"], "FAILED");
        assert!(status["error"]["message"].as_str().unwrap().contains(said), "{status}");
    }
    // A change that was refused leaves a table that takes rows.
    raw_events(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_whenever_its_table_is_altered_and_what_landed_was_acknowledged() {
    let service = Arc::new(serve(|options| options.commit_interval = Duration::from_millis(1)));
    let mut acknowledged = 0;
    for round in 0..30 {
        let mut stream = raw_events(&service).await;
        let sending = tokio::spawn(async move {
            let id = |offset: i64| (round << 32) + offset;
            for offset in 0.. {
                if stream.ingest(offset, vec![event(id(offset), "x").encode_to_vec()]).await.is_err() {
                    break;
                }
            }
            stream.acknowledged().await
        });
        tokio::time::sleep(Duration::from_micros(rand::random::<u64>() % 10_000)).await;
        let (service, statement) =
            (Arc::clone(&service), format!("ALTER TABLE {EVENTS} ADD COLUMNS (c{round} INT)"));
        tokio::task::spawn_blocking(move || service.emulator.sql(&statement)).await.unwrap().unwrap();
        let (last, end) = tokio::time::timeout(DEADLINE, sending).await.unwrap().unwrap();
        assert_eq!(end.map_err(|status| status.code()), Err(Code::Unavailable), "round {round}");
        acknowledged += last + 1;
    }
    assert_eq!(by_id(&service.read(EVENTS)).len() as i64, acknowledged);
}
