//! A fleet that a relay shows beside its channels, on its page and among its numbers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::admin::admin;
use crate::fleet::{device, settled, setup, worker};
use crate::health::{address, get};
use crate::nats::Nats;
use crate::relay::{Relaying, wrapped};
use crate::set_up::{Place, bad_message, message};

/// Lines of news that are read before a test gives up.
const LINES_MAX: usize = 2000;

/// What the page hears of the fleet.
struct News(BufReader<TcpStream>);

impl News {
    fn of(page: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(page).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        write!(stream, "GET /api/live HTTP/1.1\r\nhost: {page}\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next news that is as wanted.
    fn wait(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let (mut line, mut is_of_fleet, mut last) = (String::new(), false, Value::Null);
        for _ in 0..LINES_MAX {
            line.clear();
            let read = self.0.read_line(&mut line);
            assert!(read.is_ok_and(|bytes| bytes > 0), "{what}: {last}");
            if let Some(event) = line.strip_prefix("event: ") {
                is_of_fleet = event.trim() == "fleet";
            } else if let Some(data) = line.strip_prefix("data: ").filter(|_| is_of_fleet) {
                last = serde_json::from_str(data).unwrap();
                if is_wanted(&last) {
                    return last;
                }
            }
        }
        panic!("{what}: {last}");
    }
}

/// The numbers of a page that begin so.
fn numbers(page: SocketAddr, prefix: &str) -> BTreeSet<String> {
    let text = get(page, "/metrics").body;
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    lines.map(str::to_owned).collect()
}

fn number(page: SocketAddr, name: &str) -> String {
    let found = numbers(page, &format!("{name}{{"));
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    let line = found.first().unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

/// The names of the numbers of fleets and workers on this page, or in the page of the documentation.
fn names(text: &str, before: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(before));
    let names = lines.filter_map(|line| line.split([' ', '`']).next());
    let of_fleets = ["everpost_fleet_", "everpost_worker_"];
    let is_one = |name: &&str| of_fleets.iter().any(|begin| name.starts_with(begin));
    names.filter(is_one).map(str::to_owned).collect()
}

fn kind(fleet: &Value) -> &str {
    fleet["sentences"][0]["kind"].as_str().unwrap()
}

/// What each stream of the fleet counts.
fn states(nats: &Nats) -> Vec<Value> {
    let state = |stream| {
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        nats.request(&subject, &json!({}))["state"].clone()
    };
    ["EVENTS", "EVENTS_CURSORS", "EVENTS_DEAD"]
        .map(state)
        .to_vec()
}

/// A fleet that has delivered two events and set one aside, and a worker of it.
async fn fleet(nats: &Nats) -> (Sandbox, Place) {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.set_env("EVERPOST_LOG", "info");
    setup(&place, nats, &["--partitions", "4"]).expect(exit::DONE);
    device(&place, nats, &["--as", "sensor-7"]).expect(exit::DONE);
    let lines = [message(1), bad_message(2), message(3)].concat();
    place.feed(&["append"], &lines).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    (sandbox, place)
}

fn relay_with(place: &Place, nats: &Nats) -> (Relaying, SocketAddr) {
    let url = nats.url();
    let args = ["--channel", "universal", "--admin", "127.0.0.1:0"];
    let of_fleet = ["--fleet", &url, "--fleet-every", "1s"];
    let mut relay = Relaying::start(place, &[&args[..], &of_fleet].concat());
    let page = admin(&mut relay.running);
    (relay, page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_shown_beside_the_channels_with_the_numbers_of_its_workers() {
    let Some(nats) = Nats::start("") else { return };
    let (sandbox, place) = fleet(&nats).await;
    let mut service = worker(
        &place,
        &nats,
        &["--to", "botanalytics", "--listen", "127.0.0.1:0"],
    );
    sandbox.wait_for_accepted(2).await.unwrap();
    settled(&place, &nats, 3);
    let worker = address(&mut service);
    let (relay, page) = relay_with(&place, &nats);
    let mut news = News::of(page);
    let shown = news.wait("the books", |fleet| !fleet["books"].is_null());
    assert_eq!(kind(&shown), "well", "{shown}");
    assert_eq!(
        (&shown["workers"], &shown["unowned"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(
        (&shown["stream"], &shown["servers"]),
        (&json!("EVENTS"), &json!(nats.url()))
    );
    let beside = get(page, "/api/channels").json();
    let books = &beside["fleet"]["books"];
    for (name, value) in [
        ("stored", 3),
        ("delivered", 2),
        ("dead", 1),
        ("pending", 0),
        ("letters", 1),
    ] {
        assert_eq!(books[name], value, "{name}: {books}");
    }
    assert_eq!(books["balanced"], true, "{books}");
    assert_eq!(beside["channels"][0]["name"], "universal");

    for name in [
        "delivered_total",
        "dead_total",
        "expired_total",
        "lost_total",
        "pending",
    ] {
        let prefix = format!("everpost_fleet_events_{name}{{");
        let of_relay = numbers(page, &prefix);
        assert_eq!(of_relay.len(), 4, "{of_relay:?}");
        // What a worker says of itself follows within a third of the lease.
        let is_same = (0..10_000).any(|_| numbers(worker, &prefix) == of_relay);
        assert!(is_same, "{of_relay:?}, {:?}", numbers(worker, &prefix));
    }
    for (name, value) in [
        ("books_balanced", "1"),
        ("books_unread", "0"),
        ("dead_letters", "1"),
    ] {
        assert_eq!(
            number(page, &format!("everpost_fleet_{name}")),
            value,
            "{name}"
        );
    }
    let mut told = names(&get(page, "/metrics").body, "# TYPE ");
    told.extend(names(&get(worker, "/metrics").body, "# TYPE "));
    let documented = fs::read_to_string("docs/fleet.md").unwrap();
    assert_eq!(names(&documented, "| `"), told);
    relay.stop().expect(exit::DONE);
    service.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_go_and_books_that_differ_are_shown_and_hold_up_nothing() {
    let Some(mut nats) = Nats::start("") else {
        return;
    };
    let (sandbox, place) = fleet(&nats).await;
    let (relay, page) = relay_with(&place, &nats);
    let mut news = News::of(page);
    let waiting = news.wait("the books", |fleet| !fleet["books"].is_null());
    assert_eq!(kind(&waiting), "no_worker", "{waiting}");
    assert_eq!(waiting["books"]["pending"], 3, "{waiting}");

    nats.kill();
    let gone = news.wait("the servers are gone", |fleet| {
        fleet["unread_since_ms"].is_number()
    });
    assert_eq!(kind(&gone), "unread", "{gone}");
    assert_eq!(gone["books"], waiting["books"], "the last known");
    assert!(
        gone["read_ms"].as_u64() <= gone["unread_since_ms"].as_u64(),
        "{gone}"
    );
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(page, path).status, 200, "{path}");
    }
    let answer = relay.client().post(sandbox.key(), &wrapped(&["a"]));
    assert_eq!(answer.status, 200, "{answer:?}");
    sandbox.wait_for_accepted(1).await.unwrap();
    assert_eq!(number(page, "everpost_fleet_books_unread"), "1");

    nats.start_again();
    let back = news.wait("they are back", |fleet| fleet["unread_since_ms"].is_null());
    assert_eq!(back["books"], waiting["books"]);
    assert_eq!(number(page, "everpost_fleet_books_unread"), "0");

    // It was not written by a worker.
    nats.request("events_cursors.1", &json!({"version": 9}));
    let differs = news.wait("the books differ", |fleet| {
        fleet["books"]["balanced"] == false
    });
    assert_eq!(kind(&differs), "unbalanced", "{differs}");
    let partition = &differs["books"]["partitions"][1];
    let fault = partition["fault"].as_str().unwrap();
    assert!(fault.contains("version 9"), "{fault}");
    assert_eq!(partition["balanced"], false);
    assert_eq!(number(page, "everpost_fleet_books_balanced"), "0");
    assert_eq!(get(page, "/readyz").status, 200);

    let before = states(&nats);
    let read = || number(page, "everpost_fleet_books_timestamp_seconds");
    let since = read();
    // A look is over each second.
    let looked = (0..20_000).any(|_| read() != since);
    assert!(looked, "no look since {since}");
    assert_eq!(states(&nats), before, "a look changes nothing");
    relay.stop().expect(exit::DONE);
}

#[test]
fn what_is_wrong_with_the_fleet_of_a_relay_is_told_with_what_to_type() {
    let place = Place::new();
    let (dir, config) = (place.path("relay"), place.path("relay.toml"));
    let (dir, config) = (dir.to_str().unwrap(), config.to_str().unwrap());
    let start = ["relay", "--dir", dir, "--channel", "universal"];
    let check = |args: &[&str]| place.run(&[&start[..], args, &["--check"]].concat());
    for (table, said) in [
        ("servers = \"http://a\"", "line 2, column 11"),
        ("servers = \"nats://u:hunter2@a\"", "hunter2"),
        ("server = \"a\"", "`server`"),
        ("stream = \"E\"", "add --fleet nats://"),
        ("servers = \"a\"\nstream = \"a.b\"", "letters, digits"),
        ("servers = \"a\"\nevery = \"10ms\"", "from 1s to 1h"),
        ("servers = \"a\"\nevery = 5", "line 3"),
        ("servers = \"a\"\ninbox_prefix = \"a b\"", "inbox prefix"),
    ] {
        fs::write(config, format!("[fleet]\n{table}\n")).unwrap();
        let refused = check(&["--config", config]).expect(exit::USAGE);
        // A password is not repeated.
        let is_said = refused.err.contains(said);
        assert_eq!(is_said, said != "hunter2", "{table}: {refused:?}");
    }
    for (typed, said) in [
        (&["--fleet", "http://a"][..], "--fleet nats://"),
        (&["--fleet-stream", "E"], "add --fleet nats://"),
        (&["--fleet", "a", "--fleet-stream", "a.b"], "--fleet-stream"),
        (&["--fleet", "a", "--fleet-every", "2h"], "from 1s to 1h"),
        (&["--fleet", "a", "--fleet-every", "x"], "--fleet-every"),
    ] {
        let refused = check(typed).expect(exit::USAGE);
        assert!(refused.err.contains(said), "{typed:?}: {refused:?}");
    }
    fs::write(config, "[fleet]\nservers = \"a\"\nstream = \"E\"\n").unwrap();
    let typed = [
        "--config",
        config,
        "--fleet",
        "tls://b,c",
        "--fleet-credentials-file",
        "/nowhere",
    ];
    let good = check(&typed).expect(exit::DONE);
    for said in [
        "the books of E at tls://b",
        "every 5s",
        "/nowhere cannot be read",
    ] {
        assert!(good.out.contains(said), "{said}: {good:?}");
    }
    let nowhere = place.run(&[&start[..], &["--fleet", "a", "--listen", "127.0.0.1:0"]].concat());
    let nowhere = nowhere.expect(exit::USAGE);
    assert!(nowhere.err.contains("add --admin"), "{nowhere:?}");
}
