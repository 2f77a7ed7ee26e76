//! The storm: spools deliver into a stream and workers carry its events on, while workers and nodes die,
//! freeze and come back, and the receiver fails in ways of its own.
//!
//! `FLEET_SECONDS` says how long it lasts (25 otherwise), `FLEET_SEED` from which seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use everpost::nats::{Spool, Target};
use everpost::sandbox::{Fault, Sandbox};
use everpost::{EventId, Queue};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::LEASE;
use crate::field::{BATCH, Field, Process, check_each, event, id, is_poison};
use crate::ground::{close, drained, settings};

const SPOOLS: u64 = 4;

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().unwrap())
}

/// xorshift64*: what happens follows from one printed seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n
    }
}

/// A spool of the fleet, and its queue.
async fn open(field: &Field, home: &TempDir, number: u64) -> Queue {
    let spool: Spool = format!("spool-{number}").parse().unwrap();
    let dir = home.path().join(spool.to_string());
    let target = Target::parse(&field.cluster.url(), spool).unwrap();
    let sink = target.with_names(field.names.clone()).build().unwrap();
    let builder = Queue::builder(dir).settings(settings());
    builder.sink(sink).open().await.unwrap()
}

/// Appends until it is told to stop, with pauses so that the storm has something to hit all the time, and
/// has all of it delivered. Gives the number of the spool and how many events were acknowledged.
async fn append(queue: Queue, number: u64, stop: watch::Receiver<bool>) -> (u64, u64) {
    let mut every = tokio::time::interval(Duration::from_millis(50));
    let mut acknowledged = 0;
    while !*stop.borrow() {
        every.tick().await;
        let through = acknowledged + 1 + acknowledged % 7;
        let lot = (acknowledged + 1..=through).map(|seq| event(number, seq));
        queue.append_all(lot.collect::<Vec<_>>()).await.unwrap();
        acknowledged = through;
    }
    let status = drained(&queue).await;
    assert_eq!(status.ledger.delivered, acknowledged, "{status:?}");
    close(queue).await;
    (number, acknowledged)
}

/// What the storm did.
#[derive(Debug, Default)]
struct Blows {
    workers: u64,
    freezes: u64,
    nodes: u64,
    /// Batches that the receiver took without saying so.
    unsaid: u64,
}

struct Storm {
    field: Field,
    sandbox: Sandbox,
    workers: Vec<Process>,
    dice: Dice,
    blows: Blows,
}

impl Storm {
    fn start_worker(&mut self) {
        let (url, key) = (
            self.sandbox.base_url().to_owned(),
            self.sandbox.key().to_owned(),
        );
        let worker = Process::start(&self.field, &url, &key, LEASE);
        self.workers.push(worker);
    }

    /// The receiver has troubles of its own.
    fn trouble(&mut self) {
        let slow = Duration::from_millis(100 + self.dice.below(400));
        self.sandbox.script([
            Fault::status(503),
            Fault::None,
            Fault::Delay(slow),
            Fault::ResetAfter,
            Fault::None,
            Fault::AcceptThenReset,
        ]);
        self.blows.unsaid += 1;
    }

    /// One blow, and a while in which it takes effect.
    async fn blow(&mut self) {
        let at = usize::try_from(self.dice.below(self.workers.len() as u64)).unwrap();
        match self.dice.below(5) {
            0 | 1 => {
                self.workers.remove(at).kill();
                self.blows.workers += 1;
                self.wait(200, 1500).await;
                self.start_worker();
            }
            2 | 3 => {
                self.workers[at].freeze();
                self.blows.freezes += 1;
                // Long enough for another worker to take over.
                self.wait(3000, 3500).await;
                self.workers[at].thaw();
            }
            _ => {
                let streams = [
                    self.field.names.stream().to_owned(),
                    self.field.names.cursor_stream(),
                ];
                let stream = &streams[usize::try_from(self.dice.below(2)).unwrap()];
                let node = self.field.cluster.wait_leader(stream);
                self.field.cluster.node(node).kill();
                self.blows.nodes += 1;
                self.wait(1000, 3000).await;
                self.field.cluster.node(node).start();
                self.field.cluster.wait_ready();
            }
        }
        self.wait(300, 1500).await;
    }

