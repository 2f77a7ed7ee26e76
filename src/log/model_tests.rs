//! Random operations on the log on disk and on the reference model, reopenings and crashes among
//! them; after each step both must say the same.
//!
//! The limits are so small that sealing, rolling and recycling happen all the time.
//! `MODEL_CASES` sets how many cases there are (64 otherwise), `MODEL_SEED` from which seed; case
//! `n` has the seed plus `n`, so one is run again with its own number as the seed and
//! `MODEL_CASES=1`. A failing one is made smaller before it is printed.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::contract::{event, letter, open, read_all, tight};
use super::fates::Fates;
use super::memory::MemoryLog;
use super::spool::SpoolLog;
use super::{Log, Memo, Read};
use crate::fate::Fate;
use crate::ledger::Settled;
use crate::observe::Place;
use crate::settings::Settings;

#[derive(Clone, Debug)]
enum Step {
    /// One append of so many events of so many bytes, committed with or without a sync.
    Append {
        count: usize,
        bytes: usize,
        sync: bool,
    },
    /// Moves the cursor by up to so many events.
    Settle {
        count: u64,
        how: Settled,
    },
    /// Buries the next event.
    Bury,
    /// Retries the letter at this place among those held.
    Retry {
        nth: usize,
    },
    Discard {
        nth: usize,
    },
    Remember {
        batch_events: u32,
    },
    Tidy,
    /// An orderly close and a new opening.
    Reopen,
    /// The process is gone without a close. What it had written is in the system's hands.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        4 => Just(Settled::Delivered),
        1 => Just(Settled::Lost),
        1 => Just(Settled::Evicted),
    ];
    let step = prop_oneof![
        12 => (1..6usize, 0..1500usize, any::<bool>())
            .prop_map(|(count, bytes, sync)| Step::Append { count, bytes, sync }),
        4 => (1..40u64, how).prop_map(|(count, how)| Step::Settle { count, how }),
        2 => Just(Step::Bury),
        1 => (0..3usize).prop_map(|nth| Step::Retry { nth }),
        1 => (0..3usize).prop_map(|nth| Step::Discard { nth }),
        1 => (1..9u32).prop_map(|batch_events| Step::Remember { batch_events }),
        4 => Just(Step::Tidy),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..120)
}

fn apply(log: &mut dyn Log, step: &Step, next: u64) {
    match step {
        Step::Append { count, bytes, sync } => {
            let events: Vec<_> = (next..).take(*count).map(|n| event(n, *bytes)).collect();
            log.stage(&events).unwrap();
            log.commit(*sync).unwrap();
        }
        Step::Settle { count, how } => {
            log.settle(log.position().cursor + count, *how).unwrap();
        }
        Step::Bury => {
            let seq = log.position().cursor + 1;
            if let Read::Events(events) = log.read(seq, 1, 0).unwrap() {
                log.bury(&letter(seq, events[0].event.clone()), Settled::Dead)
                    .unwrap();
            }
        }
        Step::Retry { nth } => {
            if let Some(letter) = log.letters(0, 9).unwrap().get(*nth) {
                log.retry(letter.seq).unwrap();
            }
        }
        Step::Discard { nth } => {
            if let Some(letter) = log.letters(0, 9).unwrap().get(*nth) {
                log.discard(letter.seq).unwrap();
            }
        }
        Step::Remember { batch_events } => {
            let memo = Memo {
                batch_events: Some(*batch_events),
                ..Memo::default()
            };
            log.remember(&memo).unwrap();
        }
        Step::Tidy => {
            log.tidy().unwrap();
        }
        Step::Reopen | Step::Crash => {}
    }
}

/// With or without a thread for the shelf. What is seen from outside is the same.
fn open_kept(dir: &Path, settings: Settings, apart: bool) -> SpoolLog {
    let mut log = open(dir, settings);
    if apart {
        log.work_apart(Place::new(dir), Arc::new(|| ())).unwrap();
    }
    log
}

fn compare(real: &mut SpoolLog, model: &mut MemoryLog) {
    let (a, b) = (real.position(), model.position());
    assert_eq!(
        (a.cursor, a.last_seq, a.ledger),
        (b.cursor, b.last_seq, b.ledger)
    );
    assert_eq!(a.dead_letters, b.dead_letters);
    let mut known = 0;
    for (seq, how) in (1..).zip(&model.came_to) {
        let (said, came_to) = (a.fate(seq), Fate::of(Some(*how)));
        assert!(said == came_to || said == Fate::Settled, "{seq}: {said:?}");
        known += u64::from(said == came_to);
    }
    // The journal files of the spool are so short that not much is remembered.
    let ranges = Fates::ranges_max(tight().journal_bytes) as u64;
    assert!(known >= ranges.min(a.cursor), "{known} of {}", a.cursor);
    assert_eq!(a.fate(a.cursor + 1), b.fate(a.cursor + 1));
    assert_eq!(
        a.ledger.appended,
        a.ledger.settled() + a.ledger.pending(),
        "I7"
    );
}

fn compare_all(real: &mut SpoolLog, model: &mut MemoryLog) {
    compare(real, model);
    assert_eq!(read_all(real), read_all(model), "I2");
    assert_eq!(
        real.letters(0, 999).unwrap(),
        model.letters(0, 999).unwrap()
    );
    assert_eq!(real.memo().unwrap(), model.memo().unwrap());
}

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().unwrap())
}

fn run(steps: &[Step], apart: bool) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        segment_bytes: 16 << 10,
        ..tight()
    };
    let mut real = open_kept(dir.path(), settings.clone(), apart);
    let mut model = MemoryLog::new(&settings);
    for step in steps {
        let next = model.position().last_seq + 1;
        apply(&mut real, step, next);
        apply(&mut model, step, next);
        if matches!(step, Step::Reopen) {
            real.close().unwrap();
        }
        if matches!(step, Step::Reopen | Step::Crash) {
            drop(real);
            real = open_kept(dir.path(), settings.clone(), apart);
            compare_all(&mut real, &mut model);
        }
        compare(&mut real, &mut model);
    }
    compare_all(&mut real, &mut model);
}

#[test]
fn the_log_on_disk_does_what_the_model_does() {
    let (cases, seed) = (number("MODEL_CASES", 64), number("MODEL_SEED", 20_261_123));
    let (done, acknowledged) = (Cell::new(0), Cell::new(0));
    for seed in seed..seed + cases {
        if done.get() % 100 == 0 {
            println!("\nPROGRESS {} of {cases} cases", done.get());
        }
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: 1,
            failure_persistence: None,
            ..Config::default()
        };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, random);
        let outcome = runner.run(&(steps(), any::<bool>()), |(steps, apart)| {
            run(&steps, apart);
            let appended = steps.iter().map(|step| match step {
                Step::Append { count, .. } => *count,
                _ => 0,
            });
            acknowledged.set(acknowledged.get() + appended.sum::<usize>());
            Ok(())
        });
        assert!(
            outcome.is_ok(),
            "MODEL_SEED={seed} MODEL_CASES=1: {outcome:?}"
        );
        done.set(done.get() + 1);
    }
    println!(
        "\nPROVED cases={cases} acknowledged={} lost=0 altered=0 reordered=0 panics=0",
        acknowledged.get()
    );
}
