//! A [`tracing`] layer whose events go into a queue (feature `layer`).
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! use std::time::Duration;
//!
//! use everpost::blocking::Queue;
//! use everpost::layer::EverpostLayer;
//! use tracing_subscriber::prelude::*;
//!
//! let queue = Queue::open(&spool)?;
//! let layer = EverpostLayer::new(queue.as_async());
//! let log = layer.handle();
//! let subscriber = tracing_subscriber::registry().with(layer);
//!
//! # tracing::subscriber::with_default(subscriber, || {
//! // In a program: subscriber.init();
//! let before = std::panic::take_hook();
//! std::panic::set_hook(Box::new({
//!     let log = log.clone();
//!     move |panic| {
//!         before(panic);
//!         tracing::error!(%panic, "the program panicked");
//!         log.flush(Duration::from_secs(1));
//!     }
//! }));
//!
//! tracing::info!(items = 3, "an order came in");
//! # });
//! # let _ = std::panic::take_hook();
//! assert!(log.flush(Duration::from_secs(10)));
//! assert_eq!(log.counts().appended, 1);
//! queue.close(Duration::ZERO)?;
//! # Ok(()) }
//! ```
//!
//! # What is safe, and when
//! Logging never waits for the disk. An event is left with the thread of the log, as by
//! [`Queue::try_append`], in order with all other appends, and is safe once that thread has
//! committed it: then it counts as
//! [`appended`](Counts::appended), and it is as safe as the queue's
//! [`Durability`](crate::Durability) says. That usually takes milliseconds.
//! [`LayerHandle::flush`] waits for it. A panic that unwinds does not stop that thread, so an
//! event logged before one is kept unless the process ends at once; a panic hook that flushes, as
//! above, closes that gap also where a panic aborts. SIGKILL and a power cut take what was still
//! under way.
//!
//! # When there is no room
//! What is under way is bounded by the `intake_bytes` of the settings. An event that does not fit
//! there, or that the queue refuses, is given up and counted as [`refused`](Counts::refused):
//! `emitted = appended + refused + waiting`. At the first refusal, and whenever the count has
//! doubled, a WARN says so, to the other layers.
//!
//! # What it does not hear
//! Itself and what is below it, since each delivery would otherwise make events to deliver:
//! whatever is logged on the queue's own threads, in the sink, or in the formatter, of this or any
//! other queue in the process; and the targets in [`UNHEARD`] wherever they log, because HTTP
//! connections live in tasks of their own. A sink that logs in tasks it spawns needs
//! [`EverpostLayer::unheard`].

mod record;
mod tally;
mod under_way;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::error::Error;
use crate::event::Event;
use crate::observe::Place;
use crate::queue::Queue;

pub use record::{Fields, Record, Span, Value};
pub use tally::Counts;

use tally::{Tally, Ticket};
use under_way::UnderWay;

/// Targets that are never heard, with everything below them: everpost and what it is built on.
pub const UNHEARD: [&str; 15] = [
    "everpost",
    "h2",
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "mio",
    "native_tls",
    "reqwest",
    "rustls",
    "sled",
    "tokio",
    "tokio_rustls",
    "tokio_util",
    "tower",
    "want",
];

