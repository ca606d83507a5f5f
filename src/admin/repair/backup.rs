//! The copy of a writer directory that is made before anything in it is changed.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::RepairError;
use crate::admin::Progress;
use crate::io::Env;

/// Copies in the writer directory have this name and a number; nobody takes them for a log there.
const NAME: &str = "backup-";
const COPIED_AT_ONCE: usize = 1024 * 1024;

/// What a copy has: everything but earlier copies, and the socket.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fn walk(directory: &Path, is_root: bool, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                if !(is_root && entry.file_name().to_string_lossy().starts_with(NAME)) {
                    walk(&path, false, found)?;
                }
            } else if kind.is_file() {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(directory, true, &mut found)?;
    found.sort_unstable();
    Ok(found)
}

/// How many bytes a copy takes.
pub(super) fn bytes(directory: &Path) -> Result<u64, RepairError> {
    let sum = || files(directory)?.iter().map(|path| Ok(path.metadata()?.len())).sum::<io::Result<u64>>();
    sum().map_err(RepairError::storage("list", directory))
}

/// Copies the directory, durably; returns where to. A copy that was not finished has another name.
pub(super) fn copy(
    env: &Env,
    directory: &Path,
    wanted: Option<&Path>,
    needed_bytes: u64,
    progress: &Progress,
) -> Result<PathBuf, RepairError> {
    let numbered = || (1_u32..).map(|number| directory.join(format!("{NAME}{number:03}")));
    let target = match wanted {
        Some(wanted) => wanted.to_owned(),
        None => numbered().find(|path| !path.exists()).unwrap_or_default(),
    };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let storage = RepairError::storage;
    if target.exists() {
        return Err(storage("copy the log to", &target)(io::ErrorKind::AlreadyExists.into()));
    }
    env.storage.create_dir_all(parent).map_err(storage("create", parent))?;
    let free_bytes = env.storage.free_bytes(parent).map_err(storage("look at", parent))?;
    if free_bytes < needed_bytes {
        return Err(RepairError::NoRoom { path: parent.to_owned(), needed_bytes, free_bytes });
    }
    progress.set_total(needed_bytes);
    let unfinished = target.with_extension("new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(storage("remove", &unfinished))?;
    }
    env.storage.create_dir_all(&unfinished).map_err(storage("create", &unfinished))?;
    for path in files(directory).map_err(storage("list", directory))? {
        if path.starts_with(&unfinished) {
            continue;
        }
        let to = unfinished.join(path.strip_prefix(directory).unwrap_or(&path));
        let parent = to.parent().unwrap_or(&unfinished);
        env.storage.create_dir_all(parent).map_err(storage("create", parent))?;
        if !copy_file(&path, &to, progress).map_err(storage("copy", &path))? {
            // Nobody needs half a copy.
            fs::remove_dir_all(&unfinished).map_err(storage("remove", &unfinished))?;
            return Err(RepairError::Stopped);
        }
        env.storage.sync_dir(parent).map_err(storage("sync", parent))?;
    }
    env.storage.sync_dir(&unfinished).map_err(storage("sync", &unfinished))?;
    env.storage.rename(&unfinished, &target).map_err(storage("rename", &unfinished))?;
    env.storage.sync_dir(parent).map_err(storage("sync", parent))?;
    Ok(target)
}

/// Says no if somebody has stopped it.
fn copy_file(from: &Path, to: &Path, progress: &Progress) -> io::Result<bool> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut piece = vec![0; COPIED_AT_ONCE];
    loop {
        if progress.is_stopped() {
            return Ok(false);
        }
        match from.read(&mut piece)? {
            0 => break,
            count => {
                to.write_all(&piece[..count])?;
                progress.add(count as u64);
            }
        }
    }
    to.sync_all()?;
    Ok(true)
}
