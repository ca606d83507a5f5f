//! The emulator against the official client: what is acknowledged is in the Delta table, what does not
//! fit is refused, and a kill at any moment loses nothing that was acknowledged.
//!
//! The client crate's own schema module makes the descriptors, from what the catalog answers; tables are
//! read back through `delta_kernel`, with another object store than the emulator writes with.

#![cfg(all(feature = "cli", feature = "emulator"))]
#![expect(clippy::disallowed_methods, reason = "a test looks at files and the clock as anybody would")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod exactly_once;
mod fence;
mod persistent;
mod persistent_call;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array as _, RecordBatch};
use arrow_cast::pretty::pretty_format_batches;
use arrow_zerobus_sdk_wrapper::emulator::{Credentials, Emulator, EmulatorError, EmulatorOptions, Sink};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use databricks_zerobus_ingest_sdk::databricks::zerobus as api;
use databricks_zerobus_ingest_sdk::schema::{UcTableSchema, descriptor_from_uc_schema};
use databricks_zerobus_ingest_sdk::{JsonString, ProtoMessage, ZerobusError, ZerobusSdk};
use futures::SinkExt as _;
use futures::channel::mpsc;
use prost::Message as _;
use prost_types::DescriptorProto;
use support::read_table;
use tonic::{Code, Status};

const EVENTS: &str = "main.default.events";
/// No answer takes this long.
const DEADLINE: Duration = Duration::from_secs(60);
const EVENT_COLUMNS: &str = "id BIGINT NOT NULL, name STRING";

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(int64, optional, tag = "1")]
    id: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

fn event(id: i64, name: &str) -> Event {
    Event { id: Some(id), name: Some(name.to_owned()) }
}

/// A running emulator with its directory.
struct Service {
    emulator: Emulator,
    _dir: tempfile::TempDir,
}

fn serve(change: impl FnOnce(&mut EmulatorOptions)) -> Service {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EmulatorOptions::new(dir.path().join("data"));
    options.commit_interval = Duration::from_millis(20);
    options.tables.push((EVENTS.to_owned(), EVENT_COLUMNS.to_owned()));
    change(&mut options);
    Service { emulator: Emulator::start(options).unwrap(), _dir: dir }
}

fn sdk(endpoint: &str, unity_catalog_url: &str) -> ZerobusSdk {
    ZerobusSdk::builder().endpoint(endpoint).unity_catalog_url(unity_catalog_url).no_tls().build().unwrap()
}

impl Service {
    fn sdk(&self) -> ZerobusSdk {
        sdk(self.emulator.endpoint(), self.emulator.unity_catalog_url())
    }

    fn descriptor(&self, table: &str) -> DescriptorProto {
        descriptor(self.emulator.unity_catalog_url(), table)
    }

    fn read(&self, table: &str) -> RecordBatch {
        read_table(&self.emulator.table_path(&table.parse().unwrap()))
    }
}

fn descriptor(url: &str, table: &str) -> DescriptorProto {
    let path = format!("/api/2.1/unity-catalog/tables/{table}");
    let (status, body) = http(url, "GET", &path, &[("Authorization", &bearer(url))], "");
    assert_eq!(status, 200, "{body}");
    let schema: UcTableSchema = serde_json::from_str(&body).unwrap();
    descriptor_from_uc_schema(&schema).unwrap()
}

/// Rows of a table by their first column, a BIGINT that no two rows share.
fn by_id(rows: &RecordBatch) -> BTreeMap<i64, usize> {
    if rows.num_columns() == 0 {
        return BTreeMap::new();
    }
    let ids = rows.column(0).as_primitive::<Int64Type>();
    let map: BTreeMap<i64, usize> = ids.values().iter().enumerate().map(|(row, id)| (*id, row)).collect();
    assert_eq!(map.len(), rows.num_rows(), "rows landed twice");
    map
}

