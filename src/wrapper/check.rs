//! Can batches of this schema ever be delivered? Asked before a batch is stored, of the schema alone.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;

use super::{Inner, SendFailure};
use crate::catalog::Known;
use crate::config::{TransportKind, Validate};
use crate::convert::{ArrowPlan, ConversionError, Plan, Policies};
use crate::recent::Recent;

/// Programs with more kinds of batches at a time have some of them checked again.
const SCHEMAS_MAX: usize = 32;

/// Remembers the schemas that were found convertible last: most programs have a few.
#[derive(Debug)]
pub(super) struct CheckedSchemas {
    transport: TransportKind,
    policies: Policies,
    good: Mutex<Good>,
}

/// What is good for one version of what is known of the table.
#[derive(Debug)]
struct Good {
    table_version: u64,
    schemas: Recent<SchemaRef>,
}

impl CheckedSchemas {
    pub(super) fn new(transport: TransportKind, policies: Policies) -> CheckedSchemas {
        let good = Good { table_version: 0, schemas: Recent::new(SCHEMAS_MAX) };
        CheckedSchemas { transport, policies, good: Mutex::new(good) }
    }

    fn check(&self, schema: &SchemaRef, table: &Known) -> Result<(), ConversionError> {
        let is_same = |good: &SchemaRef| Arc::ptr_eq(good, schema) || good == schema;
        {
            let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            if good.table_version != table.version {
                good.table_version = table.version;
                good.schemas.clear();
            }
            if good.schemas.find(is_same).is_some() {
                return Ok(());
            }
        }
        let columns = table.schema.as_deref();
        match self.transport {
            TransportKind::Protobuf => drop(Plan::new(schema, columns, self.policies)?),
            TransportKind::ArrowFlight => drop(ArrowPlan::new(schema, columns, self.policies)?),
        }
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.table_version == table.version {
            good.schemas.add(Arc::clone(schema));
        }
        Ok(())
    }
}

impl Inner {
    /// Whether the user wants a batch of this schema stored, as far as the table is known now.
    pub(super) fn check_as_known(&self, schema: &SchemaRef) -> Result<(), ConversionError> {
        match self.settings.validate {
            Validate::Off => Ok(()),
            _ => self.checked.check(schema, &self.table.now()),
        }
    }

    /// Whether the user wants a batch of this schema stored.
    ///
    /// # Errors
    ///
    /// [`ConversionError`] if it can never be delivered: to the table as it is known, or to any table if nothing is known
    /// of ours. The catalog was asked again then, as far as it can be: the table may have been changed for this batch.
    pub(super) async fn check_schema(&self, schema: &SchemaRef) -> Result<(), SendFailure> {
        match self.check_as_known(schema) {
            Err(_) if self.table.now().schema.is_some() => {
                let table = Box::pin(self.table.reread()).await;
                Ok(self.checked.check(schema, &table)?)
            }
            checked => Ok(checked?),
        }
    }
}
