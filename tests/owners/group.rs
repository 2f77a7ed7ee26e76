//! The socket for a group: a bot under its own user and the spool of a service. Needs root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use everpost::sandbox::Sandbox;

use crate::set_up::{Ended, Place, STRANGER, is_root, run, until_ready};

/// The group that may append, and one of its members.
const GROUP: u32 = STRANGER + 1;
const BOT: u32 = STRANGER + 2;

/// A place with a spool of the service's user, and a directory of that user's for the socket.
fn place() -> Place {
    let place = Place::new();
    for name in ["spool", "run"] {
        fs::create_dir(place.path(name)).unwrap();
        chown(place.path(name), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    place
}

fn socket(place: &Place) -> PathBuf {
    place.path("run").join("control.sock")
}

/// Starts the service for the group, and waits until it is ready.
fn serve(place: &Place, sandbox: &Sandbox, err: Stdio) -> Child {
    let path = place.path("notify");
    drop(fs::remove_file(&path));
    let notify = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let time = Some(Duration::from_secs(60));
    notify.set_read_timeout(time).unwrap();
    let mut service = place.command(&["run", "--socket-group", &GROUP.to_string()]);
    service
        .env("NOTIFY_SOCKET", &path)
        .env("RUNTIME_DIRECTORY", place.path("run"))
        .env("EVERPOST_LOG", "error")
        .env("BA_API_KEY", sandbox.key())
        .env("BA_BASE_URL", sandbox.base_url())
        .stdin(Stdio::piped())
        .stderr(err);
    let service = service.uid(STRANGER).gid(GROUP).spawn().unwrap();
    until_ready(&notify).unwrap();
    service
}

fn stop(service: Child) -> Ended {
    let pid = service.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = service.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::new(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command of this user, who knows of the socket and not of the spool.
fn by(place: &Place, uid: u32, gid: u32, args: &[&str]) -> Ended {
    let mut command = place.command(args);
    command
        .env_remove("EVERPOST_SPOOL")
        .env("EVERPOST_SOCKET", socket(place));
    run(command.uid(uid).gid(gid))
}

/// There was no way for a program under another user to append to the spool of a service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_the_group_append_and_see_the_status_and_no_more() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::builder().start().await.unwrap();
    let place = place();
    let service = serve(&place, &sandbox, Stdio::piped());
    let meta = fs::metadata(socket(&place)).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.gid()), (0o660, GROUP));

    by(&place, STRANGER, GROUP, &["pause"]).expect(0);
    by(&place, BOT, GROUP, &["append"]).expect(0);
    let status = by(&place, BOT, GROUP, &["status"]).expect(0);
    assert!(status.out.contains("pending      1 event"), "{status:?}");
    let refused: [&[&str]; 8] = [
        &["peek"],
        &["export"],
        &["dead", "list"],
        &["dead", "discard", "--all", "--yes"],
        &["incidents"],
        &["pause"],
        &["resume"],
        &["drain"],
    ];
    for args in refused {
        let ended = by(&place, BOT, GROUP, args).expect(2);
        ended.says("members of the socket's group may append and see the status, no more");
    }
    let stranger = by(&place, BOT, BOT, &["append"]).expect(3);
    stranger.says("failed to connect to the control socket");
    // Root and the service's own user may do everything.
    by(&place, 0, 0, &["peek"]).expect(0);
    by(&place, STRANGER, GROUP, &["resume"]).expect(0);
    by(&place, STRANGER, GROUP, &["drain"]).expect(0);
    let ended = stop(service).expect(0);
    assert!(!ended.err.contains("cannot reach"), "{ended:?}");
    assert!(!socket(&place).exists());
    let late = by(&place, BOT, GROUP, &["append"]).expect(3);
    late.says("no process serves the control socket");
}

/// A user who may write to the directory could put another socket there, and be handed the events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_others_may_write_to_holds_no_socket_for_a_group() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::builder().start().await.unwrap();
    let place = place();
    fs::set_permissions(place.path("run"), Permissions::from_mode(0o775)).unwrap();
    let service = serve(&place, &sandbox, Stdio::piped());
    assert!(!socket(&place).exists());
    run(place.command(&["append"]).uid(STRANGER).gid(GROUP)).expect(0);
    stop(service).expect(0).says("others may write to it");

    // One that is not there is made.
    fs::remove_dir(place.path("run")).unwrap();
    chown(place.dir.path(), Some(STRANGER), None).unwrap();
    let service = serve(&place, &sandbox, Stdio::piped());
    let meta = fs::metadata(place.path("run")).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.gid()), (0o750, GROUP));
    by(&place, BOT, GROUP, &["append"]).expect(0);
    // Not handed to another user who serves it, either.
    chown(place.path("run"), Some(BOT), None).unwrap();
    let ended = by(&place, BOT, GROUP, &["append"]).expect(3);
    ended.says(&format!("is served by user {STRANGER}"));
    chown(place.path("run"), Some(STRANGER), None).unwrap();
    stop(service).expect(0);
}

#[test]
fn a_group_that_is_not_there_or_a_place_that_is_not_named_is_refused_in_words() {
    let place = Place::new();
    let ended = run(&mut place.command(&["run", "--socket-group", "no-such-group"]));
    ended
        .expect(2)
        .says("no place is named for the socket of the group");
    let socket = socket(&place);
    let args = ["run", "--socket-group", "no-such-group", "--socket"];
    let ended = run(place.command(&args).arg(&socket));
    ended
        .expect(2)
        .says("no such group in /etc/group. group=`no-such-group`");
    assert!(!place.spool().exists());
}
