//! The books of a fleet: what became of every event that was ever stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::sleep;

use super::record::Record;
use super::removal;
use super::text::{clean, reason};
use super::wire::{Wanted, Wire};
use crate::error::Error;
use crate::millis::unix_ms;
use crate::nats::Names;

/// A server may be a little behind, so books that do not balance are read again, so often.
const READS_MAX: u32 = 5;
const AGAIN: Duration = Duration::from_millis(300);

/// A record that was not written for so long has no worker, whatever it says: the longest lease is less.
const SILENT: Duration = Duration::from_secs(10 * 60);

/// The books of a fleet, as they were within a moment.
///
/// Everything that was ever stored left its partition or is pending, so `stored` is what the stream has
/// counted in its whole life: with what arrived while the books were read as the only room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Books {
    /// The stream of events.
    pub stream: String,
    /// Whether the books agree with the counts of the stream.
    pub balanced: bool,
    /// What does not agree, in words; empty if all does.
    pub faults: Vec<String>,
    /// Events that were ever stored: those that left and those that are pending.
    pub stored: u64,
    /// Events that the receiver took.
    pub delivered: u64,
    /// Events that were set aside since they were refused, or were none.
    pub dead: u64,
    /// Events that were set aside for their age.
    pub expired: u64,
    /// Events that were removed from the stream by a person before they were delivered, as far as that
    /// was noticed.
    pub lost: u64,
    /// Events that wait.
    pub pending: u64,
    /// When the oldest event that waits happened, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Dead letters that are there.
    pub letters: u64,
    /// The last place of the stream: what it counts itself.
    pub last_seq: u64,
    /// Messages that are in the stream, delivered ones that are not removed yet among them.
    pub messages: u64,
    /// Each partition, in order.
    pub partitions: Vec<PartitionBooks>,
}

/// The books of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartitionBooks {
    /// Its number.
    pub partition: u16,
    /// The worker that has it, if one has. It may be dead for some seconds before another one takes over.
    pub owner: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// When its record was written last, by the worker's clock, in milliseconds since 1970.
    pub written_ms: Option<u64>,
    /// How many workers had it so far.
    pub epoch: u64,
    /// The place in the stream up to which it is delivered.
    pub cursor: u64,
    /// As in [`Books`].
    pub stored: u64,
    /// As in [`Books`].
    pub delivered: u64,
    /// As in [`Books`].
    pub dead: u64,
    /// As in [`Books`].
    pub expired: u64,
    /// As in [`Books`].
    pub lost: u64,
    /// As in [`Books`].
    pub pending: u64,
    /// As in [`Books`].
    pub oldest_ms: Option<u64>,
    /// What is wrong with its record: a newer everpost wrote it, say.
    pub fault: Option<String>,
    /// Whether its books agree with what the stream holds of it.
    pub balanced: bool,
}

impl Books {
    /// The partitions without a worker that has written of late.
    #[must_use]
    pub fn unowned(&self, now: SystemTime) -> Vec<u16> {
        let partitions = self.partitions.iter();
        let without = partitions.filter(|partition| partition.worker(now).is_none());
        without.map(|partition| partition.partition).collect()
    }

    /// How many workers have a partition.
    #[must_use]
    pub fn workers(&self, now: SystemTime) -> usize {
        let workers = self.partitions.iter().filter_map(|one| one.worker(now));
        workers.collect::<BTreeSet<_>>().len()
    }
}

/// What the stream counts.
#[derive(Default)]
struct Counts {
    first_seq: u64,
    last_seq: u64,
    messages: u64,
    partitions: BTreeMap<u16, u64>,
}

impl Counts {
    /// Asks the stream. Its subjects come in pages, of which only the sums are kept: there is one for each device.
    async fn read(wire: &Wire, names: &Names) -> Result<Self, Error> {
        let info = wire.info_of_subjects(names.stream(), ">", 0).await?;
        let mut counts = Self {
            first_seq: info.state.first_seq,
            last_seq: info.state.last_seq,
            messages: info.state.messages,
            partitions: BTreeMap::new(),
        };
        let mut came = counts.add(names, info.state.subjects);
        while came > 0 && came < info.total {
            let next = wire.info_of_subjects(names.stream(), ">", came).await?;
            match counts.add(names, next.state.subjects) {
                0 => break,
                more => came = came.saturating_add(more),
            }
        }
        Ok(counts)
    }

