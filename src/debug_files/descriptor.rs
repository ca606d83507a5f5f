//! How the file of records is described to those who read it: a `FileDescriptorSet` that protobuf libraries accept.
//!
//! The descriptor of the service's own client is not one: it has messages with the name of their column, names of types
//! that mean another thing where they are looked up, entries of maps that are called otherwise than protobuf wants it, and
//! a mark of proto3. None of that is in a record, so it is mended here and the records stay as they are.

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::types::TableName;

/// The set with this message, encoded.
pub(super) fn file_set(table: &TableName, message: &DescriptorProto) -> Vec<u8> {
    let name = message.name().to_owned();
    let mut message = message.clone();
    mend(&mut message, &format!(".{name}"), &[]);
    let file = FileDescriptorProto {
        name: Some(format!("{table}.proto")),
        message_type: vec![message],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

/// The messages that can be named at some place: their name in the client's descriptor, and their whole name here.
type Scope = Vec<(String, String)>;

/// `path` is the whole name of the message, and `around` is what can be named around it.
fn mend(message: &mut DescriptorProto, path: &str, around: &[(String, String)]) {
    let mut taken: Vec<String> = message.field.iter().map(|field| field.name().to_owned()).collect();
    let mut scope = Scope::new();
    for nested in &mut message.nested_type {
        let old = nested.name().to_owned();
        let mut new = old.clone();
        while taken.contains(&new) {
            new.push_str("Message");
        }
        taken.push(new.clone());
        scope.push((old, format!("{path}.{new}")));
        nested.name = Some(new);
    }
    let own = scope.len();
    scope.extend_from_slice(around);
    for field in &mut message.field {
        field.proto3_optional = None;
        if let Some(type_name) = &mut field.type_name
            && let Some((_, whole)) = scope.iter().find(|(old, _)| old == type_name)
        {
            type_name.clone_from(whole);
        }
    }
    // The entries of a map are read as what they are on the wire, a repeated message.
    message.options = None;
    let paths: Vec<String> = scope[..own].iter().map(|(_, whole)| whole.clone()).collect();
    for (nested, path) in message.nested_type.iter_mut().zip(paths) {
        mend(nested, &path, &scope);
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::convert::{DeltaType, Plan, Policies, TableColumn, TableSchema};

    fn column(name: &str, number: u32, delta_type: DeltaType) -> TableColumn {
        TableColumn { name: name.to_owned(), number, delta_type, nullable: true }
    }

    #[test]
    fn a_table_with_structs_and_maps_in_one_another_is_described_so_that_libraries_accept_it() {
        let point = DeltaType::Struct(vec![
            column("Point", 1, DeltaType::Long),
            column(
                "tags",
                2,
                DeltaType::Map { key: DeltaType::String.into(), value: DeltaType::Long.into() },
            ),
        ]);
        let map = DeltaType::Map { key: DeltaType::String.into(), value: point.clone().into() };
        let list = DeltaType::Array { element: point.clone().into() };
        let columns = vec![
            column("Point", 1, point.clone()),
            column("PointMessage", 2, point),
            column("m", 3, map),
            column("MEntry", 4, DeltaType::Long),
            column("MValue", 5, DeltaType::Long),
            column("l", 6, list),
        ];
        let table = TableSchema { columns };
        let arrow = arrow_schema::Schema::new(vec![arrow_schema::Field::new(
            "MEntry",
            arrow_schema::DataType::Int64,
            true,
        )]);
        let plan = Plan::new(&arrow, Some(&table), Policies::default()).unwrap();
        let set = file_set(&"a.b.c".parse().unwrap(), plan.descriptor());
        let pool = DescriptorPool::decode(set.as_slice()).unwrap();
        let record = pool.get_message_by_name("Record").unwrap();
        assert_eq!(record.fields().len(), 6);
        for name in ["Point", "PointMessage", "m", "l"] {
            let kind = record.get_field_by_name(name).unwrap().kind();
            let message = kind.as_message().unwrap();
            let wanted = if name == "m" { "value" } else { "tags" };
            assert!(message.get_field_by_name(wanted).is_some(), "{name} is a {}", message.full_name());
        }
        let value = record.get_field_by_name("m").unwrap().kind();
        let value = value.as_message().unwrap().get_field_by_name("value").unwrap().kind();
        assert!(value.as_message().unwrap().get_field_by_name("Point").is_some());
    }
}
