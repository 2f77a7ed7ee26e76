//! What an answer means to each kind of receiver: every status against every kind of body.

use everpost::classify::{Classifier, HttpReply, Partial, Rule};
use everpost::{PauseReason, Verdict};

/// The kinds of body, in the order of the columns: a name, a type, a body, whether it is whole.
const BODIES: [(&str, &str, &str, bool); 14] = [
    ("object", JSON, r#"{"id":1}"#, true),
    ("empty object", JSON, "{}", true),
    ("errors", JSON, r#"{"errors":["no"]}"#, true),
    ("list", JSON, r#"[{"a":1}]"#, true),
    (
        "list with errors",
        JSON,
        r#"[{"a":1},{"error":"no"}]"#,
        true,
    ),
    ("nothing", "", "", true),
    ("page", "text/html", "<!doctype html><p>Log in", true),
    ("ok", "text/plain", "ok\n", true),
    ("quoted ok", JSON, "\"OK!\"", true),
    ("text", "text/plain", "Please log in", true),
    ("number", JSON, "7", true),
    ("cut", JSON, r#"{"id":"#, false),
    (
        "rejected",
        JSON,
        r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"m"}}"#,
        true,
    ),
    (
        "warned",
        JSON,
        r#"{"partialSuccess":{"rejectedLogRecords":0,"errorMessage":"m"}}"#,
        true,
    ),
];

const JSON: &str = "application/json";

/// A letter for each column: delivered, retry, poison, divide, pause for the address, pause for the
/// credentials.
type Rows<'a> = &'a [(&'a [u16], &'a str)];

/// What is the same for all: the status says enough.
const REFUSED: Rows<'_> = &[
    (&[400, 406, 409, 422], "PPPPPPAPPPPPPP"),
    (&[401, 402, 403], "CCCCCCCCCCCCCC"),
    (&[404, 405, 407, 410, 426, 451, 301, 308], "AAAAAAAAAAAAAA"),
    (&[413, 414, 431], "VVVVVVVVVVVVVV"),
    (&[408, 421, 423, 425, 429], "RRRRRRRRRRRRRR"),
    (&[502, 503, 504], "RRRRRRRRRRRRRR"),
];

fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Delivered => 'D',
        Verdict::Retry { .. } => 'R',
        Verdict::Stalled => 'S',
        Verdict::Divide => 'V',
        Verdict::Poison => 'P',
        Verdict::Pause(PauseReason::Address) => 'A',
        Verdict::Pause(PauseReason::Credentials) => 'C',
        Verdict::Pause(_) => '?',
    }
}

fn check(classifier: &Classifier, rows: Rows<'_>) {
    for (statuses, expected) in rows {
        for status in *statuses {
            let met: String = BODIES
                .iter()
                .map(|(_, content_type, body, is_whole)| {
                    let reply = HttpReply::new(*status, body.as_bytes())
                        .content_type(content_type)
                        .complete(*is_whole);
                    letter(classifier.outcome(&reply).verdict)
                })
                .collect();
            assert_eq!(
                met, *expected,
                "{status} of {classifier:?}; the columns: {BODIES:?}"
            );
        }
    }
}

#[test]
fn the_api_of_botanalytics() {
    let classifier = Classifier::default();
    check(&classifier, REFUSED);
    check(
        &classifier,
        &[
            (&[200, 203, 206, 260], "DDPRRRRRRRRDDD"),
            (&[201, 202, 204, 205], "DDPRRDRRRRRDDD"),
            (&[207], "DDPDPRRRRRRRDD"),
            (&[415], "PPPPPPAPPPPPPP"),
            (&[500, 501, 507, 599], "RRRRRRRRRRRRRR"),
        ],
    );
}

#[test]
fn a_webhook() {
    let classifier = Classifier::webhook();
    check(&classifier, REFUSED);
    check(
        &classifier,
        &[
            (&[200, 203, 206, 260], "DDPDPRRDDRRDDD"),
            (&[201, 202, 204, 205], "DDPDPDRDDRRDDD"),
            (&[207], "DDPDPRRRRRRRDD"),
            (&[415], "AAAAAAAAAAAAAA"),
            (&[500, 501, 507, 599], "RRRRRRRRRRRRRR"),
        ],
    );
}

#[test]
fn otlp() {
    let classifier = Classifier::otlp();
    check(&classifier, REFUSED);
    check(
        &classifier,
        &[
            (&[200, 203, 206], "DDPRRRRRRRRRPD"),
            (&[201, 202, 204, 205], "DDPRRDRRRRRRPD"),
            (&[415], "AAAAAAAAAAAAAA"),
            // Must not be tried again.
            (&[500, 501, 505, 507, 599], "PPPPPPAPPPPPPP"),
        ],
    );
}

