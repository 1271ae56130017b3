//! Policies: whose cosignatures make a checkpoint believable, as a <https://c2sp.org/tlog-policy> file says it.
//!
//! ```text
//! log <vkey>
//! witness <name> <vkey> [<url>]
//! group <name> any|all|<n> <member>...
//! quorum <name>|none
//! ```

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cosignature::WitnessKey;
use crate::note::{BadNote, Note, VerifierKey};

/// Greatest length of a policy, in bytes.
pub const MAX_POLICY: usize = 64 * 1024;

/// A policy that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: BTreeMap<String, Witness>,
    groups: BTreeMap<String, Group>,
    /// `None`: no witness is needed.
    quorum: Option<String>,
}

/// A witness that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its key.
    pub key: WitnessKey,
    /// Where it is asked: the prefix of its `add-checkpoint`.
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    needed: usize,
    members: Vec<String>,
}

/// The text is not a policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} of the policy: {what}")]
pub struct BadPolicy {
    /// The line, from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Who cosigned a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The witnesses of the policy that did, and when.
    pub by: Vec<(String, Timestamp)>,
    /// Are these enough?
    pub enough: bool,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`BadPolicy`]
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let mut policy =
            Self { logs: Vec::new(), witnesses: BTreeMap::new(), groups: BTreeMap::new(), quorum: None };
        let mut quorum_line = None;
        for (number, line) in text.lines().enumerate() {
            let words: Vec<_> = line.split_whitespace().collect();
            let bad = |what: String| BadPolicy { line: number + 1, what };
            match words[..] {
                [] => {}
                [word, ..] if word.starts_with('#') => {}
                ["log", key] | ["log", key, _] => {
                    policy.logs.push(key.parse().map_err(|error| bad(format!("{error}")))?);
                }
                ["witness", name, key] => policy.add(name, key, None).map_err(bad)?,
                ["witness", name, key, url] => policy.add(name, key, Some(url)).map_err(bad)?,
                ["group", name, needed, ref members @ ..] => {
                    policy.group(name, needed, members).map_err(bad)?;
                }
                ["quorum", name] if quorum_line.is_none() => {
                    quorum_line = Some(number);
                    let known = name == "none" || policy.knows(name);
                    known.then_some(()).ok_or_else(|| bad(format!("nobody is called {name:?}")))?;
                    policy.quorum = (name != "none").then(|| name.to_owned());
                }
                _ => return Err(bad("not a log, witness, group or quorum line".into())),
            }
        }
        match quorum_line {
            Some(_) => Ok(policy),
            None => Err(BadPolicy {
                line: 0,
                what: "there is no quorum line; without witnesses it is \"quorum none\"".into(),
            }),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.witnesses.contains_key(name) || self.groups.contains_key(name)
    }

    fn fresh(&self, name: &str) -> Result<(), String> {
        if name == "none" || self.knows(name) {
            return Err(format!("the name {name:?} is taken"));
        }
        Ok(())
    }

    fn add(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), String> {
        self.fresh(name)?;
        let key: WitnessKey =
            key.parse().map_err(|error| format!("{error}; a witness's key is of type 0x04"))?;
        if self.witnesses.values().any(|known| known.key == key) {
            return Err("another witness has this key: one that signs twice is still one".into());
        }
        let url = url.map(|url| url.trim_end_matches('/').to_owned());
        self.witnesses.insert(name.into(), Witness { key, url });
        Ok(())
    }

    fn group(&mut self, name: &str, needed: &str, members: &[&str]) -> Result<(), String> {
        self.fresh(name)?;
        if let Some(unknown) = members.iter().find(|member| !self.knows(member)) {
            return Err(format!("nobody is called {unknown:?}; members come before their group"));
        }
        let needed = match needed {
            "any" => 1,
            "all" => members.len(),
            number => number.parse().map_err(|_| format!("{number:?} is neither any, all nor a number"))?,
        };
        if needed == 0 || needed > members.len() {
            return Err(format!("{needed} of {} members can't be", members.len()));
        }
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.insert(name.into(), Group { needed, members });
        Ok(())
    }

    /// The logs that it is for; for any when it names none.
    #[must_use]
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses by their names in it.
    #[must_use]
    pub fn witnesses(&self) -> &BTreeMap<String, Witness> {
        &self.witnesses
    }

    /// Who of the witnesses cosigned the note, and whether that is enough.
    ///
    /// # Errors
    /// [`BadNote::Signature`]: a line in a witness's name is not its.
    pub fn check(&self, note: &Note<'_>) -> Result<Witnessed, BadNote> {
        let mut by = Vec::new();
        for (name, witness) in &self.witnesses {
            by.extend(witness.key.verify(note)?.map(|time| (name.clone(), time)));
        }
        let enough = self.quorum.as_ref().is_none_or(|quorum| self.satisfied(quorum, &by));
        Ok(Witnessed { by, enough })
    }

    /// Members are named before their group, so this ends.
    fn satisfied(&self, name: &str, by: &[(String, Timestamp)]) -> bool {
        match self.groups.get(name) {
            Some(group) => {
                group.members.iter().filter(|member| self.satisfied(member, by)).count() >= group.needed
            }
            None => by.iter().any(|(signer, _)| signer == name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::cosignature::WitnessSigner;
    use crate::note::SigningNoteKey;

    fn witness(number: u8) -> WitnessSigner {
        WitnessSigner::from_seed(&format!("witness.example/{number}"), &[number; 32]).expect("a fine name")
    }

    fn policy(rest: &str) -> Result<Policy, BadPolicy> {
        let lines: Vec<_> = (1..=3)
            .map(|n| format!("witness w{n} {} https://w{n}.example/\n", witness(n).verifier()))
            .collect();
        Policy::parse(&format!("# ours\n\n{}{rest}", lines.concat()))
    }

    fn enough(rest: &str, signers: &[u8]) -> bool {
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 7, root: [1; 32] };
        let key = SigningNoteKey::from_seed("example.com/log", &[9; 32]).expect("a fine name");
        let lines = signers.iter().map(|n| witness(*n).cosign(&checkpoint.text(), Timestamp::UNIX_EPOCH));
        let note = format!("{}{}", checkpoint.sign(&key), lines.collect::<String>());
        let note = Note::parse(note.as_bytes()).expect("a note");
        policy(rest).expect("a policy").check(&note).expect("their signatures").enough
    }

    #[test]
    fn quorums() {
        let two = "group two 2 w1 w2 w3\nquorum two\n";
        assert!(enough(two, &[1, 3]) && !enough(two, &[2]) && !enough(two, &[]));
        let nested = "group a any w1 w2\ngroup b all a w3\nquorum b\n";
        assert!(enough(nested, &[2, 3]) && !enough(nested, &[1, 2]));
        assert!(enough("quorum none\n", &[]) && enough("quorum w2\n", &[2]) && !enough("quorum w2\n", &[1]));
    }

    #[test]
    fn mistakes_are_named() {
        for (rest, part) in [
            ("", "no quorum line"),
            ("quorum w4\n", "nobody is called"),
            ("group g 4 w1\nquorum g\n", "can't be"),
            ("group w1 any w2\nquorum w1\n", "is taken"),
            ("group g any h\nquorum g\n", "come before their group"),
            ("quorum w1\nquorum w2\n", "not a log"),
        ] {
            let error = policy(rest).expect_err(rest).to_string();
            assert!(error.contains(part), "{rest:?}: {error}");
        }
        let twice = format!("witness again {}\nquorum none\n", witness(1).verifier());
        assert!(policy(&twice).expect_err("one witness twice").what.contains("still one"));
        let url = policy("quorum none\n").expect("a policy").witnesses()["w1"].url.clone();
        assert_eq!(url.as_deref(), Some("https://w1.example"));
    }
}
