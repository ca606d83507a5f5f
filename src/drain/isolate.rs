//! Which rows does the service refuse? It ends the stream and names none, so they are looked for: in halves.
//!
//! ```text
//!  refused with others in flight ─► one request at a time, up to where the window ended
//!  refused alone, n rows         ─► the first n/2 alone ─ refused ─► it is among these
//!                                          └ acknowledged ─► it is among the others
//!  refused alone, one row        ─► quarantine, and on with what comes behind it
//! ```
//!
//! Everything before what is looked at is settled, so it is always the next rows that something is known of. A row is
//! given up only when it was refused alone: what was only concluded may not hold any more, for tables change. Behind a
//! bad row, as many rows go at once as were good between the last two; twice as many each time they are good.

use super::feed::Condemned;
use crate::ledger::Settled;

/// So many refusals without one row learnt or settled are none that rows explain.
const REFUSALS_MAX: u32 = 64;

/// What is known of the next rows. Without a refusal, nothing.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    /// One request at a time up to here, so that a refusal is about that one.
    careful_up_to: Option<Settled>,
    /// Where the rows begin that something is known of.
    at: Settled,
    /// Among so many next rows is a bad one.
    bad: Option<usize>,
    /// So many go next, when nothing is known of them.
    group: Option<usize>,
    /// How many were good since the last bad one.
    good_run: Option<usize>,
    condemned: Option<Condemned>,
    /// Refusals since anything moved.
    refusals: u32,
}

impl Isolation {
    /// Whether a request has to be alone in flight, with everything before `settled` settled.
    pub(super) fn is_careful(&self, settled: Settled) -> bool {
        self.careful_up_to.is_some_and(|end| settled < end)
    }

    /// How many rows the next request may have.
    pub(super) fn rows_max(&self) -> usize {
        match (self.bad, self.group) {
            (Some(rows), _) => (rows / 2).max(1),
            (None, Some(rows)) => rows,
            (None, None) => usize::MAX,
        }
    }

    /// The row that was refused alone last. It stays here until the next one.
    pub(super) fn condemned(&self) -> Option<&Condemned> {
        self.condemned.as_ref()
    }

    /// To be called before rows are read from the log anew: what is known is about other rows if somebody has moved on
    /// without us.
    pub(super) fn resume_at(&mut self, settled: Settled) {
        if self.at != settled {
            self.bad = None;
            self.at = settled;
        }
    }

    /// One of several requests in flight was refused; the last of them ends there. Says whether that is something new.
    pub(super) fn refused_among_others(&mut self, end: Settled) -> bool {
        self.careful_up_to = self.careful_up_to.max(Some(end));
        self.is_worth_trying()
    }

    /// A request that was alone in flight was refused: so many rows, the first one this. Says whether trying on may help.
    pub(super) fn refused_alone(&mut self, rows: usize, end: Settled, first: Condemned) -> bool {
        self.careful_up_to = self.careful_up_to.max(Some(end));
        if rows > 1 {
            self.bad = Some(rows);
            return self.is_worth_trying();
        }
        self.bad = None;
        self.group = self.good_run.map(|good| good + 1);
        self.good_run = Some(0);
        // The same row again was not put into quarantine meanwhile.
        let is_new = self.condemned.as_ref().is_none_or(|last| last.position() != first.position());
        self.condemned = Some(first);
        if is_new {
            self.refusals = 0;
        }
        self.is_worth_trying()
    }

    /// Everything is settled up to there, because the oldest request in flight was acknowledged, with so many rows, or
    /// because there were none to send.
    pub(super) fn acknowledged(&mut self, rows: usize, settled: Settled) {
        if self.careful_up_to.is_none() {
            return;
        }
        if !self.is_careful(settled) {
            *self = Isolation::default();
            return;
        }
        self.at = settled;
        self.refusals = 0;
        if let Some(run) = &mut self.good_run {
            *run += rows;
        }
        match self.bad {
            Some(bad) => self.bad = bad.checked_sub(rows).filter(|left| *left > 0),
            None if rows > 0 => self.group = self.group.map(|group| group.saturating_mul(2)),
            None => {}
        }
    }

