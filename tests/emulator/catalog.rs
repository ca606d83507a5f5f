//! Who gets a token and what the catalog tells with it.

use arrow_zerobus_sdk_wrapper::emulator::Credentials;
use databricks_zerobus_ingest_sdk::ZerobusError;
use tonic::Code;

use crate::raw_stream::RawStream;
use crate::site::{EVENTS, bearer, http, refusal, serve, token};

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
