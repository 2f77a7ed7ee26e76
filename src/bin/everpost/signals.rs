//! The signals that end a command in an orderly way: Ctrl-C, SIGTERM and SIGHUP.

use crate::fault::Fault;

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

/// Waits for signals.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    kinds: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    /// From here on a signal does not end the process by itself.
    #[cfg(unix)]
    pub(crate) fn catch() -> Result<Self, Fault> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |source| Fault::io("listen for signals", &source);
        let catch = |kind| signal(kind).map_err(failed);
        Ok(Self {
            kinds: [
                catch(SignalKind::interrupt())?,
                catch(SignalKind::terminate())?,
                catch(SignalKind::hangup())?,
            ],
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn catch() -> Result<Self, Fault> {
        Ok(Self {})
    }

    /// Resolves at the next signal.
    ///
    /// # Cancel safety
    /// A signal that comes while nobody waits is seen by the next call.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.kinds;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
