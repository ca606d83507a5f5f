//! Conversion, from outside: what goes in as Arrow comes out of an independent protobuf reader, value by value.
//!
//! Three readers that share no code with the encoder say that it is right: `prost-reflect` here, the client crate's own
//! descriptors here, and Google's `protobuf` and `deltalake` in `../python/test_conversion.py`. What they must find is
//! generated beside the arrays, never read back from them.
//!
//! | rows of the mapping table | tests |
//! |---|---|
//! | every type that a table or a batch may have, each target, nested in any way, sliced, with nulls | `values::what_is_encoded_is_decoded_value_by_value_and_the_rest_is_refused`, `golden` |
//! | which type goes into which (all pairs), which have no default | `schema::a_type_goes_into_the_types_that_hold_all_of_it_and_into_no_other` |
//! | Null; Time, Duration, Interval and decimals beyond 38 digits without a table; Union; list of lists | `schema::an_unsupported_type_is_refused_with_its_column_its_name_and_what_to_do` |
//! | descriptor rules | `descriptor` |
//! | null and NOT NULL; zero, empty and false are written | `values`, `rows::zero_false_and_empty_are_written_and_null_is_not` |
//! | range checks, policies and their counts | `values` (the oracle has each rule once more), `rows` |
//! | List, Struct, Map, Dictionary, RunEndEncoded in all layouts | `values` on the arrays of `arrays` |
//! | extensions: uuid, bool8, json, variant, an unknown one | `values`, `golden`, `schema` |
//! | bytes that are no variant, values that JSON has not, what is shredded | `variants`, `src/convert/mapping/tests.rs` |
//! | an extension without a meaning is logged | `schema::an_extension_type_that_means_nothing_is_logged_once_for_its_column` |
//! | names: case, order, nullable columns that are missing | `values`; what is refused, `src/convert/mapping/tests.rs` |
//!
//! A failure prints how to make it again; `CONVERT_CASES=n` makes more cases of each property.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod arrays;
mod cells;
mod choices;
mod descriptor;
mod golden;
mod oracle;
mod rows;
mod schema;
mod shape;
mod types;
mod values;
mod variants;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Fields, Schema};
use arrow_zerobus_sdk_wrapper::convert::{Plan, Policies, Records};
use proptest::test_runner::Config as ProptestConfig;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use prost_types::{DescriptorProto, FileDescriptorProto};

/// A property is tried on as many cases as it says, or `CONVERT_CASES`. A failure is made smaller for a while.
fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("CONVERT_CASES").ok().map_or(cases, |cases| cases.parse().unwrap());
    ProptestConfig { cases, max_shrink_time: 15_000, ..ProptestConfig::default() }
}

/// What reads the records of a plan.
///
/// The client crate calls the message of a column `Address` like the column, which the service's parser does not mind and
/// others do. The names are no part of a record, so the reader gets other ones.
fn reader(plan: &Plan) -> MessageDescriptor {
    fn rename(message: &mut DescriptorProto) {
        let other = |name: &mut Option<String>| name.iter_mut().for_each(|name| name.push_str("Message"));
        message.field.iter_mut().for_each(|field| other(&mut field.type_name));
        for nested in &mut message.nested_type {
            other(&mut nested.name);
            rename(nested);
        }
    }
    let mut message = plan.descriptor().clone();
    rename(&mut message);
    let file = FileDescriptorProto {
        name: Some("record.proto".to_owned()),
        message_type: vec![message],
        ..Default::default()
    };
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file).unwrap();
    pool.get_message_by_name(plan.descriptor().name()).unwrap()
}

fn batch(columns: &[(&str, ArrayRef, bool)]) -> RecordBatch {
    let fields =
        columns.iter().map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable));
    let schema = Schema::new(fields.collect::<Fields>());
    RecordBatch::try_new(Arc::new(schema), columns.iter().map(|column| column.1.clone()).collect()).unwrap()
}

fn encode_all(columns: &[(&str, ArrayRef, bool)]) -> Records {
    let batch = batch(columns);
    let mut records = Records::new();
    let errors = Plan::new(batch.schema_ref(), None, Policies::default())
        .unwrap()
        .encode(&batch, 0..batch.num_rows(), &mut records)
        .refused;
    assert_eq!(errors, []);
    records
}
