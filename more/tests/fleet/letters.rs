//! The dead letters of a fleet on a real server.

use std::time::Duration;

use async_nats::HeaderMap;
use everpost::nats::Envelope;
use everpost::{Cause, Error};
use serde_json::json;

use crate::field::{Device, Field, Receiver, check_order, id, is_poison};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_listed_shown_retried_and_discarded() {
    let Some(field) = Field::new(1, 2).await else {
        return;
    };
    let mut devices: Vec<Device> = (0..3).map(|number| Device::new(&field, number)).collect();
    let receiver = Receiver::default();
    let worker = field.worker(receiver.clone()).start().await.unwrap();
    for device in &mut devices {
        for _ in 0..45 {
            device.publish().await;
        }
    }
    let books = field.until_drained(135).await;
    let letters = field.fleet.letters();
    let poison = (0..3).map(|number| (1..=45).filter(|seq| is_poison(number, *seq)).count());
    let count = poison.sum::<usize>() as u64;
    assert_eq!(
        (books.dead, books.letters, letters.count().await.unwrap()),
        (count, count, count)
    );
    let mut all = Vec::new();
    let mut list = letters.list(..);
    while let Some(letter) = list.next().await.unwrap() {
        assert_eq!(letters.show(letter.letter.seq).await.unwrap(), letter);
        assert_eq!(letter.letter.cause, Cause::Refused);
        assert_eq!(letter.letter.answer.detail.as_deref(), Some("it is poison"));
        all.push(letter);
    }
    assert_eq!(all.len() as u64, count);
    let seq = all[0].letter.seq;
    let mut one = letters.list(seq..=seq);
    assert_eq!(one.next().await.unwrap().as_ref(), Some(&all[0]));
    assert_eq!(one.next().await.unwrap(), None);
    // One that is still refused is a letter again, of another place, with its id and its spool.
    letters.retry(seq).await.unwrap();
    field.until_drained(136).await;
    assert!(matches!(
        letters.retry(seq).await,
        Err(Error::NoSuchLetter { .. })
    ));
    let mut again = letters.list(136..);
    let again = again.next().await.unwrap().unwrap();
    assert_eq!(again.letter.event, all[0].letter.event);
    assert_eq!(
        (&again.spool, again.spool_seq),
        (&all[0].spool, all[0].spool_seq)
    );
    // And one that is not is delivered.
    receiver.take_all();
    letters.retry(again.letter.seq).await.unwrap();
    field.until_drained(137).await;
    assert_eq!(receiver.taken().last(), Some(&again.letter.event.id()));
    for letter in &all[1..] {
        letters.discard(letter.letter.seq).await.unwrap();
    }
    assert_eq!(letters.count().await.unwrap(), 0);
    assert!(matches!(
        letters.discard(all[1].letter.seq).await,
        Err(Error::NoSuchLetter { .. })
    ));
    worker.close(Duration::from_secs(5)).await.unwrap();
}

