//! What the fuzz targets share: logs in memory, the ways of spoiling their files, and the limits of a run.

pub mod batches;
pub mod limits;
pub mod log;
pub mod spoil;
