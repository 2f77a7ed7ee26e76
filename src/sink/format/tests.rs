use super::*;
use crate::event::{Event, StoredEvent};
use crate::sink::Batch;

fn batch(texts: &[&'static str]) -> Batch {
    let events = (1..)
        .zip(texts)
        .map(|(seq, text)| StoredEvent {
            seq,
            event: Event::json(*text).unwrap(),
        })
        .collect();
    Batch::new(events).unwrap()
}

#[test]
fn events_are_placed_to_the_byte_in_one_allocation() {
    let cases: [(&[&'static str], &str); 3] = [
        (&["1"], r#"{"messages":[{"message":1}]}"#),
        (
            &[r#" {"b":1.00,"a":"\u00e9"} "#, "{}"],
            r#"{"messages":[{"message": {"b":1.00,"a":"\u00e9"} },{"message":{}}]}"#,
        ),
        (
            &["1", "2", "3"],
            r#"{"messages":[{"message":1},{"message":2},{"message":3}]}"#,
        ),
    ];
    for (texts, expected) in cases {
        let body = Format::messages().body(&batch(texts));
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
        assert_eq!(body.capacity(), body.len(), "exact, and never grown");
    }
}

fn one(text: &'static str) -> Batch {
    batch(&[text])
}

fn json(format: &Format, batch: &Batch) -> serde_json::Value {
    serde_json::from_slice(&format.body(batch)).unwrap()
}

#[test]
fn plain_forms_place_events_to_the_byte() {
    let two = batch(&[" {\"a\":1.00}", "[2]"]);
    let wrapped = |item: Option<&str>| Format::Wrapped {
        list: "e\"s".to_owned(),
        item: item.map(str::to_owned),
    };
    for (format, expected, content_type) in [
        (Format::Array, "[ {\"a\":1.00},[2]]", "application/json"),
        (
            Format::Lines,
            " {\"a\":1.00}\n[2]\n",
            "application/x-ndjson",
        ),
        (
            wrapped(None),
            "{\"e\\\"s\":[ {\"a\":1.00},[2]]}",
            "application/json",
        ),
        (
            wrapped(Some("d")),
            "{\"e\\\"s\":[{\"d\": {\"a\":1.00}},{\"d\":[2]}]}",
            "application/json",
        ),
    ] {
        let body = format.body(&two);
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
        assert_eq!(body.capacity(), body.len(), "exact, and never grown");
        assert_eq!(format.content_type(), content_type);
        assert_eq!(format.events_max(), None);
    }
    assert_eq!(Format::Single.body(&one(" [1] ")), b" [1] ");
    assert_eq!(Format::Single.events_max(), NonZeroUsize::new(1));
}

/// An event that was appended with line breaks in it, as an editor writes JSON, was two lines, and so
/// two broken events to its receiver.
#[test]
fn an_event_is_one_line_however_it_was_written() {
    let body = Format::Lines.body(&batch(&["{\r\n \"a\": \"x\\ny\"\n}", "2"]));
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        "{   \"a\": \"x\\ny\" }\n2\n"
    );
}

#[test]
fn cloud_events_carry_id_time_and_data() {
    let events = ["{\"a\":1.00}", "2"].map(|text| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_123);
        Event::json(text).unwrap().with_time(time)
    });
    let ids = events.each_ref().map(|event| event.id().to_string());
    let stored = (1..)
        .zip(events)
        .map(|(seq, event)| StoredEvent { seq, event });
    let batch = Batch::new(stored.collect()).unwrap();
    let format = Format::CloudEvents {
        source: "/doors/17\"".to_owned(),
        kind: "com.example.opened".to_owned(),
    };
    format.check().unwrap();
    let body = format.body(&batch);
    let expected = ids.each_ref().map(|id| {
        serde_json::json!({
            "specversion": "1.0", "id": id, "source": "/doors/17\"", "type": "com.example.opened",
            "time": "2023-11-14T22:13:20.123Z", "datacontenttype": "application/json",
            "data": if *id == ids[0] { serde_json::json!({"a": 1.0}) } else { 2.into() },
        })
    });
    let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(read, serde_json::json!(expected));
    let text = String::from_utf8(body).unwrap();
    assert!(
        text.contains("\"data\":{\"a\":1.00}}"),
        "to the byte: {text}"
    );
    assert_eq!(format.content_type(), "application/cloudevents-batch+json");
}

/// A clock that ran mad gave a time past the year 9999, which RFC 3339 cannot write: the library that
/// writes it fails there, and a text of it would be a panic.
#[test]
fn a_mad_clock_still_gives_a_time() {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1 << 40);
    let event = Event::json("1").unwrap().with_time(time);
    let batch = Batch::new(vec![StoredEvent { seq: 1, event }]).unwrap();
    for name in ["cloud_events", "otlp", "loki"] {
        let format: Format = name.parse().unwrap();
        json(&format, &batch);
    }
    let format: Format = "cloudevents".parse().unwrap();
    assert_eq!(json(&format, &batch)[0]["time"], "9999-12-31T23:59:59.000Z");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    for (format, part) in [
        (
            Format::Loki {
                labels: BTreeMap::new(),
            },
            "Loki needs a label",
        ),
        (
            Format::Loki {
                labels: [("a-b".to_owned(), String::new())].into(),
            },
            "label=`a-b`",
        ),
        (
            Format::CloudEvents {
                source: " ".to_owned(),
                kind: "k".to_owned(),
            },
            "setting=`source`",
        ),
        (
            Format::Wrapped {
                list: String::new(),
                item: None,
            },
            "empty",
        ),
    ] {
        let error = format.check().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(
        "xml"
            .parse::<Format>()
            .unwrap_err()
            .to_string()
            .contains("otlp")
    );
}

#[test]
fn forms_are_data() {
    for (format, text) in [
        (Format::Lines, r#""lines""#),
        (
            Format::messages(),
            r#"{"wrapped":{"list":"messages","item":"message"}}"#,
        ),
        (
            "loki".parse().unwrap(),
            r#"{"loki":{"labels":{"job":"everpost"}}}"#,
        ),
        (
            "cloud_events".parse().unwrap(),
            r#"{"cloud_events":{"source":"everpost","type":"everpost.event"}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&format).unwrap(), text);
        assert_eq!(serde_json::from_str::<Format>(text).unwrap(), format);
    }
    for text in [
        r#"{"loki":{"labels":{},"x":1}}"#,
        r#"{"wrapped":{}}"#,
        r#""csv""#,
    ] {
        assert!(serde_json::from_str::<Format>(text).is_err(), "{text}");
    }
}

fn at(text: &'static str, ms: u64, seq: u64) -> StoredEvent {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    let event = Event::json(text).unwrap().with_time(time);
    StoredEvent { seq, event }
}

/// Two doors that opened in the same millisecond said the same words. Loki takes a line with the time
/// and the text of another for that line sent again, and drops it without a word.
#[test]
fn lines_that_say_the_same_are_different_ones_to_loki() {
    let twins = vec![
        at("{\"door\":\"open\"}", 1_000, 41),
        at("{\"door\":\"open\"}", 1_000, 42),
    ];
    let batch = Batch::new(twins).unwrap();
    let format = Format::Loki {
        labels: [("job".to_owned(), "do\"or".to_owned())].into(),
    };
    let expected = serde_json::json!({"streams": [{
        "stream": {"job": "do\"or"},
        "values": [
            ["1000000041", "{\"door\":\"open\"}"],
            ["1000000042", "{\"door\":\"open\"}"],
        ],
    }]});
    assert_eq!(json(&format, &batch), expected);
    // Sent again, each is itself.
    assert_eq!(json(&format, &batch), expected);
}

const LOGGED: &str = concat!(
    r#"{"level":"WARN","target":"shop::orders","message":"no stock","#,
    r#""fields":{"item":17,"price":1.10,"ok":false,"big":340282366920938463463374607431768211455},"#,
    r#""spans":[{"name":"request","fields":{"path":"/order"}}]}"#
);

#[test]
fn what_the_layer_wrote_becomes_a_log_record() {
    let stored = at(LOGGED, 1_700_000_000_123, 1);
    let id = stored.event.id().to_string();
    let batch = Batch::new(vec![stored]).unwrap();
    let format = Format::Otlp {
        resource: [("service.name".to_owned(), "shop".to_owned())].into(),
    };
    let attributes = r#"[
        {"key": "item", "value": {"intValue": "17"}},
        {"key": "price", "value": {"doubleValue": 1.1}},
        {"key": "ok", "value": {"boolValue": false}},
        {"key": "big", "value": {"stringValue": "340282366920938463463374607431768211455"}},
        {"key": "spans", "value": {"arrayValue": {"values": [{"kvlistValue": {"values": [
            {"key": "name", "value": {"stringValue": "request"}},
            {"key": "fields", "value": {"kvlistValue": {"values": [
                {"key": "path", "value": {"stringValue": "/order"}}
            ]}}}
        ]}}]}}},
        {"key": "log.record.uid", "value": {"stringValue": "ID"}}
    ]"#;
    let attributes: serde_json::Value =
        serde_json::from_str(&attributes.replace("ID", &id)).unwrap();
    let record = serde_json::json!({
        "timeUnixNano": "1700000000123000000",
        "observedTimeUnixNano": "1700000000123000000",
        "severityNumber": 13,
        "severityText": "WARN",
        "body": {"stringValue": "no stock"},
        "attributes": attributes,
    });
    let resource = serde_json::json!([{"key": "service.name", "value": {"stringValue": "shop"}}]);
    let expected = serde_json::json!({"resourceLogs": [{
        "resource": {"attributes": resource},
        "scopeLogs": [{"scope": {"name": "shop::orders"}, "logRecords": [record]}],
    }]});
    assert_eq!(json(&format, &batch), expected);
    let text = String::from_utf8(format.body(&batch)).unwrap();
    assert!(
        text.contains("\"doubleValue\":1.10}"),
        "digits stay: {text}"
    );
}

#[test]
fn records_keep_their_order_across_scopes() {
    const A: &str = r#"{"level":"INFO","target":"a","message":"1","fields":{},"spans":[]}"#;
    const B: &str = r#"{"level":"INFO","target":"b","message":"2","fields":{},"spans":[]}"#;
    let format: Format = "otlp".parse().unwrap();
    let read = json(&format, &batch(&[A, A, B, "\"plain\"", A]));
    let scopes = read["resourceLogs"][0]["scopeLogs"].as_array().unwrap();
    let names: Vec<_> = scopes
        .iter()
        .map(|scope| {
            let records = scope["logRecords"].as_array().unwrap().len();
            (scope["scope"]["name"].as_str().unwrap_or(""), records)
        })
        .collect();
    assert_eq!(names, [("a", 2), ("b", 1), ("", 1), ("a", 1)]);
}

#[test]
fn anything_else_is_the_body_of_its_record() {
    let format: Format = "otlp".parse().unwrap();
    let deep: &'static str = Box::leak(format!("{}1{}", "[".repeat(20), "]".repeat(20)).into());
    let abyss: &'static str =
        Box::leak(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into());
    for (text, expected) in [
        ("\"x\"", serde_json::json!({"stringValue": "x"})),
        ("null", serde_json::json!({})),
        (
            "-9223372036854775808",
            serde_json::json!({"intValue": "-9223372036854775808"}),
        ),
        (
            "9223372036854775808",
            serde_json::json!({"stringValue": "9223372036854775808"}),
        ),
        ("1e400", serde_json::json!({"stringValue": "1e400"})),
        ("[]", serde_json::json!({"arrayValue": {"values": []}})),
        (
            // A level alone makes no log of it.
            " { \"level\" : \"INFO\" } ",
            serde_json::json!({"kvlistValue": {"values": [
                {"key": "level", "value": {"stringValue": "INFO"}},
            ]}}),
        ),
    ] {
        let read = json(&format, &one(text));
        let record = &read["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["body"], expected, "{text}");
        assert_eq!(record.get("severityNumber"), None, "{text}");
    }
    for text in [deep, abyss] {
        let Ok(event) = Event::json(text) else {
            continue;
        };
        let batch = Batch::new(vec![StoredEvent { seq: 1, event }]).unwrap();
        let body = String::from_utf8(format.body(&batch)).unwrap();
        assert!(
            body.contains("\"stringValue\":\"["),
            "what is too deep is a text"
        );
    }
}
