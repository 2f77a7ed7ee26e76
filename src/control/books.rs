//! The numbers of a fleet, as its books have them.

use std::time::UNIX_EPOCH;

use crate::fleet::{BooksWatch, KnownBooks, PartitionBooks};
use crate::metrics::page::{Labels, Page};
use crate::observe::books::{
    BALANCED, LETTERS, OF_FLEET, OF_PARTITION, OLDEST, READ, STORED, STREAM,
};
use crate::observe::numbers::real;
use crate::observe::worker::{DEAD, DELIVERED, EXPIRED, LOST, OF_EVENTS, PARTITION, WORKER};

/// Adds them to a page. While the books cannot be read, they are those from before.
pub(crate) fn add(page: &mut Page, fleet: &BooksWatch) {
    let seen = fleet.current();
    let of_fleet = Labels::default().with(STREAM, fleet.stream());
    for number in OF_FLEET {
        page.head(number.name, number.kind, number.meaning);
        if let Some(value) = of_all(number.name, &seen) {
            page.value(number.name, &of_fleet, value);
        }
    }
    let books = seen.books.as_deref();
    let partitions = books.map_or(&[][..], |books| &books.partitions);
    for number in OF_EVENTS.into_iter().chain(OF_PARTITION) {
        page.head(number.name, number.kind, number.meaning);
        for one in partitions {
            // Also one that has been silent for long is the worker that has it, as the record says.
            let worker = one.owner.as_deref().unwrap_or_default();
            let labels = Labels::default()
                .with(WORKER, worker)
                .with(PARTITION, &one.partition.to_string());
            page.value(number.name, &labels, of_partition(number.name, one));
        }
    }
}

/// Nothing for what is not known before the books were read.
fn of_all(name: &str, seen: &KnownBooks) -> Option<f64> {
    let books = seen.books.as_ref();
    match name {
        BALANCED => books.map(|books| f64::from(u8::from(books.balanced))),
        LETTERS => books.map(|books| real(books.letters)),
        READ => {
            let since = seen
                .read_at
                .unwrap_or(UNIX_EPOCH)
                .duration_since(UNIX_EPOCH);
            Some(since.unwrap_or_default().as_secs_f64())
        }
        _ => Some(f64::from(u8::from(seen.unread.is_some()))),
    }
}

fn of_partition(name: &str, books: &PartitionBooks) -> f64 {
    match name {
        STORED => real(books.stored),
        DELIVERED => real(books.delivered),
        DEAD => real(books.dead),
        EXPIRED => real(books.expired),
        LOST => real(books.lost),
        OLDEST => real(books.oldest_ms.unwrap_or(0)) / 1000.0,
        _ => real(books.pending),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::fleet::Books;

    fn page(seen: KnownBooks) -> String {
        let mut page = Page::default();
        let (_sender, seen) = watch::channel(Arc::new(seen));
        add(&mut page, &BooksWatch::of(seen));
        page.into_text()
    }

    #[test]
    fn each_number_is_that_of_the_books_and_what_is_not_known_is_not_said() {
        let mut one = PartitionBooks::default();
        (one.partition, one.owner) = (3, Some("w-\"1".to_owned()));
        (one.stored, one.delivered, one.dead) = (60, 10, 11);
        (one.expired, one.lost, one.pending) = (12, 13, 14);
        one.oldest_ms = Some(1500);
        let mut books = Books::default();
        (books.balanced, books.letters) = (true, 7);
        books.partitions = vec![one, PartitionBooks::default()];
        let mut seen = KnownBooks::default();
        let unread = page(seen.clone());
        let lines = unread.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "everpost_fleet_books_timestamp_seconds{stream=\"EVENTS\"} 0",
                "everpost_fleet_books_unread{stream=\"EVENTS\"} 0"
            ]
        );
        seen.books = Some(Arc::new(books));
        seen.read_at = Some(UNIX_EPOCH + std::time::Duration::from_millis(2500));
        let known = page(seen);
        for line in [
            "everpost_fleet_books_balanced{stream=\"EVENTS\"} 1",
            "everpost_fleet_dead_letters{stream=\"EVENTS\"} 7",
            "everpost_fleet_books_timestamp_seconds{stream=\"EVENTS\"} 2.5",
            "everpost_fleet_events_stored_total{worker=\"w-\\\"1\",partition=\"3\"} 60",
            "everpost_fleet_events_delivered_total{worker=\"w-\\\"1\",partition=\"3\"} 10",
            "everpost_fleet_events_dead_total{worker=\"w-\\\"1\",partition=\"3\"} 11",
            "everpost_fleet_events_expired_total{worker=\"w-\\\"1\",partition=\"3\"} 12",
            "everpost_fleet_events_lost_total{worker=\"w-\\\"1\",partition=\"3\"} 13",
            "everpost_fleet_events_pending{worker=\"w-\\\"1\",partition=\"3\"} 14",
            "everpost_fleet_oldest_pending_timestamp_seconds{worker=\"w-\\\"1\",partition=\"3\"} 1.5",
            "everpost_fleet_events_pending{worker=\"\",partition=\"0\"} 0",
        ] {
            assert!(known.lines().any(|found| found == line), "{line}\n{known}");
        }
    }
}
