//! What becomes of what is not a BigQuery call, and how much of an answer is recorded.

use std::str::FromStr;

/// What becomes of connections to other hosts than BigQuery's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// See [`Flags::other_google_apis`].
    pub google: OtherGoogleApis,
    /// See [`Flags::other_egress`].
    pub other: OtherEgress,
    /// Agents hold no key: the sidecar is their metadata server, and looks into what gives out tokens.
    pub keyless: bool,
}

/// What the record holds of an answer's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Results {
    /// Its size.
    None,
    /// Its size, and its SHA-256.
    Digest,
}

impl FromStr for Results {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "digest" => Ok(Self::Digest),
            other => Err(format!("{other:?} is neither \"none\" nor \"digest\"")),
        }
    }
}

/// What becomes of connections to other Google APIs. The same front ends serve them and BigQuery, and go by the Host of each
/// request: a connection that is spliced may carry BigQuery calls that nobody records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherGoogleApis {
    /// TLS is terminated, and each request must be for the host that it was set up for.
    Inspect,
    /// Bytes are copied both ways, untouched and unrecorded.
    Splice,
    /// The connection is refused.
    Refuse,
}

impl FromStr for OtherGoogleApis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "inspect" => Ok(Self::Inspect),
            "splice" => Ok(Self::Splice),
            "refuse" => Ok(Self::Refuse),
            other => Err(format!("{other:?} is none of \"inspect\", \"splice\" and \"refuse\"")),
        }
    }
}

/// What becomes of connections to hosts that are not Google's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEgress {
    /// Bytes are copied both ways, untouched and unrecorded.
    Splice,
    /// The connection is refused.
    Refuse,
}

impl FromStr for OtherEgress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "splice" => Ok(Self::Splice),
            "refuse" => Ok(Self::Refuse),
            other => Err(format!("{other:?} is neither \"splice\" nor \"refuse\"")),
        }
    }
}
