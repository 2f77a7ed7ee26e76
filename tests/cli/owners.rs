//! Who owns the spool, and what the others do meanwhile.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileTypeExt as _;
use std::process::ChildStderr;
use std::time::Duration;

use everpost::sandbox::Sandbox;
use everpost::{Queue, exit};

use crate::set_up::{Place, Running, message};

/// Reads what a command tells on standard error, up to this.
fn hear(running: &mut Running, wanted: &str) -> BufReader<ChildStderr> {
    let mut err = BufReader::new(running.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "it ended");
    }
    err
}

/// It kept every command out for as long as the outage took: `append` and `status` ended with 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_in_an_outage_serves_the_others_and_delivers_what_they_append() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 3);
    let mut drain = place.start(&["drain"]);
    let _err = hear(&mut drain, "backing off");
    place.append(4, 2);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(
        (&status["live"], &status["pending"]),
        (&true.into(), &5.into())
    );
    assert_eq!(status["flusher"]["state"], "backing_off");
    assert_eq!(
        place
            .run(&["peek", "--json"])
            .expect(exit::DONE)
            .lines()
            .len(),
        5
    );
    sandbox.come_back().await.unwrap();
    place.run(&["wake"]).expect(exit::DONE);
    let drained = drain.end().expect(exit::DONE);
    assert!(
        drained.out.starts_with("delivered 5 events; took "),
        "{drained:?}"
    );
    sandbox.check_order((1..=5).map(|n| n.to_string())).unwrap();
    assert!(sandbox.duplicates().is_empty());

    sandbox.go_away().await.unwrap();
    place.append(6, 1);
    let mut drain = place.start(&["drain"]);
    let _err = hear(&mut drain, "backing off");
    place.run(&["pause"]).expect(exit::DONE);
    drain.end().expect(exit::PAUSED);
}

/// The second followed the first, and when that one was interrupted said "1 event still pending".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_takes_the_place_of_the_one_that_it_followed() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 1);
    let mut first = place.start(&["drain"]);
    let _first_err = hear(&mut first, "backing off");
    let mut second = place.start(&["drain"]);
    let _second_err = hear(&mut second, "backing off");
    first.signal("-INT");
    first.end().expect(exit::PENDING);
    sandbox.come_back().await.unwrap();
    second.end().expect(exit::DONE);
    assert_eq!(sandbox.ids(), ["1"]);
}

/// A service whose socket one who cleaned up had removed was never reached again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_removed_under_its_owner_is_bound_again() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let service = place.serve(&[]);
    let socket = place.spool().join("control.sock");
    std::fs::remove_file(&socket).unwrap();
    // It waits until there is one again.
    place
        .feed(&["append", "--wait", "1m"], "1\n")
        .expect(exit::DONE);
    // What is no socket is left alone.
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "precious").unwrap();
    let ended = place
        .feed(&["append", "--wait", "3s"], "1\n")
        .expect(exit::IN_USE);
    assert!(ended.err.contains("waited 3s"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    std::fs::remove_file(&socket).unwrap();
    place
        .feed(&["append", "--wait", "1m"], "1\n")
        .expect(exit::DONE);
    assert!(
        std::fs::symlink_metadata(&socket)
            .unwrap()
            .file_type()
            .is_socket()
    );
    service.stop().expect(exit::DONE);
    assert!(!socket.exists());
}

/// Paths of sockets end at 107 bytes; beyond that there was none, and the owner could not be asked.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_with_a_long_path_is_served() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    let spool = place.path(&"d".repeat(150)).join("spool");
    place.set_env("EVERPOST_SPOOL", spool.to_str().unwrap());
    let service = place.serve(&[]);
    place.append(1, 2);
    place.run(&["drain"]).expect(exit::DONE);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["live"], true);
    service.stop().expect(exit::DONE);
    assert!(!spool.join("control.sock").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_in_use_is_waited_for_as_long_as_was_said() {
    let place = Place::new();
    let queue = Queue::builder(place.spool()).open().await.unwrap();
    let pid = format!("pid=`{}`", std::process::id());
    for (wait, told) in [("0", "; no process serves"), ("300ms", "; waited 300ms")] {
        let ended = place.feed(&["append", "--wait", wait], "1\n");
        let ended = ended.expect(exit::IN_USE);
        assert!(
            ended.err.contains(&pid) && ended.err.contains(told),
            "{ended:?}"
        );
        assert_eq!(ended.err.lines().count(), 2, "{ended:?}");
    }
    let bad = place.run(&["append", "--wait", "soon"]).expect(exit::USAGE);
    assert!(bad.err.contains("--wait"), "{bad:?}");
    let mut waits = place.start(&["append", "--wait", "1m"]);
    drop(waits.stdin.take());
    queue.close(Duration::ZERO).await.unwrap();
    waits.end().expect(exit::DONE);
}

/// It never ended: what was read was appended, and so read again. Then it ended, and did not say
/// that each event was there twice.
#[test]
fn an_export_into_the_same_spool_ends_and_is_told_of() {
    let mut place = Place::new();
    place.append(1, 500);
    let mut export = place.command(&["export"]).spawn().unwrap();
    let import = place
        .command(&["import"])
        .stdin(export.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(export.wait().unwrap().success());
    assert!(import.status.success(), "{import:?}");
    let told = "everpost: the input begins with event 1 of this very spool: what comes from it is \
                appended again, and is then there twice\n";
    assert_eq!(String::from_utf8(import.stderr).unwrap(), told);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["pending"], 1_000);
    // Into another spool, where the number is none or of another event, there is nothing to say.
    let exported = place.run(&["export"]).expect(exit::DONE).out;
    let other = place.path("other");
    place.set_env("EVERPOST_SPOOL", other.to_str().unwrap());
    place.append(1, 3);
    let import = place.feed(&["import"], &exported).expect(exit::DONE);
    assert_eq!(import.err, "");
}

/// An owner that is done goes on for as long as others ask it. A drain that waited for one that only
/// appends asked all the time, kept it so for two seconds, and gave up if it had no more patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_append_to_end_does_not_keep_it_from_ending() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let mut append = place.start(&["append", "--ack"]);
    append.write(&message(1));
    append.read_until(|line| line == "ACK 0");
    let drain = place.start(&["drain", "--wait", "2s"]);
    // They ask the same owner, one after the other; by their end the drain has asked as well.
    for _ in 0..20 {
        place.run(&["status"]).expect(exit::DONE);
    }
    drop(append.stdin.take());
    append.end().expect(exit::DONE);
    drain.end().expect(exit::DONE);
    sandbox.check_order(["1".to_owned()]).unwrap();
}

