//! Spools that are made under an odd umask, or where there is no room for them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::set_up::{Place, STRANGER, is_root, run};

fn assert_private(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            assert_private(&path);
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
}

#[test]
fn any_umask_makes_a_spool_for_its_owner_alone() {
    for umask in ["0", "0777", "0022"] {
        let place = Place::new();
        let line = format!("umask {umask} && everpost append && echo 2 | everpost append");
        place.shell(&line).expect(0);
        assert_private(&place.spool());
        assert_eq!(place.pending(), 2, "{umask}");
    }
}

// Root may read what has no rights at all; others find out.
#[test]
fn a_umask_that_leaves_nothing_does_not_lock_an_ordinary_user_out() {
    use std::os::unix::process::CommandExt as _;
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("home")).unwrap();
    std::os::unix::fs::chown(place.path("home"), Some(STRANGER), Some(STRANGER)).unwrap();
    let binary = env!("CARGO_BIN_EXE_everpost");
    let spool = place.path("home/a/spool");
    for _ in 0..3 {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask 0777 && {binary} append")]);
        command.env("EVERPOST_SPOOL", &spool);
        run(command.uid(STRANGER).gid(STRANGER)).expect(0);
    }
    assert_private(&place.path("home"));
}

// The process was ended by SIGXFSZ, 153, without a word.
#[test]
fn a_limit_on_the_size_of_files_is_told_and_leaves_nothing() {
    let place = Place::new();
    // 512 KiB, in units of 512 bytes or of 1 KiB, as the shell has it.
    let line = "EVERPOST_SPOOL=$EVERPOST_SPOOL/a/b && ulimit -f 1024 && everpost append";
    place.shell(line).expect(8).says("ulimit -f");
    assert!(!place.spool().exists(), "nor any of the directories above");
}

// A spool that is there is read, and what cannot be written is told as on a full disk.
#[test]
fn a_limit_on_the_size_of_files_does_not_end_the_process_later() {
    let place = Place::new();
    place.append().expect(0);
    fs::remove_file(place.spool().join("journal/00000002.journal")).unwrap();
    place.shell("ulimit -f 1024 && everpost append").expect(8);
    place.append().expect(0);
}

#[test]
fn a_disk_that_is_too_small_is_told_with_what_is_needed_and_left_as_it_was() {
    let place = Place::new();
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=4m,mode=755", "everpost-test"];
    let mounted = Command::new("mount").args(mount).arg(&disk).output();
    if !mounted.is_ok_and(|run| run.status.success()) {
        println!("skipped: this needs the right to mount");
        return;
    }
    // Not one byte is free: the lock is made, and its owner's number cannot be written.
    let mut rest = fs::File::create(disk.join("rest")).unwrap();
    while rest.write_all(&[0; 512]).is_ok() {}
    let mut command = place.command(&["append"]);
    command.env("EVERPOST_SPOOL", disk.join("a/spool"));
    let on_full = run(&mut command);
    let left_on_full = fs::read_dir(&disk).unwrap().count();
    drop(rest);
    fs::remove_file(disk.join("rest")).unwrap();
    // In a directory of its own, which goes with it, and in one that was there.
    for name in ["a/spool", ""] {
        let mut command = place.command(&["append"]);
        command.env("EVERPOST_SPOOL", disk.join(name));
        let ended = run(&mut command);
        let left = fs::read_dir(&disk).unwrap().count();
        let free = Command::new("df").arg(&disk).output().unwrap();
        if ended.code != Some(8) || left > 0 || name.is_empty() {
            let _ = Command::new("umount").arg("-l").arg(&disk).status();
        }
        let ended = ended.expect(8).says("no room for a new spool");
        assert!(
            ended.err.contains("it needs 13.0 MiB, 4.0 MiB are free"),
            "{ended:?}"
        );
        assert_eq!(left, 0, "{free:?}");
    }
    on_full.expect(8);
    assert_eq!(
        left_on_full, 1,
        "the file that filled the disk, and nothing else"
    );
    assert_eq!(
        fs::metadata(&disk).unwrap().uid(),
        fs::metadata("/proc/self").unwrap().uid()
    );
}
