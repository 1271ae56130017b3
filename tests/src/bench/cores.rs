//! Who runs where. A load generator that shares a core with what it measures measures itself as well.

use std::process::Command;

use crate::trouble::{Doing as _, Result, Trouble};

/// A list of cores, as `taskset -c` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores(String);

impl Cores {
    /// These cores.
    pub(crate) fn these(list: &str) -> Self {
        Self(list.into())
    }

    /// All of a machine with so many.
    pub(crate) fn all(count: usize) -> Self {
        Self(format!("0-{}", count.saturating_sub(1)))
    }

    /// Those of a machine with `count` cores that are not among these; all, where none is left.
    pub(crate) fn others(&self, count: usize) -> Result<Self> {
        let taken = self.numbers()?;
        let left: Vec<String> =
            (0..count).filter(|core| !taken.contains(core)).map(|core| core.to_string()).collect();
        Ok(if left.is_empty() { Self::all(count) } else { Self(left.join(",")) })
    }

    /// How many.
    pub(crate) fn count(&self) -> Result<usize> {
        Ok(self.numbers()?.len())
    }

    /// What a program is started under to run there.
    pub(crate) fn under(&self) -> [&str; 3] {
        ["taskset", "-c", &self.0]
    }

    /// Moves this process there, with all its threads.
    ///
    /// # Errors
    /// No `taskset` (Debian's util-linux), or no such core.
    pub(crate) fn take_this_process(&self) -> Result<()> {
        let id = std::process::id().to_string();
        let moved = Command::new("taskset").args(["-a", "-c", "-p", &self.0, &id]).output();
        let moved = moved.doing("running taskset")?;
        let said = String::from_utf8_lossy(&moved.stderr).trim().to_owned();
        if moved.status.success() {
            Ok(())
        } else {
            Err(Trouble::new(format!("taskset on cores {self}: {said}")))
        }
    }

    fn numbers(&self) -> Result<Vec<usize>> {
        let number = |text: &str| text.trim().parse::<usize>().doing(format!("cores {:?}", self.0));
        let mut numbers = Vec::new();
        for part in self.0.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            numbers.extend(number(first)?..=number(last)?);
        }
        Ok(numbers)
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_rest_of_a_machine() {
        assert_eq!(Cores::these("0").others(2).unwrap(), Cores::these("1"));
        assert_eq!(Cores::these("1-2,4").others(6).unwrap(), Cores::these("0,3,5"));
        assert_eq!(Cores::all(1).others(1).unwrap(), Cores::all(1), "there is nowhere else to go");
        assert_eq!(Cores::these("1-2,4").count().unwrap(), 3);
        assert!(Cores::these("first").others(2).is_err());
    }
}