fn http(url: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let host = url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    write!(connection, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n").unwrap();
    for (name, value) in headers {
        write!(connection, "{name}: {value}\r\n").unwrap();
    }
    write!(connection, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn token(url: &str, form: &str) -> (u16, serde_json::Value) {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let (status, body) = http(url, "POST", "/oidc/v1/token", &headers, form);
    (status, serde_json::from_str(&body).unwrap())
}

fn bearer(url: &str) -> String {
    let (status, answer) = token(url, "grant_type=client_credentials&client_id=me&client_secret=secret");
    assert_eq!(status, 200, "{answer}");
    format!("Bearer {}", answer["access_token"].as_str().unwrap())
}

/// A stream without the client crate's checks, to send what it would not.
struct RawStream {
    requests: mpsc::Sender<api::EphemeralStreamRequest>,
    responses: tonic::Streaming<api::EphemeralStreamResponse>,
}

impl RawStream {
    /// Opens the call; the stream is not created yet.
    async fn call(endpoint: &str, authorization: &str, table: &str) -> Result<RawStream, Status> {
        let (requests, receiver) = mpsc::channel(64);
        let mut call = tonic::Request::new(receiver);
        call.metadata_mut().insert("authorization", authorization.parse().unwrap());
        call.metadata_mut().insert("x-databricks-zerobus-table-name", table.parse().unwrap());
        let channel = tonic::transport::Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = api::zerobus_client::ZerobusClient::new(channel);
        let responses = client.ephemeral_stream(call).await?.into_inner();
        Ok(RawStream { requests, responses })
    }

    async fn create(&mut self, table: &str, descriptor: &DescriptorProto) -> Result<(), Status> {
        let create = api::CreateIngestStreamRequest {
            table_name: Some(table.to_owned()),
            descriptor_proto: Some(descriptor.encode_to_vec()),
            record_type: Some(api::RecordType::Proto as i32),
            ..Default::default()
        };
        let payload = api::ephemeral_stream_request::Payload::CreateStream(create);
        let request = api::EphemeralStreamRequest { payload: Some(payload) };
        self.requests.send(request).await.map_err(|_| Status::cancelled("closed"))?;
        match self.next().await? {
            Some(api::ephemeral_stream_response::Payload::CreateStreamResponse(_)) => Ok(()),
            other => panic!("unexpected answer {other:?}"),
        }
    }

    async fn ingest(&mut self, offset: i64, records: Vec<Vec<u8>>) -> Result<(), Status> {
        self.requests.send(ingest(offset, records)).await.map_err(|_| Status::cancelled("closed"))
    }

    async fn next(&mut self) -> Result<Option<api::ephemeral_stream_response::Payload>, Status> {
        let next = tokio::time::timeout(DEADLINE, self.responses.message()).await.unwrap();
        Ok(next?.and_then(|response| response.payload))
    }

    /// The acknowledgements up to the end of the stream, and how it ended.
    async fn acknowledged(&mut self) -> (i64, Result<(), Status>) {
        let mut last = -1;
        loop {
            match self.next().await {
                Ok(Some(api::ephemeral_stream_response::Payload::IngestRecordResponse(ack))) => {
                    assert!(ack.durability_ack_up_to_offset() > last, "acknowledgements go forward");
                    last = ack.durability_ack_up_to_offset();
                }
                Ok(Some(other)) => panic!("unexpected answer {other:?}"),
                Ok(None) => return (last, Ok(())),
                Err(status) => return (last, Err(status)),
            }
        }
    }
}

fn ingest(offset: i64, records: Vec<Vec<u8>>) -> api::EphemeralStreamRequest {
    let batch = api::ProtoEncodedRecordBatch { records };
    let request = api::IngestRecordBatchRequest {
        offset_id: Some(offset),
        batch: Some(api::ingest_record_batch_request::Batch::ProtoEncodedBatch(batch)),
    };
    let payload = api::ephemeral_stream_request::Payload::IngestRecordBatch(request);
    api::EphemeralStreamRequest { payload: Some(payload) }
}

async fn raw(service: &Service, table: &str) -> RawStream {
    let authorization = bearer(service.emulator.unity_catalog_url());
    RawStream::call(service.emulator.endpoint(), &authorization, table).await.unwrap()
}

async fn raw_events(service: &Service) -> RawStream {
    let mut stream = raw(service, EVENTS).await;
    stream.create(EVENTS, &service.descriptor(EVENTS)).await.unwrap();
    stream
}

#[derive(Clone, PartialEq, prost::Message)]
struct Everything {
    #[prost(int64, optional, tag = "1")]
    id: Option<i64>,
    #[prost(bool, optional, tag = "2")]
    flag: Option<bool>,
    #[prost(int32, optional, tag = "3")]
    byte: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    short: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    int: Option<i32>,
    #[prost(float, optional, tag = "6")]
    float: Option<f32>,
    #[prost(double, optional, tag = "7")]
    double: Option<f64>,
    #[prost(string, optional, tag = "8")]
    text: Option<String>,
    #[prost(bytes, optional, tag = "9")]
    binary: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "10")]
    day: Option<i32>,
    #[prost(int64, optional, tag = "11")]
    instant: Option<i64>,
    #[prost(int64, optional, tag = "12")]
    local: Option<i64>,
    #[prost(string, optional, tag = "13")]
    price: Option<String>,
}

const FLAT: &str = "id BIGINT NOT NULL, flag BOOLEAN, byte TINYINT, short SMALLINT, int INT, float FLOAT, \
                    double DOUBLE, text STRING, binary BINARY, day DATE, instant TIMESTAMP, \
                    local TIMESTAMP_NTZ, price DECIMAL(20,4)";

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_records_of_every_flat_type_land_with_their_values() {
    let table = "main.default.flat";
    let service = serve(|options| options.tables.push((table.to_owned(), FLAT.to_owned())));
    let full = Everything {
        id: Some(-7),
        flag: Some(false),
        byte: Some(-128),
        short: Some(-32768),
        int: Some(i32::MIN),
        float: Some(-0.0),
        double: Some(f64::NAN),
        text: Some("żółw".to_owned()),
        binary: Some(vec![0, 255]),
        day: Some(-1),
        instant: Some(1_700_000_000_123_456),
        local: Some(i64::from(i32::MIN)),
        price: Some("-1234567890123456.7890".to_owned()),
    };
    let empty = Everything { id: Some(0), ..Default::default() };
    let sdk = service.sdk();
    let builder = sdk.stream_builder().table(table).oauth("me", "secret");
    let mut stream = builder.compiled_proto(service.descriptor(table)).build().await.unwrap();
    let offset = stream.ingest_records_offset([ProtoMessage(full), ProtoMessage(empty)]).await.unwrap();
    stream.wait_for_offset(offset.unwrap()).await.unwrap();
    stream.close().await.unwrap();

    let rows = service.read(table);
    let (row, null) = (by_id(&rows)[&-7], by_id(&rows)[&0]);
    let column = |name: &str| rows.column_by_name(name).unwrap();
    assert!(!column("flag").as_boolean().value(row));
    assert_eq!(column("byte").as_primitive::<Int8Type>().value(row), -128);
    assert_eq!(column("short").as_primitive::<Int16Type>().value(row), -32768);
    assert_eq!(column("int").as_primitive::<Int32Type>().value(row), i32::MIN);
    assert_eq!(column("float").as_primitive::<Float32Type>().value(row).to_bits(), (-0.0f32).to_bits());
    assert!(column("double").as_primitive::<Float64Type>().value(row).is_nan());
    assert_eq!(column("text").as_string::<i32>().value(row), "żółw");
    assert_eq!(column("binary").as_binary::<i32>().value(row), [0, 255]);
    assert_eq!(column("day").as_primitive::<Date32Type>().value(row), -1);
    let micros = |name| column(name).as_primitive::<TimestampMicrosecondType>().value(row);
    assert_eq!(micros("instant"), 1_700_000_000_123_456);
    assert_eq!(micros("local"), i64::from(i32::MIN));
    let price = column("price").as_primitive::<Decimal128Type>().value(row);
    assert_eq!(price, -12_345_678_901_234_567_890);
    for column in &rows.columns()[1..] {
        assert!(column.is_null(null) && !column.is_null(row));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_records_land_with_the_same_values() {
    let table = "main.default.flat";
    let service = serve(|options| options.tables.push((table.to_owned(), FLAT.to_owned())));
    let sdk = service.sdk();
    let mut stream = sdk.stream_builder().table(table).oauth("me", "secret").json().build().await.unwrap();
    let records = [
        r#"{"id": 1, "flag": true, "byte": -1, "short": 2, "int": 3, "float": 0.5, "double": 1e300, "text": "t",
            "binary": "AP8=", "day": 19000, "instant": 1700000000123456, "local": 5, "price": 12.5}"#,
        r#"{"id": 2, "flag": null, "double": "-Infinity", "day": "2022-01-08",
            "instant": "2023-11-14T23:13:20.123456+01:00", "local": "1970-01-01 00:00:00.000005",
            "price": "1234567890123456.7890"}"#,
    ];
    let offset = stream.ingest_records_offset(records.map(|r| JsonString(r.to_owned()))).await.unwrap();
    stream.wait_for_offset(offset.unwrap()).await.unwrap();
    stream.close().await.unwrap();

    let rows = service.read(table);
    let expected = "\
+----+------+------+-------+-----+-------+--------+------+--------+------------+-----------------------------+----------------------------+-----------------------+
| id | flag | byte | short | int | float | double | text | binary | day        | instant                     | local                      | price                 |
+----+------+------+-------+-----+-------+--------+------+--------+------------+-----------------------------+----------------------------+-----------------------+
| 1  | true | -1   | 2     | 3   | 0.5   | 1e300  | t    | 00ff   | 2022-01-08 | 2023-11-14T22:13:20.123456Z | 1970-01-01T00:00:00.000005 | 12.5000               |
| 2  |      |      |       |     |       | -inf   |      |        | 2022-01-08 | 2023-11-14T22:13:20.123456Z | 1970-01-01T00:00:00.000005 | 1234567890123456.7890 |
+----+------+------+-------+-----+-------+--------+------+--------+------------+-----------------------------+----------------------------+-----------------------+";
    assert_eq!(pretty_format_batches(&[rows]).unwrap().to_string(), expected);
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nested {
    #[prost(int64, optional, tag = "1")]
    id: Option<i64>,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
    // prost packs numbers, other encoders do not; both are on the wire in the test.
    #[prost(int32, repeated, tag = "3")]
    packed: Vec<i32>,
    #[prost(int32, repeated, packed = "false", tag = "4")]
    loose: Vec<i32>,
    #[prost(map = "string, int64", tag = "5")]
    counts: std::collections::HashMap<String, i64>,
    #[prost(message, optional, tag = "6")]
    inner: Option<Inner>,
    #[prost(message, repeated, tag = "7")]
    many: Vec<Inner>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Inner {
    #[prost(int32, optional, tag = "1")]
    a: Option<i32>,
    #[prost(string, optional, tag = "2")]
    b: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_maps_and_structs_land_from_protobuf_and_json() {
    let table = "main.default.nested";
    let columns = "id BIGINT NOT NULL, tags ARRAY<STRING>, packed ARRAY<INT>, loose ARRAY<INT>, \
                   counts MAP<STRING, BIGINT>, inner STRUCT<a: INT NOT NULL, b: STRING>, \
                   many ARRAY<STRUCT<a: INT, b: STRING>>";
    let service = serve(|options| options.tables.push((table.to_owned(), columns.to_owned())));
    let sdk = service.sdk();
    let inner = |a, b: &str| Inner { a: Some(a), b: Some(b.to_owned()) };
    let record = Nested {
        id: Some(1),
        tags: vec!["x".to_owned(), String::new()],
        packed: vec![1, -1],
        loose: vec![3, 4],
        counts: [("k".to_owned(), 0)].into(),
        inner: Some(inner(0, "b")),
        many: vec![inner(1, "one"), Inner { a: None, b: None }],
    };
    let builder = sdk.stream_builder().table(table).oauth("me", "secret");
    let mut stream = builder.compiled_proto(service.descriptor(table)).build().await.unwrap();
    let none = Nested { id: Some(2), ..Default::default() };
    stream.ingest_records_offset([ProtoMessage(record), ProtoMessage(none)]).await.unwrap();
    stream.close().await.unwrap();
    let mut stream = sdk.stream_builder().table(table).oauth("me", "secret").json().build().await.unwrap();
    let record = r#"{"id": 3, "tags": ["y", null], "packed": [], "counts": {"z": 9}, "inner": {"a": 5},
                     "many": [{"b": "c"}, null]}"#;
    stream.ingest_record_offset(JsonString(record.to_owned())).await.unwrap();
    stream.close().await.unwrap();

    let rows = service.read(table);
    let order = by_id(&rows);
    let line = |id: i64| {
        let row = rows.slice(order[&id], 1);
        pretty_format_batches(&[row]).unwrap().to_string().lines().nth(3).unwrap().replace(' ', "")
    };
    assert_eq!(line(1), "|1|[x,]|[1,-1]|[3,4]|{k:0}|{a:0,b:b}|[{a:1,b:one},{a:,b:}]|");
    assert_eq!(line(2), "|2|[]|[]|[]|{}||[]|");
    assert_eq!(line(3), "|3|[y,]|[]||{z:9}|{a:5,b:}|[{a:,b:c},]|");
    assert_eq!(rows.column_by_name("tags").unwrap().as_list::<i32>().value(order[&3]).null_count(), 1);
}

fn refusal(error: ZerobusError) -> (Code, String) {
    match error {
        ZerobusError::CreateStreamError(status) | ZerobusError::StreamClosedError(status) => {
            (status.code(), status.message().to_owned())
        }
        ZerobusError::InvalidArgument(message) => (Code::InvalidArgument, message),
        other => panic!("unexpected error {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_client_gets_a_token_and_only_a_good_token_opens_a_stream() {
    let credentials = Credentials { client_id: "me".to_owned(), client_secret: "secret".to_owned().into() };
    let service = serve(|options| options.credentials = Some(credentials));
    let url = service.emulator.unity_catalog_url();
    let (status, body) = token(url, "grant_type=client_credentials&client_id=me&client_secret=wrong");
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_client")));
    let (status, body) = token(url, "grant_type=client_credentials");
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_client")));
    let (status, body) = token(url, "grant_type=password&client_id=me&client_secret=secret");
    assert_eq!((status, body["error"].as_str()), (400, Some("unsupported_grant_type")));
    let (status, body) = token(url, "grant_type=client_credentials&client_id=me&client_secret=secret");
    assert_eq!((status, body["token_type"].as_str()), (200, Some("Bearer")));
    assert_eq!(body["expires_in"], 3600);

    let sdk = service.sdk();
    let wrong = sdk.stream_builder().table(EVENTS).oauth("me", "wrong").json().build().await;
    assert!(matches!(wrong, Err(ZerobusError::InvalidUCTokenError(_))), "{:?}", wrong.err());
    let right = sdk.stream_builder().table(EVENTS).oauth("me", "secret").json().build().await;
    assert!(right.is_ok(), "{:?}", right.err());
    for authorization in ["Bearer nonsense", "Basic bWU6c2VjcmV0", "Bearer "] {
        let end = RawStream::call(service.emulator.endpoint(), authorization, EVENTS).await;
        assert_eq!(end.err().map(|status| status.code()), Some(Code::Unauthenticated));
        let path = format!("/api/2.1/unity-catalog/tables/{EVENTS}");
        assert_eq!(http(url, "GET", &path, &[("Authorization", authorization)], "").0, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_described_as_the_catalog_does_and_a_missing_one_is_not_found() {
    let columns = "id BIGINT NOT NULL, price DECIMAL(10,2), s STRUCT<a: INT>";
    let service = serve(|options| options.tables.push(("c.s.t".to_owned(), columns.to_owned())));
    let url = service.emulator.unity_catalog_url();
    let get = |table: &str| {
        let path = format!("/api/2.1/unity-catalog/tables/{table}");
        let (status, body) = http(url, "GET", &path, &[("Authorization", &bearer(url))], "");
        (status, serde_json::from_str::<serde_json::Value>(&body).unwrap())
    };
    let (status, table) = get("c.s.t");
    assert_eq!(status, 200);
    assert_eq!(
        (&table["catalog_name"], &table["schema_name"], &table["name"]),
        (&"c".into(), &"s".into(), &"t".into())
    );
    assert_eq!((&table["table_type"], &table["data_source_format"]), (&"MANAGED".into(), &"DELTA".into()));
    let columns = table["columns"].as_array().unwrap();
    let shown: Vec<String> = columns
        .iter()
        .map(|column| {
            let text = |name: &str| column[name].as_str().unwrap().to_owned();
            let (position, nullable) = (&column["position"], &column["nullable"]);
            format!("{position} {} {} {} {nullable}", text("name"), text("type_name"), text("type_text"))
        })
        .collect();
    assert_eq!(
        shown,
        ["0 id LONG bigint false", "1 price DECIMAL decimal(10,2) true", "2 s STRUCT struct<a:int> true"]
    );
    let json: serde_json::Value = serde_json::from_str(columns[0]["type_json"].as_str().unwrap()).unwrap();
    assert_eq!(json, serde_json::json!({"name": "id", "type": "long", "nullable": false, "metadata": {}}));

    let (status, body) = get("c.s.missing");
    assert_eq!((status, body["error_code"].as_str()), (404, Some("TABLE_DOES_NOT_EXIST")));
    let sdk = service.sdk();
    let stream = sdk.stream_builder().table("c.s.missing").oauth("me", "secret").json();
    assert_eq!(refusal(stream.build().await.err().unwrap()).0, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_wants_a_token_for_all_interfaces_and_select_on_the_table() {
    let service = serve(|_| {});
    let url = service.emulator.unity_catalog_url();
    let path = format!("/api/2.1/unity-catalog/tables/{EVENTS}");
    let get = |form: &str| {
        let form = format!("grant_type=client_credentials&client_id=me&client_secret=secret{form}");
        let (_, answer) = token(url, &form);
        let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
        http(url, "GET", &path, &[("Authorization", &bearer)], "").0
    };
    let resource = "&resource=api%3A%2F%2Fdatabricks%2Fworkspaces%2F1%2FzerobusDirectWriteApi";
    assert_eq!(get("&scope=all-apis"), 200);
    assert_eq!(get(&format!("&scope=all-apis{resource}")), 403, "this one is good for streams only");
    assert_eq!(get("&scope=sql"), 403);
    service.emulator.sql(&format!("REVOKE SELECT ON TABLE {EVENTS} FROM me")).unwrap();
    assert_eq!(get("&scope=all-apis"), 403);
    service.emulator.sql(&format!("GRANT SELECT ON TABLE {EVENTS} TO me")).unwrap();
    assert_eq!(get("&scope=all-apis"), 200);
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_that_does_not_fit_the_table_is_refused_by_column() {
    let service = serve(|_| {});
    let open = async |change: fn(&mut DescriptorProto)| {
        let mut descriptor = service.descriptor(EVENTS);
        change(&mut descriptor);
        let sdk = service.sdk();
        let builder = sdk.stream_builder().table(EVENTS).oauth("me", "secret");
        builder.compiled_proto(descriptor).build().await.map(drop).map_err(refusal)
    };
    use prost_types::field_descriptor_proto::{Label, Type};
    let refused = |end: Result<(), (Code, String)>, words: &[&str]| {
        let (code, message) = end.unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    assert_eq!(open(|_| {}).await, Ok(()));
    assert_eq!(open(|d| drop(d.field.remove(1))).await, Ok(()), "a nullable column may be left out");
    refused(open(|d| drop(d.field.remove(0))).await, &["\"id\"", "NOT NULL"]);
    refused(open(|d| d.field[1].name = Some("other".to_owned())).await, &["\"other\" is not in the table"]);
    refused(
        open(|d| {
            d.field[0].set_type(Type::String);
            d.field[1].set_type(Type::Int32);
        })
        .await,
        &["\"id\"", "must be int64 and is string", "\"name\"", "must be string and is int32"],
    );
    refused(open(|d| d.field[1].set_label(Label::Repeated)).await, &["\"name\"", "repeated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_ends_the_stream_without_being_named_and_what_came_before_is_acknowledged() {
    let service = serve(|_| {});
    let bad: [(&str, Vec<u8>); 4] = [
        ("missing", Event { id: None, name: Some("x".to_owned()) }.encode_to_vec()),
        ("truncated", vec![0x12, 0x7f, b'x']),
        ("not UTF-8", vec![0x08, 1, 0x12, 1, 0xff]),
        ("wire type", vec![0x0a, 1, b'1', 0x12, 1, b'x']),
    ];
    for (round, (what, bad)) in (0i64..).zip(bad) {
        let good = |n: i64| event(100 * round + n, "good").encode_to_vec();
        let mut stream = raw_events(&service).await;
        stream.ingest(0, vec![good(0), good(1)]).await.unwrap();
        stream.ingest(1, vec![good(2), good(3), bad, good(4)]).await.unwrap();
        let (last, end) = stream.acknowledged().await;
        let status = end.unwrap_err();
        assert_eq!((last, status.code()), (0, Code::InvalidArgument), "{what}");
        assert!(!status.message().contains("203"), "{what}: {}", status.message());
        let landed: Vec<i64> =
            by_id(&service.read(EVENTS)).into_keys().filter(|id| id / 100 == round).collect();
        assert_eq!(landed, [100 * round, 100 * round + 1], "{what}: a request is all or nothing");
    }
    let sdk = service.sdk();
    for bad in ["{\"name\": \"x\"}", "{\"id\": \"1\"}", "{\"id\": 1, \"extra\": 2}", "[1]", "{\"id\": 1"] {
        let builder = sdk.stream_builder().table(EVENTS).oauth("me", "secret").json().recovery(false);
        let stream = builder.build().await.unwrap();
        stream.ingest_record_offset(JsonString(bad.to_owned())).await.unwrap();
        let (code, message) = refusal(stream.flush().await.unwrap_err());
        assert_eq!(code, Code::InvalidArgument, "{bad}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_must_be_consecutive_and_requests_within_the_limit() {
    let service = serve(|_| {});
    let record = |id| vec![event(id, "x").encode_to_vec()];
    for offsets in [vec![1], vec![0, 2], vec![0, 0], vec![-1]] {
        let mut stream = raw_events(&service).await;
        for offset in &offsets {
            stream.ingest(*offset, record(rand::random())).await.unwrap();
        }
        let (_, end) = stream.acknowledged().await;
        assert_eq!(end.unwrap_err().code(), Code::InvalidArgument, "{offsets:?}");
    }
    const LIMIT: usize = 10 * 1024 * 1024;
    // The id takes two bytes, the tag and length of the name five.
    for (name_bytes, fits) in [(LIMIT - 7, true), (LIMIT - 6, false)] {
        let mut stream = raw_events(&service).await;
        let large = event(1, &"n".repeat(name_bytes)).encode_to_vec();
        assert_eq!(large.len() <= LIMIT, fits);
        stream.ingest(0, vec![large]).await.unwrap();
        stream.requests.close_channel();
        let (last, end) = stream.acknowledged().await;
        assert_eq!(
            (last, end.err().map(|status| status.code())),
            match fits {
                true => (0, None),
                false => (-1, Some(Code::InvalidArgument)),
            }
        );
    }
    // Many tiny records: the framing is as large as the records.
    let mut stream = raw_events(&service).await;
    let tiny: Vec<Vec<u8>> = (0..1_000_000).map(|id| event(id + 10, "x").encode_to_vec()).collect();
    assert!(tiny.iter().map(Vec::len).sum::<usize>() < LIMIT);
    stream.ingest(0, tiny).await.unwrap();
    stream.requests.close_channel();
    let (last, end) = stream.acknowledged().await;
    assert_eq!((last, end.map_err(|status| status.code())), (0, Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_its_creation_for_the_table_of_its_header() {
    let service = serve(|_| {});
    let mut stream = raw(&service, EVENTS).await;
    stream.ingest(0, vec![]).await.unwrap();
    assert_eq!(stream.acknowledged().await.1.unwrap_err().code(), Code::InvalidArgument);
    let mut stream = raw(&service, "main.default.other").await;
    let end = stream.create(EVENTS, &service.descriptor(EVENTS)).await;
    assert_eq!(end.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_made_from_the_first_descriptor_if_asked_for() {
    let table = "made.by.descriptor";
    let service = serve(|options| options.auto_create = true);
    let mut descriptor = service.descriptor(EVENTS);
    descriptor.field[0].number = Some(5000);
    let streams = futures::future::join_all((0..4).map(|n| {
        let (service, descriptor) = (&service, &descriptor);
        async move {
            let mut stream = raw(service, table).await;
            stream.create(table, descriptor).await.unwrap();
            // Field 5000, so that numbers beyond the dense table are looked up as well.
            stream.ingest(0, vec![vec![0xc0, 0xb8, 0x02, n, 0x12, 1, b'x']]).await.unwrap();
            stream.requests.close_channel();
            stream.acknowledged().await
        }
    }))
    .await;
    assert!(streams.iter().all(|(last, end)| *last == 0 && end.is_ok()), "{streams:?}");
    let rows = service.read(table);
    assert_eq!(by_id(&rows).into_keys().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(!rows.schema().field(0).is_nullable() && rows.schema().field(1).is_nullable());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_discard_sink_checks_and_acknowledges_and_keeps_nothing() {
    let service = serve(|options| options.sink = Sink::Discard);
    let mut stream = raw_events(&service).await;
    stream.ingest(0, vec![event(1, "x").encode_to_vec()]).await.unwrap();
    stream.ingest(1, vec![event(2, "x").encode_to_vec()]).await.unwrap();
    stream.ingest(3, vec![event(3, "x").encode_to_vec()]).await.unwrap();
    let (last, end) = stream.acknowledged().await;
    assert_eq!((last, end.unwrap_err().code()), (1, Code::InvalidArgument));
    assert_eq!(service.read(EVENTS).num_rows(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_commits_and_acknowledges_what_came_and_a_new_start_serves_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EmulatorOptions::new(dir.path());
    // Nothing is committed on its own in the time of the test.
    options.commit_interval = Duration::from_secs(3600);
    options.tables.push((EVENTS.to_owned(), EVENT_COLUMNS.to_owned()));
    let mut service = Service { emulator: Emulator::start(options.clone()).unwrap(), _dir: dir };
    let mut acknowledged = 0;
    // The stop may come before the request has been taken from the socket; then nothing is promised.
    for attempt in 0..50 {
        let authorization = bearer(service.emulator.unity_catalog_url());
        let mut stream = raw_events(&service).await;
        stream.ingest(0, vec![event(attempt, "x").encode_to_vec()]).await.unwrap();
        drop(raw_events(&service).await);
        let Service { emulator, _dir } = service;
        let stopped = tokio::task::spawn_blocking(move || emulator.stop());
        let (last, end) = stream.acknowledged().await;
        stopped.await.unwrap().unwrap();
        assert_eq!(end.unwrap_err().code(), Code::Unavailable);
        service = Service { emulator: Emulator::start(options.clone()).unwrap(), _dir };
        acknowledged += last + 1;
        let landed = by_id(&service.read(EVENTS)).len();
        assert_eq!(i64::try_from(landed).unwrap(), acknowledged, "acknowledged and landed agree");
        let again = RawStream::call(service.emulator.endpoint(), &authorization, EVENTS).await;
        assert!(again.is_ok(), "a token outlives a restart");
        if acknowledged > 0 {
            return;
        }
    }
    panic!("no request was taken in before a stop");
}

#[test]
fn settings_that_do_not_work_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let running = Emulator::start(EmulatorOptions::new(dir.path())).unwrap();
    let port = running.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let start = |change: &dyn Fn(&mut EmulatorOptions)| {
        let other = tempfile::tempdir().unwrap();
        let mut options = EmulatorOptions::new(other.path());
        change(&mut options);
        let error = Emulator::start(options).map(drop).unwrap_err();
        (error.code(), arrow_zerobus_sdk_wrapper::error::chain(&error), error)
    };
    let (code, text, _) = start(&|options| options.data_dir = dir.path().to_owned());
    assert_eq!(code, ErrorCode::Locked, "{text}");
    let (code, text, _) = start(&|options| options.port = port);
    assert!(code == ErrorCode::Configuration && text.contains(&port.to_string()), "{text}");
    let (code, text, _) = start(&|options| options.data_dir = "/proc/nothing/here".into());
    assert!(code == ErrorCode::Configuration && text.contains("/proc/nothing/here"), "{text}");
    let table = |name: &str, columns: &str| (name.to_owned(), columns.to_owned());
    let (code, text, _) = start(&|options| options.tables = vec![table("a.b", "id INT")]);
    assert!(code == ErrorCode::Configuration && text.contains("\"a.b\""), "{text}");
    let (code, text, _) = start(&|options| options.tables = vec![table("a.b.c", "id BIGNIT")]);
    assert!(code == ErrorCode::Configuration, "{text}");
    assert!(text.contains("position 4") && text.contains("BIGNIT"), "{text}");
    let (code, text, error) =
        start(&|options| options.tables = vec![table("a.b.c", "id INT"), table("a.b.c", "id BIGINT")]);
    assert!(code == ErrorCode::Configuration && text.contains("id int"), "{text}");
    assert!(matches!(error, EmulatorError::Table { .. }));
}

/// The command as a process of its own.
struct Process {
    child: Child,
    endpoint: String,
    unity_catalog_url: String,
}

impl Process {
    fn start(data_dir: &Path, ports: (&str, &str)) -> Process {
        Process::start_with(data_dir, ports, &[])
    }

    fn start_with(data_dir: &Path, ports: (&str, &str), options: &[&str]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zerobus-wal"))
            .args(["emulator", "--commit-interval-ms", "30", "--table"])
            .arg(format!("{EVENTS}={EVENT_COLUMNS}"))
            .args(["--port", ports.0, "--http-port", ports.1, "--data-dir"])
            .arg(data_dir)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let field = |name: &str| ready[name].as_str().unwrap().to_owned();
        assert_eq!(Path::new(&field("data_dir")), data_dir.canonicalize().unwrap());
        Process { endpoint: field("endpoint"), unity_catalog_url: field("unity_catalog_url"), child }
    }

    fn ports(&self) -> (String, String) {
        let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
        (port(&self.endpoint), port(&self.unity_catalog_url))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

const ROWS_PER_REQUEST: i64 = 40;

/// Sends requests as fast as they are taken, until the service dies. Returns how many were sent and how
/// many were acknowledged.
async fn load(process: &Process, first_id: i64) -> (i64, i64) {
    let authorization = bearer(&process.unity_catalog_url);
    let mut stream = RawStream::call(&process.endpoint, &authorization, EVENTS).await.unwrap();
    stream.create(EVENTS, &descriptor(&process.unity_catalog_url, EVENTS)).await.unwrap();
    let mut requests = stream.requests.clone();
    let acknowledged = tokio::spawn(async move { stream.acknowledged().await });
    let mut sent = 0;
    loop {
        let ids = (0..ROWS_PER_REQUEST).map(|n| first_id + sent * ROWS_PER_REQUEST + n);
        let records = ids.map(|id| event(id, &format!("row {id}")).encode_to_vec()).collect();
        if requests.send(ingest(sent, records)).await.is_err() {
            break;
        }
        sent += 1;
        tokio::task::yield_now().await;
    }
    (sent, acknowledged.await.unwrap().0 + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_row_is_lost_when_the_emulator_is_killed_under_load() {
    const KILLS: i64 = 12;
    const ROUND: i64 = 1 << 32;
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), ("0", "0"));
    let ports = process.ports();
    let mut promised: Vec<i64> = Vec::new();
    let mut sent_rows = BTreeSet::new();
    for round in 0..KILLS {
        let delay = Duration::from_millis(50 + rand::random::<u64>() % 400);
        let pid = rustix::process::Pid::from_child(&process.child);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        let (sent, acknowledged) = load(&process, round * ROUND).await;
        killer.join().unwrap();
        assert!(!process.wait().success());
        promised.extend((0..acknowledged * ROWS_PER_REQUEST).map(|n| round * ROUND + n));
        sent_rows.extend((0..(sent + 1) * ROWS_PER_REQUEST).map(|n| round * ROUND + n));
        println!("kill {round} after {delay:?}: {sent} requests sent, {acknowledged} acknowledged");
        process = Process::start(dir.path(), (&ports.0, &ports.1));
    }
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let rows = read_table(&dir.path().join("main/default/events"));
    let landed = by_id(&rows);
    let lost = promised.iter().filter(|id| !landed.contains_key(id)).count();
    println!("{KILLS} kills, {} rows promised, {} landed, {lost} lost", promised.len(), landed.len());
    assert!(!promised.is_empty(), "the load never got an acknowledgement");
    assert_eq!(lost, 0);
    let names = rows.column(1).as_string::<i32>();
    for (id, row) in landed {
        assert!(sent_rows.contains(&id), "row {id} was never sent");
        assert_eq!(names.value(row), format!("row {id}"));
    }
}

#[test]
fn sigterm_and_the_end_of_a_watched_stdin_stop_it_with_exit_code_0() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), ("0", "0"));
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let mut child = Command::new(env!("CARGO_BIN_EXE_zerobus-wal"))
        .args(["emulator", "--exit-with-parent", "--data-dir"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_command_line_names_the_position_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zerobus-wal"))
        .args(["emulator", "--table", "a.b.c=id INT, x DECIMAL(99)", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{text}");
    assert!(text.contains("position 19") && text.contains("\"99\""), "{text}");
}
