//! Lists, structs and maps: what is written of them, row by row, read back by `prost-reflect`.

use std::sync::Arc;

use arrow_array::types::{Int8Type, Int16Type, Int32Type};
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, Schema};

use crate::convert::testing::read_back;
use crate::convert::{NullList, Plan, Policies, Records, RowError, RowErrorReason};

/// What became of a batch: each record as text, each refused row, how many lists became empty.
#[derive(Debug, PartialEq)]
struct Outcome {
    records: Vec<String>,
    refused: Vec<(usize, String, String, RowErrorReason)>,
    emptied: u64,
}

fn encode_with(policies: Policies, nullable: bool, batch: &RecordBatch) -> Outcome {
    let fields = batch
        .schema()
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(nullable))
        .collect::<Fields>();
    let plan = Plan::new(&Schema::new(fields), None, policies).unwrap();
    let mut records = Records::new();
    let encoded = plan.encode(batch, 0..batch.num_rows(), &mut records);
    let refused = |error: RowError| (error.row, error.column, error.value, error.reason);
    Outcome {
        records: read_back(&plan, &records),
        refused: encoded.refused.into_iter().map(refused).collect(),
        emptied: encoded.emptied_lists,
    }
}

fn batch(array: impl Array + 'static) -> RecordBatch {
    let field = Field::new("a", array.data_type().clone(), true);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(array)]).unwrap()
}

fn encode(array: impl Array + 'static) -> Outcome {
    encode_with(Policies::default(), true, &batch(array))
}

fn all(records: &[&str]) -> Outcome {
    Outcome { records: records.iter().map(ToString::to_string).collect(), refused: vec![], emptied: 0 }
}

fn item(data_type: &DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type.clone(), true))
}

fn structs(fields: Vec<(&str, ArrayRef, bool)>, nulls: Option<Vec<bool>>) -> StructArray {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = fields
        .into_iter()
        .map(|(name, array, nullable)| (Field::new(name, array.data_type().clone(), nullable), array))
        .unzip();
    StructArray::try_new(fields.into(), arrays, nulls.map(NullBuffer::from)).unwrap()
}

