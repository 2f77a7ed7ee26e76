//! `everpost sandbox`: what it shows of each request, and what it keeps.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use everpost::exit;
use serde_json::{Value, json};

use super::set_up::{Ended, Place, Running};

/// A sandbox in a process of its own.
struct Served {
    running: Running,
    base_url: String,
    key: String,
}

impl Served {
    fn port(&self) -> String {
        let (_, port) = self.base_url.rsplit_once(':').unwrap();
        port.trim_end_matches("/v2").to_owned()
    }

    fn start(place: &Place, args: &[&str]) -> Self {
        Self::of(place.start(&[&["sandbox", "--json", "--port", "0"], args].concat()))
    }

    fn of(mut running: Running) -> Self {
        let first = running.read_until(|_| true);
        let first: Value = serde_json::from_str(&first).unwrap();
        let text = |name: &str| first[name].as_str().unwrap().to_owned();
        let (base_url, key) = (text("base_url"), text("key"));
        Self {
            running,
            base_url,
            key,
        }
    }

    /// Sends a body as the Node client does, gives the status and the body of the answer, and what is
    /// then shown.
    fn post(&mut self, body: &str) -> (u16, String, Value) {
        let key = self.key.clone();
        self.post_as("/v2/messages", &key, body)
    }

    fn post_as(&mut self, path: &str, key: &str, body: &str) -> (u16, String, Value) {
        let answer = self.ask(path, key, body);
        let shown = self.running.read_until(|_| true);
        let (head, said) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        (
            status,
            said.to_owned(),
            serde_json::from_str(&shown).unwrap(),
        )
    }

