//! What the tests of devices stand on: a stream on real servers, queues that deliver into it, and what
//! the stream holds afterwards.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use everpost::nats::{Envelope, Names, Servers, Spool, Target};
use everpost::{Batch, Event, FlusherState, PauseReason, Queue, Request, Seq, Settings, Status};
use everpost::{EventId, StoredEvent};
use tempfile::TempDir;

use crate::cluster::{Cluster, Setup};

/// No wait of a test is longer, also on a busy machine.
const PATIENT: Duration = Duration::from_secs(120);

/// Servers with a stream, and a home for spools.
pub(crate) struct Ground {
    pub(crate) cluster: Cluster,
    pub(crate) names: Names,
    pub(crate) context: Context,
    pub(crate) home: TempDir,
}

/// An event as it stands in the stream.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) place: Seq,
    pub(crate) id: EventId,
    pub(crate) payload: Bytes,
}

impl Ground {
    /// One server without authentication; `None` where there is no server to be had.
    pub(crate) async fn one() -> Option<Self> {
        Self::with(1, "").await
    }

    pub(crate) async fn with(nodes: usize, config: &str) -> Option<Self> {
        let cluster = Cluster::start(&Setup {
            nodes,
            config: config.to_owned(),
        })?;
        let client = async_nats::connect(addresses(&cluster)).await.unwrap();
        Some(Self::on(cluster, client).await)
    }

    /// With a stream that this client makes.
    pub(crate) async fn on(cluster: Cluster, client: async_nats::Client) -> Self {
        let ground = Self {
            names: Names::new("EVENTS", 4).unwrap(),
            context: jetstream::new(client),
            home: tempfile::tempdir().unwrap(),
            cluster,
        };
        ground.context.create_stream(ground.config()).await.unwrap();
        ground
    }

    /// The stream as a fleet has it.
    pub(crate) fn config(&self) -> Config {
        let partitions = 0..self.names.partitions();
        Config {
            name: self.names.stream().to_owned(),
            subjects: partitions
                .map(|n| self.names.partition_subject(n))
                .collect(),
            num_replicas: self.cluster.len(),
            discard: DiscardPolicy::New,
            allow_direct: true,
            allow_atomic_publish: true,
            deny_delete: true,
            ..Config::default()
        }
    }

    pub(crate) fn target(&self, spool: &str) -> Target {
        let target = Target::parse(&self.cluster.url(), name(spool)).unwrap();
        target.with_names(self.names.clone())
    }

    pub(crate) fn spool(&self, spool: &str) -> PathBuf {
        self.home.path().join(spool)
    }

    /// A queue that delivers the spool of this name.
    pub(crate) async fn open(&self, spool: &str) -> Queue {
        self.open_to(spool, self.target(spool)).await
    }

    pub(crate) async fn open_to(&self, spool: &str, target: Target) -> Queue {
        let builder = Queue::builder(self.spool(spool)).settings(settings());
        builder.sink(target.build().unwrap()).open().await.unwrap()
    }

    /// All that stands in the stream, as its leader has it.
    pub(crate) async fn stored(&self) -> Vec<Stored> {
        let mut stream = self.context.get_stream(self.names.stream()).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut stored = Vec::new();
        for seq in state.first_sequence.max(1)..=state.last_sequence {
            let message = stream.get_raw_message(seq).await.unwrap();
            let header = |name: &str| message.headers.get(name).map(|value| value.as_str());
            let (id, place, _) = Envelope::read_headers(header).unwrap();
            stored.push(Stored {
                subject: message.subject.to_string(),
                place,
                id,
                payload: message.payload.clone(),
            });
        }
        stored
    }

    /// Asserts that the stream holds these events of the spool and no others, each once, in order and
    /// to the byte.
    pub(crate) async fn assert_once(&self, spool: &str, count: u64) {
        let subject = self.names.event_subject(&name(spool));
        let stored = self.stored().await;
        let of_spool: Vec<&Stored> = stored.iter().filter(|s| s.subject == subject).collect();
        let places: Vec<Seq> = of_spool.iter().map(|stored| stored.place).collect();
        assert_eq!(places, (1..=count).collect::<Vec<_>>(), "{spool}");
        for stored in of_spool {
            assert_eq!(&stored.payload, event(spool, stored.place).json_bytes());
        }
    }
}

/// The servers, as the library wants them.
pub(crate) fn addresses(cluster: &Cluster) -> Vec<ServerAddr> {
    let servers: Servers = cluster.url().parse().unwrap();
    let urls = servers.urls();
    urls.iter().map(|url| url.parse().unwrap()).collect()
}

pub(crate) fn name(spool: &str) -> Spool {
    spool.parse().unwrap()
}

/// Event `n` of a spool.
pub(crate) fn event(spool: &str, n: u64) -> Event {
    let text = "x".repeat(usize::try_from(n * 7 % 120).unwrap());
    Event::json(format!(r#"{{"spool":"{spool}", "n":{n},"text":"{text}"}}"#)).unwrap()
}

pub(crate) async fn append(queue: &Queue, spool: &str, numbers: impl IntoIterator<Item = u64>) {
    let events: Vec<Event> = numbers.into_iter().map(|n| event(spool, n)).collect();
    queue.append_all(events).await.unwrap();
}

/// A request without a queue: these events from the place `first` on.
pub(crate) fn request(first: Seq, events: &[Event]) -> Request {
    let stored = (first..).zip(events).map(|(seq, event)| StoredEvent {
        seq,
        event: event.clone(),
    });
    Request::new(Batch::new(stored.collect()).unwrap())
}

/// Short waits; a pause ends by a word or by a change, since its probes are far away.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 512 << 10;
    settings.max_event_bytes = 128 << 10;
    settings.tail_bytes = 512 << 10;
    settings.chunk_bytes = 64 << 10;
    settings.segment_bytes = 1 << 20;
    settings.delivery.backoff_min = Duration::from_millis(50);
    settings.delivery.backoff_max = Duration::from_millis(500);
    settings.delivery.probe_min = Duration::from_secs(3600);
    settings.delivery.probe_max = Duration::from_secs(3600);
    settings
}

/// Waits until the queue is as wanted.
pub(crate) async fn until(queue: &Queue, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut watch = queue.watch();
    match tokio::time::timeout(PATIENT, watch.wait_for(wanted)).await {
        Ok(Some(status)) => status,
        Ok(None) => panic!("the queue ended before: {:?}", queue.status()),
        Err(_) => panic!("not within {PATIENT:?}: {:?}", queue.status()),
    }
}

pub(crate) async fn drained(queue: &Queue) -> Status {
    until(queue, |status| status.pending == 0).await
}

/// Waits until delivery is paused for this reason; gives what is said about it.
pub(crate) async fn paused(queue: &Queue, wanted: PauseReason) -> String {
    let is_paused = |status: &Status| matches!(&status.flusher, FlusherState::Paused { reason, .. } if *reason == wanted);
    let status = until(queue, is_paused).await;
    match status.flusher {
        FlusherState::Paused { last_error, .. } => last_error.detail.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

/// Waits until delivery backs off; gives what it met.
pub(crate) async fn backing_off(queue: &Queue) -> String {
    let is_off = |status: &Status| matches!(status.flusher, FlusherState::BackingOff { .. });
    match until(queue, is_off).await.flusher {
        FlusherState::BackingOff { last_error, .. } => last_error.detail.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

/// Closes it; whatever is pending stays.
pub(crate) async fn close(queue: Queue) {
    queue.close(Duration::from_secs(10)).await.unwrap();
}
