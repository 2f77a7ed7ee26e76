//! What receivers and servers answer.

use super::*;

fn answer_seeds() -> Vec<(String, Vec<u8>)> {
    let answer = |status: &str, headers: &str, body: &str| {
        let len = body.len();
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {len}\r\n\r\n{body}").into_bytes()
    };
    let json = "content-type: application/json\r\n";
    let key =
        r#"{"request_id":"a.eyJjaGFubmVsIjoiYyJ9.c","errors":["x a.eyJjaGFubmVsIjoiYyJ9.c"]}"#;
    let retry = |value: &str| answer("429 Slow", &format!("retry-after: {value}\r\n"), "{}");
    vec![
        named("empty", []),
        named(
            "taken",
            answer(
                "201 Created",
                json,
                r#"{"request_id":"r","warnings":["w"]}"#,
            ),
        ),
        named(
            "refused",
            answer("422 No", json, r#"{"errors":[{"a":1},null,"\u0007bad"]}"#),
        ),
        named("key-in-it", answer("400 Bad", json, key)),
        named(
            "page",
            answer("200 OK", "content-type: text/html\r\n", "<p>Log in"),
        ),
        named("page-that-condemns", answer("400 Bad", "", "<html>")),
        named("retry-after-seconds", retry("120")),
        named(
            "retry-after-more-than-there-is",
            retry("99999999999999999999"),
        ),
        named("retry-after-date", retry("Sun, 06 Nov 1994 08:49:37 GMT")),
        named("retry-after-nonsense", retry("-1, soon")),
        named(
            "moved",
            answer("302 Found", "location: https://u:p@h/a?b#c\r\n", ""),
        ),
        named("too-large", answer("413 Large", "", "")),
        named(
            "who-are-you",
            answer("401 No", "www-authenticate: Bearer\r\n", ""),
        ),
        named("status-of-no-class", answer("999 What", "", "")),
        named(
            "informed-first",
            [
                b"HTTP/1.1 103 Hint\r\n\r\n".to_vec(),
                answer("200 OK", "", "{}"),
            ]
            .concat(),
        ),
        named(
            "switched",
            answer(
                "101 Switching",
                "upgrade: h2c\r\nconnection: upgrade\r\n",
                "",
            ),
        ),
        named(
            "body-cut",
            &answer("500 Oh", json, r#"{"errors":["a"]}"#)[..70],
        ),
        named(
            "chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ),
        named(
            "chunk-of-no-length",
            "HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ),
        named("not-http", "SSH-2.0-x\r\n"),
        named("old-http", "HTTP/1.0 503 Away\r\n\r\n\u{feff}<"),
    ]
}

#[test]
fn the_corpus_of_answers_is_understood_as_its_status_says_and_gives_no_key_away() {
    feed("answer", answer_seeds(), fuzz::answer);
}

/// What a server says in turns; see `fuzz/judges/nats.rs`.
fn nats_seeds() -> Vec<(String, Vec<u8>)> {
    let info = "INFO {\"headers\":true,\"max_payload\":1048576}\r\n";
    let nothing = "NATS/1.0 404 Message Not Found\r\n\r\n";
    let hmsg = |inbox: &str, headers: &str, payload: &str| {
        let total = headers.len() + payload.len();
        format!(
            "HMSG {inbox} 1 {} {total}\r\n{headers}{payload}\r\n",
            headers.len()
        )
    };
    let msg = |inbox: &str, payload: &str| {
        // The id of a batch has 32 letters.
        let bytes = payload.len() + payload.matches('#').count() * 31;
        format!("MSG {inbox} 1 {bytes}\r\n{payload}\r\n")
    };
    let turns = |turns: &[&str]| turns.join("\0");
    let looked_up = hmsg("@1", nothing, "");
    let asked = |answer: &str| turns(&[info, "PONG\r\n", &looked_up, answer]);
    let ack = r##"{"stream":"EVENTS","seq":9,"batch":"#","count":1}"##;
    let refused = r#"{"error":{"code":400,"err_code":10071,"description":"wrong"},"seq":0}"#;
    let found = "NATS/1.0\r\nNats-Sequence: 7\r\nEverpost-Seq: 1\r\nEverpost-Time: 1\r\n\
                 Everpost-Id: 00000000-0000-7000-8000-000000000001\r\n\r\n";
    let mut long = b"INFO {".to_vec();
    long.resize(70_000, b' ');
    vec![
        named("empty", []),
        named("not-nats", "HTTP/1.1 200 OK\r\n\r\n"),
        named("greeting-alone", info),
        named("greeting-not-json", "INFO {\r\n"),
        named("greeting-too-long", long),
        named("no-headers", "INFO {}\r\n"),
        named(
            "small-payload",
            "INFO {\"headers\":true,\"max_payload\":9}\r\n\0PONG\r\n",
        ),
        named(
            "violation",
            turns(&[info, "-ERR 'Authorization Violation'\r\n"]),
        ),
        named("taken", asked(&msg("@3", ack))),
        named(
            "begun-and-taken",
            asked(&(msg("@2", "") + "PING\r\n" + &msg("@3", ack))),
        ),
        named(
            "taken-of-another",
            asked(&msg("@3", &ack.replace('#', "b1"))),
        ),
        named(
            "taken-in-part",
            asked(&msg("@3", &ack.replace("count\":1", "count\":0"))),
        ),
        named("refused", asked(&msg("@2", refused))),
        named(
            "nothing-answers",
            asked(&hmsg("@2", "NATS/1.0 503\r\n\r\n", "")),
        ),
        named(
            "forbidden",
            asked("-ERR 'Permissions Violation for Publish to \"x\"'\r\n"),
        ),
        named(
            "another-event",
            turns(&[info, "PONG\r\n", &hmsg("@1", found, "{}"), &msg("@3", ack)]),
        ),
        named(
            "length-that-cannot-be",
            asked("MSG @3 1 99999999999999999999\r\n"),
        ),
        named("headers-that-cannot-be", asked("HMSG @3 1 9 3\r\n")),
        named(
            "tls-that-is-none",
            "INFO {\"headers\":true,\"tls_required\":true}\r\nPING\r\n",
        ),
    ]
}

#[test]
fn the_corpus_of_servers_delivers_nothing_without_a_word_about_the_batch() {
    feed("nats", nats_seeds(), fuzz::nats);
}
