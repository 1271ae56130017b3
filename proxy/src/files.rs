//! Files that others read while we write them: whole or not there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The sidecar's own user (0600).
    Owner,
    /// Everyone (0644).
    Everyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Puts a file in the place of `path`: readers see the old one or the new one, never a part.
///
/// # Errors
/// The system's; what was there stays.
pub fn replace(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "this is no file name"))?;
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = path.with_file_name(partial);
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(readers.mode()).open(&partial)?;
    // `mode` is less the umask, and says nothing about a file that an earlier start left behind.
    file.set_permissions(fs::Permissions::from_mode(readers.mode()))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_whole_with_the_right_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        fs::write(dir.path().join("secret.partial"), "left by a start that was killed").expect("written");
        replace(&path, b"one", Readers::Everyone).expect("written");
        replace(&path, b"two", Readers::Owner).expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
        assert!(replace(Path::new("/"), b"", Readers::Owner).is_err());
    }
}
