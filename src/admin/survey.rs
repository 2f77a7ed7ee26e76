//! Going through dead letters, a slice at a time: however many there are, no request takes long, and
//! no more than a few of them are in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::filter::{Kinship, Sieve};
use super::{GROUPS_MAX, SLICE_LETTERS, SLICE_TIME};
use crate::dead::{Cause, DeadLetter};
use crate::error::Error;
use crate::id::Seq;
use crate::letters::DeadLetters;
use crate::millis::unix_ms;

/// Letters that are fetched at a time, at first and at the least: each may be large.
const STRIDE_MIN: usize = 16;

/// The same if they are small. The log does nothing else meanwhile.
const STRIDE_MAX: usize = 512;

/// Bytes of events that are meant to be fetched at a time.
const STRIDE_BYTES: usize = 1 << 20;

/// Goes through letters in order, in strides of about the same size.
#[derive(Debug)]
pub(super) struct Walk {
    letters: DeadLetters,
    after: Seq,
    /// The last number that is looked at.
    up_to: Seq,
    stride: usize,
}

impl Walk {
    pub(super) fn new(letters: DeadLetters, after: Seq, up_to: Seq) -> Self {
        Self {
            letters,
            after,
            up_to,
            stride: STRIDE_MIN,
        }
    }

    /// The next few; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<DeadLetter>, Error> {
        if self.after >= self.up_to {
            return Ok(Vec::new());
        }
        let mut found = self.letters.page(self.after, self.stride).await?;
        found.retain(|letter| letter.seq <= self.up_to);
        self.after = found.last().map_or(self.up_to, |last| last.seq);
        let bytes: usize = found.iter().map(|l| l.event.json_bytes().len()).sum();
        let each = (bytes / found.len().max(1)).max(1);
        self.stride = (STRIDE_BYTES / each).clamp(STRIDE_MIN, STRIDE_MAX);
        Ok(found)
    }
}

/// How long a slice may still be.
#[derive(Debug)]
pub(super) struct Slice {
    until: Instant,
    pub(super) scanned: usize,
}

impl Slice {
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + SLICE_TIME,
            scanned: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.scanned >= SLICE_LETTERS || Instant::now() >= self.until
    }
}

/// Letters that were answered alike.
#[derive(Clone, Debug, Serialize)]
struct Group {
    group: Uuid,
    cause: Cause,
    status: Option<u16>,
    text: String,
    count: u64,
    bytes: u64,
    first_ms: u64,
    last_ms: u64,
}

/// What one slice of a survey found.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Survey {
    /// Where the next slice begins; none at the end.
    next: Option<Seq>,
    /// The last number that this survey looks at: ask for the next slice with it.
    up_to: Seq,
    /// Letters that were looked at.
    scanned: usize,
    /// Those that the filter lets through.
    matched: u64,
    /// The groups of those that it lets through but for its group.
    groups: Vec<Group>,
    /// Letters in groups beyond [`GROUPS_MAX`].
    others: u64,
}

/// Counts and groups for as long as a slice may take.
pub(super) async fn survey(
    mut walk: Walk,
    sieve: &Sieve,
    mut slice: Slice,
) -> Result<Survey, Error> {
    let mut groups: BTreeMap<Uuid, Group> = BTreeMap::new();
    let mut survey = Survey {
        up_to: walk.up_to,
        ..Survey::default()
    };
    loop {
        let found = walk.next().await?;
        if found.is_empty() {
            break;
        }
        slice.scanned += found.len();
        for letter in found.iter().filter(|letter| sieve.lets_through(letter)) {
            let kinship = Kinship::of(letter);
            let group = kinship.group();
            survey.matched += u64::from(sieve.is_of_group(group));
            let is_full = groups.len() >= GROUPS_MAX;
            match groups.entry(group) {
                Entry::Occupied(mut known) => known.get_mut().add(letter),
                Entry::Vacant(_) if is_full => survey.others += 1,
                Entry::Vacant(place) => place.insert(Group::new(group, kinship)).add(letter),
            }
        }
        if slice.is_over() {
            survey.next = Some(walk.after).filter(|after| *after < walk.up_to);
            break;
        }
    }
    survey.scanned = slice.scanned;
    survey.groups = groups.into_values().collect();
    Ok(survey)
}

impl Group {
    fn new(group: Uuid, kinship: Kinship) -> Self {
        Self {
            group,
            cause: kinship.cause,
            status: kinship.status,
            text: kinship.text,
            count: 0,
            bytes: 0,
            first_ms: u64::MAX,
            last_ms: 0,
        }
    }

    fn add(&mut self, letter: &DeadLetter) {
        let at = unix_ms(letter.last_attempt);
        self.count += 1;
        self.bytes += letter.event.json_bytes().len() as u64;
        self.first_ms = self.first_ms.min(at);
        self.last_ms = self.last_ms.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::filter::Filter;
    use crate::admin::tests::{Refusing, open};
    use crate::event::Event;

    /// The time of a slice is over with its first stride: what all slices say together is the same.
    #[tokio::test]
    async fn slices_come_to_the_same_as_the_whole() {
        let (_dir, queue) = open(Refusing).await;
        let bad = |n: u32| Event::from_serialize(&format!("bad {}", n % 3)).unwrap();
        queue.append_all((0..100).map(bad)).await.unwrap();
        let settled = queue.watch().wait_for(|now| now.pending == 0).await;
        assert_eq!(settled.unwrap().dead_letters, 100);
        let sieve = Filter::default().ready().unwrap();
        let walk = |after| Walk::new(queue.dead_letters(), after, 90);
        let whole = survey(walk(0), &sieve, Slice::begin()).await.unwrap();
        assert_eq!(
            (whole.matched, whole.next, whole.groups.len()),
            (90, None, 1)
        );
        let (mut after, mut matched, mut slices) = (Some(0), 0, 0);
        while let Some(from) = after {
            let over = Slice {
                until: Instant::now(),
                scanned: 0,
            };
            let slice = survey(walk(from), &sieve, over).await.unwrap();
            assert!(slice.scanned <= STRIDE_MAX);
            (after, matched, slices) = (slice.next, matched + slice.matched, slices + 1);
        }
        assert_eq!(matched, 90);
        assert!(slices > 1, "{slices}");
        queue.close(std::time::Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn groups_beyond_the_bound_are_one() {
        let (_dir, queue) = open(Refusing).await;
        // What differs in letters is another group.
        let word = |n: usize| char::from(b'a' + (n % 26) as u8);
        let bad = |n: usize| {
            let text = format!("bad {}{}", word(n / 26), word(n));
            Event::from_serialize(&text).unwrap()
        };
        queue
            .append_all((0..GROUPS_MAX + 7).map(bad))
            .await
            .unwrap();
        queue
            .watch()
            .wait_for(|now| now.pending == 0)
            .await
            .unwrap();
        let sieve = Filter::default().ready().unwrap();
        let walk = Walk::new(queue.dead_letters(), 0, u64::MAX);
        let survey = survey(walk, &sieve, Slice::begin()).await.unwrap();
        assert_eq!((survey.groups.len(), survey.others), (GROUPS_MAX, 7));
        queue.close(std::time::Duration::ZERO).await.unwrap();
    }
}
