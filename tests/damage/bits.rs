//! One flipped bit, at every place that a reader may look at first: the first 64 KiB of every file,
//! and the head of every log segment that sled has in one.
//!
//! A look, an opening, a look: what could be read at first still is, and both name what is not.
//! `DAMAGE_BITS` says how many places are tried (60 otherwise, `all` for every one), `DAMAGE_SEED`
//! which; the bit follows from the seed and the place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everpost::{Error, Queue};

use crate::harm::{Dice, class};
use crate::look::{Looked, check_opened};
use crate::oracle::{Broken, check_events, ensure, in_time};
use crate::spool::{Base, contents, copy_old, forget_owner, make_old, settings};

/// How far from the beginning every byte is tried.
const HEAD: usize = 64 << 10;

/// Log segments of sled begin at multiples of this, in the smaller layout.
const LOG_SEGMENT: usize = 64 << 10;

/// Bytes of the head of a log segment, and of the first message behind it.
const SEGMENT_HEAD: usize = 64;

/// A byte of a file.
type Place = (PathBuf, usize);

/// Every place, with those of files of which there are few to read as near as the others.
fn places(spool: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    for (file, bytes) in contents(spool) {
        // Nothing is ever read of these.
        if ["lock", "ballast"].contains(&class(&file).as_str()) {
            continue;
        }
        let is_head = |at: &usize| *at < HEAD || *at % LOG_SEGMENT < SEGMENT_HEAD;
        let here = (0..bytes.len()).filter(is_head);
        places.extend(here.map(|at| (file.clone(), at)));
    }
    places
}

/// So many of the places, as many of each kind of file.
fn sample(dice: &mut Dice, spool: &Path, count: usize) -> Vec<Place> {
    let mut classes: BTreeMap<String, [Vec<Place>; 2]> = BTreeMap::new();
    for place in places(spool) {
        let [of_class, heads] = classes.entry(class(&place.0)).or_default();
        if place.1 % LOG_SEGMENT < SEGMENT_HEAD {
            heads.push(place.clone());
        }
        of_class.push(place);
    }
    let turns = classes.values().cycle().take(count);
    turns
        .map(|[of_class, heads]| {
            // Every second one where sled has its own.
            let from = if dice.below(2) == 0 { heads } else { of_class };
            dice.pick(from).clone()
        })
        .collect()
}

/// Tries the places of one spool. Gives how many, and which were broken.
pub(crate) async fn try_all(
    base: &Base,
    dir: &Path,
    seed: u64,
    count: Option<usize>,
) -> (u64, Vec<String>) {
    let mut dice = Dice::new(seed);
    let chosen = match count {
        Some(count) => sample(&mut dice, &base.path, count),
        None => places(&base.path),
    };
    let spool = dir.join("bits");
    let (mut done, mut broken) = (0, Vec::new());
    for (file, at) in &chosen {
        let at = *at;
        let bit = Dice::new(seed ^ (at as u64) << 8).below(8);
        if done % 100 == 0 {
            println!("\nPROGRESS {done} of {} flipped bits", chosen.len());
        }
        copy_old(&base.path, &spool);
        forget_owner(&spool);
        make_old(&spool.join("lock"));
        let path = spool.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, bytes).unwrap();
        make_old(&path);
        if let Err(fault) = judge(base, &spool).await {
            let text = format!(
                "{} spool, {} byte {at} bit {bit}",
                base.name,
                file.display()
            );
            println!("BROKEN {text}: {fault}");
            broken.push(text);
        }
        std::fs::remove_dir_all(&spool).unwrap();
        done += 1;
    }
    (done, broken)
}

async fn judge(base: &Base, spool: &Path) -> Result<(), Broken> {
    let before = contents(spool);
    let looked = Looked::at(base, spool)?;
    let builder = Queue::builder(spool).settings(settings());
    let queue = match in_time("opening", builder.open())
        .await?
        .map_err(Error::from)
    {
        Ok(queue) => queue,
        Err(error @ (Error::Damaged { .. } | Error::FutureFormat { .. })) => {
            ensure!(
                looked.is_refused_like(&error),
                "refused ({error}), and a look says {looked:?}"
            );
            return Ok(());
        }
        Err(error) => return Err(Broken(format!("refused with {error:?}"))),
    };
    let seen = queue.events(..).take(10_000).await;
    let seen = seen.map_err(|error| Broken(format!("peeking: {error}")))?;
    check_events(base, &seen, "peek")?;
    check_opened(&looked, &queue, &seen).await?;
    let closed = queue.close(Duration::ZERO).await;
    ensure!(closed.is_ok(), "closing: {closed:?}");
    Looked::at(base, spool)?.check_again(&looked)?;
    looked.check_quarantine(&before, spool)
}
