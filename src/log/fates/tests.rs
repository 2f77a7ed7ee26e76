use Settled::{Dead, Delivered, Evicted, Expired, Lost};

use super::*;

fn range(first: Seq, last: Seq) -> SeqRange {
    SeqRange { first, last }
}

/// Books after these steps, one for each, and what each event came to.
fn history(steps: &[(Settled, u64)]) -> (Vec<Ledger>, Vec<Settled>) {
    let mut ledger = Ledger {
        appended: 10_000,
        ..Ledger::default()
    };
    let mut all = vec![ledger];
    let mut fates = Vec::new();
    for (how, count) in steps {
        ledger.settle(*how, *count);
        all.push(ledger);
        fates.extend((0..*count).map(|_| *how));
    }
    (all, fates)
}

/// How a settled event left.
fn of_event(fates: &Fates, seq: Seq) -> Option<Settled> {
    fates.from(seq, seq).1
}

fn followed(books: &[Ledger]) -> Fates {
    let mut chain = Chain::default();
    books.iter().for_each(|ledger| chain.book(*ledger));
    chain.finish(*books.last().unwrap())
}

const STEPS: &[(Settled, u64)] = &[
    (Delivered, 7),
    (Dead, 1),
    (Dead, 1),
    (Expired, 2),
    (Delivered, 30),
    (Evicted, 10),
    (Evicted, 5),
    (Lost, 4),
    (Delivered, 1),
    (Dead, 1),
];

#[test]
fn books_in_a_row_say_what_became_of_each_event() {
    let (books, came_to) = history(STEPS);
    let fates = followed(&books);
    for (seq, how) in (1..).zip(&came_to) {
        assert_eq!(of_event(&fates, seq), Some(*how), "{seq}");
    }
    assert!(fates.is_sound(62) && !fates.is_sound(61));
    assert_eq!(fates.stretches.len(), 5, "{fates:?}");
    // As they are given out one after the other.
    let (mut next, mut given) = (1, Vec::new());
    while next <= 62 {
        let (range, how) = fates.from(next, 62);
        given.push((range.count(), how.unwrap()));
        next = range.last + 1;
    }
    let expected = [
        (7, Delivered),
        (2, Dead),
        (2, Expired),
        (30, Delivered),
        (15, Evicted),
        (4, Lost),
        (1, Delivered),
        (1, Dead),
    ];
    assert_eq!(given, expected);
}

/// Whatever books are gone, and wherever a file of the journal begins, nothing is said that is not
/// true, and what two books in a row tell apart is known.
#[test]
fn without_some_of_the_books_less_is_said_and_nothing_false() {
    let (books, came_to) = history(STEPS);
    for gone in 0..1_u32 << books.len() {
        let left: Vec<Ledger> = (0..)
            .zip(&books)
            .filter_map(|(n, ledger)| (gone & 1 << n == 0).then_some(*ledger))
            .collect();
        let Some(last) = left.last() else { continue };
        let fates = followed(&left);
        assert!(fates.is_sound(last.settled()));
        for (seq, how) in (1..=last.settled()).zip(&came_to) {
            let said = of_event(&fates, seq);
            assert!(
                said.is_none() || said == Some(*how),
                "{gone:b} {seq}: {said:?}"
            );
        }
    }
}

#[test]
fn what_the_journal_says_of_them_itself_makes_up_for_the_books_before() {
    let (books, _) = history(STEPS);
    let whole = followed(&books);
    let last = books[books.len() - 1];
    let mut chain = Chain::default();
    chain.book(last);
    chain.state(Stated::new(last, whole.clone()));
    assert_eq!(chain.finish(last), whole);
}

#[test]
fn what_goes_with_other_books_is_not_believed() {
    let (books, _) = history(STEPS);
    let whole = followed(&books);
    let mut chain = Chain::default();
    chain.book(books[4]);
    chain.state(Stated::new(books[10], whole.clone()));
    assert_eq!(chain.fates, Fates::forgotten(books[4].settled()));
    // It goes with books of the same cursor, which count another way.
    let mut other = Ledger::default();
    other.appended = 10_000;
    other.settle(Delivered, 62);
    let mut chain = Chain::default();
    chain.book(other);
    chain.state(Stated::new(other, whole));
    assert_eq!(chain.finish(other), Fates::forgotten(62));
}

