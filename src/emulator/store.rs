//! Where Delta puts its files: a local directory in which a put that returned is on the disk.
//!
//! The object store that `delta_kernel` comes with hands files to the page cache and no further. An
//! acknowledgement must survive a power cut, so this one syncs the file before it gets its name and
//! the directory before the put returns. A reader sees a whole file or none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};

use async_trait::async_trait;
use delta_kernel::object_store::local::LocalFileSystem;
use delta_kernel::object_store::path::Path;
use delta_kernel::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use futures::stream::BoxStream;

use crate::platform::files::sync_directory;

/// An object store over the whole local file system with durable puts.
#[derive(Debug)]
pub(super) struct DurableStore {
    inner: LocalFileSystem,
}

impl DurableStore {
    pub(super) fn new() -> DurableStore {
        DurableStore { inner: LocalFileSystem::new() }
    }
}

impl std::fmt::Display for DurableStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableStore")
    }
}

/// Makes the directory and those above it that are missing; all of them are on the disk when it returns.
pub(super) fn create_directories(path: &FsPath) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(FsPath::new("."));
    create_directories(parent)?;
    match fs::create_dir(path) {
        Ok(()) => sync_directory(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn failure(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "DurableStore", source: error.into() }
}

/// Writes a file; it and its name are on the disk when it returns.
pub(super) fn put(path: &FsPath, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    create_directories(directory)?;
    // Readers of Delta tables look past names that begin with a dot; a crash may leave one behind.
    let unfinished = directory.join(format!(".{}.{:016x}", name.to_string_lossy(), rand::random::<u64>()));
    let written = (|| {
        let mut file = File::create_new(&unfinished)?;
        for part in payload {
            file.write_all(part)?;
        }
        file.sync_all()?;
        match mode {
            // Only a link fails when the name is taken; that is what makes a commit exclusive.
            PutMode::Create => fs::hard_link(&unfinished, path),
            _ => fs::rename(&unfinished, path),
        }
    })();
    if written.is_err() || matches!(mode, PutMode::Create) {
        // The file has its real name or is not wanted; a left-over is harmless.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    sync_directory(directory)
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) {
            return Err(Error::NotImplemented {
                operation: "conditional update".to_owned(),
                implementer: self.to_string(),
            });
        }
        let path = self.inner.path_to_filesystem(location)?;
        let outcome = tokio::task::spawn_blocking(move || put(&path, &payload, &options.mode)).await;
        match outcome.map_err(failure)? {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: location.to_string(), source: error.into() })
            }
            Err(error) => Err(failure(error)),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(DurableUpload { inner, path }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A large file in parts, such as a checkpoint; on the disk once it is complete.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        let path = self.path.clone();
        let synced = tokio::task::spawn_blocking(move || {
            File::open(&path)?.sync_all()?;
            path.parent().map_or(Ok(()), sync_directory)
        });
        synced.await.map_err(failure)?.map_err(failure)?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use delta_kernel::object_store::ObjectStoreExt as _;

    use super::*;

    #[tokio::test]
    async fn a_name_is_given_once_and_nothing_else_stays_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = Path::from_filesystem_path(dir.path()).unwrap().join("a").join("b").join("0.json");
        let store = DurableStore::new();
        store.put_opts(&path, "first".into(), PutMode::Create.into()).await.unwrap();
        let second = store.put_opts(&path, "second".into(), PutMode::Create.into()).await;
        assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first");
        store.put(&path, "third".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "third");
        let names: Vec<_> = fs::read_dir(dir.path().join("a/b")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
