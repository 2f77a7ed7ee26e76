//! To whom a spool belongs, and whether it is safe to own it.
//!
//! What another user leaves in a spool its owner cannot read, and a directory that others may
//! write to can be filled with links to anywhere. Both are refused before anything is touched.

use std::path::Path;

use crate::error::Error;

/// Directories of a spool, which it has or not.
const DIRS: [&str; 5] = ["journal", "segments", "letters", "state", "quarantine"];

/// Sees whether this user may own the spool at this path, or make one there.
///
/// # Errors
/// [`Error::NotYours`], [`Error::Unsafe`], [`Error::Storage`].
#[cfg(unix)]
pub(super) fn check(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid().as_raw();
    let failed = || Error::storage("see to whom the spool belongs", path);
    let not_yours = |uid| Error::NotYours {
        path: path.to_owned(),
        uid,
    };
    for marker in [super::marker::MARKER, super::marker::COPY] {
        // A link says nothing; it is not followed later either.
        match std::fs::symlink_metadata(path.join(marker)) {
            Ok(meta) if meta.is_file() && meta.uid() != us => return Err(not_yours(meta.uid())),
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed()(source));
            }
            _ => {}
        }
    }
    let meta = std::fs::metadata(path).map_err(failed())?;
    let lent = meta.uid() == 0 && meta.mode() & 0o070 == 0o070 && is_our_group(meta.gid());
    if meta.uid() != us && !lent {
        return Err(not_yours(meta.uid()));
    }
    if meta.mode() & 0o002 != 0 {
        return Err(Error::Unsafe {
            path: path.to_owned(),
            reason: format!(
                "every user may write to its directory; type: chmod o-w {}",
                typed(path)
            ),
        });
    }
    check_dirs(path)
}

#[cfg(not(unix))]
pub(super) fn check(path: &Path) -> Result<(), Error> {
    check_dirs(path)
}

#[cfg(unix)]
fn is_our_group(gid: u32) -> bool {
    let is_it = |group: rustix::process::Gid| group.as_raw() == gid;
    is_it(rustix::process::getegid())
        || rustix::process::getgroups().is_ok_and(|groups| groups.into_iter().any(is_it))
}

/// The directories in the spool are directories: through a link, files would be made and removed
/// elsewhere.
fn check_dirs(path: &Path) -> Result<(), Error> {
    for name in DIRS {
        let dir = path.join(name);
        if std::fs::symlink_metadata(&dir).is_ok_and(|meta| !meta.is_dir()) {
            return Err(Error::Unsafe {
                path: dir,
                reason: "a link or a file stands where a directory of the spool belongs; \
                         move it away"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

/// A path as it is typed in a shell.
#[cfg(unix)]
fn typed(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_directory_that_all_may_write_to_is_refused_with_what_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a spool");
        fs::create_dir(&path).unwrap();
        for (mode, is_safe) in [(0o777, false), (0o702, false), (0o775, true), (0o700, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let checked = check(&path);
            assert_eq!(checked.is_ok(), is_safe, "{mode:o}");
            if let Err(error) = checked {
                let command = format!("chmod o-w '{}'", path.display());
                assert!(error.to_string().contains(&command), "{error}");
            }
        }
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("spool"), dir.path().join("other"));
        fs::create_dir(&path).unwrap();
        fs::create_dir(&other).unwrap();
        for name in DIRS {
            symlink(&other, path.join(name)).unwrap();
            let error = check(&path).unwrap_err();
            assert!(matches!(error, Error::Unsafe { .. }), "{name}: {error}");
            fs::remove_file(path.join(name)).unwrap();
            fs::create_dir(path.join(name)).unwrap();
            check(&path).unwrap();
        }
    }
}
