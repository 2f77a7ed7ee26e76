//! The signals that end a command in an orderly way: Ctrl-C, SIGTERM and SIGHUP.

use crate::fault::Fault;

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
