//! Reading on where reading fails for a moment.

use std::io::{self, Read};
#[cfg(unix)]
use std::os::fd::AsFd;
use std::time::Duration;

/// How long reading may fail in a row before that is the end of the input.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shortest and the longest time between two tries.
const REST_MIN: Duration = Duration::from_millis(10);
const REST_MAX: Duration = Duration::from_secs(1);

/// What can be waited for until there is something to read.
#[cfg(unix)]
pub(crate) trait Source: Read + AsFd {}
#[cfg(unix)]
impl<R: Read + AsFd> Source for R {}

/// What can be waited for until there is something to read.
#[cfg(not(unix))]
pub(crate) trait Source: Read {}
#[cfg(not(unix))]
impl<R: Read> Source for R {}

/// Reads from a source, and tries again for some seconds if it fails: a device or a network may do
/// so for a moment. A source that does not block is waited for, however long that takes.
#[derive(Debug)]
pub(crate) struct Patient<R> {
    source: R,
    rest: fn(Duration),
}

impl<R: Source> Patient<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            rest: sleep,
        }
    }
}

impl<R: Source> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut rested, mut rest) = (Duration::ZERO, REST_MIN);
        loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&self.source)?;
                }
                Err(error) if is_for_good(&error) || rested >= PATIENCE => return Err(error),
                Err(error) => {
                    if rested.is_zero() {
                        tracing::warn!(%error, "the input cannot be read; trying again");
                    }
                    (self.rest)(rest);
                    rested += rest;
                    rest = (rest * 2).min(REST_MAX);
                }
                Ok(bytes) => {
                    if !rested.is_zero() {
                        tracing::info!("the input can be read again");
                    }
                    return Ok(bytes);
                }
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a device that fails does not say when it works again"
)]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Whether the next try would say the same.
fn is_for_good(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::IsADirectory,
        io::ErrorKind::InvalidInput,
        io::ErrorKind::Unsupported,
    ];
    kinds.contains(&error.kind()) || is_no_descriptor(error)
}

#[cfg(unix)]
fn is_no_descriptor(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::BADF)
}

#[cfg(not(unix))]
fn is_no_descriptor(_error: &io::Error) -> bool {
    false
}

/// Nothing is there yet, and the source does not wait by itself.
#[cfg(unix)]
fn wait_for(source: &impl AsFd) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    match poll(&mut [PollFd::new(source, PollFlags::IN)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
fn wait_for<R>(_source: &R) -> io::Result<()> {
    std::thread::sleep(REST_MAX);
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::BorrowedFd;

    use rustix::io::Errno;

    use super::*;

    /// A pipe whose reads fail before they work.
    struct Failing {
        pipe: io::PipeReader,
        failures: Vec<Errno>,
    }

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.failures.pop() {
                Some(errno) => Err(errno.into()),
                None => self.pipe.read(buffer),
            }
        }
    }

    impl AsFd for Failing {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.pipe.as_fd()
        }
    }

    fn read(failures: Vec<Errno>) -> io::Result<String> {
        let (pipe, mut writer) = io::pipe().unwrap();
        writer.write_all(b"line\n").unwrap();
        drop(writer);
        let mut patient = Patient {
            source: Failing { pipe, failures },
            rest: |rest| assert!(rest <= REST_MAX),
        };
        let mut text = String::new();
        patient.read_to_string(&mut text)?;
        Ok(text)
    }

    /// One short I/O error, and the input was never read again while all looked well.
    #[test]
    fn an_error_for_a_moment_is_waited_out_and_one_that_stays_is_told() {
        let short = vec![Errno::IO, Errno::INTR, Errno::AGAIN, Errno::IO, Errno::NXIO];
        assert_eq!(read(short).unwrap(), "line\n");
        let for_good = read(vec![Errno::IO; 1_000]).unwrap_err();
        assert_eq!(Errno::from_io_error(&for_good), Some(Errno::IO));
        for errno in [Errno::ISDIR, Errno::BADF, Errno::INVAL] {
            let at_once = read(vec![Errno::IO, errno]).unwrap_err();
            assert_eq!(Errno::from_io_error(&at_once), Some(errno));
        }
    }

    /// A reader that does not block was taken for a broken one.
    #[test]
    fn a_source_that_does_not_block_is_waited_for() {
        let (pipe, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            let read = Patient::new(pipe).read_to_string(&mut text);
            read.map(|_| text)
        });
        for part in ["a", "b"] {
            writer.write_all(part.as_bytes()).unwrap();
        }
        drop(writer);
        assert_eq!(reading.join().unwrap().unwrap(), "ab");
    }
}
