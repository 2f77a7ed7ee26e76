//! What the tests of workers stand on: the three streams of a fleet, spools that publish into it, workers
//! that are processes of their own, and a receiver that keeps what it is given.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::{Client, HeaderMap, jetstream};
use everpost::fleet::{Access, Books, Fleet, Worker, WorkerBuilder};
use everpost::nats::{Envelope, Names, Spool};
use everpost::{Event, EventId, Outcome, Request, Sink};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Cluster, Setup};

/// No wait of a test is longer, also on a busy machine.
const PATIENT: Duration = Duration::from_secs(150);

/// Servers with the streams of a fleet.
pub(crate) struct Field {
    pub(crate) cluster: Cluster,
    pub(crate) names: Names,
    pub(crate) client: Client,
    pub(crate) fleet: Fleet,
}

impl Field {
    /// `None` where there is no server to be had.
    pub(crate) async fn new(nodes: usize, partitions: u16) -> Option<Self> {
        let cluster = Cluster::start(&Setup {
            nodes,
            ..Setup::default()
        })?;
        let names = Names::new("EVENTS", partitions).unwrap();
        let access = Access::new(&cluster.url()).unwrap();
        let client = access.connect().await.unwrap();
        let context = jetstream::new(client.clone());
        let subjects = (0..partitions)
            .map(|n| names.partition_subject(n))
            .collect();
        let plain = Config {
            num_replicas: nodes,
            discard: DiscardPolicy::New,
            allow_direct: true,
            ..Config::default()
        };
        let streams = [
            Config {
                name: names.stream().to_owned(),
                subjects,
                allow_atomic_publish: true,
                deny_delete: true,
                ..plain.clone()
            },
            Config {
                name: names.cursor_stream(),
                subjects: vec![names.cursor_subjects()],
                max_messages_per_subject: 1,
                deny_delete: true,
                deny_purge: true,
                ..plain.clone()
            },
            Config {
                name: names.dead_stream(),
                subjects: vec![names.dead_subjects()],
                ..plain
            },
        ];
        for config in streams {
            context.create_stream(config).await.unwrap();
        }
        let fleet = Fleet::connect(&access, names.clone()).await.unwrap();
        Some(Self {
            cluster,
            names,
            client,
            fleet,
        })
    }

    pub(crate) fn access(&self) -> Access {
        Access::new(&self.cluster.url()).unwrap()
    }

    /// A worker in this process.
    pub(crate) fn worker(&self, sink: Receiver) -> WorkerBuilder {
        let mut delivery = everpost::Delivery::default();
        delivery.batch_events = 10;
        delivery.backoff_min = Duration::from_millis(20);
        delivery.backoff_max = Duration::from_millis(200);
        delivery.probe_min = Duration::from_millis(50);
        delivery.return_delay_max = Duration::ZERO;
        let builder = Worker::builder(self.access(), self.names.clone());
        builder
            .sink(sink)
            .delivery(delivery)
            .lease(Duration::from_secs(2))
    }

    /// Asks the API of JetStream.
    pub(crate) async fn api(&self, what: &str, body: Value) -> Value {
        let subject = format!("$JS.API.STREAM.{what}");
        let answer = self.client.request(subject, body.to_string().into());
        serde_json::from_slice(&answer.await.unwrap().payload).unwrap()
    }

    /// Publishes any message, and gives its place.
    pub(crate) async fn publish(&self, subject: String, headers: HeaderMap, payload: &str) -> u64 {
        let payload = payload.to_owned().into();
        let answer = self.client.request_with_headers(subject, headers, payload);
        let answer: Value = serde_json::from_slice(&answer.await.unwrap().payload).unwrap();
        answer["seq"]
            .as_u64()
            .filter(|_| answer["error"].is_null())
            .unwrap()
    }

    /// Waits until the books are so.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Books) -> bool) -> Books {
        let mut last = None;
        let looking = async {
            let mut every = tokio::time::interval(Duration::from_millis(200));
            loop {
                every.tick().await;
                match self.fleet.books().await {
                    Ok(books) if holds(&books) => return books,
                    Ok(books) => last = Some(format!("{books:?}")),
                    Err(error) => last = Some(error.to_string()),
                }
            }
        };
        match tokio::time::timeout(PATIENT, looking).await {
            Ok(books) => books,
            Err(_) => panic!("{what}: {last:?}"),
        }
    }

    /// Waits until this holds.
    pub(crate) async fn until_told(&self, what: &str, holds: impl Fn() -> bool) {
        let looking = async {
            let mut every = tokio::time::interval(Duration::from_millis(50));
            while !holds() {
                every.tick().await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENT, looking).await.is_ok(),
            "{what}"
        );
    }

    /// Waits until everything is delivered or set aside, and asserts that the books balance.
    pub(crate) async fn until_drained(&self, stored: u64) -> Books {
        let is_drained = |books: &Books| {
            // That does not pass.
            assert!(books.stored <= stored, "more is stored: {books:?}");
            books.stored == stored && books.pending == 0
        };
        let books = self.until("it is not drained", is_drained).await;
        assert!(books.balanced, "{:?}", books.faults);
        books
    }
}