/// The process that retried died after the event was published and before the letter was removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_was_interrupted_publishes_the_event_once() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let mut device = Device::new(&field, 0);
    for _ in 0..6 {
        device.publish().await;
    }
    let receiver = Receiver::default();
    let worker = field.worker(receiver.clone()).start().await.unwrap();
    field.until_drained(6).await;
    receiver.take_all();
    let letters = field.fleet.letters();
    let letter = letters.list(..).next().await.unwrap().unwrap();
    let seq = letter.letter.seq;
    let mut headers = HeaderMap::new();
    let envelope = Envelope {
        seq: letter.spool_seq.unwrap(),
        event: letter.letter.event.clone(),
    };
    for (name, value) in envelope.headers() {
        headers.insert(name, value);
    }
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    let json = std::str::from_utf8(letter.letter.event.json_bytes()).unwrap();
    field
        .publish(field.names.again_subject(0, seq), headers, json)
        .await;
    letters.retry(seq).await.unwrap();
    field.until_drained(7).await;
    assert!(matches!(
        letters.show(seq).await,
        Err(Error::NoSuchLetter { .. })
    ));
    let times = receiver
        .taken()
        .iter()
        .filter(|taken| **taken == letter.letter.event.id())
        .count();
    assert_eq!(times, 1);
    worker.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_another_program_is_set_aside_in_its_turn() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let mut device = Device::new(&field, 0);
    device.publish().await;
    let plain = field
        .publish(
            "events.0.other".to_owned(),
            HeaderMap::new(),
            "hello \u{1f600}",
        )
        .await;
    device.publish().await;
    let mut headers = HeaderMap::new();
    let envelope = Envelope {
        seq: 1,
        event: everpost::Event::json("1").unwrap(),
    };
    for (name, value) in envelope.headers() {
        headers.insert(name, value);
    }
    let broken = field
        .publish("events.0.spool-9".to_owned(), headers, "{")
        .await;
    for _ in 0..2 {
        device.publish().await;
    }
    let receiver = Receiver::default();
    let worker = field.worker(receiver.clone()).start().await.unwrap();
    let books = field.until_drained(6).await;
    assert_eq!((books.delivered, books.dead), (4, 2));
    assert_eq!(check_order(&receiver.taken(), &[device]), 0);
    let letters = field.fleet.letters();
    for (seq, text, why) in [
        (plain, "\"hello \u{1f600}\"", "Everpost-Id"),
        (broken, "\"{\"", "JSON"),
    ] {
        let letter = letters.show(seq).await.unwrap();
        assert_eq!(letter.letter.event.json_bytes(), text.as_bytes());
        assert!(
            letter
                .letter
                .answer
                .detail
                .as_deref()
                .unwrap()
                .contains(why),
            "{letter:?}"
        );
        assert_eq!((letter.spool_seq, letter.letter.attempts), (None, 0));
        let error = letters.retry(seq).await.unwrap_err();
        assert!(matches!(error, Error::InvalidEvent { .. }), "{error}");
    }
    let raw = field
        .api(
            "MSG.GET.EVENTS_DEAD",
            json!({"last_by_subj": field.names.dead_subject(0, broken)}),
        )
        .await;
    assert_eq!(raw["message"]["data"], "ew==", "its bytes are as they were");
    letters.discard(plain).await.unwrap();
    worker.close(Duration::from_secs(5)).await.unwrap();
}

/// The letter is there and the cursor is not moved: the worker died in between. It is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_is_there_already_is_no_second_one() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let mut device = Device::new(&field, 0);
    for _ in 0..5 {
        device.publish().await;
    }
    assert!(is_poison(0, 5));
    let mut headers = HeaderMap::new();
    headers.insert("Everpost-Id", id(0, 5).to_string());
    headers.insert("Everpost-Time", "7");
    field
        .publish(field.names.dead_subject(0, 5), headers, "5")
        .await;
    let worker = field.worker(Receiver::default()).start().await.unwrap();
    let books = field.until_drained(5).await;
    assert_eq!((books.dead, books.letters), (1, 1));
    assert_eq!(
        field
            .fleet
            .letters()
            .show(5)
            .await
            .unwrap()
            .letter
            .event
            .time_ms(),
        7,
        "the first one"
    );
    worker.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_cannot_be_stored_holds_the_cursor_until_it_can() {
    let Some(field) = Field::new(1, 1).await else {
        return;
    };
    let mut device = Device::new(&field, 0);
    for _ in 0..7 {
        device.publish().await;
    }
    let receiver = Receiver::away();
    let worker = field.worker(receiver.clone()).start().await.unwrap();
    let config = field.api("INFO.EVENTS_DEAD", json!({})).await["config"].clone();
    field.api("DELETE.EVENTS_DEAD", json!({})).await;
    receiver.come_back();
    let is_stuck = || {
        let taken = receiver.taken().len();
        assert!(taken <= 4, "it has passed an event without a letter");
        let status = worker.status();
        let held = status.held.first();
        held.is_some_and(|held| {
            held.pending == 3 && matches!(held.state, everpost::FlusherState::BackingOff { .. })
        })
    };
    field.until_told("it does not wait", is_stuck).await;
    assert_eq!(receiver.taken().len(), 4);
    field.api("CREATE.EVENTS_DEAD", config).await;
    let books = field.until_drained(7).await;
    assert_eq!((books.dead, books.letters), (1, 1));
    assert_eq!(check_order(&receiver.taken(), &[device]), 0);
    worker.close(Duration::from_secs(5)).await.unwrap();
}
