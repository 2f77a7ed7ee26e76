//! How fast a fleet is: from many spools into a stream of three servers, and out of it through workers.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use everpost::fleet::{Client, Fleet, Worker};
use everpost::nats::{Names, Spool, Target};
use everpost::{Durability, Queue};
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::client::{self, BATCH_EVENTS, Bare};
use crate::cluster::Cluster;
use crate::events::{self, Size};
use crate::place;
use crate::process::stolen_seconds;
use crate::receiver::Receiver;
use crate::stats::Samples;
use crate::systems::settings;

const CASE: &str = "fleet";

const SPOOLS: usize = 16;

const WORKERS: usize = 4;

/// Publishes of one publisher that wait for their answer.
const UNDER_WAY: usize = 256;

/// What stands where, for one run.
struct Trial {
    cluster: Cluster,
    receiver: Receiver,
    pool: Vec<Bytes>,
    /// Events of each spool.
    each: usize,
}

/// The rates of all rounds, in events a second.
#[derive(Default)]
struct Rates {
    into: Samples,
    plain: Samples,
    out: Samples,
    pulled: Samples,
    stolen: Samples,
}

/// Sends backlogs through the servers, and the same events without spools and workers.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let each = bench.args.pick(500, 5_000);
    let backlog = bench.backlog(each)?;
    let files = bench.place.fresh()?;
    let trial = Trial {
        cluster: Cluster::start(files.path())?,
        receiver: Receiver::start(Duration::ZERO)?,
        pool: events::pool(Size::Chat, 4096),
        each,
    };
    let mut rates = Rates::default();
    for round in 1..=bench.args.rounds() {
        eprintln!("{CASE}: round {round} of {}", bench.args.rounds());
        let scratch = bench.place.fresh()?;
        for n in 0..SPOOLS {
            place::copy(&backlog, &scratch.path().join(spool(n)))?;
        }
        rustix::fs::sync();
        let (began, before) = (Instant::now(), stolen_seconds()?);
        let measured = trial.round(round, scratch.path(), &mut rates);
        bench.runtime.block_on(measured)?;
        let stolen = stolen_seconds()? - before;
        rates
            .stolen
            .add(1e3 * stolen / began.elapsed().as_secs_f64());
    }
    tell(bench, &trial, &rates);
    Ok(())
}

fn spool(n: usize) -> String {
    format!("spool-{n}")
}

impl Trial {
    fn events(&self) -> usize {
        SPOOLS * self.each
    }

    /// Each way in and each way out, once.
    async fn round(&self, round: usize, spools: &Path, rates: &mut Rates) -> Result<()> {
        let names = Names::new(&format!("ROUND{round}"), Names::PARTITIONS)?;
        let client = self.cluster.streams(&names).await?;
        rates.into.add(self.deliver(&names, spools).await?);
        rates.out.add(self.work(&names).await?);
        rates.pulled.add(self.pull(&names, &client).await?);
        remove(&client, &names).await?;
        let names = Names::new(&format!("PLAIN{round}"), Names::PARTITIONS)?;
        let client = self.cluster.streams(&names).await?;
        rates.plain.add(self.publish(&names).await?);
        remove(&client, &names).await
    }

    /// Delivers the spools into the stream, all at once, from before they are opened until nothing is
    /// pending.
    async fn deliver(&self, names: &Names, spools: &Path) -> Result<f64> {
        let mut draining = JoinSet::new();
        let begin = Instant::now();
        for n in 0..SPOOLS {
            let target = Target::parse(self.cluster.url(), spool(n).parse()?)?;
            let sink = target.with_names(names.clone()).build()?;
            let builder = Queue::builder(spools.join(spool(n)))
                .settings(settings(Durability::Synced))
                .sink(sink);
            draining.spawn(async move {
                let queue = builder.open().await?;
                let mut watch = queue.watch();
                let drained = watch.wait_for(|status| status.pending == 0).await;
                drained.context("the queue ended")?;
                anyhow::Ok(queue)
            });
        }
        let queues = all(draining).await?;
        let took = begin.elapsed();
        for queue in queues {
            queue.close(Duration::ZERO).await?;
        }
        Ok(self.events() as f64 / took.as_secs_f64())
    }

    /// Publishes the same events under the same subjects, a publisher with a connection for each spool,
    /// many publishes under way: each is in the stream at least once, in order unless one fails.
    async fn publish(&self, names: &Names) -> Result<f64> {
        let mut publishing = JoinSet::new();
        let begin = Instant::now();
        for n in 0..SPOOLS {
            let subject = names.event_subject(&spool(n).parse::<Spool>()?);
            let access = self.cluster.access()?;
            let events: Vec<Bytes> = self.turn().collect();
            publishing.spawn(async move {
                let context = jetstream::new(access.connect().await?);
                let mut under_way = VecDeque::with_capacity(UNDER_WAY);
                for event in events {
                    if under_way.len() == UNDER_WAY
                        && let Some(oldest) = under_way.pop_front()
                    {
                        oldest.await?;
                    }
                    under_way.push_back(context.publish(subject.clone(), event).await?);
                }
                for answer in under_way {
                    answer.await?;
                }
                anyhow::Ok(())
            });
        }
        all(publishing).await?;
        Ok(self.events() as f64 / begin.elapsed().as_secs_f64())
    }

    fn turn(&self) -> impl Iterator<Item = Bytes> {
        self.pool.iter().cycle().take(self.each).cloned()
    }

