//! A service behind a private CA: who trusts it delivers, who does not is told so; and a proxy in between.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_zerobus_sdk_wrapper::emulator::{Emulator, TlsFiles, TlsOptions};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::{LaneState, Status, WrapperConfiguration, ZerobusWrapper};

use crate::site::{Site, batch, once, wait_until};

fn serve(site: &Site, client_certificates: bool) -> Emulator {
    site.serve_with(|options| options.tls = Some(TlsOptions { files: None, client_certificates }))
}

/// Points a configuration at this emulator, with trust in the CA of this one.
fn towards(configuration: &mut WrapperConfiguration, emulator: &Emulator, trusted: Option<&Emulator>) {
    configuration.endpoint = emulator.endpoint().to_owned();
    // What cannot be delivered is not waited for.
    configuration.shutdown_timeout = std::time::Duration::ZERO;
    configuration.unity_catalog_url = Some(emulator.unity_catalog_url().to_owned());
    let file = trusted.map(|it| it.ca_certificate_file().unwrap().to_owned());
    configuration.ca_certificate_file = file;
}

fn identify(configuration: &mut WrapperConfiguration, emulator: &Emulator) {
    let (certificate, key) = emulator.client_identity_files().unwrap();
    configuration.client_certificate_file = Some(certificate.to_owned());
    configuration.client_key_file = Some(key.to_owned());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_right_ca_streams_tokens_and_the_catalog_work_also_after_a_restart() {
    let site = Site::new();
    let emulator = serve(&site, false);
    assert!(emulator.endpoint().starts_with("https://127.0.0.1:"));
    let wrapper = site.open_with(|c| towards(c, &emulator, Some(&emulator)));
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    assert_eq!(wrapper.status().table_schema.columns, Some(2), "the catalog was read");
    emulator.stop().unwrap();
    let emulator = serve(&site, false);
    wrapper.send_batch(batch(10..20)).await.unwrap();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_ca_delivery_parks_and_names_the_setting() {
    let (site, other) = (Site::new(), Site::new());
    let (emulator, stranger) = (serve(&site, false), serve(&other, false));
    for trusted in [None, Some(&stranger)] {
        let here = Site::new();
        let wrapper = here.open_with(|c| towards(c, &emulator, trusted));
        wrapper.send_batch(batch(0..10)).await.unwrap();
        let is_blocked = |state| state == LaneState::Blocked;
        let status =
            wait_until(&wrapper, "the refusal", |it| is_blocked(it.lane.as_ref().unwrap().state)).await;
        let lane = status.lane.unwrap();
        let reason = lane.reason.unwrap();
        assert!(reason.contains("UnknownIssuer") && reason.contains("ca_certificate_file"), "{reason}");
        assert_eq!(lane.code.as_deref(), Some("connection"));
        assert_eq!(wrapper.flush(None).await.unwrap_err().code(), ErrorCode::Connection);
        assert_eq!(wrapper.status().rows.waiting, 10);
        wrapper.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_the_certificate_that_is_demanded_is_tried_again() {
    // Tokens come from a service without TLS, so that the stream is what fails. Its handshake is over before the
    // service looks for a certificate, and the client does not hand on what the service says then.
    let (plain, site) = (Site::new(), Site::new());
    let (tokens, emulator) = (plain.serve(), serve(&site, true));
    let wrapper = site.open_with(|c| {
        towards(c, &emulator, Some(&emulator));
        c.unity_catalog_url = Some(tokens.unity_catalog_url().to_owned());
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let status = wait_until(&wrapper, "the refusal", |it| it.lane.as_ref().unwrap().reason.is_some()).await;
    let failures = status.lane.unwrap().failures;
    let is_tried_again = |it: &Status| it.lane.as_ref().unwrap().failures > failures + 1;
    let status = wait_until(&wrapper, "another attempt", is_tried_again).await;
    assert_eq!(status.rows.waiting, 10);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    tokens.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_trusted_is_told_apart_from_one_that_is_away() {
    // Tokens come from a service without TLS, so that the stream is what fails.
    let (plain, site) = (Site::new(), Site::new());
    let (tokens, emulator) = (plain.serve(), serve(&site, false));
    let wrapper = site.open_with(|c| {
        towards(c, &emulator, None);
        c.unity_catalog_url = Some(tokens.unity_catalog_url().to_owned());
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let status =
        wait_until(&wrapper, "the refusal", |it| it.lane.as_ref().unwrap().state == LaneState::Blocked).await;
    let reason = status.lane.unwrap().reason.unwrap();
    assert!(reason.contains("UnknownIssuer") && reason.contains("ca_certificate_file"), "{reason}");
    emulator.stop().unwrap();
    let is_away = |state| state == LaneState::BackingOff;
    wait_until(&wrapper, "the outage", |it| is_away(it.lane.as_ref().unwrap().state)).await;
    wrapper.shutdown().await.unwrap();
    tokens.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_demands_a_certificate_gets_ours() {
    let site = Site::new();
    let emulator = serve(&site, true);
    let unknown = site.open_with(|c| towards(c, &emulator, Some(&emulator)));
    unknown.send_batch(batch(0..10)).await.unwrap();
    let is_blocked = |state| state == LaneState::Blocked;
    let status = wait_until(&unknown, "the refusal", |it| is_blocked(it.lane.as_ref().unwrap().state)).await;
    let reason = status.lane.unwrap().reason.unwrap();
    assert!(reason.contains("client_certificate_file"), "{reason}");
    assert_eq!(status.rows.waiting, 10);
    unknown.shutdown().await.unwrap();
    drop(unknown);

    let wrapper = site.open_with(|c| {
        towards(c, &emulator, Some(&emulator));
        identify(c, &emulator);
    });
    wrapper.flush(None).await.unwrap();
    assert_eq!(wrapper.status().table_schema.columns, Some(2), "the catalog was read");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_serves_certificates_that_it_is_given() {
    let (site, other) = (Site::new(), Site::new());
    let made = serve(&other, false);
    let directory = made.ca_certificate_file().unwrap().parent().unwrap().to_owned();
    made.stop().unwrap();
    let file = |name: &str| directory.join(name);
    let files =
        TlsFiles { ca_certificate: file("ca.pem"), certificate: file("server.pem"), key: file("server.key") };
    let emulator = site.serve_with(|options| {
        options.tls = Some(TlsOptions { files: Some(files.clone()), client_certificates: false });
    });
    let wrapper = site.open_with(|c| towards(c, &emulator, Some(&emulator)));
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[test]
fn a_file_that_is_missing_or_no_certificate_is_refused_at_once_by_the_name_of_the_setting() {
    let (site, other) = (Site::new(), Site::new());
    let (emulator, stranger) = (serve(&site, false), serve(&other, false));
    let missing = Path::new("/nowhere/at-all.pem").to_owned();
    let garbage = site.directory.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let (_, key_of_another) = stranger.client_identity_files().unwrap();
    let refused = |setting: &str, change: &dyn Fn(&mut WrapperConfiguration)| {
        let mut configuration = site.configuration();
        identify(&mut configuration, &emulator);
        change(&mut configuration);
        let error = ZerobusWrapper::open(configuration).expect_err(setting);
        assert_eq!(error.code(), ErrorCode::Configuration);
        assert!(chain(&error).contains(&format!("{setting} is")), "{setting}: {}", chain(&error));
        assert!(!site.wal_dir().exists(), "nothing is created");
    };
    for file in [&missing, &garbage, &Path::new("/dev/null").to_owned()] {
        refused("ca_certificate_file", &|c| c.ca_certificate_file = Some(file.clone()));
        refused("client_certificate_file", &|c| c.client_certificate_file = Some(file.clone()));
        refused("client_key_file", &|c| c.client_key_file = Some(file.clone()));
    }
    refused("client_key_file", &|c| c.client_key_file = Some(key_of_another.to_owned()));
    refused("proxy", &|c| c.proxy = Some("socks5://127.0.0.1:1".to_owned()));
}

/// A proxy that takes CONNECT; returns its URL and how often it was asked.
fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            // A side that goes away in the middle is its own business.
            std::thread::spawn(move || tunnel(client, &counter).ok());
        }
    });
    (url, asked)
}

fn tunnel(mut client: TcpStream, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let mut server = TcpStream::connect(target)?;
    asked.fetch_add(1, Ordering::SeqCst);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server).ok());
    std::io::copy(&mut server, &mut client).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_the_proxy_that_is_named() {
    let site = Site::new();
    let emulator = serve(&site, false);
    let (url, asked) = proxy();
    let wrapper = site.open_with(|c| {
        towards(c, &emulator, Some(&emulator));
        c.proxy = Some(url.clone());
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    // A stream, and tokens and catalog over one connection.
    assert!(asked.load(Ordering::SeqCst) >= 2, "{asked:?}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}
