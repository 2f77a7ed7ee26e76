//! The books of a fleet, read again and again for those who show them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::books::Books;
use super::connect::{Access, fleet};
use super::fleet::Fleet;
use super::setup;
use super::text::reason;
use crate::clock::{Clock as _, SystemClock};
use crate::error::Error;
use crate::nats::Names;
use crate::observe;

/// How long one look may take; the books of a fleet that is well are read in a fraction of a second.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// How long the servers may take to let us in: two of three may be silent for 5 seconds each.
const PATIENCE: Duration = Duration::from_secs(12);
/// How often the books may be read.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(3600);

/// What is known of the books of a fleet at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownBooks {
    /// The books as they were read last; `None` before the first time.
    pub books: Option<Arc<Books>>,
    /// When that was, by the clock of this machine.
    pub read_at: Option<SystemTime>,
    /// Why they cannot be read at present; the books above are those from before then.
    pub unread: Option<Unread>,
}

/// Why the books of a fleet cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// When they could not be read for the first time since they last could.
    pub since: SystemTime,
    /// What stood in the way last.
    pub reason: String,
}

/// Follows the [`Books`] of a fleet. They are read again and again for as long as this value, or one that it was
/// cloned to, is there.
///
/// Nothing is changed by it, and a fleet that does not answer is no trouble of this process: the books from before
/// stay, with what stands in the way beside them, and the next look makes its connection anew, with the
/// credentials that are in the file then. One look takes 30 seconds at the most.
///
/// ```no_run
/// # async fn follow() -> Result<(), everpost::Error> {
/// use std::time::Duration;
/// use everpost::fleet::{Access, BooksWatch};
///
/// let access = Access::new("nats://a.example,b.example")?;
/// let mut watch = BooksWatch::start(access, "EVENTS", Duration::from_secs(5))?;
/// while watch.changed().await {
///     if let Some(books) = &watch.current().books {
///         println!("{} of {} events are delivered", books.delivered, books.stored);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "the books are read for as long as this is there"]
pub struct BooksWatch {
    servers: Arc<str>,
    stream: Arc<str>,
    every: Duration,
    seen: watch::Receiver<Arc<KnownBooks>>,
}

impl fmt::Debug for BooksWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BooksWatch")
            .field("servers", &self.servers)
            .field("stream", &self.stream)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl BooksWatch {
    /// Begins to read the books of the fleet whose events are in `stream`, now and then each time `every` is over,
    /// from a second to an hour. A look that takes longer than that delays the next.
    ///
    /// # Errors
    /// [`Error::Settings`] if `every` is out of bounds; [`Error::Sink`] if the stream has no such name;
    /// [`Error::Fleet`] if there is no tokio runtime. That no server answers is none: it is
    /// [seen](KnownBooks::unread).
    pub fn start(access: Access, stream: &str, every: Duration) -> Result<Self, Error> {
        if !(EVERY_MIN..=EVERY_MAX).contains(&every) {
            return Err(Error::Settings {
                problems: vec![format!(
                    "the books of a fleet are read every {every:?}, and that must be from {EVERY_MIN:?} to 1h"
                )],
            });
        }
        let names = Names::new(stream, 1)?;
        let runtime = Handle::try_current();
        let runtime = runtime.map_err(|_| fleet("the books are read by a task of tokio"))?;
        let servers = access.to_string().into();
        let (sender, seen) = watch::channel(Arc::default());
        runtime.spawn(keep(
            sender,
            Eyes::new(access.patience(PATIENCE), stream),
            every,
        ));
        Ok(Self {
            servers,
            stream: names.stream().into(),
            every,
            seen,
        })
    }

    /// One that shows what is sent to it.
    #[cfg(test)]
    pub(crate) fn of(seen: watch::Receiver<Arc<KnownBooks>>) -> Self {
        Self {
            servers: "nats://a:4222".into(),
            stream: "EVENTS".into(),
            every: EVERY_MIN,
            seen,
        }
    }

    /// What is known at this moment.
    #[must_use]
    pub fn current(&self) -> Arc<KnownBooks> {
        Arc::clone(&self.seen.borrow())
    }

    /// Waits until the books were looked for again since this value was made or last waited, whether they are others
    /// or not; `false` once they are read no more, since the runtime has ended.
    ///
    /// # Cancel safety
    /// No look is missed if the future is dropped.
    pub async fn changed(&mut self) -> bool {
        self.seen.changed().await.is_ok()
    }

    /// Where they are read, as [`Access::new`] takes it.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The stream of events.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// How often they are read.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }
}

