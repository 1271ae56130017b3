//! A disk in memory that can fail on demand and knows what a power cut would leave: without the right sync, nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use bqwitness_recorder::store::files::{Append, Files};

/// What a failing operation leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It did nothing.
    Nothing,
    /// A write did half of its work, anything else all of it; and yet it failed.
    Something,
}

/// What a power cut does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// It is gone.
    Loses,
    /// It happens to be there.
    Keeps,
}

#[derive(Clone, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Default)]
struct Disk {
    inodes: Vec<Inode>,
    /// What programs see, and what a power cut leaves.
    names: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    operations: usize,
    fail_at: Option<(usize, i32, Left)>,
    failed: Option<String>,
    /// Syncs of appended files wait, and whether one does.
    held: bool,
    waiting: bool,
    /// Syncs of appended files so far.
    appends_synced: usize,
}

/// The disk.
#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Disk>>, Arc<Condvar>);

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk {
    /// Counts a changing operation; the one that is to fail says so, and what it should leave.
    fn operation(&mut self, what: String) -> Option<(io::Error, Left)> {
        self.operations += 1;
        let (at, code, left) = self.fail_at?;
        if at != self.operations {
            return None;
        }
        self.failed = Some(what);
        Some((io::Error::from_raw_os_error(code), left))
    }

    fn file(&self, path: &str) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            _ => Err(not_found()),
        }
    }

    fn make_dirs(&mut self, dir: &str) {
        if dir != "." {
            self.make_dirs(parent(dir));
            self.names.insert(dir.into(), Node::Dir);
        }
    }

    fn make_file(&mut self, path: &str, content: Vec<u8>) -> usize {
        self.inodes.push(Inode { content, durable: Vec::new() });
        self.names.insert(path.into(), Node::File(self.inodes.len() - 1));
        self.inodes.len() - 1
    }

    fn sync_names(&mut self, dir: &str) {
        self.durable.retain(|path, _| parent(path) != dir);
        let entries = self.names.iter().filter(|(path, _)| parent(path) == dir);
        self.durable.extend(entries.map(|(path, node)| (path.clone(), *node)));
    }
}

impl MemoryFiles {
    /// The changing operation with this number (from 1) fails with this error number.
    pub fn fail_at(&self, operation: usize, code: i32, left: Left) {
        self.0.lock().unwrap().fail_at = Some((operation, code, left));
    }

    /// From now on a sync of an appended file waits for [`Self::release`]: a disk that is as slow as it can be.
    pub fn hold(&self) {
        self.0.lock().unwrap().held = true;
    }

    /// Syncs go on.
    pub fn release(&self) {
        self.0.lock().unwrap().held = false;
        self.1.notify_all();
    }

