//! Tests of the state, on real files.

use super::*;
use crate::dead::Cause;
use crate::event::{Event, EventId};
use crate::log::codec::PausedMemo;
use crate::log::letter::from_ms;
use crate::sink::Answer;
use crate::sink::PauseReason;
use std::collections::BTreeSet;
use uuid::Uuid;

const QUEUE: Uuid = Uuid::from_u128(7);

fn letter(seq: Seq, bytes: usize) -> DeadLetter {
    let mut x = seq * 2 + 1;
    let body: Vec<u8> = (0..bytes)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect();
    let id = EventId::from_uuid(Uuid::from_u128(u128::from(seq)));
    let at = |ms| from_ms(ms).unwrap();
    DeadLetter {
        seq,
        event: Event::from_parts(id, 1000 + seq, body.into()),
        cause: Cause::Refused,
        answer: Answer::from_status(400),
        attempts: 3,
        first_attempt: at(2000),
        last_attempt: at(3000),
    }
}

fn open(spool: &Path) -> State {
    let (state, notes) = State::open(spool, Layout::Large, QUEUE).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    state
}

fn seqs(state: &mut State) -> Vec<Seq> {
    let letters = state.letters(0, 1000).unwrap();
    for one in &letters {
        assert_eq!(*one, letter(one.seq, one.event.json_bytes().len()));
    }
    assert_eq!(state.count(), letters.len() as u64);
    letters.iter().map(|letter| letter.seq).collect()
}

fn memo(not_before_ms: u64) -> Memo {
    Memo {
        paused: Some(PausedMemo {
            reason: PauseReason::Credentials,
            answer: Answer::from_detail("x".repeat(20_000)),
            since_ms: 7,
        }),
        not_before_ms: Some(not_before_ms),
        batch_events: None,
    }
}

#[test]
fn i5_letters_of_every_size_survive_a_reopen_until_they_are_removed() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    for (seq, bytes) in [(3, 0), (9, 5000), (4, 6000), (70, 300_000)] {
        state.put_letter(&letter(seq, bytes)).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(seqs(&mut state), [3, 4, 9, 70]);
        assert_eq!(state.letter(4).unwrap(), Some(letter(4, 6000)));
        assert_eq!(state.letter(5).unwrap(), None);
        assert_eq!(
            state.letters(3, 2).unwrap(),
            [letter(4, 6000), letter(9, 5000)]
        );
        drop(state);
        state = open(spool.path());
    }
    assert!(state.remove_letter(70).unwrap() && state.remove_letter(4).unwrap());
    assert!(!state.remove_letter(4).unwrap());
    for _ in 0..2 {
        assert_eq!(seqs(&mut state), [3, 9]);
        drop(state);
        state = open(spool.path());
    }
    assert!(state.bytes() > 0);
}

#[test]
fn a_letter_can_be_replaced_removed_and_come_again() {
    let spool = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut state = open(spool.path());
        state.put_letter(&letter(5, 9000)).unwrap();
        state.put_letter(&letter(5, 9000)).unwrap();
        state.put_letter(&letter(5, 700)).unwrap();
        assert_eq!(seqs(&mut state), [5], "{round}");
        drop(state);
        let mut state = open(spool.path());
        assert_eq!(state.letter(5).unwrap(), Some(letter(5, 700)));
        // Damage now would bring back this one and none of those before.
        let path = spool.path().join("state");
        let scan = Scan::of(&path.join("db")).unwrap();
        assert_eq!(Salvage::of(&scan, &path).unwrap().letters.len(), 1);
        assert!(state.remove_letter(5).unwrap());
    }
    assert_eq!(open(spool.path()).count(), 0);
}

