//! Delivery that somebody pauses: nothing is sent until somebody ends that, whatever is restarted meanwhile, and nothing
//! is lost. And what an owner's socket says to those who ask.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::{self, AskError, PauseError};
use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Rule};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::{
    DeliveryGuarantee, LaneState, Status, TransportKind, WrapperConfiguration, ZerobusWrapper, cli,
};

use crate::site::{Site, TABLE, assert_conserved, batch, once, wait_until};

async fn rests(wrapper: &ZerobusWrapper) -> Status {
    wait_until(wrapper, "the pause", |it| it.lane.as_ref().unwrap().state == LaneState::Paused).await
}

fn command(verb: &str, directory: &Path) -> u8 {
    let args = ["zerobus-wal".into(), verb.into(), directory.into()];
    // A verb may bring a runtime of its own.
    std::thread::spawn(move || cli::run(args)).join().unwrap()
}

/// Every way of delivery.
fn ways() -> [fn(&mut WrapperConfiguration); 4] {
    [
        |_| {},
        |c| c.streams = 4,
        |c| c.delivery = DeliveryGuarantee::ExactlyOnce,
        |c| c.transport = TransportKind::ArrowFlight,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_log_takes_batches_and_sends_none_over_restarts_until_somebody_resumes() {
    for way in ways() {
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(way);
        wrapper.send_batch(batch(0..10)).await.unwrap();
        wrapper.flush(None).await.unwrap();
        let change = admin::pause(&site.writer_directory(), Some("the table is rebuilt")).unwrap();
        assert_eq!((change.owner_pid, change.before), (Some(std::process::id()), None));
        rests(&wrapper).await;
        wrapper.send_batch(batch(10..20)).await.unwrap();
        let error = wrapper.flush(None).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Paused);
        assert!(error.to_string().contains("the table is rebuilt"), "{error}");
        // A shutdown may take 20 s here, and does not.
        let closing = tokio::time::timeout(Duration::from_secs(10), wrapper.shutdown());
        closing.await.expect("a shutdown waits for a pause to end").unwrap();
        drop(wrapper);

        let dead = admin::status(&site.writer_directory()).unwrap();
        assert_eq!(dead.paused.unwrap().reason.as_deref(), Some("the table is rebuilt"));
        let wrapper = site.open_with(way);
        let status = rests(&wrapper).await;
        assert_eq!((status.rows.waiting, status.rows.delivered), (10, 10));
        let lane = status.lane.as_ref().unwrap();
        assert_eq!(lane.code.as_deref(), Some("paused"));
        assert!(lane.reason.as_ref().unwrap().contains("zerobus-wal resume"), "{lane:?}");
        assert_conserved(&status);
        let change = admin::resume(&site.writer_directory()).unwrap();
        assert_eq!((change.before.is_some(), change.now, change.lane), (true, None, Some(LaneState::Paused)));
        wrapper.flush(None).await.unwrap();
        let status = wrapper.status();
        assert_eq!(status.paused, None);
        assert_conserved(&status);
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_when_delivery_is_paused_is_waited_for_and_lands_once() {
    for way in ways() {
        let site = Site::new();
        let emulator = site.serve();
        emulator.faults().add([Rule::new(Fault::DelayAcks { delay_ms: 300 })]).unwrap();
        let wrapper = site.open_with(way);
        wrapper.send_batch(batch(0..10)).await.unwrap();
        wait_until(&wrapper, "the sending", |it| it.lane.as_ref().unwrap().streams_opened > 0).await;
        admin::pause(&site.writer_directory(), None).unwrap();
        let status = rests(&wrapper).await;
        // It was sent before the pause or not at all.
        assert!(matches!(status.rows.delivered, 0 | 10), "{status:#?}");
        assert_eq!(status.lane.as_ref().unwrap().resent_rows, 0);
        assert_conserved(&status);
        admin::resume(&site.writer_directory()).unwrap();
        wrapper.flush(None).await.unwrap();
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_the_wait_of_a_flush_and_of_a_lane_that_is_parked() {
    let site = Site::new();
    // Nobody is there, and the next attempt is an hour away.
    let wrapper = site.open_with(|c| {
        (c.retry_base_delay, c.retry_max_delay) = (Duration::from_secs(3600), Duration::from_secs(3600));
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wait_until(&wrapper, "a failure", |it| it.lane.as_ref().unwrap().failures > 0).await;
    let flushing = tokio::spawn(wrapper.flush(None));
    assert_eq!(command("pause", &site.wal_dir()), 0);
    assert_eq!(flushing.await.unwrap().unwrap_err().code(), ErrorCode::Paused);
    rests(&wrapper).await;
    let emulator = site.serve();
    assert_eq!(command("resume", &site.wal_dir()), 0);
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_dead_owner_is_paused_by_its_mark_and_is_neither_adopted_nor_drained_meanwhile() {
    let site = Site::new();
    let hurried = |c: &mut WrapperConfiguration| c.shutdown_timeout = Duration::ZERO;
    let dead = [site.open_with(hurried), site.open_with(hurried)];
    for (wrapper, first) in dead.iter().zip([0, 10]) {
        wrapper.send_batch(batch(first..first + 10)).await.unwrap();
        wrapper.shutdown().await.unwrap();
    }
    drop(dead);
    let second = site.wal_dir().join(TABLE).join("writer-002");
    let change = admin::pause(&second, Some("wait")).unwrap();
    assert_eq!((change.owner_pid, change.lane, change.waiting_rows), (None, None, 10));
    // Again: since then, and for the reason that was given first.
    for reason in [None, Some("another one")] {
        let again = admin::pause(&second, reason).unwrap();
        assert_eq!((again.before, again.now), (change.now.clone(), change.now.clone()));
    }

    let emulator = site.serve();
    assert_eq!(command("drain", &second), ErrorCode::Paused.info().exit_code);
    let wrapper = site.open();
    let is_left = |it: &Status| it.adoption.left.iter().any(|left| left.contains("paused (wait)"));
    wait_until(&wrapper, "the look at the other log", is_left).await;
    wrapper.flush(None).await.unwrap();
    assert_eq!(admin::status(&second).unwrap().rows.waiting, 10);
    let change = admin::resume(&second).unwrap();
    assert_eq!((change.owner_pid, change.now), (None, None));
    wait_until(&wrapper, "adoption", |it| it.adoption.drained_logs == 1).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
}

fn converse(directory: &Path, question: &str) -> serde_json::Value {
    let mut stream = UnixStream::connect(directory.join("owner.sock")).unwrap();
    writeln!(stream, "{question}").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_answers_programs_of_before_and_says_which_version_does_not_know_a_question() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    let directory = site.writer_directory();
    for question in ["status", "resume"] {
        let status = converse(&directory, &format!("{{\"question\": \"{question}\"}}"));
        assert_eq!(status["table"], TABLE, "{question}: {status}");
    }
    let answer = converse(&directory, "{\"question\": \"dance\", \"protocol\": 99, \"partner\": \"none\"}");
    assert_eq!(answer["answer"], "not_known");
    assert_eq!(answer["program_version"], env!("CARGO_PKG_VERSION"));
    let mode = std::fs::metadata(directory.join("owner.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    wrapper.shutdown().await.unwrap();
}

/// Puts a socket of ours in the place of the owner's, and does this with each connection.
fn stand_in(directory: &Path, answer: impl Fn(UnixStream) + Send + 'static) {
    let path = directory.join("owner.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_an_older_version_is_understood_and_what_it_does_not_know_is_told() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    let directory = site.writer_directory();
    let bare = serde_json::to_string(&wrapper.status()).unwrap();
    // It knew two questions, and hung up on all else.
    stand_in(&directory, move |mut stream| {
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        let question: serde_json::Value = serde_json::from_str(&line).unwrap();
        if question["question"] == "status" || question["question"] == "resume" {
            // Whoever asks may have gone.
            let _ = writeln!(stream, "{bare}");
        }
    });
    assert!(admin::status(&directory).unwrap().lane.is_some(), "its answer is understood");
    assert_eq!(admin::resume(&directory).unwrap().owner_pid, Some(std::process::id()));
    let error = admin::pause(&directory, None).unwrap_err();
    assert!(matches!(error, PauseError::Ask(AskError::NotKnown { question: "pause", .. })), "{error}");
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_does_not_answer_is_told_from_none_and_its_log_is_read_from_the_files() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let directory = site.writer_directory();
    let (hold, held) = std::sync::mpsc::channel();
    stand_in(&directory, move |stream| hold.send(stream).unwrap());
    let pid = std::process::id();
    let error = admin::resume(&directory).unwrap_err();
    let is_silent =
        |error: &PauseError| matches!(error, PauseError::Ask(AskError::Silent { pid: it, .. }) if *it == pid);
    assert!(is_silent(&error), "{error}");
    assert_eq!(error.code(), ErrorCode::Locked);
    let status = admin::status(&directory).unwrap();
    assert_eq!((status.rows.waiting, status.owner_pid, status.lane), (10, Some(pid), None));
    drop(held);

    std::fs::remove_file(directory.join("owner.sock")).unwrap();
    let error = admin::resume(&directory).unwrap_err();
    assert!(matches!(error, PauseError::Ask(AskError::NotListening { .. })), "{error}");

    stand_in(&directory, drop);
    let open_to_all = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(directory.join("owner.sock"), open_to_all).unwrap();
    let error = admin::resume(&directory).unwrap_err();
    assert!(matches!(error, PauseError::Ask(AskError::Untrusted { .. })), "{error}");
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_another_user_than_the_log_is_not_asked_and_how_a_mount_shows_both_does_not_matter() {
    if !rustix::process::geteuid().is_root() {
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!is_ci, "only root gives files to others");
        eprintln!("SKIPPED: only root gives files to others");
        return;
    }
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    let directory = site.writer_directory();
    let socket = directory.join("owner.sock");
    std::os::unix::fs::chown(&socket, Some(12_345), None).unwrap();
    let error = admin::resume(&directory).unwrap_err();
    assert!(matches!(error, PauseError::Ask(AskError::Untrusted { .. })), "{error}");
    assert!(error.to_string().contains("user 12345's"), "{error}");

    // As a mount shows them that has other numbers for users than the process.
    std::os::unix::fs::chown(&directory, Some(12_345), None).unwrap();
    assert!(admin::status(&directory).unwrap().lane.is_some());
    std::os::unix::fs::chown(&directory, Some(0), None).unwrap();
    wrapper.shutdown().await.unwrap();
}
