//! How a long operation tells how far it is, and how it is stopped.

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows that were taken.
    pub rows: u64,
    /// Frames and files that lie behind.
    pub passed: u64,
    /// How many there are in all.
    pub total: u64,
}

/// Whoever wants to see an operation move, or to stop it.
pub trait Watch: Sync {
    /// Told after every frame and file.
    fn progress(&self, _progress: Progress) {}

    /// Asked after every frame and file: true ends the operation with its error for that.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
