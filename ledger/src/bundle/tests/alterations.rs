//! Every way to change a bundle without the key.

use proptest::prelude::*;

use super::super::archive::{self, BLOCK};
use super::super::manifest::{Manifest, Range};
use super::super::*;
use super::log::{Log, ORIGIN, at, key};
use super::*;
use crate::note::SigningNoteKey;

fn small() -> Vec<u8> {
    let mut log = Log::of(2, 2);
    let scope = log.everything();
    log.export(scope, &(0..12).collect::<Vec<_>>())
}

/// Two full tiles, a tile above them, and the tree's edge.
fn large() -> Vec<u8> {
    let mut log = Log::of(60, 6);
    let scope = Scope::Calls { filter: Box::default() };
    log.export(scope, &[0, 1, 2, 300, 301, 302, 838])
}

/// Four entries.
fn tiny() -> Vec<u8> {
    let mut log = Log::of(1, 1);
    let scope = log.everything();
    log.export(scope, &[0, 1, 2, 3])
}

#[test]
fn any_byte() {
    let bytes = tiny();
    assert!(verify(&bytes).is_ok());
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(verify(&changed).is_err(), "byte {place}");
    }
}

#[test]
fn any_tail_cut_off() {
    let bytes = tiny();
    for length in (0..bytes.len()).step_by(17).chain([bytes.len() - 1]) {
        let error = refused(&bytes[..length]);
        assert!(matches!(error, BadBundle::Truncated { .. }), "{length}: {error}");
    }
}

#[test]
fn something_after_its_end() {
    for more in [&[0][..], &[0; BLOCK][..], &small()[..]] {
        let error = refused(&[&small()[..], more].concat());
        assert!(matches!(error, BadBundle::Trailing { .. }), "{error}");
    }
}

#[test]
fn a_member_dropped_doubled_or_moved() {
    for bytes in [small(), large()] {
        let count = members(&bytes).len() - 1;
        for one in 0..count {
            let _dropped = refused(&arranged(&bytes, (0..count).filter(|number| *number != one)));
            let doubled =
                (0..count).flat_map(|number| std::iter::repeat_n(number, 1 + usize::from(number == one)));
            let _doubled = refused(&arranged(&bytes, doubled));
            for other in one + 1..count {
                let mut order: Vec<_> = (0..count).collect();
                order.swap(one, other);
                let _swapped = refused(&arranged(&bytes, order));
            }
        }
    }
}

#[test]
fn members_of_another_bundle() {
    // Two bundles of one log, of the same shape: each member of one in place of the other's.
    let mut log = Log::of(60, 6);
    let scope = Scope::Calls { filter: Box::default() };
    let one = log.export(scope.clone(), &[0, 1, 2, 300, 301, 302]);
    let other = log.export(scope, &[0, 3, 4, 300, 303, 304]);
    let (ones, others) = (members(&one), members(&other));
    assert!(verify(&one).is_ok() && verify(&other).is_ok());
    for (number, (start, name)) in ones.iter().enumerate().take(ones.len() - 1) {
        let Some(theirs) = others.iter().position(|(_, other)| other == name) else { continue };
        let swapped =
            [&one[..*start], &other[others[theirs].0..others[theirs + 1].0], &one[ones[number + 1].0..]]
                .concat();
        if swapped != one {
            let _refused = refused(&swapped);
        }
    }
}

/// Two logs of one name and shape, of two keys: whatever is put from one into the other does not hold.
#[test]
fn members_of_another_log() {
    let mut log = Log::of(60, 6);
    let mut other = Log::of(0, 0);
    other.keys = signing(8).into();
    (0..60).rev().for_each(|number| other.calls_of(number, 6));
    let scope = Scope::Calls { filter: Box::default() };
    let indexes = [0, 1, 2, 300, 301, 302];
    let (one, other) = (log.export(scope.clone(), &indexes), other.export(scope, &indexes));
    assert!(verify(&one).is_ok() && verify_by(&other, &signing(8).verifier().clone().into()).is_ok());
    let (ones, others) = (members(&one), members(&other));
    for (number, (start, name)) in ones.iter().enumerate().take(ones.len() - 1) {
        let Some(theirs) = others.iter().position(|(_, other)| other == name) else { continue };
        let foreign = &other[others[theirs].0..others[theirs + 1].0];
        let swapped = [&one[..*start], foreign, &one[ones[number + 1].0..]].concat();
        if swapped != one {
            let _refused = refused(&swapped);
        }
    }
}

#[test]
fn an_older_checkpoint() {
    let mut log = Log::of(2, 2);
    let scope = log.everything();
    let older = log.checkpoint().sign(&key());
    let bytes = log.export(scope, &(0..12).collect::<Vec<_>>());
    let members = members(&bytes);
    let number = members.iter().position(|(_, name)| name == CHECKPOINT).expect("it has one");
    let mut archive = archive::ArchiveWriter::new(bytes[..members[number].0].to_vec());
    archive.member(CHECKPOINT, older.as_bytes()).expect("memory");
    let mut changed = archive.finish().expect("memory");
    changed.truncate(changed.len() - 2 * BLOCK);
    changed.extend_from_slice(&bytes[members[number + 1].0..]);
    assert!(matches!(refused(&changed), BadBundle::Unexpected { .. } | BadBundle::Step { .. }));
}

