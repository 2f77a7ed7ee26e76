//! What callers can get wrong: each is a typed error that says what to do, and nothing is lost,
//! touched or brought down by it.

#![cfg(test)]

mod values;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::botanalytics::{Botanalytics, KeyError, KeySource};
use everpost::{
    AppendError, Durability, Error, Event, EventId, FlusherState, OnFull, PauseReason, Queue,
    Settings,
};

#[path = "../common/mod.rs"]
mod common;

use common::{
    World, assert_books, drained, event, event_with, events, id, ids, settings, settings_that_wait,
    until, within,
};

/// The hint of an error that is fit to be shown: one line that has this in it.
#[track_caller]
fn assert_hint(error: &Error, expected: &str) {
    let hint = error.hint();
    assert!(hint.contains(expected), "{error}: {hint}");
    for text in [hint, &error.to_string()] {
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    }
}

async fn open(spool: &Path) -> Result<Queue, Error> {
    Ok(Queue::builder(spool).settings(settings()).open().await?)
}

/// Everything in a directory with its content.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = if path.is_dir() {
                vec![]
            } else {
                std::fs::read(&path).unwrap()
            };
            (path.to_string_lossy().into_owned(), bytes)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_not_json_is_refused_where_it_is_made() {
    for bad in [
        "", " ", "{", "{}{}", "[1,]", "nul", "{'a':1}", "\u{0}", "NaN",
    ] {
        let error = Event::json(bad).unwrap_err();
        assert!(matches!(error, Error::InvalidEvent { .. }), "{bad:?}");
        assert_hint(&error, "one JSON value");
    }
    let error = "no-uuid".parse::<EventId>().unwrap_err();
    assert!(matches!(error, Error::InvalidEvent { .. }));
    // Keys of maps that are no texts cannot be written as JSON.
    let map = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = Event::from_serialize(&map).unwrap_err();
    assert!(matches!(error, Error::InvalidEvent { .. }));
}

#[tokio::test]
async fn an_event_over_the_limit_is_refused_and_costs_no_number() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let max = settings().max_event_bytes;
    let frame = event_with(1, "").json_bytes().len() as u64;
    let sized = |n, bytes: u64| event_with(n, &"x".repeat((bytes - frame) as usize));

    let error = Error::from(queue.append(sized(1, max + 1)).await.unwrap_err());
    let Error::TooLarge {
        bytes,
        max: limit,
        setting,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (*bytes, *limit, *setting),
        (max + 1, max, "max_event_bytes")
    );
    assert_hint(&error, "raise the setting");
    let all = [event(2), sized(3, max + 1), event(4)];
    let error = queue.append_all(all).await.unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { .. }), "{error:?}");
    assert_eq!(queue.status().ledger.appended, 0);

    assert_eq!(queue.append(sized(5, max)).await.unwrap().seq, 1);
    drained(&queue).await;
    world.sandbox.check_order(ids([5])).unwrap();
}

#[tokio::test]
async fn more_than_half_a_journal_at_once_is_refused_whole() {
    let world = World::new().await;
    let queue = world.open(settings()).await;
    let text = "x".repeat(100_000);
    let too_many = (1..=3).map(|n| event_with(n, &text));
    let error = Error::from(queue.append_all(too_many).await.unwrap_err());
    let Error::TooLarge { setting, max, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(setting.contains("journal_bytes"), "{setting}");
    assert_eq!(*max, settings().journal_bytes / 2);
    assert_hint(&error, "raise the setting");
    assert_eq!(queue.status().ledger.appended, 0);

    assert_eq!(queue.append_all([]).await.unwrap(), []);
    let some = queue.append_all((4..=5).map(|n| event_with(n, &text)));
    assert_eq!(some.await.unwrap()[1].seq, 2);
    drained(&queue).await;
    world.sandbox.check_order(ids([4, 5])).unwrap();
}

/// Header and signature are nonsense, as everywhere in the tests.
fn key(claims: &str) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    format!("e30.{}.SECRET", engine.encode(claims))
}

