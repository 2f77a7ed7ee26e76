//! Tests of dead letters, on real files.

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::log::contract::event;

const QUEUE: Uuid = Uuid::from_u128(7);

fn letter(seq: Seq, bytes: usize) -> DeadLetter {
    crate::log::contract::letter(seq, event(seq, bytes))
}

/// As the next owner opens them.
fn open(spool: &Path) -> Letters {
    let mut letters = Letters::look(spool, QUEUE).unwrap();
    assert!(letters.findings.is_empty(), "{:?}", letters.findings);
    letters.own(Layout::Large).unwrap();
    letters
}

fn again(letters: Letters, spool: &Path) -> Letters {
    drop(letters);
    open(spool)
}

fn seqs(letters: &mut Letters) -> Vec<Seq> {
    let all = letters.letters(0, usize::MAX).unwrap();
    assert_eq!(all.len() as u64, letters.count());
    all.into_iter().map(|letter| letter.seq).collect()
}

fn volumes(spool: &Path) -> usize {
    fs::read_dir(spool.join(volume::DIR)).map_or(0, Iterator::count)
}

fn quarantined(spool: &Path) -> usize {
    fs::read_dir(spool.join("quarantine")).map_or(0, Iterator::count)
}

#[test]
fn i5_letters_of_every_size_survive_a_reopen_until_they_are_removed() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    let sizes = [10, 5_900, 6_000, 100_000, 262_000];
    for (seq, size) in (1..).zip(sizes) {
        letters.put(&letter(seq, size)).unwrap();
    }
    for _ in 0..3 {
        for (seq, size) in (1..).zip(sizes) {
            assert_eq!(letters.letter(seq).unwrap(), Some(letter(seq, size)));
        }
        letters = again(letters, spool.path());
    }
    assert!(letters.remove(2).unwrap() && !letters.remove(2).unwrap());
    assert_eq!(seqs(&mut letters), [1, 3, 4, 5]);
    let mut letters = again(letters, spool.path());
    assert_eq!(seqs(&mut letters), [1, 3, 4, 5]);
    assert_eq!(letters.letter(2).unwrap(), None);
    assert_eq!(letters.seqs(3, 1), [4]);
}

#[test]
fn a_letter_is_replaced_and_may_come_again_with_the_same_content() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    letters.put(&letter(5, 100)).unwrap();
    letters.put(&letter(5, 100)).unwrap();
    let mut other = letter(5, 100);
    other.attempts = 9;
    letters.put(&other).unwrap();
    let mut letters = again(letters, spool.path());
    assert_eq!(letters.letter(5).unwrap(), Some(other));
    for _ in 0..2 {
        letters.remove(5).unwrap();
        letters = again(letters, spool.path());
        assert_eq!(letters.count(), 0);
        letters.put(&letter(5, 100)).unwrap();
        letters = again(letters, spool.path());
        assert_eq!(seqs(&mut letters), [5]);
    }
}

#[test]
fn a_spool_without_letters_has_no_files_for_them() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    assert!(!letters.remove(1).unwrap());
    assert_eq!(
        (letters.count(), letters.bytes(), volumes(spool.path())),
        (0, 0, 0)
    );
}

#[test]
fn a_letter_that_was_cut_off_is_as_if_never_written() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    letters.put(&letter(1, 100)).unwrap();
    let store = letters.ready().unwrap();
    store.put_part(Key::new(LETTERS, 2), &[1; 20_000], 2);
    let mut letters = again(letters, spool.path());
    assert_eq!(seqs(&mut letters), [1]);
    letters.put(&letter(2, 100)).unwrap();
    assert_eq!(seqs(&mut letters), [1, 2]);
}

#[test]
fn after_a_failed_write_the_next_call_begins_anew() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    letters.put(&letter(1, 100)).unwrap();
    letters.ready().unwrap().fail_for_test();
    letters.put(&letter(2, 100)).unwrap();
    assert_eq!(seqs(&mut letters), [1, 2]);
    assert_eq!(seqs(&mut again(letters, spool.path())), [1, 2]);
}

