//! Spools of other users, and strangers on the control socket. Needs root.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use everpost::sandbox::Sandbox;

use crate::set_up::{Place, STRANGER, is_root, run, until_ready};

/// A place with a spool of the stranger's.
fn strangers() -> Place {
    let place = Place::new();
    fs::create_dir(place.spool()).unwrap();
    chown(place.spool(), Some(STRANGER), Some(STRANGER)).unwrap();
    run(place.command(&["append"]).uid(STRANGER).gid(STRANGER)).expect(0);
    place
}

// After root's `append` the service could not read its own spool, and was restarted for ever.
#[test]
fn root_is_told_how_to_append_to_the_spool_of_another_user() {
    if !is_root() {
        return;
    }
    let place = strangers();
    let command = format!("sudo -u '#{STRANGER}' everpost");
    place.append().expect(2).says(&command);
    for name in ["lock", "ballast", "spool.json", "journal/00000001.journal"] {
        let uid = fs::metadata(place.spool().join(name)).unwrap().uid();
        assert_eq!(uid, STRANGER, "{name}");
    }
    // Nor if only the directory is root's.
    chown(place.spool(), Some(0), Some(0)).unwrap();
    place.append().expect(2).says(&command);
    // Nor is one made in a directory of that user.
    fs::remove_dir_all(place.spool()).unwrap();
    fs::create_dir(place.spool()).unwrap();
    chown(place.spool(), Some(STRANGER), Some(STRANGER)).unwrap();
    place.append().expect(2).says(&command);
    assert_eq!(fs::read_dir(place.spool()).unwrap().count(), 0);
}

#[test]
fn a_file_of_another_user_in_our_spool_is_refused_in_words() {
    if !is_root() {
        return;
    }
    for name in ["lock", "journal/00000001.journal"] {
        let place = Place::new();
        place.append().expect(0);
        let path = place.spool().join(name);
        chown(&path, Some(STRANGER), None).unwrap();
        let ended = place.append().expect(1);
        ended.says("it belongs to user 54321, and this is user 0");
        chown(&path, Some(0), None).unwrap();
        place.append().expect(0);
    }
}

// As a container is given a volume: it belongs to root, and a group may write to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_lent_to_a_group_holds_a_spool_and_a_control_socket() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::builder().start().await.unwrap();
    let place = Place::new();
    fs::create_dir(place.spool()).unwrap();
    chown(place.spool(), Some(0), Some(STRANGER + 1)).unwrap();
    fs::set_permissions(place.spool(), Permissions::from_mode(0o2770)).unwrap();
    let notify = UnixDatagram::bind(place.path("notify")).unwrap();
    fs::set_permissions(place.path("notify"), Permissions::from_mode(0o777)).unwrap();
    notify
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let as_group = |mut command: Command| {
        command.uid(STRANGER).gid(STRANGER + 1);
        command
    };
    let mut service = place.command(&["run"]);
    service
        .env("NOTIFY_SOCKET", place.path("notify"))
        .env("BA_API_KEY", sandbox.key())
        .env("BA_BASE_URL", sandbox.base_url())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let mut service = as_group(service).spawn().unwrap();
    // What it says of itself is looked at below, whether it is ready or not.
    let _ = until_ready(&notify);
    let socket = fs::symlink_metadata(place.spool().join("control.sock"));
    let socket = socket.map(|meta| meta.permissions().mode() & 0o777);
    let mode = fs::metadata(place.spool()).unwrap().permissions().mode() & 0o7777;
    let appended = run(&mut as_group(place.command(&["append"])));
    // Root is served as well.
    let status = run(&mut place.command(&["status"]));
    let _ = service.kill();
    let _ = service.wait();
    assert_eq!(socket.unwrap(), 0o600);
    assert_eq!(mode, 0o2770, "the directory is not ours to change");
    appended.expect(0);
    status.expect(0);
}

// The event was handed over, and the command said "appended".
#[test]
fn a_stranger_on_the_control_socket_is_told_nothing() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.append().expect(0);
    // The stranger serves it, where root's queue would: as one who had the directory once could.
    fs::set_permissions(place.spool(), Permissions::from_mode(0o755)).unwrap();
    let socket = place.spool().join("control.sock");
    let program = place.path("served.py");
    fs::write(
        &program,
        "import os, socket, sys\n\
         s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777)\n\
         os.setgid(54321); os.setuid(54321); s.listen()\n\
         print('ready', flush=True); c, _ = s.accept(); c.settimeout(60)\n\
         print(len(c.recv(100)), flush=True)\n",
    )
    .unwrap();
    let served = Command::new("python3")
        .arg(&program)
        .arg(&socket)
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut served) = served else {
        println!("skipped: there is no python3");
        return;
    };
    let mut out = BufReader::new(served.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // The spool has an owner, so the command asks the socket.
    let lock = fs::File::open(place.spool().join("lock")).unwrap();
    lock.try_lock().unwrap();
    let ended = place.append().expect(3);
    ended.says("is served by user 54321");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    served.wait().unwrap();
    assert_eq!(rest, "0\n", "not a byte was sent");
    drop(lock);
}
