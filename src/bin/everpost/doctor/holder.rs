//! Which process has a spool open, if it serves no socket that could be asked.
//!
//! The lock is not tried: taking it, for a moment only, could keep an owner out.

use std::path::Path;

/// A process that holds the lock of a spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// The name of its program, as the system has it.
    pub(super) program: Option<String>,
}

/// The holder of the lock of this spool; none if there is none, or the system does not say.
#[cfg(target_os = "linux")]
pub(super) fn of(spool: &Path) -> Option<Holder> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;

    /// A pid is shorter.
    const PID_BYTES: u64 = 32;
    let path = spool.join("lock");
    // A pipe in its place would not answer.
    let lock = std::fs::symlink_metadata(&path).ok()?;
    if !lock.is_file() {
        return None;
    }
    let mut said = String::new();
    let read = std::fs::File::open(&path).ok()?.take(PID_BYTES);
    // What cannot be read says nothing; the table of locks may say it.
    let _ = { read }.read_to_string(&mut said);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = held_by(&locks, lock.dev(), lock.ino(), said.trim().parse().ok())?;
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let program = program.map(|name| name.trim().to_owned());
    Some(Holder { pid, program })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of(_: &Path) -> Option<Holder> {
    None
}

/// Who holds the `flock` on this file, in the words of `/proc/locks`: see `proc(5)`. Some file systems
/// have another device there than `stat` has; then the process that says of itself in the file that it
/// is the owner is believed.
#[cfg(any(test, target_os = "linux"))]
fn held_by(locks: &str, dev: u64, ino: u64, said: Option<u32>) -> Option<u32> {
    // As the kernel divides a number of a device: `makedev(3)`.
    let major = (dev >> 8 & 0xfff) | (dev >> 32 & 0xffff_f000);
    let minor = (dev & 0xff) | (dev >> 12 & 0xffff_ff00);
    let here = format!("{major:02x}:{minor:02x}");
    locks.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF`; what waits has `->` behind the number.
        let mut words = line.split_whitespace().skip(1);
        if words.next() != Some("FLOCK") {
            return None;
        }
        let pid: u32 = words.nth(2)?.parse().ok()?;
        let (device, inode) = words.next()?.rsplit_once(':')?;
        let is_here = device == here || said == Some(pid);
        (inode.parse() == Ok(ino) && is_here).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 11 fe:00:40 0 EOF
2: FLOCK  ADVISORY  WRITE 12 fe:00:41 0 EOF
3: FLOCK  ADVISORY  WRITE 13 fe:01:40 0 EOF
4: FLOCK  ADVISORY  WRITE 14 fe:00:40 0 EOF
4: -> FLOCK  ADVISORY  WRITE 15 fe:00:42 0 EOF
nonsense
";

    #[test]
    fn the_holder_is_found_by_device_and_number_of_the_file() {
        let dev = 0xfe00;
        assert_eq!(held_by(LOCKS, dev, 40, None), Some(14));
        assert_eq!(held_by(LOCKS, dev, 41, None), Some(12));
        // What waits holds nothing.
        assert_eq!(held_by(LOCKS, dev, 42, Some(15)), None);
        assert_eq!(held_by(LOCKS, 0x1500, 40, None), None);
        assert_eq!(held_by(LOCKS, 0x1500, 40, Some(13)), Some(13));
        assert_eq!(held_by(LOCKS, 0x1500, 40, Some(99)), None);
    }
}
