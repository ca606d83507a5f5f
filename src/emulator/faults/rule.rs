//! A rule: which fault, for which table, how often; and what of a rule is refused.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fault::Fault;
use crate::types::TableName;

/// When a fault is to strike. Without anything said it strikes always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// For which table; without it for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableName>,
    /// How often; without it for ever.
    #[serde(default)]
    pub times: Option<u64>,
    /// How many occasions it lets pass first.
    #[serde(default)]
    pub after: u64,
    /// How likely it strikes on each occasion after that, from 0 to 1.
    #[serde(default = "certain")]
    pub probability: f64,
    /// What its random numbers begin with.
    #[serde(default)]
    pub seed: u64,
}

fn certain() -> f64 {
    1.0
}

/// A rule that makes no sense. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rule is not understood: {reason}; docs/emulator.md lists all faults with their fields")]
pub struct InvalidRule {
    /// What is wrong with it.
    pub reason: String,
}

impl Rule {
    /// This fault, always.
    pub fn new(fault: Fault) -> Rule {
        Rule { fault, table: None, times: None, after: 0, probability: 1.0, seed: 0 }
    }

    /// The same, for this table only.
    #[must_use]
    pub fn table(self, table: TableName) -> Rule {
        Rule { table: Some(table), ..self }
    }

    /// The same, so often only.
    #[must_use]
    pub fn times(self, times: u64) -> Rule {
        Rule { times: Some(times), ..self }
    }

    /// The same, after so many occasions that pass.
    #[must_use]
    pub fn after(self, after: u64) -> Rule {
        Rule { after, ..self }
    }

    /// The same by chance, with random numbers that begin with this seed.
    #[must_use]
    pub fn probability(self, probability: f64, seed: u64) -> Rule {
        Rule { probability, seed, ..self }
    }

    pub(super) fn is_about(&self, table: Option<&TableName>) -> bool {
        self.table.is_none() || self.table.as_ref() == table
    }

    pub(super) fn checked(self) -> Result<Rule, InvalidRule> {
        let wrong = |reason: String| Err(InvalidRule { reason });
        if !(0.0..=1.0).contains(&self.probability) {
            return wrong(format!("probability is {}, allowed is: 0 to 1", self.probability));
        }
        if self.table.is_some() && !self.fault.occasion().has_table() {
            return wrong("connections and tokens belong to no table, leave table out".to_owned());
        }
        match &self.fault {
            Fault::RejectRecords { condition } => match condition.problem() {
                Some(problem) => wrong(problem),
                None => Ok(self),
            },
            Fault::FailToken { status, .. } | Fault::FailCatalog { status, .. }
                if !(300..600).contains(status) =>
            {
                wrong(format!("status is {status}, allowed is: 300 to 599"))
            }
            _ => Ok(self),
        }
    }

    /// Reads a rule from JSON, in which a name that is nobody's is an error.
    pub(crate) fn from_json(value: Value) -> Result<Rule, InvalidRule> {
        let invalid = |reason: String| InvalidRule { reason };
        let Value::Object(given) = value else {
            return Err(invalid("it must be an object with the name of a fault in \"fault\"".to_owned()));
        };
        let rule: Rule = serde_json::from_value(Value::Object(given.clone()))
            .map_err(|error| invalid(error.to_string()))?;
        let known = serde_json::to_value(&rule).map_err(|error| invalid(error.to_string()))?;
        match unknown_name(&given, &known) {
            Some(name) => Err(invalid(format!("{name:?} is no field of it"))),
            None => rule.checked(),
        }
    }
}

/// A name with a value that the rule did not take in.
fn unknown_name<'a>(given: &'a Map<String, Value>, known: &Value) -> Option<&'a String> {
    given
        .iter()
        .find(|(name, value)| !value.is_null() && known.get(name.as_str()).is_none())
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Rule, String> {
        Rule::from_json(value).map_err(|error| error.reason)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for value in [
            json!({"fault": "refuse_connection"}),
            json!({"fault": "hang_connection", "times": 2}),
            json!({"fault": "reset_connection", "after_bytes": 1000, "after": 1}),
            json!({"fault": "hang_open", "table": "a.b.c"}),
            json!({"fault": "fail_open", "code": "UNAVAILABLE", "message": "x", "retry_after_ms": 50}),
            json!({"fault": "hang_stream", "probability": 0.5, "seed": 7}),
            json!({"fault": "fail_stream", "code": "OK", "error_code": 6006}),
            json!({"fault": "close_signal", "grace_ms": 100}),
            json!({"fault": "drop_ack"}),
            json!({"fault": "drop_ack", "reset": true}),
            json!({"fault": "cut_request", "rows": 3}),
            json!({"fault": "reject_records", "column": "id", "equals": 7}),
            json!({"fault": "reject_records", "column": "id", "is_null": true}),
            json!({"fault": "reject_records", "column": "id", "greater_than": 1.5}),
            json!({"fault": "delay_acks", "delay_ms": 10}),
            json!({"fault": "withhold_acks"}),
            json!({"fault": "fail_token", "status": 429, "retry_after_secs": 1}),
            json!({"fault": "hang_token"}),
            json!({"fault": "expire_token", "after_ms": 1000, "claim_secs": 3600}),
            json!({"fault": "fail_catalog", "status": 503}),
            json!({"fault": "hang_catalog"}),
        ] {
            let rule = read(value.clone()).unwrap_or_else(|reason| panic!("{value}: {reason}"));
            assert_eq!(read(serde_json::to_value(&rule).unwrap()), Ok(rule), "{value}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (value, named) in [
            (json!("refuse_connection"), "fault"),
            (json!({"fault": "refuse"}), "refuse_connection"),
            (json!({"fault": "hang_open", "tables": "a.b.c"}), "tables"),
            (json!({"fault": "hang_open", "table": "a.b"}), "table"),
            (json!({"fault": "fail_open"}), "code"),
            (json!({"fault": "fail_open", "code": "unavailable"}), "UNAVAILABLE"),
            (json!({"fault": "refuse_connection", "table": "a.b.c"}), "table"),
            (json!({"fault": "hang_open", "probability": 2}), "probability"),
            (json!({"fault": "reject_records", "column": "id"}), "equals"),
            (json!({"fault": "fail_token", "status": 200}), "status"),
        ] {
            let reason = read(value.clone()).expect_err(&value.to_string());
            assert!(reason.contains(named), "{value}: {reason}");
        }
    }
}
