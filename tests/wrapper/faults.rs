//! Every fault of the emulator against the real client: each one fires, and what was stored lands all the same.

use std::time::Duration;

use arrow_zerobus_sdk_wrapper::emulator::faults::{Condition, Fault, Faults, Refusal, Rule};
use arrow_zerobus_sdk_wrapper::{DeliveryError, LaneState, ZerobusWrapper};
use tonic::Code;

use crate::site::{Site, assert_conserved, batch, once, wait_until};

/// Fires as often as it may, or fails with what it did instead.
async fn wait_until_fired(faults: &Faults, fault: &Fault) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !faults.list().iter().any(|it| it.rule.fault == *fault && it.fired > 0) {
        assert!(std::time::Instant::now() < deadline, "{fault:?} did not fire: {:?}", faults.list());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Stores batches of ten rows one by one, waiting for the delivery of each.
async fn deliver(wrapper: &ZerobusWrapper, batches: i64) {
    for start in (0..batches * 10).step_by(10) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
        // A refusal is told at once, and does not come again here.
        while let Err(error) = wrapper.flush(Some(Duration::from_secs(30))).await {
            assert!(matches!(error, DeliveryError::Refused(_)), "{error:?}");
        }
    }
}

/// Five batches are delivered while the rule fires as often as it may. Returns how often each row landed.
async fn delivered_through(rule: Rule) -> Vec<usize> {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.retry_max_attempts = u32::MAX);
    emulator.faults().add([rule.clone()]).unwrap();
    deliver(&wrapper, 5).await;
    wait_until_fired(emulator.faults(), &rule.fault).await;
    let report = &emulator.faults().list()[0];
    assert_eq!(Some(report.fired), rule.times, "{report:?}");
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert_eq!(landed.keys().copied().collect::<Vec<_>>(), (0..50).collect::<Vec<_>>(), "{rule:?}");
    landed.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_passes_costs_no_row_and_no_duplicate() {
    let refusal = || Refusal::new(Code::Unavailable);
    for rule in [
        Rule::new(Fault::RefuseConnection {}).times(3),
        Rule::new(Fault::ResetConnection { after_bytes: 100 }).times(2),
        Rule::new(Fault::FailOpen { refusal: refusal() }).times(3),
        // The stream that is open ends at its third request.
        Rule::new(Fault::FailStream { refusal: refusal() }).after(2).times(1),
        Rule::new(Fault::FailStream { refusal: Refusal::new(Code::Ok) }).after(2).times(1),
        Rule::new(Fault::DelayAcks { delay_ms: 150 }).times(2),
        Rule::new(Fault::RejectRecords { condition: Condition::equals("id", 25) }).times(1),
        Rule::new(Fault::FailToken { status: 503, retry_after_secs: None }).times(2),
        Rule::new(Fault::FailToken { status: 429, retry_after_secs: Some(0) }).times(2),
        Rule::new(Fault::FailCatalog { status: 503, retry_after_secs: None }).times(1),
    ] {
        let landed = delivered_through(rule.clone()).await;
        assert!(landed.iter().all(|times| *times == 1), "{rule:?}: {landed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_without_an_acknowledgement_lands_twice_and_nothing_else_does() {
    for reset in [false, true] {
        let landed = delivered_through(Rule::new(Fault::DropAck { reset }).after(2).times(1)).await;
        let twice: Vec<usize> = (0..50).filter(|id| landed[*id] == 2).collect();
        assert_eq!(twice, (20..30).collect::<Vec<_>>(), "reset: {reset}, {landed:?}");
        assert_eq!(landed.iter().sum::<usize>(), 60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_its_close_signal_and_ends_when_it_said() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    let signal = Fault::CloseSignal { grace_ms: 300 };
    emulator.faults().add([Rule::new(signal).after(1).times(1)]).unwrap();
    deliver(&wrapper, 3).await;
    assert_eq!(emulator.faults().list()[0].fired, 1);
    assert_eq!(wrapper.status().lane.unwrap().streams_opened, 1, "what comes within the grace is taken");
    // An idle stream learns of its end with what is sent next.
    let mut sent = 30;
    while wrapper.status().lane.unwrap().streams_opened == 1 {
        wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
        wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
        sent += 10;
    }
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed().into_keys().collect::<Vec<_>>(), (0..sent).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_holds_up_delivery_and_nothing_is_lost_over_a_restart() {
    for fault in [
        Fault::HangConnection {},
        Fault::HangOpen {},
        Fault::HangStream {},
        Fault::WithholdAcks {},
        Fault::HangToken {},
        Fault::HangCatalog {},
    ] {
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
        emulator.faults().add([Rule::new(fault.clone())]).unwrap();
        wrapper.send_batch(batch(0..10)).await.unwrap();
        wait_until_fired(emulator.faults(), &fault).await;
        let is_late = wrapper.flush(Some(Duration::from_millis(200))).await;
        assert!(is_late.is_err(), "{fault:?} holds nothing up");
        assert_eq!(wrapper.status().rows.waiting, 10, "{fault:?}");
        wrapper.shutdown().await.unwrap();
        drop(wrapper);
        emulator.faults().clear();

        let wrapper = site.open();
        wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        let landed = site.landed();
        assert_eq!(landed.keys().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>(), "{fault:?}");
        let is_committed = fault == Fault::WithholdAcks {};
        assert!(
            landed.values().all(|times| *times == 1 + usize::from(is_committed)),
            "{fault:?}: {landed:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_lands_no_row_and_those_before_it_land() {
    let site = Site::new();
    let emulator = site.serve();
    let rejected = [
        Condition::equals("name", "row 15"),
        Condition::greater_than("id", 24.0),
        Condition::is_null("name"),
    ];
    emulator.faults().add(rejected.map(|condition| Rule::new(Fault::RejectRecords { condition }))).unwrap();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.send_batch(batch(10..20)).await.unwrap();
    let fired = Fault::RejectRecords { condition: Condition::equals("name", "row 15") };
    wait_until_fired(emulator.faults(), &fired).await;
    let status = wait_until(&wrapper, "the refusal", |it| it.lane.as_ref().unwrap().reason.is_some()).await;
    let reason = status.lane.unwrap().reason.unwrap();
    assert!(reason.contains("4044") && !reason.contains("15"), "{reason}");
    emulator.faults().clear();
    assert_eq!(site.landed(), once(0..10));
    wrapper.flush(Some(Duration::from_secs(30))).await.ok();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_replaced_without_a_failure_and_one_that_is_revoked_with_one_retry() {
    let site = Site::new();
    let emulator = site.serve();
    // A new stream for each second, so that each needs a token that is good.
    let wrapper = site.open_with(|c| c.stream_max_age = Duration::from_secs(1));
    emulator.faults().add([Rule::new(Fault::ExpireToken { after_ms: 2000, claim_secs: None })]).unwrap();
    let mut sent = 0;
    while wrapper.status().lane.unwrap().streams_opened < 4 {
        wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
        wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
        sent += 10;
    }
    assert_eq!(wrapper.status().lane.unwrap().failures, 0, "an honest token is replaced in time");
    assert!(emulator.faults().list()[0].fired >= 2);

    // Now tokens are good for a moment only and claim an hour.
    emulator.faults().clear();
    let revoked = Fault::ExpireToken { after_ms: 100, claim_secs: Some(3600) };
    emulator.faults().add([Rule::new(revoked)]).unwrap();
    let opened = wrapper.status().lane.unwrap().streams_opened;
    while wrapper.status().lane.unwrap().streams_opened < opened + 4 {
        wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
        wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
        sent += 10;
    }
    let lane = wrapper.status().lane.unwrap();
    assert!(lane.failures > 0, "a revoked token is refused");
    assert_ne!(lane.state, LaneState::Blocked);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..sent));
}
