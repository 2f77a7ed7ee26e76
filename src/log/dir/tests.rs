use super::*;
use crate::clock::SystemClock;

const BALLAST_BYTES: u64 = 1 << 20;

fn open(path: &Path) -> Result<SpoolDir, Error> {
    let make = |path: &Path, _| {
        std::fs::create_dir_all(path.join("journal")).unwrap();
        Ok(())
    };
    let mut dir = SpoolDir::open(path, &SystemClock, BALLAST_BYTES, make)?;
    let identity = marker::identify(path)?.unwrap();
    dir.mend_markers(&identity)?;
    dir.keep();
    Ok(dir)
}

#[test]
fn what_was_made_before_an_error_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (keep, path) = (dir.path().join("a"), dir.path().join("a/b/spool"));
    std::fs::create_dir(&keep).unwrap();
    let fail = |path: &Path, _| {
        std::fs::create_dir(path.join("journal")).unwrap();
        std::fs::write(path.join("journal/00000001.journal"), [0; 64]).unwrap();
        Err(Error::Closed)
    };
    let opened = SpoolDir::open(&path, &SystemClock, BALLAST_BYTES, fail);
    assert!(matches!(opened, Err(Error::Closed)), "{opened:?}");
    assert_eq!(std::fs::read_dir(&keep).unwrap().count(), 0);
    // Or after it: what else the spool needs is not to be had.
    let make = |path: &Path, _| {
        std::fs::create_dir(path.join("journal")).unwrap();
        for name in ["witness", "settings", "settings.new"] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        Ok(())
    };
    drop(SpoolDir::open(&path, &SystemClock, BALLAST_BYTES, make).unwrap());
    assert_eq!(std::fs::read_dir(&keep).unwrap().count(), 0);
    // A directory that was there stays.
    drop(SpoolDir::open(&keep, &SystemClock, BALLAST_BYTES, make).unwrap());
    assert_eq!(std::fs::read_dir(&keep).unwrap().count(), 0);
    // And so does a spool.
    drop(open(&keep).unwrap());
    drop(SpoolDir::open(&keep, &SystemClock, BALLAST_BYTES, fail).unwrap());
    assert!(keep.join(MARKER).exists());
}

#[test]
fn a_new_directory_becomes_a_spool_and_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/spool");
    let id = open(&path).unwrap().queue();
    assert_eq!(open(&path).unwrap().queue(), id);
    assert_eq!(
        std::fs::metadata(path.join("ballast")).unwrap().len(),
        BALLAST_BYTES
    );
}

#[cfg(unix)]
#[test]
fn the_spool_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let _spool = open(&path).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in ["lock", MARKER, COPY, "ballast"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_ballast_of_another_size_is_brought_to_its_own() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let path = dir.path().join("ballast");
    for bytes in [BALLAST_BYTES + 48_000, 2 * BALLAST_BYTES, 128 << 10, 0] {
        std::fs::write(&path, vec![0xba; usize::try_from(bytes).unwrap()]).unwrap();
        let spool = open(dir.path()).unwrap();
        let ballast = std::fs::read(&path).unwrap();
        assert_eq!(ballast.len() as u64, spool.ballast_bytes(), "{bytes}");
        assert!(ballast.iter().all(|byte| *byte == 0xba));
    }
}

#[test]
fn a_second_owner_is_told_the_pid_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    let Error::InUse { pid, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(pid, Some(std::process::id()));
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn a_directory_with_other_things_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "precious").unwrap();
    assert!(matches!(open(dir.path()), Err(Error::NotASpool { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let file = dir.path().join("thesis.txt");
    assert!(matches!(open(&file), Err(Error::NotASpool { .. })));
}

#[test]
fn an_interrupted_making_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("journal")).unwrap();
    std::fs::write(dir.path().join("journal/00000001.journal"), [0; 64]).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn data_without_a_marker_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    std::fs::write(dir.path().join("journal/00000001.journal"), [7; 64]).unwrap();
    std::fs::remove_file(dir.path().join(MARKER)).unwrap();
    drop(open(dir.path()).unwrap());
    std::fs::remove_file(dir.path().join(MARKER)).unwrap();
    std::fs::remove_file(dir.path().join(COPY)).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Damaged { .. })));
    assert!(dir.path().join("journal/00000001.journal").exists());
}

