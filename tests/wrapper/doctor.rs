//! Each thing that the doctor looks at, with a real cause for what it says: the line names it, and what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::admin::Progress;
use arrow_zerobus_sdk_wrapper::admin::doctor::{DoctorOptions, Examination, Finding, Verdict, examine};
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, TlsFiles, TlsOptions};
use arrow_zerobus_sdk_wrapper::error::ErrorCode;
use arrow_zerobus_sdk_wrapper::{Validate, WrapperConfiguration, cli};

use crate::full_disk::{on_a_small_disk, take_the_rest};
use crate::site::{Site, TABLE, batch, secret};

fn look(site: &Site, change: impl FnOnce(&mut WrapperConfiguration)) -> Examination {
    let mut configuration = site.configuration();
    // What the disk of the machine has is not what is asked here.
    (configuration.wal_min_free_bytes, configuration.wal_max_bytes) = (0, 1024 * 1024);
    change(&mut configuration);
    examine(&site.writer_directory(), &configuration, DoctorOptions::default(), &Progress::new())
}

fn line<'e>(examination: &'e Examination, check: &str) -> &'e Finding {
    let found = examination.findings.iter().rev().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("nothing was said about {check}: {examination:#?}"))
}

/// The line about this has failed, says this and says what to do; and nothing else has failed.
fn assert_failed(examination: &Examination, check: &str, code: ErrorCode, says: &str) {
    let is_it = |finding: &&Finding| finding.check == check && finding.verdict == Verdict::Failed;
    let finding = examination.findings.iter().find(is_it);
    let finding = finding.unwrap_or_else(|| panic!("{check} has not failed: {examination:#?}"));
    assert_eq!(finding.code.as_deref(), Some(code.info().name), "{finding:#?}");
    let text = format!("{} {}", finding.found, finding.advice.as_deref().unwrap_or_default());
    assert!(text.contains(says), "{says:?} is not said: {finding:#?}");
    let failed: Vec<&str> =
        examination.findings.iter().filter(|it| it.verdict == Verdict::Failed).map(|it| &*it.check).collect();
    assert_eq!(failed, [check], "{examination:#?}");
    assert_eq!((examination.verdict, examination.code()), (Verdict::Failed, Some(code)));
    assert!(!format!("{examination:?}").contains(secret()), "[I9]");
}

fn serve(site: &Site) -> Emulator {
    site.serve_with(|options| {
        options.tls = Some(TlsOptions { files: None, client_certificates: false });
    })
}

fn towards(configuration: &mut WrapperConfiguration, emulator: &Emulator, ca: Option<PathBuf>) {
    configuration.endpoint = emulator.endpoint().to_owned();
    configuration.unity_catalog_url = Some(emulator.unity_catalog_url().to_owned());
    configuration.ca_certificate_file = ca;
}

#[test]
fn where_delivery_works_nothing_has_failed_and_nothing_is_changed() {
    let site = Site::new();
    let emulator = serve(&site);
    let ca = emulator.ca_certificate_file().map(Path::to_owned);
    let examination = look(&site, |c| towards(c, &emulator, ca));
    let checks: Vec<&str> = examination.findings.iter().map(|finding| &*finding.check).collect();
    let endpoint = ["dns", "tcp", "tls"];
    let expected = [
        &["settings", "disk", "file_system", "sync"][..],
        &endpoint,
        &endpoint,
        &["clock", "token", "catalog", "stream"],
    ];
    assert_eq!(checks, expected.concat(), "{examination:#?}");
    assert!(examination.verdict < Verdict::Failed, "{examination:#?}");
    assert_eq!(examination.code(), None);
    assert!(line(&examination, "tls").found.contains("signed by Zerobus emulator CA"), "{examination:#?}");
    for check in ["settings", "dns", "tcp", "tls", "clock", "token", "catalog", "stream"] {
        assert_eq!(line(&examination, check).verdict, Verdict::Ok, "{examination:#?}");
    }
    assert!(!site.wal_dir().exists(), "it creates nothing");
    emulator.stop().unwrap();
}

