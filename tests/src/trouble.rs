//! The one error of the test stand: what was being done, and what came between.

use std::error::Error;
use std::fmt;

/// Something of the stand could not be set up or run.
#[derive(Debug)]
pub struct Trouble {
    doing: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// A result on the stand.
pub type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// Trouble without a deeper cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self { doing: what.into(), cause: None }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl Error for Trouble {}

/// Says what was being done when an error came.
pub trait Doing<T> {
    /// Wraps an error into [`Trouble`].
    ///
    /// # Errors
    /// The same, with `what` before it.
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|cause| Trouble { doing: what.into(), cause: Some(cause.into()) })
    }
}