    /// Waits until a sync waits for [`Self::release`].
    pub fn wait_until_held(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |disk| !disk.waiting).unwrap());
    }

    /// Syncs of appended files so far.
    pub fn appends_synced(&self) -> usize {
        self.0.lock().unwrap().appends_synced
    }

    /// Changing operations so far.
    pub fn operations(&self) -> usize {
        self.0.lock().unwrap().operations
    }

    /// Which operation failed.
    pub fn failed(&self) -> Option<String> {
        self.0.lock().unwrap().failed.clone()
    }

    /// The disk after a power cut; it fails no more.
    pub fn after(&self, cut: PowerCut) -> Self {
        let disk = self.0.lock().unwrap();
        let mut after = Disk { inodes: disk.inodes.clone(), ..Disk::default() };
        match cut {
            PowerCut::Keeps => after.names = disk.names.clone(),
            PowerCut::Loses => {
                after.inodes.iter_mut().for_each(|inode| inode.content = inode.durable.clone());
                let reachable = |path: &str| {
                    let mut dir = parent(path);
                    while dir != "." {
                        if disk.durable.get(dir) != Some(&Node::Dir) {
                            return false;
                        }
                        dir = parent(dir);
                    }
                    true
                };
                let left = disk.durable.iter().filter(|(path, _)| reachable(path));
                after.names = left.map(|(path, node)| (path.clone(), *node)).collect();
            }
        }
        after.inodes.iter_mut().for_each(|inode| inode.durable = inode.content.clone());
        after.durable = after.names.clone();
        Self(Arc::new(Mutex::new(after)), Arc::default())
    }

    /// Does a changing operation, or fails as planned.
    fn change(&self, what: String, all: impl FnOnce(&mut Disk) -> io::Result<()>) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        match disk.operation(what) {
            None => all(&mut disk),
            Some((error, Left::Nothing)) => Err(error),
            Some((error, Left::Something)) => all(&mut disk).and(Err(error)),
        }
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let disk = self.0.lock().unwrap();
        Ok(disk.inodes[disk.file(path)?].content.clone())
    }

    fn len(&self, path: &str) -> io::Result<Option<u64>> {
        let disk = self.0.lock().unwrap();
        Ok(disk.names.get(path).map(|node| match node {
            Node::Dir => 0,
            Node::File(inode) => disk.inodes[*inode].content.len() as u64,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let disk = self.0.lock().unwrap();
        let names = disk.names.keys().filter(|path| parent(path) == dir);
        Ok(names.map(|path| path.rsplit('/').next().unwrap().to_owned()).collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.change(format!("create {dir}"), |disk| {
            disk.make_dirs(dir);
            Ok(())
        })
    }

    fn write(&self, path: &str, bytes: &[u8], _: bool) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let failure = disk.operation(format!("write {path}"));
        let written = match &failure {
            None => bytes,
            Some((_, Left::Something)) => &bytes[..bytes.len() / 2],
            Some((_, Left::Nothing)) => &[],
        };
        if !matches!(failure, Some((_, Left::Nothing))) {
            disk.make_dirs(parent(path));
            match disk.file(path) {
                Ok(inode) => disk.inodes[inode].content = written.to_vec(),
                Err(_) => drop(disk.make_file(path, written.to_vec())),
            }
        }
        failure.map_or(Ok(()), |(error, _)| Err(error))
    }

    fn create_append(&self, path: &str) -> io::Result<Box<dyn Append>> {
        self.change(format!("create {path}"), |disk| match disk.names.get(path) {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                disk.make_file(path, Vec::new());
                Ok(())
            }
        })?;
        let inode = self.0.lock().unwrap().file(path)?;
        Ok(Box::new(MemoryAppend { files: self.clone(), inode, path: path.into() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(format!("rename to {to}"), |disk| {
            let node = disk.names.remove(from).ok_or_else(not_found)?;
            disk.names.insert(to.into(), node);
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(format!("remove {path}"), |disk| disk.names.remove(path).map(drop).ok_or_else(not_found))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.change(format!("remove {dir}"), |disk| {
            let below = format!("{dir}/");
            disk.names.retain(|path, _| !path.starts_with(&below));
            disk.names.remove(dir).map(drop).ok_or_else(not_found)
        })
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        self.change(format!("sync {path}"), |disk| {
            let inode = disk.file(path)?;
            disk.inodes[inode].durable = disk.inodes[inode].content.clone();
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.change(format!("sync {dir}"), |disk| {
            disk.sync_names(dir);
            Ok(())
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.change("sync all".into(), |disk| {
            disk.inodes.iter_mut().for_each(|inode| inode.durable = inode.content.clone());
            disk.durable = disk.names.clone();
            Ok(())
        })
    }
}

struct MemoryAppend {
    files: MemoryFiles,
    inode: usize,
    path: String,
}

impl Append for MemoryAppend {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.files.0.lock().unwrap();
        let failure = disk.operation(format!("append to {}", self.path));
        let written = match &failure {
            None => bytes,
            Some((_, Left::Something)) => &bytes[..bytes.len() / 2],
            Some((_, Left::Nothing)) => &[],
        };
        disk.inodes[self.inode].content.extend_from_slice(written);
        failure.map_or(Ok(()), |(error, _)| Err(error))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let inode = self.inode;
        let mut disk = self.files.0.lock().unwrap();
        disk.waiting = disk.held;
        self.files.1.notify_all();
        let mut disk = self.files.1.wait_while(disk, |disk| disk.held).unwrap();
        (disk.waiting, disk.appends_synced) = (false, disk.appends_synced + 1);
        drop(disk);
        self.files.change(format!("sync {}", self.path), |disk| {
            disk.inodes[inode].durable = disk.inodes[inode].content.clone();
            Ok(())
        })
    }
}
