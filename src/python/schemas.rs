//! What schemas were imported before over the Arrow C data interface: they are not built again for each batch.

use std::ffi::{CStr, c_char};
use std::sync::{Arc, Mutex};

use arrow_array::ffi::FFI_ArrowSchema;
use arrow_schema::{DataType, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::completions::lock;
use crate::recent::Recent;
use crate::wal::FlatSchema;

/// Programs with more kinds of batches at a time have some schemas built again.
const SCHEMAS_MAX: usize = 32;

/// The schemas that were imported last.
#[derive(Debug)]
pub(super) struct KnownSchemas {
    recent: Mutex<Recent<KnownSchema>>,
    /// The capsule that was asked about last, which is kept so that no other is in its place, and its schema: what has the same
    /// schema as the batch before comes with the same capsule.
    newest: Mutex<Option<(Py<PyCapsule>, Arc<StructSchema>)>>,
}

#[derive(Debug)]
struct KnownSchema {
    described: Vec<u8>,
    schema: Arc<StructSchema>,
}

/// A schema, and the same as the type of a struct, which is how a batch travels.
#[derive(Debug)]
pub(super) struct StructSchema {
    pub(super) schema: SchemaRef,
    pub(super) data_type: DataType,
    /// If its columns are plain.
    pub(super) flat: Option<FlatSchema>,
}

/// Everything that an exporter says of a schema.
#[derive(Debug)]
pub(super) struct Described(Vec<u8>);

impl KnownSchemas {
    pub(super) fn new() -> KnownSchemas {
        KnownSchemas { recent: Mutex::new(Recent::new(SCHEMAS_MAX)), newest: Mutex::new(None) }
    }

    /// The schema in this capsule, and what to remember it by if it is not known.
    ///
    /// # Errors
    ///
    /// `ValueError` if the capsule holds something else.
    pub(super) fn find(
        &self,
        schema: &Bound<'_, PyCapsule>,
    ) -> PyResult<Result<Arc<StructSchema>, Described>> {
        if let Some((newest, known)) = &*lock(&self.newest)
            && newest.is(schema)
        {
            return Ok(Ok(Arc::clone(known)));
        }
        let exported = schema.pointer_checked(Some(c"arrow_schema"))?.cast::<FFI_ArrowSchema>();
        let mut described = Vec::with_capacity(256);
        // SAFETY: a capsule of this name holds a schema of the C data interface, and lives as long as it is borrowed.
        #[expect(unsafe_code, reason = "the interface is one of pointers")]
        unsafe {
            describe(exported.as_ref(), &mut described);
        }
        let known = lock(&self.recent).find(|it| it.described == described).map(|it| Arc::clone(&it.schema));
        let Some(known) = known else { return Ok(Err(Described(described))) };
        // What was there is dropped after the lock is gone: a capsule may run code of whoever made it.
        let _before = lock(&self.newest).replace((schema.clone().unbind(), Arc::clone(&known)));
        Ok(Ok(known))
    }

    /// Remembers the schema of a batch that was imported whole.
    pub(super) fn add(&self, described: Described, schema: SchemaRef) {
        let data_type = DataType::Struct(schema.fields().clone());
        let flat = FlatSchema::new(&schema);
        let schema = StructSchema { schema, data_type, flat };
        lock(&self.recent).add(KnownSchema { described: described.0, schema: schema.into() });
    }
}

/// Writes down a schema as its exporter gives it: two schemas with the same description are the same.
///
/// # Safety
///
/// `schema` must be a valid schema of the C data interface.
#[expect(unsafe_code, reason = "the interface is one of pointers")]
unsafe fn describe(schema: &FFI_ArrowSchema, described: &mut Vec<u8>) {
    // SAFETY: all pointers of a valid schema are either null or point to what the interface says.
    unsafe {
        describe_text(schema.format, described);
        describe_text(schema.name, described);
        describe_metadata(schema.metadata, described);
        described.extend(schema.flags.to_ne_bytes());
        described.extend(schema.n_children.to_ne_bytes());
        for index in 0..usize::try_from(schema.n_children).unwrap_or(0) {
            describe(&**schema.children.add(index), described);
        }
        described.push(u8::from(!schema.dictionary.is_null()));
        if let Some(dictionary) = schema.dictionary.as_ref() {
            describe(dictionary, described);
        }
    }
}

/// # Safety
///
/// `text` must be null or a C string.
#[expect(unsafe_code, reason = "the interface is one of pointers")]
unsafe fn describe_text(text: *const c_char, described: &mut Vec<u8>) {
    described.push(u8::from(!text.is_null()));
    if !text.is_null() {
        // SAFETY: it is a C string.
        described.extend(unsafe { CStr::from_ptr(text) }.to_bytes_with_nul());
    }
}

/// Metadata are a number of pairs, and then each key and value with its length before it.
///
/// # Safety
///
/// `metadata` must be null or metadata of the C data interface.
#[expect(unsafe_code, reason = "the interface is one of pointers")]
unsafe fn describe_metadata(metadata: *const c_char, described: &mut Vec<u8>) {
    described.push(u8::from(!metadata.is_null()));
    if metadata.is_null() {
        return;
    }
    let start = metadata.cast::<u8>();
    // SAFETY: metadata are as long as the lengths in them say.
    unsafe {
        let length_at =
            |at: usize| usize::try_from(start.add(at).cast::<i32>().read_unaligned()).unwrap_or(0);
        let mut end = size_of::<i32>();
        for _ in 0..2 * length_at(0) {
            end += size_of::<i32>() + length_at(end);
        }
        described.extend(std::slice::from_raw_parts(start, end));
    }
}
