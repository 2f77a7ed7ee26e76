//! One random damage to one spool.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::spool::contents;

/// xorshift64*: every trial follows from one printed seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Small seeds differ in a few bits only; the product spreads them.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(1);
        dice
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    FlippedBit,
    ZeroedPage,
    Truncated,
    Emptied,
    GarbageAppended,
    Missing,
    Swapped,
    OfAnotherSpool,
    AddedFromAnother,
    FutureFormat,
}

pub(crate) const KINDS: [Kind; 10] = [
    Kind::FlippedBit,
    Kind::ZeroedPage,
    Kind::Truncated,
    Kind::Emptied,
    Kind::GarbageAppended,
    Kind::Missing,
    Kind::Swapped,
    Kind::OfAnotherSpool,
    Kind::AddedFromAnother,
    Kind::FutureFormat,
];

/// A damage that was done.
#[derive(Debug)]
pub(crate) struct Harm {
    pub(crate) kind: Kind,
    /// The file it was done to.
    pub(crate) file: PathBuf,
    /// The file it was swapped with, if it was.
    pub(crate) with: PathBuf,
    detail: String,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.kind, self.file.display(), self.detail)
    }
}

/// Which kind of file a path is.
pub(crate) fn class(file: &Path) -> String {
    let name = file.file_name().unwrap().to_string_lossy();
    let name = if name.starts_with("snap.") {
        "snap".into()
    } else {
        name
    };
    match file.iter().next().unwrap().to_str().unwrap() {
        "journal" => "journal".into(),
        "segments" => format!("segment/{name}"),
        "letters" => format!("letters/{name}"),
        _ => name.into_owned(),
    }
}

/// A file of a random class, so that the many of one kind do not hide the one of another.
fn random_file(dice: &mut Dice, spool: &Path) -> PathBuf {
    let mut files: Vec<_> = contents(spool).into_keys().collect();
    files.retain(|file| class(file) != "lock" || dice.below(4) == 0);
    let mut classes: Vec<_> = files.iter().map(|file| class(file)).collect();
    classes.sort();
    classes.dedup();
    // The journal and the segments are where events are.
    classes.extend(
        [
            "journal",
            "journal",
            "journal",
            "segment/db",
            "segment/db",
            "letters/db",
        ]
        .map(String::from),
    );
    let chosen = dice.pick(&classes).clone();
    files.retain(|file| class(file) == chosen);
    dice.pick(&files).clone()
}

fn used_len(bytes: &[u8]) -> u64 {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last as u64 + 1)
}

/// Does one damage to the spool. `other` is another queue's spool.
pub(crate) fn harm(dice: &mut Dice, spool: &Path, other: &Path) -> Harm {
    let kind = *dice.pick(&KINDS);
    let file = random_file(dice, spool);
    let path = spool.join(&file);
    let mut bytes = fs::read(&path).unwrap();
    // Where something is: a damage to zeroes that were never written shows little. One in four is.
    let reach = match dice.below(4) {
        0 => bytes.len() as u64,
        _ => used_len(&bytes).max(1),
    };
    let mut harm = Harm {
        kind,
        file,
        with: PathBuf::new(),
        detail: String::new(),
    };
    match kind {
        Kind::FlippedBit if !bytes.is_empty() => {
            let at = dice.below(reach);
            let bit = dice.below(8);
            bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
            harm.detail = format!("byte {at} bit {bit}");
            fs::write(&path, bytes).unwrap();
        }
        Kind::ZeroedPage => {
            let page = usize::try_from(dice.below(reach.div_ceil(4096))).unwrap() * 4096;
            let end = bytes.len().min(page + 4096);
            bytes[page.min(end)..end].fill(0);
            harm.detail = format!("at {page}");
            fs::write(&path, bytes).unwrap();
        }
        Kind::Truncated => {
            let len = dice.below(reach);
            bytes.truncate(usize::try_from(len).unwrap());
            harm.detail = format!("to {len}");
            fs::write(&path, bytes).unwrap();
        }
        Kind::FlippedBit | Kind::Emptied => fs::write(&path, []).unwrap(),
        Kind::GarbageAppended => {
            let more = 1 + dice.below(20_000);
            bytes.extend((0..more).map(|_| dice.below(256) as u8));
            harm.detail = format!("{more} bytes");
            fs::write(&path, bytes).unwrap();
        }
        Kind::Missing => fs::remove_file(&path).unwrap(),
        Kind::Swapped => {
            // With one of its own kind where there is one, which is the harder to notice.
            let mut files: Vec<_> = contents(spool)
                .into_keys()
                .filter(|f| *f != harm.file)
                .collect();
            if dice.below(4) > 0 && files.iter().any(|f| class(f) == class(&harm.file)) {
                files.retain(|f| class(f) == class(&harm.file));
            }
            let with = dice.pick(&files).clone();
            let theirs = fs::read(spool.join(&with)).unwrap();
            fs::write(&path, theirs).unwrap();
            fs::write(spool.join(&with), bytes).unwrap();
            harm.detail = format!("with {}", with.display());
            harm.with = with;
        }
        Kind::OfAnotherSpool => {
            let mut files: Vec<_> = contents(other).into_keys().collect();
            let same = |f: &PathBuf| class(f) == class(&harm.file);
            if files.iter().any(same) {
                files.retain(same);
            }
            let theirs = dice.pick(&files);
            fs::copy(other.join(theirs), &path).unwrap();
            harm.detail = format!("theirs: {}", theirs.display());
        }
        Kind::AddedFromAnother => add_from(dice, &mut harm, spool, other),
        Kind::FutureFormat => {
            let which = dice.below(3);
            for (n, name) in ["spool.json", "spool.copy.json"].into_iter().enumerate() {
                if which == 2 || which == n as u64 {
                    let text = fs::read_to_string(spool.join(name)).unwrap();
                    let later = text.replace("\"everpost_format\": 2", "\"everpost_format\": 3");
                    assert_ne!(later, text);
                    fs::write(spool.join(name), later).unwrap();
                }
            }
            harm.file =
                PathBuf::from(["spool.json", "spool.copy.json", "spool.json"][which as usize]);
            harm.detail = ["the first", "the copy", "both"][which as usize].into();
        }
    }
    harm
}

/// A whole segment, or one more journal file, of another spool is put in.
fn add_from(dice: &mut Dice, harm: &mut Harm, spool: &Path, other: &Path) {
    if dice.below(2) == 0 {
        harm.file = "journal/00000009.journal".into();
        let number = 1 + dice.below(3);
        harm.detail = format!("their number {number}");
        let theirs = other.join(format!("journal/{number:08}.journal"));
        fs::copy(theirs, spool.join(&harm.file)).unwrap();
        return;
    }
    let mut segments: Vec<_> = fs::read_dir(other.join("segments")).unwrap().collect();
    segments.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    let theirs = dice.pick(&segments).as_ref().unwrap().path();
    // Between ours, in the place of one of ours, below the cursor, and behind everything.
    let ours = contents(&spool.join("segments")).into_keys();
    let ours: Vec<String> = ours
        .map(|file| file.iter().next().unwrap().to_string_lossy().into_owned())
        .collect();
    let name = match dice.below(4) {
        0 => dice.pick(&ours).clone(),
        1 => format!("{:020}", 1 + dice.below(400)),
        _ => theirs.file_name().unwrap().to_string_lossy().into_owned(),
    };
    let place = spool.join("segments").join(&name);
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    crate::spool::copy(&theirs, &place);
    harm.file = Path::new("segments").join(name).join("db");
    harm.detail = format!("their {}", theirs.file_name().unwrap().to_string_lossy());
}
