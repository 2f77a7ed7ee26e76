//! Who may do what, and from which page.

use super::*;

/// Every endpoint; without the token the first status, with it the second.
#[tokio::test]
async fn without_the_token_everything_is_seen_but_events_and_nothing_is_done() {
    let stand = Stand::start().await;
    stand.settle(&["good", "bad hunter2", "bad"]).await;
    let act = |action: &str| json!({ "action": action, "filter": { "group": uuid::Uuid::nil() }, "up_to": 3, "count": 0 });
    let c = |path: &str| format!("{CHANNEL}{path}");
    for (method, path, body, without, with) in [
        ("GET", "/".to_owned(), Value::Null, 200, 200),
        ("GET", "/page.js".to_owned(), Value::Null, 200, 200),
        ("GET", "/api/channels".to_owned(), Value::Null, 200, 200),
        ("GET", "/api/log".to_owned(), Value::Null, 200, 200),
        ("GET", c("/history"), Value::Null, 200, 200),
        ("GET", c("/letters"), Value::Null, 200, 200),
        ("GET", c("/letters?q=hunter2"), Value::Null, 200, 200),
        (
            "GET",
            c("/letters?q=hunter2&in=content"),
            Value::Null,
            403,
            200,
        ),
        ("GET", c("/letters/survey"), Value::Null, 200, 200),
        (
            "GET",
            c("/letters/survey?q=h&in=both"),
            Value::Null,
            403,
            200,
        ),
        ("GET", c("/letters/export"), Value::Null, 403, 200),
        ("POST", c("/letters/ticket"), json!({}), 403, 200),
        ("POST", c("/letters/act"), act("retry"), 403, 202),
        ("POST", c("/letters/act"), act("discard"), 403, 202),
        ("POST", c("/letters/stop"), json!({}), 403, 202),
        ("GET", c("/control/status"), Value::Null, 200, 200),
        ("GET", c("/control/incidents"), Value::Null, 200, 200),
        ("GET", c("/control/recovery"), Value::Null, 200, 200),
        ("GET", c("/control/readyz"), Value::Null, 200, 200),
        ("GET", c("/control/events"), Value::Null, 403, 200),
        ("GET", c("/control/dead"), Value::Null, 403, 200),
        ("GET", c("/control/dead/2"), Value::Null, 403, 200),
        (
            "POST",
            c("/control/incidents/acknowledge"),
            Value::Null,
            403,
            200,
        ),
        ("POST", c("/control/pause"), Value::Null, 403, 202),
        ("POST", c("/control/resume"), Value::Null, 403, 202),
        ("POST", c("/control/wake"), Value::Null, 403, 202),
        ("POST", c("/control/drain"), Value::Null, 403, 200),
        (
            "POST",
            c("/control/events?form=event"),
            json!("good"),
            403,
            200,
        ),
        ("POST", c("/control/dead/3/retry"), Value::Null, 403, 200),
        ("DELETE", c("/control/dead/2"), Value::Null, 403, 204),
        (
            "GET",
            "/api/channels/none/history".to_owned(),
            Value::Null,
            404,
            404,
        ),
        ("GET", "/api/none".to_owned(), Value::Null, 404, 404),
        ("POST", "/".to_owned(), Value::Null, 405, 405),
    ] {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let refused = stand.ask(method, &path, "", &body).await;
        assert_eq!(
            refused.status, without,
            "{method} {path} without: {refused:?}"
        );
        // The receiver repeats the event in its answer; the event itself is nowhere.
        assert!(
            !refused.body.contains("\"event\""),
            "{method} {path}: {refused:?}"
        );
        let done = stand.ask(method, &path, &stand.bearer(), &body).await;
        assert_eq!(done.status, with, "{method} {path} with: {done:?}");
    }
    stand.close().await;
}

