//! Commands that only look: they change nothing, need no right but to read, and keep no owner out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use everpost::sandbox::Sandbox;
use everpost::{Event, Queue, exit};

use crate::damage::{SMALL, damage_a_segment};
use crate::incidents::{letter_files, with_letters};
use crate::set_up::{Place, message};

/// Everything that only looks.
const LOOKING: [&[&str]; 17] = [
    &["status"],
    &["status", "--json"],
    &["peek"],
    &["peek", "-n", "100000", "--json"],
    &["export"],
    &["export", "--dead"],
    &["dead", "list"],
    &["dead", "show", "--all"],
    &["dead", "show", "1"],
    &["verify"],
    &["repair"],
    &["incidents"],
    &["incidents", "--json"],
    &["fate", "1"],
    &["fate", "--settled=0", "1", "--json"],
    &["wake"],
    &["pace"],
];

/// What can be seen of a file: its content, its mode, its owner, and when it was last changed.
type Seen = (Vec<u8>, u32, u32, (i64, i64), (i64, i64));

/// Every file and directory, also the spool itself.
fn all_of(spool: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut left = vec![spool.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            Vec::new()
        } else if meta.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let changed = (meta.ctime(), meta.ctime_nsec());
        let modified = (meta.mtime(), meta.mtime_nsec());
        seen.insert(path, (content, meta.mode(), meta.uid(), modified, changed));
    }
    seen
}

/// Runs everything that only looks, and holds every byte and date against what was there before.
#[track_caller]
fn changes_nothing(place: &Place, what: &str) {
    let before = all_of(&place.spool());
    for command in LOOKING {
        let ended = place.run(command);
        let after = all_of(&place.spool());
        assert!(
            after.keys().eq(before.keys()),
            "{what}: {command:?}: {ended:?}"
        );
        for (path, seen) in &after {
            assert!(
                *seen == before[path],
                "{what}: {command:?} changed {path:?}: {ended:?}"
            );
        }
    }
}

/// Looks opened the spool, which mends, and so took things away and made new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_changes_nothing_whatever_is_there() {
    changes_nothing(&Place::new(), "no spool");
    let place = Place::new();
    fs::create_dir(place.spool()).unwrap();
    changes_nothing(&place, "an empty directory");
    fs::write(place.spool().join("thesis.txt"), "precious").unwrap();
    changes_nothing(&place, "something else");
    changes_nothing(&half_made(), "half-made");

    let (_sandbox, place) = with_letters(3).await;
    place.append(1, 5);
    changes_nothing(&place, "healthy");
    for file in letter_files(&place) {
        let mut bytes = fs::read(&file).unwrap();
        bytes[40] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    changes_nothing(&place, "a flipped bit in the letters");
    for file in letter_files(&place) {
        fs::write(file, "").unwrap();
    }
    changes_nothing(&place, "no letters");
    fs::write(place.spool().join("spool.json"), "").unwrap();
    changes_nothing(&place, "a marker");
    for file in fs::read_dir(place.spool().join("journal")).unwrap() {
        fs::write(file.unwrap().path(), [0; 4096]).unwrap();
    }
    changes_nothing(&place, "a journal of zeros");
    fs::remove_dir_all(place.spool().join("journal")).unwrap();
    changes_nothing(&place, "no journal");
    for name in ["incidents", "memo", "witness"] {
        fs::write(place.spool().join(name), "x").unwrap();
    }
    changes_nothing(&place, "unreadable sheets");
}

#[test]
fn looking_changes_nothing_of_segments_and_of_what_a_kill_left() {
    let mut place = Place::new();
    place.settings(SMALL);
    place.append(1, 3_000);
    damage_a_segment(&place);
    changes_nothing(&place, "a damaged segment");

    let place = Place::new();
    let mut owner = place.start(&["append", "--ack"]);
    owner.write(&(message(1) + &message(2)));
    owner.read_until(|line| line == "ACK 1");
    owner.signal("-KILL");
    owner.end();
    changes_nothing(&place, "killed");
}

/// What an `append` leaves that ends while it makes a spool.
fn half_made() -> Place {
    let place = Place::new();
    let spool = place.spool();
    fs::create_dir_all(spool.join("journal")).unwrap();
    fs::create_dir(spool.join("segments")).unwrap();
    fs::write(spool.join("journal/00000001.journal"), [0; 65_536]).unwrap();
    fs::write(spool.join("lock"), "4711\n").unwrap();
    fs::write(spool.join("spool.json.new"), "{\"everp").unwrap();
    place
}

