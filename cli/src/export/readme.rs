//! What whoever opens a bundle with other tools reads first.

use ledger::log_keys::LogKeys;

/// The text of `README.txt`.
pub(super) fn text(keys: &LogKeys) -> String {
    format!(
        "\
This is an evidence bundle of the log

    {name}

It is a tar archive, uncompressed. Verify it before you believe anything in it, with the log's
key that its operator gave you (the one in keys/log.vkey is only for comparing):

    bqwitness verify FILE.bqw --key LOG.vkey

page.html        what is in here, for people
manifest.json    what was asked for, and what is in here; its digest is in the log
log/             the log's checkpoint, and the hash tiles that lead from it to every entry
entries/         the entries: before each a line with its index and its length
blobs/           SQL and other texts that entries name: 32 random bytes, then the text;
                 each file's name is its SHA-256
export/          the log's own entry about this export

The format is described in docs/format.md of bqwitness, and needs no tool of ours: SHA-256,
Ed25519, and the formats of https://c2sp.org (signed-note, tlog-checkpoint, tlog-tiles).
",
        name = keys.name()
    )
}
