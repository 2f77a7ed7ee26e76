//! What it tells afterwards.

use everpost::sandbox::{Fault, Sandbox};

use super::raw::{Client, batch, post, send};

#[tokio::test]
async fn a_request_is_recorded_without_its_key() {
    let sandbox = Sandbox::start().await.unwrap();
    let body = batch(&["a", "b"]);
    let headers = "authorization: Bearer wrong-key-1\r\nCookie: wrong-key-2\r\n\
                   proxy-authorization: wrong-key-3\r\nIdempotency-Key: 77\r\n";
    let request = format!(
        "POST /v2/messages?x=1 HTTP/1.1\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = Client::connect(&sandbox).await;
    assert_eq!(client.ask(request).await.status, 401);
    sandbox.script([Fault::status(503)]);
    assert_eq!(client.ask(post(&sandbox, &body)).await.status, 503);
    assert_eq!(client.ask(post(&sandbox, &body)).await.status, 200);

    let requests = sandbox.requests();
    let [first, second, third] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!((first.number, first.status), (1, Some(401)));
    assert_eq!(first.method, "POST");
    assert_eq!(first.path, "/v2/messages?x=1");
    assert!(!first.authorized);
    assert_eq!(first.idempotency_key(), Some("77"));
    assert!(first.header("CONTENT-LENGTH").is_some());
    assert_eq!((first.events, first.accepted), (2, 0));
    assert_eq!(first.body.as_deref(), Some(body.as_bytes()));
    assert_eq!(first.body_bytes, u64::try_from(body.len()).unwrap());

    assert_eq!(second.fault, Fault::status(503));
    assert_eq!((second.authorized, second.accepted), (true, 0));
    assert_eq!(second.idempotency_key(), None);
    assert_eq!((third.events, third.accepted), (2, 2));
    assert_eq!(third.fault, Fault::None);

    for (_, value) in requests.iter().flat_map(|request| &request.headers) {
        assert!(!value.contains("wrong-key"), "{value}");
        assert!(!value.contains(sandbox.key()), "{value}");
    }
    assert!(!format!("{sandbox:?} {requests:?}").contains(sandbox.key()));
}

#[tokio::test]
async fn a_request_that_breaks_off_is_recorded_as_far_as_it_came() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut client = Client::connect(&sandbox).await;
    let request = post(&sandbox, &batch(&["a"]));
    client.write(&request[..request.len() - 1]).await;
    sandbox.wait_for(|stats| stats.requests == 1).await.unwrap();
    drop(client);
    assert_eq!(send(&sandbox, &batch(&["b"])).await.status, 200);
    let requests = sandbox.requests();
    assert_eq!((requests[0].status, requests[0].accepted), (None, 0));
    assert_eq!(sandbox.ids(), ["b"]);
}

#[tokio::test]
async fn without_bodies_the_ids_and_counts_remain() {
    let sandbox = Sandbox::builder().keep_bodies(false).start().await.unwrap();
    for _ in 0..2 {
        assert_eq!(send(&sandbox, &batch(&["a", "b"])).await.status, 200);
    }
    let accepted = sandbox.accepted();
    assert_eq!(accepted.len(), 4);
    assert_eq!(accepted[0].json(), None);
    assert_eq!((accepted[2].request(), accepted[2].is_repeat()), (2, true));
    assert_eq!(sandbox.requests()[0].body, None);
    assert_eq!(sandbox.requests()[0].events, 2);
    sandbox.check_order(["a", "b"]).unwrap();
    assert_eq!(sandbox.duplicates().len(), 2);
}

#[tokio::test]
async fn what_was_forgotten_is_gone() {
    let sandbox = Sandbox::start().await.unwrap();
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
    sandbox.forget();
    assert_eq!(sandbox.stats().requests, 0);
    assert!(sandbox.accepted().is_empty() && sandbox.requests().is_empty());
    let response = send(&sandbox, &batch(&["a"])).await;
    assert_eq!(response.body, r#"{"request_id":"r-2"}"#);
    assert!(sandbox.duplicates().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_are_each_recorded() {
    let sandbox = std::sync::Arc::new(Sandbox::start().await.unwrap());
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    let id = format!("{client}-{n}");
                    assert_eq!(send(&sandbox, &batch(&[&id, &id])).await.status, 200);
                }
            })
        })
        .collect();
    let stats = sandbox.wait_for_accepted(160).await.unwrap();
    assert!(stats.accepted >= stats.distinct);
    for client in clients {
        client.await.unwrap();
    }
    let stats = sandbox.stats();
    assert_eq!((stats.accepted, stats.distinct), (320, 160));
    assert_eq!((stats.requests, stats.answered), (160, 160));
    for client in 0..8 {
        let prefix = format!("{client}-");
        let mine = sandbox
            .ids()
            .into_iter()
            .filter(|id| id.starts_with(&prefix));
        let expected: Vec<String> = (0..20).map(|n| format!("{prefix}{n}")).collect();
        assert_eq!(mine.collect::<Vec<_>>(), expected);
    }
}