#[test]
fn the_memo_survives_and_a_torn_one_leaves_the_one_before() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    assert_eq!(state.memo().unwrap(), Memo::default());
    for n in 1..20 {
        state.set_memo(&memo(n)).unwrap();
        assert_eq!(state.memo().unwrap(), memo(n));
    }
    let store = state.ready().unwrap();
    let next = store.last(MEMO).unwrap().unwrap() + 1;
    store.put_part(Key::new(MEMO, next), &[1; 20_000], 2);
    drop(state);
    let mut state = open(spool.path());
    assert_eq!(state.memo().unwrap(), memo(19));
    state.set_memo(&memo(20)).unwrap();
    assert_eq!(open_again(state, spool.path()).memo().unwrap(), memo(20));
}

fn open_again(state: State, spool: &Path) -> State {
    drop(state);
    open(spool)
}

#[test]
fn a_letter_that_was_cut_off_is_as_if_never_written() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    state.put_letter(&letter(1, 100)).unwrap();
    let store = state.ready().unwrap();
    store.put_part(Key::new(LETTERS, 2), &[1; 20_000], 2);
    let mut state = open_again(state, spool.path());
    assert_eq!(seqs(&mut state), [1]);
    state.put_letter(&letter(2, 100)).unwrap();
    assert_eq!(seqs(&mut state), [1, 2]);
}

#[test]
fn after_a_failed_write_the_next_call_opens_the_store_again() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    state.put_letter(&letter(1, 100)).unwrap();
    state.ready().unwrap().fail_for_test();
    state.put_letter(&letter(2, 100)).unwrap();
    assert_eq!(seqs(&mut state), [1, 2]);
}

#[test]
fn a_state_of_mostly_air_is_copied_and_shrinks() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    state.set_memo(&memo(1)).unwrap();
    for seq in 1..=40 {
        state.put_letter(&letter(seq, 100_000)).unwrap();
    }
    state.compact_bytes = 1 << 20;
    assert!(!state.tidy().unwrap(), "everything is alive");
    for seq in 1..=38 {
        state.remove_letter(seq).unwrap();
    }
    let before = state.bytes();
    assert!(state.tidy().unwrap());
    assert!(state.bytes() < before / 3, "{} of {before}", state.bytes());
    assert_eq!(seqs(&mut state), [39, 40]);
    let mut state = open_again(state, spool.path());
    assert_eq!(
        (seqs(&mut state), state.memo().unwrap()),
        (vec![39, 40], memo(1))
    );
}

/// Every state the names can be in when the power is cut during a swap.
#[test]
fn a_swap_that_was_cut_off_anywhere_is_finished_or_forgotten() {
    for crash in 0..6 {
        let spool = tempfile::tempdir().unwrap();
        let at = |name: &str| spool.path().join(name);
        let mut state = open(spool.path());
        state.put_letter(&letter(7, 20_000)).unwrap();
        match crash {
            // The copy is not complete.
            0 => drop(Store::create(&at("state.new"), Layout::Large).unwrap()),
            1 => fs::create_dir(at("state.new")).unwrap(),
            _ => state.fill_new().unwrap(),
        }
        drop(state);
        if crash >= 3 {
            fs::rename(at("state"), at("state.old")).unwrap();
        }
        if crash >= 4 {
            fs::rename(at("state.new"), at("state")).unwrap();
        }
        if crash >= 5 {
            fs::remove_file(at("state.old").join("conf")).unwrap();
        }
        let mut state = open(spool.path());
        assert_eq!(seqs(&mut state), [7], "crash point {crash}");
        assert!(!at("state.new").exists() && !at("state.old").exists());
    }
}

#[test]
fn a_creation_that_was_cut_off_is_finished() {
    let spool = tempfile::tempdir().unwrap();
    fs::create_dir(spool.path().join("state")).unwrap();
    let mut state = open(spool.path());
    state.put_letter(&letter(1, 10)).unwrap();
    assert_eq!(seqs(&mut state), [1]);
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
    let mut state = open(spool.path());
    state.compact_bytes = 1 << 20;
    let mut model = BTreeSet::new();
    for step in 0..400 {
        let seq = 1 + below(30);
        match below(8) {
            0..=3 => {
                state
                    .put_letter(&letter(seq, below(20_000) as usize))
                    .unwrap();
                model.insert(seq);
            }
            4 | 5 => assert_eq!(state.remove_letter(seq).unwrap(), model.remove(&seq)),
            6 => state.set_memo(&memo(step)).unwrap(),
            _ => {
                state.tidy().unwrap();
                state = open_again(state, spool.path());
                state.compact_bytes = 1 << 20;
            }
        }
        assert!(seqs(&mut state).iter().eq(&model), "step {step}");
    }
}