#[test]
fn another_log() {
    let bytes = small();
    let other = SigningNoteKey::from_seed("example.com/other", &[7; 32]).expect("a fine name");
    assert!(matches!(verify_by(&bytes, &other.verifier().clone().into()), Err(BadBundle::Key { .. })));
    let other = SigningNoteKey::from_seed(ORIGIN, &[8; 32]).expect("a fine name");
    assert!(matches!(verify_by(&bytes, &other.verifier().clone().into()), Err(BadBundle::Key { .. })));
}

#[test]
fn a_checkpoint_with_a_line_that_nobody_checks() {
    let bytes = small();
    let members = members(&bytes);
    let number = members.iter().position(|(_, name)| name == CHECKPOINT).expect("it has one");
    let (start, next) = (members[number].0, members[number + 1].0);
    let note: Vec<u8> = bytes[start + BLOCK..next].iter().copied().take_while(|byte| *byte != 0).collect();
    let mut archive = archive::ArchiveWriter::new(bytes[..start].to_vec());
    let more = [&note[..], "\u{2014} other.example AAAAAAECAwQ=\n".as_bytes()].concat();
    archive.member(CHECKPOINT, &more).expect("memory");
    let mut changed = archive.finish().expect("memory");
    changed.truncate(changed.len() - 2 * BLOCK);
    changed.extend_from_slice(&bytes[next..]);
    assert!(matches!(refused(&changed), BadBundle::Signer(name) if name == "other.example"));
}

#[test]
fn paths_that_lead_elsewhere_and_absurd_lengths() {
    let mut archive = archive::ArchiveWriter::new(Vec::new());
    archive.member("../../etc/passwd", b"root").expect("memory");
    assert!(matches!(refused(&archive.finish().expect("memory")), BadBundle::Unexpected { .. }));
    // A header that promises eight gigabytes, and a file that has nothing.
    let header = |name: &str, size: u64| {
        let mut header = [0; BLOCK];
        let member = archive::Member { name: name.into(), size };
        header.copy_from_slice(&member.header().expect("it fits"));
        header.to_vec()
    };
    assert!(matches!(refused(&header(MANIFEST, 0o77_777_777_777)), BadBundle::Large { .. }));
    assert!(matches!(refused(&header(MANIFEST, MAX_MANIFEST as u64)), BadBundle::Truncated { .. }));
    let small = small();
    for (start, name) in &members(&small)[..] {
        if !name.is_empty() {
            let _refused = refused(&[&small[..*start], &header(name, 0o77_777_777_777)[..]].concat());
        }
    }
}

#[test]
fn a_manifest_that_lies() {
    let lies: [fn(&mut Manifest); 13] = [
        |manifest| manifest.format = "bqwitness.dev/bundle/v2".into(),
        |manifest| manifest.log = "example.com/other".into(),
        |manifest| manifest.contents.entries += 1,
        |manifest| manifest.contents.calls -= 1,
        |manifest| manifest.contents.blobs_absent += 1,
        |manifest| manifest.contents.coverage.clear(),
        |manifest| manifest.contents.listing = Digest([0; 32]),
        |manifest| manifest.period.to = at(5),
        // Coverage of no time has no gaps, and adds up.
        |manifest| {
            manifest.period.to = manifest.period.from;
            manifest.contents.coverage.clear();
        },
        |manifest| manifest.size += 2,
        |manifest| manifest.files.clear(),
        |manifest| {
            manifest.files.insert("more.txt".into(), Digest([0; 32]));
        },
        |manifest| {
            manifest.scope = Scope::Everything(Range { from: 0, to: 11, since: None, until: None });
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut log = Log::of(2, 2);
        let scope = log.everything();
        let bytes = log.export_as(scope, &(0..12).collect::<Vec<_>>(), lie);
        assert!(verify(&bytes).is_err(), "lie {number}");
    }
}

#[test]
fn a_chain_that_is_broken() {
    // The recorder itself leaves out a statement, and signs what is left.
    let mut log = Log::of(2, 2);
    log.leaves.remove(2);
    let scope = log.everything();
    let report = verify(&log.export(scope, &(0..11).collect::<Vec<_>>())).expect("a bundle");
    assert!(!report.is_verified() && report.findings[0].message.contains("seq 3 where 2 was next"));
}

#[test]
fn an_export_that_the_log_does_not_have() {
    let mut log = Log::of(2, 2);
    let scope = log.everything();
    let one = log.export(scope, &(0..12).collect::<Vec<_>>());
    // The entry of another export in its place: it is in the log, and of another manifest.
    let scope = Scope::Calls { filter: Box::default() };
    let other = log.export(scope, &(0..12).collect::<Vec<_>>());
    let (ones, others) = (members(&one), members(&other));
    let mixed = [&other[..others[others.len() - 2].0], &one[ones[ones.len() - 2].0..]].concat();
    assert!(matches!(refused(&mixed), BadBundle::Export(_)), "{:?}", verify(&mixed));
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        let _error = refused(&bytes);
    }

    #[test]
    fn any_byte_of_a_large_one(place: prop::sample::Index, to: u8) {
        thread_local!(static LARGE: Vec<u8> = large());
        LARGE.with(|large| {
            let mut changed = large.clone();
            let place = place.index(changed.len());
            prop_assume!(changed[place] != to);
            changed[place] = to;
            prop_assert!(verify(&changed).is_err(), "byte {}", place);
            Ok(())
        })?;
    }
}
