//! The books of a fleet, as a relay reads them again and again.

use std::sync::Arc;
use std::time::Duration;

use everpost::fleet::{BooksWatch, KnownBooks};

use crate::field::{Device, Field};

/// No wait of a test is longer, also on a busy machine.
const PATIENT: Duration = Duration::from_secs(120);

/// What is known once it is as wanted.
pub(crate) async fn until(
    watch: &mut BooksWatch,
    is_wanted: impl Fn(&KnownBooks) -> bool,
) -> Arc<KnownBooks> {
    let waiting = async {
        loop {
            assert!(watch.changed().await);
            let known = watch.current();
            if is_wanted(&known) {
                return known;
            }
        }
    };
    let waited = tokio::time::timeout(PATIENT, waiting).await;
    waited.unwrap_or_else(|_| panic!("not as wanted: {:?}", watch.current()))
}

/// Whether the books are read, and so many events were stored.
fn has_stored(known: &KnownBooks, stored: u64) -> bool {
    let books = known.books.as_ref().filter(|_| known.unread.is_none());
    books.is_some_and(|books| books.stored == stored && books.balanced)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_are_read_on_when_the_leader_dies_and_when_the_next_one_freezes() {
    let Some(mut field) = Field::new(3, 2).await else {
        return;
    };
    let mut device = Device::new(&field, 0);
    device.publish().await;
    let stream = field.names.stream().to_owned();
    let second = Duration::from_secs(1);
    let mut watch = BooksWatch::start(field.access(), &stream, second).unwrap();
    until(&mut watch, |known| has_stored(known, 1)).await;

    let first = field.cluster.wait_leader(&stream);
    field.cluster.node(first).kill();
    device.publish().await;
    until(&mut watch, |known| has_stored(known, 2)).await;

    field.cluster.node(first).start();
    field.cluster.wait_ready();
    let next = field.cluster.wait_leader(&stream);
    field.cluster.node(next).freeze();
    device.publish().await;
    until(&mut watch, |known| has_stored(known, 3)).await;
    field.cluster.node(next).thaw();
    until(&mut watch, |known| has_stored(known, 3)).await;
}
