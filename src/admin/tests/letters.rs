//! What is done to dead letters, and to exactly which.

use super::*;

#[tokio::test]
async fn exactly_the_set_that_was_counted_is_discarded_or_none() {
    let stand = Stand::start().await;
    stand
        .settle(&["bad a 1", "bad b 1", "bad a 2", "good", "bad a 3"])
        .await;
    let survey = stand.get(&format!("{CHANNEL}/letters/survey")).await.json();
    assert_eq!(
        (&survey["matched"], &survey["next"]),
        (&json!(4), &Value::Null)
    );
    let mut groups = survey["groups"].as_array().unwrap().iter();
    let group = groups.find(|group| group["count"] == 3).unwrap();
    assert_eq!(group["text"], "refused: \"bad a #\"");
    let filter = json!({ "group": group["group"] });
    let up_to = &survey["up_to"];
    let act = |count: u64| json!({ "action": "discard", "filter": filter, "up_to": up_to, "count": count });
    // Behind what was counted: not meant, although the filter lets it through.
    stand.settle(&["bad a 4"]).await;
    let path = format!("{CHANNEL}/letters/act");
    for count in [0, 2, 4] {
        let got = stand.post(&path, &act(count)).await;
        assert_eq!(
            (got.status, &got.json()["kind"]),
            (409, &"set_changed".into())
        );
        assert!(
            got.json()["error"]
                .as_str()
                .unwrap()
                .contains("3 letters instead of")
        );
    }
    assert_eq!(stand.queue.status().dead_letters, 5, "nothing was done");
    assert_eq!(stand.post(&path, &act(3)).await.status, 202);
    let job = stand.job().await;
    assert_eq!(
        (&job["done"], &job["of"], &job["error"]),
        (&json!(3), &json!(3), &Value::Null)
    );
    let left = stand.get(&format!("{CHANNEL}/letters")).await.json();
    let seqs: Vec<_> = left["letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["seq"])
        .collect();
    assert_eq!(seqs, [&json!(2), &json!(6)]);
    // The same again is another set by now.
    assert_eq!(stand.post(&path, &act(3)).await.status, 409);
    let entries = stand.get("/api/log").await.json();
    assert_eq!(entries[0]["what"], "discarded dead letters");
    assert_eq!(
        (&entries[0]["count"], &entries[0]["by"]),
        (&json!(3), &json!("token"))
    );
    assert_eq!(entries[0]["from"], "127.0.0.1");
    stand.close().await;
}

#[tokio::test]
async fn what_is_retried_and_refused_again_is_not_retried_for_ever() {
    let stand = Stand::start().await;
    stand.settle(&["bad 1", "bad 2", "bad 3"]).await;
    let all = json!({ "action": "retry", "up_to": 3, "count": 3 });
    let path = format!("{CHANNEL}/letters/act");
    assert_eq!(stand.post(&path, &all).await.status, 202);
    assert_eq!(stand.job().await["done"], 3);
    let settled = stand
        .queue
        .watch()
        .wait_for(|now| now.ledger.dead == 6)
        .await;
    assert_eq!(settled.unwrap().letters.retried, 3);
    for wrong in [
        json!({ "action": "burn", "up_to": 3, "count": 3 }),
        json!({ "action": "retry", "up_to": 3 }),
        json!({ "action": "retry", "up_to": 3, "count": 3, "filter": { "gruop": "x" } }),
        json!({ "action": "retry", "up_to": 3, "count": 3, "more": 1 }),
    ] {
        let got = stand.post(&path, &wrong).await;
        assert_eq!(
            (got.status, &got.json()["kind"]),
            (400, &"bad_request".into()),
            "{wrong}"
        );
    }
    stand.close().await;
}

#[tokio::test]
async fn pages_are_bounded_and_go_on_where_they_ended() {
    let stand = Stand::start().await;
    let texts: Vec<String> = (0..LIST_MAX + 30).map(|n| format!("bad {n}")).collect();
    stand
        .settle(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let (mut after, mut seqs) = (json!(0), Vec::new());
    while !after.is_null() {
        let path = format!("{CHANNEL}/letters?max=1000000&after={after}");
        let page = stand.get(&path).await.json();
        let letters = page["letters"].as_array().unwrap();
        assert!(letters.len() <= LIST_MAX);
        assert!(letters.iter().all(|letter| letter.get("event").is_none()));
        seqs.extend(letters.iter().map(|letter| letter["seq"].as_u64().unwrap()));
        after = page["next"].clone();
    }
    assert_eq!(seqs, (1..=LIST_MAX as u64 + 30).collect::<Vec<_>>());
    let one = stand
        .get(&format!("{CHANNEL}/letters?q=%22bad%20229%22"))
        .await
        .json();
    assert_eq!(one["letters"][0]["seq"], 230);
    let long = format!("{CHANNEL}/letters?q={}", "x".repeat(300));
    assert_eq!(stand.get(&long).await.status, 400);
    stand.close().await;
}

#[tokio::test]
async fn a_ticket_is_for_one_download_of_what_it_was_given_for() {
    let stand = Stand::start().await;
    stand.settle(&["bad <b>", "bad 2"]).await;
    let (to, filter) = (
        format!("{CHANNEL}/letters/ticket"),
        json!({ "q": "<b>", "in": "content" }),
    );
    let given = stand.post(&to, &filter);
    let path = given.await.json()["path"].as_str().unwrap().to_owned();
    // As a browser does: without the token, and nothing else is let through by it.
    let got = stand.ask("GET", &format!("{path}&q=none"), "", "").await;
    assert_eq!(got.status, 200, "{got:?}");
    assert!(got.head.contains("content-type: application/x-ndjson"));
    assert!(
        got.head.contains(
            "content-disposition: attachment; filename=\"dead-letters-a%2F%7Bb%7D.jsonl\""
        )
    );
    let lines = got.lines();
    assert_eq!((lines.len(), &lines[0]["event"]), (1, &json!("bad <b>")));
    assert_eq!(stand.ask("GET", &path, "", "").await.status, 403, "once");
    let all = stand
        .get(&format!("{CHANNEL}/letters/export"))
        .await
        .lines();
    assert_eq!(all.len(), 2);
    stand.close().await;
}