#[test]
fn a_wrong_secret_and_grants_that_are_missing_are_told_by_name() {
    let site = Site::new();
    let emulator = site.serve();
    let examination = look(&site, |c| c.client_secret = Some("another-one".into()));
    assert_failed(&examination, "token", ErrorCode::Authentication, "check client_id and client_secret");
    emulator.sql(&format!("REVOKE MODIFY ON TABLE {TABLE} FROM me")).unwrap();
    let examination = look(&site, |_| {});
    assert_failed(&examination, "stream", ErrorCode::Authentication, "MODIFY ON TABLE main.default.events");
    emulator.sql(&format!("GRANT MODIFY ON TABLE {TABLE} TO me")).unwrap();
    emulator.sql(&format!("REVOKE SELECT ON TABLE {TABLE} FROM me")).unwrap();
    let examination = look(&site, |_| {});
    let catalog = line(&examination, "catalog");
    assert_eq!(catalog.verdict, Verdict::Warning, "rows are delivered all the same");
    assert!(catalog.advice.as_ref().unwrap().contains("SELECT ON TABLE"), "{catalog:#?}");
    let examination = look(&site, |c| c.table_name = "main.default.nothing".to_owned());
    assert_failed(&examination, "catalog", ErrorCode::Transmission, "create the table");
    emulator.stop().unwrap();
}

#[test]
fn a_name_without_an_address_and_a_port_where_nobody_listens_are_told_apart() {
    let site = Site::new();
    let emulator = site.serve();
    let examination = look(&site, |c| c.endpoint = "http://nowhere.invalid:4711".to_owned());
    assert_failed(&examination, "dns", ErrorCode::Connection, "nowhere.invalid");
    emulator.stop().unwrap();
    let workspace = Site::new();
    let emulator = workspace.serve();
    let examination = look(&site, |c| c.unity_catalog_url = Some(emulator.unity_catalog_url().to_owned()));
    // The endpoint is that of the service that was stopped.
    assert!(line(&examination, "tcp").verdict == Verdict::Ok, "the workspace is there");
    let refused = examination.findings.iter().find(|it| it.verdict == Verdict::Failed).unwrap();
    assert_eq!((refused.check.as_str(), examination.code()), ("tcp", Some(ErrorCode::Connection)));
    assert!(refused.advice.as_ref().unwrap().contains("nobody listens there"), "{refused:#?}");
    let checks: Vec<_> = examination.findings.iter().map(|it| it.check.as_str()).collect();
    assert!(!checks.contains(&"token"), "what cannot be asked is left out: {checks:?}");
    emulator.stop().unwrap();
}

#[test]
fn a_ca_that_is_not_trusted_is_named() {
    let (site, other) = (Site::new(), Site::new());
    let (emulator, stranger) = (serve(&site), serve(&other));
    for ca in [None, stranger.ca_certificate_file().map(Path::to_owned)] {
        let examination = look(&site, |c| towards(c, &emulator, ca));
        let tls = line(&examination, "tls");
        assert_eq!((tls.verdict, tls.code.as_deref()), (Verdict::Failed, Some("connection")));
        let advice = tls.advice.as_ref().unwrap();
        assert!(advice.contains("Zerobus emulator CA") && advice.contains("ca_certificate_file"), "{tls:#?}");
    }
    emulator.stop().unwrap();
    stranger.stop().unwrap();
}

/// Certificates of a service whose own is good until then.
fn certificates(directory: &Path, (year, month, day): (i32, u8, u8)) -> TlsFiles {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "A CA of a test");
    let ca_certificate = file("ca.pem", &authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let mut service = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    service.not_after = rcgen::date_time_ymd(year, month, day);
    let certificate = file("server.pem", &service.signed_by(&key, &issuer).unwrap().pem());
    TlsFiles { ca_certificate, certificate, key: file("server.key", &key.serialize_pem()) }
}

#[test]
fn a_certificate_that_has_ended_is_told_as_such() {
    let site = Site::new();
    let files = certificates(site.directory.path(), (2020, 1, 1));
    let ca = Some(files.ca_certificate.clone());
    let emulator = site.serve_with(|options| {
        options.tls = Some(TlsOptions { files: Some(files), client_certificates: false });
    });
    let examination = look(&site, |c| towards(c, &emulator, ca));
    let tls = line(&examination, "tls");
    assert_eq!(tls.verdict, Verdict::Failed);
    assert!(tls.found.contains("xpired") && tls.found.contains("A CA of a test"), "{tls:#?}");
    assert!(tls.advice.as_ref().unwrap().contains("its owner renews it"), "{tls:#?}");
    emulator.stop().unwrap();
}

