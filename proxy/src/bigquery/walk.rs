//! Walks through a JSON answer and hands over the few values that are wanted, without building the rest. What was handed
//! over before the JSON broke off stays handed over: answers are cut at a limit.

use std::fmt;

use ledger::strict::Name;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Separates the names of a path: `schema/fields/*/name`; `*` stands for the items of an array.
const ITEM: &str = "*";

/// What a walk does when it comes to a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Go into it; a scalar is handed over.
    Into,
    /// Count its items, if it is an array, without looking into them.
    Count,
    /// Pass over it.
    Over,
}

/// Takes what a walk finds.
pub(super) trait Finder {
    /// What to do with the value at `path`.
    fn step(&self, path: &str) -> Step;
    /// A scalar: text, or a number or boolean as text.
    fn scalar(&mut self, path: &str, value: &str);
    /// An array that was read to its end.
    fn counted(&mut self, path: &str, items: u64);
    /// A value was read to its end.
    fn left(&mut self, path: &str);
}

/// Walks through `body`; `false` when it broke off or is not JSON.
pub(super) fn walk(body: &[u8], finder: &mut dyn Finder) -> bool {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut path = String::new();
    let walked = Walk { path: &mut path, step: Step::Into, finder }.deserialize(&mut json);
    walked.is_ok() && json.end().is_ok()
}

struct Walk<'w> {
    path: &'w mut String,
    step: Step,
    finder: &'w mut dyn Finder,
}

impl Walk<'_> {
    /// Runs `inner` on the value under `name`.
    fn under<E>(&mut self, name: &str, inner: impl FnOnce(Walk<'_>) -> Result<(), E>) -> Result<(), E> {
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('/');
        }
        self.path.push_str(name);
        let step = self.finder.step(self.path);
        inner(Walk { path: self.path, step, finder: self.finder })?;
        self.finder.left(self.path);
        self.path.truncate(outer);
        Ok(())
    }

    fn found<E>(self, value: &str) -> Result<(), E> {
        self.finder.scalar(self.path, value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.step {
            Step::Over => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            Step::Into | Step::Count => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Name)? {
            if self.step == Step::Into {
                self.under(&name, |walk| members.next_value_seed(walk))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0;
        if self.step == Step::Count {
            while items.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
        } else {
            let mut more = true;
            while more {
                self.under(ITEM, |walk| items.next_element_seed(walk).map(|item| more = item.is_some()))?;
                count += u64::from(more);
            }
        }
        self.finder.counted(self.path, count);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.found(value)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.found(if value { "true" } else { "false" })
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.found(&value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.found(&value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.found(&value.to_string())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
