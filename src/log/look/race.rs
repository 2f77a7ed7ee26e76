//! Looking beside an owner: what was read while it wrote is read again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Deadline, SystemClock};
use crate::error::Error;

/// How often a look is begun anew while an owner writes.
const TRIES: usize = 8;

/// The system may give two writes within this time the same date.
const SAME_DATE: Duration = Duration::from_millis(20);

/// Names that change without a change of what is in the spool.
const PASSED_OVER: [&str; 2] = ["lock", "control.sock"];

/// Every file of a spool with its length and the date of its last change.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dates {
    files: Vec<(PathBuf, u64, Option<SystemTime>)>,
    newest: Option<SystemTime>,
}

impl Dates {
    fn of(spool: &Path) -> Self {
        let mut dates = Self::default();
        let mut dirs = vec![spool.to_owned()];
        while let Some(dir) = dirs.pop() {
            let Ok(entries) = fs::read_dir(&dir) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_passed_over = PASSED_OVER.iter().any(|name| entry.file_name() == *name);
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    dirs.push(entry.path());
                }
                if is_passed_over {
                    continue;
                }
                let date = meta.modified().ok();
                dates.newest = dates.newest.max(date);
                let len = if meta.is_dir() { 0 } else { meta.len() };
                dates.files.push((entry.path(), len, date));
            }
        }
        dates.files.sort();
        dates
    }

    /// Whether a change of this moment could have the date of one before.
    fn is_fresh(&self) -> bool {
        let now = SystemClock.wall();
        let age = self.newest.map(|newest| now.duration_since(newest));
        age.is_some_and(|age| age.is_ok_and(|age| age < SAME_DATE))
    }
}

/// Looks until an owner has written nothing meanwhile. Gives what was seen, and whether an owner
/// kept writing all the time: then nothing of it is an alarm.
pub(crate) fn undisturbed<T>(
    spool: &Path,
    mut look: impl FnMut() -> Result<T, Error>,
) -> Result<(T, bool), Error> {
    let mut tries = 0;
    loop {
        let before = Dates::of(spool);
        let seen = look();
        let is_still = before == Dates::of(spool) && !before.is_fresh();
        tries += 1;
        match seen {
            seen if is_still => return seen.map(|seen| (seen, false)),
            Ok(seen) if tries >= TRIES => return Ok((seen, true)),
            Err(error) if tries >= TRIES => return Err(changing(spool, error)),
            _ => wait(),
        }
    }
}

/// Waits until what is written next has another date. A look leaves a wake-up behind, of the thread
/// that it had beside it, so that parking once would be no wait.
fn wait() {
    let deadline = Deadline::after(SAME_DATE);
    while deadline.park() {}
}

/// What cannot be read while it is written is no damage.
fn changing(spool: &Path, error: Error) -> Error {
    match error {
        Error::Damaged { .. } | Error::Storage { .. } => Error::Changing {
            path: spool.to_owned(),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_begun_anew_until_the_writing_ends_or_says_that_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |n: usize| fs::write(dir.path().join("file"), vec![0; n]).unwrap();
        let mut looks = 0;
        let (seen, is_disturbed) = undisturbed(dir.path(), || {
            looks += 1;
            if looks < 3 {
                write(looks);
            }
            Ok(looks)
        })
        .unwrap();
        assert!(seen >= 3 && !is_disturbed, "{seen}");
        let mut looks = 0;
        let (_, is_disturbed) = undisturbed(dir.path(), || {
            looks += 1;
            write(looks);
            Ok(())
        })
        .unwrap();
        assert!(is_disturbed);
        let error = undisturbed(dir.path(), || {
            looks += 1;
            write(looks);
            Err::<(), _>(Error::Damaged {
                what: "torn".into(),
                path: dir.path().to_owned(),
            })
        });
        assert!(matches!(error, Err(Error::Changing { .. })));
    }
}