/// Looks until no watch is left.
async fn keep(seen: watch::Sender<Arc<KnownBooks>>, mut eyes: Eyes, every: Duration) {
    let look = async {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let books = eyes.look().await;
            let now = SystemClock.wall();
            let next = after(&seen.borrow(), books, now);
            seen.send_replace(Arc::new(next));
        }
    };
    tokio::select! {
        () = seen.closed() => {}
        () = look => {}
    }
}

/// What is known after a look.
fn after(before: &KnownBooks, books: Result<Books, Error>, now: SystemTime) -> KnownBooks {
    match books {
        Ok(books) => {
            if before.unread.is_some() {
                observe::books_are_read_again();
            }
            KnownBooks {
                books: Some(Arc::new(books)),
                read_at: Some(now),
                unread: None,
            }
        }
        Err(error) => {
            if before.unread.is_none() {
                observe::books_not_read(&error);
            }
            let since = before.unread.as_ref().map_or(now, |unread| unread.since);
            let reason = reason(error);
            KnownBooks {
                unread: Some(Unread { since, reason }),
                ..before.clone()
            }
        }
    }
}

/// Where the books are read.
struct Eyes {
    access: Access,
    stream: String,
    /// As long as it works.
    open: Option<Fleet>,
}

impl Eyes {
    fn new(access: Access, stream: &str) -> Self {
        Self {
            access,
            stream: stream.to_owned(),
            open: None,
        }
    }

    /// The books, in [`LOOK_MAX`]. A connection by which they were not had is dropped: what the servers do not let it
    /// do, it would not say.
    async fn look(&mut self) -> Result<Books, Error> {
        let looked = timeout(LOOK_MAX, async {
            let open = match self.open.take() {
                Some(open) => open,
                None => self.connect().await?,
            };
            let books = open.books().await?;
            self.open = Some(open);
            Ok(books)
        });
        let late = |_| Err(fleet(format!("the books were not read in {LOOK_MAX:?}")));
        looked.await.unwrap_or_else(late)
    }

    async fn connect(&self) -> Result<Fleet, Error> {
        let client = self.access.connect().await?;
        let names = setup::discover(&client, &self.stream).await?;
        let names = names.ok_or_else(|| {
            fleet(format!(
                "there is no stream `{}` on these servers; `everpost fleet setup` makes it",
                self.stream
            ))
        })?;
        Ok(Fleet::of(client, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_from_before_stay_while_they_cannot_be_read_and_the_trouble_keeps_its_beginning() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let refused = |reason: &str| Err(fleet(reason));
        let never = after(&KnownBooks::default(), refused("one"), at(1));
        let still = after(&never, refused("two"), at(2));
        let trouble = still.unread.clone().unwrap();
        assert_eq!((trouble.since, trouble.reason.as_str()), (at(1), "two"));
        assert_eq!((&still.books, still.read_at), (&None, None));
        let read = after(&still, Ok(Books::default()), at(3));
        assert_eq!((read.read_at, &read.unread), (Some(at(3)), &None));
        let gone = after(&read, refused("three"), at(4));
        assert_eq!((&gone.books, gone.read_at), (&read.books, Some(at(3))));
        assert_eq!(gone.unread.unwrap().since, at(4));
    }

    #[tokio::test]
    async fn what_cannot_be_looked_for_is_refused_and_the_rest_is_waited_for() {
        let start = |stream: &str, every| {
            BooksWatch::start(Access::new("127.0.0.1:1").unwrap(), stream, every)
        };
        let second = Duration::from_secs(1);
        for every in [Duration::ZERO, second / 2, second * 3601] {
            assert!(matches!(start("E", every), Err(Error::Settings { .. })));
        }
        assert!(start("a.b", second).is_err());
        let mut watch = start("E", second).unwrap();
        assert_eq!(*watch.current(), KnownBooks::default());
        assert!(watch.changed().await);
        let trouble = watch.current().unread.clone().unwrap();
        assert!(trouble.reason.contains("no server can be reached"));
    }
}
