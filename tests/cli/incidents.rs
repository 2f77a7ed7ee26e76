//! What was found wrong with a spool: told by every command until a person has acknowledged it.

use std::fs;
use std::path::PathBuf;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::Value;

use crate::damage::{SMALL, damage_a_segment};
use crate::set_up::{Ended, Place, bad_message, message};

/// A spool with so many dead letters, closed in good order.
pub(crate) async fn with_letters(letters: u64) -> (Sandbox, Place) {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    // With good ones in between, since too many refusals in a row pause delivery.
    let pair = |n| bad_message(2 * n) + &message(2 * n + 1);
    let input: String = (0..letters).map(pair).collect();
    let append = ["append", "--batch", "256"];
    place.feed(&append, &input).expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    (sandbox, place)
}

/// The databases that hold the letters.
pub(crate) fn letter_files(place: &Place) -> Vec<PathBuf> {
    let volumes = fs::read_dir(place.spool().join("letters")).unwrap();
    let files: Vec<PathBuf> = volumes.map(|dir| dir.unwrap().path().join("db")).collect();
    assert!(!files.is_empty());
    files
}

fn incidents(place: &Place) -> Vec<Value> {
    place
        .run(&["incidents", "--json"])
        .expect(exit::DONE)
        .lines()
}

/// Lines on standard error that tell of an incident.
fn told(ended: &Ended) -> usize {
    let tells = |line: &&str| {
        line.starts_with("everpost: incident ") && line.ends_with("; see `everpost incidents`")
    };
    ended.err.lines().filter(tells).count()
}

/// Every command tells of what no person has acknowledged, then a person acknowledges it, and none
/// tells of it any more.
#[track_caller]
fn is_told_until_acknowledged(place: &Place) {
    let all = incidents(place).len();
    assert!(all > 0);
    // The first of them opens the spool: from then on all is on record.
    place.feed(&["append"], "1\n").expect(exit::DONE);
    let commands: [&[&str]; 7] = [
        &["append"],
        &["peek"],
        &["export"],
        &["dead", "list"],
        &["verify"],
        &["repair"],
        &["pause"],
    ];
    for command in commands {
        let ended = place.run(command).expect(exit::DONE);
        assert_eq!(told(&ended), all, "{command:?}: {ended:?}");
    }
    let status = place.run(&["status"]).expect(exit::DONE);
    let rows = |ended: &Ended| ended.out.matches("\nincident ").count();
    assert_eq!(
        (rows(&status), status.err.as_str()),
        (all, ""),
        "{status:?}"
    );
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["incidents"].as_array().unwrap().len(), all);
    let numbers: Vec<u64> = incidents(place)
        .iter()
        .map(|incident| incident["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.iter().copied().eq(1..=all as u64), "{numbers:?}");

    for unclear in [&["--acknowledge"][..], &["--acknowledge", "1", "--all"]] {
        let unclear = [&["incidents"], unclear].concat();
        place.run(&unclear).expect(exit::USAGE);
    }
    let wrong = ["incidents", "--acknowledge", "1", "77"];
    let wrong = place.run(&wrong).expect(exit::USAGE);
    let said = "everpost: no such incident is on record. number=`77`\n";
    assert!(wrong.err.starts_with(said), "{}", wrong.err);
    let one = place.run(&["incidents", "--acknowledge", "1"]);
    assert!(one.expect(exit::DONE).out.starts_with("1  "));
    assert_eq!(told(&place.run(&["peek"])), all - 1);
    let rest = place.run(&["incidents", "--acknowledge", "--all", "--json"]);
    let rest = rest.expect(exit::DONE).lines();
    assert_eq!(rest.len(), all - 1);
    assert!(
        rest.iter()
            .all(|incident| incident["acknowledged_ms"].is_u64())
    );
    for command in commands {
        let ended = place.run(command).expect(exit::DONE);
        assert_eq!(told(&ended), 0, "{command:?}: {ended:?}");
    }
    let status = place.run(&["status"]).expect(exit::DONE);
    assert_eq!(rows(&status), 0, "{status:?}");
    assert_eq!(incidents(place).len(), all);
}

/// One flipped bit in the store of dead letters, and a look at them took 200 letters away without a
/// word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_costs_no_letter_and_is_told() {
    let (_sandbox, place) = with_letters(40).await;
    let letters = |code| place.run(&["dead", "list", "--json"]).expect(code).lines();
    let before = letters(exit::DONE);
    assert_eq!(before.len(), 40);
    for file in letter_files(&place) {
        let mut bytes = fs::read(&file).unwrap();
        bytes[40] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    place.run(&["verify"]).expect(exit::DAMAGED);
    assert_eq!(letters(exit::DONE), before);
    assert_eq!(told(&place.run(&["dead", "list"])), 1);
    is_told_until_acknowledged(&place);
    assert_eq!(letters(exit::DONE), before);
    place
        .run(&["dead", "retry", "1", "--yes"])
        .expect(exit::DONE);
    assert_eq!(letters(exit::DONE), before[1..]);
}

/// The store of dead letters was empty all of a sudden, and no command ever said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_are_gone_are_told() {
    let (_sandbox, place) = with_letters(2).await;
    for file in letter_files(&place) {
        fs::write(file, "").unwrap();
    }
    let verified = place.run(&["verify"]).expect(exit::DAMAGED);
    assert!(
        verified.out.contains("2 dead letters are missing"),
        "{verified:?}"
    );
    is_told_until_acknowledged(&place);
    let status = place.run(&["status"]).expect(exit::DONE);
    let books = "\nletters      held 0, retried 0, discarded 0, lost 2, returned 0\n";
    assert!(status.out.contains(books), "{}", status.out);
}

