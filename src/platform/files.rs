//! Directories that are synced, files that are files, and those for the eyes of one user.
#![expect(
    clippy::disallowed_methods,
    reason = "the storage of the log, sled's frame and the emulator stand on this"
)]

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Opens a file for reading; fails if it is a pipe, a device, a directory or anything else but a file.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    open_regular_with(File::options().read(true), path)
}

/// Opens a file in this way; fails if it is anything else. Nothing waits for the other end of a pipe, and nothing is
/// read of a device that has no end.
pub(crate) fn open_regular_with(options: &mut OpenOptions, path: &Path) -> Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
}

/// What is said of a pipe, a device or a directory in the place of a file.
pub(crate) fn not_a_file() -> Error {
    Error::new(ErrorKind::InvalidInput, "it is not a file")
}

/// Makes creations, renames and removals in a directory durable.
#[cfg(unix)]
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)?.sync_all()
}

/// Makes creations, renames and removals in a directory durable, where the file system lets a directory be flushed. NTFS
/// journals its names in the order of the calls, so there the sync of a file covers its own name too.
#[cfg(windows)]
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    use std::os::windows::fs::OpenOptionsExt;
    /// `FILE_FLAG_BACKUP_SEMANTICS`: without it a directory cannot be opened.
    const OPENS_DIRECTORIES: u32 = 0x0200_0000;
    let opened = File::options().write(true).custom_flags(OPENS_DIRECTORIES).open(path);
    match opened.and_then(|directory| directory.sync_all()) {
        Err(error) if matches!(error.kind(), PermissionDenied | Unsupported | InvalidInput) => Ok(()),
        synced => synced,
    }
}

/// Opens a file for writing, emptied, that no other user may read. On Windows it has the rights of its directory.
#[cfg(feature = "emulator")]
pub(crate) fn create_private(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether any user may read a file. On Windows its rights stand in lists that are not read here.
pub(crate) fn is_public(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0;
    #[cfg(windows)]
    {
        let _ = metadata;
        false
    }
}
