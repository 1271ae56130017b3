//! What an auditor waits for: searches in a long log, the index built again, an export, its verification. The log is written by
//! the recorder's own library, not over the wire: so it can be long.

mod bundle;
mod log;
mod search;

use std::path::Path;

use super::figure::Figure;
use crate::programs::ORIGIN;
use crate::trouble::{Doing as _, Result};

const PART: &str = "evidence";

/// Entries above which no bundle of everything is made: its figures are those of a log of this length.
pub(crate) const MOST_EXPORTED: u64 = 1_000_000;

/// Disk that it takes, in MiB: a KiB for an entry of the log, half of it for the index, a tenth of a file of 4 KiB for its text; and
/// twice the log for a bundle on its way.
pub(crate) fn needs_mib(entries: u64) -> u64 {
    let bundle = 2 * entries.min(MOST_EXPORTED);
    (2 * entries + bundle) / 1024
}

/// Takes these figures of a log of so many entries, with files in `folder`.
///
/// # Errors
/// Something does not run, or what was exported does not verify.
pub(crate) async fn figures(folder: &Path, entries: u64) -> Result<Vec<Figure>> {
    let data = folder.join("recorder");
    let written = log::write(&data, ORIGIN, entries)?;
    let mut figures = vec![written.figure()];
    figures.push(search::index(&data, &written)?);
    figures.extend(search::figures(&data, &written).await?);
    // What was asked for, that is: a log has some more, the sessions' own.
    if entries <= MOST_EXPORTED {
        figures.extend(bundle::figures(folder, written.hashed).await?);
    }
    std::fs::remove_dir_all(&data).doing("removing the log")?;
    Ok(figures)
}

fn figure(name: &'static str, value: f64, unit: &'static str) -> Figure {
    Figure::new(PART, name, value, unit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// The figures of a debug build mean nothing; that they can be taken does. The programs are built before the tests.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn they_can_be_taken_of_a_short_log() {
        let folder = tempfile::tempdir().unwrap();
        let figures = figures(folder.path(), 4_000).await.unwrap();
        for part in ["index", "agent, p99", "job, p99", "words, p50", "export", "verify", "- memory"] {
            assert!(figures.iter().any(|figure| figure.name.contains(part)), "{part}: {figures:?}");
        }
        assert!(figures.iter().all(|figure| figure.value > 0.0), "{figures:?}");
    }
}
