//! With what a relay starts, and what it says of it.

use super::*;

#[test]
fn a_relay_that_could_not_keep_its_word_does_not_start() {
    let mut place = Place::new();
    let dir = place.path("relay");
    let dir = dir.to_str().unwrap().to_owned();
    let relay = |place: &Place, args: &[&str]| {
        place
            .run(&[&["relay", "--dir", &dir], args].concat())
            .expect(exit::USAGE)
            .err
    };
    let said = relay(&place, &["--listen", "127.0.0.1:0"]);
    assert!(said.contains("--channel universal"), "{said}");
    let said = relay(&place, &["--listen", "0.0.0.0:0", "--channel", "universal"]);
    assert!(said.contains("--plain"), "{said}");
    let said = relay(&place, &["--listen", "127.0.0.1", "--channel", "universal"]);
    assert!(said.contains("no address with a port"), "{said}");
    // The variable of the place names another one, and is passed over.
    let spool = place.path("other");
    let said = relay(&place, &["--spool", spool.to_str().unwrap(), "--sandbox"]);
    assert!(said.contains("--dir"), "{said}");
    place.settings("on_full = \"drop_oldest\"");
    let said = relay(&place, &["--listen", "127.0.0.1:0", "--sandbox"]);
    assert!(
        said.contains("drop_oldest") && said.contains("reject"),
        "{said}"
    );
    assert!(!place.path("relay/universal").exists(), "nothing half made");
    let said = place.run(&["relay", "token", "--dir", &dir, "--channel", "A B"]);
    assert!(said.expect(exit::USAGE).err.contains("lower-case"));
}

/// Without a key it keeps and answers, and delivers once there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_key_keeps_what_it_is_given() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::new();
    place.set_env("BA_BASE_URL", sandbox.base_url());
    let file = place.path("key");
    place.set_env("BA_API_KEY_FILE", file.to_str().unwrap());
    let relay = Relaying::start(&place, &["--channel", "universal"]);
    let answer = relay
        .client()
        .post(&key_of("universal"), &wrapped(&["a", "b"]));
    assert_eq!(answer.status, 200);
    std::fs::write(&file, sandbox.key()).unwrap();
    relay.running.signal("-HUP");
    sandbox.wait_for_accepted(2).await.unwrap();
    relay.stop().expect(exit::DONE);
}

/// To try it out, nothing else is needed.
#[test]
fn with_a_sandbox_it_says_what_a_bot_is_to_be_told() {
    let place = Place::new();
    let mut relay = Relaying::start(&place, &["--sandbox"]);
    let key = relay.told_key();
    assert_eq!(relay.client().post(&key, &wrapped(&["a"])).status, 200);
    relay.stop().expect(exit::DONE);
    let spool = place.path("relay/universal");
    let status = place.run(&["--spool", spool.to_str().unwrap(), "status", "--json"]);
    assert_eq!(status.json()["ledger"]["delivered"], 1);
}

/// A 200 says that a power cut costs nothing, whatever the settings say of appends.
#[test]
fn a_relay_does_not_follow_a_weaker_durability_and_says_so() {
    let mut place = Place::new();
    place.settings("durability = { written = { sync_every = \"1s\" } }");
    let relay = Relaying::start(&place, &["--sandbox"]);
    let ended = relay.stop().expect(exit::DONE);
    assert!(
        ended.err.contains("it does not follow `durability`"),
        "{ended:?}"
    );
}
