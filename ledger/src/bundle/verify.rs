//! The verifier of bundles: reads a file once, from its beginning to its end, and believes nothing but the key it is
//! given. It holds one tile of each level, one entry and one blob; what else it remembers grows with the number of sessions.

use std::io::Read;

use jiff::Timestamp;

use super::archive::{ArchiveReader, Member};
use super::contents::{self, Named, Tally, name_blobs};
use super::head::{read_checkpoint, read_files, read_manifest};
use super::ladder::Ladder;
use super::manifest::{Manifest, Scope};
use super::{BadBundle, CHECKPOINT, blob_name, export_name, group, group_name, tile_name};
use crate::authority::Authority;
use crate::blob::{Blob, MAX_CONTENT, SALT_LEN};
use crate::checkpoint::Checkpoint;
use crate::digest::Digest;
use crate::entry::{Entry, MAX_ENTRY, Role, Subject};
use crate::log_keys::LogKeys;
use crate::policy::Policy;
use crate::statement::{ReadExport, Statement};
use crate::tile::{Level, TILE_WIDTH, Tile, parse_hashes};
use crate::tree::leaf_hash;
use crate::verify::{Finding, MAX_FINDINGS, What};

/// What the verifier believes.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The log's keys, each of which is enough.
    pub keys: &'a LogKeys,
    /// Which witnesses must have cosigned the checkpoint; none when absent.
    pub policy: Option<&'a Policy>,
}

/// Hears what a bundle holds while it is verified. What it hears is not yet evidence: only the report says so.
pub trait Observer {
    /// The manifest, first of all.
    fn manifest(&mut self, _manifest: &Manifest) {}
    /// An entry that is in the log. The `read.export` entry is not among these.
    fn entry(&mut self, _index: u64, _entry: &Entry<'_>, _statement: &Statement) {}
    /// A blob that an entry before it names.
    fn blob(&mut self, _digest: Digest, _blob: &Blob) {}
}

impl Observer for () {}

/// What a bundle proved.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it says of itself, which is true of its contents.
    pub manifest: Manifest,
    /// The manifest's digest, which the log has.
    pub digest: Digest,
    /// What the log's key signed.
    pub checkpoint: Checkpoint,
    /// The witnesses whose cosignatures hold, and when they signed. Those of the verifier's own policy, if it has one;
    /// else those that the bundle names, for whom nobody vouches.
    pub witnesses: Vec<(String, Timestamp)>,
    /// True when the verifier's own policy is satisfied.
    pub witnessed: bool,
    /// Under whose authority the calls ran, as the entries say.
    pub authority: Authority,
    /// Index of the `read.export` entry.
    pub export: u64,
    /// When the recorder wrote it.
    pub exported: Timestamp,
    /// Who exported.
    pub reader: String,
    /// Hash tiles in the file: each was hashed to what the one above it says.
    pub tiles: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// What entries say that can't be so; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many findings there were.
    pub findings_total: u64,
}

impl Report {
    /// True when everything holds.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.findings_total == 0
    }
}

/// Verifies the bundle that `input` reads, by what the verifier trusts.
///
/// # Errors
/// [`BadBundle`]: the first thing because of which the file is not a bundle that proves its contents.
/// [`BadBundle::is_finding`] tells that from a file that can't be read. What entries say of each other is in the report.
pub fn verify_bundle<R: Read>(
    input: R,
    trust: Trust<'_>,
    observer: &mut dyn Observer,
) -> Result<Report, BadBundle> {
    let mut archive = ArchiveReader::new(input);
    let (manifest, digest) = read_manifest(&mut archive, trust.keys)?;
    observer.manifest(&manifest);
    let said = read_files(&mut archive, &manifest, trust.keys)?;
    let (checkpoint, witnesses) = read_checkpoint(&mut archive, trust, &said)?;
    let mut tiles = 0;
    let ladder = read_edge(&mut archive, &checkpoint, &mut tiles)?;
    let tally = Tally::new(&manifest.scope);
    let mut walk =
        Walk { archive, ladder, tally, owed: None, tiles, findings: Vec::new(), findings_total: 0 };
    let (index, leaf) = walk.contents(observer)?;
    let report = walk.finish(manifest, digest, checkpoint, index, &leaf)?;
    Ok(Report { witnesses, witnessed: trust.policy.is_some(), ..report })
}

