//! Links, pipes and other users' rights in place of what a spool has.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::set_up::{Place, run};

const NAMES: [&str; 5] = [
    "lock",
    "ballast",
    "spool.json",
    "spool.copy.json",
    "journal/00000001.journal",
];

fn mkfifo(path: &Path) {
    let made = run(std::process::Command::new("mkfifo").arg(path));
    made.expect(0);
}

// Root's `status` once emptied the target of `lock` and wrote its pid there, and filled that of
// `ballast` with 0xba.
#[test]
fn what_a_planted_link_leads_to_is_left_alone() {
    let plants: [fn(&Path, &Path); 2] = [
        |target, path| symlink(target, path).unwrap(),
        |target, path| fs::hard_link(target, path).unwrap(),
    ];
    for plant in plants {
        for name in NAMES {
            let place = Place::new();
            place.append().expect(0);
            let target = place.path("target");
            fs::write(&target, "precious").unwrap();
            let path = place.spool().join(name);
            fs::remove_file(&path).unwrap();
            plant(&target, &path);
            for args in [["append"], ["status"], ["repair"]] {
                let ended = run(&mut place.command(&args));
                assert!(ended.code.is_some(), "{name}: {ended:?}");
                assert_eq!(fs::read(&target).unwrap(), b"precious", "{name}: {ended:?}");
            }
            let mode = fs::metadata(&target).unwrap().permissions().mode();
            assert_ne!(mode & 0o777, 0o600, "{name}: its rights as well");
        }
    }
}

#[test]
fn a_lock_or_a_journal_file_that_is_a_link_is_refused_in_words() {
    for name in ["lock", "journal/00000002.journal"] {
        let place = Place::new();
        place.append().expect(0);
        let path = place.spool().join(name);
        fs::rename(&path, place.path("target")).unwrap();
        symlink(place.path("target"), &path).unwrap();
        place.append().expect(1).says("symbolic link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(place.path("target"), &path).unwrap();
        place.append().expect(1).says("hard links");
        fs::remove_file(&path).unwrap();
        fs::rename(place.path("target"), &path).unwrap();
        place.append().expect(0);
        assert_eq!(place.pending(), 2);
    }
}

#[test]
fn a_pipe_in_place_of_a_file_holds_nothing_up() {
    for name in NAMES {
        let place = Place::new();
        place.append().expect(0);
        let path = place.spool().join(name);
        fs::remove_file(&path).unwrap();
        mkfifo(&path);
        let line = "timeout 60 everpost append";
        let ended = place.shell(line);
        let is_needed = name == "lock" || name.starts_with("journal");
        if is_needed {
            ended.expect(1).says("no regular file");
        } else {
            // Markers have a copy, and a spool works without its ballast.
            ended.expect(0);
        }
    }
}

#[test]
fn a_link_in_place_of_a_directory_is_refused() {
    for name in ["journal", "segments", "state"] {
        let place = Place::new();
        place.append().expect(0);
        let moved = fs::rename(place.spool().join(name), place.path("moved"));
        // There is no state before it is needed.
        assert!(moved.is_ok() || name == "state", "{moved:?}");
        symlink(place.path("moved"), place.spool().join(name)).unwrap();
        place.append().expect(2).says("a link or a file stands");
    }
}

#[test]
fn a_directory_that_all_may_write_to_is_refused_with_what_to_type() {
    let place = Place::new();
    fs::create_dir(place.spool()).unwrap();
    fs::set_permissions(place.spool(), Permissions::from_mode(0o777)).unwrap();
    let command = format!("chmod o-w {}", place.spool().display());
    place.append().expect(2).says(&command);
    assert_eq!(fs::read_dir(place.spool()).unwrap().count(), 0);
    place.shell(&command).expect(0);
    place.append().expect(0);
}

#[test]
fn the_root_of_a_file_system_is_a_place_for_a_spool() {
    let place = Place::new();
    fs::create_dir_all(place.spool().join("lost+found")).unwrap();
    place.append().expect(0);
    assert_eq!(place.pending(), 1);
    assert!(place.spool().join("lost+found").exists());
}
