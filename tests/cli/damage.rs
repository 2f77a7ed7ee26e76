//! `verify` and `repair`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use everpost::exit;

use crate::set_up::Place;

/// Limits so small that there are segments.
pub(crate) const SMALL: &str = "journal_bytes = 65536\nmax_event_bytes = 16384\ntail_bytes = 8192\n\
                     chunk_bytes = 4096\nsegment_bytes = 65536\n";

/// Every file of the spool.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Overwrites a stretch in the midst of a file.
fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + 64].fill(0xA5);
    fs::write(path, bytes).unwrap();
}

/// Damages the third chunk of the first segment.
pub(crate) fn damage_a_segment(place: &Place) {
    let segments = place.spool().join("segments");
    let mut names: Vec<_> = fs::read_dir(segments)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    let db = names[0].join("db");
    let mut bytes = fs::read(&db).unwrap();
    // Wherever a copy of it lies: the first piece of the third chunk.
    let magic = [0xF5, b'e', b'p', 2, b'c', 0, 0, 0, 0, 0, 0, 0, 2, 0, 0];
    let places: Vec<usize> = (0..bytes.len() - 99)
        .filter(|at| bytes[*at..].starts_with(&magic))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 40..at + 60].fill(0xA5);
    }
    fs::write(&db, bytes).unwrap();
}

fn find(bytes: &[u8], text: &str) -> usize {
    let mut windows = bytes.windows(text.len());
    windows
        .position(|window| window == text.as_bytes())
        .unwrap()
}

/// Damages the frame that holds message 15.
pub(crate) fn damage_the_journal(place: &Place) {
    let journal = place.spool().join("journal");
    let path = fs::read_dir(&journal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            fs::read(path)
                .unwrap()
                .windows(9)
                .any(|w| w == b"\"id\":\"15\"")
        })
        .unwrap();
    let at = find(&fs::read(&path).unwrap(), "\"id\":\"15\"");
    damage(&path, at);
}

#[test]
fn a_look_changes_nothing_and_finds_everything() {
    let mut place = Place::new();
    place.settings(SMALL);
    place.append(1, 12_000);
    let before = files(&place.spool());
    let verified = place.run(&["verify"]).expect(exit::DONE);
    assert!(
        verified
            .out
            .starts_with("n=12000 first=1 last=12000 gaps=0 errs=0\n{"),
        "{}",
        verified.out
    );
    let report = place.run(&["verify", "--json"]).expect(exit::DONE).json();
    assert!(report["segments"].as_u64().unwrap() > 1, "{report}");
    place.run(&["repair"]).expect(exit::DONE);
    assert_eq!(files(&place.spool()), before);
}

#[test]
fn damage_in_the_journal_is_found_with_its_bounds_and_the_rest_is_saved() {
    let place = Place::new();
    for first in [1, 11, 21] {
        place.append(first, 10);
    }
    damage_the_journal(&place);
    let before = files(&place.spool());
    let verified = place.run(&["verify"]).expect(exit::DAMAGED);
    assert!(
        verified
            .out
            .starts_with("n=20 first=1 last=30 gaps=1 errs=2\n"),
        "{}",
        verified.out
    );
    let planned = place.run(&["repair"]).expect(exit::DAMAGED);
    let plan = "plan: events 11 to 20 cannot be read: counted as lost";
    assert!(planned.out.contains(plan), "{}", planned.out);
    assert_eq!(files(&place.spool()), before);
    let repaired = place
        .run(&["repair", "--apply", "--json"])
        .expect(exit::DONE)
        .json();
    assert_eq!(repaired["recovery"]["missing"][0]["first"], 11);
    assert_eq!(repaired["after"]["events"], 20);
    assert_eq!(place.run(&["export"]).lines().len(), 20);
}

#[test]
fn damage_in_a_segment_is_found_with_its_bounds_and_read_around() {
    let mut place = Place::new();
    place.settings(SMALL);
    place.append(1, 3_000);
    damage_a_segment(&place);
    let before = files(&place.spool());
    let report = place
        .run(&["verify", "--json"])
        .expect(exit::DAMAGED)
        .json();
    assert_eq!(files(&place.spool()), before);
    let missing = &report["missing"][0];
    let (first, last) = (
        missing["first"].as_u64().unwrap(),
        missing["last"].as_u64().unwrap(),
    );
    assert_eq!(report["events"].as_u64().unwrap() + last - first + 1, 3_000);
    let exported = place.run(&["export"]).expect(exit::DONE);
    assert_eq!(
        exported.lines().len() as u64,
        report["events"].as_u64().unwrap()
    );
}

#[test]
fn what_is_not_a_spool_is_told_from_what_is_damaged() {
    let place = Place::new();
    place.run(&["verify"]).expect(exit::USAGE);
    fs::create_dir(place.spool()).unwrap();
    fs::write(place.spool().join("thesis.txt"), "precious").unwrap();
    place.run(&["verify"]).expect(exit::USAGE);
    place.run(&["status"]).expect(exit::USAGE);
    assert_eq!(files(&place.spool()).len(), 1);

    let place = Place::new();
    place.append(1, 1);
    fs::write(place.spool().join("spool.json"), "").unwrap();
    let verified = place.run(&["verify"]).expect(exit::DAMAGED);
    assert!(
        verified
            .out
            .starts_with("n=1 first=1 last=1 gaps=0 errs=1\n"),
        "{}",
        verified.out
    );
    let repaired = place.run(&["repair", "--apply"]).expect(exit::DONE);
    assert!(
        repaired
            .out
            .contains("\nn=1 first=1 last=1 gaps=0 errs=0\n"),
        "{}",
        repaired.out
    );
    for name in ["spool.json", "spool.copy.json"] {
        fs::write(place.spool().join(name), "").unwrap();
    }
    for args in [&["verify"][..], &["status"], &["repair", "--apply"]] {
        place.run(args).expect(exit::DAMAGED);
    }
}
