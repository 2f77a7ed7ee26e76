//! A relay with several channels: one file, one queue a channel, one process.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use everpost::exit;
use everpost::sandbox::Sandbox;

use crate::relay::{Relaying, headers, key_of, wrapped};
use crate::set_up::Place;

/// A file for a relay with these tables of channels.
fn write(place: &Place, own: &str, channels: &[(&str, &str)]) -> String {
    let tables: String = channels
        .iter()
        .map(|(name, text)| format!("[channels.{name}]\n{text}\n"))
        .collect();
    let path = place.path("relay.toml");
    fs::write(&path, format!("{own}\n{tables}")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn to(sandbox: &Sandbox) -> String {
    format!("service.base_url = \"{}\"", sandbox.base_url())
}

fn status(place: &Place, channel: &str) -> serde_json::Value {
    let spool = place.path("relay").join(channel);
    let status = place.run(&["--spool", spool.to_str().unwrap(), "status", "--json"]);
    status.json()
}

/// An outage of everything, in which nine bots of ten channels go on sending; then the receiver of one
/// refuses the key, one channel has none, and the others flow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_refused_or_has_no_key_holds_up_no_other() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "refused", "keyless"];
    let place = Place::new();
    let keys = place.path("relay");
    let mut sandboxes = Vec::new();
    for name in names {
        sandboxes.push(Sandbox::builder().channel(name).start().await.unwrap());
    }
    let texts: Vec<String> = sandboxes.iter().map(to).collect();
    let tables: Vec<(&str, &str)> = names
        .into_iter()
        .zip(texts.iter().map(String::as_str))
        .collect();
    let fast = place.path("settings.toml");
    fs::write(
        &fast,
        "[delivery]\nbackoff_min = \"10ms\"\nbackoff_max = \"20ms\"\n",
    )
    .unwrap();
    let config = write(&place, "hold = \"1s\"", &tables);
    let args = [
        "--config",
        &config,
        "--settings",
        fast.to_str().unwrap(),
        "--deadline",
        "0s",
    ];
    for sandbox in &sandboxes {
        sandbox.go_away().await.unwrap();
    }
    let relay = Relaying::start(&place, &args);
    for (name, sandbox) in names.into_iter().zip(&sandboxes) {
        let key = match name {
            "keyless" => continue,
            "refused" => key_of(name),
            _ => sandbox.key().to_owned(),
        };
        fs::write(keys.join(format!("{name}.key")), key).unwrap();
    }
    relay.running.signal("-HUP");
    let mut client = relay.client();
    for round in 0..3 {
        for name in names {
            let id = format!("{name}-{round}");
            assert_eq!(
                client.post(&key_of(name), &wrapped(&[&id])).status,
                200,
                "{name}"
            );
        }
    }
    assert_eq!(client.post(&key_of("other"), &wrapped(&["x"])).status, 401);
    drop(client);
    // What waits outlives the process, and each channel finds its own again.
    relay.stop().expect(exit::PENDING);
    for sandbox in &sandboxes {
        sandbox.come_back().await.unwrap();
    }
    let relay = Relaying::start(&place, &args);
    for (name, sandbox) in names.into_iter().zip(&sandboxes).take(8) {
        sandbox.wait_for_accepted(3).await.unwrap();
        sandbox
            .check_order((0..3).map(|round| format!("{name}-{round}")))
            .unwrap();
    }
    let refused = &sandboxes[8];
    refused.wait_for(|stats| stats.requests > 0).await.unwrap();
    let ended = relay.stop().expect(exit::PENDING);
    assert!(ended.out.contains("6 events pending"), "{ended:?}");
    assert_eq!(
        (refused.stats().accepted, sandboxes[9].stats().requests),
        (0, 0)
    );
    assert_eq!(status(&place, "refused")["pending"], 3);
    assert_eq!(status(&place, "keyless")["pending"], 3);
    // A new key is taken without a restart.
    let relay = Relaying::start(&place, &args);
    fs::write(keys.join("refused.key"), refused.key()).unwrap();
    relay.running.signal("-HUP");
    refused.wait_for_accepted(3).await.unwrap();
    relay.stop().expect(exit::PENDING);
}

#[test]
fn what_is_wrong_with_the_file_is_told_with_its_place_and_nothing_is_made() {
    let place = Place::new();
    let dir = place.path("relay");
    let run = |config: &str| {
        let dir = dir.to_str().unwrap();
        place.run(&["relay", "--dir", dir, "--config", config, "--check"])
    };
    for (own, channels, what) in [
        ("plian = true", &[][..], "line 1"),
        ("listen = [\"here\"]", &[], "no address with a port"),
        ("hosts = [\"a b\"]", &[], "no host name"),
        ("hold = 20", &[], "line 1"),
        ("", &[("universal", "max_byte = 1")], "line 3"),
        ("", &[("universal", "on_full = \"drop_oldest\"")], "reject"),
        (
            "",
            &[("universal", "service.channel = \"rasa\"")],
            "called rasa",
        ),
        ("", &[("Universal", "")], "lower-case"),
        ("", &[("\"../x\"", "")], "lower-case"),
        (
            "",
            &[("universal", "service.key_file = \"key\"")],
            "absolute",
        ),
        (
            "",
            &[("universal", "service.base_url = \"http://example.org\"")],
            "https",
        ),
    ] {
        let ended = run(&write(&place, own, channels)).expect(exit::USAGE);
        assert!(ended.err.contains(what), "{own} {channels:?}: {ended:?}");
    }
    let missing = run("/nowhere/relay.toml").expect(exit::USAGE);
    assert!(missing.err.contains("/nowhere/relay.toml"), "{missing:?}");
    let good = write(
        &place,
        "",
        &[("universal", ""), ("rasa", "max_bytes = \"1 MiB\"")],
    );
    let ended = run(&good).expect(exit::DONE);
    assert!(
        ended.out.contains("rasa: no key to deliver with"),
        "{ended:?}"
    );
    let typed = place.run(&["relay", "--config", &good, "--channel", "rasa", "--check"]);
    assert!(typed.expect(exit::USAGE).err.contains("--channel"));
    assert!(!dir.exists(), "who only looks makes nothing");
}

/// The file and the keys are read at SIGHUP; what is wrong with it changes nothing.
#[test]
fn a_file_that_is_read_again_holds_from_then_on_and_what_does_not_is_told() {
    let mut place = Place::new();
    place.set_env("EVERPOST_LOG", "info");
    let config = write(&place, "", &[("universal", "")]);
    let mut relay = Relaying::start(&place, &["--config", &config, "--sandbox"]);
    let mut log = BufReader::new(relay.running.child.stderr.take().unwrap());
    let key = key_of("universal");
    let named = headers(&key).replace("127.0.0.1", "bot.example");
    let asked = || {
        relay
            .client()
            .send("POST /v2/messages", &named, &wrapped(&["a"]))
            .status
    };
    let mut hear = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "never said: {wanted}"
            );
        }
        line
    };
    hear("relaying");
    assert_eq!(asked(), 421);
    write(
        &place,
        "hosts = [\"bot.example\"]\n[fleet]\nservers = \"nats://a\"",
        &[("universal", "max_bytes = \"2 GiB\""), ("rasa", "")],
    );
    relay.running.signal("-HUP");
    hear("hosts");
    let later = hear("at the next start");
    assert!(later.contains("channels.rasa (new)"), "{later}");
    assert!(later.contains("channels.universal.max_bytes"), "{later}");
    assert!(later.contains("fleet"), "{later}");
    assert_eq!(asked(), 200);
    fs::write(Path::new(&config), "hosts = 1").unwrap();
    relay.running.signal("-HUP");
    hear("cannot be read again");
    assert_eq!(asked(), 200);
    relay.stop().expect(exit::DONE);
}
