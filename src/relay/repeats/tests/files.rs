//! What the files hold: damage, generations, kills, syncs, a disk that refuses.

use super::*;

#[tokio::test]
async fn no_damaged_byte_and_no_cut_panics_or_makes_something_known_that_was_not_taken() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("whole");
    let repeats = open(&dir);
    for n in 0..3 {
        take(&repeats, n).await;
    }
    drop(repeats);
    let whole = fs::read(dir.join("current")).unwrap();
    let used = HEAD_BYTES + 3 * RECORD_BYTES;
    for at in 0..2 * used {
        let dir = place.path().join(at.to_string());
        copy(&place.path().join("whole"), &dir);
        let mut bytes = whole.clone();
        match bytes.get_mut(at).filter(|_| at < used) {
            Some(byte) => *byte ^= 0x41,
            None => bytes.truncate(at - used),
        }
        fs::write(dir.join("current"), &bytes).unwrap();
        let repeats = open(&dir);
        for n in 0..3 {
            let from = HEAD_BYTES + usize::try_from(n).unwrap() * RECORD_BYTES;
            let is_whole = match at < used {
                true => at >= HEAD_BYTES && !(from..from + RECORD_BYTES).contains(&at),
                false => bytes.len() >= from + RECORD_BYTES,
            };
            assert_eq!(is_known(&repeats, n).await, is_whole, "{at}: {n}");
        }
        // It goes on from there, and loses nothing more of it.
        take(&repeats, 9).await;
        drop(repeats);
        let repeats = open(&dir);
        assert!(is_known(&repeats, 9).await, "{at}");
        let is_set_aside = dir.join("damaged").exists();
        assert_eq!(
            is_set_aside,
            at < HEAD_BYTES || bytes.len() < HEAD_BYTES,
            "{at}"
        );
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["current", "previous"] {
        let path = dir.path().join(name);
        let bytes = [&Head::encode(2)[..], b"who knows"].concat();
        fs::write(&path, &bytes).unwrap();
        let error = Repeats::open(dir.path(), RepeatWindows::new()).unwrap_err();
        assert!(
            matches!(&error, Error::FutureFormat { found: 2, supported: 1, path: at } if *at == path),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_full_generation_makes_room_for_another_and_the_last_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Told::now();
    let mut repeats = open_at(dir.path(), &clock, 10);
    for n in 0..47 {
        take(&repeats, n).await;
        if n % 7 == 0 {
            drop(repeats);
            repeats = open_at(dir.path(), &clock, 10);
        }
        for known in (n + 1).saturating_sub(10)..=n {
            assert!(is_known(&repeats, known).await, "{known} of {n}");
        }
        if let Some(forgotten) = n.checked_sub(20) {
            assert!(!is_known(&repeats, forgotten).await, "{forgotten} of {n}");
        }
    }
}

#[tokio::test]
async fn a_request_of_many_messages_can_begin_in_one_generation_and_end_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let messages = messages(0..25);
    let marks = || Marks {
        request: None,
        messages: messages.clone(),
    };
    let repeats = open_at(dir.path(), &Told::now(), 10);
    let Begun::New(claim) = repeats.begin(&marks(), soon()).await.unwrap() else {
        panic!("known");
    };
    claim.keep(request(0).event_id(0), soon()).await.unwrap();
    drop(repeats);
    let repeats = open_at(dir.path(), &Told::now(), 10);
    let Begun::New(claim) = repeats.begin(&marks(), soon()).await.unwrap() else {
        panic!("known");
    };
    let known: Vec<usize> = (0..25).filter(|n| claim.known(*n).is_some()).collect();
    assert_eq!(known, (10..25).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_older_than_the_window_leaves_the_disk_and_a_clock_that_went_back_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Told::now();
    let repeats = open_at(dir.path(), &clock, 1_000);
    let hour = 3_600_000;
    for n in 0..5 {
        clock.set(NOW_MS + n * hour);
        take(&repeats, n).await;
        assert!(is_known(&repeats, n).await);
        assert!(n == 0 || !is_known(&repeats, n - 1).await);
    }
    let names = |name| fs::read(dir.path().join(name)).unwrap();
    let records = |bytes: &[u8]| {
        let slots = bytes[HEAD_BYTES..].as_chunks::<RECORD_BYTES>().0.iter();
        slots.filter_map(Record::decode).count()
    };
    assert_eq!(
        (records(&names("previous")), records(&names("current"))),
        (1, 1)
    );
    clock.set(NOW_MS - 24 * hour);
    assert!(!is_known(&repeats, 4).await, "rather new than wrong");
    take(&repeats, 4).await;
    assert!(is_known(&repeats, 4).await);
}

/// As if the process were killed before each thing that it does to the disk.
#[tokio::test]
async fn what_was_answered_is_known_whenever_it_is_killed() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("live");
    let answered = Arc::new(AtomicU64::new(0));
    let images = Arc::new(Mutex::new(Vec::new()));
    let hook: Hook = {
        let (dir, answered, images) = (dir.clone(), Arc::clone(&answered), Arc::clone(&images));
        let place = place.path().to_owned();
        Arc::new(move |_| {
            let mut images = images.lock().unwrap();
            let image = place.join(format!("image-{}", images.len()));
            copy(&dir, &image);
            images.push((image, answered.load(SeqCst)));
            Ok(())
        })
    };
    let clock = Told::now();
    let repeats = try_open(&dir, &clock, Box::new(Asking(hook)), 4).unwrap();
    for n in 0..14 {
        take(&repeats, n).await;
        answered.store(n + 1, SeqCst);
    }
    drop(repeats);
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 40, "{}", images.len());
    for (image, answered) in images {
        let repeats = open_at(&image, &clock, 4);
        for n in answered.saturating_sub(4)..answered {
            assert!(is_known(&repeats, n).await, "{n} in {}", image.display());
        }
        take(&repeats, 99).await;
        drop(repeats);
        assert!(is_known(&open_at(&image, &clock, 4), 99).await);
    }
}

