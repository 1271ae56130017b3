//! Random numbers of the system's.

use std::sync::LazyLock;

use rustls::crypto::SecureRandom;

static RANDOM: LazyLock<&'static dyn SecureRandom> = LazyLock::new(|| runtime::tls::provider().secure_random);

/// So many random bytes.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    RANDOM.fill(&mut bytes).expect("the system has random numbers, or no TLS connection could be made");
    bytes
}

/// A number from 0 to 1, for pauses that are not all alike.
pub(super) fn chance() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / f64::from(u32::MAX)
}