    /// To be called when the lane has waited: the table may be another one, so the row that was to be given up is asked for
    /// once more.
    pub(super) fn reconsider(&mut self) {
        if self.condemned.take().is_some() {
            self.bad = Some(1);
        }
    }

    fn is_worth_trying(&mut self) -> bool {
        self.refusals += 1;
        self.refusals <= REFUSALS_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quarantine::Refusal;
    use crate::types::Lsn;

    /// A frame of rows, some of them bad, at a service that refuses a request with a bad row as a whole.
    struct Service {
        bad: Vec<bool>,
        request_rows_max: usize,
        settled: usize,
        quarantined: Vec<usize>,
        requests: usize,
    }

    fn position(row: usize) -> Settled {
        Settled { through: Lsn::ZERO, rows_of_next: row as u32 }
    }

    impl Service {
        fn with(rows: usize, bad_rows: impl IntoIterator<Item = usize>, request_rows_max: usize) -> Service {
            let mut bad = vec![false; rows];
            bad_rows.into_iter().for_each(|row| bad[row] = true);
            Service { bad, request_rows_max, settled: 0, quarantined: Vec::new(), requests: 0 }
        }

        /// Sends one request from where everything is settled; whether it was refused.
        fn send(&mut self, rows: usize) -> bool {
            self.requests += 1;
            assert!(self.requests <= 20 * self.bad.len() + 100, "it does not come to an end");
            let is_refused = self.bad[self.settled..self.settled + rows].iter().any(|bad| *bad);
            if !is_refused {
                self.settled += rows;
            }
            is_refused
        }

        /// Delivers all of it, after a refusal in a window of many requests.
        fn deliver(mut self) -> Service {
            let mut isolation = Isolation::default();
            assert!(isolation.refused_among_others(position(self.bad.len())));
            while self.settled < self.bad.len() {
                assert!(isolation.is_careful(position(self.settled)));
                isolation.resume_at(position(self.settled));
                let left = self.bad.len() - self.settled;
                let rows = isolation.rows_max().min(self.request_rows_max).min(left);
                assert!(rows > 0);
                if !self.send(rows) {
                    isolation.acknowledged(rows, position(self.settled));
                    continue;
                }
                let (lsn, row) = (Lsn::FIRST, self.settled as u32);
                let refusal = Refusal::new("transmission", "no");
                let end = position(self.settled + rows);
                assert!(isolation.refused_alone(rows, end, Condemned { lsn, row, refusal }));
                if rows == 1 {
                    assert_eq!(isolation.condemned().unwrap().position(), (lsn, row));
                    self.quarantined.push(self.settled);
                    self.settled += 1;
                    // As the lane does when it passes over a row without sending anything.
                    isolation.acknowledged(0, position(self.settled));
                }
            }
            self
        }
    }

    fn log2(rows: usize) -> usize {
        rows.next_power_of_two().ilog2() as usize
    }

    #[test]
    fn one_bad_row_costs_two_requests_more_than_its_logarithm_wherever_it_is() {
        for rows in [1, 2, 3, 100, 1_000, 1_023, 1_024] {
            for bad in 0..rows {
                let done = Service::with(rows, [bad], usize::MAX).deliver();
                assert_eq!(done.quarantined, [bad]);
                assert!(done.requests <= log2(rows) + 3, "row {bad} of {rows}: {} requests", done.requests);
            }
        }
    }

    #[test]
    fn rows_that_are_all_bad_cost_one_request_each() {
        let done = Service::with(10_000, 0..10_000, usize::MAX).deliver();
        assert_eq!(done.quarantined, (0..10_000).collect::<Vec<_>>());
        assert!(done.requests <= 10_000 + 2 * log2(10_000), "{} requests", done.requests);
    }

    #[test]
    fn rows_that_are_bad_now_and_then_cost_the_logarithm_of_their_distance() {
        let bad: Vec<usize> = (7..100_000).step_by(100).collect();
        let done = Service::with(100_000, bad.clone(), 20_000).deliver();
        assert_eq!(done.quarantined, bad);
        let each = done.requests as f64 / bad.len() as f64;
        assert!(each <= log2(100) as f64 + 3.0, "{each} requests per bad row");
    }

    #[test]
    fn a_row_that_was_good_alone_is_delivered_whatever_was_concluded_before() {
        let mut isolation = Isolation::default();
        let first = |row| Condemned { lsn: Lsn::FIRST, row, refusal: Refusal::new("transmission", "no") };
        assert!(isolation.refused_alone(2, position(2), first(0)));
        isolation.acknowledged(1, position(1));
        assert_eq!(isolation.rows_max(), 1, "the other one must be bad, and is asked for alone");
        assert!(isolation.condemned().is_none());
        // The table was altered in between.
        isolation.acknowledged(1, position(2));
        assert!(isolation.condemned().is_none() && !isolation.is_careful(position(2)));
    }

    #[test]
    fn a_row_that_could_not_be_put_away_is_asked_for_again_alone() {
        let mut isolation = Isolation::default();
        let first = Condemned { lsn: Lsn::FIRST, row: 0, refusal: Refusal::new("transmission", "no") };
        assert!(isolation.refused_alone(1, position(1), first));
        isolation.reconsider();
        assert!(isolation.condemned().is_none());
        assert_eq!(isolation.rows_max(), 1);
    }

    #[test]
    fn what_is_known_of_rows_that_were_dropped_is_forgotten() {
        let mut isolation = Isolation::default();
        let first = Condemned { lsn: Lsn::FIRST, row: 0, refusal: Refusal::new("transmission", "no") };
        assert!(isolation.refused_alone(1_000, position(1_000), first));
        assert_eq!(isolation.rows_max(), 500);
        isolation.resume_at(position(0));
        assert_eq!(isolation.rows_max(), 500, "a broken connection changes nothing");
        isolation.resume_at(position(70));
        assert_eq!(isolation.rows_max(), usize::MAX);
    }

    #[test]
    fn a_service_that_refuses_whatever_comes_is_not_asked_without_end() {
        let mut isolation = Isolation::default();
        let tries = (0..1_000).take_while(|_| isolation.refused_among_others(position(5))).count();
        assert!(tries < 100);
        let again = |isolation: &mut Isolation| {
            let first = Condemned { lsn: Lsn::FIRST, row: 0, refusal: Refusal::new("transmission", "no") };
            isolation.refused_alone(1, position(1), first)
        };
        let mut isolation = Isolation::default();
        let tries = (0..1_000).take_while(|_| again(&mut isolation)).count();
        assert!(tries < 100, "a row that cannot be put away");
    }

    proptest! {
        #[test]
        fn exactly_the_bad_rows_are_found_in_logarithmic_time(
            rows in 1usize..3_000,
            request_rows_max in prop_oneof![Just(usize::MAX), 1usize..500],
            bad in prop::collection::btree_set(0usize..3_000, 0..60),
        ) {
            let bad: Vec<usize> = bad.into_iter().filter(|row| *row < rows).collect();
            let done = Service::with(rows, bad.clone(), request_rows_max).deliver();
            prop_assert_eq!(&done.quarantined, &bad);
            // Runs of good rows of very different lengths cost a second logarithm.
            let requests_max = bad.len() * (2 * log2(rows) + 2) + rows.div_ceil(request_rows_max) + 1;
            prop_assert!(done.requests <= requests_max, "{} requests", done.requests);
        }

        #[test]
        fn rows_that_are_bad_at_random_cost_their_logarithm_on_average(
            bad in prop::collection::btree_set(0usize..20_000, 20..400),
        ) {
            let count = bad.len();
            let done = Service::with(20_000, bad, usize::MAX).deliver();
            prop_assert!(done.requests <= count * (log2(20_000) + 2), "{} for {count}", done.requests);
        }
    }
}
