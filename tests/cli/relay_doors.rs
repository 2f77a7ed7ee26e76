//! Where `relay` listens: Unix sockets, sockets that are passed, TLS; and how it leaves.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use everpost::exit;
use everpost::sandbox::Sandbox;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;
use tokio::time::Instant;

use crate::relay::{headers, key_of, wrapped};
use crate::set_up::{Ended, PATIENT, Place, Running};

/// A relay with a sandbox behind it, and where it says that it listens.
pub(crate) struct Open {
    pub(crate) running: Running,
    pub(crate) at: Vec<String>,
}

impl Open {
    /// Of so many ports.
    pub(crate) fn of(mut running: Running, ports: usize) -> Self {
        let line = |_| {
            let line = running.read_until(|line| line.starts_with("listening on "));
            line.trim().trim_start_matches("listening on ").to_owned()
        };
        let at = (0..ports).map(line).collect();
        Self { running, at }
    }

    pub(crate) fn start(place: &Place, ports: usize, args: &[&str]) -> Self {
        let dir = place.path("relay");
        let common = ["relay", "--dir", dir.to_str().unwrap(), "--sandbox"];
        Self::of(place.start(&[&common[..], args].concat()), ports)
    }

    /// The address of a TCP port.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        let url = &self.at[number];
        let address = url
            .trim_start_matches("http://")
            .trim_start_matches("https://");
        address.trim_end_matches("/v2").parse().unwrap()
    }

    pub(crate) fn stop(self) -> Ended {
        self.running.signal("-TERM");
        self.running.end()
    }
}

/// What a relay answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENT)).unwrap();
    stream
}

