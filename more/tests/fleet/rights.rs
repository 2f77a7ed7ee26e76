//! A fleet as it is meant to run: the account file of the package, TLS of an authority of its own, and a
//! user for each part, who can do its work and nothing beyond.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use everpost::Queue;
use everpost::fleet::setup::{Risk, Setup as Streams};
use everpost::fleet::{Access, BooksWatch, Fleet, Worker, WorkerBuilder};
use everpost::http::SecretRef;
use everpost::nats::{Credentials, Names, Target};
use nkeys::KeyPair;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::cluster::{Cluster, Setup};
use crate::field::{Field, Receiver, event};
use crate::ground::{addresses, close, drained, settings};
use crate::login::certificate;
use crate::watch::until;
use crate::workers::Ahead;

/// No wait of a test is longer, also on a busy machine.
const PATIENT: Duration = Duration::from_secs(60);

/// Where the seed of each user is.
struct Users {
    dir: TempDir,
    ca: PathBuf,
}

impl Users {
    fn seed(&self, user: &str) -> PathBuf {
        self.dir.path().join(user)
    }

    fn access(&self, cluster: &Cluster, user: &str) -> Access {
        let access = Access::new(&cluster.url()).unwrap().patience(PATIENT);
        access.credentials_file(self.seed(user)).ca_file(&self.ca)
    }

    /// What else this user might try, and what the server says of it.
    async fn trial(&self, cluster: &Cluster, user: &str, inbox: &str) -> Trial {
        let (tell, said) = mpsc::unbounded_channel();
        let seed = fs::read_to_string(self.seed(user)).unwrap();
        let options = ConnectOptions::with_nkey(seed.trim().to_owned())
            .add_root_certificates(self.ca.clone())
            .custom_inbox_prefix(inbox)
            .event_callback(move |event| {
                let _ = tell.send(event.to_string());
                std::future::ready(())
            });
        let client = options.connect(addresses(cluster)).await.unwrap();
        Trial { client, said }
    }
}

/// The users of the package, each with a key: what the server is told of them, and where their seeds are.
fn users() -> (String, Users) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/fleet/accounts.conf");
    let mut config = fs::read_to_string(page).unwrap();
    let dir = TempDir::new().unwrap();
    for (place, user) in [
        ("PUBLIC_KEY_OF_THE_OPERATOR", "operator"),
        ("PUBLIC_KEY_OF_THE_WORKERS", "worker"),
        ("PUBLIC_KEY_OF_THE_VIEWER", "viewer"),
        ("PUBLIC_KEY_OF_SENSOR_7", "sensor-7"),
    ] {
        assert_eq!(config.matches(place).count(), 1, "{place}");
        let key = KeyPair::new_user();
        config = config.replace(place, &key.public_key());
        fs::write(dir.path().join(user), key.seed().unwrap() + "\n").unwrap();
    }
    let (tls, ca) = certificate(dir.path());
    (format!("{config}\n{tls}"), Users { dir, ca })
}

/// A server with these users, and the streams as the operator makes them.
async fn fleet() -> Option<(Field, Users)> {
    let (config, users) = users();
    let cluster = Cluster::start(&Setup { nodes: 1, config })?;
    let names = Names::default();
    let access = users.access(&cluster, "operator");
    let client = access.connect().await.unwrap();
    let streams = Streams::new(names.clone()).replicas(1);
    let streams = streams.accept(Risk::FewReplicas).accept(Risk::SyncUnknown);
    let made = streams.make(&client).await.unwrap();
    assert_eq!(made.made.len(), 3, "{made:?}");
    let fleet = Fleet::connect(&access, names.clone()).await.unwrap();
    let field = Field {
        cluster,
        names,
        client,
        fleet,
    };
    Some((field, users))
}

fn worker(field: &Field, users: &Users, receiver: &Receiver) -> WorkerBuilder {
    let access = users.access(&field.cluster, "worker");
    let mut delivery = everpost::Delivery::default();
    delivery.backoff_min = Duration::from_millis(20);
    delivery.return_delay_max = Duration::ZERO;
    let builder = Worker::builder(access, field.names.clone());
    builder.sink(receiver.clone()).delivery(delivery)
}

/// Delivers this many events from the spool of the device, as it may.
async fn deliver(field: &Field, users: &Users, count: u64) {
    let target = Target::parse(&field.cluster.url(), "sensor-7".parse().unwrap()).unwrap();
    let seed = SecretRef::File(users.seed("sensor-7"));
    let target = target.with_credentials(Credentials::Nkey(seed));
    let sink = target.with_ca_file(&users.ca).build().unwrap();
    let spool = users.dir.path().join("spool");
    let builder = Queue::builder(spool).settings(settings());
    let queue = builder.sink(sink).open().await.unwrap();
    let events: Vec<_> = (1..=count).map(|seq| event(0, seq)).collect();
    queue.append_all(events).await.unwrap();
    drained(&queue).await;
    close(queue).await;
}