/// A thousand short sessions would leave a thousand volumes with little in them.
#[test]
fn small_volumes_of_earlier_processes_are_carried_on_and_large_ones_stay() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    for seq in 1..=8 {
        letters.put(&letter(seq, 100_000)).unwrap();
    }
    let mut expected: BTreeSet<Seq> = (1..=8).collect();
    for session in 0..20 {
        letters = again(letters, spool.path());
        letters.put(&letter(100 + session, 300)).unwrap();
        expected.insert(100 + session);
        assert!(letters.remove(session / 3 + 1).unwrap() == expected.remove(&(session / 3 + 1)));
        assert!(seqs(&mut letters).iter().eq(&expected), "{session}");
        assert_eq!(volumes(spool.path()), 2);
    }
    assert!(seqs(&mut again(letters, spool.path())).iter().eq(&expected));
}

#[test]
fn volumes_of_mostly_air_are_copied_and_shrink() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    for seq in 1..=40 {
        letters.put(&letter(seq, 100_000)).unwrap();
    }
    letters.compact_bytes = 1 << 20;
    assert!(!letters.tidy().unwrap(), "everything is alive");
    for seq in 1..=38 {
        letters.remove(seq).unwrap();
    }
    let before = letters.bytes();
    assert!(letters.tidy().unwrap());
    assert!(
        letters.bytes() < before / 3,
        "{} of {before}",
        letters.bytes()
    );
    assert!(letters.removed.is_empty());
    assert_eq!(seqs(&mut letters), [39, 40]);
    assert_eq!(seqs(&mut again(letters, spool.path())), [39, 40]);
}

/// The process dies before, while and after the volumes that were carried on are deleted.
#[test]
fn i5_a_carrying_that_was_cut_off_anywhere_changes_nothing() {
    for left in 0..4 {
        let spool = tempfile::tempdir().unwrap();
        let mut letters = open(spool.path());
        letters.put(&letter(1, 100)).unwrap();
        letters.put(&letter(2, 100)).unwrap();
        drop(letters);
        let aside = spool.path().join("aside");
        let first = volume::path(spool.path(), 1);
        copy(&first, &aside);
        let mut letters = open(spool.path());
        letters.remove(2).unwrap();
        drop(letters);
        assert!(!first.exists());
        if left > 0 {
            copy(&aside, &first);
        }
        match left {
            2 => fs::remove_file(first.join("conf")).unwrap(),
            3 => fs::remove_file(first.join("db")).unwrap(),
            _ => {}
        }
        fs::remove_dir_all(aside).unwrap();
        // One that was begun and has nothing yet.
        fs::create_dir(volume::path(spool.path(), 9)).unwrap();
        let mut letters = open(spool.path());
        assert_eq!(seqs(&mut letters), [1], "{left}");
        letters.put(&letter(3, 100)).unwrap();
        assert_eq!(volumes(spool.path()), 1);
        assert_eq!(seqs(&mut again(letters, spool.path())), [1, 3], "{left}");
    }
}

/// Whatever a swap of format 1 left, the letters are in one of its directories.
#[test]
fn what_format_1_left_is_found_wherever_it_was() {
    for (names, left) in [
        (&["state"][..], 1),
        (&["state", "state.new"], 1),
        (&["state.new", "state.old"], 1),
        (&["state.old"], 1),
    ] {
        let spool = tempfile::tempdir().unwrap();
        let mut letters = open(spool.path());
        letters.put(&letter(7, 20_000)).unwrap();
        drop(letters);
        let volume = volume::path(spool.path(), 1);
        for name in names {
            copy(&volume, &spool.path().join(name));
        }
        fs::remove_dir_all(spool.path().join(volume::DIR)).unwrap();
        let mut letters = open(spool.path());
        assert_eq!(seqs(&mut letters), [7], "{names:?}");
        let there =
            ["state", "state.new", "state.old"].map(|name| spool.path().join(name).exists());
        assert_eq!(there.into_iter().filter(|there| *there).count(), left);
        letters.put(&letter(8, 10)).unwrap();
        assert!(!spool.path().join("state").exists(), "carried on");
        assert_eq!(seqs(&mut again(letters, spool.path())), [7, 8]);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn letters_of_another_queue_are_told_and_put_aside_unread() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    letters.put(&letter(5, 100)).unwrap();
    drop(letters);
    let mut letters = Letters::look(spool.path(), Uuid::from_u128(8)).unwrap();
    assert_eq!((letters.findings.len(), letters.count()), (1, 0));
    assert_eq!(quarantined(spool.path()), 0, "a look changes nothing");
    letters.own(Layout::Large).unwrap();
    assert_eq!(quarantined(spool.path()), 1);
}

#[test]
fn random_work_with_reopens_agrees_with_a_map_and_never_looks_like_damage() {
    let mut x = 0x5EED_0003_u64;
    println!("seed {x:#x}");
    let mut below = |n: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % n
    };
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    letters.compact_bytes = 1 << 20;
    let mut model = BTreeSet::new();
    for step in 0..300 {
        let seq = 1 + below(30);
        match below(8) {
            0..=3 => {
                letters.put(&letter(seq, below(20_000) as usize)).unwrap();
                model.insert(seq);
            }
            4..=6 => assert_eq!(letters.remove(seq).unwrap(), model.remove(&seq)),
            _ => {
                letters.tidy().unwrap();
                letters = again(letters, spool.path());
                letters.compact_bytes = 1 << 20;
            }
        }
        assert!(seqs(&mut letters).iter().eq(&model), "step {step}");
    }
}

