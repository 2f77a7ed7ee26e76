//! TLS at the door: certificates, tokens, and what is of no use.

use super::*;
use crate::tls::by_openssl;

/// Makes `NAME.crt` and `NAME.key`, of which one alone is of no use; false, and said, where openssl is
/// not there.
fn make_certificate(dir: &Path, name: &str) -> bool {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -subj /CN={name} -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.crt"
    );
    by_openssl(dir, &script)
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
