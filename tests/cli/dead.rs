//! `dead`.

use everpost::exit;
use everpost::sandbox::Sandbox;

use crate::set_up::{Place, bad_message, message};

/// Messages 2, 3 and 5 of six are dead letters.
async fn with_letters() -> (Sandbox, Place) {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let lines = [1, 4, 6].map(message).concat();
    let (first, rest) = lines.split_at(message(1).len());
    let input = first.to_owned() + &bad_message(2) + &bad_message(3) + rest + &bad_message(5);
    place
        .feed(&["append", "--batch", "9"], &input)
        .expect(exit::DONE);
    place.run(&["drain"]).expect(exit::DONE);
    (sandbox, place)
}

fn seqs(place: &Place, args: &[&str]) -> Vec<u64> {
    let listed = place.run(args).expect(exit::DONE);
    listed
        .lines()
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_chosen_by_number_id_status_and_text() {
    let (_sandbox, place) = with_letters().await;
    let list = ["dead", "list", "--json"];
    let all = seqs(&place, &list);
    assert_eq!(all, [2, 3, 6]);
    let shown = place
        .run(&["dead", "show", "3", "--json"])
        .expect(exit::DONE)
        .json();
    assert_eq!(shown["answer"]["status"], 400);
    assert_eq!(shown["event"]["id"], "3");
    let id = shown["id"].as_str().unwrap();
    assert_eq!(seqs(&place, &[&list[..], &[id]].concat()), [3]);
    assert_eq!(seqs(&place, &[&list[..], &["2", id]].concat()), [2, 3]);
    assert_eq!(
        seqs(&place, &[&list[..], &["--status", "400"]].concat()),
        all
    );
    assert!(seqs(&place, &[&list[..], &["--status", "413"]].concat()).is_empty());
    assert_eq!(
        seqs(&place, &[&list[..], &["--text", "TEXTS"]].concat()),
        all
    );
    assert!(seqs(&place, &[&list[..], &["--text", "no such text"]].concat()).is_empty());
    let unknown = place.run(&["dead", "show", "77"]).expect(exit::USAGE);
    assert_eq!(
        unknown.err,
        "everpost: no such dead letter. seq=`77`\n\
         hint: list the dead letters to see which there are\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_retried_or_discarded_before_it_was_shown_and_agreed_to() {
    let (_sandbox, place) = with_letters().await;
    place.run(&["dead", "discard"]).expect(exit::USAGE);
    let planned = place
        .run(&["dead", "discard", "--all", "--json"])
        .expect(exit::USAGE);
    assert_eq!(planned.lines().len(), 3);
    assert_eq!(planned.lines()[0]["done"], false);
    assert!(
        planned.err.contains(r#""hint":"add --yes to do it""#),
        "{}",
        planned.err
    );
    assert_eq!(seqs(&place, &["dead", "list", "--json"]).len(), 3);

    let retried = place
        .run(&["dead", "retry", "3", "--yes", "--json"])
        .expect(exit::DONE)
        .json();
    assert_eq!(
        (retried["seq"].as_u64(), retried["new_seq"].as_u64()),
        (Some(3), Some(7))
    );
    let discarded = place
        .run(&["dead", "discard", "--status", "400", "--yes"])
        .expect(exit::DONE);
    assert_eq!(discarded.out, "2 is discarded\n6 is discarded\n");
    assert!(seqs(&place, &["dead", "list", "--json"]).is_empty());
    assert_eq!(seqs(&place, &["peek", "--json"]), [7]);
    let exported = place.run(&["export", "--dead"]).expect(exit::DONE);
    assert_eq!(exported.out, "");
}
