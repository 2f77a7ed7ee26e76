//! A channel under way: its queue, its way to the API, and what looks after both.

use std::path::Path;
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::relay::{Channel, RepeatWindows, Repeats};
use everpost::sandbox::Sandbox;
use everpost::{Closed, Error, FlusherState, Queue, exit};

use super::assignment::Assignment;
use crate::fault::Fault;
use crate::key_care::KeyCare;
use crate::owner::{Owned, Way, opened, own};
use crate::service::{close, delivery_ended, tell_what_was_found};
use crate::signals::Signals;
use crate::target::in_time;
use crate::upstream::Upstream;

/// A channel that is served.
pub(super) struct Station {
    name: String,
    owned: Owned,
    repeats: Repeats,
    sink: Botanalytics,
    care: KeyCare,
    sandbox: Option<Sandbox>,
}

impl Station {
    /// Opens the spool of the channel, and what it took lately; the sandbox, if it has one, is started
    /// before.
    pub(super) async fn open(
        assignment: &Assignment,
        windows: RepeatWindows,
        wait: Duration,
        signals: &mut Signals,
    ) -> Result<Self, Fault> {
        let name = assignment.name().to_owned();
        let (sink, sandbox) = if assignment.is_for_a_sandbox() {
            let started = Sandbox::builder().channel(&name).start().await;
            let sandbox = started.map_err(|error| Fault::io("start the sandbox", &error))?;
            let builder = Botanalytics::builder(KeySource::value(sandbox.key()));
            let sink = builder
                .base_url(sandbox.base_url())
                .channel(&name)
                .build()?;
            (sink, Some(sandbox))
        } else {
            (assignment.sink()?, None)
        };
        let open = async |spool: &Path| {
            let builder = Queue::builder(spool).settings(assignment.settings().clone());
            opened(builder.sink(sink.clone()).open().await)
        };
        let way = Way::to(assignment.spool());
        let owned = in_time(own(&way, wait, open), signals, exit::PENDING, None).await?;
        tell_what_was_found(owned.queue());
        let repeats = Repeats::open(&assignment.repeats(), windows)?;
        let care = KeyCare::new(Upstream::Api(sink.clone()), assignment.key_file());
        Ok(Self {
            name,
            owned,
            repeats,
            sink,
            care,
            sandbox,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The way to the API.
    pub(super) fn sink(&self) -> &Botanalytics {
        &self.sink
    }

    pub(super) fn queue(&self) -> &Queue {
        self.owned.queue()
    }

    /// For the relay.
    pub(super) fn channel(&self) -> Channel {
        Channel::new(&self.name, self.queue().clone())
            .upstream(self.sink.clone())
            .repeats(self.repeats.clone())
    }

    /// Recognises what comes again for other times from now on.
    pub(super) fn recognise(&self, windows: RepeatWindows) {
        self.repeats.set_windows(windows);
    }

    pub(super) async fn tell_that_it_relays(&self) {
        let _ = self.care.look().await;
        let (spool, pending) = (
            self.queue().spool().display(),
            self.queue().status().pending,
        );
        let channel = &self.name;
        tracing::info!(url = %self.care.url(), channel, %spool, pending, "relaying");
    }

    /// Looks at the key anew, and tries with it what waits.
    pub(super) async fn read_key_again(&self) {
        let _ = self.care.look().await;
        // If delivery has ended instead, that is told elsewhere.
        drop(self.queue().wake().await);
        let channel = &self.name;
        tracing::info!(url = %self.care.url(), channel, "the key was read again");
    }

    /// Resolves once delivery has ended by itself, with the reason.
    pub(super) async fn failed(&self) -> Fault {
        let mut watch = self.queue().watch();
        watch
            .wait_for(|status| {
                let state = &status.flusher;
                matches!(state, FlusherState::Failed { .. } | FlusherState::Closed)
            })
            .await;
        let mut fault = delivery_ended(self.queue());
        fault.text = format!("channel {}: {}", self.name, fault.text);
        fault
    }

    /// Closes the queue within the deadline, sooner at a signal; then stops the sandbox.
    pub(super) async fn close(
        self,
        deadline: Duration,
        signal: impl Future<Output = ()>,
    ) -> Result<Closed, Error> {
        let closed = close(self.queue(), deadline, signal).await;
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
        }
        closed
    }
}
