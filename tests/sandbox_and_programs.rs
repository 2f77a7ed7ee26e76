//! A sandbox in a process that starts programs. It is alone in its process: each of those programs has
//! a copy of every socket for a moment, also of those of other tests.

#![cfg(all(feature = "sandbox", unix))]

use everpost::sandbox::Sandbox;

/// Tests that start programs beside a sandbox were told now and then that its own port is in use.
#[tokio::test]
async fn it_goes_away_while_programs_are_started_beside_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let starting = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            std::process::Command::new("true").status().unwrap();
        }
    });
    for _ in 0..300 {
        sandbox.go_away().await.unwrap();
        sandbox.come_back().await.unwrap();
    }
    drop(stop);
    starting.join().unwrap();
}
