//! The plans of the schemas that came last, so that schemas which take turns are not planned again each time.

use std::sync::{Arc, Mutex, PoisonError};

use super::recipe::Recipe;
use crate::catalog::Known;
use crate::config::TransportKind;
use crate::convert::{ConversionError, Policies};
use crate::recent::Recent;
use crate::wal::{Frame, SchemaFingerprint};

/// Programs with more kinds of batches at a time plan some of them again.
const PLANS_MAX: usize = 32;

/// Plans for the batches of one log. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Plans {
    transport: TransportKind,
    policies: Policies,
    recent: Arc<Mutex<Recent<Planned>>>,
}

#[derive(Debug)]
struct Planned {
    fingerprint: SchemaFingerprint,
    /// Of what was known of the table.
    table_version: u64,
    plan: Arc<Recipe>,
}

impl Plans {
    pub(crate) fn new(transport: TransportKind, policies: Policies) -> Plans {
        Plans { transport, policies, recent: Arc::new(Mutex::new(Recent::new(PLANS_MAX))) }
    }

    /// As what the rows travel.
    pub(super) fn transport(&self) -> TransportKind {
        self.transport
    }

    /// How a frame becomes rows for the table as it is known.
    pub(super) fn of(&self, frame: &Frame, table: &Known) -> Result<Arc<Recipe>, ConversionError> {
        let is_wanted =
            |it: &Planned| it.fingerprint == frame.fingerprint && it.table_version == table.version;
        if let Some(planned) = self.recent().find(is_wanted) {
            return Ok(Arc::clone(&planned.plan));
        }
        let plan =
            Arc::new(Recipe::new(self.transport, &frame.schema, table.schema.as_deref(), self.policies)?);
        let (fingerprint, table_version) = (frame.fingerprint, table.version);
        self.recent().add(Planned { fingerprint, table_version, plan: Arc::clone(&plan) });
        Ok(plan)
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent<Planned>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
