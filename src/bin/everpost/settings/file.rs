//! Settings files on the disk: how they are read, and from whom.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use everpost::Error;

use crate::fault::Fault;

/// The name of the file in a spool.
pub(crate) const NAME: &str = "settings.toml";

/// The directory of the system's file. The variable `EVERPOST_ETC` names another one.
pub(crate) const ETC: &str = "/etc/everpost";

/// Bytes that a settings file may have.
const BYTES_MAX: u64 = 64 << 10;

/// The file of the system, whether it is there or not.
pub(super) fn etc() -> PathBuf {
    let dir = std::env::var_os("EVERPOST_ETC").filter(|dir| !dir.is_empty());
    Path::new(&dir.unwrap_or_else(|| ETC.into())).join(NAME)
}

/// Makes the directory of a spool, and those above it, for its owner alone. Gives those that were
/// missing, the innermost first.
pub(crate) fn make_dir(spool: &Path) -> Result<Vec<PathBuf>, Fault> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<&Path> = spool.ancestors().take_while(is_missing).collect();
    let missing: Vec<PathBuf> = missing.into_iter().map(Path::to_owned).collect();
    let mut maker = std::fs::DirBuilder::new();
    maker.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
    match maker.create(spool) {
        Ok(()) => Ok(missing),
        Err(source) => {
            take_back(&missing);
            let text = format!("failed to make {}: {source}", spool.display());
            Err(Fault::usage(text).hint("name a directory that can be made with --spool"))
        }
    }
}

/// Removes directories that are empty, the first one first.
pub(crate) fn take_back(dirs: &[PathBuf]) {
    for dir in dirs {
        if std::fs::remove_dir(dir).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            break;
        }
    }
}

/// Whether this user may write the settings of a spool that is there: those of another user it could
/// not give to that one.
///
/// # Errors
/// [`Error::NotYours`].
#[cfg(unix)]
pub(crate) fn may_write(spool: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let us = rustix::process::geteuid().as_raw();
    let of = |path: &Path| std::fs::symlink_metadata(path).map(|meta| meta.uid());
    let marker = of(&spool.join("spool.json")).ok();
    // A directory may be lent by root to a group.
    let dir = of(spool).ok().filter(|uid| *uid != 0);
    match [marker, dir].into_iter().flatten().find(|uid| *uid != us) {
        Some(uid) => Err(Error::NotYours {
            path: spool.to_owned(),
            uid,
        }
        .into()),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
pub(crate) fn may_write(_: &Path) -> Result<(), Fault> {
    Ok(())
}

/// The text of the system's file, if there is one. An administrator may put a link there.
pub(super) fn read_etc(path: &Path) -> Result<Option<String>, Fault> {
    match File::open(path) {
        Ok(file) => text(path, file).map(Some),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

/// The text of the file that is named: it has to be there.
pub(super) fn read_named(path: &Path) -> Result<String, Fault> {
    let file = File::open(path).map_err(|error| {
        failed(path, &error).hint("name a file that can be read, or leave the settings out")
    })?;
    text(path, file)
}

/// The text of the file in a spool, if there is one. Links are not followed: the user
/// who owns the spool would choose what is read. If the spool is another user's and keeps it to itself, that is none:
/// only its owner can be asked then, and has its own.
pub(super) fn read_in_spool(spool: &Path, path: &Path) -> Result<Option<String>, Fault> {
    let file = match no_follow(OpenOptions::new().read(true)).open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_ours(spool) => {
            return Ok(None);
        }
        Err(error) => return Err(unusable(path, &in_words(&error))),
    };
    let meta = file.metadata().map_err(|error| failed(path, &error))?;
    if !meta.is_file() {
        return Err(unusable(path, "it is no regular file"));
    }
    if let Some(uid) = stranger(&meta, spool) {
        let what = format!("it belongs to user {uid}, and the spool to another");
        return Err(unusable(path, &what));
    }
    text(path, file).map(Some)
}

fn text(path: &Path, file: File) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(path, &error))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(unusable(path, "it has more than 64 KiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable(path, "it is no text in UTF-8"))
}

fn is_missing(error: &io::Error) -> bool {
    // A spool that is a file is told of when it is opened.
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn failed(path: &Path, error: &io::Error) -> Fault {
    Fault::usage(format!(
        "settings {} cannot be read: {error}",
        path.display()
    ))
    .hint("see that the file can be read by this user")
}

fn unusable(path: &Path, what: &str) -> Fault {
    Fault::usage(format!("settings {} are not usable: {what}", path.display())).hint(format!(
        "move it away, or write it anew: everpost init --force (events stay as they are). path=`{}`",
        path.display()
    ))
}

#[cfg(unix)]
pub(super) fn no_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    use rustix::fs::OFlags;
    // Without the last, opening a pipe waits for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let bits = i32::try_from(flags.bits()).unwrap_or_default();
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, bits)
}

#[cfg(not(unix))]
pub(super) fn no_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// "Too many levels of symbolic links" is no word for what was found.
fn in_words(error: &io::Error) -> String {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return "it is a link, and links in a spool are not followed".into();
    }
    error.to_string()
}

#[cfg(unix)]
fn is_ours(spool: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let us = rustix::process::geteuid().as_raw();
    std::fs::metadata(spool).is_ok_and(|meta| meta.uid() == us)
}

/// The user a file belongs to, if that is neither this one, nor root, nor the spool's.
#[cfg(unix)]
fn stranger(meta: &Metadata, spool: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let us = rustix::process::geteuid().as_raw();
    let of_spool = std::fs::metadata(spool).map_or(us, |meta| meta.uid());
    let uid = meta.uid();
    (![us, 0, of_spool].contains(&uid)).then_some(uid)
}

#[cfg(not(unix))]
fn is_ours(_: &Path) -> bool {
    true
}

#[cfg(not(unix))]
fn stranger(_: &Metadata, _: &Path) -> Option<u32> {
    None
}
