//! What people read, word for word: transcripts beside this file.
//!
//! `EVERPOST_SNAPSHOTS=write cargo test --test cli snapshots` writes them anew; read the difference
//! before it is kept.

use std::fmt::Write as _;
use std::path::Path;

use everpost::sandbox::Sandbox;

use crate::set_up::{Ended, Place, bad_message, message};

/// Commands and what they said, as a terminal would show them one after the other.
struct Transcript {
    place: Place,
    text: String,
}

impl Transcript {
    fn of(place: Place) -> Self {
        let text = String::new();
        Self { place, text }
    }

    fn run(&mut self, args: &[&str]) {
        let ended = self.place.run(args);
        self.note(&args.join(" "), "", &ended);
    }

    fn feed(&mut self, args: &[&str], input: &str) {
        let ended = self.place.feed(args, input);
        self.note(&args.join(" "), input, &ended);
    }

    fn note(&mut self, args: &str, input: &str, ended: &Ended) {
        let Ended { code, out, err } = ended;
        writeln!(self.text, "$ everpost {args}").unwrap();
        for line in input.lines() {
            writeln!(self.text, "< {line}").unwrap();
        }
        for line in out.lines() {
            writeln!(self.text, "{line}").unwrap();
        }
        for line in err.lines() {
            writeln!(self.text, "! {line}").unwrap();
        }
        writeln!(self.text, "= {code}\n").unwrap();
    }

    /// Compares with the file, with marks for what differs from run to run.
    fn compare(self, name: &str) {
        let dir = self.place.dir.path().display().to_string();
        let text = masked(&self.text.replace(&dir, "DIR"));
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/cli/snapshots")
            .join(name);
        if std::env::var("EVERPOST_SNAPSHOTS").is_ok_and(|wish| wish == "write") {
            std::fs::write(&file, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap();
        let differs = text
            .lines()
            .zip(expected.lines())
            .find(|(now, then)| now != then);
        assert_eq!(differs, None, "{name}; the whole is now:\n{text}");
        assert_eq!(text, expected, "{name}");
    }
}

/// Times, ports and how long something took.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    // How many lines of progress there are is a matter of moments.
    for line in text.lines().filter(|line| !is_progress(line)) {
        let line = match line.split_once("; took ") {
            Some((before, _)) => format!("{before}; took TIME"),
            None => line.to_owned(),
        };
        let words: Vec<String> = line.split(' ').map(mask).collect();
        masked.push_str(&words.join(" "));
        masked.push('\n');
    }
    masked
}

/// `0 of 2: sending`.
fn is_progress(line: &str) -> bool {
    let numbers = line
        .strip_prefix("! ")
        .and_then(|line| line.split_once(": "));
    numbers.is_some_and(|(numbers, _)| {
        let both = numbers.split_once(" of ");
        both.is_some_and(|(gone, all)| gone.parse::<u64>().is_ok() && all.parse::<u64>().is_ok())
    })
}

fn mask(word: &str) -> String {
    let core = word.trim_matches(|c: char| ",;:()`".contains(c));
    if core.len() == 24 && core.ends_with('Z') {
        return word.replace(core, "TIME");
    }
    match core.split_once("127.0.0.1:") {
        Some((_, port)) if port.parse::<u16>().is_ok() => word.replace(port, "PORT"),
        _ => word.to_owned(),
    }
}

#[test]
fn what_is_said_of_input() {
    let mut said = Transcript::of(Place::new());
    said.feed(&["validate"], &(message(1) + "5\nbad\n" + &bad_message(2)));
    said.feed(&["append"], &(message(1) + "bad\n{\n" + &message(2)));
    said.feed(&["append"], "{\n  \"id\": 1\n}\n");
    said.feed(&["append", "--json"], "bad\n");
    said.feed(&["append", "--ack"], &message(3));
    said.run(&["append", "nofile"]);
    said.run(&["--json", "append", "nofile"]);
    said.run(&["append", "/"]);
    said.run(&["append", "{\"a\":1}"]);
    said.compare("input.txt");
}

#[test]
fn what_is_said_of_wrong_words() {
    let mut said = Transcript::of(Place::new());
    for wrong in ["purge", "send", "list", "stat"] {
        said.run(&[wrong]);
    }
    said.run(&["append", "--bach", "3"]);
    said.run(&["append", "--bach", "3", "--json"]);
    said.run(&["drain", "--deadline", "x"]);
    said.run(&["dead", "show", "x"]);
    said.run(&["man", "frobnicate"]);
    said.compare("wrong.txt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_delivery() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 2);
    let mut said = Transcript::of(place);
    let key = sandbox.key().to_owned();
    assert!(sandbox.revoke_key(&key));
    said.run(&["drain"]);
    sandbox.accept_key(key);
    said.run(&["drain"]);
    said.run(&["drain"]);
    said.place.set_env("BA_BASE_URL", "localhost:9999");
    said.run(&["drain"]);
    said.place
        .set_env("BA_BASE_URL", "http://192.168.1.5:8080/v2");
    said.run(&["drain"]);
    said.compare("delivery.txt");
}
