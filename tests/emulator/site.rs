//! What each test here has: a service, the official client, its descriptors, and answers over HTTP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorOptions};
use databricks_zerobus_ingest_sdk::schema::{UcTableSchema, descriptor_from_uc_schema};
use databricks_zerobus_ingest_sdk::{ZerobusError, ZerobusSdk};
use prost_types::DescriptorProto;
use tonic::Code;

use crate::support::read_table;

pub(crate) const EVENTS: &str = "main.default.events";
/// No answer takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const EVENT_COLUMNS: &str = "id BIGINT NOT NULL, name STRING";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Event {
    #[prost(int64, optional, tag = "1")]
    pub(crate) id: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
}

pub(crate) fn event(id: i64, name: &str) -> Event {
    Event { id: Some(id), name: Some(name.to_owned()) }
}

/// A running emulator with its directory.
pub(crate) struct Service {
    pub(crate) emulator: Emulator,
    pub(crate) _dir: tempfile::TempDir,
}

pub(crate) fn serve(change: impl FnOnce(&mut EmulatorOptions)) -> Service {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EmulatorOptions::new(dir.path().join("data"));
    options.commit_interval = Duration::from_millis(20);
    options.tables.push((EVENTS.to_owned(), EVENT_COLUMNS.to_owned()));
    change(&mut options);
    Service { emulator: Emulator::start(options).unwrap(), _dir: dir }
}

pub(crate) fn sdk(endpoint: &str, unity_catalog_url: &str) -> ZerobusSdk {
    ZerobusSdk::builder().endpoint(endpoint).unity_catalog_url(unity_catalog_url).no_tls().build().unwrap()
}

impl Service {
    pub(crate) fn sdk(&self) -> ZerobusSdk {
        sdk(self.emulator.endpoint(), self.emulator.unity_catalog_url())
    }

    pub(crate) fn descriptor(&self, table: &str) -> DescriptorProto {
        descriptor(self.emulator.unity_catalog_url(), table)
    }

    pub(crate) fn read(&self, table: &str) -> RecordBatch {
        read_table(&self.emulator.table_path(&table.parse().unwrap()))
    }
}

pub(crate) fn descriptor(url: &str, table: &str) -> DescriptorProto {
    let path = format!("/api/2.1/unity-catalog/tables/{table}");
    let (status, body) = http(url, "GET", &path, &[("Authorization", &bearer(url))], "");
    assert_eq!(status, 200, "{body}");
    let schema: UcTableSchema = serde_json::from_str(&body).unwrap();
    descriptor_from_uc_schema(&schema).unwrap()
}

/// Rows of a table by their first column, a BIGINT that no two rows share.
pub(crate) fn by_id(rows: &RecordBatch) -> BTreeMap<i64, usize> {
    if rows.num_columns() == 0 {
        return BTreeMap::new();
    }
    let ids = rows.column(0).as_primitive::<Int64Type>();
    let map: BTreeMap<i64, usize> = ids.values().iter().enumerate().map(|(row, id)| (*id, row)).collect();
    assert_eq!(map.len(), rows.num_rows(), "rows landed twice");
    map
}

pub(crate) fn http(
    url: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
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

pub(crate) fn token(url: &str, form: &str) -> (u16, serde_json::Value) {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let (status, body) = http(url, "POST", "/oidc/v1/token", &headers, form);
    (status, serde_json::from_str(&body).unwrap())
}

pub(crate) fn bearer(url: &str) -> String {
    let (status, answer) = token(url, "grant_type=client_credentials&client_id=me&client_secret=secret");
    assert_eq!(status, 200, "{answer}");
    format!("Bearer {}", answer["access_token"].as_str().unwrap())
}

/// The code and the text of a refusal.
pub(crate) fn refusal(error: ZerobusError) -> (Code, String) {
    match error {
        ZerobusError::CreateStreamError(status) | ZerobusError::StreamClosedError(status) => {
            (status.code(), status.message().to_owned())
        }
        ZerobusError::InvalidArgument(message) => (Code::InvalidArgument, message),
        other => panic!("unexpected error {other:?}"),
    }
}
