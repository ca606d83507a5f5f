//! What tests see of records: read back by `prost-reflect`, as text.

use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use super::{Plan, Records};

/// Each record with the fields that it has, in the order of their numbers: `a=[1 2] b={c=x}`.
pub(super) fn read_back(plan: &Plan, records: &Records) -> Vec<String> {
    let file = FileDescriptorProto {
        name: Some("record.proto".to_owned()),
        message_type: vec![plan.descriptor().clone()],
        ..Default::default()
    };
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: vec![file] }).unwrap();
    let descriptor = pool.get_message_by_name(plan.descriptor().name()).unwrap();
    let record = |index| {
        let message = DynamicMessage::decode(descriptor.clone(), records.record(index)).unwrap();
        assert_eq!(message.unknown_fields().count(), 0);
        shown(&message)
    };
    (0..records.len()).map(record).collect()
}

fn shown(message: &DynamicMessage) -> String {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|(field, _)| field.number());
    fields
        .iter()
        .map(|(field, value)| format!("{}={}", field.name(), shown_value(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Message(value) => format!("{{{}}}", shown(value)),
        Value::List(values) => format!("[{}]", values.iter().map(shown_value).collect::<Vec<_>>().join(" ")),
        Value::Map(entries) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key:?}:{}", shown_value(value))).collect();
            entries.sort();
            entries.join(" ")
        }
        other => format!("{other:?}"),
    }
}