    fn ask(&self, path: &str, key: &str, body: &str) -> String {
        let (_, rest) = self.base_url.split_once("://").unwrap();
        let mut stream = TcpStream::connect(rest.trim_end_matches("/v2")).unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\nx-botanalytics-client-id: node\r\n\
             x-botanalytics-client-version: 3.0.0\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A connection that is reset has no more to say.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn stop(self) -> Ended {
        self.running.signal("-INT");
        self.running.end().expect(exit::DONE)
    }
}

fn batch(ids: &[&str]) -> String {
    let message = |id: &&str| json!({"message": {"id": id, "timestamp": 1}});
    json!({"messages": ids.iter().map(message).collect::<Vec<_>>()}).to_string()
}

/// Counts were all it showed: "1 requests; 0 events accepted", not a word on who sent what to where,
/// what was answered, and why it was refused.
#[test]
fn each_request_is_shown_with_its_answer_and_the_reason() {
    let place = Place::new();
    let script = place.path("script");
    std::fs::write(&script, "ok x5\n503 retry-after=2\naccept-reset\n").unwrap();
    let mut served = Served::start(&place, &["--script", script.to_str().unwrap()]);
    let (status, said, line) = served.post(&batch(&["a", "b"]));
    assert_eq!((status, said.as_str()), (200, r#"{"request_id":"r-1"}"#));
    assert!(
        line["time_ms"].as_u64().unwrap() > 1_700_000_000_000,
        "{line}"
    );
    let mut rest = line;
    rest.as_object_mut().unwrap().remove("time_ms");
    assert_eq!(
        rest,
        json!({
            "request": 1, "method": "POST", "path": "/v2/messages", "client": "node/3.0.0",
            "messages": 2, "bytes": batch(&["a", "b"]).len(), "status": 200, "accepted": 2,
            "repeated": 0, "reason": null, "fault": null,
        })
    );
    let (status, said, line) = served.post(r#"{"messages":[{"message":{"id":"c"}}]}"#);
    assert_eq!(status, 400);
    assert_eq!(said, r#"{"errors":["message.timestamp is required"]}"#);
    assert_eq!(
        (&line["messages"], &line["accepted"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(line["reason"], "message.timestamp is required");

    let key = served.key.clone();
    let (status, _, line) = served.post_as("/v1/\u{1b}]0;x", &key, &batch(&["a"]));
    assert_eq!(
        (status, &line["path"]),
        (400, &json!("")),
        "no request at all"
    );
    let (status, _, line) = served.post_as("/v1/messages", &key, &batch(&["a"]));
    assert_eq!(
        (status, &line["reason"]),
        (404, &json!("the only path is /v2/messages"))
    );
    let (status, _, line) = served.post_as("/messages/", &key, &batch(&["a"]));
    assert_eq!((status, &line["repeated"]), (200, &json!(1)));

    let (status, _, line) = served.post(&batch(&["d"]));
    assert_eq!((status, &line["fault"]), (503, &json!("503 retry-after=2")));
    let (_, _, line) = served.post(&batch(&["d"]));
    assert_eq!(
        (&line["fault"], &line["accepted"]),
        (&json!("accept-reset"), &json!(1))
    );
    assert_eq!(line["status"], Value::Null);
    let last = served.stop().lines().pop().unwrap();
    assert_eq!(last, json!({"requests": 7, "accepted": 4, "distinct": 3}));
}

/// What is shown to people: one line a request, with the right grammar, and nothing of the events
/// unless it was asked for.
#[test]
fn people_see_one_line_and_events_only_when_they_ask() {
    let place = Place::new();
    let message = "{\"id\":\"hunter2\",\"timestamp\":1,\"locale\":\"\u{202e}x\u{1b}\"}";
    let body = format!(
        r#"{{"messages":[{{"message":{}}}]}}"#,
        message.replace('\u{1b}', "\\u001b")
    );
    for (args, shown) in [
        (&["--port", "0"][..], false),
        (&["--port", "0", "--show"], true),
    ] {
        let mut running = place.start(&[&["sandbox"], args].concat());
        let first = running.read_until(|_| true);
        assert!(
            first.starts_with("# Serves the channel universal until Ctrl-C. "),
            "{first}"
        );
        assert!(
            first.contains("eval \"$(everpost sandbox --env --port "),
            "{first}"
        );
        let mut value = |name: &str| {
            let line = running.read_until(|line| line.starts_with("export "));
            line.trim_end().strip_prefix(name).unwrap().to_owned()
        };
        let base_url = value("export BA_BASE_URL=");
        let key = value("export BA_API_KEY=");
        let served = Served {
            running,
            base_url,
            key,
        };
        served.ask("/v2/messages", &served.key, &body);
        served.ask("/v2/messages?x", "a.b.c", &batch(&["a", "b"]));
        let out = served.stop().out;
        let lines: Vec<&str> = out.lines().map(|line| line.trim_start()).collect();
        let line = |n: usize| lines[n].split_once(' ').map_or(lines[n], |(_, rest)| rest);
        assert_eq!(line(0), "POST /v2/messages 200 node/3.0.0 1 message");
        assert_eq!(out.contains("hunter2"), shown, "{out}");
        assert!(!out.contains(['\u{202e}', '\u{1b}']), "{out:?}");
        let after = if shown { 2 } else { 1 };
        assert_eq!(
            line(after),
            "POST /v2/messages?x 401 node/3.0.0 2 messages: the second part of the key is not \
             base64url of JSON"
        );
        let last = "2 requests; 1 event accepted, 1 different";
        assert_eq!(lines[after + 1..], [last]);
    }
    let nothing = Served::start(&place, &[]).stop().out;
    assert_eq!(nothing, "{\"requests\":0,\"accepted\":0,\"distinct\":0}\n");
}

#[test]
fn accepted_events_are_recorded_one_a_line_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let path = place.path("record.jsonl");
    let file = path.to_str().unwrap();
    let mut served = Served::start(&place, &["--record", file]);
    let pretty = "{\"messages\":[\n {\"message\":{\"timestamp\":1,\r\n  \"x\": 1.00}}]}";
    assert_eq!(served.post(pretty).0, 200);
    assert_eq!(served.post(r#"{"messages":[{"message":{}}]}"#).0, 400);
    assert_eq!(served.post(&batch(&["a", "b"])).0, 200);
    let (_, _, line) = served.post(&batch(&["a"]));
    assert!(line.get("events").is_none(), "recorded, not shown: {line}");
    served.stop();
    let event = |id: &str| format!("{{\"id\":\"{id}\",\"timestamp\":1}}\n");
    let first = "{\"timestamp\":1,    \"x\": 1.00}\n".to_owned();
    let whole = [first, event("a"), event("b"), event("a")].concat();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    // A second one appends to it.
    let mut served = Served::start(&place, &["--record", file]);
    assert_eq!(served.post(&batch(&["c"])).0, 200);
    served.stop();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole + &event("c"));
    // And `append` reads it.
    place.run(&["append", file]).expect(exit::DONE);
}

/// What could not be recorded is not accepted: the client sends it again, and no half line stays.
#[test]
fn what_cannot_be_recorded_is_answered_with_500_and_not_accepted() {
    let place = Place::new();
    let path = place.path("record.jsonl");
    let everpost = env!("CARGO_BIN_EXE_everpost");
    // At most 8 blocks of 512 or 1024 bytes in a file.
    let script = format!(
        "ulimit -f 8; exec /usr/bin/env --default-signal=HUP,INT,QUIT '{everpost}' sandbox --json --port 0 --record \"$0\""
    );
    let mut command = place.command(&[]);
    let env: Vec<_> = command
        .get_envs()
        .map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned)))
        .collect();
    command = Command::new("sh");
    command
        .args(["-c", &script, path.to_str().unwrap()])
        .env_clear();
    command.envs(
        env.into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut served = Served::of(Running::of(piped(&mut command).spawn().unwrap()));
    assert_eq!(served.post(&batch(&["a"])).0, 200);
    let (status, said, line) = served.post(&batch(&[&"x".repeat(10_000)]));
    assert_eq!(status, 500);
    assert_eq!(said, r#"{"errors":["Failed to process the request."]}"#);
    let why = line["reason"].as_str().unwrap();
    assert!(
        why.starts_with("it could not be stored: File too large"),
        "{why}"
    );
    assert_eq!(served.post(&batch(&["b"])).0, 200);
    let last = served.stop().lines().pop().unwrap();
    assert_eq!(last, json!({"requests": 3, "accepted": 2, "distinct": 2}));
    let kept = "{\"id\":\"a\",\"timestamp\":1}\n{\"id\":\"b\",\"timestamp\":1}\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);

    for not_a_file in [
        place.dir.path().to_str().unwrap(),
        "/dev/null",
        "/no/such/dir/file",
    ] {
        let refused = place
            .run(&["sandbox", "--record", not_a_file])
            .expect(exit::USAGE);
        assert!(
            refused.err.contains("failed to open the record"),
            "{refused:?}"
        );
    }
}

fn piped(command: &mut Command) -> &mut Command {
    use std::process::Stdio;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
}

/// The key was cut in two when it was copied from a narrow terminal; a shell can take it itself.
#[test]
fn a_shell_takes_address_and_key_from_env() {
    let mut place = Place::new();
    let mut served = Served::start(
        &place,
        &[
            "--key",
            "e30.eyJjaGFubmVsIjoicmFzYSJ9.it's$1",
            "--channel",
            "rasa",
        ],
    );
    let port = served.port();
    let everpost = env!("CARGO_BIN_EXE_everpost");
    let script = format!(
        "eval \"$('{everpost}' sandbox --env --port {port} --channel rasa --key \"$0\")\"; \
         printf '%s %s' \"$BA_BASE_URL\" \"$BA_API_KEY\""
    );
    let output = Command::new("sh")
        .args(["-c", &script, &served.key])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{} {}", served.base_url, served.key)
    );
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("will not send this key"), "{err}");
    assert!(!err.contains("nothing answers"), "{err}");
    // Only that key, and what is of the channel rasa need not be a Universal message.
    let event = r#"{"messages":[{"message":{"event":"user"}}]}"#;
    assert_eq!(served.post(event).0, 200);
    let (status, _, line) = served.post_as("/v2/messages", "e30.eyJjaGFubmVsIjoicmFzYSJ9.x", event);
    assert_eq!(
        (status, &line["reason"]),
        (401, &json!("the key is none that is accepted here"))
    );
    served.stop();

    // Without a key on the command line, both commands make up the same one, and every key of the
    // channel opens the door.
    let mut served = Served::start(&place, &[]);
    let port = served.port();
    let told = place
        .run(&["sandbox", "--env", "--json", "--port", &port])
        .expect(exit::DONE);
    assert_eq!(
        told.json(),
        json!({"base_url": served.base_url, "key": served.key})
    );
    let own = "e30.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.a-bots-own";
    assert_eq!(served.post_as("/v2/messages", own, &batch(&["a"])).0, 200);
    let rasa = "e30.eyJjaGFubmVsIjoicmFzYSJ9.x";
    let (status, _, line) = served.post_as("/v2/messages", rasa, &batch(&["a"]));
    let why = "the key is of the channel rasa, not universal";
    assert_eq!((status, &line["reason"]), (401, &json!(why)));

    // The command itself delivers there.
    place.set_env("BA_BASE_URL", &served.base_url);
    place.set_env("BA_API_KEY", own);
    place.append(1, 2);
    place.run(&["drain"]).expect(exit::DONE);
    let line: Value = serde_json::from_str(&served.running.read_until(|_| true)).unwrap();
    assert_eq!(
        (&line["messages"], &line["status"]),
        (&json!(2), &json!(200))
    );
    assert!(
        line["client"].as_str().unwrap().starts_with("everpost/"),
        "{line}"
    );
    served.stop();
    let told = place
        .run(&["sandbox", "--env", "--port", &port])
        .expect(exit::DONE);
    assert!(
        told.err.contains("nothing answers at 127.0.0.1:"),
        "{told:?}"
    );
    let refused = place
        .run(&["sandbox", "--env", "--port", "0"])
        .expect(exit::USAGE);
    assert!(refused.err.contains("the same --port"), "{refused:?}");
}

#[test]
fn every_fault_is_in_the_help_and_in_the_error_for_one_that_is_none() {
    let place = Place::new();
    let help = place.run(&["sandbox", "--help"]).expect(exit::DONE).out;
    let path = place.path("script");
    std::fs::write(&path, "ok\n\nreset\n").unwrap();
    let refused = place
        .run(&["sandbox", "--script", path.to_str().unwrap()])
        .expect(exit::USAGE);
    assert!(
        refused
            .err
            .contains("there is no fault `reset`; there are `ok`, "),
        "{refused:?}"
    );
    assert!(refused.err.contains("line=`3`"), "{refused:?}");
    for (form, _) in everpost::sandbox::FAULTS {
        assert!(help.contains(form), "{form} in {help}");
        assert!(refused.err.contains(form), "{form} in {refused:?}");
    }
}

#[test]
fn what_cannot_be_listened_on_is_said_and_two_share_no_port() {
    let place = Place::new();
    let (one, two) = (
        place.start(&["sandbox", "--json"]),
        place.start(&["sandbox", "--json"]),
    );
    let (one, two) = (Served::of(one), Served::of(two));
    assert_ne!(
        one.base_url, two.base_url,
        "the second took another port by itself"
    );
    let port = &one.port();
    let refused = place
        .run(&["sandbox", "--port", port])
        .expect(exit::UNEXPECTED);
    assert!(
        refused
            .err
            .contains(&format!("failed to listen on 127.0.0.1:{port}")),
        "{refused:?}"
    );
    let refused = place
        .run(&["sandbox", "--bind", "192.0.2.1"])
        .expect(exit::UNEXPECTED);
    assert!(
        refused
            .err
            .contains("--bind takes an address of this machine"),
        "{refused:?}"
    );
    assert!(
        refused.err.contains("plain HTTP on 192.0.2.1"),
        "{refused:?}"
    );
    for wrong in [
        &["--bind", "localhost"][..],
        &["--key", "a b"],
        &["--env", "--show"],
    ] {
        place
            .run(&[&["sandbox"], wrong].concat())
            .expect(exit::USAGE);
    }
    one.stop();
    two.stop();
}