fn unexpected(found: Option<&Member>, expected: impl Into<String>) -> BadBundle {
    let name = found.map_or_else(|| "the end".into(), |member| member.name.clone());
    BadBundle::Unexpected { name, expected: expected.into() }
}

/// The next member, which must have this name.
pub(super) fn named<R: Read>(archive: &mut ArchiveReader<R>, name: &str) -> Result<Member, BadBundle> {
    match archive.next()? {
        Some(member) if member.name == name => Ok(member),
        other => Err(unexpected(other.as_ref(), name)),
    }
}

fn read_edge<R: Read>(
    archive: &mut ArchiveReader<R>,
    checkpoint: &Checkpoint,
    tiles: &mut u64,
) -> Result<Ladder, BadBundle> {
    let mut edge = Vec::new();
    for tile in Ladder::edge_tiles(checkpoint.size) {
        let member = named(archive, &tile_name(tile))?;
        edge.push((tile, read_tile(archive, &member, tile)?));
        *tiles += 1;
    }
    let name = CHECKPOINT.into();
    Ladder::new(checkpoint, edge).map_err(|error| BadBundle::Step { name, error })
}

fn read_tile<R: Read>(
    archive: &mut ArchiveReader<R>,
    member: &Member,
    tile: Tile,
) -> Result<Vec<crate::tree::Hash>, BadBundle> {
    let bytes = archive.content(member, 32 * usize::from(tile.width))?;
    parse_hashes(tile, &bytes).map_err(|error| BadBundle::Tile { name: member.name.clone(), error })
}

/// On the way through the entries.
struct Walk<R> {
    archive: ArchiveReader<R>,
    ladder: Ladder,
    tally: Tally,
    /// A tile that was read, and under which nothing has come yet.
    owed: Option<Tile>,
    tiles: u64,
    findings: Vec<Finding>,
    findings_total: u64,
}

impl<R: Read> Walk<R> {
    /// Everything up to the `read.export` entry; gives that one.
    fn contents(&mut self, observer: &mut dyn Observer) -> Result<(u64, Vec<u8>), BadBundle> {
        let mut next = self.archive.next()?;
        let mut before = None;
        loop {
            let member = next.ok_or_else(|| unexpected(None, "the entry of this export"))?;
            if let Some(tile) = member.name.strip_prefix("log/").and_then(Tile::parse_path) {
                self.tile(&member, tile)?;
                next = self.archive.next()?;
            } else if let Some(index) = parse_group(&member.name) {
                if before.is_some_and(|before| before >= index) {
                    return Err(unexpected(Some(&member), "entries in the order of the log"));
                }
                before = Some(index);
                let named = self.group(&member, index, observer)?;
                next = self.blobs(named, observer)?;
            } else if let Some(index) = parse_export(&member.name) {
                self.settle(index / TILE_WIDTH, &member)?;
                let leaf = self.archive.content(&member, MAX_ENTRY)?;
                return Ok((index, leaf));
            } else {
                return Err(unexpected(Some(&member), "a tile, entries, or the entry of this export"));
            }
        }
    }

    /// A tile that leads to what comes next.
    fn tile(&mut self, member: &Member, tile: Tile) -> Result<(), BadBundle> {
        let level = |tile: Tile| match tile.level {
            Level::Hashes(level) => Some(level),
            Level::Entries => None,
        };
        let below = |above: Tile| {
            level(tile).map(|level| level + 1) == level(above) && tile.index / TILE_WIDTH == above.index
        };
        if level(tile).is_none() || !tile.is_full() || self.owed.is_some_and(|above| !below(above)) {
            return Err(unexpected(Some(member), "a tile that leads to what comes next"));
        }
        let hashes = read_tile(&mut self.archive, member, tile)?;
        let step = self.ladder.step(tile, hashes);
        step.map_err(|error| BadBundle::Step { name: member.name.clone(), error })?;
        (self.owed, self.tiles) = (Some(tile), self.tiles + 1);
        Ok(())
    }

