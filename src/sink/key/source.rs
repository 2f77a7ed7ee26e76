//! Where the key comes from, and how it is replaced while running.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use tokio::sync::watch;

use super::{Key, KeyError};
use crate::clock::Clock;

/// A key is a few hundred bytes; whatever is longer than this is some other file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

type Supply = dyn Fn() -> Result<SecretString, KeyError> + Send + Sync;

/// Where the key comes from.
///
/// A value and an environment variable are read once, when the sink is built. A file and a
/// function are asked again before each request, so that a key renewed there is used at once.
#[derive(Clone)]
pub struct KeySource(Origin);

#[derive(Clone)]
enum Origin {
    Value(SecretString),
    Variable(String),
    File(PathBuf),
    Function(Arc<Supply>),
}

impl KeySource {
    /// This key.
    #[must_use]
    pub fn value(key: impl Into<SecretString>) -> Self {
        Self(Origin::Value(key.into()))
    }

    /// The environment variable `BA_API_KEY`, as the official SDKs read it.
    #[must_use]
    pub fn env() -> Self {
        Self::variable("BA_API_KEY")
    }

    /// An environment variable of another name.
    #[must_use]
    pub fn variable(name: impl Into<String>) -> Self {
        Self(Origin::Variable(name.into()))
    }

    /// A file that holds the key and nothing else, but for white space around it. At most 64 KiB.
    ///
    /// Replace it by renaming another over it, so that no half of a key is ever read. A mode of
    /// 0600 is enough.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Origin::File(path.into()))
    }

    /// A function that answers with the key.
    ///
    /// It runs on a thread where it may block, once before each request. While it does not
    /// answer, nothing is sent: after the request's time limit the attempt counts as failed. Its
    /// thread cannot be stopped, and a runtime that shuts down waits for it, so let it return.
    /// Its error is not shown anywhere, because it may contain anything; log it there.
    #[must_use]
    pub fn function<F, E>(function: F) -> Self
    where
        F: Fn() -> Result<String, E> + Send + Sync + 'static,
    {
        Self(Origin::Function(Arc::new(move || match function() {
            Ok(key) => Ok(SecretString::from(key)),
            Err(_) => Err(KeyError::NoSupply { what: "failed" }),
        })))
    }

    /// Reads the key now, on this thread.
    fn read(&self) -> Result<Key, KeyError> {
        match &self.0 {
            Origin::Value(key) => Key::parse(key.clone()),
            Origin::Variable(name) => match std::env::var(name) {
                Ok(key) => Key::parse(key),
                Err(std::env::VarError::NotPresent) => Err(KeyError::NotSet {
                    variable: name.clone(),
                }),
                Err(std::env::VarError::NotUnicode(_)) => Err(KeyError::Characters),
            },
            Origin::File(path) => read_file(path),
            Origin::Function(function) => Key::parse(function()?),
        }
    }

    /// Whether the key may be another one tomorrow.
    fn is_live(&self) -> bool {
        match self.0 {
            Origin::Value(_) | Origin::Variable(_) => false,
            Origin::File(_) | Origin::Function(_) => true,
        }
    }
}

/// Says which kind of source it is, never what it holds.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::Value(_) => f.write_str("KeySource::value(..)"),
            Origin::Variable(name) => write!(f, "KeySource::variable({name:?})"),
            Origin::File(path) => write!(f, "KeySource::file({path:?})"),
            Origin::Function(_) => f.write_str("KeySource::function(..)"),
        }
    }
}

fn read_file(path: &Path) -> Result<Key, KeyError> {
    let unreadable = |kind| KeyError::Unreadable {
        path: path.to_owned(),
        kind,
    };
    let mut text = Zeroizing::new(String::new());
    let read = fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => Err(unreadable(io::ErrorKind::FileTooLarge)),
        Ok(_) => Key::parse(text.as_str()),
        Err(error) => Err(unreadable(error.kind())),
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
    /// The newest version that a delivery used or `changed` reported.
    seen: AtomicU64,
}

struct Slot {
    /// None while a live source is to be asked each time.
    key: Option<Key>,
    version: u64,
}

impl KeyRing {
    /// Reads the key for the first time.
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
        Ok(Self {
            source,
            channel,
            clock,
            slot: watch::Sender::new(Slot { key, version: 0 }),
            seen: AtomicU64::new(0),
        })
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

    /// Asks a live source, on a thread where it may block.
    async fn ask(&self, patience: Duration) -> Result<Key, KeyError> {
        let source = self.source.clone();
        let reading = tokio::task::spawn_blocking(move || source.read());
        match tokio::time::timeout(patience, reading).await {
            Ok(Ok(key)) => key,
            Ok(Err(_)) => Err(KeyError::NoSupply { what: "panicked" }),
            Err(_) => Err(KeyError::NoSupply {
                what: "did not answer in time",
            }),
        }
    }

    /// Resolves once for each replacement that no request has used yet.
    ///
    /// # Cancel safety
    /// A replacement counts as seen in the same poll that reports it, so dropping the future
    /// never loses one.
    pub(crate) async fn changed(&self) {
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
