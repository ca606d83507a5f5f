//! Delivery that somebody has paused: nothing is sent until somebody ends that. What is in flight is waited for before.

use super::LaneState;
use super::lane::{Delivery, Lane};

impl Lane {
    pub(super) fn is_paused(&self) -> bool {
        self.pause.borrow().is_some()
    }

    /// Returns once delivery is paused.
    pub(super) async fn paused(&self) {
        self.pause_is(true).await;
    }

    /// Returns once delivery is paused, or is not any more.
    pub(super) async fn pause_is(&self, is_paused: bool) {
        let mut pause = self.pause.clone();
        if pause.wait_for(|pause| pause.is_some() == is_paused).await.is_err() {
            // Nobody is left who could change it.
            std::future::pending::<()>().await;
        }
    }
}

impl Delivery {
    /// Waits while delivery is paused. What is to be dropped because the log is full is dropped meanwhile.
    ///
    /// To be called while nothing is in flight.
    pub(super) async fn rest_while_paused(&mut self) {
        if !self.lane.is_paused() {
            return;
        }
        let state = self.lane.status.borrow().state;
        self.lane.set_state(LaneState::Paused);
        loop {
            tokio::select! {
                biased;
                () = self.lane.pause_is(false) => break,
                () = self.lane.admission.drops.wanted() => {
                    self.lane.drop_oldest().await;
                }
            }
        }
        // What failed before the pause is tried as if for the first time.
        self.backoff_step = 0;
        self.lane.set_state(state);
    }
}
