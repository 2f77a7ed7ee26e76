//! Users and accounts: what each role may do, and the package's accounts.

use super::*;

/// What a user of this role may do, as the servers are told, and its seed beside it.
fn user(place: &Place, words: &[&str]) -> (String, String) {
    let seed = place.path(&format!("{}.seed", words.join("-")));
    let mut args = vec!["fleet", "user"];
    args.extend(words);
    args.extend(["--partitions", "4", "--seed-file", seed.to_str().unwrap()]);
    let made = place.run(&args).expect(exit::DONE);
    // Once made, the seed stays.
    assert_eq!(made.out, place.run(&args).expect(exit::DONE).out);
    let text = fs::read_to_string(&seed).unwrap();
    assert!(
        text.starts_with("SU") && !made.out.contains(text.trim()),
        "{made:?}"
    );
    (made.out, seed.to_str().unwrap().to_owned())
}

#[test]
fn a_user_may_do_what_its_role_needs_and_a_device_nothing_to_others() {
    let place = Place::new();
    let (operator, operator_seed) = user(&place, &["operator"]);
    let (worker, worker_seed) = user(&place, &["worker"]);
    let (viewer, viewer_seed) = user(&place, &["viewer"]);
    let (device, _) = user(&place, &["device", "--as", "sensor-7"]);
    // What a device may do, for a user whose password a test can type.
    let of_device = device.split_once("permissions").unwrap().1;
    let users =
        format!("{operator}{worker}{viewer}{{ user: d, password: p, permissions{of_device}");
    let accounts = format!("accounts {{ FLEET {{ jetstream: enabled, users: [\n{users}] }} }}\n");
    let Some(nats) = Nats::start(&accounts) else {
        return;
    };

    let with = |words: &[&str], seed: &str| {
        let mut args = words.to_vec();
        args.extend(["--credentials-file", seed]);
        args.extend(ALONE);
        fleet(&place, &nats, &args)
    };
    let words = ["setup", "--partitions", "4"];
    let refused = with(&words, &worker_seed).expect(exit::UNEXPECTED);
    assert!(refused.err.contains("$JS.API"), "{refused:?}");
    with(&words, &operator_seed).expect(exit::DONE);
    with(&["check", "--accept-no-owner"], &operator_seed).expect(exit::DONE);
    let look = |words: &[&str]| {
        let words = [words, &["--credentials-file", &viewer_seed]].concat();
        fleet(&place, &nats, &words)
    };
    look(&["status"]).expect(exit::DONE);
    look(&["rewind", "--yes"]).expect(exit::UNEXPECTED);

    let connect = r#"{"verbose":false,"user":"d","pass":"p","headers":true,"no_responders":true}"#;
    let say = |subject: &str, body: &str| nats.say_as(connect, "_INBOX_sensor-7.1", subject, body);
    let own = subject_of(&device);
    let stored = say(&own, "{}");
    assert!(stored.contains("\"seq\":1"), "{stored}");
    assert_eq!(say(&format!("$JS.API.DIRECT.GET.EVENTS.{own}"), ""), "{}");
    for other in [
        "events.0.sensor-8",
        "events_cursors.0",
        "events_dead.0.1",
        "$JS.API.DIRECT.GET.EVENTS.events.0.sensor-8",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.STREAM.MSG.GET.EVENTS",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.INFO.EVENTS",
    ] {
        let refused = say(other, "{}");
        assert!(
            refused.contains("Permissions Violation"),
            "{other}: {refused}"
        );
    }
    // Answers to others are not for it.
    let spying = nats.say_as(connect, "_INBOX.>", &own, "{}");
    assert!(spying.contains("Permissions Violation"), "{spying}");
}

/// The subject that a device may write to.
fn subject_of(user: &str) -> String {
    let start = user.find("events.").unwrap();
    user[start..].split('"').next().unwrap().to_owned()
}

/// The page with all users had been written by hand, and nothing told when the program asked for more.
#[test]
fn the_accounts_in_the_package_are_those_that_the_command_prints() {
    let place = Place::new();
    let page = fs::read_to_string("packaging/fleet/accounts.conf").unwrap();
    let subjects = |text: &str| -> Vec<String> {
        let words = text.split('"').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let code: String = page
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let mut printed = Vec::new();
    for words in [
        &["operator"][..],
        &["worker"],
        &["viewer"],
        &["device", "--as", "sensor-7"],
    ] {
        let seed = place.path("seed");
        let mut args = vec!["fleet", "user"];
        args.extend(words);
        args.extend(["--seed-file", seed.to_str().unwrap()]);
        printed.extend(subjects(&place.run(&args).expect(exit::DONE).out));
    }
    assert_eq!(subjects(&code), printed);
}
