//! Appends through the socket.

use super::*;

#[tokio::test]
async fn an_event_appended_through_the_socket_is_kept_to_the_byte() {
    let owner = Owner::start().await;
    let text = " {\"a\" : 1.00,\n\t\"a\":2}\n";
    let path = format!("/events?id={}&time_ms=7", id(5));
    let (code, body) = owner.ask("POST", &path, text).await;
    let receipt = format!("{{\"seq\":1,\"id\":\"{}\"}}\n", id(5));
    assert_eq!((code, body), (200, receipt));
    let event = Event::json(text).unwrap();
    owner
        .client()
        .append(std::slice::from_ref(&event))
        .await
        .unwrap();
    let stored = owner.queue.events(..).take(9).await.unwrap();
    assert_eq!(&stored[0].event.json_bytes()[..], text.as_bytes());
    assert_eq!(
        (stored[0].event.id(), stored[0].event.time_ms()),
        (id(5), 7)
    );
    assert_eq!(stored[1].event, event);
    owner.close().await;
}

#[tokio::test]
async fn lines_and_entries_are_one_commit_each_and_blank_lines_are_none() {
    let owner = Owner::start().await;
    let (code, body) = owner
        .ask(
            "POST",
            "/events?form=lines",
            "{\"n\":1}\r\n\n  {\"n\":2}\n3",
        )
        .await;
    assert_eq!((code, body.lines().count()), (200, 3));
    let named = format!(
        "{{\"seq\":99,\"id\":\"{}\",\"time_ms\":5,\"event\":{{\"n\":4}}}}",
        id(4)
    );
    let entries = format!("{named}\n{{\"event\":[5]}}\n");
    let (code, body) = owner.ask("POST", "/events?form=entries", &entries).await;
    assert_eq!((code, body.lines().count()), (200, 2));
    let lines = owner.client().peek(0, 10).await.unwrap();
    let texts: Vec<_> = lines.iter().map(|line| line.event.as_str()).collect();
    assert_eq!(texts, ["{\"n\":1}", "{\"n\":2}", "3", "{\"n\":4}", "[5]"]);
    assert_eq!((lines[3].seq, lines[3].id, lines[3].time_ms), (4, id(4), 5));
    assert_eq!(
        owner.ask("POST", "/events?form=lines", "\n").await,
        (200, String::new())
    );
    owner.close().await;
}

#[tokio::test]
async fn one_bad_line_refuses_all_and_is_named_but_not_repeated() {
    let owner = Owner::start().await;
    for (form, body) in [
        ("event", "{\"a\":secret}"),
        ("lines", "{}\n\n{\"a\":secret}\n{}"),
        (
            "entries",
            "{\"event\":1}\n\n{\"event\":1,\"id\":\"secret\"}",
        ),
        ("entries", "{\"event\":1}\n\n{\"event\":{\"secret\"}}"),
    ] {
        let path = format!("/events?form={form}");
        let (code, answer) = owner.ask("POST", &path, body).await;
        let error: wire::ErrorBody = serde_json::from_str(&answer).unwrap();
        assert_eq!((code, error.kind.as_str()), (400, "invalid_event"));
        assert!(!answer.contains("secret"), "{answer}");
        assert_eq!(
            error.error.contains("line=`3`"),
            form != "event",
            "{answer}"
        );
        assert!(!error.hint.is_empty());
    }
    assert_eq!(owner.queue.status().last_seq, 0);
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_and_the_owner_append_at_once_in_order_and_without_gaps() {
    let owner = Owner::start().await;
    let mut tasks = Vec::new();
    for lane in 0..2u64 {
        let client = owner.client();
        tasks.push(tokio::spawn(async move {
            let mut seqs = Vec::new();
            for n in 0..40 {
                let pair = [
                    message(lane * 1000 + n * 2),
                    message(lane * 1000 + n * 2 + 1),
                ];
                seqs.extend(client.append(&pair).await.unwrap().iter().map(|r| r.seq));
            }
            seqs
        }));
    }
    let queue = owner.queue.clone();
    tasks.push(tokio::spawn(async move {
        let mut seqs = Vec::new();
        for n in 0..80 {
            seqs.push(queue.append(message(2000 + n)).await.unwrap().seq);
        }
        seqs
    }));
    let mut all = Vec::new();
    for task in tasks {
        let seqs = task.await.unwrap();
        assert!(seqs.is_sorted(), "{seqs:?}");
        all.extend(seqs);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=240).collect::<Vec<_>>());
    let spool = owner.spool();
    owner.queue.close(Duration::ZERO).await.unwrap();
    let again = Queue::builder(spool).open().await.unwrap();
    let stored = again.events(..).take(500).await.unwrap();
    let lane = |from: u64| -> Vec<EventId> {
        let ids = stored.iter().map(|stored| stored.event.id());
        ids.filter(|found| (id(from)..id(from + 1000)).contains(found))
            .collect()
    };
    for from in [0, 1000, 2000] {
        assert_eq!(lane(from), (from..from + 80).map(id).collect::<Vec<_>>());
    }
}
