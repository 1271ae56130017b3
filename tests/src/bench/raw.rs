//! What the disk itself gives: a loop of append and fdatasync, with nothing around it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::statements::ENTRY;
use crate::trouble::{Doing as _, Result};

/// How long each loop runs.
const TIME: Duration = Duration::from_secs(2);

/// Entries per second that are durable when each `batch` of them is appended to a file in `folder` and made so.
///
/// # Errors
/// The system's.
pub(crate) fn appends(folder: &Path, batch: usize) -> Result<f64> {
    let path = folder.join("raw");
    let mut file = File::create(&path).doing(format!("making {}", path.display()))?;
    let bytes = vec![b'x'; ENTRY * batch];
    let (start, mut entries) = (Instant::now(), 0.0);
    while start.elapsed() < TIME {
        file.write_all(&bytes).doing("appending")?;
        file.sync_data().doing("making it durable")?;
        entries += batch as f64;
    }
    let rate = entries / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).doing("removing a file")?;
    Ok(rate)
}