/// The newest file of the journal was removed: `verify` said so once, the next command made a new
/// file, and numbers began at 1 again.
#[test]
fn a_journal_file_that_is_gone_is_told_and_no_number_is_given_twice() {
    let place = Place::new();
    let mut owner = place.start(&["append", "--ack", "--batch", "16"]);
    let input: String = (1..=135).map(message).collect();
    owner.write(&input);
    owner.read_until(|line| line == "ACK 134");
    owner.signal("-KILL");
    owner.end();
    let files = fs::read_dir(place.spool().join("journal")).unwrap();
    let of = |path: PathBuf| (fs::metadata(&path).unwrap().modified().unwrap(), path);
    let (_, newest) = files.map(|file| of(file.unwrap().path())).max().unwrap();
    fs::remove_file(newest).unwrap();
    let lost = place.run(&["verify"]).expect(exit::DAMAGED);
    assert!(lost.out.contains("it is gone"), "{}", lost.out);
    let appended = place
        .feed(&["append", "--json"], &message(1))
        .expect(exit::DONE);
    assert!(told(&appended) > 0, "{appended:?}");
    let first = appended.json()["first_seq"].as_u64().unwrap();
    assert!(first > 135, "{first}");
    is_told_until_acknowledged(&place);
}

/// Without its journal a spool failed for ever, `repair --apply` included.
#[test]
fn a_journal_that_is_gone_is_made_anew_and_told() {
    let place = Place::new();
    place.append(1, 3);
    fs::remove_dir_all(place.spool().join("journal")).unwrap();
    let planned = place.run(&["repair"]).expect(exit::DAMAGED);
    assert!(
        planned.out.contains("plan: journal is made anew\n"),
        "{planned:?}"
    );
    assert!(!place.spool().join("journal").exists());
    let repaired = place.run(&["repair", "--apply"]).expect(exit::DONE);
    let told = "on record: 1 (";
    assert!(repaired.out.starts_with(told), "{}", repaired.out);
    assert!(
        repaired.out.contains("missing: events 1 to 3\n"),
        "{}",
        repaired.out
    );
    is_told_until_acknowledged(&place);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["last_seq"], 4);
}

