//! Workers on real servers: they share partitions, die, freeze and come back.

mod blows;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use everpost::clock::{Clock, SystemClock};
use everpost::fleet::{Access, Worker};
use everpost::sandbox::{Fault, Sandbox};
use serde_json::json;

use crate::field::{Device, Field, Process, Receiver, check_order, id, work};

const LEASE: Duration = Duration::from_secs(2);

/// Does its work where [`Process`] starts it; nothing otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker() {
    work().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_what_there_is_and_what_one_leaves_another_takes_at_once() {
    let Some(field) = Field::new(1, 6).await else {
        return;
    };
    let receiver = Receiver::default();
    let start = || field.worker(receiver.clone()).start();
    let owners = |books: &everpost::fleet::Books| {
        let owners = books
            .partitions
            .iter()
            .filter_map(|partition| partition.owner.clone());
        let mut counts = std::collections::BTreeMap::new();
        owners.for_each(|owner| *counts.entry(owner).or_insert(0_u64) += 1);
        counts.into_values().collect::<Vec<_>>()
    };
    let first = start().await.unwrap();
    field
        .until("not all are taken", |books| owners(books) == [6])
        .await;
    let second = start().await.unwrap();
    let third = start().await.unwrap();
    field
        .until("they are not shared", |books| owners(books) == [2, 2, 2])
        .await;
    let mut devices: Vec<Device> = (0..6).map(|number| Device::new(&field, number)).collect();
    for device in &mut devices {
        for _ in 0..8 {
            device.publish().await;
        }
    }
    field.until_drained(48).await;
    assert_eq!(
        check_order(&receiver.taken(), &devices),
        0,
        "none dies, none comes twice"
    );
    field
        .until_told("it shows something else", || {
            second.status().held.len() == 2
        })
        .await;
    first.close(Duration::from_secs(5)).await.unwrap();
    // At once: no lease has to end first.
    let free = field.fleet.books().await.unwrap();
    assert!(
        !free
            .partitions
            .iter()
            .any(|partition| partition.owner.as_deref() == Some(first.name()))
    );
    field
        .until("what was left is not taken", |books| {
            owners(books) == [3, 3]
        })
        .await;
    second.close(Duration::from_secs(5)).await.unwrap();
    third.close(Duration::from_secs(5)).await.unwrap();
    assert!(owners(&field.fleet.books().await.unwrap()).is_empty());
}

/// More waits by the time that another worker takes over, and yet it sends the batch again as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_worker_had_under_way_is_sent_again_as_it_was() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let sandbox = Sandbox::start().await.unwrap();
    let mut device = Device::new(&field, 0);
    for _ in 0..3 {
        device.publish().await;
    }
    sandbox.always(Fault::Hang);
    let start = || Process::start(&field, sandbox.base_url(), sandbox.key(), LEASE);
    let mut dies = start();
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    for _ in 0..5 {
        device.publish().await;
    }
    dies.kill();
    sandbox.clear();
    let mut other = start();
    field.until_drained(8).await;
    let taken: Vec<(usize, Option<String>)> = sandbox
        .requests()
        .iter()
        .map(|request| {
            let key = request.idempotency_key().map(str::to_owned);
            (request.events, key)
        })
        .collect();
    let [hung, again, rest] = &taken[..] else {
        panic!("{taken:?}");
    };
    assert_eq!((again.0, &again.1), (3, &hung.1), "{taken:?}");
    assert_eq!(rest.0, 5, "{taken:?}");
    assert!(hung.1.is_some());
    other.close();
}

/// Nothing waits for events of a batch that are not there any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_and_was_purged_is_not_waited_for() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let sandbox = Sandbox::start().await.unwrap();
    let mut device = Device::new(&field, 0);
    for _ in 0..3 {
        device.publish().await;
    }
    sandbox.always(Fault::Hang);
    let start = || Process::start(&field, sandbox.base_url(), sandbox.key(), LEASE);
    let mut dies = start();
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    dies.kill();
    field.api("PURGE.EVENTS", json!({"seq": 3})).await;
    sandbox.clear();
    let mut other = start();
    // It takes a lease and a moment.
    let taken = tokio::time::timeout(Duration::from_secs(60), sandbox.wait_for_accepted(1));
    assert!(taken.await.is_ok(), "what is gone is waited for");
    assert_eq!(sandbox.ids(), [id(0, 3).to_string()]);
    device.publish().await;
    field
        .until("no more is delivered", |books| books.delivered == 2)
        .await;
    other.close();
}

