//! `append`, `import` and `export`.

use std::io::Write;

use everpost::exit;

use crate::set_up::{Place, message};

#[test]
fn an_event_is_acknowledged_and_seen_in_the_status() {
    let place = Place::new();
    let appended = place
        .feed(&["append", "--ack"], &message(1))
        .expect(exit::DONE);
    assert_eq!(
        (appended.out.as_str(), appended.err.as_str()),
        ("ACK 0\n", &*place.made())
    );
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["pending"], 1);
    assert_eq!(status["ledger"]["appended"], 1);
    assert_eq!(status["pending_bytes"], message(1).trim_end().len());
}

#[test]
fn acknowledgements_count_events_from_the_number_that_was_asked_for() {
    let place = Place::new();
    let input = message(1) + "bad\n\n" + &message(2) + &message(3);
    let appended = place.feed(&["append", "--ack-from", "7", "--batch", "2"], &input);
    let appended = appended.expect(exit::REFUSED);
    assert_eq!(appended.out, "ACK 7\nACK 8\nACK 9\n");
    let refused =
        "everpost: line 2 is refused: not one JSON value: it breaks the syntax at column 1\n";
    assert_eq!(appended.err, place.made() + refused);
}

#[test]
fn strict_stops_at_the_first_bad_line_and_keeps_what_stands_before_it() {
    let place = Place::new();
    let input = message(1) + &message(2) + "bad\n" + &message(3);
    let args = ["append", "--strict", "--batch", "10", "--json"];
    let tally = place.feed(&args, &input).expect(exit::REFUSED).json();
    assert_eq!(
        (tally["appended"].as_u64(), tally["refused"].as_u64()),
        (Some(2), Some(1))
    );
    let verified = place.run(&["verify"]).expect(exit::DONE);
    assert!(
        verified
            .out
            .starts_with("n=2 first=1 last=2 gaps=0 errs=0\n"),
        "{verified:?}"
    );
}

#[test]
fn an_event_that_is_too_large_is_refused_and_its_neighbours_are_not() {
    let place = Place::new();
    let large = format!("\"{}\"\n", "x".repeat(300 << 10));
    let larger = format!("\"{}\"\n", "x".repeat(9 << 20));
    let input = message(1) + &large + &larger + &message(2);
    let args = ["append", "--json", "--batch", "10"];
    let appended = place.feed(&args, &input).expect(exit::REFUSED);
    assert_eq!(appended.json()["appended"], 2);
    assert!(
        appended
            .err
            .contains("line 2 is refused: event is too large"),
        "{}",
        appended.err
    );
    assert!(
        appended.err.contains("line 3 is refused: it is longer"),
        "{}",
        appended.err
    );
}

#[test]
fn after_ctrl_c_everything_acknowledged_is_there_and_nothing_else() {
    let place = Place::new();
    let mut running = place.start(&["append", "--ack", "--batch", "16"]);
    let mut stdin = running.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut n = 0;
        // For as long as the output is read.
        while stdin.write_all(message(n).as_bytes()).is_ok() {
            n += 1;
        }
    });
    running.read_until(|line| line == "ACK 500");
    running.signal("-INT");
    let ended = running.end().expect(exit::DONE);
    writer.join().unwrap();
    let last = ended
        .out
        .lines()
        .last()
        .unwrap()
        .strip_prefix("ACK ")
        .unwrap();
    let acknowledged = last.parse::<u64>().unwrap() + 1;
    let verified = place.run(&["verify"]).expect(exit::DONE);
    let expected = format!("n={acknowledged} first=1 last={acknowledged} gaps=0 errs=0\n");
    assert!(
        verified.out.starts_with(&expected),
        "{expected} {}",
        verified.out
    );
}

#[test]
fn ctrl_c_does_not_wait_for_input_that_does_not_come() {
    for signal in ["-INT", "-TERM"] {
        let place = Place::new();
        let mut running = place.start(&["append", "--ack", "--level", "written"]);
        running.write(&(message(1) + &message(2) + "{\"half\":"));
        running.read_until(|line| line == "ACK 1");
        running.signal(signal);
        // Its standard input is still open.
        let stdin = running.stdin.take();
        let ended = running.end().expect(exit::DONE);
        assert!(!ended.out.contains("ACK"), "{ended:?}");
        drop(stdin);
        assert_eq!(place.run(&["peek", "--json"]).lines().len(), 2);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_input() {
    let place = Place::new();
    let mut running = place.start(&["append", "--ack", "--batch", "256"]);
    let mut stdin = running.stdin.take().unwrap();
    let pad = "x".repeat(2_000);
    let writer = std::thread::spawn(move || {
        for n in 0..40_000 {
            writeln!(stdin, "{{\"n\":{n},\"pad\":\"{pad}\"}}").unwrap();
        }
        stdin
    });
    running.read_until(|line| line == "ACK 39999");
    let stdin = writer.join().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    drop(stdin);
    running.end().expect(exit::DONE);
    assert!(kib < 64 << 10, "{kib} KiB");
}

#[test]
fn a_full_spool_is_said_with_the_line_and_keeps_what_was_taken() {
    let mut place = Place::new();
    place.settings(
        "journal_bytes = 65536\nmax_event_bytes = 16384\ntail_bytes = 65536\n\
         chunk_bytes = 65536\nsegment_bytes = 131072\nmax_bytes = 5242880\non_full = \"block\"\n",
    );
    // Noise, since what compresses never fills it.
    let mut noise = 1_u64;
    let mut line = |n: u64| {
        let mut pad = String::new();
        for _ in 0..8_000 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            pad.push(char::from(b'0' + (noise % 75) as u8));
        }
        format!("{{\"n\":{n},\"pad\":{}}}\n", serde_json::Value::String(pad))
    };
    let input: String = (0..1_500).map(&mut line).collect();
    let full = place.feed(&["append", "--json"], &input).expect(exit::FULL);
    let taken = full.json()["appended"].as_u64().unwrap();
    assert!(taken > 0, "{full:?}");
    let said = format!(
        "{}{{\"error\":\"line {} and what follows is not appended: spool is full",
        place.made(),
        taken + 1
    );
    assert!(full.err.starts_with(&said), "{}", full.err);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["pending"], taken);
}

#[test]
fn a_backlog_is_carried_to_another_spool_with_its_ids_and_times() {
    let (from, to) = (Place::new(), Place::new());
    from.append(1, 700);
    let exported = from.run(&["export"]).expect(exit::DONE);
    assert_eq!(exported.out.lines().count(), 700);
    to.feed(&["import", "--batch", "64"], &exported.out)
        .expect(exit::DONE);
    assert_eq!(to.run(&["export"]).expect(exit::DONE).out, exported.out);
    let again = to
        .feed(&["import", "-"], "{\"event\":1}\n{\"event\":}\n")
        .expect(exit::REFUSED);
    assert!(again.err.contains("line 2 is refused"), "{}", again.err);
}

#[test]
fn a_reader_that_goes_away_is_not_a_failure() {
    let place = Place::new();
    place.append(1, 3_000);
    let mut child = place.command(&["export"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
