//! Web pages as clients of a relay: what a browser is told, and what it cannot do.

use everpost::exit;
use everpost::sandbox::Sandbox;

use crate::relay::{Answer, Relaying, headers, key_of, wrapped};
use crate::set_up::Place;

const HERE: &str = "https://shop.example";
const ELSEWHERE: &str = "https://evil.example";
const POST: &str = "POST /v2/messages";

fn token(place: &Place, args: &[&str]) -> String {
    let dir = place.path("relay");
    let made = place.run(&[&["relay", "token", "--dir", dir.to_str().unwrap()], args].concat());
    made.expect(exit::DONE).out.trim().to_owned()
}

fn from(origin: &str, key: &str) -> String {
    format!("{}origin: {origin}\r\n", headers(key))
}

/// Whether a browser would show this answer to a page of `HERE`.
fn is_shown(answer: &Answer) -> bool {
    let allowed = answer.head.matches("access-control-allow-origin: ").count();
    let here = format!("access-control-allow-origin: {HERE}\r\n");
    assert!(allowed <= 1, "{answer:?}");
    // What was asked by one page must not be kept for another.
    assert!(
        allowed == 0 || answer.head.contains("vary: origin"),
        "{answer:?}"
    );
    answer.head.contains(&here)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_an_origin_that_is_let_in_posts_without_a_secret_and_no_other_does() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let published = token(&place, &["--origin", HERE]);
    let others = token(&place, &["--origin", ELSEWHERE]);
    let own = token(&place, &[]);
    let relay = Relaying::start(&place, &["--allow-origin", HERE]);
    let key = sandbox.key();
    let made_up = key_of("universal");
    let requests = [
        (from(HERE, &published), 200),
        (from(HERE, &own), 200),
        (from(HERE, key), 200),
        // On loopback every key is good enough for a program, and none for a page.
        (headers(&made_up), 200),
        (from(HERE, &made_up), 401),
        (from(HERE, &others), 401),
        (headers(&published), 401),
        (from(ELSEWHERE, &published), 403),
        (from(ELSEWHERE, &others), 403),
        (from(ELSEWHERE, key), 403),
        (from("null", key), 403),
        (from("", key), 403),
        (from("https://shop.example.evil.example", &published), 403),
        (from("http://shop.example", &published), 403),
        (from("https://SHOP.example", &published), 403),
        (
            from(HERE, &published) + "origin: https://evil.example\r\n",
            403,
        ),
    ];
    for (number, (headers, status)) in requests.into_iter().enumerate() {
        let body = wrapped(&[&number.to_string()]);
        let answer = relay.client().send(POST, &headers, &body);
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        let is_here = headers.matches("origin: ").count() == 1
            && headers.contains(&format!("origin: {HERE}\r\n"));
        assert_eq!(is_shown(&answer), is_here, "{headers}: {answer:?}");
    }
    sandbox.wait_for_accepted(4).await.unwrap();
    relay.stop().expect(exit::DONE);
    assert_eq!(sandbox.stats().accepted, 4);
}

#[test]
fn a_browser_is_told_before_it_asks_and_errors_are_shown_too() {
    let place = Place::new();
    let published = token(&place, &["--origin", HERE]);
    let relay = Relaying::start(&place, &["--sandbox", "--allow-origin", HERE]);
    let ask = |origin: &str| {
        let headers = format!(
            "host: 127.0.0.1\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type\r\n\
             access-control-request-private-network: true\r\n"
        );
        relay.client().send("OPTIONS /v2/messages", &headers, "")
    };
    let asked = ask(HERE);
    assert_eq!(asked.status, 200);
    assert!(is_shown(&asked));
    for header in [
        "access-control-allow-methods: post",
        "access-control-allow-headers: authorization,content-type,idempotency-key",
        "access-control-allow-private-network: true",
        "access-control-max-age: 7200",
    ] {
        assert!(asked.head.contains(header), "{header}: {asked:?}");
    }
    assert!(!asked.head.contains("allow-credentials"), "{asked:?}");
    let refused = ask(ELSEWHERE);
    assert_eq!((refused.status, is_shown(&refused)), (403, false));
    for (line, body, status) in [
        (POST, "{", 400),
        ("POST /v3/messages", "{}", 404),
        ("PUT /v2/messages", "{}", 405),
        (POST, &wrapped(&vec!["a"; 10_001]), 413),
    ] {
        let answer = relay.client().send(line, &from(HERE, &published), body);
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(is_shown(&answer), "{line}: {answer:?}");
    }
    relay.stop().expect(exit::DONE);
}

/// `navigator.sendBeacon` sends text, and no header that a page could choose.
#[test]
fn what_a_page_leaves_behind_as_it_goes_is_taken() {
    let place = Place::new();
    let published = token(&place, &["--origin", HERE]);
    let own = token(&place, &[]);
    let relay = Relaying::start(&place, &["--sandbox", "--allow-origin", HERE]);
    let beacon = |token: &str, origin: &str| {
        let headers =
            format!("host: 127.0.0.1\r\n{origin}content-type: text/plain;charset=UTF-8\r\n");
        let line = format!("POST /v2/messages?token={token}");
        relay
            .client()
            .send(&line, &headers, &wrapped(&["a"]))
            .status
    };
    let here = format!("origin: {HERE}\r\n");
    assert_eq!(beacon(&published, &here), 200);
    // A secret has no place in an address, and a program says what it sends.
    assert_eq!(beacon(&own, &here), 401);
    assert_eq!(beacon(&published, ""), 401);
    assert_eq!(beacon(&published, &format!("origin: {ELSEWHERE}\r\n")), 403);
    let text = headers(&own).replace("application/json", "text/plain");
    assert_eq!(
        relay.client().send(POST, &text, &wrapped(&["a"])).status,
        400
    );
    let both = from(HERE, &own);
    let line = format!("{POST}?token={published}");
    assert_eq!(
        relay.client().send(&line, &both, &wrapped(&["a"])).status,
        401
    );
    relay.stop().expect(exit::DONE);
}

#[test]
fn what_is_no_origin_is_refused_with_what_to_write() {
    let place = Place::new();
    for wrong in ["shop.example", "https://shop.example/", "*", "null"] {
        for args in [
            ["relay", "--sandbox", "--allow-origin", wrong],
            ["relay", "token", "--origin", wrong],
        ] {
            let said = place.run(&args).expect(exit::USAGE).err;
            assert!(said.contains("https://example.org"), "{said}");
        }
    }
}
