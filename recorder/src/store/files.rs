//! The only door to the disk, so that tests can make every operation fail. Paths are relative to the data directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::{StoreError, at};

/// What the recorder asks of a disk. None of these may lie: after `Ok` from a sync, the data is there after a power cut.
pub trait Files: Send + Sync {
    /// All bytes of a file.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// Length of a file; `None` when there is none.
    ///
    /// # Errors
    /// The system's.
    fn len(&self, path: &str) -> io::Result<Option<u64>>;
    /// Names in a directory, sorted; none when there is no such directory.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// The system's.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes or replaces a file, for the owner's eyes only when `secret`. Not durable before a sync.
    ///
    /// # Errors
    /// The system's.
    fn write(&self, path: &str, bytes: &[u8], secret: bool) -> io::Result<()>;
    /// Makes an empty file to append to; one that is there is an error.
    ///
    /// # Errors
    /// The system's.
    fn create_append(&self, path: &str) -> io::Result<Box<dyn Append>>;
    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a directory with its files.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes a file's content durable.
    ///
    /// # Errors
    /// The system's. What was not durable then must be taken for lost.
    fn sync_file(&self, path: &str) -> io::Result<()>;
    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes everything durable that was written so far, files and directories: one `syncfs` instead of thousands of
    /// fsyncs. Linux reports here (since 5.8) every write-back error since the last call.
    ///
    /// # Errors
    /// The system's.
    fn sync_all(&self) -> io::Result<()>;
}

/// A file that grows.
pub trait Append: Send {
    /// Writes at the end.
    ///
    /// # Errors
    /// The system's; a part may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// The system's. After an error a second try could lie: the kernel drops the pages that it could not write.
    fn sync_data(&mut self) -> io::Result<()>;
}

/// A local directory.
#[derive(Debug)]
pub struct LocalFiles {
    root: PathBuf,
    /// Held open from the start on, so that `syncfs` reports every error since then.
    root_handle: File,
}

impl LocalFiles {
    /// Opens the directory, which is made if need be.
    ///
    /// # Errors
    /// The system's.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let shown = root.display().to_string();
        std::fs::create_dir_all(root).map_err(at("create", &shown))?;
        let root_handle = File::open(root).map_err(at("open", &shown))?;
        Ok(Self { root: root.into(), root_handle })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Files for LocalFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(path))
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        match std::fs::metadata(self.path(path)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.path(dir))
    }

    fn write(&self, path: &str, bytes: &[u8], secret: bool) -> io::Result<()> {
        let path = self.path(path);
        let mode = if secret { 0o600 } else { 0o644 };
        let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path);
        let mut file = match (open(), path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(parent)?;
                open()?
            }
            (opened, _) => opened?,
        };
        file.write_all(bytes)
    }

    fn create_append(&self, path: &str) -> io::Result<Box<dyn Append>> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.path(path))?;
        Ok(Box::new(LocalAppend(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::remove_dir_all(self.path(dir))
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path(path))?.sync_all()
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root_handle)?)
    }
}

struct LocalAppend(File);

impl Append for LocalAppend {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// The lock of a data directory; it goes with the process.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes the lock, or says that another recorder has it.
    ///
    /// # Errors
    /// [`StoreError::Locked`], or the system's.
    pub fn take(root: &Path) -> Result<Self, StoreError> {
        let open = || OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"));
        let file = open().map_err(at("open", "lock"))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(root.display().to_string())),
            Err(error) => Err(at("lock", "lock")(error.into())),
        }
    }
}

/// Writes a file that is seen whole or not at all; durable with the next [`Files::sync_all`].
///
/// # Errors
/// The system's.
pub fn put(files: &dyn Files, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = format!("{path}.tmp");
    files.write(&temporary, bytes, false).map_err(at("write", &temporary))?;
    files.rename(&temporary, path).map_err(at("rename to", path))
}

/// Writes a file that is seen whole or not at all, and is durable when this returns.
///
/// # Errors
/// The system's.
pub fn put_durably(files: &dyn Files, path: &str, bytes: &[u8], secret: bool) -> Result<(), StoreError> {
    let temporary = format!("{path}.tmp");
    files.write(&temporary, bytes, secret).map_err(at("write", &temporary))?;
    files.sync_file(&temporary).map_err(at("sync", &temporary))?;
    files.rename(&temporary, path).map_err(at("rename to", path))?;
    let dir = path.rsplit_once('/').map_or(".", |(dir, _)| dir);
    files.sync_dir(dir).map_err(at("sync", dir))
}
