//! Sockets that are passed by what starts the relay.

use super::*;

/// Starts a relay as systemd does: with these sockets as number 3 and 4.
fn start_with(place: &Place, sockets: [OwnedFd; 2], names: &str, args: &[&str]) -> Command {
    let [first, second] = sockets;
    let dir = place.path("relay");
    let relay = place.command(
        &[
            &["relay", "--dir", dir.to_str().unwrap(), "--sandbox"],
            args,
        ]
        .concat(),
    );
    // The number of a process is not known before it runs.
    let script =
        "exec 3<&0 4<&2 </dev/null 2>/dev/null; LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(relay.get_program())
        .args(relay.get_args());
    shell.env_clear();
    for (name, value) in relay.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .stdin(first)
        .stdout(Stdio::piped())
        .stderr(second);
    shell
}

#[test]
fn sockets_that_are_passed_are_served_instead_of_the_usual_ones_and_left_as_they_are() {
    let place = Place::new();
    let path = place.path("passed.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = || {
        [
            tcp.try_clone().unwrap().into(),
            unix.try_clone().unwrap().into(),
        ]
    };
    let start = |args: &[&str]| {
        start_with(&place, sockets(), "relay:", args)
            .spawn()
            .unwrap()
    };
    let mut relay = Open::of(Running::of(start(&[])), 2);
    assert_eq!(relay.address(0), tcp.local_addr().unwrap());
    assert_eq!(relay.at[1], format!("unix:{}", path.display()));
    let line = relay.running.read_until(|_| true);
    assert!(
        line.starts_with("export BA_BASE_URL="),
        "no third place: {line}"
    );
    let request = |id| post(&key_of("universal"), &wrapped(&[id]));
    let local = connect(relay.address(0));
    assert_eq!(exchange(local, &request("a")).unwrap().status, 200);
    let local = UnixStream::connect(&path).unwrap();
    assert_eq!(exchange(local, &request("b")).unwrap().status, 200);
    relay.stop().expect(exit::DONE);
    assert!(path.exists(), "it is not the relay's to remove");
    // A client that comes meanwhile waits for the next one.
    let mut waits = connect(tcp.local_addr().unwrap());
    waits.write_all(request("c").as_bytes()).unwrap();
    let mut waits_too = UnixStream::connect(&path).unwrap();
    waits_too.write_all(request("d").as_bytes()).unwrap();
    // What is typed is served too.
    let relay = Open::of(Running::of(start(&["--listen", "127.0.0.1:0"])), 3);
    assert_eq!(read_answer(waits).unwrap().status, 200);
    assert_eq!(read_answer(waits_too).unwrap().status, 200);
    assert_eq!(
        exchange(connect(relay.address(2)), &request("e"))
            .unwrap()
            .status,
        200
    );
    relay.stop().expect(exit::DONE);
    assert_eq!(taken(&place), 5);
}

#[test]
fn sockets_that_are_not_meant_for_a_relay_are_not_served() {
    let place = Place::new();
    let usage = |sockets: [OwnedFd; 2], names: &str| {
        let mut child = start_with(&place, sockets, names, &[]).spawn().unwrap();
        assert_eq!(
            child.wait().unwrap().code(),
            Some(i32::from(exit::USAGE)),
            "{names}"
        );
    };
    let tcp = |address: &str| OwnedFd::from(TcpListener::bind(address).unwrap());
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    usage([tcp("127.0.0.1:0"), udp.into()], "");
    // Other machines can reach it, and nothing is encrypted.
    usage([tcp("0.0.0.0:0"), tcp("127.0.0.1:0")], "");
    usage([tcp("127.0.0.1:0"), tcp("0.0.0.0:0")], "relay:admin");
    assert!(!place.path("relay/universal").exists());
}

