//! Giving an order: `bqwitness-recorder key add`, `key retire`, `delete-blob`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Answer, DIR, DONE, ORDER, Order};

/// Between two looks for the answer.
const PAUSE: Duration = Duration::from_millis(100);

/// The order can't be given, or was not answered.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// There is no log.
    #[error("{0} is not a recorder's data directory: there is no log.key")]
    NoLog(PathBuf),
    /// The system's.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// Nobody answered in time.
    #[error(
        "no recorder has answered within {0:?}. The order stays: a recorder that runs on this directory, or the next one that \
         starts on it, carries it out. Its log says how it went"
    )]
    Unanswered(Duration),
    /// The answer can't be read.
    #[error("the recorder's answer can't be read: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Leaves the order for the recorder of this directory, and waits for its answer.
///
/// # Errors
/// [`NotGiven`]
pub fn give(data: &Path, order: &Order, patience: Duration) -> Result<Answer, NotGiven> {
    if !data.join("log.key").exists() {
        return Err(NotGiven::NoLog(data.into()));
    }
    let dir = data.join(DIR);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| NotGiven::Io { path, error }
    };
    fs::create_dir_all(&dir).map_err(failed(&dir))?;
    let id = Uuid::now_v7();
    let (written, order_file) = (dir.join(format!("{id}.tmp")), dir.join(format!("{id}{ORDER}")));
    fs::write(&written, serde_json::to_vec_pretty(order)?).map_err(failed(&written))?;
    fs::rename(&written, &order_file).map_err(failed(&order_file))?;
    let answer = dir.join(format!("{id}{DONE}"));
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match fs::read(&answer) {
            Ok(bytes) => {
                fs::remove_file(&answer).map_err(failed(&answer))?;
                return Ok(serde_json::from_slice(&bytes)?);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::thread::sleep(PAUSE),
            Err(error) => return Err(failed(&answer)(error)),
        }
    }
    Err(NotGiven::Unanswered(patience))
}
