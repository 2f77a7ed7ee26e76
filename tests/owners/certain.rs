//! The directory or the lock goes away under an owner.

use std::fs;
use std::time::Duration;

use everpost::{AppendError, Durability, Error, Event, Queue, Settings};

use crate::set_up::{Place, run};

fn event() -> Event {
    Event::json("{\"n\":0}").unwrap()
}

async fn open(place: &Place) -> Queue {
    let queue = Queue::builder(place.spool()).open().await.unwrap();
    queue.append(event()).await.unwrap();
    queue
}

const MOVED: &str = "its directory was moved or removed";
const REPLACED: &str = "another directory is in its place";

#[track_caller]
fn is_not_owner<T: std::fmt::Debug>(result: Result<T, impl Into<Error>>, reasons: &[&str]) {
    match result.map_err(Into::into) {
        Err(Error::NotOwner { reason, .. }) => {
            assert!(reasons.contains(&reason.as_str()), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

/// Nothing goes on: no append, no close, whatever is tried.
async fn assert_lost(queue: &Queue, reasons: &[&str]) {
    is_not_owner(queue.append(event()).await, reasons);
    is_not_owner(queue.blocking().append(event()), reasons);
    is_not_owner(queue.append_all([event(), event()]).await, reasons);
    assert_eq!(queue.status().last_seq, 1, "nothing was acknowledged");
    is_not_owner(queue.close(Duration::ZERO).await, reasons);
}

// The second owner locked a new file beside the removed one, and both acknowledged events under the
// same numbers; `verify` found nothing wrong with what was left.
#[tokio::test]
async fn i14_without_its_lock_file_an_owner_stops_and_a_second_one_is_refused() {
    let place = Place::new();
    let queue = open(&place).await;
    fs::remove_file(place.spool().join("lock")).unwrap();
    place.append().expect(3).says("pid=`unknown`");
    assert_lost(&queue, &["its lock file was removed"]).await;
    drop(queue);
    place.append().expect(0);
    // And perhaps what was written before the loss was seen, and never acknowledged.
    assert!((2..=3).contains(&place.pending()));
}

// 8,004 of 8,004 events were once acknowledged into a directory that was gone.
#[tokio::test]
async fn i14_an_owner_whose_directory_is_gone_acknowledges_nothing() {
    let place = Place::new();
    let queue = open(&place).await;
    fs::rename(place.spool(), place.path("elsewhere")).unwrap();
    assert_lost(&queue, &[MOVED]).await;
    drop(queue);
    assert!(!place.spool().exists(), "nothing was made there");
    fs::rename(place.path("elsewhere"), place.spool()).unwrap();
    let queue = open(&place).await;
    fs::remove_dir_all(place.spool()).unwrap();
    // Its thread may have looked when only the lock was gone.
    let appended = queue.append(event()).await;
    assert!(matches!(appended, Err(AppendError::NotOwner { .. })));
}

// The owner of the directory that was moved away once put its next segment into the new spool.
#[tokio::test]
async fn i14_an_owner_leaves_the_new_spool_in_its_place_alone() {
    let place = Place::new();
    let queue = open(&place).await;
    fs::rename(place.spool(), place.path("elsewhere")).unwrap();
    place.append().expect(0);
    let listing = || {
        run(std::process::Command::new("ls")
            .arg("-lR")
            .arg(place.spool()))
        .out
    };
    let before = listing();
    // The owner's thread keeps the reason of its first look, which may have come between the two.
    assert_lost(&queue, &[REPLACED, MOVED]).await;
    drop(queue);
    assert_eq!(listing(), before);
    assert_eq!(place.pending(), 1);
}

#[tokio::test]
async fn i14_what_waits_for_its_sync_is_not_synced_elsewhere_unsaid() {
    let place = Place::new();
    let mut settings = Settings::default();
    settings.durability = Durability::Written {
        sync_every: Duration::from_secs(3600),
    };
    let queue = Queue::builder(place.spool()).settings(settings);
    let queue = queue.open().await.unwrap();
    queue.append(event()).await.unwrap();
    fs::rename(place.spool(), place.path("elsewhere")).unwrap();
    is_not_owner(queue.close(Duration::ZERO).await, &[MOVED]);
}

// The directory of the program changes, as a daemon's does: the spool stays where it was opened.
#[test]
fn i14_a_relative_path_means_the_directory_it_meant_at_first() {
    let place = Place::new();
    let line = "cd \"$EVERPOST_SPOOL/..\" && EVERPOST_SPOOL=spool everpost append";
    place.shell(line).expect(0);
    assert_eq!(place.pending(), 1);
}
