//! The signals that end a command in an orderly way: Ctrl-C, SIGTERM and SIGHUP. A signal that was
//! ignored when the command began stays ignored, as `nohup` and the shell want it for what they
//! start.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::fault::Fault;

/// The numbers that POSIX gives them.
const HANGUP: i32 = 1;
const INTERRUPT: i32 = 2;
const TERMINATE: i32 = 15;

/// From here on a file that reaches its limit (`ulimit -f`) is a write that fails, as on a full
/// disk, and not the end of the process: the signal SIGXFSZ is caught, and nothing done about it.
#[cfg(unix)]
pub(crate) fn outlive_the_file_limit() -> Result<(), Fault> {
    use tokio::signal::unix::{SignalKind, signal};
    /// The number of SIGXFSZ on Linux and on the BSDs.
    const SIGXFSZ: i32 = 25;
    let caught = signal(SignalKind::from_raw(SIGXFSZ));
    // Caught stays caught, whether it is listened for or not.
    caught
        .map(drop)
        .map_err(|source| Fault::io("listen for signals", &source))
}

#[cfg(not(unix))]
pub(crate) fn outlive_the_file_limit() -> Result<(), Fault> {
    Ok(())
}

/// Waits for signals, or for a part of this process that says the same.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    caught: Vec<tokio::signal::unix::Signal>,
    #[cfg(not(unix))]
    ctrl_c: bool,
    word: Option<Arc<Notify>>,
}

impl Signals {
    /// From here on a signal does not end the process by itself.
    pub(crate) fn catch() -> Result<Self, Fault> {
        Self::of_kinds(&[INTERRUPT, TERMINATE, HANGUP])
    }

    /// As [`catch`](Self::catch), for a service: SIGHUP is left to [`Hangups`].
    pub(crate) fn catch_for_a_service() -> Result<Self, Fault> {
        Self::of_kinds(&[INTERRUPT, TERMINATE])
    }

    /// Not signals, but this word, which counts as one.
    pub(crate) fn word(word: &Arc<Notify>) -> Self {
        Self {
            #[cfg(unix)]
            caught: Vec::new(),
            #[cfg(not(unix))]
            ctrl_c: false,
            word: Some(Arc::clone(word)),
        }
    }

    #[cfg(unix)]
    fn of_kinds(kinds: &[i32]) -> Result<Self, Fault> {
        let caught: Result<Vec<_>, Fault> =
            kinds.iter().filter_map(|kind| unix::catch(*kind)).collect();
        Ok(Self {
            caught: caught?,
            word: None,
        })
    }

    #[cfg(not(unix))]
    fn of_kinds(_kinds: &[i32]) -> Result<Self, Fault> {
        Ok(Self {
            ctrl_c: true,
            word: None,
        })
    }

    /// Resolves at the next signal.
    ///
    /// # Cancel safety
    /// A signal that comes while the command waits for none is seen by the next call.
    pub(crate) async fn next(&mut self) {
        if let Some(word) = &self.word {
            return word.notified().await;
        }
        self.next_signal().await;
    }

    #[cfg(unix)]
    async fn next_signal(&mut self) {
        std::future::poll_fn(|cx| {
            let mut polls = self.caught.iter_mut().map(|signal| signal.poll_recv(cx));
            if polls.any(|poll| poll.is_ready()) {
                return std::task::Poll::Ready(());
            }
            std::task::Poll::Pending
        })
        .await;
    }

    #[cfg(not(unix))]
    async fn next_signal(&mut self) {
        if !self.ctrl_c || tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a SIGHUP means to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// Settings and key are to be read again.
    ReadAgain,
    /// The terminal that the service was started from is gone.
    TerminalGone,
}

/// Waits for SIGHUP.
#[derive(Debug)]
pub(crate) struct Hangups {
    #[cfg(unix)]
    caught: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    had_terminal: bool,
}

impl Hangups {
    /// From here on SIGHUP does not end the process by itself.
    #[cfg(unix)]
    pub(crate) fn catch() -> Result<Self, Fault> {
        Ok(Self {
            caught: unix::catch(HANGUP).transpose()?,
            had_terminal: unix::has_terminal(),
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn catch() -> Result<Self, Fault> {
        Ok(Self {})
    }

    /// Resolves at the next SIGHUP.
    ///
    /// # Cancel safety
    /// One that comes while the service waits for none is seen by the next call.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> Hangup {
        match &mut self.caught {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
        if self.had_terminal && !unix::has_terminal() {
            Hangup::TerminalGone
        } else {
            Hangup::ReadAgain
        }
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> Hangup {
        std::future::pending().await
    }
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::sync::OnceLock;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    use crate::fault::Fault;

    /// Catches a signal; none if it is ignored.
    pub(super) fn catch(kind: i32) -> Option<Result<Signal, Fault>> {
        if ignored() >> (kind - 1) & 1 == 1 {
            return None;
        }
        let caught = signal(SignalKind::from_raw(kind));
        Some(caught.map_err(|source| Fault::io("listen for signals", &source)))
    }

    /// Which signals were ignored before any was caught, one bit each. Known on Linux; elsewhere
    /// none is taken for ignored.
    fn ignored() -> u64 {
        static IGNORED: OnceLock<u64> = OnceLock::new();
        *IGNORED.get_or_init(|| {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            parse(&status).unwrap_or(0)
        })
    }

    /// The line `SigIgn` of `/proc/PID/status`, a number in hexadecimal: see `proc(5)`.
    pub(super) fn parse(status: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        u64::from_str_radix(line?.trim(), 16).ok()
    }

    /// Whether this process belongs to a terminal.
    pub(super) fn has_terminal() -> bool {
        fs::File::open("/dev/tty").is_ok()
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_line_of_the_system() {
        let status = "Name:\teverpost\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\n";
        assert_eq!(unix::parse(status), Some(0x1003));
        assert_eq!(unix::parse("Name:\teverpost\n"), None);
    }

    #[tokio::test]
    async fn a_word_counts_as_a_signal_also_before_it_is_waited_for() {
        let word = Arc::new(Notify::new());
        let mut signals = Signals::word(&word);
        word.notify_one();
        signals.next().await;
        let never = tokio::time::timeout(std::time::Duration::ZERO, signals.next()).await;
        assert!(never.is_err());
    }
}
