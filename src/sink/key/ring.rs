//! The secrets of a running sink: where each comes from, and how it is replaced.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::sync::{Mutex as TaskMutex, watch};
use tokio::task::JoinHandle;

use super::file::FileMark;
use super::{Key, KeyError, SecretSource};
use crate::clock::Clock;
use crate::error::SecretError;

/// How often a file is looked at while delivery waits for another key.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a ring holds: a kind of secret, made from its text.
pub(crate) trait Content: Clone + Send + Sync + 'static {
    /// What it is to be made for.
    type Purpose: fmt::Debug + Send + Sync + 'static;
    /// Why it cannot be used.
    type Error: From<SecretError> + Send + 'static;

    /// Makes it from its text, which may have white space around it.
    fn read(text: SecretString) -> Result<Self, Self::Error>;

    /// Whether it is made for this purpose.
    fn suits(&self, purpose: &Self::Purpose) -> Result<(), Self::Error>;

    /// Whether it is made for this purpose and valid now.
    fn check(&self, purpose: &Self::Purpose, now: SystemTime) -> Result<(), Self::Error>;
}

impl Content for Key {
    /// The channel, if it matters.
    type Purpose = Option<String>;
    type Error = KeyError;

    fn read(text: SecretString) -> Result<Self, KeyError> {
        Self::parse(text)
    }

    fn suits(&self, channel: &Option<String>) -> Result<(), KeyError> {
        self.check_channel(channel.as_deref())
    }

    fn check(&self, channel: &Option<String>, now: SystemTime) -> Result<(), KeyError> {
        Self::check(self, channel.as_deref(), now)
    }
}

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
        self.ring.replace(key.into())
    }
}

/// The key of a channel.
pub(crate) type KeyRing = Ring<Key>;

/// The present secret of a sink, its source, and the word that it changed.
pub(crate) struct Ring<C: Content> {
    source: SecretSource,
    purpose: C::Purpose,
    clock: Arc<dyn Clock>,
    slot: watch::Sender<Slot<C>>,
    /// The file as it was when the secret was last read from it; none before that.
    read: Mutex<Option<Option<FileMark>>>,
    /// What the source was asked and has not answered. It is asked one thing at a time, so that
    /// one which never answers costs one thread.
    asked: TaskMutex<Option<JoinHandle<Answered>>>,
    /// The newest version that a delivery used or `changed` reported.
    seen: AtomicU64,
}

/// What a source answers, on a thread where it may block.
struct Answered {
    /// The file, if it is one, before the secret was read.
    mark: Option<FileMark>,
    /// None if only the file was to be looked at.
    text: Option<Result<SecretString, SecretError>>,
}

struct Slot<C> {
    /// None while a live source is to be asked each time.
    held: Option<C>,
    version: u64,
}

impl<C: Content> Ring<C> {
    /// Reads the secret for the first time, on this thread.
    ///
    /// An `exp` in the past is no error here: the clock of a device that has just started may be
    /// wrong, and its events must be taken all the same. Delivery waits instead.
    pub(crate) fn open(
        source: impl Into<SecretSource>,
        purpose: C::Purpose,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, C::Error> {
        let source = source.into();
        let held = C::read(source.read()?)?;
        held.suits(&purpose)?;
        let held = if source.is_live() { None } else { Some(held) };
        Ok(Self::new(source, purpose, clock, held))
    }

    /// A ring that may begin without a secret that can be used; why it cannot is found when one is
    /// needed. Nothing that may block is asked here.
    pub(crate) fn waiting(
        source: impl Into<SecretSource>,
        purpose: C::Purpose,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let source = source.into();
        let held = if source.is_live() {
            None
        } else {
            source.read().ok().and_then(|text| C::read(text).ok())
        };
        Self::new(source, purpose, clock, held)
    }

    fn new(
        source: SecretSource,
        purpose: C::Purpose,
        clock: Arc<dyn Clock>,
        held: Option<C>,
    ) -> Self {
        Self {
            source,
            purpose,
            clock,
            slot: watch::Sender::new(Slot { held, version: 0 }),
            read: Mutex::new(None),
            asked: TaskMutex::new(None),
            seen: AtomicU64::new(0),
        }
    }

    /// Puts a secret in place of whatever the source says, if it can be used.
    pub(crate) fn replace(&self, text: SecretString) -> Result<(), C::Error> {
        let held = C::read(text)?;
        held.check(&self.purpose, self.clock.wall())?;
        self.slot.send_modify(|slot| {
            slot.held = Some(held);
            slot.version += 1;
        });
        Ok(())
    }

    /// The secret for the next request, checked against the present time.
    pub(crate) async fn present(&self, patience: Duration) -> Result<C, C::Error> {
        let held = {
            let slot = self.slot.borrow();
            self.seen.fetch_max(slot.version, Ordering::SeqCst);
            slot.held.clone()
        };
        let held = match held {
            Some(held) => held,
            None => C::read(self.ask(patience).await?)?,
        };
        held.check(&self.purpose, self.clock.wall())?;
        Ok(held)
    }

    /// Asks the source for the secret.
    async fn ask(&self, patience: Duration) -> Result<SecretString, SecretError> {
        let source = self.source.clone();
        let answered = self.ask_source(patience, move || Answered {
            mark: source.path().and_then(FileMark::of),
            text: Some(source.read()),
        });
        let answered = answered.await?;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered.mark);
        let nothing = SecretError::NoSupply { what: "failed" };
        answered.text.unwrap_or(Err(nothing))
    }

    /// Does this on a thread where it may block, once what was asked before has ended.
    async fn ask_source(
        &self,
        patience: Duration,
        work: impl FnOnce() -> Answered + Send + 'static,
    ) -> Result<Answered, SecretError> {
        let answer = async {
            let mut asked = self.asked.lock().await;
            if let Some(older) = asked.as_mut() {
                // It was about an older question.
                let _ = older.await;
            }
            let answer = asked.insert(tokio::task::spawn_blocking(work)).await;
            *asked = None;
            answer.map_err(|_| SecretError::NoSupply { what: "panicked" })
        };
        let late = SecretError::NoSupply {
            what: "did not answer in time",
        };
        tokio::time::timeout(patience, answer)
            .await
            .unwrap_or(Err(late))
    }

    /// Resolves once for each replacement that no request has used yet, and while the file with
    /// the secret is another one than it was when the secret was last read. That is noticed within
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
            if self.slot.borrow().held.is_some() {
                // A secret that was put in place outranks the file.
                continue;
            }
            let path = path.to_owned();
            let look = self.ask_source(patience, move || Answered {
                mark: FileMark::of(&path),
                text: None,
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

impl<C: Content> fmt::Debug for Ring<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("source", &self.source)
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}
