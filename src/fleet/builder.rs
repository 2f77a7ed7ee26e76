//! What a worker is made of.

use std::sync::Arc;
use std::time::Duration;

use super::api::Refusal;
use super::connect::{Access, fleet};
use super::lease::Lease;
use super::line::Line;
use super::removal::KEEP_MIN;
use super::station::Way;
use super::text::clean;
use super::worker::{Plan, Worker, beat_subject};
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::millis::unix_ms;
use crate::nats::Names;
use crate::settings::{Delivery, Settings};
use crate::sink::{BoxSink, Sink};

/// Builds a [`Worker`].
#[must_use = "a builder does nothing until `start`"]
pub struct WorkerBuilder {
    access: Access,
    names: Names,
    name: String,
    sink: Option<BoxSink>,
    lease: Duration,
    keep: Option<Duration>,
    remove_every: Option<Duration>,
    delivery: Delivery,
    max_age: Option<Duration>,
    clock: Arc<dyn Clock>,
}

impl Worker {
    /// A worker of the fleet with these names, behind these servers.
    pub fn builder(access: Access, names: Names) -> WorkerBuilder {
        WorkerBuilder {
            access,
            names,
            name: "worker".to_owned(),
            sink: None,
            lease: Duration::from_secs(3),
            keep: Some(Duration::from_secs(7 * 24 * 3600)),
            remove_every: None,
            delivery: Delivery::default(),
            max_age: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl WorkerBuilder {
    /// Where the events go: all partitions of this worker share it, each with one request at a time.
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.sink = Some(sink.boxed());
        self
    }

    /// What people know this worker by; something that no other start has is added. `worker` otherwise.
    pub fn name(mut self, name: &str) -> Self {
        self.name = clean(name);
        self
    }

    /// After how long without a word another worker takes over, 3 seconds otherwise. A third of it is how
    /// often each record is written, so a fleet of `n` partitions costs at least `3 n` writes in each
    /// lease. All workers of a fleet need the same.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// For how long delivered events stay in the stream, 7 days otherwise; `None` removes nothing ever. A
    /// device that cannot be reached for longer than that, right after a batch whose answer it did not get,
    /// sends that batch twice.
    pub fn keep(mut self, keep: Option<Duration>) -> Self {
        self.keep = keep;
        self
    }

    /// How often the worker looks whether something may be removed, 5 minutes otherwise.
    pub fn remove_every(mut self, every: Duration) -> Self {
        self.remove_every = Some(every);
        self
    }

    /// How events are delivered, as for a queue: for each partition, so `rate_events` holds for each.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// After how long an event is set aside instead of being sent; never otherwise.
    pub fn max_age(mut self, max_age: Option<Duration>) -> Self {
        self.max_age = max_age;
        self
    }

    /// Where the time comes from; the system's clock otherwise.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Connects and begins to take partitions, on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// [`Error::NoSink`]; [`Error::Settings`]; [`Error::Fleet`] if the servers are not reached or do not
    /// let us in, or there is no such stream.
    ///
    /// # Cancel safety
    /// Dropped, nothing is left.
    pub async fn start(self) -> Result<Worker, Error> {
        let sink = self.sink.ok_or(Error::NoSink)?;
        let settings = Settings {
            delivery: self.delivery,
            max_age: self.max_age,
            ..Settings::default()
        };
        let mut problems = match settings.check() {
            Ok(()) => Vec::new(),
            Err(Error::Settings { problems }) => problems,
            Err(error) => return Err(error),
        };
        let (shortest, longest) = (Duration::from_millis(500), Duration::from_secs(300));
        if self.lease < shortest || self.lease > longest {
            problems.push(format!(
                "`lease` is {:?} and must be from 500ms to 5m",
                self.lease
            ));
        }
        if self.keep.is_some_and(|keep| keep < KEEP_MIN) {
            problems.push("`keep` must be a minute at least".to_owned());
        }
        if !problems.is_empty() {
            return Err(Error::Settings { problems });
        }
        let shown = format!("everpost {}", self.name);
        let line = Line::open(self.access.named(&shown), &beat_subject(&self.names)).await?;
        check_streams(&line, &self.names).await?;
        let id = self.clock.event_id(unix_ms(self.clock.wall())).to_string();
        // The random end of it.
        let mark = id.rsplit('-').next().unwrap_or_default();
        Ok(Worker::begin(Plan {
            me: format!("{}-{mark}", self.name),
            line,
            names: self.names,
            lease: Lease::of(self.lease),
            way: Way {
                sink: Arc::new(sink),
                delivery: settings.delivery.in_effect(),
                max_age: settings.max_age,
                keep: self.keep,
                remove_every: self.remove_every,
            },
            clock: self.clock,
        }))
    }
}

/// Whether the streams are there: a worker without them would wait for ever. One that cannot be asked at
/// present is waited for.
async fn check_streams(line: &Line, names: &Names) -> Result<(), Error> {
    let wire = line.wire();
    for stream in [
        names.stream().to_owned(),
        names.cursor_stream(),
        names.dead_stream(),
    ] {
        let body = serde_json::json!({});
        let asked = wire.api::<serde_json::Value>("INFO", &stream, &body).await;
        if let Ok(Err(Refusal::NoStream)) = asked {
            return Err(fleet(format!(
                "there is no stream {stream}; make it by `everpost fleet setup`"
            )));
        }
    }
    Ok(())
}
