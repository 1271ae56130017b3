//! How a story is told: numbered steps, what is run, what it printed, what was checked.

use std::cell::Cell;
use std::io::IsTerminal as _;

use crate::trouble::{Result, Trouble};

/// Tells on standard output; the test harness shows it when a test fails.
#[derive(Debug, Default)]
pub struct Narrator {
    steps: Cell<u32>,
    styled: bool,
}

impl Narrator {
    /// For a person: bold and coloured where standard output is a terminal.
    #[must_use]
    pub fn for_people() -> Self {
        Self { styled: std::io::stdout().is_terminal(), ..Self::default() }
    }

    /// Is there a terminal, whose width and colours a command may use itself?
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.styled
    }

    /// A new step, and why it matters.
    pub fn step(&self, title: &str, why: &str) {
        self.steps.set(self.steps.get() + 1);
        self.print(&format!("\n{}", self.style("1", &format!("{}. {title}", self.steps.get()))));
        self.say(why);
    }

    /// Something worth knowing.
    pub fn say(&self, text: &str) {
        text.lines().for_each(|line| self.print(&format!("   {line}")));
    }

    /// A command line that `who` runs.
    pub fn command(&self, who: &str, line: &str) {
        self.print(&format!("\n   {} {}", self.style("36", &format!("{who} $")), self.style("1", line)));
    }

    /// What a command printed.
    pub fn output(&self, text: &str) {
        text.lines().for_each(|line| self.print(&format!("     {line}")));
    }

    /// Checks what the story claims.
    ///
    /// # Errors
    /// It is not so.
    pub fn claim(&self, holds: bool, what: &str) -> Result<()> {
        if holds {
            self.print(&format!("   {} {what}", self.style("32", "ok:")));
            Ok(())
        } else {
            Err(Trouble::new(format!("it is not so that {what}")))
        }
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    #[allow(clippy::print_stdout)] // this is where the demo speaks
    fn print(&self, line: &str) {
        println!("{line}");
    }
}