#[test]
fn a_damaged_marker_is_mended_from_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let id = open(dir.path()).unwrap().queue();
    for name in [MARKER, COPY] {
        std::fs::write(dir.path().join(name), "").unwrap();
        assert_eq!(open(dir.path()).unwrap().queue(), id);
    }
}

// A marker of another queue, or one flipped bit in the id, once made every frame look damaged:
// the books and all events that only the journal had were gone.
#[test]
fn a_marker_with_a_wrong_id_is_mended_by_what_the_journal_says() {
    let dir = tempfile::tempdir().unwrap();
    let id = open(dir.path()).unwrap().queue();
    let mut writer = crate::log::frame::FrameWriter::new(id);
    let place = crate::log::frame::Place {
        generation: 1,
        buffer_offset: 0,
        synced: 0,
    };
    writer.retried(place, 1);
    std::fs::write(dir.path().join("journal/00000001.journal"), writer.bytes()).unwrap();
    for name in [MARKER, COPY] {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        let wrong = Uuid::from_u128(id.as_u128() ^ 4).to_string();
        std::fs::write(dir.path().join(name), text.replace(&id.to_string(), &wrong)).unwrap();
        assert_eq!(open(dir.path()).unwrap().queue(), id, "{name}");
        assert_eq!(
            std::fs::read_to_string(dir.path().join(name)).unwrap(),
            text
        );
    }
    std::fs::write(dir.path().join("journal/00000001.journal"), [0; 64]).unwrap();
    let text = std::fs::read_to_string(dir.path().join(COPY)).unwrap();
    let wrong = text.replace(&id.to_string(), &Uuid::from_u128(5).to_string());
    std::fs::write(dir.path().join(COPY), &wrong).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Damaged { .. })));
    assert_eq!(
        std::fs::read_to_string(dir.path().join(COPY)).unwrap(),
        wrong
    );
}

#[test]
fn a_future_format_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let id = open(dir.path()).unwrap().queue();
    let text = format!("{{\"everpost_format\":3,\"queue_id\":\"{id}\",\"more\":true}}");
    for name in [MARKER, COPY] {
        std::fs::write(dir.path().join(name), &text).unwrap();
    }
    let error = open(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::FutureFormat {
                found: 3,
                supported: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        std::fs::read_to_string(dir.path().join(MARKER)).unwrap(),
        text
    );
}

/// Of eight `init` at once one found a spool damaged that another was just making: it had seen no
/// marker yet, and then the first frame, which is written after the markers.
#[test]
fn a_spool_that_is_made_during_a_look_is_no_damaged_one() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const SPOOLS: usize = 500;
    let home = tempfile::tempdir().unwrap();
    let dir = |n: usize| home.path().join(n.to_string());
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            while made.load(Ordering::Acquire) < SPOOLS {
                let seen = marker::identify(&dir(made.load(Ordering::Acquire)));
                assert!(seen.is_ok(), "{seen:?}");
            }
        });
        for n in 0..SPOOLS {
            std::fs::create_dir_all(dir(n).join("journal")).unwrap();
            let identity = format!(
                "{{\"everpost_format\":{FORMAT},\"queue_id\":\"{}\"}}",
                Uuid::nil()
            );
            std::fs::write(dir(n).join("spool.json.new"), identity).unwrap();
            std::fs::rename(dir(n).join("spool.json.new"), dir(n).join(MARKER)).unwrap();
            std::fs::write(dir(n).join("journal/00000001.journal"), [1]).unwrap();
            made.store(n + 1, Ordering::Release);
            if looker.is_finished() {
                break;
            }
        }
    });
}
