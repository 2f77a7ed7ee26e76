//! What became of an event: told through restarts, waited for, and followed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::path::Path;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everpost::{
    Answer, Error, Event, EventId, Fate, OnFull, Outcome, Queue, Request, Settings, Settlement,
    Sink, blocking, inspect,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// Longer than anything here takes, unless it never ends.
const LONG: Duration = Duration::from_secs(60);

/// Answers as it is told, one request for each permit, and then for ever delivers.
struct Script {
    turns: Semaphore,
    outcomes: Mutex<VecDeque<Outcome>>,
}

impl Script {
    fn new(turns: usize, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        let outcomes = Mutex::new(outcomes.into_iter().collect());
        let turns = Semaphore::new(turns);
        Self { turns, outcomes }
    }
}

impl Sink for Script {
    /// # Cancel safety
    /// Nothing is delivered.
    async fn deliver(&self, _: Request) -> Outcome {
        self.turns.acquire().await.unwrap().forget();
        let next = self.outcomes.lock().unwrap().pop_front();
        next.unwrap_or_else(Outcome::delivered)
    }
}

fn named(name: &str) -> Outcome {
    let mut answer = Answer::from_status(200);
    answer.request_id = Some(name.to_owned());
    Outcome::delivered().with_answer(answer)
}

fn delivered(name: &str) -> Fate {
    let request_id = Some(name.to_owned());
    Fate::Delivered { request_id }
}

const UNNAMED: Fate = Fate::Delivered { request_id: None };

fn event(n: u64) -> Event {
    let id = EventId::from_uuid(uuid::Uuid::from_u128(n.into()));
    Event::json(n.to_string()).unwrap().with_id(id)
}

fn id(n: u64) -> EventId {
    event(n).id()
}

/// One event in each request.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.delivery.batch_events = 1;
    settings.delivery.breaker_refusals = 1000;
    settings
}

async fn open(dir: &Path, sink: Script) -> Queue {
    let builder = Queue::builder(dir.join("spool")).settings(settings());
    builder.sink(sink).open().await.unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap()
}

#[tokio::test]
async fn it_is_told_of_each_event_and_after_a_restart_too() {
    let dir = TempDir::new().unwrap();
    let refused = Answer::from_status(400);
    let outcomes = [
        named("r1"),
        Outcome::poison(refused.clone()),
        named("r3"),
        Outcome::poison(refused.clone()),
    ];
    let queue = open(dir.path(), Script::new(4, outcomes)).await;
    queue.append_all((1..=5).map(event)).await.unwrap();
    let dead = Fate::Dead {
        answer: Some(refused),
    };
    assert_eq!(within(queue.settled(4)).await.unwrap(), dead);
    let expected = [
        Fate::Unknown,
        delivered("r1"),
        dead.clone(),
        delivered("r3"),
        dead.clone(),
        Fate::Pending,
        Fate::Unknown,
    ];
    for (seq, fate) in (0..).zip(&expected) {
        assert_eq!(queue.fate(seq).await.unwrap(), *fate, "{seq}");
        assert_eq!(
            within(queue.settled(seq.min(4))).await.unwrap(),
            expected[seq.min(4) as usize]
        );
    }
    // By id, of what waits and of letters.
    let found = |n| queue.fate_of_id(id(n));
    assert_eq!(found(5).await.unwrap(), Some((5, Fate::Pending)));
    assert_eq!(found(2).await.unwrap(), Some((2, dead.clone())));
    assert_eq!(found(1).await.unwrap(), None);
    // A letter that left says no more; that the event was one is still known. Sent again, the event
    // waits under another number.
    queue.dead_letters().discard(2).await.unwrap();
    queue.dead_letters().retry(4).await.unwrap();
    let gone = Fate::Dead { answer: None };
    assert_eq!(queue.fate(2).await.unwrap(), gone);
    assert_eq!(queue.fate(4).await.unwrap(), gone);
    assert_eq!(found(4).await.unwrap(), Some((6, Fate::Pending)));
    queue.close(Duration::ZERO).await.unwrap();
    // Closed, it says what it knows.
    assert_eq!(queue.fate(3).await.unwrap(), delivered("r3"));
    assert_eq!(queue.fate(4).await.unwrap(), gone);

    let expected = [
        UNNAMED,
        gone.clone(),
        UNNAMED,
        gone,
        Fate::Pending,
        Fate::Pending,
    ];
    let mut look = inspect::look(&dir.path().join("spool")).unwrap();
    for (seq, fate) in (1..).zip(&expected) {
        assert_eq!(look.fate(seq).unwrap(), *fate, "{seq}");
    }
    assert_eq!(look.fate(7).unwrap(), Fate::Unknown);
    assert_eq!(look.fate_of_id(id(4)).unwrap(), Some((6, Fate::Pending)));
    let queue = open(dir.path(), Script::new(0, [])).await;
    for (seq, fate) in (1..).zip(&expected) {
        assert_eq!(queue.fate(seq).await.unwrap(), *fate, "{seq}");
    }
}

