use super::*;
use crate::queue::Queue;

async fn spool_with(events: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let queue = Queue::builder(&spool).open().await.unwrap();
    for n in 1..=events {
        let event = Event::json(n.to_string()).unwrap();
        queue.append(event).await.unwrap();
    }
    queue.close(Duration::ZERO).await.unwrap();
    (dir, spool)
}

#[tokio::test]
async fn i8_a_sound_spool_is_found_sound_and_an_empty_one_too() {
    for events in [0, 3] {
        let (_dir, spool) = spool_with(events).await;
        let report = verify(&spool).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let first = events.min(1);
        assert_eq!(
            (report.events, report.first, report.last, report.bytes),
            (events, first, events, events)
        );
        assert_eq!(remembered_pause(&spool).unwrap(), None);
    }
}

#[tokio::test]
async fn nobody_looks_while_somebody_owns_the_spool() {
    let (_dir, spool) = spool_with(1).await;
    let queue = Queue::builder(&spool).open().await.unwrap();
    let error = verify(&spool).unwrap_err();
    let own = Some(std::process::id());
    assert!(
        matches!(error, Error::InUse { pid, .. } if pid == own),
        "{error}"
    );
    queue.close(Duration::ZERO).await.unwrap();
    verify(&spool).unwrap();
}

#[tokio::test]
async fn two_may_look_at_once_and_nobody_can_own_it_meanwhile() {
    let (_dir, spool) = spool_with(1).await;
    let look = lock(&spool).unwrap();
    verify(&spool).unwrap();
    let error = Queue::builder(&spool).open().await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    drop(look);
    Queue::builder(&spool).open().await.unwrap();
}

#[tokio::test]
async fn what_was_cut_out_is_missing_with_its_bounds() {
    let (_dir, spool) = spool_with(3).await;
    for entry in std::fs::read_dir(spool.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        // The body of the frame of event 2: its only byte of JSON is the last of the run.
        let frames = crate::log::frame::scan(&bytes.clone().into(), queue_id(&spool)).frames;
        let second = frames.iter().filter(|frame| {
            let entry = frame.entry();
            matches!(entry, Some(crate::log::frame::Entry::Events(run)) if run[0].seq == 2)
        });
        for frame in second {
            bytes[frame.end() as usize - 8] ^= 0xff;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    let report = verify(&spool).unwrap();
    let missing = [SeqRange { first: 2, last: 2 }];
    assert_eq!(
        (report.missing.as_slice(), report.errors.len()),
        (&missing[..], 1)
    );
    assert_eq!((report.events, report.first, report.last), (2, 1, 3));
    assert!(!report.is_sound());
}

fn queue_id(spool: &Path) -> Uuid {
    check_markers(spool, &mut Report::default()).unwrap()
}
