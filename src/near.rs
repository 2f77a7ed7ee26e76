//! The path of a socket as the system takes it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a socket's path: what the system's `sun_path` holds, without the zero at its end.
const PATH_BYTES_MAX: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};

/// A path that is short enough to bind and to connect to, as long as this lives.
#[derive(Debug)]
pub(crate) struct Near {
    path: PathBuf,
    // The short path leads through it.
    _dir: Option<File>,
}

impl Near {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A short path to this socket: its own if that is short enough, otherwise one through its
/// directory, held open, where the system has such paths.
///
/// # Errors
/// If it is too long and there is no other way, with the limit and what to do; or as the system
/// says, if its directory cannot be opened.
pub(crate) fn near(socket: &Path) -> io::Result<Near> {
    let bytes = socket.as_os_str().len();
    if bytes <= PATH_BYTES_MAX {
        let path = socket.to_owned();
        return Ok(Near { path, _dir: None });
    }
    if let Some(near) = through_dir(socket)? {
        return Ok(near);
    }
    let text = format!(
        "its path has {bytes} bytes, and a Unix socket may have {PATH_BYTES_MAX}; mount /proc, use \
         a shorter path, or one relative to the current directory"
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn through_dir(socket: &Path) -> io::Result<Option<Near>> {
    use std::os::fd::AsRawFd as _;

    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Ok(None);
    };
    let dir = open_dir(dir)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    if !through.exists() {
        return Ok(None);
    }
    Ok(Some(Near {
        path: through.join(name),
        _dir: Some(dir),
    }))
}

/// Opens it for the path alone, which needs no right to read it.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_dir(dir: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(open(dir, flags, Mode::empty())?))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn through_dir(_: &Path) -> io::Result<Option<Near>> {
    Ok(None)
}