    /// Has workers share the stream and deliver all of it.
    async fn work(&self, names: &Names) -> Result<f64> {
        self.receiver.receipts().await?;
        let fleet = Fleet::connect(&self.cluster.access()?, names.clone()).await?;
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            let sink = client::sink(&self.receiver.base_url())?;
            let worker = Worker::builder(self.cluster.access()?, names.clone()).sink(sink);
            workers.push(worker.start().await?);
        }
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let books = fleet.books().await?;
            if books.pending == 0 && books.delivered == self.events() as u64 {
                break;
            }
        }
        for worker in workers {
            worker.close(Duration::from_secs(10)).await?;
        }
        self.rate_out().await
    }

    /// Events in a second between the first batch that the receiver had and the last.
    async fn rate_out(&self) -> Result<f64> {
        let times = self.receiver.receipts().await?;
        let (first, last) = (times.first(), times.last());
        let (first, last) = first.zip(last).context("nothing came")?;
        ensure!(times.len() > 1, "it came at once");
        // Those of the first batch came before the time began.
        let events = self.events() as f64 * (times.len() - 1) as f64 / times.len() as f64;
        Ok(events / Duration::from_nanos(last - first).as_secs_f64())
    }

    /// Has as many loops share a pull consumer, post what they fetch and acknowledge each message: at
    /// least once, and in no order.
    async fn pull(&self, names: &Names, client: &Client) -> Result<f64> {
        self.receiver.receipts().await?;
        let stream = jetstream::new(client.clone())
            .get_stream(names.stream())
            .await?;
        let config = pull::Config {
            durable_name: Some("peers".to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: 20_000,
            ..pull::Config::default()
        };
        stream.create_consumer(config).await?;
        let mut pulling = JoinSet::new();
        for _ in 0..WORKERS {
            let access = self.cluster.access()?;
            let (stream, bare) = (
                names.stream().to_owned(),
                Bare::new(&self.receiver.base_url())?,
            );
            pulling.spawn(async move {
                let context = jetstream::new(access.connect().await?);
                let consumer: jetstream::consumer::PullConsumer =
                    context.get_consumer_from_stream("peers", stream).await?;
                pull_all(&consumer, &bare).await
            });
        }
        let pulled: usize = all(pulling).await?.into_iter().sum();
        ensure!(pulled >= self.events(), "{pulled} events came out");
        self.rate_out().await
    }
}

/// Fetches, posts and acknowledges until nothing more comes; gives how many.
async fn pull_all(consumer: &jetstream::consumer::PullConsumer, bare: &Bare) -> Result<usize> {
    let mut pulled = 0;
    loop {
        let fetching = consumer
            .batch()
            .max_messages(BATCH_EVENTS)
            .expires(Duration::from_secs(1));
        let mut messages = fetching.messages().await?;
        let mut batch = Vec::with_capacity(BATCH_EVENTS);
        while let Some(message) = messages.next().await {
            batch.push(message.map_err(|error| anyhow!(error))?);
        }
        if batch.is_empty() {
            return Ok(pulled);
        }
        let events: Vec<Bytes> = batch
            .iter()
            .map(|message| message.payload.clone())
            .collect();
        bare.post(&events).await?;
        for message in &batch {
            message
                .ack_with(AckKind::Ack)
                .await
                .map_err(|error| anyhow!(error))?;
        }
        pulled += batch.len();
    }
}

/// Removes the streams of a round, so that the next begins with as little on the disk.
async fn remove(client: &Client, names: &Names) -> Result<()> {
    let context = jetstream::new(client.clone());
    for name in [
        names.stream().to_owned(),
        names.cursor_stream(),
        names.dead_stream(),
    ] {
        context.delete_stream(name).await?;
    }
    Ok(())
}

/// What all tasks give.
async fn all<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut given = Vec::new();
    while let Some(one) = tasks.join_next().await {
        given.push(one??);
    }
    Ok(given)
}

fn tell(bench: &mut Bench, trial: &Trial, rates: &Rates) {
    let report = &mut bench.report;
    let what = format!(
        "{} events from {SPOOLS} spools, opening included; each in the stream once and in order",
        trial.events()
    );
    report.row(CASE, "everpost, in", &what, &rates.into, "events/s");
    let what = format!(
        "the same events, {SPOOLS} publishers with {UNDER_WAY} publishes under way each; at least once"
    );
    report.row(CASE, "plain publishes, in", &what, &rates.plain, "events/s");
    let what = format!(
        "{WORKERS} workers, from the first batch at the receiver to the last; in order, and only the batch under way may come twice"
    );
    report.row(CASE, "everpost, out", &what, &rates.out, "events/s");
    let what = format!(
        "{WORKERS} loops that fetch {BATCH_EVENTS}, post them as they are and acknowledge each; at least once, in no order"
    );
    report.row(CASE, "pull consumer, out", &what, &rates.pulled, "events/s");
    let what = "of the two processors, in a second of each round";
    report.row(
        CASE,
        "processor time taken away",
        what,
        &rates.stolen,
        "ms/s",
    );
    let note = format!(
        "Exactly once and in order reaches {:.2} of plain publishes on the way in; order and one batch at a time {:.2} of a shared pull consumer on the way out. Three servers, which sync before they acknowledge, the spools or workers, and the receiver share one machine here.",
        rates.into.median() / rates.plain.median(),
        rates.out.median() / rates.pulled.median(),
    );
    report.note(CASE, note);
}
