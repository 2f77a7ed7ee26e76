//! `doctor`: what it finds, and that it only looks.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::Value;

use crate::set_up::Place;

/// The verdict of each check.
fn verdicts(report: &Value) -> BTreeMap<&str, &str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .map(|check| {
            (
                check["check"].as_str().unwrap(),
                check["verdict"].as_str().unwrap(),
            )
        })
        .collect()
}

/// Every file below, with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_well_is_well_and_stays_as_it_is() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 3);
    let before = files(&place.spool());
    let report = place.run(&["doctor", "--json"]).expect(exit::DONE);
    assert!(!report.out.contains(sandbox.key()), "{report:?}");
    let report = report.json();
    let found = verdicts(&report);
    for check in ["spool", "owner", "clock", "key", "address", "api"] {
        assert_eq!(found.get(check), Some(&"ok"), "{check} {report}");
    }
    assert!(
        found.contains_key("disk") && found.contains_key("files"),
        "{report}"
    );
    let told = place.run(&["doctor"]).expect(exit::DONE);
    assert!(
        told.out.contains("3 events pending, 0 dead letters\n"),
        "{told:?}"
    );
    assert!(told.out.contains("for the channel `universal`"), "{told:?}");
    assert_eq!(files(&place.spool()), before);
    assert_eq!(sandbox.stats().accepted, 0);

    let service = place.serve(&[]);
    let told = place.run(&["doctor"]).expect(exit::DONE);
    assert!(
        told.out.contains("ok    owner     it answers; "),
        "{told:?}"
    );
    service.stop().expect(exit::DONE);
}

/// A program that has the spool open without a socket was not there for `doctor`: none answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_without_a_socket_is_named() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 1);
    let queue = everpost::Queue::builder(place.spool())
        .open()
        .await
        .unwrap();
    let pid = std::process::id();
    let told = place.run(&["doctor"]).expect(exit::DONE).out;
    let line = told.lines().find(|line| line.contains(" owner ")).unwrap();
    assert!(
        line.starts_with(&format!("warn  owner     process {pid} (")),
        "{told}"
    );
    assert!(
        line.ends_with(") has the spool open and serves no socket"),
        "{told}"
    );
    assert!(told.contains(&format!("end it (`kill {pid}`)")), "{told}");
    queue.close(std::time::Duration::ZERO).await.unwrap();
    let told = place.run(&["doctor"]).expect(exit::DONE).out;
    assert!(told.contains("ok    owner     none answers; "), "{told}");
}

/// Which proxy is meant was guessed from the variables that are set, also where none of them applies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_is_the_one_that_delivery_takes() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.append(1, 1);
    place.set_env("HTTPS_PROXY", "http://me:secret@127.0.0.1:9");
    let straight = place.run(&["doctor", "--json"]).expect(exit::DONE).json();
    assert!(!verdicts(&straight).contains_key("proxy"), "{straight}");
    place.set_env("BA_BASE_URL", "https://api.invalid/v2");
    let through = place.run(&["doctor"]).expect(exit::UNEXPECTED).out;
    let told = "ok    proxy     requests go through http://127.0.0.1:9 (HTTPS_PROXY)\n";
    assert!(through.contains(told), "{through}");
    assert!(!through.contains("secret"), "{through}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_that_is_wrong_is_named_with_what_to_do() {
    let sandbox = Sandbox::start().await.unwrap();
    let bare = Place::new();
    let told = bare.run(&["doctor", "--json"]);
    let report = told.expect(exit::UNEXPECTED).json();
    let found = verdicts(&report);
    assert_eq!((found["spool"], found["key"]), ("warn", "fail"), "{report}");
    assert_eq!(report["verdict"], "fail");
    assert!(!bare.spool().exists());

    let mut place = Place::with(&sandbox);
    let key = place.path("key");
    fs::write(&key, sandbox.key()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    place.set_env("BA_API_KEY_FILE", key.to_str().unwrap());
    let exposed = place.run(&["doctor", "--json"]).expect(exit::DONE).json();
    assert_eq!(verdicts(&exposed)["keyfile"], "warn", "{exposed}");
    // Nothing of a key that ended is shown but when.
    fs::write(&key, "a.eyJjaGFubmVsIjoidW5pdmVyc2FsIiwiZXhwIjoxfQ.secret").unwrap();
    let ended = place.run(&["doctor"]).expect(exit::UNEXPECTED);
    assert!(
        ended.out.contains("it ended 1970-01-01T00:00:01.000Z\n"),
        "{ended:?}"
    );
    assert!(
        !ended.out.contains("secret") && !ended.out.contains("eyJ"),
        "{ended:?}"
    );
    let fifo = place.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    place.set_env("BA_API_KEY_FILE", fifo.to_str().unwrap());
    let fifo = place.run(&["doctor"]).expect(exit::UNEXPECTED);
    assert!(fifo.out.contains("it is no regular file"), "{fifo:?}");

    let mut gone = Place::with(&sandbox);
    sandbox.go_away().await.unwrap();
    let away = gone
        .run(&["doctor", "--json"])
        .expect(exit::UNEXPECTED)
        .json();
    assert_eq!(verdicts(&away)["api"], "fail", "{away}");
    gone.set_env("BA_BASE_URL", "localhost:9999");
    let address = gone.run(&["doctor"]).expect(exit::UNEXPECTED);
    assert!(
        address.out.contains("set BA_BASE_URL to the whole address"),
        "{address:?}"
    );
}