    /// Adds the messages of these subjects, and gives how many subjects they are.
    fn add(&mut self, names: &Names, subjects: Option<BTreeMap<String, u64>>) -> u64 {
        let subjects = subjects.unwrap_or_default();
        let mut all = names.partition_subject(0);
        all.truncate(all.len() - 3);
        for (subject, count) in &subjects {
            let partition = subject
                .strip_prefix(&all)
                .and_then(|rest| rest.split_once('.'));
            if let Some(partition) = partition.and_then(|(number, _)| number.parse().ok()) {
                *self.partitions.entry(partition).or_insert(0) += count;
            }
        }
        subjects.len() as u64
    }

    fn of_partition(&self, partition: u16) -> u64 {
        self.partitions.get(&partition).copied().unwrap_or(0)
    }
}

impl PartitionBooks {
    /// The worker that has it, if that has written of late.
    #[must_use]
    pub fn worker(&self, now: SystemTime) -> Option<&str> {
        let now_ms = unix_ms(now);
        let silent_ms = u64::try_from(SILENT.as_millis()).unwrap_or(u64::MAX);
        let written = self.written_ms;
        let is_silent = written.is_none_or(|ms| now_ms.saturating_sub(ms) > silent_ms);
        self.owner.as_deref().filter(|_| !is_silent)
    }

    fn new(partition: u16, record: Option<Result<Record, Error>>) -> Self {
        let mut books = Self {
            partition,
            ..Self::default()
        };
        match record {
            Some(Ok(record)) => {
                books.owner = Some(clean(&record.owner)).filter(|owner| !owner.is_empty());
                books.since_ms = books.owner.is_some().then_some(record.since_ms);
                books.written_ms = Some(record.at_ms);
                books.epoch = record.epoch;
                books.cursor = record.seq;
                books.delivered = record.delivered;
                books.dead = record.dead;
                books.expired = record.expired;
                books.lost = record.lost;
            }
            Some(Err(error)) => books.fault = Some(reason(error)),
            None => {}
        }
        books
    }

    fn settled(&self) -> u64 {
        let accounts = [self.delivered, self.dead, self.expired, self.lost];
        accounts.into_iter().fold(0, u64::saturating_add)
    }

    /// What does not agree with what the stream counted before and after these books were read.
    fn check(&self, before: &Counts, after: &Counts) -> Option<String> {
        if let Some(fault) = &self.fault {
            return Some(fault.clone());
        }
        let (least, most) = (
            before.of_partition(self.partition),
            after.of_partition(self.partition),
        );
        let there = self.stored.saturating_sub(self.lost);
        // Once anything was removed, the stream counts less than was ever stored.
        let is_whole = after.first_seq <= 1;
        let agrees = there >= least && self.pending <= most && (!is_whole || there <= most);
        (!agrees).then(|| {
            format!(
                "partition {}: {} left and {} are pending, and the stream holds from {least} to {most}",
                self.partition,
                self.settled(),
                self.pending
            )
        })
    }
}

/// Reads the books. Nothing is changed by it.
pub(super) async fn read(wire: &Wire, names: &Names) -> Result<Books, Error> {
    let mut books = read_once(wire, names).await?;
    for _ in 1..READS_MAX {
        if books.balanced
            || books
                .partitions
                .iter()
                .any(|partition| partition.fault.is_some())
        {
            break;
        }
        sleep(AGAIN).await;
        books = read_once(wire, names).await?;
    }
    Ok(books)
}

async fn read_once(wire: &Wire, names: &Names) -> Result<Books, Error> {
    let before = Counts::read(wire, names).await?;
    let mut records = BTreeMap::new();
    for (partition, _, record) in removal::records(wire, names).await? {
        records.insert(partition, record);
    }
    let mut partitions = Vec::new();
    for partition in 0..names.partitions() {
        let mut books = PartitionBooks::new(partition, records.remove(&partition));
        let is_empty = before.of_partition(partition) == 0 && books.cursor == 0;
        if !is_empty && books.fault.is_none() {
            let subject = names.partition_subject(partition);
            let wanted = Wanted::From {
                seq: books.cursor.saturating_add(1),
                subject: &subject,
                max: 1,
                bytes_max: 1,
            };
            let page = wire.fetch(names.stream(), &wanted).await?;
            books.pending = page.entries.len() as u64 + page.behind;
            let oldest = page.entries.first().map(|entry| {
                let time = entry
                    .header("Everpost-Time")
                    .and_then(|time| time.parse().ok());
                time.unwrap_or(entry.stored_ms)
            });
            books.oldest_ms = oldest;
        }
        books.stored = books.settled().saturating_add(books.pending);
        partitions.push(books);
    }
    let letters = wire.info(&names.dead_stream()).await?.state.messages;
    let after = Counts::read(wire, names).await?;
    Ok(sum(names, partitions, letters, &before, &after))
}

