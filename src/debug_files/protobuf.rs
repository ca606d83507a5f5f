//! What a batch is in the file of records: what the service would get of it, as the table is known now.

use std::sync::Arc;

use super::descriptor::file_set;
use super::series::{Opening, Series, SeriesError};
use crate::catalog::KnownTable;
use crate::convert::{ConversionError, Plan, Policies, Records};
use crate::error::chain;
use crate::recent::Recent;
use crate::types::TableName;
use crate::wal::{FrameCopy, SchemaFingerprint};

/// Programs with more kinds of batches at a time plan some of them again.
const PLANS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct RecordFile {
    pub(super) series: Series,
    name: TableName,
    table: Arc<KnownTable>,
    policies: Policies,
    plans: Recent<Planned>,
    records: Records,
}

#[derive(Debug)]
struct Planned {
    fingerprint: SchemaFingerprint,
    /// Of what was known of the table.
    table_version: u64,
    /// None for a schema that does not fit.
    plan: Option<(Plan, Opening)>,
}

impl RecordFile {
    pub(super) fn new(
        series: Series,
        name: TableName,
        table: Arc<KnownTable>,
        policies: Policies,
    ) -> RecordFile {
        RecordFile { series, name, table, policies, plans: Recent::new(PLANS_MAX), records: Records::new() }
    }

    /// Adds the rows that convert, each behind its length.
    ///
    /// # Errors
    ///
    /// As [`Series::add`].
    pub(super) fn add(&mut self, frame: &FrameCopy) -> Result<(), SeriesError> {
        let batch = match frame.decode() {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(error = chain(&error), "a batch is left out of the debug file of records");
                return Ok(());
            }
        };
        let known = self.table.now();
        let (fingerprint, table_version) = (frame.fingerprint(), known.version);
        let is_wanted = |it: &Planned| it.fingerprint == fingerprint && it.table_version == table_version;
        if self.plans.find(is_wanted).is_none() {
            let planned = Plan::new(batch.schema_ref(), known.schema.as_deref(), self.policies);
            let plan = self.described(planned);
            self.plans.add(Planned { fingerprint, table_version, plan });
        }
        let Some(Planned { plan: Some((plan, opening)), .. }) = self.plans.find(is_wanted) else {
            return Ok(());
        };
        self.records.clear();
        let refused = plan.encode(&batch, 0..batch.num_rows(), &mut self.records).refused;
        if let Some(first) = refused.first() {
            let (rows, reason) = (refused.len(), first.to_string());
            tracing::warn!(
                rows,
                reason,
                "rows that do not convert are left out of the debug file of records"
            );
        }
        let mut delimited = Vec::with_capacity(self.records.bytes() + 5 * self.records.len());
        for index in 0..self.records.len() {
            let record = self.records.record(index);
            prost::encoding::encode_varint(record.len() as u64, &mut delimited);
            delimited.extend_from_slice(record);
        }
        self.series.add(opening, [delimited.as_slice()].into_iter())
    }

    fn described(&self, planned: Result<Plan, ConversionError>) -> Option<(Plan, Opening)> {
        let tell = |error: &ConversionError| {
            let reason = error.to_string();
            tracing::warn!(reason, "batches of this schema are left out of the debug file of records");
        };
        let plan = planned.inspect_err(tell).ok()?;
        let beside = file_set(&self.name, plan.descriptor());
        Some((plan, Opening { head: Vec::new(), beside }))
    }
}
