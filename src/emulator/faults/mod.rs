//! Faults: what the emulator does wrong because somebody asked for it.
//!
//! ```text
//! POST /control ─► rule: which fault, where, how often
//!                    ▼
//! connection · stream opened · request · records · acknowledgement · token · catalog
//!    each of these occasions asks for a fault; without a rule for it that is one load of a number
//! ```

mod condition;
mod fault;
mod rule;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

pub use self::condition::Condition;
pub(super) use self::fault::Occasion;
pub use self::fault::{Fault, Refusal};
pub use self::rule::{InvalidRule, Rule};
use crate::types::TableName;

/// The rules of an emulator, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Faults {
    /// A bit for each occasion that some rule waits for.
    armed: AtomicU32,
    rules: Mutex<Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    last_id: u64,
    active: Vec<Active>,
}

#[derive(Debug)]
struct Active {
    id: u64,
    rule: Rule,
    rng: StdRng,
    occasions: u64,
    fired: u64,
}

/// A rule, and what it did so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleReport {
    /// Its number, never used again.
    pub id: u64,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// How often it could have fired.
    pub occasions: u64,
    /// How often it did.
    pub fired: u64,
}

impl Faults {
    /// Adds rules and returns their numbers.
    ///
    /// # Errors
    ///
    /// [`InvalidRule`]; then none was added.
    pub fn add(&self, rules: impl IntoIterator<Item = Rule>) -> Result<Vec<u64>, InvalidRule> {
        let added: Vec<Rule> = rules.into_iter().map(Rule::checked).collect::<Result<_, _>>()?;
        let mut rules = self.lock();
        let mut ids = Vec::new();
        for rule in added {
            rules.last_id += 1;
            let (id, rng) = (rules.last_id, StdRng::seed_from_u64(rule.seed));
            rules.active.push(Active { id, rule, rng, occasions: 0, fired: 0 });
            ids.push(id);
        }
        self.arm(&rules);
        Ok(ids)
    }

    /// Removes all rules. What they have begun, such as a stream that hangs, goes on.
    pub fn clear(&self) {
        let mut rules = self.lock();
        rules.active.clear();
        self.arm(&rules);
    }

    /// The rules, with how often each has fired. One that has fired as often as it may stays here.
    pub fn list(&self) -> Vec<RuleReport> {
        let report = |it: &Active| RuleReport {
            id: it.id,
            rule: it.rule.clone(),
            occasions: it.occasions,
            fired: it.fired,
        };
        self.lock().active.iter().map(report).collect()
    }

    /// Whether some rule waits for this occasion.
    pub(super) fn is_armed(&self, occasion: Occasion) -> bool {
        self.armed.load(Ordering::Relaxed) & occasion.bit() != 0
    }

    /// The fault that strikes now, if one does. Rules are asked in their order, and the first that fires wins.
    pub(super) fn strike(&self, occasion: Occasion, table: Option<&TableName>) -> Option<Fault> {
        self.strike_where(occasion, table, |_| true)
    }

    /// As [`Faults::strike`], among the rules whose fault is one of these.
    pub(super) fn strike_where(
        &self,
        occasion: Occasion,
        table: Option<&TableName>,
        is_meant: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        if !self.is_armed(occasion) {
            return None;
        }
        let mut rules = self.lock();
        let waiting = rules.active.iter_mut().filter(|it| {
            it.rule.fault.occasion() == occasion && it.rule.is_about(table) && is_meant(&it.rule.fault)
        });
        let fault = waiting.filter(|it| it.can_fire()).find_map(Active::occasion);
        if fault.is_some() {
            self.arm(&rules);
        }
        fault
    }

    fn arm(&self, rules: &Rules) {
        let waiting = rules.active.iter().filter(|it| it.can_fire());
        let bits = waiting.fold(0, |bits, it| bits | it.rule.fault.occasion().bit());
        self.armed.store(bits, Ordering::Relaxed);
    }

    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of.
    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    fn can_fire(&self) -> bool {
        self.rule.times.is_none_or(|times| self.fired < times)
    }

    /// Counts an occasion; the fault, if it is used.
    fn occasion(&mut self) -> Option<Fault> {
        self.occasions += 1;
        let is_due = self.occasions > self.rule.after && self.rng.random_bool(self.rule.probability);
        is_due.then(|| {
            self.fired += 1;
            self.rule.fault.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(rules: impl IntoIterator<Item = Rule>) -> Faults {
        let faults = Faults::default();
        faults.add(rules).unwrap();
        faults
    }

    fn strikes(faults: &Faults, count: usize) -> Vec<bool> {
        (0..count).map(|_| faults.strike(Occasion::Open, None).is_some()).collect()
    }

    #[test]
    fn a_rule_skips_the_first_occasions_and_fires_as_often_as_it_may() {
        let faults = faults([Rule::new(Fault::HangOpen {}).after(2).times(3)]);
        assert_eq!(strikes(&faults, 7), [false, false, true, true, true, false, false]);
        assert!(!faults.is_armed(Occasion::Open), "a rule that is used up costs nothing");
        let report = &faults.list()[0];
        assert_eq!((report.occasions, report.fired), (5, 3));
    }

    #[test]
    fn chance_is_repeated_by_the_same_seed() {
        let of = |seed| strikes(&faults([Rule::new(Fault::HangOpen {}).probability(0.5, seed)]), 200);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let fired = of(1).into_iter().filter(|fired| *fired).count();
        assert!((50..150).contains(&fired), "{fired} of 200");
    }

    #[test]
    fn a_rule_about_one_table_leaves_the_others_alone() {
        let table: TableName = "a.b.c".parse().unwrap();
        let faults = faults([Rule::new(Fault::HangOpen {}).table(table.clone())]);
        assert!(faults.strike(Occasion::Open, Some(&"a.b.d".parse().unwrap())).is_none());
        assert!(faults.strike(Occasion::Request, Some(&table)).is_none());
        assert!(faults.strike(Occasion::Open, Some(&table)).is_some());
        faults.clear();
        assert!(faults.strike(Occasion::Open, Some(&table)).is_none());
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_first_rule_that_fires_wins() {
        let faults = faults([
            Rule::new(Fault::HangOpen {}).times(1),
            Rule::new(Fault::FailOpen { refusal: Refusal::new(tonic::Code::Internal) }),
        ]);
        assert!(matches!(faults.strike(Occasion::Open, None), Some(Fault::HangOpen {})));
        assert!(matches!(faults.strike(Occasion::Open, None), Some(Fault::FailOpen { .. })));
        assert_eq!(faults.list()[1].occasions, 1);
    }
}