type Filter = Box<dyn Fn(&Metadata<'_>) -> bool + Send + Sync>;
type Format = Box<dyn Fn(&Record<'_>) -> Result<Event, Error> + Send + Sync>;

/// Appends what the program logs to a [`Queue`]; see the [module](self).
///
/// It holds a clone of the queue: while the subscriber lives, close the queue to end it.
pub struct EverpostLayer {
    queue: Queue,
    max_level: LevelFilter,
    unheard: Vec<String>,
    filter: Option<Filter>,
    format: Format,
    tally: Arc<Tally>,
}

impl EverpostLayer {
    /// A layer that appends events of level INFO and above, each as one JSON object (see
    /// [`Record`]), to this queue.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        Self {
            queue: queue.clone(),
            max_level: LevelFilter::INFO,
            unheard: UNHEARD.map(str::to_owned).to_vec(),
            filter: None,
            format: Box::new(|record| Event::from_serialize(record)),
            tally: Arc::new(Tally::new(queue.place().clone())),
        }
    }

    /// Hears events up to this level; INFO otherwise. Only this layer is concerned.
    #[must_use]
    pub fn max_level(mut self, level: LevelFilter) -> Self {
        self.max_level = level;
        self
    }

    /// Hears only the events for which this says yes. It is asked for each event and should be
    /// quick.
    #[must_use]
    pub fn filter(mut self, wants: impl Fn(&Metadata<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Box::new(wants));
        self
    }

    /// Does not hear these targets and what is below them, besides [`UNHEARD`].
    #[must_use]
    pub fn unheard<T: Into<String>>(mut self, targets: impl IntoIterator<Item = T>) -> Self {
        self.unheard.extend(targets.into_iter().map(Into::into));
        self
    }

    /// Makes the queue's event from what was logged; an error counts as a refusal. For the
    /// Botanalytics channel `universal`, build a
    /// [`Message`](crate::botanalytics::message::Message) here.
    #[must_use]
    pub fn format(
        mut self,
        format: impl Fn(&Record<'_>) -> Result<Event, Error> + Send + Sync + 'static,
    ) -> Self {
        self.format = Box::new(format);
        self
    }

    /// Reaches the layer once the subscriber has it.
    #[must_use]
    pub fn handle(&self) -> LayerHandle {
        LayerHandle {
            tally: Arc::clone(&self.tally),
        }
    }

    fn hears(&self, target: &str) -> bool {
        !self.unheard.iter().any(|unheard| {
            target
                .strip_prefix(unheard.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.max_level
            && self.hears(metadata.target())
            && self.filter.as_ref().is_none_or(|wants| wants(metadata))
    }

    fn take<S>(&self, event: &tracing::Event<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields.take_text("message").unwrap_or_default();
        // An event of the `log` crate has its target in a field.
        let log_target = fields.take_log_target();
        let target = log_target
            .as_deref()
            .unwrap_or_else(|| event.metadata().target());
        if !self.hears(target) {
            return;
        }
        let spans = spans(event, context);
        let record = Record {
            level: *event.metadata().level(),
            target,
            message: &message,
            fields: &fields,
            spans: &spans,
        };
        self.append(&record);
    }

    fn append(&self, record: &Record<'_>) {
        let ticket = Ticket::new(&self.tally);
        match (self.format)(record) {
            Ok(event) => match self.queue.try_append(event) {
                Ok(pending) => UnderWay::begin(pending, ticket),
                Err(error) => ticket.settle::<()>(Err(error)),
            },
            Err(error) => ticket.refuse(&error),
        }
    }
}

impl fmt::Debug for EverpostLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EverpostLayer")
            .field("queue", &self.queue)
            .field("max_level", &self.max_level)
            .field("unheard", &self.unheard)
            .field("counts", &self.tally.counts())
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for EverpostLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        if !self.hears(attributes.metadata().target()) {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            // Another layer like this one may have put the same there.
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        // Read before the lock is taken: a value that logs when it is printed comes back here.
        let mut newer = Fields::default();
        values.record(&mut newer);
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            fields.merge(newer);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if !Place::is_inside() && self.wants(event.metadata()) {
            let place = self.queue.place();
            place.enter(|| self.take(event, &context));
        }
    }
}

fn spans<S>(event: &tracing::Event<'_>, context: &Context<'_, S>) -> Vec<Span>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let scope = context.event_scope(event).into_iter();
    let spans = scope.flat_map(tracing_subscriber::registry::Scope::from_root);
    spans
        .filter_map(|span| {
            let fields = span.extensions().get::<Fields>()?.clone();
            let name = span.name();
            Some(Span { name, fields })
        })
        .collect()
}

/// Reaches an [`EverpostLayer`] that a subscriber has taken. Cloning is cheap; it keeps neither
/// the layer nor the queue.
#[derive(Clone)]
pub struct LayerHandle {
    tally: Arc<Tally>,
}

impl LayerHandle {
    /// What became of the events so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Blocks the thread until nothing that was logged before this call is under way any more:
    /// it is appended or refused. False if the time was over first.
    ///
    /// In a sink, a formatter or on a thread of the queue it does not wait, since what it waits
    /// for may be waiting for it; it says how things are.
    pub fn flush(&self, timeout: Duration) -> bool {
        let timeout = if Place::is_inside() {
            Duration::ZERO
        } else {
            timeout
        };
        self.tally.wait(timeout)
    }
}

impl fmt::Debug for LayerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerHandle")
            .field("counts", &self.counts())
            .finish()
    }
}
