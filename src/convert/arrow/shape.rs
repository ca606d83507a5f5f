//! How a column is made out of a column: decided once per schema, done per run of rows.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{TimestampMicrosecondType, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, ListArray, MapArray, PrimitiveArray, StructArray, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, TimeUnit};
use arrow_select::take::take;

use super::lists::Lists;
use super::written::written;
use crate::convert::mapping::{Kind, Node, ValueType};
use crate::convert::{DeltaType, TableColumn};

/// How an array becomes one of the wanted type.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Nulls, all of them.
    Null(DataType),
    /// By Arrow's kernel, which is exact for these types. What it cannot convert is no value that anybody sees.
    Cast(DataType),
    /// Nanoseconds become the microsecond in which they lie.
    Floored(DataType),
    /// As the record of it would be read.
    Written(Box<Node>, DataType),
    /// Each field with its position in the source, and how it is made; without one it is null.
    Struct(Fields, Vec<Option<(usize, Shape)>>),
    List(FieldRef, Box<Shape>),
    Map(FieldRef, Fields, Box<[Shape; 2]>),
}

impl Shape {
    /// How the values of `source`, of which the node knows how they fit into the column, become those of `target`.
    pub(super) fn new(source: &Field, node: &Node, delta_type: &DeltaType, target: &Field) -> Shape {
        let source_type = ValueType::of(source).data_type;
        let target_type = target.data_type().clone();
        match (&node.kind, source_type, delta_type, &target_type) {
            (
                Kind::Struct(nodes),
                DataType::Struct(from),
                DeltaType::Struct(columns),
                DataType::Struct(to),
            ) => Shape::Struct(to.clone(), parts(from, nodes, columns, to)),
            (Kind::List(element), source, DeltaType::Array { element: element_type }, DataType::List(to)) => {
                match Lists::element_field(source) {
                    Some(from) => {
                        Shape::List(Arc::clone(to), Box::new(Shape::new(from, element, element_type, to)))
                    }
                    None => Shape::Null(target_type),
                }
            }
            (
                Kind::Map { entry, .. },
                DataType::Map(from, _),
                DeltaType::Map { key, value },
                DataType::Map(to, _),
            ) => match (&entry.kind, from.data_type(), to.data_type()) {
                (Kind::Struct(nodes), DataType::Struct(from), DataType::Struct(fields))
                    if nodes.len() == 2 =>
                {
                    let key = Shape::new(&from[0], &nodes[0].1, key, &fields[0]);
                    let value = Shape::new(&from[1], &nodes[1].1, value, &fields[1]);
                    Shape::Map(Arc::clone(to), fields.clone(), Box::new([key, value]))
                }
                _ => Shape::Null(target_type),
            },
            (Kind::Scalar(_), ..) => scalar(source, node, delta_type, target_type),
            _ => Shape::Null(target_type),
        }
    }

    /// The array in the wanted type. Its values are known to be good where they can be seen.
    pub(super) fn convert(&self, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let array = &flattened(array)?;
        match self {
            Shape::Null(to) => Ok(new_null_array(to, array.len())),
            Shape::Cast(to) => {
                let options = CastOptions { safe: true, ..CastOptions::default() };
                cast_with_options(array, to, &options)
            }
            Shape::Floored(to) => {
                let nanos = array.as_primitive::<TimestampNanosecondType>();
                let micros: PrimitiveArray<TimestampMicrosecondType> =
                    nanos.unary(|nanos| nanos.div_euclid(1_000));
                Ok(Arc::new(micros.with_data_type(to.clone())))
            }
            Shape::Written(node, to) => written(node, array, to),
            Shape::Struct(fields, parts) => {
                let array = array.as_struct();
                let part = |(field, part): (&FieldRef, &Option<(usize, Shape)>)| match part {
                    Some((source, shape)) => shape.convert(array.column(*source)),
                    None => Ok(new_null_array(field.data_type(), array.len())),
                };
                let columns = fields.iter().zip(parts).map(part).collect::<Result<_, _>>()?;
                let nulls = array.nulls().cloned();
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?))
            }
            Shape::List(item, element) => {
                let Lists { offsets, values, nulls } = Lists::of(array)?;
                Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, element.convert(&values)?, nulls)?))
            }
            Shape::Map(entries, fields, parts) => {
                let Lists { offsets, values, nulls } = Lists::of(array)?;
                let pairs = values.as_struct();
                let [key, value] = &**parts;
                let columns = vec![key.convert(pairs.column(0))?, value.convert(pairs.column(1))?];
                let pairs = StructArray::try_new_with_length(fields.clone(), columns, None, pairs.len())?;
                Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false)?))
            }
        }
    }
}

/// How the fields of a struct are made.
fn parts(
    from: &Fields,
    nodes: &[(usize, Node)],
    columns: &[TableColumn],
    to: &Fields,
) -> Vec<Option<(usize, Shape)>> {
    let mut nodes = nodes.iter().peekable();
    let part = |(column, target): (&TableColumn, &FieldRef)| {
        let (source, node) = nodes.next_if(|(_, node)| node.header.name == column.name)?;
        Some((*source, Shape::new(&from[*source], node, &column.delta_type, target)))
    };
    columns.iter().zip(to).map(part).collect()
}

fn scalar(source: &Field, node: &Node, delta_type: &DeltaType, to: DataType) -> Shape {
    use DataType as A;
    use DeltaType as D;

    let value_type = ValueType::of(source);
    let from = value_type.data_type;
    let is_exact = match (from, delta_type) {
        // The text of sixteen bytes, and not the bytes.
        (A::FixedSizeBinary(_), D::String) => false,
        _ if *from == to => true,
        (from, D::Byte | D::Short | D::Integer | D::Long) => from.is_integer(),
        (from, D::Float | D::Double) => from.is_integer() || from.is_floating(),
        (A::Int8, D::Boolean) => true,
        (A::Utf8 | A::LargeUtf8 | A::Utf8View, D::String) => true,
        (A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_), D::Binary) => true,
        (A::Date64, D::Date) => true,
        (A::Timestamp(TimeUnit::Nanosecond, _), D::Timestamp | D::TimestampNtz) => {
            return Shape::Floored(to);
        }
        (A::Timestamp(..), D::Timestamp | D::TimestampNtz) => true,
        (A::Struct(_), D::Variant) => true,
        _ => false,
    };
    if is_exact { Shape::Cast(to) } else { Shape::Written(Box::new(node.clone()), to) }
}

/// The values behind dictionary keys and run ends, one for each row.
fn flattened(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut array = Arc::clone(array);
    loop {
        array = match array.data_type() {
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                take(dictionary.values(), dictionary.keys(), None)?
            }
            DataType::RunEndEncoded(_, values) => {
                cast_with_options(&array, values.data_type(), &CastOptions::default())?
            }
            _ => return Ok(array),
        };
    }
}
