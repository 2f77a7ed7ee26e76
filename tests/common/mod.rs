//! What the tests of the whole queue have in common: a spool, a sandbox, and a queue between them.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use everpost::botanalytics::{Botanalytics, Builder, KeySource};
use everpost::sandbox::Sandbox;
use everpost::{Event, EventId, Queue, Settings, Status};
use tempfile::TempDir;

/// Long enough for a busy machine, short enough that a hang fails the test.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);
/// A wait that no test lives to see the end of.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A spool directory and the API beside it.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) sandbox: Sandbox,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Sandbox::builder()).await
    }

    pub(crate) async fn with(sandbox: everpost::sandbox::Builder) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            sandbox: sandbox.start().await.unwrap(),
        }
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// A sink with the sandbox's first key.
    pub(crate) fn sink(&self) -> Botanalytics {
        self.sink_builder().build().unwrap()
    }

    pub(crate) fn sink_builder(&self) -> Builder {
        Botanalytics::builder(KeySource::value(self.sandbox.key()))
            .base_url(self.sandbox.base_url())
            .request_timeout(PATIENT)
    }

    pub(crate) async fn open(&self, settings: Settings) -> Queue {
        self.open_to(self.sink(), settings).await
    }

    pub(crate) async fn open_to(&self, sink: Botanalytics, settings: Settings) -> Queue {
        let builder = Queue::builder(self.spool()).settings(settings).sink(sink);
        builder.open().await.unwrap()
    }
}

/// Small files, and waits of a millisecond; a pause ends only by a word, since its probes are an
/// hour away.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 512 << 10;
    settings.max_event_bytes = 128 << 10;
    settings.tail_bytes = 256 << 10;
    settings.chunk_bytes = 64 << 10;
    settings.segment_bytes = 512 << 10;
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(5);
    settings.delivery.backoff_jitter = 0.0;
    settings.delivery.probe_min = HOUR;
    settings.delivery.probe_max = HOUR;
    settings
}

/// As [`settings`], but nothing is tried again without a word.
pub(crate) fn settings_that_wait() -> Settings {
    let mut settings = settings();
    settings.delivery.backoff_min = HOUR;
    settings.delivery.backoff_max = HOUR;
    settings
}

/// The id of event `n`, in the event and in its JSON.
pub(crate) fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n) | 7 << 76 | 2 << 62))
}

pub(crate) fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|n| id(n).to_string()).collect()
}

/// A good message of the Universal channel.
pub(crate) fn event(n: u64) -> Event {
    event_with(n, &format!("message {n}"))
}

pub(crate) fn event_with(n: u64, text: &str) -> Event {
    let json = format!(
        r#"{{"id":"{}","message":{{"timestamp":1764000000000,"content":{{"texts":[{{"text":"{text}"}}]}}}}}}"#,
        id(n)
    );
    Event::json(json).unwrap().with_id(id(n))
}

/// The events of these numbers, each a day after 1970 so that equal numbers are equal events.
pub(crate) fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<Event> {
    let day = UNIX_EPOCH + Duration::from_secs(24 * 3600);
    let made = numbers.into_iter().map(|n| event(n).with_time(day));
    made.collect()
}

/// A future that must not take long.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENT, future).await;
    ended.unwrap_or_else(|_| panic!("this took longer than {PATIENT:?}"))
}

/// Waits until the queue is as wanted, and checks its books there.
pub(crate) async fn until(queue: &Queue, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut watch = queue.watch();
    match tokio::time::timeout(PATIENT, watch.wait_for(wanted)).await {
        Ok(Some(status)) => {
            assert_books(&status);
            status
        }
        Ok(None) => panic!("the queue ended before: {:?}", queue.status()),
        Err(_) => panic!("not within {PATIENT:?}: {:?}", queue.status()),
    }
}

/// Waits until nothing is pending.
pub(crate) async fn drained(queue: &Queue) -> Status {
    until(queue, |status| status.pending == 0).await
}

/// Invariant I7, as it can be seen from outside.
pub(crate) fn assert_books(status: &Status) {
    let books = status.ledger;
    let settled = books.delivered + books.dead + books.expired + books.evicted + books.lost;
    assert_eq!(books.appended, settled + status.pending, "{status:?}");
    assert_eq!(status.cursor, settled, "{status:?}");
    assert_eq!(status.last_seq, books.appended, "{status:?}");
}
