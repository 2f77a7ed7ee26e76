//! The looks of an inspection: each changes no byte and raises no alarm, since power cuts damage
//! nothing, and sees what the opening after it sees (I10, I11).

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use everpost::inspect::{Report, look, verify};
use everpost::{Error, LetterLedger, Queue};

use super::super::event::recognise;
use super::super::oracle::Found;

/// More than any workload appends.
const ALL: usize = 1_000_000;

/// What a look saw.
#[derive(Debug, Default)]
pub(crate) enum Seen {
    Found(Box<Found>, LetterLedger),
    /// It said that there is no spool yet.
    #[default]
    NoSpool,
    /// An owner kept writing.
    Disturbed,
}

/// Looks in every way there is at a spool that has no owner, and says what is wrong with that.
pub(super) fn alone(
    when: &str,
    spool: &Path,
    seed: u64,
    alarms: &mut Vec<String>,
) -> Result<Seen, Error> {
    let hashed = || {
        hashes(spool).map_err(|source| Error::Sink {
            reason: format!("hashing the spool: {source}"),
        })
    };
    let mut own = Vec::new();
    let before = hashed()?;
    let seen = both(spool, seed, false, &mut own);
    if matches!(seen, Seen::Disturbed) {
        own.push("no owner is there, and a look was disturbed".to_owned());
    }
    let after = hashed()?;
    for name in before.keys().chain(after.keys()) {
        if before.get(name) != after.get(name) {
            own.push(format!("a look changed {}", name.display()));
        }
    }
    alarms.extend(own.into_iter().map(|text| format!("{when}: {text}")));
    Ok(seen)
}

/// Looks beside an owner, which may be at work still: sealing, carrying, making files.
pub(crate) fn beside(spool: &Path, seed: u64, alarms: &mut Vec<String>) -> Seen {
    let mut own = Vec::new();
    let seen = both(spool, seed, true, &mut own);
    alarms.extend(
        own.into_iter()
            .map(|text| format!("beside an owner: {text}")),
    );
    seen
}

fn both(spool: &Path, seed: u64, is_owned: bool, alarms: &mut Vec<String>) -> Seen {
    match (verify(spool), seen(spool, seed)) {
        (Err(Error::NoSpool { .. }), Err(Error::NoSpool { .. })) => Seen::NoSpool,
        (Ok(report), Ok((found, letters, disturbed))) => {
            check(&report, &found, alarms);
            // Each was quiet by itself, and the owner may have gone on between the two.
            let went_on =
                is_owned && (found.ledger != report.ledger.into() || letters != report.letters);
            if disturbed || report.disturbed || went_on {
                return Seen::Disturbed;
            }
            compare_looks(&report, &found, letters, alarms);
            Seen::Found(Box::new(found), letters)
        }
        (Err(Error::Changing { .. }), Ok(_) | Err(Error::Changing { .. }))
        | (Ok(_), Err(Error::Changing { .. })) => Seen::Disturbed,
        // It was made between the two.
        (Err(Error::NoSpool { .. }), Ok(_)) => Seen::Disturbed,
        (report, found) => {
            let text = format!("a look is refused: {:?} {:?}", report.err(), found.err());
            alarms.push(text);
            Seen::NoSpool
        }
    }
}

/// No look may say that anything is damaged.
fn check(report: &Report, found: &Found, alarms: &mut Vec<String>) {
    for flaw in report.errors.iter().chain(&report.known) {
        alarms.push(format!("verify: {}: {}", flaw.place.display(), flaw.what));
    }
    for incident in &found.incidents {
        alarms.push(format!("look: {incident}"));
    }
    if !report.missing.is_empty() || (!found.missing.is_empty() && !report.disturbed) {
        alarms.push(format!("missing: {:?} {:?}", report.missing, found.missing));
    }
}

fn compare_looks(report: &Report, found: &Found, letters: LetterLedger, alarms: &mut Vec<String>) {
    let same = report.events == found.events.len() as u64
        && report.dead_letters == found.letters.len() as u64
        && found.ledger == report.ledger.into()
        && report.letters == letters;
    if !same {
        alarms.push(format!("verify and look differ: {report:?} {found:?}"));
    }
}

/// What a look sees, in the words of an opening.
fn seen(spool: &Path, seed: u64) -> Result<(Found, LetterLedger, bool), Error> {
    let mut look = look(spool)?;
    let status = look.status();
    let mut found = Found {
        cursor: status.cursor,
        last_seq: status.last_seq,
        ledger: status.ledger.into(),
        dead_letters: status.dead_letters,
        missing: status.missing,
        ..Found::default()
    };
    let incidents = status.incidents.iter().chain(look.record());
    found.incidents = incidents
        .map(|i| format!("{}: {}", i.place, i.what))
        .collect();
    let events = look.peek(0, ALL)?;
    let events = events.iter().map(|e| (e.seq, recognise(seed, &e.event)));
    found.events = events.collect();
    let letters = look.letters(0, ALL)?;
    let letters = letters.iter().map(|letter| {
        let name = recognise(seed, &letter.event).map(|(name, _)| name);
        (letter.seq, name)
    });
    found.letters = letters.collect();
    Ok((found, status.letters, look.is_disturbed()))
}

/// Holds what a look saw against what the owner says.
pub(super) fn compare(
    what: &str,
    seen: &Seen,
    found: &Found,
    queue: &Queue,
    alarms: &mut Vec<String>,
) {
    let (seen, letters) = match seen {
        Seen::Found(seen, letters) => (seen, letters),
        Seen::Disturbed => return,
        Seen::NoSpool => {
            if found.last_seq > 0 || !found.letters.is_empty() {
                alarms.push(format!("the look before {what} saw no spool"));
            }
            return;
        }
    };
    let theirs = queue.status().letters;
    let same = seen.cursor == found.cursor
        && seen.last_seq == found.last_seq
        && seen.ledger == found.ledger
        && seen.dead_letters == found.dead_letters
        && seen.events == found.events
        && seen.letters == found.letters
        && *letters == theirs;
    if !same {
        alarms.push(format!(
            "the look at {what} saw something else: {seen:?} {letters:?}; {found:?} {theirs:?}"
        ));
    }
}

/// A number for the content of every file.
fn hashes(spool: &Path) -> io::Result<BTreeMap<PathBuf, u64>> {
    let mut hashes = BTreeMap::new();
    let mut dirs = vec![spool.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            // No spool was made yet.
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path.clone());
                hashes.insert(path, 0);
            } else {
                let mut hasher = DefaultHasher::new();
                fs::read(&path)?.hash(&mut hasher);
                hashes.insert(path, hasher.finish());
            }
        }
    }
    Ok(hashes)
}
