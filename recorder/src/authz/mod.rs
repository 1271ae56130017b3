//! Who may read what. [`scope`] is what a reader may see and which entry belongs to whom, without asking anybody; [`access`]
//! finds a reader's scope: by the settings, by their [`grants`], or by asking the cluster's API server ([`sar`]).

pub mod access;
pub mod grants;
pub mod sar;
pub mod scope;

pub use access::{AccessControl, Reader};
pub use scope::{Right, Scope, Within};