    /// What stands here lies under the tile of level 0 at `index`, and under no other that was just read.
    fn settle(&mut self, index: u64, member: &Member) -> Result<(), BadBundle> {
        match self.owed.take() {
            Some(tile) if (tile.level, tile.index) != (Level::Hashes(0), index) => {
                Err(unexpected(Some(member), "what the tile before it leads to"))
            }
            _ => Ok(()),
        }
    }

    /// Entries of the tile at `index`; gives the blobs that they name.
    fn group(
        &mut self,
        member: &Member,
        index: u64,
        observer: &mut dyn Observer,
    ) -> Result<Named, BadBundle> {
        self.settle(index, member)?;
        if member.size > group::MAX_GROUP as u64 {
            return Err(BadBundle::Large { name: member.name.clone(), limit: group::MAX_GROUP });
        }
        let (mut named, mut leaf) = (Named::new(), Vec::new());
        let mut last = self.tally.last();
        loop {
            let place = group::next(&mut self.archive, &mut leaf)?;
            if place / TILE_WIDTH != index || last.is_some_and(|last| last >= place) {
                return Err(BadBundle::Entry { index: place, what: "it stands where it can't be".into() });
            }
            last = Some(place);
            self.entry(place, &leaf, &mut named, observer)?;
            if self.archive.left() == 0 {
                return Ok(named);
            }
        }
    }

    fn entry(
        &mut self,
        index: u64,
        leaf: &[u8],
        named: &mut Named,
        observer: &mut dyn Observer,
    ) -> Result<(), BadBundle> {
        let hash = self.proved(index, leaf)?;
        let bad = |what| BadBundle::Entry { index, what };
        let (entry, statement) = contents::read(leaf).map_err(bad)?;
        for message in self.tally.entry(index, &hash, &entry, &statement) {
            self.find(index, What::Session, message);
        }
        if !name_blobs(named, &statement) {
            self.find(index, What::Blob, "it says another length of a blob than an entry before it".into());
        }
        observer.entry(index, &entry, &statement);
        Ok(())
    }

    /// The leaf's hash, which is the one that the tree has at this place.
    fn proved(&self, index: u64, leaf: &[u8]) -> Result<crate::tree::Hash, BadBundle> {
        let hash = leaf_hash(leaf);
        let what = match self.ladder.leaf(index) {
            Some(expected) if *expected == hash => return Ok(hash),
            Some(_) => "it is not what the log has at this place",
            None => "no tile says what the log has at this place",
        };
        Err(BadBundle::Entry { index, what: what.into() })
    }

    /// The blobs that were named; gives the member after them.
    fn blobs(&mut self, named: Named, observer: &mut dyn Observer) -> Result<Option<Member>, BadBundle> {
        let mut next = self.archive.next()?;
        for (digest, size) in named {
            let here = next.as_ref().filter(|member| member.name == blob_name(&digest));
            if let Some(member) = here {
                let bytes = self.archive.content(member, SALT_LEN + MAX_CONTENT)?;
                let blob = Blob::from_bytes(bytes).ok().filter(|blob| blob.digest() == digest);
                let blob = blob.ok_or_else(|| BadBundle::Digest { name: member.name.clone() })?;
                if blob.reference().size != size {
                    return Err(BadBundle::Contents("a blob has another length than its entry says"));
                }
                observer.blob(digest, &blob);
                next = self.archive.next()?;
                self.tally.blob(&digest, true);
            } else {
                self.tally.blob(&digest, false);
            }
        }
        Ok(next)
    }

