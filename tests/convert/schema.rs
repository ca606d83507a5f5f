//! Which schemas are refused, against which tables, and what the user is told.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_zerobus_sdk_wrapper::convert::{ConversionError, Plan, Policies, TableColumn, TableSchema};
use arrow_zerobus_sdk_wrapper::error::{Coded, ErrorCode};
use tracing::field::Visit;
use tracing::{Event, Metadata, Subscriber, span};

use crate::types;

fn refusal(fields: Vec<Field>) -> ConversionError {
    Plan::new(&Schema::new(fields), None, Policies::default()).unwrap_err()
}

#[test]
fn an_unsupported_type_is_refused_with_its_column_its_name_and_what_to_do() {
    let item = |data_type: DataType| Arc::new(Field::new("item", data_type, true));
    let boxed = |data_type: DataType| Box::new(data_type);
    let int32_list = || DataType::List(item(DataType::Int32));
    let types = [
        (DataType::Decimal256(39, 2), "Decimal256(39, 2)", "cast the column to Utf8"),
        (DataType::Time64(TimeUnit::Nanosecond), "Time64", "Int64"),
        (DataType::Duration(TimeUnit::Second), "Duration", "Int64"),
        (DataType::Null, "Null", "leave it out"),
        (DataType::LargeList(item(int32_list())), "LargeList", "wrap the inner list or map in a struct"),
        (DataType::Dictionary(boxed(DataType::Int8), boxed(DataType::Null)), "Null", "leave it out"),
    ];
    for (arrow_type, type_text, advice) in types {
        let good = Field::new("good", DataType::Utf8, true);
        let error = refusal(vec![good, Field::new("odd_one", arrow_type.clone(), true)]);
        let text = error.to_string();
        for part in ["column \"odd_one\"", type_text, "which cannot be converted; ", advice] {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        assert!(
            matches!(error, ConversionError::UnsupportedType { arrow_type: named, .. } if named == arrow_type)
        );
    }
    let inner = DataType::Struct(vec![Field::new("b", DataType::Time32(TimeUnit::Second), true)].into());
    let text = refusal(vec![Field::new("a", DataType::ListView(item(inner)), true)]).to_string();
    assert!(text.contains("column \"a.element.b\""), "{text}");
}

#[test]
fn a_schema_that_no_table_can_have_is_refused() {
    let field = |name: &str| Field::new(name, DataType::Int32, true);
    assert_eq!(refusal(vec![]), ConversionError::NoColumns);
    let many: Vec<Field> = (0..2_001).map(|i| field(&format!("c{i}"))).collect();
    assert!(Plan::new(&Schema::new(many[..2_000].to_vec()), None, Policies::default()).is_ok());
    let too_many = ConversionError::TooManyColumns { columns: 2_001, columns_max: 2_000 };
    assert_eq!(refusal(many), too_many);
    assert_eq!(too_many.code(), ErrorCode::Conversion);
    assert_eq!(
        refusal(vec![field("id"), field("b"), field("ID")]),
        ConversionError::DuplicateColumnName { column: "ID".to_owned(), first: 0, second: 2 }
    );
    for name in ["", "1st", "a b", "a-b", "gr\u{f6}\u{df}e", "a.b"] {
        let error = refusal(vec![field("a"), field(name)]);
        let is_named = matches!(
            &error,
            ConversionError::InvalidColumnName { column, position: 1, .. } if column == name
        );
        assert!(is_named, "{error}");
    }
    let schema = Schema::new(vec![field("_1"), field("Ab_9")]);
    assert!(Plan::new(&schema, None, Policies::default()).is_ok());
}

#[test]
fn a_type_goes_into_the_types_that_hold_all_of_it_and_into_no_other() {
    for (data_type, extension) in types::scalar_types() {
        let schema = Schema::new(vec![types::field("a", data_type.clone(), true, extension)]);
        let derived = TableSchema::from_arrow(&schema).map(|table| table.columns[0].delta_type.clone());
        assert_eq!(derived.ok(), types::default_type(&data_type, extension), "{data_type} {extension:?}");
        for delta_type in types::delta_scalars() {
            let column = TableColumn {
                name: "a".to_owned(),
                number: 1,
                delta_type: delta_type.clone(),
                nullable: true,
            };
            let plan = Plan::new(&schema, Some(&TableSchema { columns: vec![column] }), Policies::default());
            let is_lossless = types::is_lossless(&data_type, extension, &delta_type);
            assert_eq!(plan.is_ok(), is_lossless, "{data_type} {extension:?} into {delta_type}");
            if let Err(error) = plan {
                let is_named = matches!(
                    &error,
                    ConversionError::UnsupportedType { column, delta_type: Some(named), .. }
                        if column == "a" && *named == delta_type
                );
                assert!(is_named, "{error}");
            }
        }
    }
}

#[test]
fn an_extension_type_that_means_nothing_is_logged_once_for_its_column() {
    let field = |name, extension| types::field(name, DataType::Binary, true, Some(extension));
    let item = Arc::new(field("item", "geoarrow.wkb"));
    let schema = Schema::new(vec![
        Field::new("places", DataType::List(item), true),
        types::field("id", DataType::FixedSizeBinary(16), true, Some(types::UUID)),
        field("odd", "arrow.opaque"),
    ]);
    let log = Log::default();
    let plan = || Plan::new(&schema, None, Policies::default()).unwrap();
    tracing::subscriber::with_default(log.clone(), plan);
    let said = |column: &str, extension: &str| {
        format!(
            "INFO an extension type is sent as what it is stored as column={column:?} extension={extension:?}"
        )
    };
    let wanted = [said("places.element", "geoarrow.wkb"), said("odd", "arrow.opaque")];
    assert_eq!(*log.0.lock().unwrap(), wanted);
}

/// What is logged, a line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        self.0.lock().unwrap().push(format!("{} {}{}", event.metadata().level(), line.message, line.fields));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}
