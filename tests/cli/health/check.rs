//! `check`: a code for what is wrong.

use super::*;

/// What is wrong, by its kind.
fn kinds(place: &Place, args: &[&str], code: u8) -> Vec<String> {
    let checked = place.run(&[&["status", "--check", "--json"], args].concat());
    let report = checked.expect(code).json();
    assert_eq!(report["code"], code);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(report["ok"], findings.is_empty());
    let kind = |finding: &Value| finding["kind"].as_str().unwrap().to_owned();
    let kinds: Vec<_> = findings.iter().map(kind).collect();
    let people = place
        .run(&[&["status", "--check"], args].concat())
        .expect(code);
    assert_eq!(people.out.lines().count(), kinds.len().max(1), "{people:?}");
    assert_eq!(
        people.out.starts_with("ok: "),
        kinds.is_empty(),
        "{people:?}"
    );
    kinds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_ends_with_a_code_for_what_is_wrong() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let none: [&str; 0] = [];
    assert_eq!(kinds(&place, &[], exit::USAGE), ["unreachable"]);
    place.append(1, 2);
    // Without an owner.
    assert_eq!(kinds(&place, &[], exit::DONE), none);
    assert_eq!(kinds(&place, &["--owner"], exit::IN_USE), ["no_owner"]);
    assert_eq!(kinds(&place, &["--max-age", "0"], exit::LIMIT), ["age"]);
    place.run(&["pause"]).expect(exit::DONE);
    assert_eq!(kinds(&place, &[], exit::PAUSED), ["paused"]);
    // With one.
    let service = place.serve(&[]);
    assert_eq!(kinds(&place, &["--owner"], exit::PAUSED), ["paused"]);
    assert_eq!(
        kinds(
            &place,
            &["--max-disk", "0", "--max-age", "0s"],
            exit::PAUSED
        ),
        ["paused", "disk", "age"]
    );
    sandbox.always(Fault::Answer(
        Reply::status(503).retry_after(Duration::from_secs(3600)),
    ));
    place.run(&["resume"]).expect(exit::DONE);
    let mut watcher = place.start(&["status", "--watch", "--json"]);
    watcher.read_until(|line| line.contains("\"state\":\"backing_off\""));
    drop(watcher.stdout);
    assert_eq!(kinds(&place, &[], exit::DONE), none);
    assert_eq!(
        kinds(&place, &["--max-backoff", "0s"], exit::LIMIT),
        ["backing_off"]
    );
    sandbox.clear();
    place.feed(&["append"], &bad_message(3)).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    assert_eq!(kinds(&place, &[], exit::LIMIT), ["dead_letters"]);
    assert_eq!(kinds(&place, &["--max-dead", "1"], exit::DONE), none);
    // An owner that stands still.
    service.running.signal("-STOP");
    assert_eq!(kinds(&place, &[], exit::IN_USE), ["unreachable"]);
    service.running.signal("-CONT");
    service.stop().expect(exit::DONE);
    // Damage: the letter is gone.
    for file in crate::incidents::letter_files(&place) {
        std::fs::write(file, "").unwrap();
    }
    let damaged = kinds(&place, &[], exit::DAMAGED);
    assert!(damaged.iter().all(|kind| kind == "incident"), "{damaged:?}");
    place
        .run(&["status", "--max-dead", "1"])
        .expect(exit::USAGE);
    place
        .run(&["status", "--check", "--watch"])
        .expect(exit::USAGE);
    for wrong in [
        ["--max-disk", "101%"],
        ["--max-backoff", "x"],
        ["--max-dead", "-1"],
    ] {
        place
            .run(&[&["status", "--check"], &wrong[..]].concat())
            .expect(exit::USAGE);
    }
}
