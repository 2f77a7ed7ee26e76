//! Tests of the store, on real files.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::*;
use crate::log::piece::{Scan, Whole};

const LARGE: Layout = Layout::Large;

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}

fn blobs(path: &Path) -> usize {
    fs::read_dir(path.join("blobs")).unwrap().count()
}

/// Whether a scan finds this value under this key.
fn has(path: &Path, key: Key, value: &[u8]) -> bool {
    let scan = Scan::of(&path.join("db")).unwrap();
    scan.read(key, Whole::of(value)).unwrap().as_deref() == Some(value)
}

#[test]
fn values_of_every_size_around_a_piece_survive_a_reopen() {
    values_survive_a_reopen(LARGE, 5973);
    values_survive_a_reopen(Layout::Small, 723);
}

fn values_survive_a_reopen(layout: Layout, body: usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let sizes = [
        0,
        1,
        body - 1,
        body,
        body + 1,
        body + 26,
        body + 27,
        body + 28,
        2 * body,
        2 * body + 54,
        44 * body,
    ];
    let mut store = Store::create(&path, layout).unwrap();
    for (number, size) in (0..).zip(sizes) {
        store
            .put(Key::new(1, number), &noise(number, size))
            .unwrap();
        assert!(store.unsynced_bytes() <= layout.unsynced_bytes());
    }
    store.sync().unwrap();
    let found = |closed| {
        for (number, size) in (0..).zip(sizes) {
            let is_there = has(&path, Key::new(1, number), &noise(number, size));
            assert!(is_there, "{size} {closed}");
        }
        let scan = Scan::of(&path.join("db")).unwrap();
        assert_eq!((scan.values(1).count(), scan.damaged()), (sizes.len(), 0));
        assert_eq!((scan.last(0), scan.last(2)), (None, None));
    };
    found(false);
    store.close();
    found(true);
}

#[test]
fn no_value_ever_becomes_a_blob_and_a_scan_sees_them_all() {
    no_value_becomes_a_blob(LARGE, 5973);
    no_value_becomes_a_blob(Layout::Small, 723);
}

fn no_value_becomes_a_blob(layout: Layout, body: usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut store = Store::create(&path, layout).unwrap();
    // Long and short ones in turn, so that leaves split everywhere.
    let len = |number| body * if number % 3 == 0 { 15 } else { 2 };
    for number in 0..60 {
        store
            .put(Key::new(1, number), &noise(number, len(number)))
            .unwrap();
    }
    // Written again, leaves are split elsewhere.
    for number in (0..60).filter(|number| number % 7 < 3) {
        store
            .put(Key::new(1, number), &noise(number, len(number)))
            .unwrap();
    }
    store.sync().unwrap();
    let scan = Scan::of(&path.join("db")).unwrap();
    assert_eq!((scan.values(1).count(), scan.damaged()), (60, 0));
    store.close();
    assert_eq!(blobs(&path), 0);
}

/// Bytes that sled has put into its file, padding included. It appends while nothing is removed.
pub(super) fn log_bytes(store: &Store) -> u64 {
    let bytes = fs::read(store.path.join("db")).unwrap();
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}

#[test]
fn what_is_put_behind_all_others_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(&dir.path().join("s"), LARGE).unwrap();
    for number in 0..40 {
        let value = noise(number + 1, 50_000 + 977 * number as usize);
        store.put_last(Key::new(1, number), &value).unwrap();
    }
    store.sync().unwrap();
    let given: u64 = (0..40).map(|number| 50_000 + 977 * number).sum();
    let (log, disk) = (log_bytes(&store), dir_bytes(&store.path));
    assert!(log < given * 5 / 4, "{log} for {given}");
    assert!(disk < given * 5 / 4 + (512 << 10), "{disk} for {given}");
    for number in 0..40 {
        let value = noise(number + 1, 50_000 + 977 * number as usize);
        assert!(has(&store.path, Key::new(1, number), &value));
    }
    assert_eq!(blobs(&store.path), 0);
}

