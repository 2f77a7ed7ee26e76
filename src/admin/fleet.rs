//! A fleet as the page shows it, beside the channels: nothing in it is of an event.

use std::sync::Weak;

use serde::Serialize;

use super::desk::Desk;
use super::words::{Sentence, Tone, cut};
use crate::clock::{Clock as _, SystemClock};
use crate::fleet::{Books, BooksWatch, KnownBooks};
use crate::millis::unix_ms;

/// Faults that are sentences of their own; all of them stand in the books.
const FAULTS_MAX: usize = 5;

/// A fleet.
#[derive(Debug, Serialize)]
struct View<'a> {
    servers: &'a str,
    stream: &'a str,
    /// How often its books are read.
    every_ms: u64,
    /// At least one, what matters most first.
    sentences: Vec<Sentence>,
    /// When the books were read last; they are those from before while they cannot be read.
    read_ms: Option<u64>,
    /// Since when they cannot be read.
    unread_since_ms: Option<u64>,
    /// As in `everpost fleet status --json`.
    books: Option<&'a Books>,
    workers: usize,
    /// Partitions without a worker that has written of late.
    unowned: Vec<u16>,
}

/// The fleet as it is known now, as JSON.
pub(super) fn json(fleet: &BooksWatch) -> String {
    let (seen, now) = (fleet.current(), SystemClock.wall());
    // By the books' own time: while they cannot be read, no worker falls silent for that.
    let then = seen.read_at.unwrap_or(now);
    let books = seen.books.as_deref();
    let unowned = books.map(|books| books.unowned(then)).unwrap_or_default();
    let view = View {
        servers: fleet.servers(),
        stream: fleet.stream(),
        every_ms: u64::try_from(fleet.every().as_millis()).unwrap_or(u64::MAX),
        sentences: sentences(&seen, &unowned),
        read_ms: seen.read_at.map(unix_ms),
        unread_since_ms: seen.unread.as_ref().map(|unread| unix_ms(unread.since)),
        books,
        workers: books.map_or(0, |books| books.workers(then)),
        unowned,
    };
    // Texts and numbers always serialise.
    serde_json::to_string(&view).unwrap_or_default()
}

/// All there is to say, what matters most first.
fn sentences(seen: &KnownBooks, unowned: &[u16]) -> Vec<Sentence> {
    if let Some(unread) = &seen.unread {
        let reason = cut(&unread.reason);
        let text = format!("The books of the fleet cannot be read: {reason}.");
        let todo = "It is tried again by itself. The channels need none of it, and a fleet keeps what it has; see that \
                    its servers run and let this process read.";
        return vec![
            Sentence::new("unread", Tone::Act, text)
                .todo(todo)
                .since(unread.since),
        ];
    }
    let Some(books) = &seen.books else {
        let text = "The books of the fleet are being read.";
        return vec![Sentence::new("reading", Tone::Off, text)];
    };
    let mut all = unbalanced(books);
    let waiting = books.partitions.iter().filter(|one| one.pending > 0);
    let waiting = waiting.filter(|one| unowned.contains(&one.partition));
    match waiting.count() {
        0 => {}
        count => {
            let what = match count {
                1 => "1 partition has".to_owned(),
                n => format!("{n} partitions have"),
            };
            let text = format!("{what} events that wait, and no worker.");
            let todo = "Start a worker: everpost fleet run.";
            all.push(Sentence::new("no_worker", Tone::Act, text).todo(todo));
        }
    }
    if all.is_empty() {
        let text = match books.pending {
            0 => "The books balance, and nothing waits.",
            _ => "The books balance, and workers deliver what waits.",
        };
        all.push(Sentence::new("well", Tone::Well, text));
    }
    all
}

fn unbalanced(books: &Books) -> Vec<Sentence> {
    let said = |fault: &String| {
        let text = format!("The books do not balance: {}.", cut(fault));
        let todo = "The page fleet.md of the documentation says what makes them differ.";
        Sentence::new("unbalanced", Tone::Act, text).todo(todo)
    };
    let mut all: Vec<Sentence> = books.faults.iter().take(FAULTS_MAX).map(said).collect();
    let more = books.faults.len().saturating_sub(FAULTS_MAX);
    if more > 0 {
        let text = format!("The books do not balance in {more} more places.");
        let todo = "See everpost fleet status --all.";
        all.push(Sentence::new("unbalanced", Tone::Act, text).todo(todo));
    }
    all
}

/// Tells the page of each look, until there is no page or no look any more.
pub(super) async fn keep(desk: Weak<Desk>, mut fleet: BooksWatch) {
    while fleet.changed().await {
        let Some(desk) = desk.upgrade() else {
            return;
        };
        let json = json(&fleet);
        desk.fleet.send_if_modified(|told| {
            let is_news = told.as_deref() != Some(&*json);
            *told = Some(json.into());
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use serde_json::{Value, json};
    use tokio::sync::watch;

    use super::*;
    use crate::fleet::{PartitionBooks, Unread};

    /// Partition 1 has a worker, and 0 has none.
    fn books() -> Books {
        let mut owned = PartitionBooks::default();
        (owned.partition, owned.owner) = (1, Some("w".to_owned()));
        owned.written_ms = Some(1_000_000);
        let mut books = Books::default();
        books.balanced = true;
        books.partitions = vec![PartitionBooks::default(), owned];
        books
    }

    fn shown(seen: KnownBooks) -> Value {
        let (_sender, seen) = watch::channel(Arc::new(seen));
        serde_json::from_str(&super::json(&BooksWatch::of(seen))).unwrap()
    }

    fn known(books: Books) -> KnownBooks {
        let mut seen = KnownBooks::default();
        seen.books = Some(Arc::new(books));
        seen.read_at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        seen
    }

    fn kinds(view: &Value) -> Vec<&str> {
        let sentences = view["sentences"].as_array().unwrap();
        let kinds = sentences.iter().map(|said| said["kind"].as_str().unwrap());
        kinds.collect()
    }

    #[test]
    fn what_matters_most_is_said_and_books_that_were_known_stay() {
        assert_eq!(kinds(&shown(KnownBooks::default())), ["reading"]);
        let view = shown(known(books()));
        assert_eq!(kinds(&view), ["well"]);
        assert_eq!(
            (&view["workers"], &view["unowned"]),
            (&json!(1), &json!([0]))
        );

        let mut busy = books();
        busy.pending = 3;
        busy.partitions[1].pending = 3;
        assert_eq!(kinds(&shown(known(busy.clone()))), ["well"]);
        busy.partitions[0].pending = 1;
        busy.balanced = false;
        busy.faults = (0..7).map(|n| format!("fault {n}")).collect();
        let view = shown(known(busy.clone()));
        let kinds_now = kinds(&view);
        assert_eq!(kinds_now[..6], ["unbalanced"; 6]);
        assert_eq!(kinds_now[6..], ["no_worker"]);
        assert!(
            view["sentences"][5]["text"]
                .as_str()
                .unwrap()
                .contains("2 more")
        );

        // An hour later: what was known then is shown as it was then.
        let mut gone = known(busy);
        gone.unread = Some(Unread {
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(4600),
            reason: "no server can be reached.".to_owned(),
        });
        let view = shown(gone);
        assert_eq!(kinds(&view), ["unread"]);
        assert_eq!(view["sentences"][0]["since_ms"], 4_600_000);
        assert_eq!(
            (&view["workers"], &view["books"]["pending"]),
            (&json!(1), &json!(3))
        );
        assert_eq!(
            (&view["read_ms"], &view["unread_since_ms"]),
            (&json!(1_000_000), &json!(4_600_000))
        );
    }
}