/// On a Unix socket the page may act without a token, for its file says who gets there; on a TCP port
/// it only looks.
#[test]
fn the_page_is_at_sockets_that_are_passed_for_it_and_at_those_that_are_named() {
    let place = Place::new();
    let passed = place.path("passed.sock");
    let unix = UnixListener::bind(&passed).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = [
        tcp.try_clone().unwrap().into(),
        unix.try_clone().unwrap().into(),
    ];
    let named = place.path("page/admin.sock");
    let admin = format!("unix:{}", named.display());
    let args = ["--listen", "127.0.0.1:0", "--admin", &admin];
    let child = start_with(&place, sockets, "admin:admin", &args).spawn();
    let mut running = Running::of(child.unwrap());
    let mut told = Vec::new();
    while told.len() < 3 {
        let line = running.read_until(|line| line.starts_with("admin on "));
        told.push(line.trim().trim_start_matches("admin on ").to_owned());
    }
    let at = tcp.local_addr().unwrap();
    let expected = [
        format!("http://{at}/"),
        format!("unix:{}", passed.display()),
        admin,
    ];
    assert_eq!(told, expected);
    assert_eq!(mode(&named), 0o600);
    let ask =
        |line: &str| format!("{line} HTTP/1.1\r\nhost: everpost\r\ncontent-length: 0\r\n\r\n");
    let pause = ask("POST /api/channels/universal/control/pause");
    for path in [&passed, &named] {
        let local = UnixStream::connect(path).unwrap();
        assert_eq!(exchange(local, &pause).unwrap().status, 202);
        for line in [
            "GET /",
            "GET /livez",
            "GET /readyz?channel=universal",
            "GET /metrics",
        ] {
            let local = UnixStream::connect(path).unwrap();
            assert_eq!(exchange(local, &ask(line)).unwrap().status, 200, "{line}");
        }
    }
    let over_tcp = pause.replace("host: everpost", "host: localhost");
    assert_eq!(exchange(connect(at), &over_tcp).unwrap().status, 403);
    running.signal("-TERM");
    running.end().expect(exit::DONE);
    assert!(passed.exists() && !named.exists());
}

/// The socket stays while the process is another one: every request is answered, none twice.
#[test]
fn a_restart_under_load_loses_no_request_at_a_passed_socket() {
    let place = Place::new();
    let unix = UnixListener::bind(place.path("passed.sock")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let start = || {
        let sockets = [
            tcp.try_clone().unwrap().into(),
            unix.try_clone().unwrap().into(),
        ];
        let started = start_with(&place, sockets, "", &["--deadline", "5s"]).spawn();
        Open::of(Running::of(started.unwrap()), 2)
    };
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let go_on = || {
        let is_over = over.load(Ordering::Relaxed);
        (!is_over).then(|| sent.fetch_add(1, Ordering::Relaxed))
    };
    let key = key_of("universal");
    let request = |number: usize| post(&key, &wrapped(&[&number.to_string()]));
    let mut relay = start();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            // One that connects for each request.
            scope.spawn(|| {
                while let Some(number) = go_on() {
                    let answer = exchange(connect(address), &request(number));
                    assert_eq!(answer.expect("no answer").status, 200);
                }
            });
            // One that keeps its connection for as long as it may.
            scope.spawn(|| {
                let mut stream = connect(address);
                while let Some(number) = go_on() {
                    stream.write_all(request(number).as_bytes()).unwrap();
                    let answer = read_answer(&stream).expect("no answer");
                    assert_eq!(answer.status, 200);
                    if answer.head.contains("connection: close") {
                        stream = connect(address);
                    }
                }
            });
        }
        for _ in 0..3 {
            let before = sent.load(Ordering::Relaxed);
            while sent.load(Ordering::Relaxed) < before + 50 {
                std::thread::yield_now();
            }
            relay.running.signal("-TERM");
            let old = std::mem::replace(&mut relay, start());
            old.running.end();
        }
        over.store(true, Ordering::Relaxed);
    });
    relay.stop();
    assert_eq!(taken(&place), sent.load(Ordering::Relaxed));
}
