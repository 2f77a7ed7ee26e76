//! What people and programs read.

use std::collections::BTreeSet;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::Value;

use crate::set_up::{Place, bad_message, message};

/// Puts a mark for everything that differs from run to run.
fn masked(text: &str) -> String {
    let word = |word: &str| {
        let core = word.trim_matches(|c: char| ",;:()`".contains(c));
        let is_id = core.len() == 36 && core.matches('-').count() == 4;
        let is_time = core.len() == 24 && core.ends_with('Z');
        let mask = if is_id {
            "<id>"
        } else if is_time {
            "<time>"
        } else {
            return word.to_owned();
        };
        word.replace(core, mask)
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    let cut = |line: String| match (line.find("; the oldest is "), line.starts_with("disk ")) {
        (Some(at), _) => line[..at].to_owned() + "; the oldest is <age> old",
        (_, true) => "disk         <bytes>".to_owned(),
        _ => line,
    };
    text.lines().map(|text| cut(line(text)) + "\n").collect()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_this() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place
        .feed(&["append"], &(message(1) + &bad_message(2)))
        .expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    let appended = place.feed(&["append"], &message(3)).expect(exit::DONE);
    assert_eq!(appended.out, "appended 1 event, seq 3 to 3\n");

    assert_eq!(
        masked(&place.run(&["status"]).expect(exit::DONE).out),
        "state        no owner answers; `everpost drain` or `everpost run` delivers\n\
         pending      1 event, 60 B; the oldest is <age> old\n\
         dead letters 1; see `everpost dead list`\n\
         disk         <bytes>\n\
         ledger       appended 3 = delivered 1 + dead 1 + expired 0 + evicted 0 + lost 0 + \
         pending 1\n"
    );
    assert_eq!(
        masked(&place.run(&["peek"]).expect(exit::DONE).out),
        "3  <time>  <id>  {\"id\":\"3\",\"timestamp\":3,\"content\":{\"texts\":[{\"text\":\"hi\"}]}}\n"
    );
    let listed = masked(&place.run(&["dead", "list"]).expect(exit::DONE).out);
    assert!(
        listed.starts_with("2  <time>  <id>  refused: HTTP 400, "),
        "{listed}"
    );
    let shown = masked(&place.run(&["dead", "show", "2"]).expect(exit::DONE).out);
    assert!(
        shown.starts_with(
            "dead letter 2\nid           <id>\nhappened     <time>\ncause        refused\n"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("\nattempts     2, first <time>, last <time>\nevent        {"),
        "{shown}"
    );
    assert_eq!(
        masked(
            &place
                .run(&["dead", "retry", "2", "--yes"])
                .expect(exit::DONE)
                .out
        ),
        "2 is appended again as 4\n"
    );
}

#[test]
fn programs_are_given_these_fields() {
    let place = Place::new();
    place.append(1, 1);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    let expected = "cursor dead_letters disk_bytes drain_ms flusher incidents last_answer last_seq \
                    ledger letters live max_bytes missing oldest_age_ms oldest_pending_ms pace paused pending \
                    pending_bytes pending_bytes_exact rate_per_second requests storage_fault";
    assert_eq!(keys(&status), expected.split_whitespace().collect());
    let pace = "next_ms rate_bytes rate_events request_gap_ms";
    assert_eq!(keys(&status["pace"]), pace.split(' ').collect());
    let pace = place.run(&["pace", "--json"]).expect(exit::DONE).json();
    let expected = "live next_ms rate_bytes rate_events request_gap_ms";
    assert_eq!(keys(&pace), expected.split(' ').collect());
    let ledger = "appended dead delivered evicted expired lost";
    assert_eq!(keys(&status["ledger"]), ledger.split(' ').collect());
    let event = place.run(&["peek", "--json"]).expect(exit::DONE).json();
    assert_eq!(keys(&event), "event id seq time_ms".split(' ').collect());
    let report = place.run(&["verify", "--json"]).expect(exit::DONE).json();
    let expected = "bytes dead_letters disturbed errors events first incidents known last ledger \
                    letters missing notes oldest_ms paused quarantine segments";
    assert_eq!(keys(&report), expected.split_whitespace().collect());
    let tally = place
        .feed(&["append", "--json"], "1\n")
        .expect(exit::DONE)
        .json();
    let expected = "appended first_seq interrupted last_seq refused";
    assert_eq!(keys(&tally), expected.split(' ').collect());
    let order = place.run(&["pause", "--json"]).expect(exit::DONE).json();
    assert_eq!(keys(&order), "live order".split(' ').collect());
}

#[test]
fn a_wrong_command_line_names_what_is_wrong() {
    let mut place = Place::new();
    place.run(&["frobnicate"]).expect(exit::USAGE);
    place.run(&["append", "--batch", "0"]).expect(exit::USAGE);
    let nowhere = place.run(&["status"]).expect(exit::USAGE);
    assert!(
        nowhere
            .err
            .starts_with("everpost: there is no spool yet. path=`"),
        "{}",
        nowhere.err
    );
    assert!(!place.spool().exists());
    place.settings("tail_bytes = 1\nmax_event_bytes = 0\n");
    let settings = place.run(&["append"]).expect(exit::USAGE);
    for field in ["`tail_bytes` is 1", "`max_event_bytes` is 0"] {
        assert!(settings.err.contains(field), "{}", settings.err);
    }
    place.settings("tail_byte = 1\n");
    let unknown = place.run(&["append"]).expect(exit::USAGE);
    assert!(unknown.err.contains("tail_byte"), "{}", unknown.err);
}

#[test]
fn help_completions_and_the_manual_are_there() {
    let place = Place::new();
    let help = place.run(&["--help"]).expect(exit::DONE);
    assert!(
        help.out.contains("Exit codes:\n  0  done\n"),
        "{}",
        help.out
    );
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&["completions", shell]).expect(exit::DONE);
        assert!(script.out.contains("everpost"), "{shell}");
    }
    let page = place.run(&["man"]).expect(exit::DONE);
    assert!(
        page.out.contains(".TH") && page.out.contains("everpost\\-append(1)"),
        "{}",
        page.out
    );
}

#[test]
fn the_sandbox_says_where_it_is_and_what_it_saw() {
    let mut place = Place::new();
    let script = place.dir.path().join("script");
    std::fs::write(&script, "503\n").unwrap();
    let mut sandbox = place.start(&["sandbox", "--json", "--script", script.to_str().unwrap()]);
    let address: Value = serde_json::from_str(&sandbox.read_until(|_| true)).unwrap();
    for (name, field) in [("BA_BASE_URL", "base_url"), ("BA_API_KEY", "key")] {
        place
            .env
            .push((name, address[field].as_str().unwrap().to_owned()));
    }
    place.append(1, 10);
    place.run(&["drain"]).expect(exit::DONE);
    sandbox.signal("-INT");
    let ended = sandbox.end().expect(exit::DONE);
    let last = ended.lines().pop().unwrap();
    assert_eq!(
        (last["requests"].as_u64(), last["distinct"].as_u64()),
        (Some(2), Some(10))
    );
    std::fs::write(&script, "explode\n").unwrap();
    let bad = place
        .run(&["sandbox", "--script", script.to_str().unwrap()])
        .expect(exit::USAGE);
    assert!(bad.err.contains("no fault `explode`"), "{}", bad.err);
}
