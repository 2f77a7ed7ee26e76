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

/// A look took the lock, and so a loop of `status` kept a service from starting.
#[tokio::test]
async fn i10_a_look_beside_an_owner_sees_what_is_there_and_keeps_no_owner_out() {
    let (_dir, spool) = spool_with(3).await;
    let before = look(&spool).unwrap();
    let queue = Queue::builder(&spool).open().await.unwrap();
    let mut beside = look(&spool).unwrap();
    assert!(!beside.is_disturbed());
    assert_eq!(beside.peek(0, 9).unwrap().len(), 3);
    queue.append(Event::json("4").unwrap()).await.unwrap();
    let report = verify(&spool).unwrap();
    assert!(report.is_sound() && !report.disturbed, "{report:?}");
    assert_eq!(report.events, 4);
    queue.close(Duration::ZERO).await.unwrap();
    drop(before);
}

#[test]
fn where_nothing_was_ever_acknowledged_there_is_no_spool_yet() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let is_none = || matches!(verify(&spool), Err(Error::NoSpool { .. }));
    assert!(is_none());
    std::fs::create_dir_all(spool.join("journal")).unwrap();
    std::fs::write(spool.join("journal/00000001.journal"), [0; 64]).unwrap();
    assert!(is_none());
    std::fs::write(spool.join("thesis.txt"), "x").unwrap();
    assert!(matches!(verify(&spool), Err(Error::NotASpool { .. })));
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
    // The place that does not check, and what was in it.
    assert_eq!(
        (report.missing.as_slice(), report.errors.len()),
        (&missing[..], 2)
    );
    assert_eq!((report.events, report.first, report.last), (2, 1, 3));
    assert!(!report.is_sound());
    // An opening puts exactly that on record, and then it is known.
    let queue = Queue::builder(&spool).open().await.unwrap();
    let said = |flaws: &[Flaw]| {
        flaws
            .iter()
            .map(|flaw| flaw.what.clone())
            .collect::<Vec<_>>()
    };
    let incidents = queue.incidents().list().await.unwrap();
    let recorded: Vec<_> = incidents.iter().map(|i| i.what.clone()).collect();
    assert_eq!(recorded, said(&report.errors));
    assert_eq!(queue.status().incidents, incidents);
    assert_eq!(queue.incidents().acknowledge(Some(1)).await.unwrap(), 1);
    assert_eq!(queue.status().incidents, incidents[1..]);
    queue.close(Duration::ZERO).await.unwrap();
    let again = verify(&spool).unwrap();
    assert!(again.is_sound());
    assert_eq!(said(&again.known), recorded);
    assert_eq!(again.incidents, incidents[1..]);
}

fn queue_id(spool: &Path) -> uuid::Uuid {
    crate::log::marker::identify(spool).unwrap().unwrap().queue
}

/// What a look beside an owner put together from different moments still named missing events.
#[tokio::test]
async fn i10_a_disturbed_look_raises_no_alarm() {
    let (_dir, spool) = spool_with(3).await;
    std::fs::remove_dir_all(spool.join("journal")).unwrap();
    for is_disturbed in [false, true] {
        let picture = Picture::take(&spool).unwrap().unwrap();
        let status = Look::new(picture, is_disturbed).status();
        assert_eq!(status.missing.is_empty(), is_disturbed);
        assert_eq!(status.incidents.is_empty(), is_disturbed);
    }
}

/// Without its markers a spool that was used was told to be no spool, for the names of its sheets.
#[tokio::test]
async fn a_spool_without_markers_is_damaged_and_not_something_else() {
    let (_dir, spool) = spool_with(3).await;
    for marker in ["spool.json", "spool.copy.json"] {
        std::fs::remove_file(spool.join(marker)).unwrap();
    }
    std::fs::write(spool.join("memo"), "x").unwrap();
    let error = verify(&spool).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

/// Whatever opening finds is told once more, should the process die while it mends: nothing is
/// changed before that is durable.
#[tokio::test]
async fn i13_what_opening_finds_is_on_record_before_anything_is_mended() {
    let (_dir, spool) = spool_with(3).await;
    std::fs::write(spool.join("spool.json"), "x").unwrap();
    std::fs::remove_file(spool.join("journal/00000002.journal")).unwrap();
    let found = verify(&spool).unwrap();
    assert_eq!(found.errors.len(), 2);
    // The record cannot be written.
    std::fs::create_dir(spool.join("incidents.new")).unwrap();
    Queue::builder(&spool).open().await.unwrap_err();
    assert_eq!(std::fs::read(spool.join("spool.json")).unwrap(), b"x");
    assert!(!spool.join("journal/00000002.journal").exists());
    assert_eq!(verify(&spool).unwrap(), found);
    std::fs::remove_dir(spool.join("incidents.new")).unwrap();
    let queue = Queue::builder(&spool).open().await.unwrap();
    let incidents = queue.status().incidents;
    let said = |flaw: &Flaw| (flaw.place.display().to_string(), flaw.what.clone());
    let told = incidents.iter().map(|i| (i.place.clone(), i.what.clone()));
    assert!(told.eq(found.errors.iter().map(said)));
    assert_eq!(queue.recovery().incidents, incidents);
    queue.close(Duration::ZERO).await.unwrap();
    assert!(verify(&spool).unwrap().is_sound());
}
