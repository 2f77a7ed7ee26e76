//! Commands that wait: how long, and for whom.

use everpost::exit;
use everpost::sandbox::Sandbox;

use crate::set_up::{Place, Running};

/// Takes one line from a command, as `head -1` does, and goes away.
fn head(mut running: Running) {
    running.read_until(|line| !line.is_empty());
    let Running {
        mut child,
        stdin: _stdin,
        stdout,
        ..
    } = running;
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(i32::from(exit::DONE)));
}

/// `status --watch | head -1` on a queue where nothing happened never ended: the pipe was broken,
/// but nothing was written that would have met it. `sandbox | head -1` likewise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_soon_after_its_reader_has_gone_though_nothing_happens() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 3);
    head(place.start(&["status", "--watch"]));
    head(place.start(&["status", "--watch", "--json"]));
    head(place.start(&["sandbox"]));
    let service = place.serve(&[]);
    head(place.start(&["status", "--watch"]));
    head(place.start(&["status", "--watch", "--json"]));
    service.stop().expect(exit::DONE);
}

/// A deadline of nothing ended with 6 where nothing was pending, and a number without a unit was
/// refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_of_nothing_is_enough_for_nothing() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 1);
    place.run(&["drain", "--deadline", "10"]).expect(exit::DONE);
    let service = place.serve(&[]);
    for deadline in ["0s", "0"] {
        place
            .run(&["drain", "--deadline", deadline])
            .expect(exit::DONE);
    }
    service.stop().expect(exit::DONE);
    let drained = place.run(&["drain", "--deadline", "0s", "--json"]);
    assert_eq!(drained.expect(exit::DONE).json()["end"], "drained");
    let wrong = place
        .run(&["drain", "--deadline", "10x"])
        .expect(exit::USAGE);
    assert!(wrong.err.contains("a number of seconds"), "{}", wrong.err);
}