/// A device that publishes one event after the other, each once: after an answer that is none it looks up
/// whether the event is there.
pub(crate) struct Device {
    client: Client,
    subject: String,
    direct: String,
    spool: Spool,
    number: u64,
    last: u64,
    pub(crate) published: u64,
}

impl Device {
    pub(crate) fn new(field: &Field, number: u64) -> Self {
        let spool: Spool = format!("spool-{number}").parse().unwrap();
        let subject = field.names.event_subject(&spool);
        Self {
            client: field.client.clone(),
            direct: format!("$JS.API.DIRECT.GET.{}.{subject}", field.names.stream()),
            subject,
            spool,
            number,
            last: 0,
            published: 0,
        }
    }

    pub(crate) fn partition(&self, names: &Names) -> u16 {
        names.partition(&self.spool)
    }

    /// Publishes its next event, for as long as it takes; gives its place.
    pub(crate) async fn publish(&mut self) -> u64 {
        let seq = self.published + 1;
        let event = event(self.number, seq);
        let mut headers = HeaderMap::new();
        let envelope = Envelope {
            seq,
            event: event.clone(),
        };
        for (name, value) in envelope.headers() {
            headers.insert(name, value);
        }
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            headers.insert("Nats-Expected-Last-Subject-Sequence", self.last.to_string());
            let payload = event.json_bytes().clone();
            let request = async_nats::Request::new()
                .headers(headers.clone())
                .payload(payload);
            let request = request.timeout(Some(Duration::from_secs(2)));
            if let Ok(answer) = self
                .client
                .send_request(self.subject.clone(), request)
                .await
            {
                let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
                if answer["error"].is_null() {
                    self.last = answer["seq"].as_u64().unwrap();
                    break;
                }
            }
            match self.look_up().await {
                Some((found, place)) if found == seq => {
                    self.last = place;
                    break;
                }
                Some((_, place)) => self.last = place,
                None => {}
            }
            every.tick().await;
        }
        self.published = seq;
        self.last
    }

    /// The last event of the spool that is in the stream, and its place; zeros if there is none, as after
    /// a removal. `None` if that is not to be had at present.
    async fn look_up(&self) -> Option<(u64, u64)> {
        let request = async_nats::Request::new().timeout(Some(Duration::from_secs(1)));
        let asked = self.client.send_request(self.direct.clone(), request);
        let found = asked.await.ok()?;
        if found.status.is_some() {
            return (found.status?.as_u16() == 404).then_some((0, 0));
        }
        let headers = found.headers?;
        let header = |name: &str| headers.get(name)?.as_str().parse::<u64>().ok();
        Some((header("Everpost-Seq")?, header("Nats-Sequence")?))
    }
}

/// The id of an event of a device.
pub(crate) fn id(number: u64, seq: u64) -> EventId {
    EventId::from_uuid(Uuid::from_u128(u128::from(number) << 64 | u128::from(seq)))
}

/// Which device it is of, and which event.
pub(crate) fn of_id(id: EventId) -> (u64, u64) {
    let both = id.as_uuid().as_u128();
    (
        u64::try_from(both >> 64).unwrap(),
        u64::try_from(both & u128::from(u64::MAX)).unwrap(),
    )
}

/// Whether a receiver refuses it.
pub(crate) fn is_poison(number: u64, seq: u64) -> bool {
    seq % 37 == number + 5
}

/// Event `seq` of a device, of a size that varies.
pub(crate) fn event(number: u64, seq: u64) -> Event {
    let pad = "x".repeat(usize::try_from(seq * 37 % 400).unwrap());
    let kind = if is_poison(number, seq) {
        "poison"
    } else {
        "text"
    };
    let id = id(number, seq);
    let json = json!({
        "id": id.to_string(),
        "timestamp": seq,
        "content": {"texts": [{"text": format!("{kind} {number} {seq} {pad}")}]}
    });
    Event::json(json.to_string()).unwrap().with_id(id)
}

/// A receiver that keeps the ids that it took.
#[derive(Clone, Default)]
pub(crate) struct Receiver(Arc<Inner>);

#[derive(Default)]
struct Inner {
    taken: Mutex<Vec<EventId>>,
    is_away: AtomicBool,
    takes_all: AtomicBool,
}

impl Receiver {
    /// One that takes nothing until it is to.
    pub(crate) fn away() -> Self {
        let receiver = Self::default();
        receiver.go_away();
        receiver
    }