    fn find(&mut self, index: u64, what: What, message: String) {
        self.findings_total += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { index: Some(index), what, message });
        }
    }

    fn finish(
        mut self,
        manifest: Manifest,
        digest: Digest,
        checkpoint: Checkpoint,
        index: u64,
        leaf: &[u8],
    ) -> Result<Report, BadBundle> {
        if let Some(more) = self.archive.next()? {
            return Err(unexpected(Some(&more), "the end"));
        }
        self.proved(index, leaf)?;
        let last = self.tally.last();
        check_range(&manifest, &checkpoint, last)?;
        if index < manifest.size || last.is_some_and(|last| last >= index) {
            return Err(BadBundle::Export("it comes before what was exported"));
        }
        let (export, exported) = read_export(leaf, &checkpoint.origin, index)?;
        check_period(&manifest, &self.tally)?;
        let authority = self.tally.authority().clone();
        let settled = self.tally.settle(manifest.period);
        if export.manifest != digest {
            return Err(BadBundle::Export("the one here is of another manifest"));
        }
        // Earlier versions entered the words too.
        let filters = [manifest.scope.to_entered_filter(), manifest.scope.to_query_string()];
        if export.entries != settled.entries || !filters.contains(&export.filter) {
            return Err(BadBundle::Export("it says something else of what was exported"));
        }
        if settled != manifest.contents {
            return Err(BadBundle::Contents("entries and blobs add up to something else"));
        }
        Ok(Report {
            manifest,
            digest,
            checkpoint,
            witnesses: Vec::new(),
            witnessed: false,
            authority,
            export: index,
            exported,
            reader: export.reader,
            tiles: self.tiles,
            bytes: self.archive.at(),
            findings: self.findings,
            findings_total: self.findings_total,
        })
    }
}

/// That a range is here to its end. What lies between its ends was looked at entry by entry.
fn check_range(manifest: &Manifest, checkpoint: &Checkpoint, last: Option<u64>) -> Result<(), BadBundle> {
    if manifest.size > checkpoint.size {
        return Err(BadBundle::Contents("the checkpoint is older than the selection"));
    }
    let Scope::Everything(range) = &manifest.scope else { return Ok(()) };
    if range.from > range.to
        || range.to > manifest.size
        || (range.until.is_none() && range.to != manifest.size)
    {
        return Err(BadBundle::Contents("its range does not end where it says"));
    }
    if range.since.is_none() && range.from != 0 {
        return Err(BadBundle::Contents("its range does not begin where it says"));
    }
    let expected = range.with_neighbours(manifest.size).map(|(_, last)| last);
    if expected == last { Ok(()) } else { Err(BadBundle::Contents("its range is not whole")) }
}

/// That coverage is told for all of the time that was asked for: a shorter one would hide gaps.
fn check_period(manifest: &Manifest, tally: &Tally) -> Result<(), BadBundle> {
    let (since, until) = manifest.scope.limits();
    let told = manifest.period;
    match tally.told_time(since, until) {
        Some(asked) if told.from > asked.from || told.to < asked.to => {
            Err(BadBundle::Contents("it tells coverage for less time than was asked for"))
        }
        _ => Ok(()),
    }
}

fn read_export(leaf: &[u8], origin: &str, index: u64) -> Result<(ReadExport, Timestamp), BadBundle> {
    let (entry, statement) = contents::read(leaf).map_err(|what| BadBundle::Entry { index, what })?;
    let by_log = matches!(&entry.envelope.subject, Subject::Log { log } if log == origin);
    let export = statement.body.export.filter(|_| by_log && entry.envelope.role == Role::Recorder);
    let export = export.ok_or(BadBundle::Export("the recorder did not write the entry that is here"))?;
    Ok((export, entry.envelope.received))
}

fn parse_group(name: &str) -> Option<u64> {
    let tile = Tile::parse_path(&format!("tile/{name}"))?;
    (tile.is_full() && group_name(tile.index) == name).then_some(tile.index)
}

fn parse_export(name: &str) -> Option<u64> {
    let index = name.strip_prefix("export/")?.strip_suffix(".json")?.parse().ok()?;
    (export_name(index) == name).then_some(index)
}
