//! The emulator as a process of its own: killed under load, stopped by a signal, started with a wrong command line.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use futures::SinkExt as _;
use prost::Message as _;

use crate::raw_stream::{RawStream, ingest};
use crate::site::{EVENT_COLUMNS, EVENTS, bearer, by_id, descriptor, event};
use crate::support::read_table;

/// The command as a process of its own.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) endpoint: String,
    pub(crate) unity_catalog_url: String,
}

impl Process {
    pub(crate) fn start(data_dir: &Path, ports: (&str, &str)) -> Process {
        Process::start_with(data_dir, ports, &[])
    }

    pub(crate) fn start_with(data_dir: &Path, ports: (&str, &str), options: &[&str]) -> Process {
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

    pub(crate) fn ports(&self) -> (String, String) {
        let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
        (port(&self.endpoint), port(&self.unity_catalog_url))
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

pub(crate) const ROWS_PER_REQUEST: i64 = 40;

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

/// Of each thread that serves, whether it works in the background.
#[cfg(target_os = "linux")]
fn are_in_background(process: &Child) -> Vec<bool> {
    const SCHED_BATCH: &str = "3";
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    // One that has ended meanwhile has no file any more.
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let policy = |stat: String| {
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        // The 41st field is the policy; the state, the third one, is the first behind the name.
        let policy = fields.split_whitespace().nth(38);
        name.ends_with("(emulator").then(|| policy == Some(SCHED_BATCH))
    };
    stats.filter_map(policy).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn it_takes_no_processor_from_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), ("0", "0"));
    // A thread has its name a moment before its policy.
    let all_are = async || {
        loop {
            let threads = are_in_background(&process.child);
            if !threads.is_empty() && threads.iter().all(|is_in_background| *is_in_background) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), all_are()).await;
    let threads = are_in_background(&process.child);
    process.signal(rustix::process::Signal::KILL);
    process.wait();
    assert!(in_time.is_ok(), "some are not: {threads:?}");
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