pub(crate) fn post(key: &str, body: &str) -> String {
    let (headers, length) = (headers(key), body.len());
    format!("POST /v2/messages HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// Reads one answer, and nothing of the next; none if the connection ends or breaks before it is there.
pub(crate) fn read_answer(stream: impl Read) -> Option<Answer> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

/// One request, and its answer.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &str) -> Option<Answer> {
    stream.write_all(request.as_bytes()).ok()?;
    read_answer(stream)
}

/// How many events the relay of this place has ever taken in, once it has ended.
pub(crate) fn taken(place: &Place) -> Value {
    let spool = place.path("relay/universal");
    let status = place.run(&["--spool", spool.to_str().unwrap(), "status", "--json"]);
    status.json()["last_seq"].clone()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_unix_socket_is_for_its_user_or_a_group_and_is_removed_at_the_end() {
    let place = Place::new();
    let own_group = fs::metadata(place.dir.path()).unwrap().gid().to_string();
    let (private, shared) = (place.path("private.sock"), place.path("run/shared.sock"));
    let unix = |path: &Path| format!("unix:{}", path.display());
    let relay = Open::start(&place, 1, &["--listen", &unix(&private)]);
    assert_eq!(relay.at, [unix(&private)]);
    assert_eq!(mode(&private), 0o600);
    let key = key_of("universal");
    // No page of a browser comes here, whatever host it names.
    let request = post(&key, &wrapped(&["a"])).replace("127.0.0.1", "everpost");
    let answer = exchange(UnixStream::connect(&private).unwrap(), &request).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    relay.stop().expect(exit::DONE);
    assert!(!private.exists());

    let args = ["--listen", &unix(&shared), "--socket-group", &own_group];
    let relay = Open::start(&place, 1, &args);
    assert_eq!(mode(&shared), 0o660);
    assert_eq!(mode(shared.parent().unwrap()), 0o750);
    assert_eq!(fs::metadata(&shared).unwrap().gid().to_string(), own_group);
    relay.stop().expect(exit::DONE);
    let relay = Open::start(&place, 1, &[&args[..], &["--socket-mode", "0666"]].concat());
    assert_eq!(mode(&shared), 0o666);
    relay.stop().expect(exit::DONE);
    assert!(!shared.exists());
    assert_eq!(taken(&place), 1);
}

#[test]
fn a_socket_that_is_served_and_a_file_that_is_none_are_left_alone_and_a_stale_one_is_replaced() {
    let place = Place::new();
    let path = place.path("relay.sock");
    let unix = format!("unix:{}", path.display());
    let refused = |place: &Place| {
        let dir = place.path("other");
        let args = [
            "relay",
            "--dir",
            dir.to_str().unwrap(),
            "--sandbox",
            "--listen",
            &unix,
        ];
        place.run(&args).expect(exit::USAGE).err
    };
    let mut first = Open::start(&place, 1, &["--listen", &unix]);
    let said = refused(&place);
    assert!(
        said.contains("another process serves it") && said.contains("another path, unix:"),
        "{said}"
    );
    first.running.child.kill().unwrap();
    first.running.end();
    assert!(path.exists(), "a killed process removes nothing");
    let second = Open::start(&place, 1, &["--listen", &unix]);
    let answer = exchange(
        UnixStream::connect(&path).unwrap(),
        &post(&key_of("universal"), &wrapped(&["a"])),
    );
    assert_eq!(answer.unwrap().status, 200);
    // One whose name has been taken by another file leaves that one alone.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    second.stop().expect(exit::DONE);
    let said = refused(&place);
    assert!(
        said.contains("no socket has its name") && said.contains("remove the file"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    // Others could put a socket of theirs into such a directory.
    fs::remove_file(&path).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let said = refused(&place);
    assert!(said.contains("others may write to it"), "{said}");
    assert!(!place.path("other").exists(), "nothing half made");
}

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
    // Whoever comes meanwhile waits for the next one.
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

/// Makes `NAME.crt` and `NAME.key`, of which one alone is of no use; false, and said, where openssl is
/// not there.
fn make_certificate(dir: &Path, name: &str) -> bool {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -subj /CN={name} -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.crt"
    );
    let made = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .output();
    let is_made = made.unwrap().status.success();
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    if !is_made {
        println!("skipped: openssl makes no certificates here");
    }
    is_made
}

/// Takes every certificate: which one it is, the test looks at itself.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A TLS client of this version that speaks this protocol inside.
fn tls_client(
    address: SocketAddr,
    version: &'static rustls::SupportedProtocolVersion,
    protocol: &str,
) -> TlsStream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, connect(address))
}

fn certificate(stream: &TlsStream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn with_tls_other_machines_are_let_in_by_tokens_and_new_files_are_taken_up() {
    let mut place = Place::new();
    let dir = place.dir.path().to_owned();
    if !make_certificate(&dir, "old") || !make_certificate(&dir, "new") {
        return;
    }
    place.set_env("EVERPOST_LOG", "info");
    let (cert, key) = (place.path("tls.crt"), place.path("tls.key"));
    let put = |name: &str, to: &Path| {
        let from = dir.join(name);
        fs::copy(from, to.with_extension("next")).unwrap();
        fs::rename(to.with_extension("next"), to).unwrap();
    };
    put("old.crt", &cert);
    put("old.key", &key);
    let (cert_text, key_text) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let tls = ["--tls-cert", cert_text, "--tls-key", key_text];
    let args = [&["--listen", "0.0.0.0:0"], &tls[..]].concat();
    let mut relay = Open::start(&place, 1, &args);
    let stderr = relay.running.child.stderr.take().unwrap();
    let log = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
    let port = relay.address(0).port();
    assert_eq!(relay.at[0], format!("https://0.0.0.0:{port}/v2"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let token = relay
        .running
        .read_until(|line| line.starts_with("export BA_API_KEY="));
    let token = token
        .trim()
        .trim_start_matches("export BA_API_KEY=")
        .to_owned();
    let http = "http/1.1";

    // The name was checked by the client, by the certificate.
    let request = post(&token, &wrapped(&["a"])).replace("127.0.0.1", "relay.example");
    let mut before = tls_client(address, &rustls::version::TLS13, http);
    let answer = exchange(&mut before, &request).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(before.conn.alpn_protocol(), Some(http.as_bytes()));
    let stranger = post(&key_of("universal"), &wrapped(&["b"]));
    let mut old = tls_client(address, &rustls::version::TLS12, http);
    assert_eq!(exchange(&mut old, &stranger).unwrap().status, 401);
    let mut h2 = tls_client(address, &rustls::version::TLS13, "h2");
    assert!(h2.write_all(b"x").and_then(|()| h2.read(&mut [0])).is_err());
    assert!(
        exchange(connect(address), &request).is_none(),
        "in the clear"
    );

    // They begin a handshake and say no more. No one waits for them.
    let silent: Vec<TcpStream> = (0..30)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
            stream
        })
        .collect();

    // A new certificate without its key is of no use, and is told once.
    let is_new = |wanted: &[u8]| {
        let mut client = tls_client(address, &rustls::version::TLS13, http);
        assert_eq!(exchange(&mut client, &request).unwrap().status, 200);
        certificate(&client) == wanted
    };
    let first = certificate(&before);
    put("new.crt", &cert);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        assert!(is_new(&first));
    }
    put("new.key", &key);
    while is_new(&first) {
        assert!(since.elapsed() < PATIENT, "the new files are not taken up");
    }
    // At a signal there is nothing to wait for, and a connection from before goes on.
    assert_eq!(exchange(&mut before, &request).unwrap().status, 200);
    for mut stream in silent {
        // Unlike `read`, this goes on where the process was stopped and continued: `signal(7)` has
        // a read with a time limit end with `EINTR` then, even without a handler.
        let rest = stream.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(rest, 0, "it is cut off at last");
    }
    relay.stop().expect(exit::DONE);
    let log = log.join().unwrap();
    assert_eq!(
        log.matches("cannot be used").count(),
        2,
        "one line, with its cause: {log}"
    );
    assert_eq!(
        log.matches("the certificate was read again").count(),
        1,
        "{log}"
    );
    assert!(!log.contains("PRIVATE KEY"));
}

#[test]
fn a_certificate_that_is_of_no_use_is_named_before_anything_is_made() {
    let place = Place::new();
    let dir = place.dir.path().to_owned();
    let dir_text = place.path("relay");
    let said = |args: &[&str]| {
        let common = ["relay", "--dir", dir_text.to_str().unwrap(), "--sandbox"];
        let ended = place.run(&[&common[..], args].concat());
        ended.expect(exit::USAGE).err
    };
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let alone = said(&["--tls-cert", &path("a.crt")]);
    assert!(alone.contains("--tls-key"), "{alone}");
    let missing = said(&["--tls-cert", &path("a.crt"), "--tls-key", &path("a.key")]);
    assert!(
        missing.contains("a.crt") && missing.contains("PEM"),
        "{missing}"
    );
    fs::write(dir.join("a.crt"), "no certificate").unwrap();
    let none = said(&[
        "--check",
        "--tls-cert",
        &path("a.crt"),
        "--tls-key",
        &path("a.key"),
    ]);
    assert!(
        none.contains("there is no certificate in the file"),
        "{none}"
    );
    if make_certificate(&dir, "a") && make_certificate(&dir, "b") {
        let other = said(&["--tls-cert", &path("a.crt"), "--tls-key", &path("b.key")]);
        assert!(other.contains("cannot be used with its key"), "{other}");
        let swapped = said(&["--tls-cert", &path("a.crt"), "--tls-key", &path("a.crt")]);
        assert!(
            swapped.contains("there is no private key in the file"),
            "{swapped}"
        );
    }
    assert!(!place.path("relay/universal").exists());
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_again_and_nothing_of_it_is_taken() {
    let place = Place::new();
    let config = place.path("relay.toml");
    fs::write(&config, "rate = 1000\n[channels.universal]\n").unwrap();
    let config = config.to_str().unwrap();
    // What is typed wins.
    let args = ["--listen", "127.0.0.1:0", "--config", config, "--rate", "1"];
    let relay = Open::start(&place, 1, &args);
    let address = relay.address(0);
    let began = Instant::now();
    let ask = |key: &str, id| exchange(connect(address), &post(key, &wrapped(&[id]))).unwrap();
    let (one, other) = (
        key_of("universal"),
        key_of("universal").replace("e30", "e31"),
    );
    let answers: Vec<Answer> = (0..40).map(|_| ask(&one, "a")).collect();
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|one| one.status == 200);
    let most = 2 + began.elapsed().as_secs() + 1;
    assert!(
        good.len() >= 2 && good.len() as u64 <= most,
        "{}",
        good.len()
    );
    for answer in &bad {
        assert_eq!(answer.status, 429);
        let wait = answer.head.split("retry-after: ").nth(1).unwrap();
        let wait: u64 = wait.lines().next().unwrap().parse().unwrap();
        assert!((1..=29).contains(&wait), "{answer:?}");
        let error = answer.body["errors"][0].as_str().unwrap();
        assert!(error.contains("more requests than it may"), "{error}");
    }
    // The same key in other words is the same client, and another key is another one.
    let shouted = post(&one, &wrapped(&["b"])).replace("Bearer", "BEARER");
    let again = exchange(connect(address), &shouted).unwrap();
    let is_late = began.elapsed() > Duration::from_secs(3);
    assert!(again.status == 429 || is_late, "{again:?}");
    assert_eq!(ask(&other, "c").status, 200);
    let all = good.len() + 1 + usize::from(again.status == 200);
    relay.stop().expect(exit::DONE);
    assert_eq!(taken(&place), all);
}

/// A queue that takes nothing in keeps no process up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_held_are_told_at_once_that_the_relay_closes() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.settings(
        "max_bytes = \"1 MiB\"\njournal_bytes = \"64 KiB\"\nsegment_bytes = \"64 KiB\"\n\
         tail_bytes = \"16 KiB\"\nchunk_bytes = \"8 KiB\"\nmax_event_bytes = \"16 KiB\"\n",
    );
    let dir = place.path("relay");
    let start = |hold: &str| {
        let common = [
            "relay",
            "--dir",
            dir.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ];
        let args = [&common[..], &["--hold", hold, "--deadline", "1s"]].concat();
        Open::of(place.start(&args), 1)
    };
    let key = sandbox.key().to_owned();
    let mut letters = crate::relay::fastrand_like(11);
    let mut request = || {
        let text: String = (0..8_000).map(|_| letters()).collect();
        post(
            &key,
            &format!(r#"{{"messages":[{{"message":{{"id":"a","timestamp":1,"x":"{text}"}}}}]}}"#),
        )
    };
    let relay = start("0s");
    while exchange(connect(relay.address(0)), &request())
        .unwrap()
        .status
        == 200
    {}
    relay.stop().expect(exit::PENDING);

    let relay = start("50s");
    let held: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect(relay.address(0));
            stream.write_all(request().as_bytes()).unwrap();
            stream
        })
        .collect();
    // It sends the first half of its body, and no more.
    let mut half = connect(relay.address(0));
    half.write_all(&request().as_bytes()[..4_000]).unwrap();
    let silent = connect(relay.address(0));
    let nowhere = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(
        exchange(connect(relay.address(0)), nowhere).unwrap().status,
        404
    );
    let since = Instant::now();
    relay.running.signal("-TERM");
    for stream in held {
        let answer = read_answer(stream).unwrap();
        assert_eq!(answer.status, 503);
        assert!(
            answer.body["errors"][0]
                .as_str()
                .unwrap()
                .contains("closing"),
            "{answer:?}"
        );
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    assert_eq!(read_answer(half).unwrap().status, 503);
    assert!(read_answer(silent).is_none());
    relay.running.end().expect(exit::PENDING);
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}