fn lists(lengths: &[usize], values: ArrayRef, nulls: Option<Vec<bool>>) -> ListArray {
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    ListArray::try_new(item(values.data_type()), offsets, values, nulls.map(NullBuffer::from)).unwrap()
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn maps(lengths: &[usize], keys: ArrayRef, values: ArrayRef) -> MapArray {
    let fields = Fields::from(vec![
        Field::new("key", keys.data_type().clone(), false),
        Field::new("value", values.data_type().clone(), true),
    ]);
    let entries = StructArray::try_new(fields.clone(), vec![keys, values], None).unwrap();
    let entry = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    MapArray::try_new(entry, OffsetBuffer::from_lengths(lengths.iter().copied()), entries, None, false)
        .unwrap()
}

#[test]
fn a_null_list_becomes_an_empty_one_or_is_refused() {
    // The null list has elements, and one of them is null: nobody looks at them.
    let values = Int32Array::from(vec![Some(1), Some(2), Some(3), None, Some(4)]);
    let array = lists(&[2, 2, 0, 1], Arc::new(values), Some(vec![true, false, true, true]));
    let outcome = encode(array.clone());
    assert_eq!(outcome, Outcome { emptied: 1, ..all(&["a=[1 2]", "", "", "a=[4]"]) });
    let refused = |reason| Outcome {
        refused: vec![(1, "a".to_owned(), "null".to_owned(), reason)],
        ..all(&["a=[1 2]", "", "a=[4]"])
    };
    let strict = Policies { null_list: NullList::Error, ..Policies::default() };
    assert_eq!(encode_with(strict, true, &batch(array.clone())), refused(RowErrorReason::NullList));
    let required = encode_with(Policies::default(), false, &batch(array));
    assert_eq!(required, refused(RowErrorReason::NullInRequired));
}

#[test]
fn a_null_element_costs_its_row_only() {
    let values = Int32Array::from(vec![Some(1), None, None, Some(2), Some(3)]);
    let outcome = encode(lists(&[1, 3, 0, 1], Arc::new(values), None));
    let refused = (1, "a.element".to_owned(), "null".to_owned(), RowErrorReason::NullElement);
    assert_eq!(outcome, Outcome { refused: vec![refused], ..all(&["a=[1]", "", "a=[3]"]) });
}

#[test]
fn lists_of_every_kind_are_the_same_on_the_wire() {
    let wanted = all(&["a=[1 2]", "a=[3 4]", "a=[5 6]"]);
    let values = ints(&[1, 2, 3, 4, 5, 6]);
    let element = item(&DataType::Int32);
    assert_eq!(encode(lists(&[2, 2, 2], values.clone(), None)), wanted);
    let offsets = OffsetBuffer::<i64>::from_lengths([2, 2, 2]);
    assert_eq!(encode(LargeListArray::new(element.clone(), offsets, values.clone(), None)), wanted);
    assert_eq!(encode(FixedSizeListArray::new(element.clone(), 2, values, None)), wanted);
    // Views in any order, that overlap, with elements that no list has.
    let values = ints(&[5, 6, 9, 3, 4, 1, 2]);
    let views =
        ListViewArray::new(element.clone(), vec![5, 3, 0].into(), vec![2, 2, 2].into(), values.clone(), None);
    assert_eq!(encode(views), wanted);
    let large = LargeListViewArray::new(element, vec![5, 3, 0].into(), vec![2, 2, 2].into(), values, None);
    assert_eq!(encode(large), wanted);
}

#[test]
fn slices_have_their_own_elements() {
    let array = lists(&[1, 2, 0, 3], ints(&[1, 2, 3, 4, 5, 6]), None);
    assert_eq!(encode(array.slice(1, 3)), all(&["a=[2 3]", "", "a=[4 5 6]"]));
    let nulls = Some(NullBuffer::from(vec![true, false, true, true]));
    let array = FixedSizeListArray::new(item(&DataType::Int32), 2, ints(&[1, 2, 3, 4, 5, 6, 7, 8]), nulls);
    let outcome = encode(array.slice(1, 2));
    assert_eq!(outcome, Outcome { emptied: 1, ..all(&["", "a=[5 6]"]) });
    let array = structs(vec![("b", ints(&[1, 2, 3]), true)], Some(vec![true, true, false]));
    assert_eq!(encode(array.slice(1, 2)), all(&["a={b=2}", ""]));
}

#[test]
fn a_struct_without_values_is_not_a_null_one() {
    let child = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
    let array = structs(vec![("b", child, true)], Some(vec![true, true, false]));
    assert_eq!(encode(array.clone()), all(&["a={b=1}", "a={}", ""]));
    let outcome = encode_with(Policies::default(), false, &batch(array));
    let refused = (2, "a".to_owned(), "null".to_owned(), RowErrorReason::NullInRequired);
    assert_eq!(outcome, Outcome { refused: vec![refused], ..all(&["a={b=1}", "a={}"]) });
}

#[test]
fn a_required_field_is_required_only_where_its_struct_is() {
    // Arrow does not let a field that is not nullable have a null, unless its parent is null there too.
    let child = Arc::new(Int32Array::from(vec![Some(1), None]));
    let array = structs(vec![("b", child, false)], Some(vec![true, false]));
    assert_eq!(encode(array), all(&["a={b=1}", ""]));
}

#[test]
fn structs_and_lists_stand_inside_of_one_another() {
    let inner = structs(
        vec![
            ("n", ints(&[1, 2, 3, 4]), true),
            ("t", Arc::new(StringArray::from(vec!["a", "b", "c", "d"])), true),
        ],
        None,
    );
    let inner = lists(&[1, 0, 3], Arc::new(inner), None);
    let middle = structs(
        vec![("b", Arc::new(inner), true), ("c", ints(&[7, 8, 9]), true)],
        Some(vec![true, true, true]),
    );
    let outer = lists(&[2, 1], Arc::new(middle), None);
    assert_eq!(
        encode(outer.clone()),
        all(&["a=[{b=[{n=1 t=a}] c=7} {c=8}]", "a=[{b=[{n=2 t=b} {n=3 t=c} {n=4 t=d}] c=9}]"])
    );
    assert_eq!(encode(outer.slice(1, 1)), all(&["a=[{b=[{n=2 t=b} {n=3 t=c} {n=4 t=d}] c=9}]"]));
}

#[test]
fn a_fault_deep_inside_is_found_in_its_row() {
    let texts = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("d")]));
    let inner = lists(&[1, 0, 2, 1], texts, None);
    let middle = structs(vec![("b", Arc::new(inner), true)], Some(vec![true, false, true, true]));
    let outcome = encode(lists(&[1, 0, 1, 2], Arc::new(middle), None));
    assert_eq!(outcome.records, ["a=[{b=[a]}]", ""]);
    // The null struct is the element of the third row, the null text is in a struct of the fourth.
    assert_eq!(
        outcome.refused,
        [
            (2, "a.element".to_owned(), "null".to_owned(), RowErrorReason::NullElement),
            (3, "a.element.b.element".to_owned(), "null".to_owned(), RowErrorReason::NullElement),
        ]
    );
}

