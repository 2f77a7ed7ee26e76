//! `fate`: what became of an event, from its owner, from the files, and waited for.

use everpost::exit;
use everpost::sandbox::{Fault, Sandbox};

use crate::set_up::{Place, bad_message, message};

/// The forms of an answer that the files and an owner give alike.
#[track_caller]
fn said(place: &Place, event: &str) -> (String, serde_json::Value) {
    let text = place.run(&["fate", event]).expect(exit::DONE).out;
    let json = place.run(&["fate", event, "--json"]).expect(exit::DONE);
    (text, json.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_an_event_is_said_by_its_owner_and_by_the_files() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let service = place.serve(&[]);
    place
        .feed(
            &["append"],
            &(message(1) + &bad_message(2) + &bad_message(3)),
        )
        .expect(exit::DONE);
    place.run(&["fate", "--settled", "3"]).expect(exit::DONE);
    place
        .run(&["dead", "discard", "3", "--yes"])
        .expect(exit::DONE);
    let (text, json) = said(&place, "1");
    let request = json["request_id"].as_str().unwrap();
    assert_eq!(text, format!("event 1 was delivered: request {request}\n"));
    assert_eq!(
        (&json["seq"], &json["fate"]),
        (&1.into(), &"delivered".into())
    );
    place.run(&["pause"]).expect(exit::DONE);
    place.append(4, 1);

    let letter = place
        .run(&["dead", "list", "--json"])
        .expect(exit::DONE)
        .json();
    let id = letter["id"].as_str().unwrap();
    let pending = place.run(&["peek", "--json"]).expect(exit::DONE).json();
    let waits = pending["id"].as_str().unwrap();
    let of_others: Vec<_> = ["2", "3", "4", id, waits]
        .map(|event| said(&place, event))
        .into();
    let texts: Vec<&str> = of_others.iter().map(|(text, _)| text.as_str()).collect();
    assert!(
        texts[0].starts_with("event 2 is a dead letter: HTTP 400, "),
        "{texts:?}"
    );
    assert_eq!(
        texts[1],
        "event 3 was refused and set aside; its letter has left since, or cannot be read\n"
    );
    assert_eq!(texts[2], "event 4 is pending\n");
    assert!(
        texts[3].starts_with(&format!("event 2 ({id}) is a dead letter: ")),
        "{texts:?}"
    );
    assert_eq!(texts[4], format!("event 4 ({waits}) is pending\n"));
    assert_eq!(of_others[0].1["answer"]["status"], 400);
    let none = place.run(&["fate", "5"]).expect(exit::USAGE);
    assert_eq!(
        none.err,
        "everpost: no event has this number. seq=`5`\n\
         hint: `everpost status` shows how many were appended\n"
    );
    service.stop();

    // With no owner the files say the same, but for the name of the request.
    for (event, before) in ["2", "3", "4", id, waits].into_iter().zip(of_others) {
        assert_eq!(said(&place, event), before, "{event}");
    }
    assert_eq!(said(&place, "1").0, "event 1 was delivered\n");
    assert_eq!(place.run(&["fate", "5"]).expect(exit::USAGE).err, none.err);
    let unknown = "00000000-0000-7000-8000-000000000009";
    let none = place.run(&["fate", unknown]).expect(exit::USAGE);
    assert!(
        none.err.contains("has left the queue, or was never in it"),
        "{}",
        none.err
    );
    place.run(&["fate", "x"]).expect(exit::USAGE);
}

/// It waits with one owner, without one, and with the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_waited_for_through_a_restart_of_the_owner() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    sandbox.always(Fault::status(503));
    let service = place.serve(&[]);
    place.append(1, 1);
    let short = place
        .run(&["fate", "--settled=200ms", "1"])
        .expect(exit::PENDING);
    assert_eq!(short.out, "event 1 is pending\n");
    assert!(
        short.err.contains("was still pending when the time was up"),
        "{}",
        short.err
    );
    let waits = place.start(&["fate", "--json", "1", "--wait"]);
    let bounded = place.start(&["fate", "--settled=60s", "1"]);
    // A waiting command does not hold up the end of its owner.
    service.stop();
    let alone = place
        .run(&["fate", "--settled=200ms", "1"])
        .expect(exit::PENDING);
    assert_eq!(alone.out, "event 1 is pending\n");
    sandbox.clear();
    let service = place.serve(&[]);
    let settled = waits.end().expect(exit::DONE);
    assert!(settled.out.contains(r#""fate":"delivered""#), "{settled:?}");
    bounded.end().expect(exit::DONE);
    service.stop().expect(exit::DONE);
    place.run(&["fate", "--settled", "1"]).expect(exit::DONE);
}