/// Two workers believe that they have the same partition: the one that was frozen goes on, and what it
/// writes is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i17_a_worker_that_was_frozen_writes_nothing_when_it_goes_on() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.reject_when(|message| {
        message
            .to_string()
            .contains("poison")
            .then(|| "it is poison".to_owned())
    });
    let mut device = Device::new(&field, 0);
    let process = Process::start(&field, sandbox.base_url(), sandbox.key(), LEASE);
    let is_its_own = |books: &everpost::fleet::Books| {
        books.partitions[0].owner.as_deref() == Some(process.name.as_str())
    };
    field.until("it is not taken", is_its_own).await;
    // It hangs in a request when it is frozen.
    sandbox.always(Fault::Hang);
    for _ in 0..3 {
        device.publish().await;
    }
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    process.freeze();
    sandbox.clear();
    // Its name comes before the other one's, so that the share that there is stays with it.
    let other = field
        .worker(Receiver::default())
        .name("a")
        .start()
        .await
        .unwrap();
    let books = field.until_drained(3).await;
    assert_eq!(books.partitions[0].owner.as_deref(), Some(other.name()));
    let epoch = books.partitions[0].epoch;
    process.thaw();
    // Its request is answered only now, as delivered.
    sandbox.release();
    for _ in 0..5 {
        device.publish().await;
    }
    let books = field.until_drained(8).await;
    assert_eq!(books.partitions[0].delivered + books.partitions[0].dead, 8);
    assert_eq!(
        (
            books.partitions[0].owner.as_deref(),
            books.partitions[0].epoch
        ),
        (Some(other.name()), epoch)
    );
    // For longer than it takes to write the record some times.
    let mut every = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..25 {
        every.tick().await;
        let books = field.fleet.books().await.unwrap();
        let owner = books.partitions[0].owner.as_deref();
        assert_eq!(owner, Some(other.name()));
    }
    other.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_later_version_is_left_alone_and_told() {
    let Some(field) = Field::new(1, 2).await else {
        return;
    };
    let later = r#"{"version":2,"owner":"","unknown":[]}"#;
    let place = field
        .publish(field.names.cursor_subject(1), HeaderMap::new(), later)
        .await;
    let worker = field.worker(Receiver::default()).start().await.unwrap();
    let books = field
        .until("the other is not taken", |books| {
            books.partitions[0].owner.is_some()
        })
        .await;
    assert!(!books.balanced);
    assert!(books.faults[0].contains("newer one"), "{:?}", books.faults);
    worker.close(Duration::from_secs(5)).await.unwrap();
    let got = field
        .api(
            "MSG.GET.EVENTS_CURSORS",
            json!({"last_by_subj": field.names.cursor_subject(1)}),
        )
        .await;
    assert_eq!(got["message"]["seq"], place, "it was not written over");
}

/// A clock that is ahead.
#[derive(Debug)]
pub(crate) struct Ahead(pub(crate) Duration);

impl Clock for Ahead {
    fn wall(&self) -> SystemTime {
        SystemClock.wall() + self.0
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i16_only_what_every_cursor_has_passed_is_removed_however_old_the_rest_is() {
    let Some(field) = Field::new(1, 2).await else {
        return;
    };
    // Two devices, one in each partition.
    let mut devices: Vec<Device> = (0..20).map(|number| Device::new(&field, number)).collect();
    devices.sort_by_key(|device| device.partition(&field.names));
    let (first, last) = (devices.remove(0), devices.pop().unwrap());
    let mut devices = [first, last];
    assert_ne!(
        devices[0].partition(&field.names),
        devices[1].partition(&field.names)
    );
    for _ in 0..5 {
        for device in &mut devices {
            device.publish().await;
        }
    }
    let start = |receiver: &Receiver, clock: Arc<dyn Clock>| {
        let builder = field.worker(receiver.clone()).clock(clock);
        builder
            .keep(Some(Duration::from_secs(3600)))
            .remove_every(Duration::from_millis(100))
            .start()
    };
    let state = || async { field.api("INFO.EVENTS", json!({})).await["state"].clone() };
    // Nothing is delivered, and all of it is a year old.
    let year = Duration::from_secs(365 * 24 * 3600);
    let receiver = Receiver::away();
    let worker = start(&receiver, Arc::new(Ahead(year))).await.unwrap();
    // In which time it has looked for something to remove more than once.
    let has_tried = || {
        let held = worker.status().held;
        held.len() == 2 && held.iter().all(|held| held.requests > 15)
    };
    field.until_told("it does not try", has_tried).await;
    assert_eq!(state().await["messages"], 10);
    receiver.come_back();
    field.until_drained(10).await;
    let books = field
        .until("it is not removed", |books| books.messages == 0)
        .await;
    assert!(
        books.balanced && books.delivered + books.dead == 10,
        "{books:?}"
    );
    worker.close(Duration::from_secs(5)).await.unwrap();
    // What is delivered and young stays.
    let worker = start(&receiver, Arc::new(SystemClock)).await.unwrap();
    for device in &mut devices {
        device.publish().await;
    }
    field.until_drained(12).await;
    assert_eq!(state().await["messages"], 2);
    assert_eq!(check_order(&receiver.taken(), &devices), 0);
    worker.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_purged_before_it_was_delivered_is_booked_as_lost() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let mut device = Device::new(&field, 0);
    for _ in 0..60 {
        device.publish().await;
    }
    let receiver = Receiver::away();
    let worker = field.worker(receiver.clone()).start().await.unwrap();
    let knows = || {
        worker
            .status()
            .held
            .first()
            .is_some_and(|held| held.pending == 60 && held.requests > 0)
    };
    field.until_told("it does not know what waits", knows).await;
    field.api("PURGE.EVENTS", json!({"seq": 51})).await;
    receiver.come_back();
    let books = field.until_drained(60).await;
    // Those that it had read are delivered all the same.
    assert!(books.lost >= 10 && books.lost < 50, "{books:?}");
    assert_eq!(books.delivered + books.dead + books.lost, 60);
    let last = receiver.taken().last().copied();
    assert_eq!(last, Some(id(0, 60)));
    worker.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_not_there_is_told_with_what_to_type() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let names = everpost::nats::Names::new("OTHER", 1).unwrap();
    let started = Worker::builder(field.access(), names)
        .sink(Receiver::default())
        .start()
        .await;
    let Err(error) = started else {
        panic!("there is no such stream");
    };
    assert!(error.to_string().contains("fleet setup"), "{error}");
    let started = Worker::builder(field.access(), field.names.clone())
        .start()
        .await;
    assert!(matches!(started, Err(everpost::Error::NoSink)));
    let nobody = Access::new("127.0.0.1:1")
        .unwrap()
        .patience(Duration::from_secs(2));
    let error = nobody.connect().await.unwrap_err().to_string();
    assert!(error.contains("see that the address is right"), "{error}");
}
