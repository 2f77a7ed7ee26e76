use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::Event;
use crate::log::disk::DiskFile;

use super::record::{HEAD_BYTES, Head, RECORD_BYTES};
use super::*;

const NOW_MS: u64 = 1_764_000_000_000;

const HOUR: Duration = Duration::from_secs(3600);

/// Shows the time that it is told.
#[derive(Debug, Clone)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn now() -> Self {
        Self(Arc::new(AtomicU64::new(NOW_MS)))
    }

    fn set(&self, ms: u64) {
        self.0.store(ms, SeqCst);
    }
}

impl Clock for Told {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

type Hook = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// A disk that asks before everything that it does.
#[derive(Clone)]
struct Asking(Hook);

struct AskingFile(Hook, Box<dyn DiskFile>);

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

impl fmt::Debug for AskingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskingFile")
    }
}

impl Disk for Asking {
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        (self.0)("create")?;
        let file = RealDisk.create(path, len)?;
        Ok(Box::new(AskingFile(Arc::clone(&self.0), file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path)?;
        Ok(Box::new(AskingFile(Arc::clone(&self.0), file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.0)("rename")?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        (self.0)("sync_dir")?;
        RealDisk.sync_dir(path)
    }
}

impl DiskFile for AskingFile {
    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (self.0)("write")?;
        self.1.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        (self.0)("sync")?;
        self.1.sync()
    }
}

fn open(dir: &Path) -> Repeats {
    open_at(dir, &Told::now(), REPEATS_MAX)
}

fn open_at(dir: &Path, clock: &Told, records_max: usize) -> Repeats {
    try_open(dir, clock, Box::new(RealDisk), records_max).unwrap()
}

fn try_open(
    dir: &Path,
    clock: &Told,
    disk: Box<dyn Disk>,
    records_max: usize,
) -> Result<Repeats, Error> {
    let windows = RepeatWindows::new().keys(HOUR).messages(HOUR);
    Repeats::open_with(dir, windows, disk, Arc::new(clock.clone()), records_max)
}

fn request(n: u64) -> Request {
    let key = Key::parse(&format!("key-{n}"), None).unwrap();
    key.of_request("universal", format!("body {n}").as_bytes())
}

fn marks(n: u64) -> Marks {
    Marks {
        request: Some(request(n).mark()),
        messages: Vec::new(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn begun(repeats: &Repeats, n: u64) -> Begun {
    repeats.begin(&marks(n), soon()).await.unwrap()
}

async fn take(repeats: &Repeats, n: u64) {
    let Begun::New(claim) = begun(repeats, n).await else {
        panic!("{n} is known");
    };
    claim.keep(request(n).event_id(1), soon()).await.unwrap();
}

/// Whether it is known; never as something else.
async fn is_known(repeats: &Repeats, n: u64) -> bool {
    match begun(repeats, n).await {
        Begun::New(_) => false,
        Begun::Known(id) => {
            assert_eq!(id, request(n).event_id(1));
            true
        }
        other => panic!("{n}: {other:?}"),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn what_was_taken_is_known_by_its_key_also_after_a_restart_and_other_content_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let repeats = open(&dir.path().join("a/b"));
    take(&repeats, 1).await;
    for repeats in [repeats.clone(), repeats] {
        assert!(is_known(&repeats, 1).await && !is_known(&repeats, 2).await);
    }
    let repeats = open(&dir.path().join("a/b"));
    assert!(is_known(&repeats, 1).await && !is_known(&repeats, 2).await);
    let other = Key::parse("key-1", None)
        .unwrap()
        .of_request("universal", b"else");
    let marks = Marks {
        request: Some(other.mark()),
        messages: Vec::new(),
    };
    let begun = repeats.begin(&marks, soon()).await.unwrap();
    assert!(matches!(begun, Begun::Other), "{begun:?}");
    // Neither key nor body is on disk.
    let bytes = fs::read(dir.path().join("a/b/current")).unwrap();
    for text in [&b"key-1"[..], b"body 1"] {
        assert!(!bytes.windows(text.len()).any(|part| part == text));
    }
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_one_is_taken_and_the_others_hear_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let repeats = open(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let repeats = repeats.clone();
        tasks.spawn(async move {
            match begun(&repeats, 1).await {
                Begun::New(claim) => {
                    claim.keep(request(1).event_id(1), soon()).await.unwrap();
                    1
                }
                Begun::Known(_) => 0,
                other => panic!("{other:?}"),
            }
        });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_again_meanwhile_waits_and_is_new_if_the_first_was_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let repeats = open(dir.path());
    let Begun::New(claim) = begun(&repeats, 1).await else {
        panic!("known");
    };
    let busy = repeats.begin(&marks(1), soon()).await.unwrap();
    assert!(matches!(busy, Begun::Busy), "{busy:?}");
    drop(claim);
    assert!(matches!(begun(&repeats, 1).await, Begun::New(_)));
}

fn messages(numbers: std::ops::Range<u64>) -> Vec<Option<(Mark, EventId)>> {
    let message = |n| {
        let event = Event::json(format!(r#"{{"id":"{n}"}}"#)).unwrap();
        Some((Mark::of_message(&event).unwrap(), event.id()))
    };
    numbers.map(message).collect()
}

#[tokio::test]
async fn messages_are_known_one_by_one_also_twice_in_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let repeats = open(dir.path());
    let first = messages(0..3);
    let of = |messages: &[_]| Marks {
        request: None,
        messages: messages.to_vec(),
    };
    let Begun::New(claim) = repeats.begin(&of(&first), soon()).await.unwrap() else {
        panic!("known");
    };
    assert!((0..3).all(|n| claim.known(n).is_none()));
    claim.keep(request(0).event_id(0), soon()).await.unwrap();
    let mut second = messages(2..5);
    second.push(None);
    second.push(second[1]);
    let Begun::New(claim) = repeats.begin(&of(&second), soon()).await.unwrap() else {
        panic!("known");
    };
    let known: Vec<_> = (0..5).map(|n| claim.known(n)).collect();
    let id = |message: Option<(Mark, EventId)>| message.map(|(_, id)| id);
    assert_eq!(known, [id(first[2]), None, None, None, id(second[1])]);
}

/// Each has something in common with each other, and none waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_that_overlap_do_not_wait_for_each_other_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let repeats = open(dir.path());
    let all = messages(0..12);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (repeats, mut messages) = (repeats.clone(), all.clone());
        messages.rotate_left(n);
        messages.truncate(7);
        tasks.spawn(async move {
            let marks = Marks {
                request: None,
                messages: messages.clone(),
            };
            let Begun::New(claim) = repeats.begin(&marks, soon()).await.unwrap() else {
                panic!("no request has a key");
            };
            let new = (0..7).filter(|n| claim.known(*n).is_none());
            let new: Vec<EventId> = new.map(|n| messages[n].unwrap().1).collect();
            claim.keep(request(0).event_id(0), soon()).await.unwrap();
            new
        });
    }
    let taken: Vec<EventId> = tasks.join_all().await.concat();
    let ids: BTreeSet<EventId> = taken.iter().copied().collect();
    assert_eq!((taken.len(), ids.len()), (12, 12), "each once");
}

#[tokio::test]
async fn what_waits_at_the_same_moment_shares_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let hook: Hook = {
        let syncs = Arc::clone(&syncs);
        Arc::new(move |what| {
            if what == "sync" && syncs.fetch_add(1, SeqCst) == 1 {
                // The first one into a file that is there.
                let _ = gate.lock().unwrap().recv();
            }
            Ok(())
        })
    };
    let repeats = try_open(dir.path(), &Told::now(), Box::new(Asking(hook)), 1_000).unwrap();
    take(&repeats, 0).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=64 {
        let repeats = repeats.clone();
        tasks.spawn(async move { take(&repeats, n).await });
    }
    // On this one thread, each has handed over what it took; not all of them have their turn at once.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    tasks.join_all().await;
    // One that made the file, one for the first, one for all that came meanwhile.
    assert!(syncs.load(SeqCst) <= 3, "{syncs:?}");
}

#[test]
fn a_directory_is_for_one_at_a_time_and_free_once_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let repeats = open(dir.path());
        let error = Repeats::open(dir.path(), RepeatWindows::new()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        drop(repeats);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_kept_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made");
    let repeats = open(&dir);
    take(&repeats, 1).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}
