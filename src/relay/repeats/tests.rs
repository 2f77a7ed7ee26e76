mod files;

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
