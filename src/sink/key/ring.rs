//! The key of a running sink: where it comes from, and how it is replaced.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Mutex as TaskMutex, watch};
use tokio::task::JoinHandle;

use super::file::Mark;
use super::{Key, KeyError, KeySource};
use crate::clock::Clock;

/// How often a file is looked at while delivery waits for another key.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Replaces the key of a running sink. Cloning is cheap; all clones reach the same sink.
#[derive(Clone, Debug)]
pub struct KeyHandle {
    ring: Arc<KeyRing>,
}

impl KeyHandle {
    pub(crate) fn new(ring: Arc<KeyRing>) -> Self {
        Self { ring }
    }

    /// Uses this key from the next request on, in place of whatever the source says, and wakes a
    /// delivery that is paused. A request under way keeps the key it was sent with.
    ///
    /// # Errors
    /// A [`KeyError`] if the key is malformed, expired or made for another channel than the sink
    /// was built for. The old key then stays.
    pub fn replace(&self, key: impl Into<SecretString>) -> Result<(), KeyError> {
        let key = Key::parse(key)?;
        key.check(self.ring.channel.as_deref(), self.ring.clock.wall())?;
        self.ring.slot.send_modify(|slot| {
            slot.key = Some(key);
            slot.version += 1;
        });
        Ok(())
    }
}

/// The present key of a sink, its source, and the word that it changed.
pub(crate) struct KeyRing {
    source: KeySource,
    channel: Option<String>,
    clock: Arc<dyn Clock>,
    slot: watch::Sender<Slot>,
    /// The file as it was when the key was last read from it; none before that.
    read: Mutex<Option<Option<Mark>>>,
    /// What the source was asked and has not answered. It is asked one thing at a time, so that
    /// one which never answers costs one thread.
    asked: TaskMutex<Option<JoinHandle<Answered>>>,
    /// The newest version that a delivery used or `changed` reported.
    seen: AtomicU64,
}

/// What a source answers, on a thread where it may block.
struct Answered {
    /// The file, if it is one, before the key was read.
    mark: Option<Mark>,
    /// None if only the file was to be looked at.
    key: Option<Result<Key, KeyError>>,
}

struct Slot {
    /// None while a live source is to be asked each time.
    key: Option<Key>,
    version: u64,
}

impl KeyRing {
    /// Reads the key for the first time, on this thread.
    ///
    /// An `exp` in the past is no error here: the clock of a device that has just started may be
    /// wrong, and its events must be taken all the same. Delivery waits instead.
    pub(crate) fn open(
        source: KeySource,
        channel: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyError> {
        let key = source.read()?;
        key.check_channel(channel.as_deref())?;
        let key = if source.is_live() { None } else { Some(key) };
        Ok(Self::new(source, channel, clock, key))
    }

    /// A ring that may begin without a key that can be used; why it cannot is found when one is
    /// needed. Nothing that may block is asked here.
    pub(crate) fn waiting(
        source: KeySource,
        channel: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let key = if source.is_live() {
            None
        } else {
            source.read().ok()
        };
        Self::new(source, channel, clock, key)
    }

    fn new(
        source: KeySource,
        channel: Option<String>,
        clock: Arc<dyn Clock>,
        key: Option<Key>,
    ) -> Self {
        Self {
            source,
            channel,
            clock,
            slot: watch::Sender::new(Slot { key, version: 0 }),
            read: Mutex::new(None),
            asked: TaskMutex::new(None),
            seen: AtomicU64::new(0),
        }
    }

    /// The key for the next request, checked against the present time.
    pub(crate) async fn present(&self, patience: Duration) -> Result<Key, KeyError> {
        let held = {
            let slot = self.slot.borrow();
            self.seen.fetch_max(slot.version, Ordering::SeqCst);
            slot.key.clone()
        };
        let key = match held {
            Some(key) => key,
            None => self.ask(patience).await?,
        };
        key.check(self.channel.as_deref(), self.clock.wall())?;
        Ok(key)
    }

    /// Asks the source for the key.
    async fn ask(&self, patience: Duration) -> Result<Key, KeyError> {
        let source = self.source.clone();
        let answered = self.ask_source(patience, move || Answered {
            mark: source.path().and_then(Mark::of),
            key: Some(source.read()),
        });
        let answered = answered.await?;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered.mark);
        let nothing = KeyError::NoSupply { what: "failed" };
        answered.key.unwrap_or(Err(nothing))
    }

    /// Does this on a thread where it may block, once what was asked before has ended.
    async fn ask_source(
        &self,
        patience: Duration,
        work: impl FnOnce() -> Answered + Send + 'static,
    ) -> Result<Answered, KeyError> {
        let answer = async {
            let mut asked = self.asked.lock().await;
            if let Some(older) = asked.as_mut() {
                // It was about an older question.
                let _ = older.await;
            }
            let answer = asked.insert(tokio::task::spawn_blocking(work)).await;
            *asked = None;
            answer.map_err(|_| KeyError::NoSupply { what: "panicked" })
        };
        let late = KeyError::NoSupply {
            what: "did not answer in time",
        };
        tokio::time::timeout(patience, answer)
            .await
            .unwrap_or(Err(late))
    }

    /// Resolves once for each replacement that no request has used yet, and while the file with
    /// the key is another one than it was when the key was last read. That is noticed within
    /// seconds.
    ///
    /// # Cancel safety
    /// A replacement counts as seen in the same poll that reports it, so dropping the future
    /// never loses one.
    pub(crate) async fn changed(&self, patience: Duration) {
        tokio::select! {
            () = self.replaced() => {}
            () = self.file_changed(patience) => {}
        }
    }

    async fn file_changed(&self, patience: Duration) {
        let Some(path) = self.source.path() else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.slot.borrow().key.is_some() {
                // A key that was put in place outranks the file.
                continue;
            }
            let path = path.to_owned();
            let look = self.ask_source(patience, move || Answered {
                mark: Mark::of(&path),
                key: None,
            });
            let Ok(Answered { mark, .. }) = look.await else {
                continue;
            };
            let read = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.is_some_and(|read| read != mark) {
                return;
            }
        }
    }

    async fn replaced(&self) {
        let mut slots = self.slot.subscribe();
        let newer = slots
            .wait_for(|slot| slot.version > self.seen.load(Ordering::SeqCst))
            .await
            .map(|slot| slot.version);
        match newer {
            Ok(version) => {
                self.seen.fetch_max(version, Ordering::SeqCst);
            }
            // The sender lives as long as `self`, so this does not come; if it did, nothing
            // could change any more.
            Err(_) => std::future::pending().await,
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("source", &self.source)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
