//! `fleet status`: the books of a fleet.

use std::time::{Duration, SystemTime};

use clap::Args;
use everpost::clock::{Clock as _, SystemClock};
use everpost::fleet::{Books, Fleet};
use everpost::nats::Names;
use serde::Serialize;

use super::access::Which;
use crate::fault::Fault;
use crate::out::Out;
use crate::screen::grouped;
use crate::signals::Signals;
use crate::text::{count, cut, duration};

/// How often a watch looks.
const EVERY: Duration = Duration::from_secs(1);

/// Characters shown of a worker's name.
const NAME: usize = 28;

/// What is typed with `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Shows it again each second, until a signal.
    #[arg(long)]
    watch: bool,

    /// Shows each partition, also those that never held anything.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    which: Which,
}

pub(super) async fn status(args: &Status, out: Out) -> Result<(), Fault> {
    let (access, names) = args.which.open().await?;
    let fleet = Fleet::connect(&access, names.clone()).await?;
    if !args.watch {
        return show(&fleet.books().await?, &names, args.all, out);
    }
    tokio::select! {
        watched = watch(&fleet, &names, args.all, out) => watched,
        () = out.gone() => Ok(()),
    }
}

async fn watch(fleet: &Fleet, names: &Names, all: bool, out: Out) -> Result<(), Fault> {
    let mut signals = Signals::catch()?;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let books = tokio::select! {
            books = async { every.tick().await; fleet.books().await } => books,
            () = signals.next() => return Ok(()),
        };
        if !out.json {
            out.clear()?;
        }
        match books {
            Ok(books) => show(&books, names, all, out)?,
            // Servers come back.
            Err(error) => Fault::from(error).tell(out.json),
        }
    }
}

/// What programs get.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    books: &'a Books,
    /// The age of the oldest event that waits.
    oldest_age_ms: Option<u64>,
    /// Partitions without a worker that has written lately.
    unowned: Vec<u16>,
}

fn show(books: &Books, names: &Names, all: bool, out: Out) -> Result<(), Fault> {
    let now = SystemClock.wall();
    let age = age(books.oldest_ms, now);
    let shown = Shown {
        books,
        oldest_age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        unowned: books.unowned(now),
    };
    out.show(&shown, || for_people(&shown, names, all, now))
}

/// How long ago that was; a clock that is ahead of this one makes it nothing.
fn age(at_ms: Option<u64>, now: SystemTime) -> Option<Duration> {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at_ms?))?;
    Some(now.duration_since(at).unwrap_or_default())
}

fn for_people(shown: &Shown<'_>, names: &Names, all: bool, now: SystemTime) -> String {
    let books = shown.books;
    let oldest = age(books.oldest_ms, now).map_or_else(String::new, |age| {
        format!(", the oldest from {} ago", duration(age))
    });
    let mut text = format!(
        "stored       {} in {}, {}\ndelivered    {}\npending      {}{oldest}\ndead         {} refused, {} \
         expired; {} there\n",
        count(books.stored, "event"),
        cut(&books.stream, NAME),
        count(u64::from(names.partitions()), "partition"),
        grouped(books.delivered),
        grouped(books.pending),
        grouped(books.dead),
        grouped(books.expired),
        count(books.letters, "letter"),
    );
    if books.lost > 0 {
        let lost = grouped(books.lost);
        text.push_str(&format!(
            "lost         {lost}: removed before they were delivered\n"
        ));
    }
    match books.balanced {
        true => text.push_str("books        balance with what the stream counts\n"),
        false => {
            for fault in &books.faults {
                text.push_str(&format!(
                    "books        do not balance: {}\n",
                    cut(fault, 300)
                ));
            }
        }
    }
    let workers = books.workers(now);
    text.push_str(&format!("workers      {}", count(workers as u64, "worker")));
    text.push_str(&match shown.unowned.len() {
        0 => "\n".to_owned(),
        without => format!("; {} without one\n", count(without as u64, "partition")),
    });
    text.push_str(&table(books, all, now));
    text
}

/// A row for each partition that ever held anything, or for each.
fn table(books: &Books, all: bool, now: SystemTime) -> String {
    let mut text = String::new();
    let rows = books.partitions.iter();
    for one in rows.filter(|one| all || one.stored > 0 || one.fault.is_some()) {
        if text.is_empty() {
            text = format!(
                "\n{:>4}  {:<NAME$}  {:>10}  {:>10}  {:>8}  {:>8}  oldest\n",
                "part", "worker", "stored", "delivered", "dead", "pending"
            );
        }
        let oldest = age(one.oldest_ms, now).map_or_else(|| "-".to_owned(), duration);
        text.push_str(&format!(
            "{:>4}  {:<NAME$}  {:>10}  {:>10}  {:>8}  {:>8}  {oldest}\n",
            one.partition,
            cut(one.worker(now).unwrap_or("-"), NAME),
            grouped(one.stored),
            grouped(one.delivered),
            grouped(one.dead.saturating_add(one.expired)),
            grouped(one.pending),
        ));
        if let Some(fault) = &one.fault {
            text.push_str(&format!("      {}\n", cut(fault, 300)));
        }
    }
    text
}