#[test]
fn a_key_that_cannot_be_one_is_refused_before_anything_is_sent() {
    let universal = key(r#"{"channel":"universal"}"#);
    let cases = [
        ("".to_owned(), "set `BA_API_KEY`"),
        (" \n".to_owned(), "set `BA_API_KEY`"),
        ("SECRET".to_owned(), "copy the whole key"),
        ("SECRET.SECRET".to_owned(), "copy the whole key"),
        ("e30.!SECRET.x".to_owned(), "without quotes"),
        ("e30.SECRET_.x".to_owned(), "copy the whole key"),
        (key("[]"), "copy the whole key"),
        (key("{}"), "copy the whole key"),
        (format!("Bearer {universal}"), "without `Bearer`"),
        (format!("\"{universal}\""), "without quotes"),
        (key(r#"{"channel":"rasa"}"#), "of the channel"),
    ];
    for (key, expected) in cases {
        let source = KeySource::value(key.clone());
        let error = Botanalytics::builder(source).channel("universal").build();
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Key(_)), "{error:?}");
        assert_hint(&error, expected);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
    let unset = KeySource::variable("EVERPOST_TEST_OF_A_KEY_THAT_IS_NOT_SET");
    let error = Botanalytics::new(unset).unwrap_err();
    assert!(matches!(error, Error::Key(KeyError::NotSet { .. })));
    assert_hint(&error, "BA_API_KEY");
    let error = Botanalytics::new(KeySource::file("/no/such/file")).unwrap_err();
    assert!(matches!(error, Error::Key(KeyError::Unreadable { .. })));
    assert_hint(&error, "the file");
}

#[tokio::test]
async fn an_expired_key_pauses_before_any_request_and_loses_nothing() {
    let world = World::new().await;
    let expired = world
        .sandbox
        .issue_key_until(UNIX_EPOCH + Duration::from_secs(9));
    let sink = world.sink_builder().key(KeySource::value(expired));
    let sink = sink.build().unwrap();
    let keys = sink.key_handle();
    let queue = world.open_to(sink, settings()).await;
    queue.append_all(events(1..=5)).await.unwrap();
    let paused = |state: &FlusherState| match state {
        FlusherState::Paused {
            reason, last_error, ..
        } => {
            assert_eq!(*reason, PauseReason::Credentials);
            let detail = last_error.detail.as_deref().unwrap();
            assert!(detail.contains("expired") && detail.contains("1970"));
            true
        }
        _ => false,
    };
    let status = until(&queue, |status| paused(&status.flusher)).await;
    assert_eq!((status.pending, status.dead_letters), (5, 0));
    assert_eq!(world.sandbox.stats().requests, 0);
    keys.replace(world.sandbox.key()).unwrap();
    drained(&queue).await;
    world.sandbox.check_order(ids(1..=5)).unwrap();
}

#[test]
fn an_address_that_would_show_the_key_or_makes_no_sense_is_refused() {
    for base_url in [
        "http://api.beta.botanalytics.co/v2",
        "http://192.168.0.1/v2",
        "http://localhost.example.com/v2",
        "ftp://localhost/v2",
        "localhost:80",
        "",
    ] {
        let source = KeySource::value(key(r#"{"channel":"universal"}"#));
        let sink = Botanalytics::builder(source).base_url(base_url);
        let error = sink.build().unwrap_err();
        assert!(matches!(error, Error::Sink { .. }), "{base_url}: {error:?}");
        assert_hint(&error, "base URL");
    }
    let source = KeySource::value(key(r#"{"channel":"universal"}"#));
    let sink = Botanalytics::builder(source).request_timeout(Duration::ZERO);
    assert_hint(&sink.build().unwrap_err(), "time limit");
}

#[tokio::test]
async fn a_spool_held_by_another_queue_names_its_process() {
    let world = World::new().await;
    let queue = open(&world.spool()).await.unwrap();
    queue.append(event(1)).await.unwrap();
    for _ in 0..3 {
        let error = open(&world.spool()).await.unwrap_err();
        let Error::InUse { pid, path } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*pid, Some(std::process::id()));
        assert_eq!(*path, world.spool());
        assert_hint(&error, "different directory");
    }
    // The first one has not noticed.
    assert_eq!(queue.append(event(2)).await.unwrap().seq, 2);
    queue.close(Duration::ZERO).await.unwrap();
    assert_eq!(open(&world.spool()).await.unwrap().status().pending, 2);
}

const HELD: &str = "EVERPOST_TEST_OF_A_SPOOL_TO_HOLD";

/// What the other process does: appends one event, says so, and holds the spool until it is
/// killed.
async fn hold(spool: &Path) {
    let queue = open(spool).await.unwrap();
    queue.append(event(1)).await.unwrap();
    println!("\nheld");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_spool_held_by_another_process_names_it_and_is_free_once_that_is_dead() {
    if let Some(spool) = std::env::var_os(HELD) {
        return hold(Path::new(&spool)).await;
    }
    let world = World::new().await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("a_spool_held_by_another_process_names_it_and_is_free_once_that_is_dead")
        .env(HELD, world.spool())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).any(|line| line == "held");
    assert!(held, "the other process ended too early");

    let error = open(&world.spool()).await.unwrap_err();
    let Error::InUse { pid, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*pid, Some(child.id()));
    assert!(error.to_string().contains(&child.id().to_string()));
    assert_hint(&error, "stop the other process");

    child.kill().unwrap();
    child.wait().unwrap();
    let queue = world.open(settings()).await;
    assert_eq!(drained(&queue).await.ledger.delivered, 1);
    world.sandbox.check_order(ids([1])).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_program_started_meanwhile_does_not_hold_the_spool() {
    let world = World::new().await;
    let queue = open(&world.spool()).await.unwrap();
    // It lives until its input ends, with every descriptor it was left.
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    queue.append(event(1)).await.unwrap();
    queue.close(Duration::ZERO).await.unwrap();
    let queue = open(&world.spool()).await.unwrap();
    assert_eq!(queue.status().pending, 1);
    assert!(child.try_wait().unwrap().is_none(), "it ended too early");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[tokio::test]
async fn a_spool_of_a_later_version_is_left_untouched() {
    let world = World::new().await;
    let queue = open(&world.spool()).await.unwrap();
    queue.append(event(1)).await.unwrap();
    queue.close(Duration::ZERO).await.unwrap();
    let marker = world.spool().join("spool.json");
    let original = std::fs::read_to_string(&marker).unwrap();
    let later = original.replace("\"everpost_format\": 2", "\"everpost_format\": 9");
    assert_ne!(original, later);
    std::fs::write(&marker, &later).unwrap();
    let before = content(&world.spool());

    let error = open(&world.spool()).await.unwrap_err();
    let Error::FutureFormat {
        found, supported, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((*found, *supported), (9, 2));
    assert_hint(&error, "newer");
    let without_lock = |mut all: Vec<(String, Vec<u8>)>| {
        all.retain(|(name, _)| !name.ends_with("/lock"));
        all
    };
    assert_eq!(without_lock(content(&world.spool())), without_lock(before));

    std::fs::write(&marker, &original).unwrap();
    assert_eq!(open(&world.spool()).await.unwrap().status().pending, 1);
}

#[tokio::test]
async fn markers_that_cannot_be_read_are_left_to_a_person() {
    let world = World::new().await;
    let queue = open(&world.spool()).await.unwrap();
    queue.append(event(1)).await.unwrap();
    queue.close(Duration::ZERO).await.unwrap();
    let names = ["spool.json", "spool.copy.json"].map(|name| world.spool().join(name));
    let original = std::fs::read(&names[0]).unwrap();
    for name in &names {
        std::fs::write(name, "not JSON").unwrap();
    }
    let error = open(&world.spool()).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert_hint(&error, "keep a copy");
    std::fs::write(&names[1], original).unwrap();
    assert_eq!(open(&world.spool()).await.unwrap().status().pending, 1);
}

#[tokio::test]
async fn a_place_that_is_no_spool_is_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let thesis = dir.path().join("thesis.txt");
    std::fs::write(&thesis, "precious").unwrap();
    for path in [dir.path(), &thesis] {
        let error = open(path).await.unwrap_err();
        assert!(matches!(error, Error::NotASpool { .. }), "{error:?}");
        assert_hint(&error, "choose an empty directory");
    }
    let within_a_file = open(&thesis.join("spool")).await.unwrap_err();
    assert!(
        matches!(within_a_file, Error::Storage { .. }),
        "{within_a_file:?}"
    );
    assert_hint(&within_a_file, "writable");
    for odd in ["", "a\0b"] {
        let error = open(Path::new(odd)).await.unwrap_err();
        assert!(matches!(error, Error::Storage { .. }), "{odd:?}: {error:?}");
    }
    let only = [(thesis.to_string_lossy().into_owned(), b"precious".to_vec())];
    assert_eq!(content(dir.path()), only);
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_may_not_be_written_is_refused_in_words() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("locked");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o555)).unwrap();
    if std::fs::write(path.join("probe"), "").is_ok() {
        println!("this user may write everywhere, so there is nothing to see here");
        return;
    }
    for spool in [path.clone(), path.join("spool")] {
        let error = open(&spool).await.unwrap_err();
        let Error::Storage { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
        assert_hint(&error, "writable");
    }
}
