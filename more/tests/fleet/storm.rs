//! The storm: spools deliver into a stream of three servers while leaders die and connections are cut.
//!
//! `FLEET_EVENTS`, `FLEET_KILLS` and `FLEET_CUTS` say how much of it, `FLEET_SEED` which one.

use std::ops::Range;
use std::str::FromStr;

use everpost::Queue;
use everpost::nats::Target;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::cluster::Proxy;
use crate::ground::{Ground, Stored, append, close, drained, event, name, until};

const SPOOLS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// Events that may wait in a spool before more are appended.
const WAITING_MAX: u64 = 150;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Cut,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_in_the_stream_once_and_in_order() {
    let events: u64 = setting("FLEET_EVENTS").unwrap_or(4_000);
    let kills: usize = setting("FLEET_KILLS").unwrap_or(6);
    let cuts: usize = setting("FLEET_CUTS").unwrap_or(10);
    let seed: u64 = setting("FLEET_SEED").unwrap_or(20_261_127);
    println!("FLEET_SEED={seed}");
    let Some(mut ground) = Ground::with(3, "").await else {
        return;
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let each = events / SPOOLS.len() as u64;
    let nodes: Vec<String> = (0..3).map(|n| ground.cluster.node(n).address()).collect();
    let proxies: Vec<Proxy> = nodes.iter().map(|node| Proxy::new(node)).collect();
    let through: Vec<String> = proxies.iter().map(Proxy::address).collect();
    let through = format!("nats://{}", through.join(","));

    let progress = watch::Sender::new(0);
    let mut writers = JoinSet::new();
    for spool in SPOOLS {
        let target = Target::parse(&through, name(spool)).unwrap();
        let target = target.with_names(ground.names.clone());
        let queue = ground.open_to(spool, target).await;
        let rng = StdRng::seed_from_u64(rng.r#gen());
        writers.spawn(write(queue, spool, each, rng, progress.clone()));
    }
    let faults = faults(&mut rng, kills, cuts, 0..each * SPOOLS.len() as u64);
    for (at, fault) in faults {
        reaches(&progress, at, &mut writers).await;
        match fault {
            Fault::Cut => proxies.iter().for_each(Proxy::cut),
            Fault::Kill => block_in_place(|| {
                let leader = ground.cluster.wait_leader(ground.names.stream());
                ground.cluster.node(leader).kill();
                ground.cluster.wait_leader(ground.names.stream());
                ground.cluster.node(leader).start();
                ground.cluster.wait_ready();
            }),
        }
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    block_in_place(|| ground.cluster.wait_leader(ground.names.stream()));
    let stored = ground.stored().await;
    let mut read = 0;
    for spool in SPOOLS {
        read += assert_once(&ground, &stored, spool, each);
    }
    assert_eq!(read, stored.len(), "nothing else is in the stream");
    println!(
        "PROVED kills={kills} cuts={cuts} acknowledged={read} lost=0 duplicates=0 reordered=0"
    );
}

/// Waits until so many events are delivered.
async fn reaches(progress: &watch::Sender<u64>, count: u64, writers: &mut JoinSet<()>) {
    let mut done = progress.subscribe();
    loop {
        tokio::select! {
            reached = done.wait_for(|done| *done >= count) => {
                reached.unwrap();
                return;
            }
            // One that has failed is told at once.
            Some(written) = writers.join_next() => written.unwrap(),
        }
    }
}

/// Appends events in lots of any size, as far as they are delivered, and waits until all are.
async fn write(
    queue: Queue,
    spool: &'static str,
    count: u64,
    mut rng: StdRng,
    progress: watch::Sender<u64>,
) {
    let (mut appended, mut told) = (0, 0);
    while appended < count {
        let lot = rng.gen_range(1..=60).min(count - appended);
        append(&queue, spool, appended + 1..=appended + lot).await;
        appended += lot;
        let most = rng.gen_range(0..=WAITING_MAX);
        let status = until(&queue, |status| status.pending <= most).await;
        let delivered = status.ledger.delivered;
        progress.send_modify(|total| *total += delivered - told);
        told = delivered;
    }
    let status = drained(&queue).await;
    progress.send_modify(|total| *total += status.ledger.delivered - told);
    assert_eq!(status.ledger.delivered, count, "{spool}: {status:?}");
    close(queue).await;
}

/// When which fault comes: after so many events.
fn faults(rng: &mut StdRng, kills: usize, cuts: usize, events: Range<u64>) -> Vec<(u64, Fault)> {
    let kinds = [(kills, Fault::Kill), (cuts, Fault::Cut)];
    let all = kinds
        .iter()
        .flat_map(|(count, fault)| std::iter::repeat_n(*fault, *count));
    let mut faults: Vec<(u64, Fault)> = all
        .map(|fault| (rng.gen_range(events.clone()), fault))
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// Asserts that the events of a spool are there once, in order and to the byte; gives their number.
fn assert_once(ground: &Ground, stored: &[Stored], spool: &str, count: u64) -> usize {
    let subject = ground.names.event_subject(&name(spool));
    let of_spool = stored.iter().filter(|stored| stored.subject == subject);
    let of_spool: Vec<&Stored> = of_spool.collect();
    let places: Vec<u64> = of_spool.iter().map(|stored| stored.place).collect();
    assert_eq!(places, (1..=count).collect::<Vec<_>>(), "{spool}");
    for stored in &of_spool {
        assert_eq!(&stored.payload, event(spool, stored.place).json_bytes());
    }
    of_spool.len()
}