/// A settle failed after its frame was written, the file was replaced, and the events left in
/// another way.
#[test]
fn books_that_were_taken_back_say_nothing_of_what_came_after() {
    let (mut books, _) = history(&[(Delivered, 5), (Delivered, 10)]);
    let mut again = books[1];
    books.push(again);
    again.settle(Evicted, 12);
    books.push(again);
    let fates = followed(&books);
    assert_eq!(fates.from(6, 17), (range(6, 17), Some(Evicted)));
    assert_eq!(of_event(&fates, 5), Some(Delivered));
    // What was not delivered then, and was after all.
    let (mut other, _) = history(&[(Delivered, 5), (Evicted, 10)]);
    let mut again = other[1];
    other.push(again);
    again.settle(Delivered, 12);
    other.push(again);
    assert_eq!(
        followed(&other).from(1, 17),
        (range(1, 17), Some(Delivered))
    );
    // Had it stopped in between, the highest books count.
    let mut chain = Chain::default();
    books[..4].iter().for_each(|ledger| chain.book(*ledger));
    assert_eq!(of_event(&chain.finish(books[2]), 15), Some(Delivered));
}

#[test]
fn of_too_many_ranges_the_oldest_are_forgotten() {
    let mut fates = Fates::default();
    for n in 1..=40 {
        fates.note(range(2 * n, 2 * n), Some(Dead), 10);
    }
    assert_eq!(fates.stretches.len(), 10);
    assert_eq!(of_event(&fates, 60), None);
    assert_eq!(of_event(&fates, 59), None);
    assert_eq!(of_event(&fates, 61), Some(Delivered));
    assert_eq!(of_event(&fates, 62), Some(Dead));
    assert_eq!(fates.from(3, 80), (range(3, 60), None));
    assert!(fates.is_sound(80));
    fates.cut(0);
    assert_eq!(fates, Fates::forgotten(80));
    // All that leaves in the same way is one range.
    for n in 81..=4000 {
        fates.note(range(n, n), Some(Evicted), 10);
    }
    assert_eq!(fates.stretches.len(), 1);
}

#[test]
fn a_file_of_the_journal_begins_with_a_small_part_of_it_at_the_most() {
    for (bytes, ranges) in [
        (16 << 10, 25),
        (64 << 10, 102),
        (4 << 20, 1024),
        (1 << 30, 1024),
    ] {
        assert_eq!(Fates::ranges_max(bytes), ranges, "{bytes}");
    }
}

#[test]
fn what_no_log_wrote_is_not_sound() {
    let stretch = |first, last, left| Stretch { first, last, left };
    let of = |floor, stretches: &[Stretch]| Fates {
        floor,
        stretches: stretches.to_vec(),
    };
    assert!(of(3, &[stretch(4, 4, Left::Dead), stretch(5, 9, Left::Lost)]).is_sound(9));
    for bad in [
        of(10, &[]),
        of(3, &[stretch(3, 4, Left::Dead)]),
        of(0, &[stretch(5, 4, Left::Dead)]),
        of(0, &[stretch(5, 10, Left::Dead)]),
        of(0, &[stretch(1, 2, Left::Dead), stretch(3, 3, Left::Dead)]),
        of(0, &[stretch(3, 3, Left::Dead), stretch(1, 2, Left::Lost)]),
        of(Seq::MAX, &[stretch(1, 2, Left::Dead)]),
    ] {
        assert!(!bad.is_sound(9), "{bad:?}");
    }
}

#[test]
fn the_body_of_a_frame_is_what_the_format_says_to_the_byte() {
    let mut fates = Fates::forgotten(2);
    fates.note(range(3, 4), Some(Dead), 9);
    fates.note(range(6, 6), None, 9);
    let mut ledger = Ledger::default();
    ledger.settle(Delivered, 7);
    let stated = Stated::new(ledger, fates);
    let body = crate::log::codec::encode(&stated).unwrap();
    let numbers = |numbers: &[u64]| -> Vec<u8> {
        let bytes = numbers.iter().map(|number| number.to_le_bytes());
        bytes.flatten().collect()
    };
    let expected = [
        numbers(&[7, 2, 2, 3, 4]),
        vec![0, 0, 0, 0],
        numbers(&[6, 6]),
        vec![4, 0, 0, 0],
    ];
    assert_eq!(body, expected.concat());
    let again: Stated = crate::log::codec::decode(&body, "fates").unwrap();
    assert_eq!(again, stated);
}
