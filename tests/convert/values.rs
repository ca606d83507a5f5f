//! Arbitrary batches of arbitrary schemas, with and without a table: every good row comes out of an independent
//! protobuf reader value by value, every other row is refused with its column and reason, and nothing else happens.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema};
use arrow_zerobus_sdk_wrapper::convert::{
    Encoded, NullList, Plan, Policies, Records, TableSchema, TimestampNs,
};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::DynamicMessage;

use crate::cells::{Cell, Cells};
use crate::choices::{Choices, choices};
use crate::oracle::{self, Counts};
use crate::reader;
use crate::shape::{Record, Table};

/// A batch, the table that it goes into, and what is known of both.
struct Case {
    record: Record,
    table: Table,
    policies: Policies,
    rows: Vec<Cell>,
    batch: RecordBatch,
    /// Where the rows are cut into ranges.
    cuts: Vec<usize>,
}

impl Case {
    fn new(choices: &mut Choices) -> Case {
        let table = if choices.one_in(3) { Table::Unknown } else { Table::Known };
        let policies = Policies {
            timestamp_ns: *choices.pick(&[TimestampNs::Floor, TimestampNs::Error]),
            null_list: *choices.pick(&[NullList::Empty, NullList::Error]),
        };
        // Now and then more rows than there are in a chunk, and more columns than keys of one byte.
        let any = choices.below(30);
        let len = *choices.pick(&[any, any, any, any, 1, 0, 64 + 10 * any]);
        let (columns_max, depth) = *choices.pick(&[(4, 3), (3, 4), (20, 1), (1, 5), (5, 2)]);
        let depth = if len > 40 { depth.min(2) } else { depth };
        let mut record = Record::any(choices, columns_max, depth, table);
        if table == Table::Known {
            record.leave_gaps(choices);
        }
        let wild = *choices.pick(&[0, 20, 0, 5, 100]);
        let mut cells = Cells { choices, policies, wild };
        // A careless producer sends nulls in columns that are NOT NULL; the schema of its batch allows it.
        let mut loose = record.clone();
        loose.members.iter_mut().for_each(|member| member.nullable |= wild > 0);
        let rows = cells.rows(&loose, len);
        let columns = cells.columns(&loose, &rows);
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let schema = Arc::new(Schema::new(loose.fields()));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options).unwrap();
        let mut cuts: Vec<usize> = (0..choices.below(4)).map(|_| choices.below(len + 1)).collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
        Case { record, table, policies, rows, batch, cuts }
    }

    fn plan(&self) -> Plan {
        let table = TableSchema { columns: self.record.table_columns() };
        let table = (self.table == Table::Known).then_some(&table);
        let fields: Vec<Arc<Field>> = self.record.fields().iter().cloned().collect();
        Plan::new(&Schema::new(fields), table, self.policies).unwrap()
    }

    fn has_map(&self) -> bool {
        self.record.members.iter().any(|member| member.shape.has_map())
    }
}

/// Checks one range of rows, encoded by itself.
fn check(case: &Case, plan: &Plan, rows: Range<usize>) -> Result<(Records, Encoded), String> {
    let reader = reader(plan);
    let mut records = Records::new();
    let encoded = plan.encode(&case.batch, rows.clone(), &mut records);
    let mut refused = encoded.refused.iter();
    let mut next_record = 0;
    let mut counts = Counts::default();
    for row in rows {
        let cell = &case.rows[row];
        if let Some(wanted) = oracle::row_fault(&case.record, cell, case.policies) {
            let found = refused.next().map(|error| (error.row, error.column.clone(), error.reason));
            if found != Some((row, wanted.path.clone(), wanted.reason)) {
                return Err(format!("row {row} must be refused by {wanted:?}, found {found:?}"));
            }
            continue;
        }
        if next_record == records.len() {
            return Err(format!("row {row} is missing; refused: {:?}", encoded.refused));
        }
        let record = records.record(next_record);
        next_record += 1;
        let wanted = oracle::row_wanted(&case.record, cell, case.policies, &mut counts);
        let message = DynamicMessage::decode(reader.clone(), record).map_err(|error| error.to_string())?;
        oracle::check(&wanted, &message).map_err(|text| format!("row {row}, {text}"))?;
        if !case.has_map() && message.encode_to_vec() != record {
            return Err(format!("row {row} is not in the canonical form"));
        }
    }
    if let Some(error) = refused.next() {
        return Err(format!("refused without need: {error}"));
    }
    if next_record != records.len() {
        return Err("more records than rows".to_owned());
    }
    let found = Counts { floored: encoded.floored_timestamps, emptied: encoded.emptied_lists };
    if found != counts {
        return Err(format!("counted {found:?} instead of {counts:?}"));
    }
    Ok((records, encoded))
}

/// All records, one after the other.
fn all(records: &Records) -> Vec<Vec<u8>> {
    (0..records.len()).map(|index| records.record(index).to_vec()).collect()
}

proptest! {
    #![proptest_config(crate::config(1_500))]

    #[test]
    fn what_is_encoded_is_decoded_value_by_value_and_the_rest_is_refused(mut choices in choices()) {
        let case = Case::new(&mut choices);
        let plan = case.plan();
        let context = || format!("{:#?}\n{:#?}\n{:?}", case.record, case.rows, case.policies);
        let checked = check(&case, &plan, 0..case.rows.len());
        let (records, encoded) = checked.map_err(|text| TestCaseError::fail(format!("{text}\n{}", context())))?;

        let mut appended = Records::new();
        let mut refused = Vec::new();
        for range in case.cuts.windows(2) {
            refused.extend(plan.encode(&case.batch, range[0]..range[1], &mut appended).refused);
        }
        prop_assert_eq!(all(&appended), all(&records), "in several ranges");
        prop_assert_eq!(refused, encoded.refused, "in several ranges");
    }

    #[test]
    fn a_slice_of_a_batch_is_a_batch(mut choices in choices()) {
        let case = Case::new(&mut choices);
        let plan = case.plan();
        let first = choices.below(case.rows.len() + 1);
        let len = choices.below(case.rows.len() + 1 - first);
        let (mut of_slice, mut of_batch) = (Records::new(), Records::new());
        let slice = plan.encode(&case.batch.slice(first, len), 0..len, &mut of_slice);
        let batch = plan.encode(&case.batch, first..first + len, &mut of_batch);
        prop_assert_eq!(all(&of_slice), all(&of_batch));
        let rows = |encoded: &Encoded, first| {
            encoded.refused.iter().map(|error| (error.row - first, error.reason)).collect::<Vec<_>>()
        };
        prop_assert_eq!(rows(&slice, 0), rows(&batch, first));
    }
}