    async fn wait(&mut self, least_ms: u64, most_ms: u64) {
        let wait = Duration::from_millis(least_ms + self.dice.below(most_ms - least_ms));
        // A time that passes is what this is about.
        let _ = tokio::time::timeout(wait, std::future::pending::<()>()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_and_nodes_that_die_and_freeze_lose_nothing_and_keep_the_order_of_each_spool() {
    let (seconds, seed) = (
        number("FLEET_SECONDS", 25),
        number("FLEET_SEED", 20_261_127),
    );
    println!("\nFLEET_SEED={seed} FLEET_SECONDS={seconds}");
    let Some(field) = Field::new(3, 4).await else {
        return;
    };
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.reject_when(|message| {
        let text = message.to_string();
        text.contains("poison").then(|| "it is poison".to_owned())
    });
    let home = tempfile::tempdir().unwrap();
    let (stop, stopped) = watch::channel(false);
    let mut spools = JoinSet::new();
    for number in 0..SPOOLS {
        let queue = open(&field, &home, number).await;
        spools.spawn(append(queue, number, stopped.clone()));
    }
    let mut storm = Storm {
        field,
        sandbox,
        workers: Vec::new(),
        dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        blows: Blows::default(),
    };
    for _ in 0..3 {
        storm.start_worker();
    }
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        storm.trouble();
        storm.blow().await;
        println!("PROGRESS {:?} {:?}", began.elapsed(), storm.blows);
        // One that has failed is told at once.
        if let Some(ended) = spools.try_join_next() {
            panic!("a spool has ended: {ended:?}");
        }
    }
    stop.send_replace(true);
    check(storm, &spools.join_all().await).await;
}

/// Of each spool, every acknowledged event was accepted in order or is a letter, and both once.
async fn check(mut storm: Storm, acknowledged: &[(u64, u64)]) {
    let stored: u64 = acknowledged.iter().map(|(_, count)| count).sum();
    let books = storm.field.until_drained(stored).await;
    let taken = storm.sandbox.accepted();
    let taken: Vec<EventId> = taken
        .iter()
        .map(|taken| taken.id().unwrap().parse().unwrap())
        .collect();
    let repeats = check_each(&taken, acknowledged.iter().copied());
    check_repeats(&storm.sandbox);
    let Blows {
        workers,
        freezes,
        nodes,
        unsaid,
    } = storm.blows;
    // A blow ends what is under way in each partition, and that may come again.
    let under_way = (workers + freezes + nodes) * u64::from(storm.field.names.partitions());
    let most = (under_way + unsaid) * u64::from(BATCH);
    assert!(
        repeats <= most,
        "{repeats} came again after {:?}",
        storm.blows
    );
    let dead = letters(&storm.field, acknowledged).await;
    assert_eq!((books.lost, books.expired, books.dead), (0, 0, dead));
    for worker in &mut storm.workers {
        worker.close();
    }
    println!(
        "\nPROVED kills={workers} freezes={freezes} nodes={nodes} events={stored} dead={dead} lost=0 \
         reordered=0 duplicates={repeats}"
    );
}

/// Asserts that what was accepted again came as it had come before: the same events under the same
/// `Idempotency-Key`, whichever worker sent them.
fn check_repeats(sandbox: &Sandbox) {
    let keys: HashMap<u64, String> = sandbox
        .requests()
        .iter()
        .filter_map(|request| Some((request.number, request.idempotency_key()?.to_owned())))
        .collect();
    let mut batches: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for event in sandbox.accepted() {
        let ids = batches.entry(event.request()).or_default();
        ids.push(event.id().unwrap().to_owned());
    }
    let mut seen: HashMap<&str, &Vec<String>> = HashMap::new();
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    for (request, batch) in &batches {
        let key = keys[request].as_str();
        match seen.get(key) {
            Some(before) => assert_eq!(*before, batch, "request {request} under {key}"),
            None => {
                for id in batch {
                    assert!(
                        ids.insert(id),
                        "request {request}: {id} came under another key"
                    );
                }
                seen.insert(key, batch);
            }
        }
    }
}

/// Asserts that every event that is refused is a letter, once, and nothing else is; gives how many.
async fn letters(field: &Field, acknowledged: &[(u64, u64)]) -> u64 {
    let mut poison = BTreeSet::new();
    for (number, count) in acknowledged {
        let refused = (1..=*count).filter(|seq| is_poison(*number, *seq));
        poison.extend(refused.map(|seq| id(*number, seq)));
    }
    let mut letters = field.fleet.letters().list(..);
    let mut dead = Vec::new();
    while let Some(letter) = letters.next().await.unwrap() {
        assert!(
            letter.spool.is_some() && letter.letter.attempts > 0,
            "{letter:?}"
        );
        dead.push(letter.letter.event.id());
    }
    assert_eq!(dead.len(), poison.len(), "each once");
    assert_eq!(dead.into_iter().collect::<BTreeSet<_>>(), poison);
    poison.len() as u64
}