#[test]
fn loki() {
    let classifier = Classifier::loki();
    check(&classifier, REFUSED);
    check(
        &classifier,
        &[
            // What Loki itself does not send delivers as with others; 260 is its "blocked".
            (&[200, 260], "DDPRRRRRRRRDDD"),
            (&[204], "DDPRRDRRRRRDDD"),
            (&[415], "AAAAAAAAAAAAAA"),
            (&[500], "RRRRRRRRRRRRRR"),
        ],
    );
}

/// Ten records of a hundred were refused behind a 200, and all hundred counted as delivered: the ten
/// were gone, and nothing said so.
#[test]
fn a_part_that_was_refused_is_looked_for_or_told() {
    let body = br#"{"partialSuccess":{"rejectedLogRecords":"10","errorMessage":"too old"}}"#;
    let reply = HttpReply::new(200, body);
    let outcome = Classifier::otlp().outcome(&reply);
    assert_eq!(outcome.verdict, Verdict::Poison);
    assert_eq!(outcome.answer.errors, ["too old"]);
    let told = Classifier::otlp().with_partial(Partial::Deliver);
    let outcome = told.outcome(&reply);
    assert_eq!(outcome.verdict, Verdict::Delivered);
    assert!(
        outcome.answer.warnings[0].contains("rejected=`10`"),
        "{outcome:?}"
    );
    assert_eq!(outcome.answer.errors, ["too old"]);

    let warned = HttpReply::new(200, br#"{"partialSuccess":{"errorMessage":"slow down"}}"#);
    let outcome = Classifier::otlp().outcome(&warned);
    assert_eq!(outcome.verdict, Verdict::Delivered);
    assert_eq!(outcome.answer.warnings, ["slow down"]);

    // What is no number is no zero.
    for number in ["\"many\"", "1.5", "true", "\"-1\"", "[1]"] {
        let body = format!(r#"{{"partialSuccess":{{"rejectedLogRecords":{number}}}}}"#);
        let reply = HttpReply::new(200, body.as_bytes());
        assert_eq!(
            Classifier::otlp().outcome(&reply).verdict,
            Verdict::Poison,
            "{number}"
        );
    }
    for number in ["0", "\"0\"", "null", "-1", "\" 0 \""] {
        let body = format!(r#"{{"partialSuccess":{{"rejectedLogRecords":{number}}}}}"#);
        let reply = HttpReply::new(200, body.as_bytes());
        assert_eq!(
            Classifier::otlp().outcome(&reply).verdict,
            Verdict::Delivered,
            "{number}"
        );
    }
}

#[test]
fn what_a_receiver_says_is_kept_in_its_own_words() {
    for (classifier, status, body, errors, detail) in [
        (
            Classifier::otlp(),
            400,
            r#"{"code":3,"message":"no body"}"#,
            &["no body"][..],
            None,
        ),
        (
            Classifier::loki(),
            400,
            "entry too far behind",
            &[],
            Some("entry too far behind"),
        ),
        // A list condemned its events without a word of why.
        (
            Classifier::webhook(),
            200,
            r#"[{"id":1},{"error":"no id"},{"errors":["late","odd"]}]"#,
            &["no id", "late", "odd"],
            None,
        ),
        (
            Classifier::default(),
            400,
            "oops",
            &[],
            Some("not JSON: oops"),
        ),
        (Classifier::default(), 400, r#"{"message":"m"}"#, &[], None),
    ] {
        let answer = classifier
            .outcome(&HttpReply::new(status, body.as_bytes()))
            .answer;
        assert_eq!(answer.errors, errors);
        assert_eq!(answer.detail.as_deref(), detail);
    }
    let bare = Classifier::webhook().outcome(&HttpReply::new(200, b""));
    let detail = bare.answer.detail.unwrap();
    assert!(detail.contains("`deliver_unread`"), "{detail}");
}

#[test]
fn a_preset_is_data_and_can_be_changed_row_by_row() {
    let classifier = Classifier::otlp()
        .with(500, Rule::Retry)
        .with(503, Rule::Retry)
        .with_partial(Partial::Deliver);
    let text = serde_json::to_string(&classifier).unwrap();
    assert_eq!(
        text,
        r#"{"table":"otlp","overrides":{"500":"retry"},"partial":"deliver"}"#
    );
    assert_eq!(
        serde_json::from_str::<Classifier>(&text).unwrap(),
        classifier
    );
}