/// Random damage from a fixed seed: never a panic and never a wrong letter. The few that a
/// cut lost without a trace, and the removed ones that came back since their mark was cut
/// off, are bounded.
#[test]
fn i8_random_damage_never_gives_a_wrong_letter_and_costs_few() {
    let mut x = 0x5EED_0002_u64;
    println!("seed {x:#x}");
    let mut below = |n: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x % n as u64) as usize
    };
    let model = tempfile::tempdir().unwrap();
    let mut state = open(model.path());
    for seq in 1..=60 {
        state.put_letter(&letter(seq, 3000)).unwrap();
        if seq % 3 == 0 {
            state.remove_letter(seq).unwrap();
        }
    }
    let mut state = open_again(state, model.path());
    assert_eq!(seqs(&mut state).len(), 40);
    drop(state);
    let (mut kept, mut noted, mut returned) = (0, 0, 0);
    for trial in 0..60 {
        let spool = tempfile::tempdir().unwrap();
        let dir = spool.path().join("state");
        fs::create_dir_all(dir.join("blobs")).unwrap();
        for entry in fs::read_dir(model.path().join("state")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
            }
        }
        let mut bytes = fs::read(dir.join("db")).unwrap();
        let at = below(bytes.len());
        match trial % 3 {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes.iter_mut().skip(at).take(4096).for_each(|b| *b = 0),
            _ => bytes.truncate(at),
        }
        fs::write(dir.join("db"), bytes).unwrap();
        let (mut state, notes) = State::open(spool.path(), Layout::Large, QUEUE).unwrap();
        let found = seqs(&mut state);
        let back = found.iter().filter(|seq| *seq % 3 == 0).count();
        kept += found.len() - back;
        noted += notes.len();
        if !notes.is_empty() {
            assert_eq!(
                fs::read_dir(spool.path().join("quarantine"))
                    .unwrap()
                    .count(),
                1
            );
        }
        if notes.is_empty() {
            assert!(found.len() >= 35, "trial {trial}: {found:?}");
        }
        returned += back;
    }
    println!("{kept} of 2400 letters kept, {returned} came back, {noted} notes");
    assert!(kept > 1800 && noted > 10 && returned < 10);
}

#[test]
fn version_1_is_fixed_to_the_byte_and_a_newer_one_is_kept() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    let mut value = letter::encode(&letter(2, 0), 0).unwrap();
    // Version, length of the head, copy; id, time, cause, answer, attempts, first, last.
    let golden = [
        "01",
        "51000000",
        "00000000",
        "100000000000000000000000000000000000000000000002",
        "ea03000000000000",
        "00000000",
        "019001000000000000000000000000000000000000",
        "03000000",
        "d007000000000000",
        "b80b000000000000",
    ];
    let written: String = value.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(written, golden.concat());
    value[0] = 2;
    let store = state.ready().unwrap();
    store.put(Key::new(LETTERS, 2), &value).unwrap();
    store.put(Key::new(MEMO, 0), &[2, 0]).unwrap();
    let mut state = open_again(state, spool.path());
    for error in [
        state.letter(2).unwrap_err(),
        state.letters(0, 9).unwrap_err(),
        state.memo().unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::FutureFormat { found: 2, .. }),
            "{error}"
        );
    }
    state.compact_bytes = 0;
    assert!(state.tidy().unwrap());
    assert_eq!(state.letter_value(2).unwrap(), value);
}

