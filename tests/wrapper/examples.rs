//! The examples for Rust, run as somebody would run them.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use arrow_zerobus_sdk_wrapper::emulator::faults::{Condition, Fault, Rule};

use crate::site::{Site, TABLE, batch, once, secret};

/// The command of an example, which finds everything in its environment. Cargo builds them with the tests.
fn example(site: &Site, name: &str) -> Command {
    let directory: PathBuf = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples");
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is missing: cargo build --features cli,emulator,sim --examples",
        program.display()
    );
    let configuration = site.configuration();
    let mut command = Command::new(program);
    command
        .env("ZEROBUS_ENDPOINT", configuration.endpoint)
        .env("ZEROBUS_TABLE_NAME", TABLE)
        .env("UNITY_CATALOG_URL", configuration.unity_catalog_url.unwrap())
        .env("ZEROBUS_CLIENT_ID", configuration.client_id.unwrap())
        .env("ZEROBUS_CLIENT_SECRET", secret())
        .env("ARROW_ZEROBUS_WAL_DIR", site.wal_dir())
        .stdout(Stdio::piped());
    command
}

fn run(site: &Site, name: &str) -> String {
    let output = example(site, name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn quickstart_delivers_its_rows() {
    let site = Site::new();
    let emulator = site.serve();
    let said = run(&site, "quickstart");
    emulator.stop().unwrap();
    assert!(said.ends_with("delivered: 3 rows\n"), "{said}");
    assert_eq!(site.landed(), once(1..4));
}

#[test]
fn many_producers_deliver_all_rows_once() {
    let site = Site::new();
    let emulator = site.serve();
    let said = run(&site, "many_producers");
    emulator.stop().unwrap();
    assert_eq!(said, "32000 rows stored, 32000 delivered\n");
    assert_eq!(site.landed(), once(0..32_000));
}

#[test]
fn graceful_shutdown_delivers_what_it_has_stored() {
    let site = Site::new();
    let emulator = site.serve();
    let mut child = example(&site, "graceful_shutdown").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.nth(20).unwrap(), "row 20 is stored");
    terminate(&child);
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success());
    emulator.stop().unwrap();
    let last = rest.last().unwrap();
    let landed = site.landed();
    let rows = landed.len();
    assert_eq!(*last, format!("{rows} rows stored, {rows} delivered, 0 wait for the next start"));
    assert_eq!(landed, once(0..rows as i64));
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_sends_refused_rows_again_once_the_table_takes_them() {
    let site = Site::new();
    let emulator = site.serve();
    let condition = Condition::equals("id", 5_i64);
    emulator.faults().add([Rule::new(Fault::RejectRecords { condition })]).unwrap();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    assert!(wrapper.flush(None).await.unwrap_err().to_string().contains("quarantine"));
    wrapper.shutdown().await.unwrap();
    emulator.faults().clear();
    let said = run(&site, "replay");
    emulator.stop().unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(site.landed(), once(0..10));
    assert_eq!(std::fs::read_dir(site.writer_directory().join("quarantine")).unwrap().count(), 0);
}
