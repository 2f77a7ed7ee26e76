//! The spools that are damaged: one that was closed, one whose owner was killed, and a stranger's.

#[path = "../common/noise.rs"]
mod noise;
#[path = "../common/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use everpost::{
    Answer, Event, EventId, Ledger, Outcome, Queue, Request, Seq, Settings, Sink, Verdict,
};

use noise::numbers;
pub(crate) use tree::copy;

/// Events of each spool.
pub(crate) const EVENTS: Seq = 150;
/// Those the sink takes or refuses before it goes away.
const SETTLED: Seq = 24;
/// Those that are appended before the spool is closed and opened again.
const REOPENED: Seq = 120;
/// Those it refuses.
pub(crate) const REFUSED: [Seq; 3] = [5, 9, 17];

/// Event `n` of a spool, with noise that does not compress; a few are so large that their chunk
/// or their letter has several pieces.
pub(crate) fn event(spool: u128, n: Seq) -> Event {
    let words = if n % 20 == 9 { 3000 } else { 40 + n % 90 };
    let noise: String = numbers(n | 1 << 40 | (spool as u64) << 50)
        .take(words as usize)
        .map(|word| format!("{:04x}", word & 0xffff))
        .collect();
    let id = EventId::from_uuid(uuid::Uuid::from_u128(spool << 64 | u128::from(n)));
    Event::json(format!("{{\"n\":{n},\"text\":\"{noise}\"}}"))
        .unwrap()
        .with_id(id)
        .with_time(UNIX_EPOCH + Duration::from_millis(n))
}

/// Limits so small that there are several segments, and events that only the journal has.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 64 << 10;
    settings.max_event_bytes = 16 << 10;
    settings.tail_bytes = 16 << 10;
    settings.chunk_bytes = 8 << 10;
    settings.segment_bytes = 40 << 10;
    settings.delivery.batch_events = 7;
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(5);
    settings
}

struct Scripted;

impl Sink for Scripted {
    async fn deliver(&self, request: Request) -> Outcome {
        let seqs = request.events().iter().map(|stored| stored.seq);
        let verdict = if seqs.clone().any(|seq| REFUSED.contains(&seq)) {
            Verdict::Poison
        } else if seqs.clone().all(|seq| seq <= SETTLED) {
            Verdict::Delivered
        } else {
            Verdict::Retry { not_before: None }
        };
        Outcome::new(verdict, Answer::from_status(400))
    }
}

/// One spool as it is on disk, and what it holds.
pub(crate) struct Base {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) spool: u128,
    pub(crate) ledger: Ledger,
    /// Whether it was closed in order.
    pub(crate) closed: bool,
}

impl Base {
    /// Makes a spool in `dir` with something in every place: settled, letters, a memo, segments,
    /// and events that only the journal has.
    pub(crate) async fn make(dir: &Path, name: &'static str, spool: u128, closed: bool) -> Self {
        let live = dir.join(format!("{name}-live"));
        let path = dir.join(name);
        let queue = Queue::builder(&live)
            .settings(settings())
            .sink(Scripted)
            .open()
            .await
            .unwrap();
        for n in 1..=SETTLED {
            queue.append(event(spool, n)).await.unwrap();
        }
        let mut watch = queue.watch();
        watch.wait_for(|status| status.pending == 0).await.unwrap();
        queue.pause().await.unwrap();
        for n in SETTLED + 1..=REOPENED {
            queue.append(event(spool, n)).await.unwrap();
        }
        queue.close(Duration::ZERO).await.unwrap();
        // Opened again, the journal has more than one generation, and there is a record: of this.
        fs::remove_file(live.join("spool.copy.json")).unwrap();
        let queue = Queue::builder(&live)
            .settings(settings())
            .sink(Scripted)
            .open()
            .await
            .unwrap();
        for n in REOPENED + 1..=EVENTS {
            queue.append(event(spool, n)).await.unwrap();
        }
        let mut watch = queue.watch();
        watch
            .wait_for(|status| format!("{:?}", status.flusher).contains("Requested"))
            .await
            .unwrap();
        let ledger = queue.status().ledger;
        if closed {
            queue.close(Duration::ZERO).await.unwrap();
            copy(&live, &path);
        } else {
            // As a kill leaves it: once nothing changes any more while it is copied.
            loop {
                copy(&live, &path);
                if contents(&live) == contents(&path) {
                    break;
                }
                fs::remove_dir_all(&path).unwrap();
            }
            drop(queue);
        }
        Self {
            name,
            path,
            spool,
            ledger,
            closed,
        }
    }
}

/// As if another process had owned it last: a look that took the lock would leave its own pid there.
pub(crate) fn forget_owner(spool: &Path) {
    fs::write(spool.join("lock"), "1").unwrap();
}

/// As if a file or directory had been changed long ago: a look waits until what was changed a moment
/// ago is not new any more.
pub(crate) fn make_old(path: &Path) {
    let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(path).unwrap().set_modified(then).unwrap();
}

/// Copies a directory with everything in it, all of it old.
pub(crate) fn copy_old(from: &Path, to: &Path) {
    copy(from, to);
    let mut dirs = vec![to.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                make_old(&path);
            }
        }
        make_old(&dir);
    }
}

/// Every file below a directory, by its path in it.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path.strip_prefix(dir).unwrap().to_path_buf(), bytes);
            }
        }
    }
    found
}
