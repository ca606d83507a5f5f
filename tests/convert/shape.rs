//! What a column of a generated batch is: its Arrow type, and the type of the table's column that it goes into.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use arrow_zerobus_sdk_wrapper::convert::{DeltaType, TableColumn};

use crate::choices::Choices;
use crate::types::{self, Extension};

/// The type of some values, in Arrow and in the table.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Null { target: DeltaType },
    Scalar { data_type: DataType, extension: Extension, target: DeltaType },
    Struct(Record),
    List(Layout, Box<Part>),
    Map { key: Box<Part>, value: Box<Part> },
    Keyed { key: DataType, values: Box<Shape> },
    Runs { end: DataType, values: Box<Shape> },
}

/// How a list lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    List,
    LargeList,
    ListView,
    LargeListView,
    FixedSize(usize),
}

/// The elements of a list, or the keys or values of a map.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) nullable: bool,
    pub(crate) shape: Shape,
}

/// The columns of a batch, or the fields of a struct.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// In the order of the batch.
    pub(crate) members: Vec<Member>,
    /// In the order of the table.
    pub(crate) columns: Vec<Place>,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Whether Arrow says so.
    pub(crate) nullable: bool,
    pub(crate) shape: Shape,
}

/// A column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) column: TableColumn,
    /// Which of the members goes into it; none leaves it out.
    pub(crate) member: Option<usize>,
}

/// What the table is allowed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// What follows from the batch.
    Unknown,
    Known,
}

impl Shape {
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Shape::Null { .. } => DataType::Null,
            Shape::Scalar { data_type, .. } => data_type.clone(),
            Shape::Struct(record) => DataType::Struct(record.fields()),
            Shape::List(layout, element) => {
                let element = Arc::new(element.field("item"));
                match layout {
                    Layout::List => DataType::List(element),
                    Layout::LargeList => DataType::LargeList(element),
                    Layout::ListView => DataType::ListView(element),
                    Layout::LargeListView => DataType::LargeListView(element),
                    Layout::FixedSize(len) => DataType::FixedSizeList(element, *len as i32),
                }
            }
            Shape::Map { key, value } => {
                let entry = Fields::from(vec![key.field("keys"), value.field("values")]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
            }
            Shape::Keyed { key, values } => {
                DataType::Dictionary(Box::new(key.clone()), Box::new(values.data_type()))
            }
            Shape::Runs { end, values } => DataType::RunEndEncoded(
                Arc::new(Field::new("run_ends", end.clone(), false)),
                Arc::new(Field::new("values", values.data_type(), true)),
            ),
        }
    }

    pub(crate) fn delta_type(&self) -> DeltaType {
        let boxed = |part: &Part| Box::new(part.shape.delta_type());
        match self {
            Shape::Null { target } | Shape::Scalar { target, .. } => target.clone(),
            Shape::Struct(record) => DeltaType::Struct(record.table_columns()),
            Shape::List(_, element) => DeltaType::Array { element: boxed(element) },
            Shape::Map { key, value } => DeltaType::Map { key: boxed(key), value: boxed(value) },
            Shape::Keyed { values, .. } | Shape::Runs { values, .. } => values.delta_type(),
        }
    }

    /// The extension stands on the field, in front of keys and runs.
    fn extension(&self) -> Extension {
        match self {
            Shape::Scalar { extension, .. } => *extension,
            Shape::Keyed { values, .. } | Shape::Runs { values, .. } => values.extension(),
            _ => None,
        }
    }

    pub(crate) fn field(&self, name: &str, nullable: bool) -> Field {
        types::field(name, self.data_type(), nullable, self.extension())
    }

    /// Whether all of its values are nothing; neither Arrow nor the plan takes such a column as NOT NULL.
    fn is_null(&self) -> bool {
        match self {
            Shape::Null { .. } => true,
            Shape::Keyed { values, .. } | Shape::Runs { values, .. } => values.is_null(),
            _ => false,
        }
    }

    /// Whether there is a map in it, whose entries a reader may put into any order.
    pub(crate) fn has_map(&self) -> bool {
        match self {
            Shape::Map { .. } => true,
            Shape::Struct(record) => record.members.iter().any(|member| member.shape.has_map()),
            Shape::List(_, element) => element.shape.has_map(),
            Shape::Keyed { values, .. } | Shape::Runs { values, .. } => values.has_map(),
            _ => false,
        }
    }
}

impl Part {
    pub(crate) fn field(&self, name: &str) -> Field {
        self.shape.field(name, self.nullable)
    }
}

impl Record {
    pub(crate) fn fields(&self) -> Fields {
        self.members.iter().map(|member| member.shape.field(&member.name, member.nullable)).collect()
    }

    pub(crate) fn table_columns(&self) -> Vec<TableColumn> {
        self.columns.iter().map(|place| place.column.clone()).collect()
    }