fn sum(
    names: &Names,
    mut partitions: Vec<PartitionBooks>,
    letters: u64,
    before: &Counts,
    after: &Counts,
) -> Books {
    let mut faults = Vec::new();
    for books in &mut partitions {
        let fault = books.check(before, after);
        books.balanced = fault.is_none();
        faults.extend(fault);
    }
    let all =
        |of: fn(&PartitionBooks) -> u64| partitions.iter().map(of).fold(0, u64::saturating_add);
    let stored = all(|books| books.stored);
    if !(before.last_seq..=after.last_seq).contains(&stored) {
        faults.push(format!(
            "in all {stored} events are accounted for, and the stream has counted from {} to {}",
            before.last_seq, after.last_seq
        ));
    }
    Books {
        stream: names.stream().to_owned(),
        balanced: faults.is_empty(),
        faults,
        stored,
        delivered: all(|books| books.delivered),
        dead: all(|books| books.dead),
        expired: all(|books| books.expired),
        lost: all(|books| books.lost),
        pending: all(|books| books.pending),
        oldest_ms: partitions.iter().filter_map(|books| books.oldest_ms).min(),
        letters,
        last_seq: after.last_seq,
        messages: after.messages,
        partitions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(first_seq: u64, partitions: &[u64]) -> Counts {
        let there: u64 = partitions.iter().sum();
        Counts {
            first_seq,
            last_seq: first_seq - 1 + there,
            messages: there,
            partitions: (0..).zip(partitions.iter().copied()).collect(),
        }
    }

    fn partition(partition: u16, delivered: u64, pending: u64) -> PartitionBooks {
        PartitionBooks {
            partition,
            delivered,
            pending,
            stored: delivered + pending,
            ..PartitionBooks::default()
        }
    }

    fn is_balanced(partitions: &[PartitionBooks], before: &Counts, after: &Counts) -> bool {
        let names = Names::new("E", 2).unwrap();
        sum(&names, partitions.to_vec(), 0, before, after).balanced
    }

    #[test]
    fn books_balance_with_what_the_stream_counts_and_with_nothing_else() {
        let books = [partition(0, 5, 2), partition(1, 3, 0)];
        let same = counts(1, &[7, 3]);
        assert!(is_balanced(&books, &same, &same));
        assert!(
            is_balanced(&books, &counts(1, &[6, 3]), &counts(1, &[9, 3])),
            "in motion"
        );
        for wrong in [
            [partition(0, 5, 1), partition(1, 3, 0)],
            [partition(0, 6, 2), partition(1, 3, 0)],
        ] {
            assert!(!is_balanced(&wrong, &same, &same), "{wrong:?}");
        }
        // One too many here and one too few there is noticed as well.
        let swapped = [partition(0, 6, 2), partition(1, 2, 0)];
        assert!(!is_balanced(&swapped, &same, &same));
    }

    #[test]
    fn what_workers_removed_is_no_fault_and_what_is_missing_beyond_that_is_one() {
        // Four places were removed, of events that were delivered.
        let books = [partition(0, 5, 2), partition(1, 3, 0)];
        let removed = counts(5, &[4, 2]);
        assert!(is_balanced(&books, &removed, &removed));
        let fewer = [partition(0, 4, 2), partition(1, 3, 0)];
        assert!(!is_balanced(&fewer, &removed, &removed));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_a_fault() {
        let record = Some(Record::read(0, br#"{"version":9}"#));
        let books = [PartitionBooks::new(0, record), partition(1, 3, 0)];
        let same = counts(1, &[0, 3]);
        assert!(!is_balanced(&books, &same, &same));
    }
}
