//! Blobs: SQL text, parameters and bodies, kept outside the log and named in it by a salted digest.
//!
//! A blob's file is its salt followed by its content, and its digest is the SHA-256 of that file: `sha256sum` checks it.
//! Deleting the file deletes the text for good, because a digest of 32 random bytes and a text can't be guessed back
//! to the text, while the log stays whole.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Length of a blob's salt, in bytes.
pub const SALT_LEN: usize = 32;

/// Greatest content of a blob, in bytes (16 MiB). A BigQuery query request is at most 10 MB; a larger one is refused
/// by the proxy and by the recorder (`blob_too_large`).
pub const MAX_CONTENT: usize = 16 << 20;

/// A text or body that an entry names but does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    bytes: Vec<u8>,
    digest: Digest,
}

/// How a statement names a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobRef {
    /// SHA-256 of salt and content together.
    pub digest: Digest,
    /// Length of the content, in bytes, without the salt.
    pub size: u64,
}

/// The bytes can't be a blob.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadBlob {
    /// Shorter than a salt.
    #[error("a blob begins with a salt of {SALT_LEN} bytes; this one has {0} bytes in all")]
    NoSalt(usize),
    /// Longer than [`MAX_CONTENT`].
    #[error("a blob holds at most {MAX_CONTENT} bytes; this one has {0}")]
    TooLarge(usize),
}

impl Blob {
    /// A blob of `content` under `salt`, which the caller takes from the system's random numbers.
    ///
    /// # Errors
    /// [`BadBlob::TooLarge`] above [`MAX_CONTENT`].
    pub fn new(salt: [u8; SALT_LEN], content: &[u8]) -> Result<Self, BadBlob> {
        let mut bytes = Vec::with_capacity(SALT_LEN + content.len());
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(content);
        Self::from_bytes(bytes)
    }

    /// A blob from the bytes of its file: salt, then content.
    ///
    /// # Errors
    /// Shorter than a salt, or above [`MAX_CONTENT`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, BadBlob> {
        match bytes.len().checked_sub(SALT_LEN) {
            None => Err(BadBlob::NoSalt(bytes.len())),
            Some(content) if content > MAX_CONTENT => Err(BadBlob::TooLarge(content)),
            Some(_) => Ok(Self { digest: Digest::of(&bytes), bytes }),
        }
    }

    /// Salt and content: what is stored and sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was recorded, without the salt.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.bytes[SALT_LEN..]
    }

    /// SHA-256 of salt and content.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The reference that a statement carries.
    #[must_use]
    pub fn reference(&self) -> BlobRef {
        BlobRef { digest: self.digest, size: self.content().len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_file() {
        let blob = Blob::new([7; 32], b"SELECT 1").expect("small");
        assert_eq!(blob.digest(), Digest::of(&[&[7u8; 32][..], b"SELECT 1"].concat()));
        assert_eq!(blob.content(), b"SELECT 1");
        assert_eq!(blob.reference().size, 8);
        assert_ne!(blob.digest(), Blob::new([8; 32], b"SELECT 1").expect("small").digest());
    }

    #[test]
    fn a_blob_needs_a_salt_and_has_a_limit() {
        assert_eq!(Blob::from_bytes(vec![0; 31]), Err(BadBlob::NoSalt(31)));
        assert!(Blob::from_bytes(vec![0; 32]).is_ok());
        assert_eq!(Blob::new([0; 32], &vec![0; MAX_CONTENT + 1]), Err(BadBlob::TooLarge(MAX_CONTENT + 1)));
    }
}