    pub(crate) fn go_away(&self) {
        self.0.is_away.store(true, Ordering::SeqCst);
    }

    pub(crate) fn come_back(&self) {
        self.0.is_away.store(false, Ordering::SeqCst);
    }

    /// Refuses nothing any more.
    pub(crate) fn take_all(&self) {
        self.0.takes_all.store(true, Ordering::SeqCst);
    }

    pub(crate) fn taken(&self) -> Vec<EventId> {
        self.0.taken.lock().unwrap().clone()
    }
}

impl Sink for Receiver {
    async fn deliver(&self, request: Request) -> Outcome {
        if self.0.is_away.load(Ordering::SeqCst) {
            return Outcome::retry().because("it is away");
        }
        let ids = || request.events().iter().map(|stored| stored.event.id());
        let takes_all = self.0.takes_all.load(Ordering::SeqCst);
        let is_bad = |id: EventId| {
            let (number, seq) = of_id(id);
            is_poison(number, seq) && !takes_all
        };
        if ids().any(is_bad) {
            return Outcome::poison("it is poison");
        }
        self.0.taken.lock().unwrap().extend(ids());
        Outcome::delivered()
    }
}

/// A worker in a process of its own: this test binary, started again. It ends with its stdin.
pub(crate) struct Process {
    child: Child,
    pub(crate) name: String,
}

impl Process {
    pub(crate) fn start(field: &Field, url: &str, key: &str, lease: Duration) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "workers::the_worker", "--nocapture"])
            .env("FLEET_WORKER", field.cluster.url())
            .env("FLEET_PARTITIONS", field.names.partitions().to_string())
            .env("FLEET_URL", url)
            .env("FLEET_KEY", key)
            .env("FLEET_LEASE_MS", lease.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let name = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("WORKS ").map(str::to_owned));
        // So that it is never kept from printing.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self {
            child,
            name: name.unwrap(),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let mut command = Command::new("kill");
        let status = command.args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Has it give everything up and end.
    pub(crate) fn close(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `workers::the_worker` does where it is started for it.
pub(crate) async fn work() {
    let Ok(servers) = std::env::var("FLEET_WORKER") else {
        return;
    };
    let env = |name: &str| std::env::var(name).unwrap();
    let key = everpost::botanalytics::KeySource::value(env("FLEET_KEY"));
    let sink = everpost::botanalytics::Botanalytics::builder(key);
    let sink = sink.base_url(env("FLEET_URL")).build().unwrap();
    let mut delivery = everpost::Delivery::default();
    delivery.batch_events = BATCH;
    delivery.batch_events_max = BATCH;
    delivery.backoff_min = Duration::from_millis(20);
    delivery.backoff_max = Duration::from_millis(500);
    delivery.return_delay_max = Duration::ZERO;
    let names = Names::new("EVENTS", env("FLEET_PARTITIONS").parse().unwrap()).unwrap();
    let lease = Duration::from_millis(env("FLEET_LEASE_MS").parse().unwrap());
    let access = Access::new(&servers)
        .unwrap()
        .patience(Duration::from_secs(60));
    let worker = Worker::builder(access, names).sink(sink).delivery(delivery);
    let worker = worker.lease(lease).name("storm").start().await.unwrap();
    println!("\nWORKS {}", worker.name());
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await.unwrap().unwrap();
    worker.close(Duration::from_secs(10)).await.unwrap();
}

/// Events in a request of a worker in a process.
pub(crate) const BATCH: u32 = 20;

/// Asserts that of each device every event that is no poison was taken, the first time in order, and none
/// that is. Gives how many came again.
pub(crate) fn check_order(taken: &[EventId], devices: &[Device]) -> u64 {
    let published = devices
        .iter()
        .map(|device| (device.number, device.published));
    check_each(taken, published)
}

/// As [`check_order`], of the devices with these numbers, which published so many each.
pub(crate) fn check_each(taken: &[EventId], devices: impl IntoIterator<Item = (u64, u64)>) -> u64 {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let mut repeats = 0;
    for id in taken {
        let (number, seq) = of_id(*id);
        assert!(!is_poison(number, seq), "{number} {seq} was taken");
        let highest = next.entry(number).or_default();
        if seq <= *highest {
            repeats += 1;
            continue;
        }
        let between = (*highest + 1..seq).find(|seq| !is_poison(number, *seq));
        assert_eq!(between, None, "of {number}, {seq} came before it");
        *highest = seq;
    }
    for (number, published) in devices {
        let highest = next.get(&number).copied().unwrap_or(0);
        let left = (highest + 1..=published).find(|seq| !is_poison(number, *seq));
        assert_eq!(left, None, "of {number} it never came");
    }
    repeats
}