/// What a power cut leaves is what was synced.
#[tokio::test]
async fn what_is_written_and_every_new_name_is_synced_before_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let unsynced = Arc::new(Mutex::new(BTreeSet::new()));
    let hook: Hook = {
        let unsynced = Arc::clone(&unsynced);
        Arc::new(move |what| {
            let mut unsynced = unsynced.lock().unwrap();
            match what {
                "sync" => unsynced.remove("write"),
                "sync_dir" => unsynced.remove("rename"),
                // What is renamed has to be whole, and one name has to be there before the next goes.
                "rename" => {
                    assert!(unsynced.is_empty(), "{unsynced:?}");
                    unsynced.insert(what)
                }
                _ => unsynced.insert(what),
            };
            unsynced.remove("create");
            Ok(())
        })
    };
    let disk = Box::new(Asking(hook));
    let repeats = try_open(dir.path(), &Told::now(), disk, 4).unwrap();
    for n in 0..14 {
        take(&repeats, n).await;
        let unsynced = unsynced.lock().unwrap();
        assert!(unsynced.is_empty(), "{n}: {unsynced:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_makes_nothing_unknown_and_once_it_works_all_is_written_again() {
    for refused in ["create", "write", "sync", "rename", "sync_dir"] {
        for taken_before in [0, 3, 4, 8] {
            let dir = tempfile::tempdir().unwrap();
            let refuses = Arc::new(Mutex::new(false));
            let hook: Hook = {
                let refuses = Arc::clone(&refuses);
                Arc::new(
                    move |what| match *refuses.lock().unwrap() && what == refused {
                        true => Err(io::Error::from(io::ErrorKind::StorageFull)),
                        false => Ok(()),
                    },
                )
            };
            let clock = Told::now();
            let repeats = try_open(dir.path(), &clock, Box::new(Asking(hook)), 4).unwrap();
            for n in 0..taken_before {
                take(&repeats, n).await;
            }
            *refuses.lock().unwrap() = true;
            let n = taken_before;
            let Begun::New(claim) = begun(&repeats, n).await else {
                panic!("known");
            };
            let kept = claim.keep(request(n).event_id(1), soon()).await;
            let Err(error) = kept else {
                // Nothing had to be made.
                assert!(["create", "rename", "sync_dir"].contains(&refused) && n == 3);
                continue;
            };
            assert!(matches!(error, Error::Storage { .. }), "{error}");
            // It is not answered, and neither is anything new taken.
            for n in [n, n + 1] {
                let begun = repeats.begin(&marks(n), soon()).await;
                assert!(begun.is_err(), "{refused} {n}: {begun:?}");
            }
            *refuses.lock().unwrap() = false;
            assert!(is_known(&repeats, n).await, "{refused} {n}");
            drop(repeats);
            let repeats = open_at(dir.path(), &clock, 4);
            for known in (n + 1).saturating_sub(4)..=n {
                assert!(is_known(&repeats, known).await, "{refused} {n}: {known}");
            }
        }
    }
}
