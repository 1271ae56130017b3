//! Writing a bundle: once, from its beginning to its end. What it writes is what [`super::verify`] reads.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::archive::ArchiveWriter;
use super::ladder::{BadStep, Ladder};
use super::{
    CHECKPOINT, MANIFEST, MAX_FILE, MAX_MANIFEST, blob_name, export_name, group, group_name, tile_name,
};
use crate::blob::Blob;
use crate::checkpoint::Checkpoint;
use crate::digest::Digest;
use crate::proof::TileSource;
use crate::tile::{TILE_WIDTH, Tile};

/// Writes one bundle.
pub struct BundleWriter<'a, W, S> {
    archive: ArchiveWriter<W>,
    ladder: Ladder,
    tiles: &'a S,
}

/// The members before the first entry.
#[derive(Debug)]
pub struct Head<'a> {
    /// `manifest.json`
    pub manifest: &'a [u8],
    /// The members that the manifest's `files` names.
    pub files: &'a BTreeMap<String, Vec<u8>>,
    /// The checkpoint's note.
    pub checkpoint: &'a [u8],
}

/// The bundle can't be written.
#[derive(Debug, thiserror::Error)]
pub enum CantWrite<E> {
    /// The file can't.
    #[error("the bundle can't be written: {0}")]
    Output(#[from] io::Error),
    /// The tiles can't be had.
    #[error(transparent)]
    Source(E),
    /// The log's tiles are not those of its checkpoint.
    #[error("{tile}: {error}")]
    Step {
        /// Which.
        tile: Tile,
        /// Why.
        error: BadStep,
    },
    /// The log's edge is not that of its checkpoint.
    #[error("the log's tiles: {0}")]
    Edge(BadStep),
    /// Too much for one bundle.
    #[error("{name} would have {found} bytes; it can have {limit}: narrow the export, by time or agent")]
    Large {
        /// The member.
        name: String,
        /// Its length.
        found: usize,
        /// What it may have.
        limit: usize,
    },
}

impl<'a, W: Write, S: TileSource> BundleWriter<'a, W, S> {
    /// Writes everything before the first entry. `checkpoint` is what the note of `head` says, verified.
    ///
    /// # Errors
    /// [`CantWrite`]
    pub fn begin(
        out: W,
        head: &Head<'_>,
        checkpoint: &Checkpoint,
        tiles: &'a S,
    ) -> Result<Self, CantWrite<S::Error>> {
        let mut archive = ArchiveWriter::new(out);
        bounded(MANIFEST, head.manifest, MAX_MANIFEST)?;
        archive.member(MANIFEST, head.manifest)?;
        for (name, content) in head.files {
            bounded(name, content, MAX_FILE)?;
            archive.member(name, content)?;
        }
        archive.member(CHECKPOINT, head.checkpoint)?;
        let mut edge = Vec::new();
        for tile in Ladder::edge_tiles(checkpoint.size) {
            let hashes = tiles.hashes(tile).map_err(CantWrite::Source)?;
            archive.member(&tile_name(tile), hashes.as_flattened())?;
            edge.push((tile, hashes));
        }
        let ladder = Ladder::new(checkpoint, edge).map_err(CantWrite::Edge)?;
        Ok(Self { archive, ladder, tiles })
    }

    /// Writes entries of the tile at `index`, in order, and the blobs that they name, where they are there.
    ///
    /// # Errors
    /// [`CantWrite`]
    pub fn group(
        &mut self,
        index: u64,
        entries: &[(u64, &[u8])],
        blobs: &BTreeMap<Digest, Blob>,
    ) -> Result<(), CantWrite<S::Error>> {
        let mut content = Vec::new();
        entries.iter().for_each(|(index, leaf)| group::push(&mut content, *index, leaf));
        self.climb(index * TILE_WIDTH)?;
        self.archive.member(&group_name(index), &content)?;
        for (digest, blob) in blobs {
            self.archive.member(&blob_name(digest), blob.as_bytes())?;
        }
        Ok(())
    }

    /// Writes the `read.export` entry, and the end.
    ///
    /// # Errors
    /// [`CantWrite`]
    pub fn finish(mut self, index: u64, leaf: &[u8]) -> Result<W, CantWrite<S::Error>> {
        self.climb(index)?;
        self.archive.member(&export_name(index), leaf)?;
        Ok(self.archive.finish()?)
    }

    /// Writes the tiles that lead to the leaf at `index`.
    fn climb(&mut self, index: u64) -> Result<(), CantWrite<S::Error>> {
        for tile in self.ladder.missing(index) {
            let hashes = self.tiles.hashes(tile).map_err(CantWrite::Source)?;
            self.archive.member(&tile_name(tile), hashes.as_flattened())?;
            self.ladder.step(tile, hashes).map_err(|error| CantWrite::Step { tile, error })?;
        }
        Ok(())
    }
}

fn bounded<E>(name: &str, content: &[u8], limit: usize) -> Result<(), CantWrite<E>> {
    let found = content.len();
    if found <= limit { Ok(()) } else { Err(CantWrite::Large { name: name.into(), found, limit }) }
}
