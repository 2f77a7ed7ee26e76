//! Going through dead letters, a slice at a time: however many there are, no request takes long, and
//! no more than a few of them are in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::filter::{Kinship, Sieve};
use super::{GROUPS_MAX, SLICE_LETTERS, SLICE_TIME};
use crate::dead::{Cause, DeadLetter, DeadLetters};
use crate::error::Error;
use crate::event::{Seq, unix_ms};

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
        let mut found = self.letters.list(self.after, self.stride).await?;
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
pub(super) async fn survey(mut walk: Walk, sieve: &Sieve) -> Result<Survey, Error> {
    let mut groups: BTreeMap<Uuid, Group> = BTreeMap::new();
    let mut survey = Survey {
        up_to: walk.up_to,
        ..Survey::default()
    };
    let mut slice = Slice::begin();
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