/// What was left over from the making of a spool was called damaged, by `repair --apply` too.
#[test]
fn a_half_made_spool_is_none_yet_and_only_an_append_makes_it() {
    let place = half_made();
    let before = all_of(&place.spool());
    let owning: [&[&str]; 6] = [
        &["repair", "--apply"],
        &["drain"],
        &["pause"],
        &["resume"],
        &["dead", "discard", "--all", "--yes"],
        &["incidents", "--all"],
    ];
    for command in LOOKING.into_iter().chain(owning) {
        let ended = place.run(command).expect(exit::USAGE);
        let (said, lines) = match command.contains(&"--json") {
            true => ("{\"error\":\"there is no spool yet. path=`", 1),
            false => ("everpost: there is no spool yet. path=`", 2),
        };
        assert!(ended.err.starts_with(said), "{command:?}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), lines, "{}", ended.err);
    }
    assert!(all_of(&place.spool()) == before);
    place.append(1, 1);
    assert_eq!(place.run(&["export"]).expect(exit::DONE).lines().len(), 1);
    assert_eq!(place.run(&["verify"]).expect(exit::DONE).err, "");
}

/// Gives every directory and every file in it these rights.
fn give(dir: &Path, to_dirs: u32, to_files: u32) {
    // First to the directory itself, if it is to be looked into again.
    fs::set_permissions(dir, fs::Permissions::from_mode(to_dirs)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give(&path, to_dirs, to_files);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(to_files)).unwrap();
        }
    }
}

/// `status`, `peek` and `export` needed to write: "failed to lock the spool" on read-only media and
/// on the spool of another user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_may_look() {
    let (_sandbox, place) = with_letters(2).await;
    place.append(1, 3);
    let own: Vec<String> = LOOKING.iter().map(|args| place.run(args).out).collect();
    give(place.dir.path(), 0o555, 0o444);
    let is_root = fs::metadata(place.spool()).unwrap().uid() == 0;
    if !is_root {
        println!("SKIPPED the part with another user: this is not root");
    }
    for (args, own) in LOOKING.iter().zip(own) {
        let mut command = place.command(args);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), err.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
        // The age of the oldest event is another one by now.
        if !args.contains(&"status") {
            assert_eq!(String::from_utf8(output.stdout).unwrap(), own, "{args:?}");
        }
    }
    give(place.dir.path(), 0o755, 0o644);
}

/// A directory that is mounted over itself, so that nothing in it can be written. Ends with this.
struct ReadOnly<'a>(&'a Path);