// The state carried nothing of the queue it belonged to: one of another spool was taken for ours,
// with all its letters. And one that was gone was made again without a word.
#[test]
fn a_state_of_another_queue_is_put_aside_and_one_that_is_gone_is_known_to_be() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    assert!(state.was_empty());
    state.put_letter(&letter(5, 100)).unwrap();
    drop(state);
    assert!(!open(spool.path()).was_empty());

    let (mut state, notes) = State::open(spool.path(), Layout::Large, Uuid::from_u128(8)).unwrap();
    assert!(notes[0].contains("belongs elsewhere"), "{notes:?}");
    assert_eq!((state.count(), state.letter(5).unwrap()), (0, None));
    drop(state);
    fs::rename(
        spool.path().join("quarantine/state-1"),
        spool.path().join("state.new"),
    )
    .unwrap();
    fs::remove_dir_all(spool.path().join("state")).unwrap();
    assert_eq!(open(spool.path()).letter(5).unwrap(), Some(letter(5, 100)));

    fs::write(spool.path().join("state/db"), "").unwrap();
    assert!(
        State::open(spool.path(), Layout::Large, QUEUE)
            .unwrap()
            .0
            .was_empty()
    );
}

/// A spool without dead letters does without sled for them; a memo is read all the same.
#[test]
fn a_state_without_letters_is_not_made_and_only_read() {
    let spool = tempfile::tempdir().unwrap();
    let mut state = open(spool.path());
    assert_eq!(state.memo().unwrap(), Memo::default());
    assert_eq!((state.count(), state.bytes()), (0, 0));
    assert!(!spool.path().join("state").exists() && !state.remove_letter(1).unwrap());
    let mut memos = Vec::new();
    for most in 1..=3 {
        let memo = Memo {
            batch_events: Some(most),
            ..Memo::default()
        };
        state.set_memo(&memo).unwrap();
        memos.push(memo);
    }
    drop(state);
    let db = spool.path().join("state/db");
    let before = fs::read(&db).unwrap();
    let mut state = open(spool.path());
    assert_eq!(state.memo().unwrap(), memos[2]);
    assert!(state.letters(0, 9).unwrap().is_empty());
    assert!(state.store.is_none() && fs::read(&db).unwrap() == before);
    // The first letter ends that.
    state.put_letter(&letter(7, 100)).unwrap();
    assert_eq!(state.memo().unwrap(), memos[2]);
    drop(state);
    let mut state = open(spool.path());
    assert_eq!(seqs(&mut state), [7]);
    assert!(state.store.is_some());
    assert_eq!(state.memo().unwrap(), memos[2]);
}

/// A power cut kept the second page of a write that was never synced and lost the first. The scan
/// found the newest copies of two old letters behind that hole; sled stopped at it and zeroed
/// what followed; and the letters were then looked for where they no longer were, although their
/// older, synced copies stood in front. Found by the power cuts of `cargo xtask prove`, workload
/// `cut again`: two dead letters were gone.
#[test]
fn letters_survive_a_hole_behind_them_wherever_it_is() {
    let spool = tempfile::tempdir().unwrap();
    let path = spool.path().join("state/db");
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut state = open(spool.path());
    let mut ends = Vec::new();
    for seq in 1..=40 {
        state.put_letter(&letter(seq, 100)).unwrap();
        ends.push((seq, end(&fs::read(&path).unwrap())));
    }
    drop(state);
    let whole = fs::read(&path).unwrap();
    ends.retain(|(_, at)| *at + 4 < end(&whole));
    assert!(ends.len() > 30);
    for (seq, at) in ends {
        let spool = tempfile::tempdir().unwrap();
        open(spool.path()).set_memo(&Memo::default()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + 4].fill(0);
        fs::write(spool.path().join("state/db"), bytes).unwrap();
        let (mut state, notes) = State::open(spool.path(), Layout::Large, QUEUE).unwrap();
        let found = seqs(&mut state);
        let all: Vec<Seq> = (1..=seq).collect();
        assert!(found.starts_with(&all), "{seq}: {found:?} {notes:?}");
    }
}
