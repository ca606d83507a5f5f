//! An array on its way from Python over the Arrow C data interface: in a capsule, or in memory of ours.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ptr::NonNull;

use arrow_array::ffi::FFI_ArrowArray;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// What such a capsule is called.
const NAME: &CStr = c"arrow_array";

/// Memory for an `ArrowArray`, which pyarrow fills by its address. What is in it, and was not taken, goes with it, on
/// Python's thread.
#[pyclass(frozen, module = "arrow_zerobus_sdk_wrapper._core")]
pub(super) struct ExportedArray {
    array: UnsafeCell<FFI_ArrowArray>,
}

// SAFETY: an array may be used and released by any thread, and who uses this one holds the GIL.
#[expect(unsafe_code, reason = "a cell is not for several threads unless somebody says so")]
unsafe impl Sync for ExportedArray {}

#[pymethods]
impl ExportedArray {
    #[new]
    fn new() -> ExportedArray {
        ExportedArray { array: UnsafeCell::new(FFI_ArrowArray::empty()) }
    }

    #[getter]
    fn address(&self) -> usize {
        self.array.get().expose_provenance()
    }
}

impl ExportedArray {
    fn place(&self) -> NonNull<FFI_ArrowArray> {
        NonNull::from_ref(&self.array).cast()
    }
}

/// Where an array of the C data interface is, until it is taken.
pub(super) struct Place<'py> {
    array: NonNull<FFI_ArrowArray>,
    /// What keeps the memory: a capsule, or an [`ExportedArray`].
    owner: Bound<'py, PyAny>,
}

impl<'py> Place<'py> {
    /// # Errors
    ///
    /// `TypeError` or `ValueError` if the owner is neither a capsule of an array nor memory for one.
    pub(super) fn of(owner: Bound<'py, PyAny>) -> PyResult<Place<'py>> {
        let array = match owner.cast::<ExportedArray>() {
            Ok(memory) => memory.get().place(),
            Err(_) => owner.cast::<PyCapsule>()?.pointer_checked(Some(NAME))?.cast(),
        };
        Ok(Place { array, owner })
    }

    /// Whether pyarrow has exported it, without a capsule. Its batches keep what they export.
    pub(super) fn is_of_pyarrow(&self) -> bool {
        self.owner.is_instance_of::<ExportedArray>()
    }

    /// The array, if it is still there and can be a record batch.
    pub(super) fn take_batch(&mut self) -> Option<FFI_ArrowArray> {
        // SAFETY: an owner has an array of the C data interface, if an empty one, and nobody else has it now: this runs
        // with the GIL held.
        #[expect(unsafe_code, reason = "the interface is one of pointers")]
        unsafe {
            let array = self.array.as_mut();
            let is_batch = !array.is_released() && array.null_count_opt() == Some(0);
            is_batch.then(|| FFI_ArrowArray::from_raw(array))
        }
    }

    /// The array in a capsule, where others look for it.
    ///
    /// # Errors
    ///
    /// `MemoryError`.
    pub(super) fn into_capsule(self) -> PyResult<Bound<'py, PyCapsule>> {
        match self.owner.cast_into::<PyCapsule>() {
            Ok(capsule) => Ok(capsule),
            Err(error) => {
                // SAFETY: as above; the memory, which has an empty array from now on, lives as long as its owner.
                #[expect(unsafe_code, reason = "the interface is one of pointers")]
                let array = unsafe { FFI_ArrowArray::from_raw(self.array.as_ptr()) };
                PyCapsule::new_with_value(error.into_inner().py(), array, NAME)
            }
        }
    }
}