    /// Columns of any types that hold at most `depth` types inside of one another.
    pub(crate) fn any(choices: &mut Choices, columns_max: usize, depth: usize, table: Table) -> Record {
        let members: Vec<Member> = (0..=choices.below(columns_max))
            .map(|n| {
                let name = format!("{}{n}", choices.pick(&["a", "Bc", "d_e", "_f"]));
                let shape = Shape::any(choices, depth, table, Nesting::Any);
                Member { name, nullable: shape.is_null() || !choices.one_in(4), shape }
            })
            .collect();
        let mut columns: Vec<Place> =
            members.iter().enumerate().map(|(n, member)| Place::of(n, member, choices, table)).collect();
        if table == Table::Known {
            for n in 0..choices.below(3) {
                let at = choices.below(columns.len() + 1);
                columns.insert(at, Place::absent(n, choices));
            }
            for n in 1..columns.len() {
                columns.swap(n, n - choices.below(n + 1));
            }
        }
        for (number, place) in (1..).zip(&mut columns) {
            place.column.number = number;
        }
        Record { members, columns }
    }

    /// Numbers as they are after columns were dropped from a table.
    pub(crate) fn leave_gaps(&mut self, choices: &mut Choices) {
        let mut gap = 0;
        for place in &mut self.columns {
            gap += *choices.pick(&[0, 0, 1, 14, 2_047]);
            place.column.number += gap;
        }
    }
}

impl Place {
    fn of(n: usize, member: &Member, choices: &mut Choices, table: Table) -> Place {
        let (mut name, mut nullable) = (member.name.clone(), member.nullable);
        if table == Table::Known {
            // Delta does not tell names apart by case.
            if choices.one_in(4) {
                name = name.to_ascii_uppercase();
            }
            nullable = member.shape.is_null() || !choices.one_in(4);
        }
        let delta_type = member.shape.delta_type();
        Place { column: TableColumn { name, number: 0, delta_type, nullable }, member: Some(n) }
    }

    fn absent(n: usize, choices: &mut Choices) -> Place {
        let delta_type = choices.pick(&types::delta_scalars()).clone();
        let name = format!("absent{n}");
        Place { column: TableColumn { name, number: 0, delta_type, nullable: true }, member: None }
    }
}

/// What a type stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Any,
    /// Directly in a list or map, where no other one may be.
    Single,
    Key,
}

impl Shape {
    fn any(choices: &mut Choices, depth: usize, table: Table, nesting: Nesting) -> Shape {
        const INTEGERS: [DataType; 8] = [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
        ];
        if table == Table::Known && nesting != Nesting::Key && choices.one_in(30) {
            return Shape::Null { target: choices.pick(&types::delta_scalars()).clone() };
        }
        let part = |choices: &mut Choices, nesting| {
            let shape = Shape::any(choices, depth - 1, table, nesting);
            let nullable = nesting != Nesting::Key && (shape.is_null() || !choices.one_in(4));
            Box::new(Part { nullable, shape })
        };
        match choices.below(12) {
            6 if depth > 0 => {
                let values = Shape::any(choices, depth - 1, table, nesting);
                // Keys of one byte run out when lists hold hundreds of different values.
                let are_few = matches!(&values, Shape::Scalar { data_type: DataType::Boolean, .. });
                let wide = |key: &&DataType| !matches!(key, DataType::Int8 | DataType::UInt8);
                let keys: Vec<DataType> =
                    INTEGERS.iter().filter(|key| are_few || wide(key)).cloned().collect();
                let key = choices.pick(&keys).clone();
                Shape::Keyed { key, values: Box::new(values) }
            }
            7 if depth > 0 => {
                let end = choices.pick(&[DataType::Int32, DataType::Int16, DataType::Int64]).clone();
                Shape::Runs { end, values: Box::new(Shape::any(choices, depth - 1, table, nesting)) }
            }
            8 | 9 if depth > 0 && nesting != Nesting::Key => {
                Shape::Struct(Record::any(choices, 3, depth - 1, table))
            }
            10 if depth > 0 && nesting == Nesting::Any => {
                let fixed = Layout::FixedSize(1 + choices.below(3));
                let layouts =
                    [Layout::List, Layout::LargeList, Layout::ListView, Layout::LargeListView, fixed];
                Shape::List(*choices.pick(&layouts), part(choices, Nesting::Single))
            }
            11 if depth > 0 && nesting == Nesting::Any => {
                let key = part(choices, Nesting::Key);
                Shape::Map { key, value: part(choices, Nesting::Single) }
            }
            _ => loop {
                let (data_type, extension, target) = types::scalar(choices, table == Table::Known);
                // Two texts may be one decimal key, so the conversion wants numbers there.
                let is_vague = types::is_text(&data_type) && matches!(target, DeltaType::Decimal { .. });
                if nesting != Nesting::Key || types::is_key(&target) && !is_vague {
                    return Shape::Scalar { data_type, extension, target };
                }
            },
        }
    }
}
