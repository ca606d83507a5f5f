//! The table of error classes, row by row: the real client, a service that fails so, and what the lane makes of it.

use std::time::Duration;

use arrow_zerobus_sdk_wrapper::LaneState;
use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Refusal, Rule};
use arrow_zerobus_sdk_wrapper::error::Coded as _;
use tonic::Code;

use crate::site::{Site, batch, once, wait_until};

/// What a row of the table says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Transient(&'static str),
    Blocked(&'static str),
    Poison(&'static str),
}

use Row::{Blocked, Poison, Transient};

const CODES: [(Code, Row); 17] = [
    (Code::Ok, Transient("connection")),
    (Code::Cancelled, Transient("connection")),
    (Code::Unknown, Transient("connection")),
    (Code::InvalidArgument, Poison("transmission")),
    (Code::DeadlineExceeded, Transient("connection")),
    (Code::NotFound, Blocked("transmission")),
    (Code::AlreadyExists, Transient("connection")),
    (Code::PermissionDenied, Blocked("authentication")),
    (Code::ResourceExhausted, Transient("connection")),
    (Code::FailedPrecondition, Transient("connection")),
    (Code::Aborted, Transient("connection")),
    (Code::OutOfRange, Poison("transmission")),
    (Code::Unimplemented, Blocked("transmission")),
    (Code::Internal, Transient("connection")),
    (Code::Unavailable, Transient("connection")),
    (Code::DataLoss, Transient("connection")),
    (Code::Unauthenticated, Blocked("authentication")),
];

/// Stores a batch while the rules hold, sees what the lane makes of it, takes the rules away, and sees it delivered.
async fn assert_row(what: &str, rules: Vec<Rule>, row: Row) {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    emulator.faults().add(rules).unwrap();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let (state, code) = match row {
        Transient(code) => (LaneState::BackingOff, code),
        Blocked(code) => (LaneState::Blocked, code),
        Poison(code) => (LaneState::Poison, code),
    };
    let status = wait_until(&wrapper, what, |it| it.lane.as_ref().unwrap().state == state).await;
    let lane = status.lane.unwrap();
    assert_eq!(lane.code.as_deref(), Some(code), "{what}: {lane:?}");
    assert_eq!(status.rows.waiting, 10, "{what}");
    // It goes on being tried, whatever the class.
    let failures = lane.failures;
    let what_then = format!("another attempt after {what}");
    wait_until(&wrapper, &what_then, |it| it.lane.as_ref().unwrap().failures > failures).await;
    emulator.faults().clear();
    wait_until(&wrapper, &format!("delivery after {what}"), |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_refused_is_classed_by_its_code() {
    for (code, row) in CODES {
        let fault = Fault::FailOpen { refusal: Refusal::new(code) };
        assert_row(&format!("{code:?} at open"), vec![Rule::new(fault)], row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_is_classed_by_its_code() {
    for (code, row) in CODES {
        let rules = vec![Rule::new(Fault::FailStream { refusal: Refusal::new(code) })];
        let what = format!("{code:?} in mid-stream");
        match row {
            // There it is about the rows, and not about the schema.
            Poison(code) => assert_isolated(&what, rules, code).await,
            row => assert_row(&what, rules, row).await,
        }
    }
}

/// Stores a batch while the rules hold, and sees each of its rows refused alone and kept.
async fn assert_isolated(what: &str, rules: Vec<Rule>, code: &str) {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    emulator.faults().add(rules).unwrap();
    let sent = wrapper.send_batch(batch(0..10)).await.unwrap();
    wait_until(&wrapper, what, |it| it.rows.quarantined == 10 && it.rows.waiting == 0).await;
    let error = wrapper.wait_delivered(sent.lsn.unwrap(), None).await.unwrap_err();
    assert_eq!(error.code().info().name, code, "{what}");
    assert_eq!(error.refused_rows().map(<[u32]>::len), Some(10), "{what}");
    emulator.faults().clear();
    wrapper.send_batch(batch(10..20)).await.unwrap();
    wait_until(&wrapper, &format!("delivery after {what}"), |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(10..20), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_is_classed_by_its_status() {
    for (status, row) in [
        (302, Transient("token_refresh")),
        (400, Blocked("authentication")),
        (401, Blocked("authentication")),
        (403, Blocked("authentication")),
        (404, Blocked("authentication")),
        (408, Transient("token_refresh")),
        (425, Transient("token_refresh")),
        (429, Transient("token_refresh")),
        (500, Transient("token_refresh")),
        (502, Transient("token_refresh")),
        (503, Transient("token_refresh")),
        (504, Transient("token_refresh")),
    ] {
        let fault = Fault::FailToken { status, retry_after_secs: None };
        assert_row(&format!("token {status}"), vec![Rule::new(fault)], row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fail_or_hang_are_transient() {
    let long = [
        ("a reset", Fault::RefuseConnection {}, Transient("connection")),
        ("a reset later", Fault::ResetConnection { after_bytes: 100 }, Transient("connection")),
        // These take as long as the lane is patient.
        ("a stream that hangs", Fault::HangOpen {}, Transient("connection")),
        ("a token that hangs", Fault::HangToken {}, Transient("token_refresh")),
    ];
    let rows = long.map(|(what, fault, row)| tokio::spawn(hanging_row(what, fault, row)));
    for row in rows {
        row.await.unwrap();
    }
}

/// As `assert_row`, for what takes half a minute to be noticed: once is enough.
async fn hanging_row(what: &'static str, fault: Fault, row: Row) {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    emulator.faults().add([Rule::new(fault)]).unwrap();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    let lane = loop {
        let lane = wrapper.status().lane.unwrap();
        // While it tries again it still says why it had to.
        if lane.state == LaneState::BackingOff {
            break lane;
        }
        assert!(std::time::Instant::now() < deadline, "{what} was not noticed: {lane:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let Transient(code) = row else { panic!("{row:?}") };
    assert_eq!(lane.code.as_deref(), Some(code), "{what}: {lane:?}");
    emulator.faults().clear();
    // The attempt that hangs now is waited for no longer.
    emulator.stop().unwrap();
    let emulator = site.serve();
    wait_until(&wrapper, what, |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_that_a_server_asks_for_is_kept() {
    let asked = |change: fn(&mut Refusal)| {
        let mut refusal = Refusal::new(Code::ResourceExhausted);
        change(&mut refusal);
        Fault::FailOpen { refusal }
    };
    for (what, fault) in [
        ("RetryInfo", asked(|it| it.retry_after_ms = Some(3_600_000))),
        ("error 6006", asked(|it| it.error_code = Some(6006))),
        ("Retry-After", Fault::FailToken { status: 429, retry_after_secs: Some(3600) }),
    ] {
        let site = Site::new();
        let emulator = site.serve();
        // Without the wish of the server the wait would be a millisecond, with it it is this maximum.
        let wrapper = site.open_with(|c| {
            c.retry_base_delay = Duration::from_millis(1);
            c.retry_max_delay = Duration::from_secs(3600);
        });
        emulator.faults().add([Rule::new(fault)]).unwrap();
        wrapper.send_batch(batch(0..10)).await.unwrap();
        wait_until(&wrapper, what, |it| it.lane.as_ref().unwrap().failures == 1).await;
        emulator.faults().clear();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let status = wrapper.status();
        assert_eq!(status.rows.waiting, 10, "{what} was not heeded: {status:?}");
        assert_eq!(status.lane.unwrap().state, LaneState::BackingOff, "{what}");
        // Who asks for delivery now gets it.
        wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
    }
}
