//! Placeholder credentials: what agents hold in the place of a key.
//!
//! A placeholder is random bytes, the time of its end, and a keyed digest (HMAC-SHA-256) of both. The key is made at the
//! start of this process and never leaves its memory: a placeholder is worth nothing at Google, nothing at another pod's
//! sidecar, and nothing after a restart. Clients that hold one across a restart are answered 401, and ask for a new one, as they do
//! when a token was revoked. A key on the CA's volume would spare them that, and would be one more secret on a disk.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use tokio::time::Instant;

use super::random;

/// How long a placeholder is good. Clients ask for a new one some minutes before its end, on this machine.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What placeholders begin with: whoever finds one sees that it is no secret of Google's.
const PREFIX: &str = "bqwitness-placeholder-";

const NONCE: usize = 16;
const EXPIRY: usize = 8;
const TAG: usize = 32;

/// Issues placeholders, and knows its own.
pub struct Placeholders {
    key: hmac::Key,
    began: Instant,
}

impl fmt::Debug for Placeholders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placeholders").finish_non_exhaustive()
    }
}

/// A placeholder that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlaceholder {
    /// Issued by another sidecar, by this one before its restart, or by nobody.
    #[error(
        "this placeholder credential was not issued by this pod's sidecar since its start; ask the metadata server for a new one"
    )]
    NotOurs,
    /// Its time is over.
    #[error("this placeholder credential has expired; ask the metadata server for a new one")]
    Expired,
}

impl BadPlaceholder {
    /// The fixed name of this error.
    #[must_use]
    pub fn category(self) -> &'static str {
        match self {
            Self::NotOurs => "placeholder_foreign",
            Self::Expired => "placeholder_expired",
        }
    }
}

impl Default for Placeholders {
    fn default() -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()), began: Instant::now() }
    }
}

impl Placeholders {
    /// A new placeholder, good for [`LIFETIME`].
    #[must_use]
    pub fn issue(&self) -> String {
        let expires = (self.began.elapsed() + LIFETIME).as_secs();
        let mut bytes = Vec::with_capacity(NONCE + EXPIRY + TAG);
        bytes.extend(random::bytes::<NONCE>());
        bytes.extend(expires.to_be_bytes());
        let tag = hmac::sign(&self.key, &bytes);
        bytes.extend(tag.as_ref());
        format!("{PREFIX}{}", BASE64.encode(bytes))
    }

    /// Is this token meant to be a placeholder, of whomever?
    #[must_use]
    pub fn is_one(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// Nothing, if it was issued here and is still good. Digests are compared in constant time.
    ///
    /// # Errors
    /// [`BadPlaceholder`]
    pub fn check(&self, token: &str) -> Result<(), BadPlaceholder> {
        let text = token.strip_prefix(PREFIX).ok_or(BadPlaceholder::NotOurs)?;
        let bytes = BASE64.decode(text).map_err(|_| BadPlaceholder::NotOurs)?;
        let (said, tag) = bytes.split_at_checked(NONCE + EXPIRY).ok_or(BadPlaceholder::NotOurs)?;
        hmac::verify(&self.key, said, tag).map_err(|_| BadPlaceholder::NotOurs)?;
        let expires = said.last_chunk::<EXPIRY>().map_or(0, |expires| u64::from_be_bytes(*expires));
        if self.began.elapsed().as_secs() < expires { Ok(()) } else { Err(BadPlaceholder::Expired) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test(start_paused = true)]
    async fn good_here_and_for_its_time() {
        let ours = Placeholders::default();
        let token = ours.issue();
        assert!(Placeholders::is_one(&token));
        assert_ne!(token, ours.issue(), "no two are alike");
        assert_eq!(ours.check(&token), Ok(()));
        assert_eq!(Placeholders::default().check(&token), Err(BadPlaceholder::NotOurs), "another sidecar's");
        tokio::time::advance(LIFETIME - Duration::from_secs(1)).await;
        assert_eq!(ours.check(&token), Ok(()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ours.check(&token), Err(BadPlaceholder::Expired));
    }

    #[test]
    fn no_debug_output_shows_the_key() {
        assert_eq!(format!("{:?}", Placeholders::default()), "Placeholders { .. }");
    }

    proptest! {
        #[test]
        fn one_changed_byte_makes_it_nobodys(at in 0..NONCE + EXPIRY + TAG, bit in 0..8) {
            let ours = Placeholders::default();
            let token = ours.issue();
            let mut bytes = BASE64.decode(&token[PREFIX.len()..]).unwrap();
            bytes[at] ^= 1_u8 << bit;
            let changed = format!("{PREFIX}{}", BASE64.encode(bytes));
            prop_assert_eq!(ours.check(&changed), Err(BadPlaceholder::NotOurs));
        }

        #[test]
        fn any_text_is_refused(text: String) {
            let ours = Placeholders::default();
            prop_assert_eq!(ours.check(&text), Err(BadPlaceholder::NotOurs));
            prop_assert_eq!(ours.check(&format!("{PREFIX}{text}")), Err(BadPlaceholder::NotOurs));
        }
    }
}