/// Beside an `append` that goes on for days a pause could not be had: it waited, and ended with 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_beside_an_append_that_goes_on_holds_for_who_delivers_next() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let paused = || place.run(&["status", "--json"]).expect(exit::DONE).json()["paused"].clone();
    for (order, is_killed) in [("pause", true), ("pause", false), ("resume", true)] {
        let mut append = place.start(&["append", "--ack"]);
        append.write(&message(1));
        append.read_until(|line| line == "ACK 0");
        let ordered = place.run(&[order, "--wait", "0"]).expect(exit::DONE);
        let told = match order {
            "pause" => "delivery is paused until `everpost resume`, also across restarts\n",
            // It is not that one that goes on.
            _ => "the pause is over; `everpost drain` or `everpost run` delivers\n",
        };
        assert_eq!((ordered.out.as_str(), ordered.err.as_str()), (told, ""));
        // It is on disk, whatever becomes of the owner.
        match is_killed {
            true => append.signal("-KILL"),
            false => drop(append.stdin.take()),
        }
        append.end();
        assert_eq!(paused().is_null(), order == "resume");
        let drained = place.run(&["drain"]);
        assert_eq!(drained.code == i32::from(exit::PAUSED), order == "pause");
    }
    assert_eq!(sandbox.accepted().len(), 3);
}

/// One that appends from a pipe for days keeps no command from appending, and hands the spool over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_goes_on_serves_and_hands_over() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let mut first = place.start(&["append", "--ack"]);
    first.write("1\n");
    first.read_until(|line| line == "ACK 0");
    let mut second = place.start(&["append", "--ack"]);
    second.write("2\n");
    second.read_until(|line| line == "ACK 0");
    // It does not deliver, and so is of no use to a drain.
    let drain = place.run(&["drain", "--wait", "0"]).expect(exit::IN_USE);
    assert!(drain.err.contains("does not deliver"), "{drain:?}");
    drop(first.stdin.take());
    first.end().expect(exit::DONE);
    second.write("3\n");
    second.read_until(|line| line == "ACK 1");
    drop(second.stdin.take());
    second.end().expect(exit::DONE);
    let peek = place.run(&["peek", "--json"]).expect(exit::DONE).lines();
    let events: Vec<u64> = peek.iter().map(|l| l["event"].as_u64().unwrap()).collect();
    assert_eq!(events, [1, 2, 3]);
}