/// A client that does what it may not.
struct Trial {
    client: Client,
    said: mpsc::UnboundedReceiver<String>,
}

impl Trial {
    async fn may_not_publish(&mut self, subjects: &[&str]) {
        for subject in subjects {
            let sent = self.client.publish((*subject).to_owned(), "{}".into());
            sent.await.unwrap();
            self.hears(&format!(
                "Permissions Violation for Publish to \"{subject}\""
            ))
            .await;
        }
    }

    async fn may_not_subscribe(&mut self, subjects: &[&str]) {
        for subject in subjects {
            let heard = self.client.subscribe((*subject).to_owned()).await.unwrap();
            self.hears(&format!(
                "Permissions Violation for Subscription to \"{subject}\""
            ))
            .await;
            drop(heard);
        }
    }

    async fn hears(&mut self, wanted: &str) {
        self.client.flush().await.unwrap();
        let hearing = async {
            while let Some(said) = self.said.recv().await {
                if said.to_lowercase().contains(&wanted.to_lowercase()) {
                    return;
                }
            }
        };
        let heard = tokio::time::timeout(PATIENT, hearing).await;
        assert!(heard.is_ok(), "not refused: {wanted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_rights_of_the_package_and_tls_each_does_its_work() {
    let Some((field, users)) = fleet().await else {
        return;
    };
    deliver(&field, &users, 45).await;
    let receiver = Receiver::default();
    let first = worker(&field, &users, &receiver).start().await.unwrap();
    let books = field.until_drained(45).await;
    assert_eq!((books.delivered, books.dead, books.letters), (43, 2, 2));
    assert_eq!(first.status().trouble, None);
    first.close(Duration::from_secs(5)).await.unwrap();

    // The operator decides on the letters, and another worker removes what is delivered.
    receiver.take_all();
    let letters = field.fleet.letters();
    let mut list = letters.list(..);
    let (one, two) = (list.next().await.unwrap(), list.next().await.unwrap());
    letters.retry(one.unwrap().letter.seq).await.unwrap();
    letters.discard(two.unwrap().letter.seq).await.unwrap();
    let later = Arc::new(Ahead(Duration::from_secs(365 * 24 * 3600)));
    let second = worker(&field, &users, &receiver).clock(later);
    let second = second.remove_every(Duration::from_millis(100));
    let second = second.start().await.unwrap();
    field.until_drained(46).await;
    let books = field
        .until("nothing is removed", |books| books.messages == 0)
        .await;
    assert!(books.balanced && books.letters == 0, "{books:?}");
    assert_eq!(second.status().trouble, None);
    second.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(receiver.taken().len(), 44);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_and_a_device_may_do_nothing_beyond() {
    let Some((field, users)) = fleet().await else {
        return;
    };
    deliver(&field, &users, 3).await;
    let info = || async {
        let mut all = Vec::new();
        for stream in ["EVENTS", "EVENTS_CURSORS", "EVENTS_DEAD"] {
            let info = field.api(&format!("INFO.{stream}"), json!({})).await;
            all.push((info["config"].clone(), info["state"]["last_seq"].clone()));
        }
        all
    };
    let before = info().await;
    let mut worker = users.trial(&field.cluster, "worker", "_INBOX").await;
    worker
        .may_not_publish(&[
            "events.15.sensor-7",
            "$JS.API.STREAM.DELETE.EVENTS",
            "$JS.API.STREAM.UPDATE.EVENTS",
            "$JS.API.STREAM.MSG.DELETE.EVENTS",
            "$JS.API.STREAM.DELETE.EVENTS_CURSORS",
            "$JS.API.STREAM.PURGE.EVENTS_CURSORS",
            "$JS.API.STREAM.DELETE.EVENTS_DEAD",
            "$JS.API.STREAM.PURGE.EVENTS_DEAD",
            "$JS.API.STREAM.CREATE.OTHER",
            "$JS.API.INFO",
            "other",
        ])
        .await;
    worker
        .may_not_subscribe(&[
            "events_dead.>",
            "events_cursors.>",
            "$JS.>",
            "_INBOX_sensor-7.>",
        ])
        .await;
    let inbox = "_INBOX_sensor-7";
    let mut device = users.trial(&field.cluster, "sensor-7", inbox).await;
    device
        .may_not_publish(&[
            "events.15.sensor-8",
            "events.0.sensor-7",
            "events_cursors.15",
            "events_dead.15.1",
            "events_workers",
            "$JS.API.DIRECT.GET.EVENTS",
            "$JS.API.DIRECT.GET.EVENTS.events.15.sensor-8",
            "$JS.API.STREAM.MSG.GET.EVENTS",
            "$JS.API.STREAM.INFO.EVENTS",
            "$JS.API.STREAM.PURGE.EVENTS",
            "$JS.API.STREAM.DELETE.EVENTS",
        ])
        .await;
    device
        .may_not_subscribe(&[
            "events.>",
            "_INBOX.>",
            "_INBOX_sensor-8.>",
            "events_workers",
        ])
        .await;
    assert_eq!(info().await, before);
}

/// What relays show: by the seed of a stranger first, and by that of the viewer once it is put there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_the_books_once_its_seed_is_there_and_may_do_nothing_beyond() {
    let Some((field, users)) = fleet().await else {
        return;
    };
    deliver(&field, &users, 3).await;
    let mut viewer = users.trial(&field.cluster, "viewer", "_INBOX").await;
    viewer
        .may_not_publish(&[
            "events.15.sensor-7",
            "events_cursors.15",
            "events_dead.15.1",
            "events_workers",
            "$JS.API.STREAM.PURGE.EVENTS",
            "$JS.API.STREAM.DELETE.EVENTS_CURSORS",
            "$JS.API.STREAM.MSG.DELETE.EVENTS_DEAD",
            "$JS.API.STREAM.CREATE.OTHER",
        ])
        .await;
    viewer
        .may_not_subscribe(&["events.>", "_INBOX_sensor-7.>"])
        .await;

    let seed = users.seed("shown");
    fs::write(&seed, KeyPair::new_user().seed().unwrap()).unwrap();
    let access = users.access(&field.cluster, "shown");
    let mut watch = BooksWatch::start(access, "EVENTS", Duration::from_secs(1)).unwrap();
    let unread = until(&mut watch, |known| known.unread.is_some()).await;
    let reason = &unread.unread.as_ref().unwrap().reason;
    assert!(
        reason.contains("does not take the credentials of"),
        "{reason}"
    );
    assert!(unread.books.is_none());
    fs::copy(users.seed("viewer"), &seed).unwrap();
    let read = until(&mut watch, |known| known.unread.is_none()).await;
    let books = read.books.as_ref().unwrap();
    assert!(books.balanced, "{books:?}");
    assert_eq!((books.stored, books.pending), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_authority_and_wrong_credentials_are_told_with_what_to_do() {
    let Some((field, users)) = fleet().await else {
        return;
    };
    let stranger = KeyPair::new_user().seed().unwrap();
    fs::write(users.seed("stranger"), &stranger).unwrap();
    let elsewhere = TempDir::new().unwrap();
    let (_, other) = certificate(elsewhere.path());
    let access = |user| users.access(&field.cluster, user);
    let bare = Access::new(&field.cluster.url()).unwrap();
    for (access, said) in [
        (
            access("worker").ca_file(&other),
            "signed by an authority that is not known here",
        ),
        (
            access("stranger"),
            "the server does not take the credentials of",
        ),
        (
            bare.ca_file(&users.ca),
            "a user without credentials; give a credentials file",
        ),
        (
            access("nobody"),
            "the credentials file cannot be used: No such file",
        ),
        (
            access("worker").ca_file(users.seed("nothing")),
            "the file of the authority cannot be used: No such file",
        ),
    ] {
        let started = Worker::builder(access, field.names.clone())
            .sink(Receiver::default())
            .start()
            .await;
        let Err(error) = started else {
            panic!("it began to work: {said}");
        };
        let error = error.to_string();
        assert!(error.contains(said), "{said}: {error}");
        assert!(!error.contains(stranger.as_str()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_machine_is_spoken_to_in_clear_only_if_that_is_said() {
    let Some(cluster) = Cluster::start(&Setup {
        nodes: 1,
        config: String::new(),
    }) else {
        return;
    };
    // This machine by an address that is not known to be it.
    let away = cluster.url().replace("127.0.0.1", "0.0.0.0");
    let insists = cluster.url().replace("nats://", "tls://");
    let access = |servers: &str| Access::new(servers).unwrap().patience(PATIENT);
    for (servers, said) in [
        (&away, "or set `allow_plain`"),
        (&insists, "begins with `tls://`"),
    ] {
        let refused = access(servers).connect().await.unwrap_err().to_string();
        let is_told = refused.contains("the server does not speak TLS") && refused.contains(said);
        assert!(is_told, "{servers}: {refused}");
    }
    access(&away).allow_plain(true).connect().await.unwrap();
    access(&cluster.url()).connect().await.unwrap();
}