#[test]
fn settings_that_no_wrapper_takes_fail_by_name_and_keep_nothing_else_from_being_looked_at() {
    let site = Site::new();
    let missing = site.directory.path().join("no-such-file");
    type Change<'c> = &'c dyn Fn(&mut WrapperConfiguration);
    let cases: [(Change<'_>, &str); 3] = [
        (&|c| c.table_name = "events".to_owned(), "table_name"),
        (&|c| (c.client_secret, c.client_secret_file) = (None, Some(missing.clone())), "client_secret_file"),
        (&|c| c.ca_certificate_file = Some(missing.clone()), "ca_certificate_file"),
    ];
    for (change, setting) in cases {
        let examination = look(&site, change);
        assert_failed(&examination, "settings", ErrorCode::Configuration, setting);
        assert_ne!(line(&examination, "sync").verdict, Verdict::Failed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_does_not_fit_the_table_is_found_without_being_sent() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        (c.validate, c.shutdown_timeout) = (Validate::Off, Duration::ZERO);
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("surplus", DataType::Int64, true)];
    let columns = Int64Array::from_iter_values(0..5);
    let columns: Vec<Arc<dyn arrow_array::Array>> = vec![Arc::new(columns.clone()), Arc::new(columns)];
    let misfit = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    wrapper.send_batch(misfit).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let emulator = site.serve();
    let site = Arc::new(site);
    let looked = Arc::clone(&site);
    let (examination, offline) = tokio::task::spawn_blocking(move || {
        let progress = Progress::new();
        let offline = DoctorOptions { offline: true };
        let directory = looked.writer_directory();
        let blind = examine(&directory, &looked.configuration(), offline, &progress);
        assert_eq!((progress.done(), progress.total()), (15, Some(15)));
        (look(&looked, |_| {}), blind)
    })
    .await
    .unwrap();
    assert_failed(&examination, "waiting", ErrorCode::Conversion, "surplus");
    let found = &line(&examination, "waiting").found;
    assert!(found.starts_with("15 rows in 2 frames wait") && found.contains("5 of them would be"), "{found}");
    // Nobody can know without the columns.
    assert_eq!(line(&offline, "waiting").verdict, Verdict::Ok, "{offline:#?}");
    assert!(offline.findings.iter().all(|it| it.check != "dns"), "{offline:#?}");
    assert!(site.landed().is_empty());
    emulator.stop().unwrap();
}

#[test]
fn a_full_disk_fails_where_a_file_cannot_be_written() {
    on_a_small_disk("doctor::a_full_disk_fails_where_a_file_cannot_be_written", |disk| async move {
        take_the_rest(&disk);
        let mut configuration = WrapperConfiguration::new("http://127.0.0.1:9", TABLE);
        configuration.wal_min_free_bytes = 0;
        let examination = tokio::task::spawn_blocking(move || {
            let offline = DoctorOptions { offline: true };
            examine(&disk.join("wal"), &configuration, offline, &Progress::new())
        });
        let examination = examination.await.unwrap();
        assert_eq!(line(&examination, "disk").verdict, Verdict::Failed, "{examination:#?}");
        assert_eq!(line(&examination, "sync").verdict, Verdict::Failed, "{examination:#?}");
        let file_system = line(&examination, "file_system");
        assert_eq!(file_system.verdict, Verdict::Warning);
        assert!(file_system.found.contains("tmpfs"), "{file_system:#?}");
    });
}

#[test]
fn the_command_ends_with_the_code_of_what_has_failed_first() {
    let site = Site::new();
    let emulator = site.serve();
    let configuration = site.configuration();
    let settings = site.directory.path().join("zerobus.toml");
    let text = |secret: &str| {
        format!(
            "endpoint = {:?}\ntable_name = {TABLE:?}\nunity_catalog_url = {:?}\nwal_dir = {:?}\n\
             client_id = \"edge-box\"\nclient_secret = {secret:?}\nwal_min_free_bytes = 0\n",
            configuration.endpoint,
            emulator.unity_catalog_url(),
            site.wal_dir(),
        )
    };
    let doctor = |format: &str| {
        let args = ["zerobus-wal", "doctor", "--settings", settings.to_str().unwrap(), "--format", format];
        cli::run(args.map(Into::into))
    };
    for format in ["table", "json", "jsonl"] {
        std::fs::write(&settings, text(secret())).unwrap();
        assert_eq!(doctor(format), 0);
        std::fs::write(&settings, text("another-one")).unwrap();
        assert_eq!(doctor(format), ErrorCode::Authentication.info().exit_code);
        std::fs::write(&settings, "endpiont = \"http://127.0.0.1:9\"\n").unwrap();
        assert_eq!(doctor(format), ErrorCode::Configuration.info().exit_code);
    }
    assert!(!site.wal_dir().exists());
    emulator.stop().unwrap();
}
