//! Requests and messages that come again at a relay: one event each, also when it was killed between.

use std::fs;
use std::io::Write as _;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::json;

use crate::relay::{Answer, Client, Relaying, headers, wrapped};
use crate::set_up::Place;

const POST: &str = "POST /v2/messages";

/// So that what was kept during an outage is delivered soon after it.
const QUICK: &str = "[delivery]\nbackoff_min = \"10ms\"\nbackoff_max = \"20ms\"\n";

fn under(key: &str, idempotency_key: &str) -> String {
    format!("{}idempotency-key: {idempotency_key}\r\n", headers(key))
}

fn is_replayed(answer: &Answer) -> bool {
    answer.head.contains("idempotency-replayed: true\r\n")
}

fn appended(place: &Place) -> u64 {
    let spool = place.path("relay/universal");
    let status = place.run(&["--spool", spool.to_str().unwrap(), "status", "--json"]);
    status.json()["ledger"]["appended"].as_u64().unwrap()
}

/// Waits until so much was delivered, and checks that it is these and nothing twice.
async fn expect_delivered(sandbox: &Sandbox, ids: &[&str]) {
    let count = ids.len() as u64;
    sandbox
        .wait_for(|stats| stats.accepted >= count)
        .await
        .unwrap();
    let accepted = sandbox.accepted();
    let delivered: Vec<&str> = accepted.iter().filter_map(|event| event.id()).collect();
    assert_eq!(delivered, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_again_under_its_key_is_one_event_and_the_answer_says_so() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let mut relay = Relaying::start(&place, &[]);
    let key = sandbox.key().to_owned();
    let send = |relay: &Relaying, idempotency_key: &str, body: &str| {
        let headers = under(&key, idempotency_key);
        relay.client().send(POST, &headers, body)
    };
    let body = wrapped(&["a", "b"]);
    let first = send(&relay, "k1", &body);
    assert_eq!((first.status, is_replayed(&first)), (200, false));
    assert_eq!(first.body.as_object().unwrap().len(), 1, "{first:?}");
    let id = first.body["request_id"].clone();
    for round in 0..3 {
        let again = send(&relay, "k1", &body);
        assert_eq!((again.status, is_replayed(&again)), (200, true), "{round}");
        assert_eq!(again.body, json!({"request_id": id, "repeated": 2}));
        let other = send(&relay, "k1", &wrapped(&["c"]));
        assert_eq!(other.status, 422, "{other:?}");
        let text = other.body["errors"][0].as_str().unwrap();
        assert!(text.contains("was used for another request"), "{text}");
        assert!(!text.contains("k1"), "{text}");
        relay.stop().expect(exit::DONE);
        relay = Relaying::start(&place, &[]);
    }
    // The same under another key is another request, and so is one without.
    assert!(!is_replayed(&send(&relay, "k2", &body)));
    assert!(!is_replayed(&relay.client().post(&key, &body)));
    let two = format!("{}idempotency-key: x\r\n", under(&key, "x"));
    let bad = [
        under(&key, ""),
        under(&key, "a b"),
        under(&key, &"x".repeat(256)),
        two,
    ];
    for headers in bad {
        let answer = relay.client().send(POST, &headers, &body);
        assert_eq!(answer.status, 400, "{headers}");
        let errors = answer.body["errors"].to_string();
        assert!(errors.contains("1 to 255 visible ASCII"), "{errors}");
    }
    relay.stop().expect(exit::DONE);
    expect_delivered(&sandbox, &["a", "b", "a", "b", "a", "b"]).await;
    assert_eq!(appended(&place), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_again_under_its_id_is_one_event_if_that_is_wished() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let key = sandbox.key().to_owned();
    let relay = Relaying::start(&place, &["--dedupe", "1h"]);
    let post = |relay: &Relaying, body: &str| {
        let answer = relay.client().post(&key, body);
        assert_eq!(
            (answer.status, is_replayed(&answer)),
            (200, false),
            "{answer:?}"
        );
        answer.body
    };
    let first = post(&relay, &wrapped(&["a", "b"]));
    assert_eq!(first.get("repeated"), None);
    let some = post(&relay, &wrapped(&["c", "b", "c"]));
    assert_eq!(some["repeated"], 2);
    // Under the same id, and something else.
    let other = wrapped(&["a"]).replace("1.50", "1.5");
    assert_eq!(post(&relay, &other).get("repeated"), None);
    relay.stop().expect(exit::DONE);

    let config = place.path("relay.toml");
    fs::write(&config, "dedupe = \"1h\"").unwrap();
    let relay = Relaying::start(&place, &["--config", config.to_str().unwrap()]);
    let all = post(&relay, &wrapped(&["a", "b"]));
    assert_eq!(all["request_id"], first["request_id"]);
    assert_eq!(all["repeated"], 2);
    assert_eq!(post(&relay, &other)["repeated"], 1);
    // A request under a key that has nothing new is known by the key from then on.
    let headers = under(&key, "k");
    for is_again in [false, true] {
        let answer = relay.client().send(POST, &headers, &wrapped(&["b"]));
        assert_eq!((answer.status, is_replayed(&answer)), (200, is_again));
        assert_eq!(answer.body["repeated"], 1);
    }
    relay.stop().expect(exit::DONE);

    let relay = Relaying::start(&place, &[]);
    assert_eq!(post(&relay, &wrapped(&["a"])).get("repeated"), None);
    relay.stop().expect(exit::DONE);
    expect_delivered(&sandbox, &["a", "b", "c", "a", "a"]).await;
}

/// The receiver is away meanwhile: what a kill makes delivery send twice is another matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_under_a_key_stays_one_event_whenever_the_relay_is_killed() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.settings(QUICK);
    let key = sandbox.key().to_owned();
    let mut answered: Vec<(String, serde_json::Value)> = Vec::new();
    let mut cut_off = 0;
    for round in 0..6 {
        let mut relay = Relaying::start(&place, &[]);
        let mut client = relay.client();
        for (id, answer) in &answered {
            let again = client.send(POST, &under(&key, id), &wrapped(&[id]));
            assert_eq!((again.status, is_replayed(&again)), (200, true), "{id}");
            assert_eq!(again.body["request_id"], *answer, "{id}");
        }
        let (killed_after, key) = (5 + 9 * round, key.clone());
        let (said, hear) = std::sync::mpsc::channel();
        let bot = std::thread::spawn(move || {
            for n in 0.. {
                let id = format!("{round}-{n}");
                let sent = client.try_send(POST, &under(&key, &id), &wrapped(&[&id]));
                match sent {
                    Some(answer) if answer.status == 200 => {
                        drop(said.send((id, answer.body["request_id"].clone())));
                    }
                    Some(answer) => panic!("{answer:?}"),
                    None => return,
                }
            }
        });
        answered.extend(hear.iter().take(killed_after));
        relay.running.child.kill().unwrap();
        bot.join().unwrap();
        answered.extend(hear.try_iter());
        relay.running.end();
        cut_off += 1;
    }
    let relay = Relaying::start(&place, &[]);
    let mut client = relay.client();
    for (id, answer) in &answered {
        let again = client.send(POST, &under(&key, id), &wrapped(&[id]));
        assert!(is_replayed(&again), "{id}: {again:?}");
        assert_eq!(again.body["request_id"], *answer, "{id}");
    }
    sandbox.come_back().await.unwrap();
    let all_there = |stats: &everpost::sandbox::Stats| stats.distinct >= answered.len() as u64;
    sandbox.wait_for(all_there).await.unwrap();
    drop(client);
    relay.stop().expect(exit::DONE);
    let accepted = sandbox.accepted();
    let delivered: Vec<&str> = accepted.iter().filter_map(|event| event.id()).collect();
    let known = |id: &&&str| answered.iter().any(|(known, _)| known == **id);
    let delivered_of_answered: Vec<&&str> = delivered.iter().filter(known).collect();
    let answered: Vec<&String> = answered.iter().map(|(id, _)| id).collect();
    assert_eq!(delivered_of_answered, answered, "each once, in order");
    // One whose answer a kill cut off may be there, once.
    assert!(delivered.len() <= answered.len() + cut_off, "{delivered:?}");
}

#[test]
fn of_64_clients_with_one_request_under_one_key_one_is_taken() {
    let place = Place::new();
    let mut relay = Relaying::start(&place, &["--sandbox"]);
    let key = relay.told_key();
    let clients: Vec<Client> = (0..64).map(|_| relay.client()).collect();
    let start = std::sync::Barrier::new(64);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let post = |mut client: Client| {
            let (key, start) = (&key, &start);
            scope.spawn(move || {
                start.wait();
                client.send(POST, &under(key, "the-key"), &wrapped(&["a", "b"]))
            })
        };
        let posting: Vec<_> = clients.into_iter().map(post).collect();
        posting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer.status == 200));
    let id = &answers[0].body["request_id"];
    assert!(
        answers
            .iter()
            .all(|answer| answer.body["request_id"] == *id)
    );
    let replayed = answers.iter().filter(|answer| is_replayed(answer)).count();
    assert_eq!(replayed, 63);
    relay.stop().expect(exit::DONE);
    assert_eq!(appended(&place), 2);
}