impl<'a> ReadOnly<'a> {
    /// None without the right to mount.
    fn mount(dir: &'a Path) -> Option<Self> {
        let mount = |options: &[&str]| {
            let run = Command::new("mount").args(options).arg(dir).output();
            run.is_ok_and(|run| run.status.success())
        };
        if !mount(&["--bind", dir.to_str()?]) {
            return None;
        }
        let mounted = Self(dir);
        mount(&["-o", "remount,bind,ro"]).then_some(mounted)
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// A card that can only be read could not be saved from: the rescue needed to write to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_on_a_read_only_card_is_shown_and_exported_whole() {
    let (_sandbox, place) = with_letters(2).await;
    let mut owner = place.start(&["append", "--ack"]);
    owner.write(&(message(3) + &message(4)));
    owner.read_until(|line| line == "ACK 1");
    owner.signal("-KILL");
    owner.end();
    let own: Vec<String> = LOOKING.iter().map(|args| place.run(args).out).collect();
    let Some(_card) = ReadOnly::mount(place.dir.path()) else {
        println!("SKIPPED: there is no right to mount");
        return;
    };
    assert!(fs::write(place.spool().join("x"), "").is_err());
    changes_nothing(&place, "read-only");
    for (args, own) in LOOKING.iter().zip(own) {
        let ended = place.run(args);
        // The age of the oldest event is another one by now.
        if !args.contains(&"status") {
            assert_eq!(ended.out, own, "{args:?}: {ended:?}");
        }
    }
    let exported = place.run(&["export"]).expect(exit::DONE);
    assert_eq!(exported.lines().len(), 2);
    let refused = place.feed(&["append"], "{}\n");
    assert_eq!(refused.code, i32::from(exit::UNEXPECTED), "{refused:?}");
    assert!(refused.err.contains("Read-only file system"), "{refused:?}");
}

/// A look applied the settings it was given, and the spool changed its size with each `status`.
/// A look shows the bound of the last owner, whatever it is given.
#[test]
fn a_look_applies_no_settings() {
    let mut place = Place::new();
    place.settings("max_bytes = 1048576\n");
    place.append(1, 1);
    place.env.clear();
    changes_nothing(&place, "made with settings, seen without");
    assert_eq!(bound(&place), 1 << 20);
    let place_without = Place::new();
    place_without.append(1, 1);
    let mut with = place_without;
    with.settings("max_bytes = 1048576\n");
    changes_nothing(&with, "made without settings, seen with them");
    assert_eq!(bound(&with), 1 << 30);
}

fn bound(place: &Place) -> u64 {
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    status["max_bytes"].as_u64().unwrap()
}

/// A loop of `status` kept `run` from starting in 17 of 20 tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_keeps_no_owner_out() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 1);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    for args in [&["status"][..], &["peek"], &["dead", "list"]] {
                        // While an owner opens or closes a look may say that nothing is certain.
                        let ended = place.run(args);
                        assert!(
                            [0, i32::from(exit::IN_USE)].contains(&ended.code),
                            "{ended:?}"
                        );
                    }
                }
            });
        }
        let starts = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..8 {
                place.serve(&[]).stop().expect(exit::DONE);
                fs::remove_file(place.dir.path().join("notify")).unwrap();
            }
        }));
        is_over.store(true, Ordering::SeqCst);
        starts.unwrap();
    });
}

/// The socket of an owner that was killed stays: it is no reason not to look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_left_over_is_no_hindrance() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let place = Place::with(&sandbox);
    let service = place.serve(&[]);
    place.append(1, 2);
    service.running.signal("-KILL");
    service.running.end();
    assert!(place.spool().join("control.sock").exists());
    changes_nothing(&place, "a socket that is left over");
    assert_eq!(place.run(&["export"]).expect(exit::DONE).lines().len(), 2);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(
        (&status["live"], &status["pending"]),
        (&false.into(), &2.into())
    );
}

/// Gives everything in a directory to a user.
fn hand_over(path: &Path, uid: u32) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            hand_over(&entry.unwrap().path(), uid);
        }
    }
    std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
}

/// A look of root at the spool of a service user left files in it that were root's.
#[test]
fn root_may_look_at_the_spool_of_another_user_and_leaves_nothing_in_it() {
    let place = Place::new();
    place.append(1, 3);
    if fs::metadata(place.spool()).unwrap().uid() != 0 {
        println!("SKIPPED: this is not root");
        return;
    }
    hand_over(&place.spool(), 65_534);
    changes_nothing(&place, "of another user, closed");
    assert_eq!(place.run(&["export"]).expect(exit::DONE).lines().len(), 3);
    fs::remove_dir_all(place.spool().join("journal")).unwrap();
    changes_nothing(&place, "of another user, damaged");
    let refused = place.run(&["repair", "--apply"]).expect(exit::USAGE);
    assert!(refused.err.contains("belongs to user 65534"), "{refused:?}");
    changes_nothing(&place, "of another user, not repaired");
}

/// A look beside an owner that writes all the time is put together from different moments: it
/// raises no alarm of damage that is none. If the owner never rests for as long as a look takes, it
/// says so; how busy the disk is decides on that here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_beside_an_owner_that_writes_raises_no_alarm() {
    let place = Place::new();
    let queue = Queue::builder(place.spool()).open().await.unwrap();
    let writer = async {
        loop {
            let event = Event::json("1").unwrap();
            queue.append(event).await.unwrap();
        }
    };
    let looks = async {
        for args in [&["status"][..], &["verify"]] {
            let command = place.command(args).spawn().unwrap();
            let ended = tokio::task::spawn_blocking(move || command.wait_with_output().unwrap());
            let ended = ended.await.unwrap();
            let err = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(0), "{args:?}: {err}");
            let is_said = err.starts_with("everpost: an owner kept writing");
            assert!(
                err.is_empty() || (is_said && err.lines().count() == 1),
                "{err}"
            );
        }
    };
    tokio::select! {
        () = looks => {}
        () = writer => {}
    }
}