/// One flipped bit in sled's header cost all letters at the next opening, their copy in quarantine
/// included. Every byte of the beginning, and any other: what can be read before can be read
/// afterwards, and the damage is told.
#[test]
fn i12_no_flipped_bit_costs_a_letter_that_could_be_read() {
    let model = tempfile::tempdir().unwrap();
    let mut letters = open(model.path());
    for seq in 1..=30 {
        letters.put(&letter(seq, 300)).unwrap();
    }
    letters.remove(9).unwrap();
    drop(letters);
    let volume = volume::path(model.path(), 1);
    let whole = fs::read(volume.join("db")).unwrap();
    let mut lost = 0;
    for at in (0..128).chain((128..whole.len()).step_by(1499)) {
        let spool = tempfile::tempdir().unwrap();
        let dir = volume::path(spool.path(), 1);
        copy(&volume, &dir);
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(dir.join("db"), &bytes).unwrap();
        let mut letters = Letters::look(spool.path(), QUEUE).unwrap();
        assert_eq!(letters.findings.len(), 1, "{at}");
        let before = seqs(&mut letters);
        lost += 29_usize.saturating_sub(before.len());
        letters.own(Layout::Large).unwrap();
        letters.put(&letter(40, 10)).unwrap();
        let mut expected = before;
        expected.push(40);
        assert_eq!(seqs(&mut letters), expected, "{at}");
        let kept = spool.path().join("quarantine/00000001-1/db");
        assert_eq!(fs::read(kept).unwrap(), bytes, "the original, untouched");
        assert_eq!(seqs(&mut again(letters, spool.path())), expected, "{at}");
    }
    println!("{lost} letters could not be read");
    assert!(lost < 60, "{lost}");
}

#[test]
fn version_1_is_fixed_to_the_byte_and_a_newer_one_is_kept() {
    let spool = tempfile::tempdir().unwrap();
    let mut letters = open(spool.path());
    let mut value = letter::encode(&letter(2, 0), 0).unwrap();
    // Version, length of the head, copy; id, time, cause, answer, attempts, first, last.
    let golden = [
        "01",
        "51000000",
        "00000000",
        "100000000000000000000000000000000000000000000002",
        "0000000000000000",
        "00000000",
        "019001000000000000000000000000000000000000",
        "03000000",
        "0000000000000000",
        "0000000000000000",
    ];
    let written: String = value.iter().map(|b| format!("{b:02x}")).collect();
    assert!(written.starts_with(&golden.concat()), "{written}");
    value[0] = 2;
    letters.write(Key::new(LETTERS, 2), &value).unwrap();
    let mut letters = again(letters, spool.path());
    for error in [
        letters.letter(2).unwrap_err(),
        letters.letters(0, 9).unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::FutureFormat { found: 2, .. }),
            "{error}"
        );
    }
    letters.put(&letter(3, 10)).unwrap();
    letters.compact_bytes = 0;
    assert!(letters.tidy().is_ok());
    let place = *again(letters, spool.path()).held.get(&2).unwrap();
    assert_eq!(place.whole, Whole::of(&value));
}
