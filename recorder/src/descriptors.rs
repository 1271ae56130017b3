//! File descriptors: a connection takes one, and the usual limit is 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::api::server::MAX_CONNECTIONS;

/// Descriptors beside those of connections: files, threads' pipes, and what waits to be closed.
const OTHERS: u64 = 512;

/// What as many connections as the API takes need.
pub const NEEDED: u64 = MAX_CONNECTIONS as u64 + OTHERS;

/// Raises this process's limit to [`NEEDED`], or as far as it may go, and says what it is. Where that is less, connections
/// beyond it wait until others end.
pub fn raise() {
    let had = getrlimit(Resource::Nofile);
    let wanted = raised(&had);
    if wanted != had
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!(%error, "the limit of file descriptors can't be raised");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit < NEEDED {
        tracing::warn!(
            limit,
            needed = NEEDED,
            "few file descriptors: raise the hard limit (ulimit -Hn) for all connections"
        );
    } else {
        tracing::info!(limit, "file descriptors");
    }
}

/// The limit to ask for: never less than what there is.
fn raised(had: &Rlimit) -> Rlimit {
    let current = had.current.map(|soft| soft.max(NEEDED.min(had.maximum.unwrap_or(u64::MAX))));
    Rlimit { current, maximum: had.maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_far_as_it_may_be_and_never_lowered() {
        let limit = |current, maximum| Rlimit { current, maximum };
        for (had, soft) in [
            (limit(Some(1024), Some(1 << 20)), Some(NEEDED)),
            (limit(Some(1024), Some(4096)), Some(4096)),
            (limit(Some(1024), None), Some(NEEDED)),
            (limit(Some(1 << 20), Some(1 << 20)), Some(1 << 20)),
            (limit(None, None), None),
        ] {
            assert_eq!(raised(&had), limit(soft, had.maximum));
        }
    }
}
