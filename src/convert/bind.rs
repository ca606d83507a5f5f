//! How the nodes of a plan find their arrays in a batch.
//!
//! It is done once per batch, for batches of one row too, so it only downcasts and allocates one box per node.

use arrow_array::{
    Array, FixedSizeListArray, GenericListArray, GenericListViewArray, MapArray, OffsetSizeTrait, StructArray,
};
use arrow_schema::DataType;

use super::encode::{
    Field, FixedLists, Header, ListViews, Lists, Map, Message, NoValues, Offsets, Repeated, Way,
};
use super::mapping::{Kind, Node};

/// Binds a node to its array; none if the array has another type than the plan.
pub(super) fn bind<'a>(node: &'a Node, array: &'a dyn Array) -> Option<Box<dyn Field + 'a>> {
    let Node { header, kind } = node;
    let (way, array) = Way::new(array);
    match kind {
        Kind::Null => Some(Box::new(NoValues(header))),
        Kind::Scalar(conversion) => conversion.bind(header, way, array),
        Kind::Struct(fields) => {
            let array = array.as_any().downcast_ref::<StructArray>()?;
            Some(Box::new(Message::new(header, way, bind_fields(fields, array)?)))
        }
        Kind::List(element) => match array.data_type() {
            DataType::List(_) => bind_list::<i32>(header, way, element, array),
            DataType::LargeList(_) => bind_list::<i64>(header, way, element, array),
            DataType::ListView(_) => bind_list_view::<i32>(header, way, element, array),
            DataType::LargeListView(_) => bind_list_view::<i64>(header, way, element, array),
            _ => {
                let array = array.as_any().downcast_ref::<FixedSizeListArray>()?;
                let list_len = usize::try_from(array.value_length()).ok()?;
                repeated(header, way, FixedLists { list_len }, element, array.values())
            }
        },
        Kind::Map { entry, key } => {
            let array = array.as_any().downcast_ref::<MapArray>()?;
            let keys = bind(key, array.keys().as_ref())?;
            let entry = bind(entry, array.entries())?;
            Some(Box::new(Map::new(header, way, array.value_offsets(), entry, keys)))
        }
    }
}

fn bind_fields<'a>(fields: &'a [(usize, Node)], array: &'a StructArray) -> Option<Vec<Box<dyn Field + 'a>>> {
    fields.iter().map(|(source, node)| bind(node, array.columns().get(*source)?.as_ref())).collect()
}

fn bind_list<'a, O: OffsetSizeTrait>(
    header: &'a Header,
    way: Way<'a>,
    element: &'a Node,
    array: &'a dyn Array,
) -> Option<Box<dyn Field + 'a>> {
    let array = array.as_any().downcast_ref::<GenericListArray<O>>()?;
    repeated(header, way, Offsets(array.value_offsets()), element, array.values())
}

fn bind_list_view<'a, O: OffsetSizeTrait>(
    header: &'a Header,
    way: Way<'a>,
    element: &'a Node,
    array: &'a dyn Array,
) -> Option<Box<dyn Field + 'a>> {
    let array = array.as_any().downcast_ref::<GenericListViewArray<O>>()?;
    let lists = ListViews { offsets: array.value_offsets(), sizes: array.value_sizes() };
    repeated(header, way, lists, element, array.values())
}

fn repeated<'a, L: Lists + 'a>(
    header: &'a Header,
    way: Way<'a>,
    lists: L,
    element: &'a Node,
    values: &'a dyn Array,
) -> Option<Box<dyn Field + 'a>> {
    Some(Box::new(Repeated::new(header, way, lists, bind(element, values)?)))
}