/// The bound is what sled writes, not what it is given: a power cut with more than a log segment
/// unsynced can cost the whole store.
#[test]
fn between_two_syncs_sled_writes_half_a_log_segment_at_most() {
    for (len, count) in [
        (100, 100),
        (6_000, 100),
        (30_000, 60),
        (70_000, 30),
        (4 << 20, 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut store = Store::create(&path, LARGE).unwrap();
        // The last leaf is full of pieces.
        for number in 0..16 {
            store
                .put(Key::new(1, number), &noise(number + 1, 5_000))
                .unwrap();
        }
        store.sync().unwrap();
        let (mut synced, mut most) = (log_bytes(&store), 0);
        for number in 16..16 + count {
            store.watch = Some(Vec::new());
            store
                .put_last(Key::new(1, number), &noise(number, len))
                .unwrap();
            for at in store.watch.take().unwrap() {
                most = most.max(at - synced);
                synced = at;
            }
        }
        println!("{len}: {most}");
        assert!(most <= 256 << 10, "{most} with {count} values of {len}");
    }
}

#[test]
fn places_without_pieces_are_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut store = Store::create(&path, LARGE).unwrap();
    store.put_last(Key::new(1, 0), &noise(1, 20_000)).unwrap();
    for index in 0..30 {
        let place = Key::new(1, 1).piece(index);
        store
            .write("test", |db, _| db.insert(place, &[][..]).map(drop))
            .unwrap();
    }
    store.sync().unwrap();
    assert_eq!(Scan::of(&path.join("db")).unwrap().last(1), Some(0));
    store.put_last(Key::new(1, 1), &noise(2, 70_000)).unwrap();
    store.sync().unwrap();
    assert!(has(&path, Key::new(1, 1), &noise(2, 70_000)));
    let scan = Scan::of(&path.join("db")).unwrap();
    assert_eq!(scan.damaged(), 0);
}

/// What the settings count as the needs of a spool beside journal and segments.
#[test]
fn the_least_bound_has_room_for_eight_log_segments() {
    for segment_bytes in [4 << 10, (1 << 20) - 1, 1 << 20, 16 << 20] {
        let settings = crate::settings::Settings {
            segment_bytes,
            journal_bytes: 0,
            ..Default::default()
        };
        let layout = Layout::of_segments(segment_bytes);
        let fixed = settings.floor_bytes() - segment_bytes;
        assert_eq!(fixed, 8 * layout.log_segment_bytes() as u64);
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_written_and_the_kind_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(&dir.path().join("s"), LARGE).unwrap();
    store.put(Key::new(1, 1), b"x").unwrap();
    store.fail_for_test();
    let put = store.put(Key::new(1, 2), b"y").unwrap_err();
    assert!(put.is_out_of_room() && store.is_stopped(), "{put}");
    assert!(store.sync().is_err());
    let path = store.path.clone();
    store.close();
    assert!(has(&path, Key::new(1, 1), b"x"));
    assert!(
        !path.join("sum").exists(),
        "what is in doubt is not vouched for"
    );
}

#[test]
fn a_panic_of_sled_is_damage_and_stops_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(&dir.path().join("s"), LARGE).unwrap();
    let result = store.write("test", |_, _| -> sled::Result<()> { panic!("at the disk") });
    let error = result.unwrap_err();
    assert!(error.to_string().contains("at the disk"), "{error}");
    assert!(store.is_stopped());
}

#[test]
fn a_flush_that_never_answers_is_given_up() {
    let nothing = std::future::pending::<()>();
    assert_eq!(wait_for(nothing, Duration::from_millis(1), ()), None);
    assert_eq!(wait_for(async { 7 }, Duration::from_secs(60), ()), Some(7));
}

/// What a flush keeps from others is kept until sled is done with it, not until it is given up.
#[test]
fn a_flush_that_was_given_up_has_its_place_until_it_answers() {
    let place = Arc::new(());
    let (slot, filled) = std::sync::mpsc::channel::<Waker>();
    let waits = std::future::poll_fn(move |context| {
        let _ = slot.send(context.waker().clone());
        Poll::<()>::Pending
    });
    let given_up = wait_for(waits, Duration::from_millis(1), Arc::clone(&place));
    let waker = filled.try_iter().last().unwrap();
    assert_eq!((given_up, Arc::strong_count(&place)), (None, 2));
    waker.wake();
    assert_eq!(Arc::strong_count(&place), 1);
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _store = Store::create(&path, LARGE).unwrap();
    for (name, mode) in [
        ("", 0o700),
        ("db", 0o600),
        ("conf", 0o600),
        ("blobs", 0o700),
    ] {
        let meta = fs::metadata(path.join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
    }
}

/// sled's own bytes are never read, and a bit that changed in them was never noticed either.
#[test]
fn after_a_close_a_change_of_any_byte_is_noticed_and_costs_nothing_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut store = Store::create(&path, Layout::Small).unwrap();
    store.put(Key::new(1, 1), b"value").unwrap();
    store.close();
    let whole = fs::read(path.join("db")).unwrap();
    let scan = Scan::of(&path.join("db")).unwrap();
    assert!(!scan.is_altered() && has(&path, Key::new(1, 1), b"value"));
    for at in (0..whole.len()).step_by(997).chain(0..64) {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(path.join("db"), bad).unwrap();
        assert!(Scan::of(&path.join("db")).unwrap().is_altered(), "{at}");
    }
    fs::write(path.join("db"), &whole[..whole.len() - 1]).unwrap();
    assert!(Scan::of(&path.join("db")).unwrap().is_altered());
    fs::write(path.join("db"), whole).unwrap();
    fs::write(path.join("sum"), "torn").unwrap();
    assert!(!Scan::of(&path.join("db")).unwrap().is_altered());
}