#[tokio::test]
async fn what_expired_or_made_room_is_told_apart() {
    let dir = TempDir::new().unwrap();
    let mut settings = settings();
    settings.max_age = Some(Duration::from_secs(60));
    let builder = Queue::builder(dir.path().join("old")).settings(settings);
    let queue = builder.sink(Script::new(0, [])).open().await.unwrap();
    let long_ago = event(1).time() - Duration::from_secs(3600);
    let receipt = queue.append(event(1).with_time(long_ago)).await.unwrap();
    assert_eq!(
        within(queue.settled(receipt.seq)).await.unwrap(),
        Fate::Expired
    );

    let settings = Settings {
        max_bytes: 1 << 20,
        on_full: OnFull::DropOldest,
        ..Settings::default()
    };
    let full = Queue::builder(dir.path().join("full")).settings(settings);
    let full = full.open().await.unwrap();
    let first = full.append(event(1)).await.unwrap();
    let mut noise = 1_u64;
    while full.status().ledger.evicted == 0 {
        let text: String = (0..8000)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                char::from(b'a' + (noise % 26) as u8)
            })
            .collect();
        full.append(Event::json(format!("\"{text}\"")).unwrap())
            .await
            .unwrap();
    }
    assert_eq!(full.settled(first.seq).await.unwrap(), Fate::Evicted);
    let last = full.status().last_seq;
    assert_eq!(full.fate(last).await.unwrap(), Fate::Pending);
}

/// A caller waits while delivery is down, through the end of the queue, and asks its next owner.
#[tokio::test]
async fn waiting_goes_on_with_the_next_owner() {
    let dir = TempDir::new().unwrap();
    let queue = open(dir.path(), Script::new(0, [])).await;
    let receipt = queue.append(event(1)).await.unwrap();
    {
        let mut waits = pin!(queue.settled(receipt.seq));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        queue.close(Duration::ZERO).await.unwrap();
        assert!(matches!(within(waits).await, Err(Error::Closed)));
    }
    let queue = open(dir.path(), Script::new(1, [named("r")])).await;
    assert_eq!(
        within(queue.settled(receipt.seq)).await.unwrap(),
        delivered("r")
    );
    let queue = queue.blocking();
    let pending = queue.append(event(2)).unwrap().seq;
    let short = Duration::from_millis(1);
    assert_eq!(queue.settled(pending, short).unwrap(), Fate::Pending);
    assert_eq!(
        queue.settled(receipt.seq, Duration::MAX).unwrap(),
        delivered("r")
    );
    assert_eq!(queue.fate_of_id(id(2)).unwrap(), Some((2, Fate::Pending)));
}

/// The last event is delivered by a close, after which the log's thread answers nothing more: a
/// caller that waited for it is told of it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_at_the_close_is_told_as_delivered() {
    for _ in 0..20 {
        let dir = TempDir::new().unwrap();
        let queue = open(dir.path(), Script::new(3, [])).await;
        queue.append_all((1..=3).map(event)).await.unwrap();
        let waiting: Vec<_> = (1..=3)
            .map(|seq| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.settled(seq).await })
            })
            .collect();
        queue.close(LONG).await.unwrap();
        for wait in waiting {
            assert_eq!(within(wait).await.unwrap().unwrap(), UNNAMED);
        }
    }
}

fn range(settlement: &Settlement) -> (u64, u64) {
    (settlement.range.first, settlement.range.last)
}

#[tokio::test]
async fn what_leaves_is_followed_in_order_and_to_the_end() {
    let dir = TempDir::new().unwrap();
    let outcomes = [named("a"), Outcome::poison("no"), named("b")];
    let queue = open(dir.path(), Script::new(5, outcomes)).await;
    let mut settlements = queue.settlements(0);
    {
        let mut next = pin!(settlements.next());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(next.as_mut().poll(&mut context), Poll::Pending);
    }
    queue.append_all((1..=6).map(event)).await.unwrap();
    within(queue.settled(5)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let next = within(settlements.next()).await.unwrap();
        seen.push((range(&next), next.fate));
    }
    let dead = Fate::Dead { answer: None };
    let expected = [
        ((1, 1), delivered("a")),
        ((2, 2), dead.clone()),
        ((3, 3), delivered("b")),
        ((4, 5), UNNAMED),
    ];
    assert_eq!(seen, expected);
    queue.close(Duration::ZERO).await.unwrap();
    assert_eq!(within(settlements.next()).await, None);

    // From where an earlier process had come to, and from a number that is still to come.
    let queue = open(dir.path(), Script::new(0, [])).await;
    let mut settlements = queue.settlements(1);
    let next = within(settlements.next()).await.unwrap();
    assert_eq!((range(&next), next.fate), ((2, 2), dead));
    let next = within(settlements.next()).await.unwrap();
    assert_eq!((range(&next), next.fate), ((3, 5), UNNAMED));
    drop(queue);
    assert_eq!(within(settlements.next()).await, None);
}

/// More requests than names are remembered: what was missed is one range without a name, and
/// nothing waited for the reader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_lags_sees_longer_ranges_and_no_gap() {
    let dir = TempDir::new().unwrap();
    let count = 300;
    let outcomes = (1..=count).map(|n| named(&format!("r{n}")));
    let script = Script::new(count as usize, outcomes);
    let settings = Settings {
        durability: everpost::Durability::Written {
            sync_every: Duration::from_secs(1),
        },
        ..settings()
    };
    let builder = Queue::builder(dir.path().join("spool")).settings(settings);
    let queue = builder.sink(script).open().await.unwrap();
    queue.append_all((1..=count).map(event)).await.unwrap();
    within(queue.settled(count)).await.unwrap();
    let queue = queue.blocking();
    let mut settlements = queue.settlements(0);
    let missed: Settlement = settlements.next().unwrap();
    assert_eq!((range(&missed), missed.fate), ((1, 44), UNNAMED));
    for n in 45..=count {
        let next = settlements.next().unwrap();
        assert_eq!(
            (range(&next), next.fate),
            ((n, n), delivered(&format!("r{n}")))
        );
    }
    let _: &blocking::Queue = &queue;
    queue.close(Duration::ZERO).unwrap();
    assert_eq!(settlements.next(), None);
}
