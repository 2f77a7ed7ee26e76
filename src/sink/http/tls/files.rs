//! The files that TLS is set up from, and what is made of them.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The places of the files that TLS is set up from beside what the system has.
#[derive(Clone, Debug, Default)]
pub(in crate::sink) struct Files {
    pub(in crate::sink) ca: Option<PathBuf>,
    /// The certificate and its key.
    pub(in crate::sink) client: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Whether there is nothing beside what the system has.
    pub(super) fn is_empty(&self) -> bool {
        self.ca.is_none() && self.client.is_none()
    }

    /// By what a change of any of them is seen.
    fn stamps(&self) -> Vec<Stamp> {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(client).map(Stamp::of).collect()
    }
}

/// A file as it was looked at last; none if it was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64, u64)>);

impl Stamp {
    fn of(path: &PathBuf) -> Self {
        let stamp = || {
            let meta = fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len(), inode(&meta)))
        };
        Self(stamp())
    }
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

/// What is made of files, and made again when one of them has changed.
///
/// If they cannot be used then, as between the replacement of a certificate and of its key, what was
/// made before stays in use, and what is told of a failure says so.
pub(in crate::sink) struct Renewed<T> {
    files: Files,
    make: Make<T>,
    state: Mutex<State<T>>,
}

type Make<T> = Box<dyn Fn(&Files) -> Result<T, String> + Send + Sync>;

struct State<T> {
    made: T,
    stamps: Vec<Stamp>,
    /// What is wrong with the files that are there now.
    complaint: Option<String>,
}

impl<T: Clone + Send + 'static> Renewed<T> {
    /// # Errors
    /// What `make` says.
    pub(in crate::sink) fn new(
        files: Files,
        make: impl Fn(&Files) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // Looked at before they are read: what changes in between is read again.
        let stamps = files.stamps();
        let made = make(&files)?;
        Ok(Self {
            files,
            make: Box::new(make),
            state: Mutex::new(State {
                made,
                stamps,
                complaint: None,
            }),
        })
    }

    /// What is in use now, and what is wrong with the files where that is something older.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the files are read to the end all the same.
    pub(in crate::sink) async fn now(self: &Arc<Self>) -> (T, Option<String>) {
        if !self.files.is_empty() {
            let this = Arc::clone(self);
            // That it panics is told by what every panic is told by.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
        let state = self.state();
        (state.made.clone(), state.complaint.clone())
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files again if they have changed.
    fn look(&self) {
        let stamps = self.files.stamps();
        if self.state().stamps == stamps {
            return;
        }
        let made = (self.make)(&self.files);
        let mut state = self.state();
        // Read once, also if they are of no use.
        state.stamps = stamps;
        match made {
            Ok(made) => {
                state.made = made;
                state.complaint = None;
            }
            Err(what) => {
                state.complaint = Some(format!("what was read before is in use, since {what}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &Files) -> Result<String, String> {
        let path = files.ca.as_ref().ok_or("there is no file")?;
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let good = text.starts_with("good").then(|| text.clone());
        good.ok_or(format!("it says {text}"))
    }

    #[tokio::test]
    async fn what_cannot_be_used_leaves_in_use_what_could() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let files = Files {
            ca: Some(path.clone()),
            client: None,
        };
        assert!(Renewed::new(files.clone(), read).is_err());
        fs::write(&path, "good").unwrap();
        let renewed = Arc::new(Renewed::new(files, read).unwrap());
        assert_eq!(renewed.now().await, ("good".to_owned(), None));
        fs::write(&path, "bad!!").unwrap();
        for _ in 0..2 {
            let (made, complaint) = renewed.now().await;
            assert_eq!(made, "good");
            assert!(complaint.unwrap().contains("it says bad!!"));
        }
        fs::write(&path, "good again").unwrap();
        assert_eq!(renewed.now().await, ("good again".to_owned(), None));
        fs::remove_file(&path).unwrap();
        let (made, complaint) = renewed.now().await;
        assert_eq!(made, "good again");
        assert!(complaint.is_some());
    }
}
