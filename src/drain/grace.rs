//! Schemas that are refused as a whole: how long each may still be waited for, until its frames go into quarantine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::quarantine::Refusal;
use crate::transport::Format;
use crate::wal::SchemaFingerprint;

/// Beyond it the oldest begins anew, should it be refused again.
const SCHEMAS_MAX: usize = 32;

const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// What is refused as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Schema {
    /// Batches that have no plan for the table as it is known.
    Batch(SchemaFingerprint),
    /// Streams of rows of this format, by the service.
    Stream(Format),
}

/// The schemas that are refused now.
#[derive(Debug)]
pub(crate) struct Grace {
    period: Duration,
    /// How often a schema is tried again whose time is over.
    probe_interval: Duration,
    has_any: AtomicBool,
    refused: Mutex<Vec<Refused>>,
}

#[derive(Debug)]
struct Refused {
    schema: Schema,
    since: Instant,
    /// Set when its time is over.
    next_probe: Option<Instant>,
    refusal: Refusal,
}

impl Grace {
    pub(crate) fn new(period: Duration, probe_interval: Duration) -> Grace {
        // Between two probes at least one frame is given up.
        let probe_interval = probe_interval.max(PROBE_INTERVAL_MIN);
        Grace { period, probe_interval, has_any: AtomicBool::new(false), refused: Mutex::default() }
    }

    /// Notes a refusal; how long the schema is still waited for. Nothing: its frames are given up.
    pub(super) fn refused(&self, schema: &Schema, reason: &str, now: Instant) -> Duration {
        let refusal = Refusal::new("schema", reason);
        let mut refused = self.lock();
        let found = refused.iter_mut().find(|it| it.schema == *schema);
        let entry = match found {
            Some(entry) => {
                entry.refusal = refusal;
                entry
            }
            None => {
                if refused.len() == SCHEMAS_MAX {
                    refused.remove(0);
                }
                refused.push(Refused { schema: schema.clone(), since: now, next_probe: None, refusal });
                self.has_any.store(true, Ordering::Release);
                let last = refused.len() - 1;
                &mut refused[last]
            }
        };
        let left = self.period.saturating_sub(now.duration_since(entry.since));
        if left.is_zero() {
            entry.next_probe = Some(now + self.probe_interval);
        }
        left
    }

    /// Whether a refused schema is still waited for.
    #[cfg(feature = "cli")]
    pub(crate) fn is_waiting(&self) -> bool {
        self.lock().iter().any(|refused| refused.next_probe.is_none())
    }

    /// Why the frames of a schema are given up, if they are.
    ///
    /// Batches without a plan are probed by asking the catalog, streams by opening one: then it is time for the next try,
    /// and this says nothing.
    pub(super) fn verdict(&self, is_it: impl Fn(&Schema) -> bool, now: Instant) -> Option<Refusal> {
        if !self.has_any.load(Ordering::Acquire) {
            return None;
        }
        let refused = self.lock();
        let entry = refused.iter().find(|it| is_it(&it.schema))?;
        let is_due = |probe: Instant| matches!(entry.schema, Schema::Stream(_)) && now >= probe;
        entry.next_probe.filter(|probe| !is_due(*probe)).map(|_| entry.refusal.clone())
    }

    /// The schema is accepted.
    pub(super) fn accepted(&self, is_it: impl Fn(&Schema) -> bool) {
        if self.has_any.load(Ordering::Acquire) {
            let mut refused = self.lock();
            refused.retain(|it| !is_it(&it.schema));
            self.has_any.store(!refused.is_empty(), Ordering::Release);
        }
    }

    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of.
    fn lock(&self) -> MutexGuard<'_, Vec<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use prost_types::DescriptorProto;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(300);
    const PROBE: Duration = Duration::from_secs(30);

    fn batch(number: u64) -> Schema {
        Schema::Batch(SchemaFingerprint(number))
    }

    fn stream(name: &str) -> Schema {
        let name = Some(name.to_owned());
        Schema::Stream(Format::Protobuf(DescriptorProto { name, ..DescriptorProto::default() }.into()))
    }

    #[tokio::test]
    async fn the_time_of_a_schema_runs_from_its_first_refusal_and_ends() {
        let (grace, start) = (Grace::new(PERIOD, PROBE), Instant::now());
        let given_up = |schema: &Schema, now| grace.verdict(|it| it == schema, now).is_some();
        assert_eq!(grace.refused(&batch(1), "no", start), PERIOD);
        assert_eq!(grace.refused(&batch(1), "no", start + PROBE), PERIOD - PROBE);
        assert!(!given_up(&batch(1), start + PROBE));
        assert_eq!(grace.refused(&batch(2), "no", start + PERIOD), PERIOD, "another one has its own");
        assert_eq!(grace.refused(&batch(1), "no", start + PERIOD), Duration::ZERO);
        assert!(given_up(&batch(1), start + PERIOD) && !given_up(&batch(2), start + PERIOD));
        assert!(given_up(&batch(1), start + 10 * PERIOD), "the catalog is asked before it is believed");
        grace.accepted(|it| *it == batch(1));
        assert!(!given_up(&batch(1), start + PERIOD));
        assert_eq!(grace.refused(&batch(1), "no", start + PERIOD), PERIOD, "it begins anew");
    }

    #[tokio::test]
    async fn a_stream_that_was_given_up_is_tried_again_now_and_then() {
        let (grace, start) = (Grace::new(Duration::ZERO, PROBE), Instant::now());
        let given_up = |now| grace.verdict(|it| *it == stream("a"), now).is_some();
        assert_eq!(grace.refused(&stream("a"), "no", start), Duration::ZERO);
        assert!(given_up(start) && !given_up(start + PROBE));
        assert_eq!(grace.refused(&stream("a"), "no", start + PROBE), Duration::ZERO);
        assert!(given_up(start + PROBE) && !given_up(start + 2 * PROBE));
        assert!(grace.verdict(|it| *it == stream("b"), start).is_none());
    }

    #[tokio::test]
    async fn many_schemas_take_no_memory_without_end() {
        let (grace, start) = (Grace::new(Duration::ZERO, PROBE), Instant::now());
        for number in 0..1_000 {
            grace.refused(&batch(number), "no", start);
        }
        assert_eq!(grace.lock().len(), SCHEMAS_MAX);
        assert!(grace.verdict(|it| *it == batch(999), start).is_some());
    }
}