/// `repair --apply` opened and closed, and did not see what an opening does not read.
#[test]
fn a_repair_reads_all_and_puts_what_it_finds_on_record() {
    let mut place = Place::new();
    place.settings(SMALL);
    // So many that the first segment is not the last, which an opening reads.
    place.append(1, 12_000);
    let mut segments: Vec<PathBuf> = fs::read_dir(place.spool().join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    let db = segments[0].join("db");
    let mut bytes = fs::read(&db).unwrap();
    bytes[40] ^= 1;
    fs::write(db, bytes).unwrap();
    place.append(12_001, 1);
    assert_eq!(incidents(&place), Vec::<Value>::new());
    place.run(&["verify"]).expect(exit::DAMAGED);
    let repaired = place.run(&["repair", "--apply"]).expect(exit::DONE);
    let shown = "on record: 1 (";
    assert!(repaired.out.starts_with(shown), "{}", repaired.out);
    let verified = place.run(&["verify"]).expect(exit::DONE);
    let known = "\nknown: segments/00000000000000000001: ";
    assert!(verified.out.contains(known), "{}", verified.out);
    assert_eq!(told(&verified), 1);
    is_told_until_acknowledged(&place);
}

/// Events that are lost in a segment are on record with their numbers once a repair read it. Of a
/// segment other than the last only "its bytes have changed" was, and the spool stayed unsound.
#[test]
fn a_repair_shows_the_events_that_are_gone() {
    for count in [3_000, 12_000] {
        is_shown_by_a_repair(count);
    }
}

fn is_shown_by_a_repair(count: u64) {
    let mut place = Place::new();
    place.settings(SMALL);
    place.append(1, count);
    damage_a_segment(&place);
    place.run(&["verify"]).expect(exit::DAMAGED);
    let repaired = place.run(&["repair", "--apply", "--json"]);
    let repaired = repaired.expect(exit::DONE).json();
    let found = repaired["incidents"].as_array().unwrap();
    let missing = &repaired["before"]["missing"][0];
    let is_told = |incident: &Value| incident["missing"] == *missing;
    assert!(found.iter().any(is_told), "{repaired}");
    assert_eq!(repaired["after"]["errors"], serde_json::json!([]));
    assert_eq!(repaired["after"]["missing"][0], *missing);
}

/// A service shows what was found in its log, and lets it be acknowledged through its socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_tells_and_is_told_through_its_socket() {
    let (_sandbox, mut place) = with_letters(2).await;
    for file in letter_files(&place) {
        fs::write(file, "").unwrap();
    }
    place.env.push(("EVERPOST_LOG", "error".to_owned()));
    let service = place.serve(&[]);
    let listed = incidents(&place);
    assert!(listed.len() >= 2, "{listed:?}");
    let commands: [&[&str]; 5] = [&["drain"], &["peek"], &["wake"], &["pause"], &["resume"]];
    for command in commands {
        let ended = place.run(command).expect(exit::DONE);
        assert_eq!(told(&ended), listed.len(), "{command:?}: {ended:?}");
    }
    place
        .run(&["incidents", "--acknowledge", "77"])
        .expect(exit::USAGE);
    let done = place.run(&["incidents", "--acknowledge", "2"]);
    assert!(done.expect(exit::DONE).out.starts_with("2  "));
    assert_eq!(told(&place.run(&["peek"])), listed.len() - 1);
    place.run(&["incidents", "--all"]).expect(exit::DONE);
    assert_eq!(place.run(&["peek"]).expect(exit::DONE).err, "");
    let again = place.run(&["incidents", "--all"]).expect(exit::DONE);
    assert!(again.err.contains("nothing to acknowledge"), "{again:?}");
    let ended = service.stop().expect(exit::DONE);
    let logged = ended.err.matches("ERROR incident ").count();
    assert_eq!(logged, listed.len(), "{}", ended.err);
    assert_eq!(place.run(&["peek"]).expect(exit::DONE).err, "");
}
