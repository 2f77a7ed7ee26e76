//! Damage: random harms to every kind of file of a spool, one at a time. Never a
//! panic, never a wrong payload, never a silent loss.
//!
//! `DAMAGE_TRIALS` sets how many (100 otherwise), `DAMAGE_SEED` from which seed; trial `n` has the
//! seed plus `n`, so one trial is run again with its own number as the seed and `DAMAGE_TRIALS=1`.
//! `bits.rs` flips one bit at a time, at places that follow from the same seed.

#[cfg(test)]
mod bits;
#[cfg(test)]
mod harm;
#[cfg(test)]
mod look;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod spool;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::bits::try_all;
    use crate::harm::{Dice, KINDS, class, harm};
    use crate::oracle::{ENDS, Lines, judge};
    use crate::spool::{Base, contents, copy, forget_owner, settings};

    fn number(name: &str, otherwise: u64) -> u64 {
        let text = std::env::var(name).ok();
        text.map_or(otherwise, |text| text.parse().unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn i8_no_damage_to_any_file_panics_or_alters_or_silently_loses_anything() {
        let (trials, seed) = (
            number("DAMAGE_TRIALS", 100),
            number("DAMAGE_SEED", 20_261_123),
        );
        println!("DAMAGE_SEED={seed} DAMAGE_TRIALS={trials}");
        let lines = Lines::of_this_process();
        let dir = tempfile::tempdir().unwrap();
        let closed = Base::make(dir.path(), "closed", 1, true).await;
        let killed = Base::make(dir.path(), "killed", 1, false).await;
        let other = Base::make(dir.path(), "other", 2, true).await;
        let mut table: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
        let mut classes: BTreeMap<_, u64> = BTreeMap::new();
        let mut broken = Vec::new();
        for seed in seed..seed + trials {
            let done = table.values().flat_map(BTreeMap::values).sum::<u64>();
            if done % 50 == 0 {
                println!("\nPROGRESS {done} of {trials} trials");
            }
            let mut dice = Dice::new(seed);
            let base = if dice.below(2) == 0 { &closed } else { &killed };
            let spool = dir.path().join("trial");
            copy(&base.path, &spool);
            forget_owner(&spool);
            let harm = harm(&mut dice, &spool, &other.path);
            *classes.entry(class(&harm.file)).or_default() += 1;
            match judge(base, &harm, &spool, &lines).await {
                Ok(end) => *table.entry(harm.kind).or_default().entry(end).or_default() += 1,
                Err(fault) => {
                    println!("BROKEN seed {seed}, {} spool, {harm}: {fault}", base.name);
                    broken.push(seed);
                }
            }
            std::fs::remove_dir_all(&spool).unwrap();
        }
        print!("{:18}", "");
        ENDS.iter()
            .for_each(|end| print!("{:>12}", format!("{end:?}")));
        println!();
        for kind in KINDS {
            print!("{:18}", format!("{kind:?}"));
            for end in ENDS {
                let count = table.get(&kind).and_then(|row| row.get(&end)).unwrap_or(&0);
                print!("{count:>12}");
            }
            println!();
        }
        println!("by file: {classes:?}");
        if broken.is_empty() {
            println!("\nPROVED trials={trials} altered=0 reordered=0 unreported=0 panics=0");
        }
        assert!(
            broken.is_empty(),
            "{} of {trials} trials: {broken:?}",
            broken.len()
        );
    }

    // Where one bit of sled's own cost every letter or event behind it, and nothing told of it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn i11_a_flipped_bit_costs_nothing_that_a_look_could_read_and_both_name_the_rest() {
        let seed = number("DAMAGE_SEED", 20_261_123);
        let bits = std::env::var("DAMAGE_BITS").unwrap_or_else(|_| "60".into());
        println!("DAMAGE_SEED={seed} DAMAGE_BITS={bits}");
        let count = (bits != "all").then(|| bits.parse::<usize>().unwrap() / 2);
        let dir = tempfile::tempdir().unwrap();
        let (mut done, mut broken) = (0, Vec::new());
        for (name, closed) in [("closed", true), ("killed", false)] {
            let base = Base::make(dir.path(), name, 1, closed).await;
            let (more, found) = try_all(&base, dir.path(), seed, count).await;
            done += more;
            broken.extend(found);
        }
        if broken.is_empty() {
            println!("\nPROVED bits={done} altered=0 reordered=0 unreported=0 panics=0");
        }
        assert!(
            broken.is_empty(),
            "{} of {done} bits: {broken:?}",
            broken.len()
        );
    }

    // What is not on record is not mended: the damage is all that still tells of it.
    #[tokio::test]
    async fn i13_nothing_is_mended_before_it_is_on_record() {
        let dir = tempfile::tempdir().unwrap();
        let base = Base::make(dir.path(), "closed", 1, true).await;
        let spool = &base.path;
        std::fs::remove_file(spool.join("spool.json")).unwrap();
        std::fs::remove_dir_all(spool.join("journal")).unwrap();
        // The next record cannot be written where a directory is in its way.
        std::fs::create_dir_all(spool.join("incidents.new/in the way")).unwrap();
        let before = contents(spool);
        let opened = everpost::Queue::builder(spool)
            .settings(settings())
            .open()
            .await;
        assert!(opened.is_err(), "it opens and has said nothing");
        let mut after = contents(spool);
        // Each opening writes its pid.
        after.insert("lock".into(), before[std::path::Path::new("lock")].clone());
        assert!(before == after, "changed before it was on record");
        std::fs::remove_dir_all(spool.join("incidents.new")).unwrap();
        let queue = everpost::Queue::builder(spool)
            .settings(settings())
            .open()
            .await
            .unwrap();
        let places: Vec<_> = queue
            .recovery()
            .incidents
            .iter()
            .map(|i| &i.place)
            .collect();
        assert!(places.iter().any(|place| *place == "journal"), "{places:?}");
        assert!(
            places.iter().any(|place| *place == "spool.json"),
            "{places:?}"
        );
    }

    // The newest journal file removed under a killed owner: its numbers were given again, to others.
    #[tokio::test]
    async fn i13_without_the_newest_file_numbers_beyond_the_first_set_aside_are_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let (live, spool) = (dir.path().join("live"), dir.path().join("killed"));
        let open = |path: &std::path::Path| {
            let mut settings = settings();
            settings.journal_bytes = 1 << 20;
            everpost::Queue::builder(path).settings(settings).open()
        };
        let queue = open(&live).await.unwrap();
        let mut last = 0;
        for _ in 0..4_000 {
            let events = vec![everpost::Event::json("1").unwrap(); 5];
            last = queue.append_all(events).await.unwrap().last().unwrap().seq;
        }
        copy(&live, &spool);
        drop(queue);
        // All events are in one file: the first that was begun.
        let begun = std::fs::read_dir(spool.join("journal")).unwrap();
        for entry in begun.map(Result::unwrap) {
            if std::fs::read(entry.path())
                .unwrap()
                .iter()
                .any(|byte| *byte != 0)
            {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        let queue = open(&spool).await.unwrap();
        assert!(!queue.recovery().incidents.is_empty(), "nothing is told");
        let next = queue
            .append(everpost::Event::json("2").unwrap())
            .await
            .unwrap();
        assert!(
            next.seq > last,
            "{} is given again, {last} was the last",
            next.seq
        );
    }
}