#[test]
fn a_map_has_each_key_once_and_no_nulls() {
    let keys = StringArray::from(vec!["x", "y", "x", "x", "z", "x"]);
    let values = Int32Array::from(vec![Some(1), Some(2), Some(3), Some(4), None, Some(5)]);
    let outcome = encode(maps(&[2, 2, 1, 0, 1], Arc::new(keys), Arc::new(values)));
    assert_eq!(
        outcome.refused,
        [
            (1, "a.key".to_owned(), "\"x\"".to_owned(), RowErrorReason::DuplicateMapKey),
            (2, "a.value".to_owned(), "null".to_owned(), RowErrorReason::NullMapValue),
        ]
    );
    assert_eq!(outcome.records, ["a=String(\"x\"):1 String(\"y\"):2", "", "a=String(\"x\"):5"]);
}

#[test]
fn keys_are_compared_by_what_is_sent() {
    let values = StringArray::from(vec!["x", "y", "x"]);
    // Two keys of the dictionary are the same text.
    let keys = DictionaryArray::<Int8Type>::new(vec![0, 1, 0, 2].into(), Arc::new(values));
    let outcome = encode(maps(&[2, 2], Arc::new(keys), ints(&[1, 2, 3, 4])));
    assert_eq!(outcome.records, ["a=String(\"x\"):1 String(\"y\"):2"]);
    assert_eq!(
        outcome.refused[0],
        (1, "a.key".to_owned(), "\"x\"".to_owned(), RowErrorReason::DuplicateMapKey)
    );
    // Floored to the same microsecond, so that one of them would be lost.
    let keys = TimestampNanosecondArray::from(vec![1_000, 1_001]);
    let outcome = encode(maps(&[2], Arc::new(keys), ints(&[1, 2])));
    assert_eq!(outcome.refused[0].3, RowErrorReason::DuplicateMapKey);
    // More keys than are compared each with each.
    for last in [98, 99] {
        let keys: Vec<i32> = (0..99).chain([last]).collect();
        let outcome = encode(maps(&[100], ints(&keys), ints(&keys)));
        assert_eq!(outcome.records.len(), usize::from(last == 99));
    }
}

#[test]
fn map_values_may_be_structs_with_lists() {
    let values = structs(vec![("l", Arc::new(lists(&[2, 0], ints(&[1, 2]), None)), true)], None);
    let outcome = encode(maps(&[1, 1], ints(&[7, 8]), Arc::new(values)));
    assert_eq!(outcome, all(&["a=I32(7):{l=[1 2]}", "a=I32(8):{}"]));
}

