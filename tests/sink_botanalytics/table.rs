//! The table at the head of `src/sink/botanalytics/meaning.rs`, row by row, over real sockets.

use everpost::classify::{Classifier, Rule};
use everpost::{Outcome, Sink, Verdict};

use crate::server::{Reply, Server, reply};
use crate::set_up::{ADDRESS, CREDENTIALS, RETRY, ask, builder, detail, request};

const OBJECT: &str = r#"{"request_id":"r-1"}"#;
const PAGE: &str = "<!doctype html><p>Log in";
const JSON: &str = "application/json";

/// Status, type, body, what it means.
type Row = (&'static str, &'static str, &'static str, Verdict);

const ROWS: [Row; 49] = [
    // A JSON object without errors is the API, whatever its type is called.
    ("200 OK", JSON, OBJECT, Verdict::Delivered),
    ("201 Created", JSON, OBJECT, Verdict::Delivered),
    ("202 Accepted", JSON, OBJECT, Verdict::Delivered),
    ("207 Multi-Status", JSON, OBJECT, Verdict::Delivered),
    ("200 OK", "text/html", OBJECT, Verdict::Delivered),
    ("200 OK", "text/plain", OBJECT, Verdict::Delivered),
    ("200 OK", "", OBJECT, Verdict::Delivered),
    ("200 OK", JSON, "{}", Verdict::Delivered),
    ("200 OK", JSON, r#"{"errors":[]}"#, Verdict::Delivered),
    (
        "200 OK",
        JSON,
        r#"{"errors":null,"error":""}"#,
        Verdict::Delivered,
    ),
    ("200 OK", JSON, r#"{"errors":false}"#, Verdict::Delivered),
    (
        "200 OK",
        JSON,
        r#"{"warnings":["late"]}"#,
        Verdict::Delivered,
    ),
    // Errors beside a success refuse.
    ("200 OK", JSON, r#"{"errors":["no"]}"#, Verdict::Poison),
    ("201 Created", JSON, r#"{"errors":["no"]}"#, Verdict::Poison),
    ("202 Accepted", JSON, r#"{"errors":"no"}"#, Verdict::Poison),
    (
        "200 OK",
        JSON,
        r#"{"errors":true,"request_id":"r"}"#,
        Verdict::Poison,
    ),
    ("200 OK", JSON, r#"{"error":{"a":"no"}}"#, Verdict::Poison),
    (
        "200 OK",
        "text/plain",
        r#"{"errors":["no"]}"#,
        Verdict::Poison,
    ),
    // One status for each event; of several the one that blames the events least.
    (
        "207 M",
        JSON,
        r#"{"items":[{"status":200},{"status":201}]}"#,
        Verdict::Delivered,
    ),
    (
        "207 M",
        JSON,
        r#"[{"status":200},{"status":400}]"#,
        Verdict::Poison,
    ),
    (
        "207 M",
        JSON,
        r#"[{"status":"HTTP/1.1 422 No"}]"#,
        Verdict::Poison,
    ),
    ("207 M", JSON, r#"[{"code":503},{"code":400}]"#, RETRY),
    ("207 M", JSON, r#"[{"status":413}]"#, Verdict::Divide),
    (
        "207 M",
        JSON,
        r#"[{"status":401},{"status":503}]"#,
        CREDENTIALS,
    ),
    (
        "207 M",
        JSON,
        r#"{"items":[{"errors":["no"]}]}"#,
        Verdict::Poison,
    ),
    ("207 M", JSON, r#"{"errors":["no"]}"#, Verdict::Poison),
    ("207 M", JSON, "", RETRY),
    ("207 M", "application/xml", "<multistatus/>", RETRY),
    ("207 M", "text/plain", "one of two", RETRY),
    // Nothing is enough under a status that says so on purpose.
    ("201 Created", "", "", Verdict::Delivered),
    ("202 Accepted", "", "", Verdict::Delivered),
    ("204 No Content", "", "", Verdict::Delivered),
    ("205 Reset Content", "", "", Verdict::Delivered),
    ("200 OK", "", "", RETRY),
    ("200 OK", JSON, "", RETRY),
    ("203 Transformed", "", "", RETRY),
    // A page, or nothing under its type.
    ("200 OK", "text/html", PAGE, RETRY),
    ("200 OK", JSON, PAGE, RETRY),
    ("204 No Content", "text/html", "", RETRY),
    // What else is not the API.
    ("200 OK", "text/plain", "Please log in", RETRY),
    ("202 Accepted", "text/plain", "queued", RETRY),
    ("200 OK", JSON, "[]", RETRY),
    ("200 OK", JSON, r#""ok""#, RETRY),
    ("200 OK", JSON, "true", RETRY),
    ("200 OK", JSON, r#"{"request_i"#, RETRY),
    ("200 OK", JSON, "\0\0\0", RETRY),
    // Refusals; every other status decides alone.
    ("400 Bad Request", "text/html", PAGE, ADDRESS),
    ("400 Bad Request", "text/plain", "no", Verdict::Poison),
    ("503 Busy", "text/html", PAGE, RETRY),
];

fn typed(status: &str, content_type: &str, body: &str) -> Reply {
    let head = match content_type {
        "" => String::new(),
        name => format!("Content-Type: {name}\r\n"),
    };
    reply(status, &head, body)
}

#[tokio::test]
async fn every_row_of_the_table_means_what_it_says() {
    for (status, content_type, body, expected) in ROWS {
        let outcome = ask(typed(status, content_type, body)).await;
        let row = format!("{status} {content_type} {body}: {outcome:?}");
        assert_eq!(outcome.verdict, expected, "{row}");
        assert_eq!(outcome.answer.status, status[..3].parse().ok(), "{row}");
        // A success that delivers nothing says why, in words or in the receiver's own.
        if status.starts_with('2') && expected != Verdict::Delivered {
            let speaks = !outcome.answer.errors.is_empty() || !detail(&outcome).is_empty();
            assert!(speaks, "{row}");
        }
    }
}

/// The page that people read has the same rows.
#[test]
fn the_page_has_the_rows() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/answers.md"));
    let page = page.unwrap();
    for row in [
        "| 2xx with a JSON object |",
        "| 201, 202, 204, 205 with an empty body |",
        "| 2xx with `errors` (or `error`) in the object |",
        "| 207 |",
        "| 2xx with anything else:",
        "| 413, 414, 431 |",
        "| 400, 409, 422 and every other 4xx |",
        "| 401, 402, 403 |",
        "| 404, 405, 407, 410, 426, 451 and any 3xx |",
    ] {
        assert!(page.contains(&format!("\n{row}")), "{row}");
    }
}

#[tokio::test]
async fn what_is_not_the_api_is_named() {
    for (content_type, body, expected) in [
        (
            "text/plain",
            "Please log in",
            "not the API's answer, everything is kept: Please log in",
        ),
        (
            "",
            "",
            "an empty answer, which is not the API's; everything is kept",
        ),
        (
            "text/html",
            PAGE,
            "HTML instead of JSON, a captive portal or a proxy?",
        ),
    ] {
        let outcome = ask(typed("200 OK", content_type, body)).await;
        assert_eq!(detail(&outcome), expected);
    }
    let outcome = ask(typed("207 M", JSON, r#"[{"status":404},{"status":400}]"#)).await;
    assert_eq!(detail(&outcome), "not all was taken; statuses: 400, 404");
    let outcome = ask(typed(
        "200 OK",
        JSON,
        r#"{"errors":["no"],"error":"never"}"#,
    ))
    .await;
    assert_eq!(outcome.answer.errors, ["no", "never"]);
}

/// Of a body that was on its way the rest may say anything, but the status had come.
#[tokio::test]
async fn a_success_whose_body_is_cut_off_counts_unless_errors_are_seen() {
    let head = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
    for (status, part, expected) in [
        ("200 OK", "", Verdict::Delivered),
        ("200 OK", r#"{"request_id":"r"#, Verdict::Delivered),
        ("200 OK", r#"{"errors":["no"#, RETRY),
        ("200 OK", r#"{"error":"no"#, RETRY),
        ("200 OK", "Please log", RETRY),
        ("200 OK", "[", RETRY),
        ("207 M", r#"{"items":["#, RETRY),
        ("207 M", "", RETRY),
    ] {
        let bytes = format!("HTTP/1.1 {status}\r\n{head}{part}");
        let outcome = ask(Reply::Bytes(bytes.into_bytes())).await;
        assert_eq!(outcome.verdict, expected, "{status} {part}");
    }
}

async fn by(classifier: Classifier, reply: Reply) -> Outcome {
    let server = Server::start(vec![reply]).await;
    let sink = builder(server.base_url()).classifier(classifier);
    sink.build().unwrap().deliver(request(&["1"])).await
}

#[tokio::test]
async fn a_receiver_that_answers_with_a_bare_200_can_be_trusted() {
    let trusting = Classifier::default().with(200, Rule::DeliverUnread);
    for (content_type, body) in [
        ("", ""),
        ("text/plain", "ok"),
        ("text/html", PAGE),
        (JSON, r#"{"errors":["no"]}"#),
    ] {
        let reply = typed("200 OK", content_type, body);
        let outcome = by(trusting.clone(), reply).await;
        assert_eq!(outcome.verdict, Verdict::Delivered, "{body}");
    }
    // What was made a success by hand is one, errors and all.
    let known = Classifier::default().with(409, Rule::Deliver);
    let reply = typed("409 Conflict", JSON, r#"{"errors":["have it"]}"#);
    assert_eq!(by(known, reply).await.verdict, Verdict::Delivered);
}

/// Proxies that add a header for each hop passed the client's bound of 100 headers, and one wrote
/// a name with a blank in it: the batch was taken and sent again for ever.
#[tokio::test]
async fn odd_headers_do_not_hide_an_answer() {
    let many: String = (0..120).map(|n| format!("X-Hop-{n}: v\r\n")).collect();
    for odd in [
        many.as_str(),
        "X Bad: v\r\n",
        "X-Bad : v\r\n",
        "\u{e9}: v\r\n",
        "no colon at all\r\n",
    ] {
        let outcome = ask(reply("200 OK", odd, OBJECT)).await;
        assert_eq!(outcome.verdict, Verdict::Delivered, "{odd} {outcome:?}");
        assert_eq!(outcome.answer.request_id.as_deref(), Some("r-1"), "{odd}");
    }
    // There is a bound, and what is beyond it is told.
    let many: String = (0..1_100).map(|n| format!("X-Hop-{n}: v\r\n")).collect();
    let outcome = ask(reply("200 OK", &many, OBJECT)).await;
    assert_eq!(outcome.verdict, RETRY);
    assert!(!detail(&outcome).is_empty());
}