#[tokio::test]
async fn a_wrong_token_is_no_token_and_a_page_without_one_only_shows() {
    let stand = Stand::start().await;
    let pause = format!("{CHANNEL}/control/pause");
    for wrong in [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}0", stand.token),
        format!("Bearer {}", &stand.token[1..]),
        format!("Basic {}", stand.token),
        format!("Bearer {0}\r\nauthorization: Bearer {0}", stand.token),
    ] {
        let header = format!("authorization: {wrong}\r\n");
        for path in ["/api/channels", &pause] {
            let got = stand.ask("POST", path, &header, "").await;
            assert_eq!(
                (got.status, &got.json()["kind"]),
                (401, &"wrong_token".into())
            );
        }
    }
    let plain = Admin::builder()
        .channel(Shown::new("a/{b}", stand.queue.clone()))
        .build();
    let port = plain
        .serve(TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    let got = ask(
        port.address().tcp().unwrap(),
        "POST",
        &pause,
        &stand.bearer(),
        "",
    )
    .await;
    assert_eq!(got.status, 401);
    assert!(
        got.json()["hint"]
            .as_str()
            .unwrap()
            .contains("--admin-token")
    );
    let got = ask(port.address().tcp().unwrap(), "POST", &pause, "", "").await;
    assert_eq!(
        (got.status, &got.json()["kind"]),
        (403, &"read_only".into())
    );
    port.close().await.unwrap();
    stand.close().await;
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing_at_either_door() {
    let stand = Stand::start().await;
    let pause = format!("{CHANNEL}/control/pause");
    let bearer = stand.bearer();
    for (to, right) in [(stand.tcp, bearer.as_str()), (stand.trusted, "")] {
        let same = format!("{right}origin: http://{to}\r\nsec-fetch-site: same-origin\r\n");
        assert_eq!(ask(to, "POST", &pause, &same, "").await.status, 202);
        assert_eq!(ask(to, "POST", &pause, right, "").await.status, 202);
        for other in [
            "origin: http://evil.example\r\n",
            "origin: null\r\n",
            "origin: http://127.0.0.1:1\r\n",
            "sec-fetch-site: cross-site\r\n",
            "sec-fetch-site: same-site\r\n",
        ] {
            let headers = format!("{right}{other}");
            for (method, path) in [
                ("POST", pause.as_str()),
                ("GET", "/api/channels"),
                ("GET", "/api/live"),
                ("OPTIONS", "/api/channels"),
            ] {
                let got = ask(to, method, path, &headers, "").await;
                assert_eq!(
                    (got.status, &got.json()["kind"]),
                    (403, &"wrong_origin".into())
                );
                assert!(!got.head.contains("access-control-"), "{got:?}");
            }
            // A link there may lead here.
            assert_eq!(ask(to, "GET", "/", &headers, "").await.status, 200);
        }
        for host in ["evil.example", "localhost.evil.example", "everpost.evil"] {
            for path in ["/", "/api/channels", "/none"] {
                let got = ask(to, "GET", path, &format!("{right}host: {host}\r\n"), "").await;
                assert_eq!(got.status, 421, "{host} {path}");
            }
        }
        for host in ["localhost:1", "box.example", "[::1]:1"] {
            let got = ask(
                to,
                "GET",
                "/api/channels",
                &format!("{right}host: {host}\r\n"),
                "",
            )
            .await;
            assert_eq!(got.status, 200, "{host}");
        }
    }
    let named = "host: everpost\r\n";
    assert_eq!(ask(stand.trusted, "GET", "/", named, "").await.status, 200);
    assert_eq!(ask(stand.tcp, "GET", "/", named, "").await.status, 421);
    stand.close().await;
}

#[tokio::test]
async fn every_answer_binds_the_browser() {
    let stand = Stand::start().await;
    for (method, path, headers) in [
        ("GET", "/", ""),
        ("HEAD", "/", ""),
        ("GET", "/page.css", ""),
        ("GET", "/api/channels", ""),
        ("GET", "/none", ""),
        ("DELETE", "/", ""),
        ("GET", "/", "host: evil.example\r\n"),
        ("GET", "/api/channels", "authorization: none\r\n"),
    ] {
        let got = stand.ask(method, path, headers, "").await;
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
             connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; \
             form-action 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(
                format!("{}\r\n", got.head).contains(header),
                "{path}: {got:?}"
            );
        }
    }
    let page = stand.ask("GET", "/", "", "").await;
    assert!(page.head.contains("content-type: text/html; charset=utf-8"));
    stand.close().await;
}