#[test]
fn keys_and_runs_lead_to_values_of_every_type() {
    let values = structs(vec![("b", ints(&[1, 2]), true)], Some(vec![true, false]));
    let array = DictionaryArray::<Int8Type>::new(vec![0, 1, 0].into(), Arc::new(values));
    assert_eq!(encode(array), all(&["a={b=1}", "", "a={b=1}"]));
    let values = lists(&[2, 1], ints(&[1, 2, 3]), None);
    let array = RunArray::<Int16Type>::try_new(&Int16Array::from(vec![2, 3]), &values).unwrap();
    assert_eq!(encode(array), all(&["a=[1 2]", "a=[1 2]", "a=[3]"]));
    let texts: DictionaryArray<Int32Type> = vec![Some("x"), Some("y"), Some("x")].into_iter().collect();
    assert_eq!(encode(lists(&[2, 1], Arc::new(texts), None)), all(&["a=[x y]", "a=[x]"]));
    let runs =
        RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec!["x", "y"]));
    let array = structs(vec![("b", Arc::new(runs.unwrap()), true)], Some(vec![true, false, true]));
    assert_eq!(encode(array), all(&["a={b=x}", "", "a={b=y}"]));
}

#[test]
fn refused_rows_are_left_out_of_every_chunk() {
    let rows = 5_000;
    let values: Vec<Option<i32>> = (0..2 * rows).map(|n| (n % 14 != 6).then_some(n)).collect();
    let lengths = vec![2; rows as usize];
    let outcome = encode(lists(&lengths, Arc::new(Int32Array::from(values)), None));
    let is_bad = |row: i32| row % 7 == 3;
    let refused: Vec<usize> = outcome.refused.iter().map(|refused| refused.0).collect();
    assert_eq!(refused, (0..rows).filter(|row| is_bad(*row)).map(|row| row as usize).collect::<Vec<_>>());
    let good = (0..rows).filter(|row| !is_bad(*row)).map(|row| format!("a=[{} {}]", 2 * row, 2 * row + 1));
    assert_eq!(outcome.records, good.collect::<Vec<_>>());
}

#[test]
fn long_values_stand_where_short_ones_would() {
    let long = |n: usize| "x".repeat(500 + n);
    let texts: Vec<Option<String>> = (0..300).map(|n| (n % 5 != 1).then(|| long(n))).collect();
    let text: ArrayRef = Arc::new(StringArray::from(texts.clone()));
    let number: ArrayRef = Arc::new(Int32Array::from_iter((0..300).map(|n| (n % 7 != 2).then_some(n))));
    let columns = ["a", "b", "c"].map(|name| (name, number.clone(), true));
    let columns = [columns[0].clone(), ("b", text.clone(), true), columns[2].clone()];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.clone()).unwrap();
    let shown_row = |row: usize| {
        let number = |name| (row % 7 != 2).then(|| format!("{name}={row}"));
        let text = texts[row].as_ref().map(|text| format!("b={text}"));
        [number("a"), text, number("c")].into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let rows: Vec<String> = (0..300).map(shown_row).collect();
    assert_eq!(encode_with(Policies::default(), true, &batch).records, rows);
    let required = encode_with(Policies::default(), false, &batch);
    assert_eq!(
        required.records,
        (0..300).filter(|n| n % 5 != 1 && n % 7 != 2).map(shown_row).collect::<Vec<_>>()
    );

    let inner = structs(columns.to_vec(), None);
    let nested = encode(lists(&[3; 100], Arc::new(inner), None));
    let element = |rows: &[String]| {
        format!("a=[{}]", rows.iter().map(|row| format!("{{{row}}}")).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(nested.records, rows.chunks(3).map(element).collect::<Vec<_>>());

    let keys: Vec<String> = (0..40).map(long).collect();
    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(&keys));
    let outcome = encode(lists(&[20, 20], views.clone(), None));
    assert_eq!(
        outcome.records,
        keys.chunks(20).map(|keys| format!("a=[{}]", keys.join(" "))).collect::<Vec<_>>()
    );
    assert_eq!(encode(maps(&[1; 40], views, text.slice(2, 40))).refused.len(), 8);
}
