//! What a bundle begins with: its manifest, the files that it vouches for, the keys among them, and the checkpoint.

use std::io::Read;

use jiff::Timestamp;

use super::archive::ArchiveReader;
use super::manifest::{FORMAT, Manifest};
use super::verify::{Trust, named};
use super::{BadBundle, CHECKPOINT, LOG_KEY, MANIFEST, MAX_FILE, MAX_MANIFEST, POLICY};
use crate::checkpoint::{BadCheckpoint, Checkpoint};
use crate::digest::Digest;
use crate::log_keys::{LogKeys, MAX_KEYS};
use crate::note::{MAX_NOTE, Note};
use crate::policy::{MAX_POLICY, Policy};

/// Greatest length of the member with the log's keys, in bytes.
const MAX_KEY: usize = 4096;

pub(super) fn read_manifest<R: Read>(
    archive: &mut ArchiveReader<R>,
    keys: &LogKeys,
) -> Result<(Manifest, Digest), BadBundle> {
    #[derive(serde::Deserialize)]
    struct Named {
        format: String,
    }
    let member = named(archive, MANIFEST)?;
    let bytes = archive.content(&member, MAX_MANIFEST)?;
    let bad = |error: serde_json::Error| BadBundle::Manifest(error.to_string());
    let Named { format } = serde_json::from_slice(&bytes).map_err(bad)?;
    if format != FORMAT {
        return Err(BadBundle::Format(format));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(bad)?;
    if manifest.log != keys.name() {
        return Err(BadBundle::Key { found: manifest.log });
    }
    Ok((manifest, Digest::of(&bytes)))
}

/// Whose signatures the bundle names, so that each can be checked.
pub(super) struct Said {
    /// The log's keys. At least one of them is trusted; the others sign beside it, while the log's key is changed.
    keys: LogKeys,
    policy: Option<Policy>,
}

/// The members that the manifest's digests vouch for, in the order of their names.
pub(super) fn read_files<R: Read>(
    archive: &mut ArchiveReader<R>,
    manifest: &Manifest,
    trusted: &LogKeys,
) -> Result<Said, BadBundle> {
    let (mut keys, mut policy) = (None, None);
    for (name, digest) in &manifest.files {
        let member = named(archive, name)?;
        let limit = match name.as_str() {
            LOG_KEY => MAX_KEY,
            POLICY => MAX_POLICY,
            _ => MAX_FILE,
        };
        let content = archive.content(&member, limit)?;
        if Digest::of(&content) != *digest {
            return Err(BadBundle::Digest { name: name.clone() });
        }
        if name == LOG_KEY {
            keys = Some(read_keys(&content, trusted)?);
        }
        if name == POLICY {
            let text = String::from_utf8_lossy(&content);
            policy = Some(Policy::parse(&text).map_err(BadBundle::Policy)?);
        }
    }
    Ok(Said { keys: keys.ok_or(BadBundle::Contents("there is no key"))?, policy })
}

/// The log's keys as the bundle names them, in the one form that they have, and one of them trusted.
fn read_keys(content: &[u8], trusted: &LogKeys) -> Result<LogKeys, BadBundle> {
    let text = String::from_utf8_lossy(content);
    let found = || BadBundle::Key { found: text.trim().to_owned() };
    let keys: LogKeys = text.parse().map_err(|_| found())?;
    let known = keys.keys().iter().any(|key| trusted.keys().contains(key));
    let one_form = keys.keys().len() <= MAX_KEYS && format!("{keys}\n") == text;
    if known && one_form { Ok(keys) } else { Err(found()) }
}

/// The checkpoint, and the witnesses whose cosignatures hold.
pub(super) fn read_checkpoint<R: Read>(
    archive: &mut ArchiveReader<R>,
    Trust { keys, policy }: Trust<'_>,
    said: &Said,
) -> Result<(Checkpoint, Vec<(String, Timestamp)>), BadBundle> {
    let member = named(archive, CHECKPOINT)?;
    let bytes = archive.content(&member, MAX_NOTE)?;
    let checkpoint = Checkpoint::verify(&bytes, keys)?;
    let note = Note::parse(&bytes).map_err(BadCheckpoint::from)?;
    // A line of another key of the log proves nothing more, and must hold too.
    Checkpoint::verify(&bytes, &said.keys)?;
    check_signers(&note, keys, policy, said)?;
    let mut witnesses = Vec::new();
    for policy in [said.policy.as_ref(), policy].into_iter().flatten() {
        witnesses = policy.check(&note).map_err(BadBundle::Cosignature)?.by;
    }
    let enough = policy.map(|policy| policy.check(&note)).transpose().map_err(BadBundle::Cosignature)?;
    if enough.is_some_and(|witnessed| !witnessed.enough) {
        return Err(BadBundle::Quorum(witnesses.into_iter().map(|(name, _)| name).collect()));
    }
    Ok((checkpoint, witnesses))
}

/// Whoever is not known here, and a second line of one who is, would be bytes that nobody checks.
fn check_signers(
    note: &Note<'_>,
    keys: &LogKeys,
    policy: Option<&Policy>,
    said: &Said,
) -> Result<(), BadBundle> {
    let policies = || [policy, said.policy.as_ref()].into_iter().flatten();
    let known: Vec<_> = policies().flat_map(|policy| policy.witnesses().values()).map(|w| &w.key).collect();
    let mut seen = Vec::new();
    for signer in note.signers() {
        let of_log = keys.signs_as(signer.0, signer.1) || said.keys.signs_as(signer.0, signer.1);
        let of_witness = known.iter().any(|key| signer == (key.name(), key.id()));
        if !(of_log || of_witness) || seen.contains(&signer) {
            return Err(BadBundle::Signer(signer.0.to_owned()));
        }
        seen.push(signer);
    }
    Ok(())
}