/// Any visitor can send what a page sends, and must not take away the keys of a bot.
#[test]
fn a_page_cannot_use_up_the_key_of_a_program() {
    let place = Place::new();
    let dir = place.path("relay");
    let token = |args: &[&str]| {
        let made = [&["relay", "token", "--dir", dir.to_str().unwrap()], args].concat();
        place.run(&made).expect(exit::DONE).out.trim().to_owned()
    };
    let origin = "https://shop.example";
    let (page, own) = (token(&["--origin", origin]), token(&[]));
    let relay = Relaying::start(&place, &["--sandbox", "--allow-origin", origin]);
    let from_page = format!("{}origin: {origin}\r\n", under(&page, "k"));
    let mut client = relay.client();
    let bodies = ["a", "b"].map(|id| wrapped(&[id]));
    for is_again in [false, true] {
        for (headers, body) in [from_page.clone(), under(&own, "k")].iter().zip(&bodies) {
            let answer = client.send(POST, headers, body);
            assert_eq!((answer.status, is_replayed(&answer)), (200, is_again));
        }
    }
    drop(client);
    relay.stop().expect(exit::DONE);
    assert_eq!(appended(&place), 2);
}

/// A client that gives up before the answer comes again; the first may have got anywhere by then.
#[test]
fn a_client_that_goes_away_before_the_answer_and_comes_again_is_one_event() {
    let place = Place::new();
    let mut relay = Relaying::start(&place, &["--sandbox"]);
    let key = relay.told_key();
    for n in 0..100 {
        let id = format!("{n}");
        let (headers, body) = (under(&key, &id), wrapped(&[&id]));
        let length = body.len();
        let request = format!("{POST} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}");
        let mut gone = relay.client();
        gone.stream().write_all(request.as_bytes()).unwrap();
        drop(gone);
        let answer = relay.client().send(POST, &headers, &body);
        assert_eq!(answer.status, 200);
    }
    relay.stop().expect(exit::DONE);
    assert_eq!(appended(&place), 100);
}

