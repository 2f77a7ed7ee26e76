//! What is said of the key where a person may still mend it: at the start of a service, and
//! whenever it reads the key again.

use std::path::PathBuf;
use std::time::Duration;

use everpost::Sink as _;
use everpost::botanalytics::Key;
use everpost::clock::{Clock as _, SystemClock};

use crate::text::{plain, time};
use crate::upstream::Upstream;

/// A key that ends sooner than this is worth a word.
const SOON: Duration = Duration::from_secs(24 * 3600);

/// Looks at the key of a sink, and at the file that holds it.
#[derive(Debug)]
pub(crate) struct KeyCare {
    sink: Upstream,
    /// If the key is in one.
    file: Option<PathBuf>,
}

impl KeyCare {
    pub(crate) fn new(sink: Upstream, file: Option<PathBuf>) -> Self {
        Self { sink, file }
    }

    /// The address that requests go to.
    pub(crate) fn url(&self) -> &str {
        self.sink.url()
    }

    /// Warns of what is wrong with the key, or will be soon, and gives its channel if it has one.
    pub(crate) async fn look(&self) -> Option<String> {
        let sink = match &self.sink {
            Upstream::Api(sink) => sink,
            other => {
                if let Some(hindrance) = other.hindrance().await {
                    let why = hindrance.answer.detail.unwrap_or_default();
                    tracing::warn!("nothing can be delivered yet: {}", plain(&why));
                }
                return None;
            }
        };
        self.warn_of_readers();
        match sink.key().await {
            Ok(key) => {
                warn_of_the_end(&key);
                Some(plain(key.channel()))
            }
            Err(error) => {
                let taken = match self.file {
                    Some(_) => "a key in that file is taken as soon as it is there",
                    None => {
                        "set BA_API_KEY and start again, or name a file with BA_API_KEY_FILE: it \
                         is read again by itself"
                    }
                };
                tracing::warn!(%error, hint = error.hint(), "there is no key to deliver with; {taken}");
                Some("unknown".to_owned())
            }
        }
    }

    /// A key that more users can read than have to is theirs as well. A file of another user is
    /// often lent through its group.
    #[cfg(unix)]
    fn warn_of_readers(&self) {
        use std::os::unix::fs::MetadataExt as _;

        let Some(file) = &self.file else { return };
        let Ok(found) = file.metadata() else { return };
        let is_ours = found.uid() == rustix::process::geteuid().as_raw();
        let too_wide = if is_ours { 0o077 } else { 0o037 };
        if found.is_file() && found.mode() & too_wide != 0 {
            let mode = format!("{:04o}", found.mode() & 0o7777);
            tracing::warn!(file = %file.display(), mode, "other users may read or change the key; `chmod 600` keeps it to its owner");
        }
    }

    #[cfg(not(unix))]
    fn warn_of_readers(&self) {}
}

fn warn_of_the_end(key: &Key) {
    let Some(end) = key.expires() else { return };
    let left = end.duration_since(SystemClock.wall()).unwrap_or_default();
    if left <= SOON {
        tracing::warn!(end = %time(end), "the key expires within a day; make a new one in the project's settings");
    }
}
