//! The page of `relay --admin` and of `run --listen`: where it is, and who may act there.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use everpost::exit;
use everpost::sandbox::Sandbox;
use serde_json::Value;

use crate::health::{Answer, address, get, listening, send};
use crate::relay::Relaying;
use crate::set_up::{Place, Running};

/// The address in a line such as `admin on http://127.0.0.1:7680/`.
pub(crate) fn admin(running: &mut Running) -> SocketAddr {
    let line = running.read_until(|line| line.starts_with("admin on "));
    let address = line.trim().trim_start_matches("admin on http://");
    address.trim_end_matches('/').parse().unwrap()
}

fn post(to: SocketAddr, path: &str, header: &str) -> Answer {
    let request =
        format!("POST {path} HTTP/1.1\r\nhost: {to}\r\n{header}content-length: 0\r\n\r\n");
    send(to, &request)
}

const PAUSE: &str = "/api/channels/universal/control/pause";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_a_relay_acts_for_those_who_have_its_token() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.set_env("EVERPOST_LOG", "info");
    let mut relay = Relaying::start(&place, &["--admin", "127.0.0.1:0", "--admin-token"]);
    let to = admin(&mut relay.running);
    let line = relay
        .running
        .read_until(|line| line.starts_with("its token is in "));
    let file = place.path("relay").join("admin.token");
    assert_eq!(line.trim(), format!("its token is in {}", file.display()));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();

    assert!(get(to, "/").body.starts_with("<!doctype html>"));
    assert_eq!(get(to, "/readyz").status, 200);
    assert_eq!(post(to, PAUSE, "").status, 403);
    let bearer = format!("authorization: Bearer {token}\r\n");
    assert_eq!(post(to, PAUSE, &bearer).status, 202);
    let view = get(to, "/api/channels").json();
    assert_eq!(view["channels"][0]["name"], "universal");
    assert_eq!(view["channels"][0]["sentences"][0]["kind"], "paused");
    assert_eq!(
        view["sample"], false,
        "the API itself is no place to try things out"
    );
    let entries = get(to, "/api/log").json();
    assert_eq!(entries[0]["what"], "paused delivery");

    let ended = relay.stop();
    let said = format!("{}{}", ended.out, ended.err);
    assert!(!said.contains(&token), "the token is told");
    let line = ended
        .err
        .lines()
        .find(|line| line.contains("done by a person"));
    let line = line.unwrap_or_else(|| panic!("{}", ended.err));
    for part in [
        "what=\"paused delivery\"",
        "from=\"127.0.0.1\"",
        "by=\"token\"",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_a_token_only_shows_and_programs_are_told_where_it_is() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let dir = place.path("relay");
    let mut running = place.start(&[
        "--json",
        "relay",
        "--dir",
        dir.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "[::1]:0",
    ]);
    let told: Value = serde_json::from_str(&running.read_until(|_| true)).unwrap();
    let url = told["admin_urls"][0].as_str().unwrap();
    let to: SocketAddr = url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    assert_eq!(told.get("admin_token_file"), None);
    assert_eq!(
        get(to, "/api/channels").json()["access"]["has_token"],
        false
    );
    assert_eq!(post(to, PAUSE, "").status, 403);
    assert!(!dir.join("admin.token").exists());
    running.signal("-TERM");
    running.end().expect(exit::DONE);
}

#[test]
fn a_page_that_others_could_reach_and_a_token_for_none_are_refused() {
    let place = Place::new();
    let dir = place.path("relay");
    for (args, hint) in [
        (&["--admin", "0.0.0.0:0"][..], "`--plain`"),
        (&["--admin-token"], "add --admin 127.0.0.1:7680"),
    ] {
        let start = ["relay", "--sandbox", "--listen", "127.0.0.1:0", "--dir"];
        let args = [&start[..], &[dir.to_str().unwrap()], args].concat();
        let ended = place.run(&args).expect(exit::USAGE);
        assert!(ended.err.contains(hint), "{ended:?}");
        assert!(!dir.exists(), "nothing was made");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_shows_the_page_beside_its_probes_on_loopback_alone() {
    let (_sandbox, place) = listening().await;
    let mut service = place.serve(&["--listen", "127.0.0.1:0"]);
    let to = address(&mut service);
    assert!(get(to, "/").body.starts_with("<!doctype html>"));
    assert!(get(to, "/page.js").body.contains("EventSource"));
    let view = get(to, "/api/channels").json();
    assert_eq!(view["access"]["may_act"], false);
    assert_eq!(view["channels"][0]["name"], "spool");
    for path in ["pause", "events"] {
        let path = format!("/api/channels/spool/control/{path}");
        assert_eq!(post(to, &path, "").status, 403);
        assert_eq!(post(to, &path, "authorization: Bearer 0\r\n").status, 401);
    }
    assert_eq!(get(to, "/api/channels/spool/control/events").status, 403);
    assert_eq!(get(to, "/livez").status, 200);
    service.running.signal("-TERM");
    service.running.end().expect(exit::DONE);

    let mut service = place.serve(&["--listen", "0.0.0.0:0", "--listen-public"]);
    let port = address(&mut service).port();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(get(to, "/livez").status, 200);
    for path in ["/", "/api/channels"] {
        assert_eq!(get(to, path).status, 404, "{path}");
    }
    service.running.signal("-TERM");
    service.running.end().expect(exit::DONE);
}