/// A disk that has no room for what is to be remembered, while the queue has some left.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_what_could_not_be_remembered_is_told_and_once_there_is_room_is_one_event() {
    let mut place = Place::new();
    let sandbox = Sandbox::start().await.unwrap();
    place.set_env("BA_BASE_URL", sandbox.base_url());
    place.set_env("BA_API_KEY", sandbox.key());
    place.settings(
        "max_bytes = \"1 MiB\"\njournal_bytes = \"64 KiB\"\nsegment_bytes = \"64 KiB\"\n\
         tail_bytes = \"16 KiB\"\nchunk_bytes = \"8 KiB\"\nmax_event_bytes = \"16 KiB\"\n",
    );
    let Some(disk) = Tmpfs::mount(&place.path("relay")) else {
        return;
    };
    let relay = Relaying::start(&place, &["--hold", "300ms"]);
    let mut client = relay.client();
    let key = sandbox.key();
    // The error is the point: the file is as long as there was room for it.
    let filler = disk.0.join("filler");
    let _ = fs::write(&filler, vec![1; 64 << 20]);
    let send = |client: &mut Client| client.send(POST, &under(key, "k"), &wrapped(&["a"]));
    let refused = send(&mut client);
    assert_eq!(refused.status, 503, "{refused:?}");
    let text = refused.body["errors"][0].as_str().unwrap();
    assert!(text.contains("all of it is in the queue"), "{text}");
    assert!(text.contains("No space left"), "{text}");
    let again = send(&mut client);
    assert_eq!(again.status, 503, "{again:?}");
    assert!(again.head.contains("retry-after: 5\r\n"), "{again:?}");
    // What cannot come again is as safe as ever.
    assert_eq!(client.post(key, &wrapped(&["b"])).status, 200);
    fs::remove_file(filler).unwrap();
    let again = send(&mut client);
    assert_eq!(
        (again.status, is_replayed(&again)),
        (200, true),
        "{again:?}"
    );
    drop(client);
    relay.stop().expect(exit::DONE);
    let relay = Relaying::start(&place, &[]);
    assert!(is_replayed(&send(&mut relay.client())));
    relay.stop().expect(exit::DONE);
    expect_delivered(&sandbox, &["a", "b"]).await;
}

/// A file system of its own, unmounted at the end. Says so where there is no right to mount one.
#[cfg(target_os = "linux")]
struct Tmpfs(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Tmpfs {
    #[expect(clippy::print_stderr, reason = "otherwise it would seem tested")]
    fn mount(path: &std::path::Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "everpost-test"]);
        let is_mounted = mount.arg(path).output();
        if is_mounted.is_ok_and(|run| run.status.success()) {
            return Some(Self(path.to_owned()));
        }
        eprintln!("no right to mount a file system: nothing was tested");
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for Tmpfs {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        let _ = unmount.arg("-l").arg(&self.0).status();
    }
}
