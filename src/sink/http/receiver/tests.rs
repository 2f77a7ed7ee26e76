use super::*;

#[test]
fn addresses_say_where_and_in_which_form() {
    for (address, url, form) in [
        (
            "https://h.example/a?b=c",
            "https://h.example/a?b=c",
            "array",
        ),
        ("http://127.0.0.1:9", "http://127.0.0.1:9", "array"),
        ("otlp://c.example", "https://c.example:4318/v1/logs", "otlp"),
        ("otlp://c.example:443", "https://c.example/v1/logs", "otlp"),
        ("otlp://c.example:80/x", "https://c.example:80/x", "otlp"),
        (
            "otlp+https://localhost",
            "https://localhost:4318/v1/logs",
            "otlp",
        ),
        ("otlp://localhost", "http://localhost:4318/v1/logs", "otlp"),
        ("otlp://[::1]:7/p", "http://[::1]:7/p", "otlp"),
        (
            "otlp+http://10.0.0.1",
            "http://10.0.0.1:4318/v1/logs",
            "otlp",
        ),
        (
            "loki://l.example",
            "https://l.example:3100/loki/api/v1/push",
            "loki",
        ),
        (
            " loki://127.0.0.1:80 ",
            "http://127.0.0.1/loki/api/v1/push",
            "loki",
        ),
    ] {
        let receiver = Receiver::parse(address).unwrap();
        assert_eq!(receiver.url, url, "{address}");
        assert_eq!(*receiver.format(), form.parse().unwrap(), "{address}");
    }
}

#[test]
fn what_is_no_address_is_refused_without_repeating_credentials() {
    for address in [
        "",
        "hooks.example",
        "ftp://h.example",
        "otlp+ftp://h.example",
        "botanalytics+http://x",
        "https://me:hunter2@h.example/",
        "otlp://me:hunter2@h.example",
        "otlp://",
        "loki://:hunter2@",
    ] {
        let error = Receiver::parse(address).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{address}: {error}");
    }
}

#[test]
fn a_receiver_is_kept_as_data_without_what_is_as_ever() {
    let full = Receiver::parse("https://h.example/in?t=1")
        .unwrap()
        .with_format("loki".parse().unwrap())
        .with_method(Method::Put)
        .with_compression(Compression::Zstd)
        .with_header("x-a", "b")
        .with_secret_header("x-key", SecretRef::File("/k".into()))
        .with_auth(Auth::Basic {
            user: "me".to_owned(),
            password: SecretRef::Variable("P".to_owned()),
        })
        .with_signing(SecretRef::Variable("S".to_owned()))
        .with_idempotency_header(None)
        .with_answers(Classifier::webhook());
    let text = serde_json::to_string(&full).unwrap();
    let back: Receiver = serde_json::from_str(&text).unwrap();
    assert_eq!(back, full);
    assert!(full.is_same_as(&back.with_auth(Auth::None)));
    assert!(!full.is_same_as(&full.clone().with_format(Format::Lines)));
    assert_eq!(full.address(), "https://h.example/in");
    let plain = Receiver::parse("https://h.example/in").unwrap();
    let text = serde_json::to_string(&plain).unwrap();
    assert_eq!(text, r#"{"url":"https://h.example/in"}"#);
    for text in [
        r#"{"url":"u","x":1}"#,
        r#"{"url":"u","auth":{"bearer":"s3cret"}}"#,
        "{}",
    ] {
        assert!(serde_json::from_str::<Receiver>(text).is_err(), "{text}");
    }
}

#[test]
fn the_api_of_botanalytics_is_a_receiver_like_others() {
    let receiver = Receiver::parse("botanalytics").unwrap();
    assert_eq!(receiver, Receiver::botanalytics());
    assert_eq!(receiver.address(), format!("{BOTANALYTICS}/messages"));
    assert_eq!(*receiver.format(), Format::messages());
}
