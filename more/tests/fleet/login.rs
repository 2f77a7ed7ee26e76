//! Devices at servers that want to know who they are: what is refused pauses, and goes on by itself once
//! it is mended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use everpost::clock::{Clock as _, SystemClock};
use everpost::http::SecretRef;
use everpost::nats::{Credentials, Names, Target};
use everpost::{PauseReason, Sink as _, Verdict};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, Setup};
use crate::ground::{Ground, addresses, append, close, drained, event, name, paused, request};

/// What the device `s` needs, as an account says it.
fn rights() -> [String; 2] {
    let subject = Names::new("EVENTS", 4).unwrap().event_subject(&name("s"));
    let look_up = format!("$JS.API.DIRECT.GET.EVENTS.{subject}");
    [subject, look_up]
}

/// Servers with these users beside one that may do everything.
async fn with_users(users: &str) -> Option<Ground> {
    let config = format!(
        "accounts {{ A {{ jetstream: enabled, users: [ \
         {{ user: admin, password: admin-password }}\n{users} ] }} }}"
    );
    let cluster = Cluster::start(&Setup { nodes: 1, config })?;
    let admin = ConnectOptions::with_user_and_password("admin".into(), "admin-password".into());
    let client = admin.connect(addresses(&cluster)).await.unwrap();
    Some(Ground::on(cluster, client).await)
}

/// A file that is replaced as a whole.
struct Secret(PathBuf);

impl Secret {
    fn new(ground: &Ground, text: &str) -> Self {
        let secret = Self(ground.home.path().join("secret"));
        secret.is_now(text);
        secret
    }

    fn is_now(&self, text: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    fn source(&self) -> SecretRef {
        SecretRef::File(self.0.clone())
    }
}

/// A device that is refused says why, keeps everything, and goes on once its file is another one.
async fn mended(ground: &Ground, target: Target, says: &str, mend: impl FnOnce()) {
    let queue = ground.open_to("s", target).await;
    append(&queue, "s", 1..=10).await;
    let words = paused(&queue, PauseReason::Credentials).await;
    assert!(words.contains(says), "{words}");
    assert_eq!(queue.status().pending, 10);
    mend();
    drained(&queue).await;
    close(queue).await;
    ground.assert_once("s", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_pauses_until_the_file_has_the_right_one() {
    let [subject, look_up] = rights();
    let users = format!(
        "{{ user: s, password: right-password, permissions: {{ publish: [\"{subject}\", \
         \"{look_up}\"], subscribe: \"_INBOX_s.>\" }} }}"
    );
    let Some(ground) = with_users(&users).await else {
        return;
    };
    let secret = Secret::new(&ground, "wrong-password\n");
    let credentials = Credentials::Password {
        user: "s".to_owned(),
        password: secret.source(),
    };
    let target = ground.target("s").with_credentials(credentials);
    mended(&ground, target, "Authorization Violation", || {
        secret.is_now("right-password\n");
    })
    .await;
}

/// A client library tells neither: both look like time that is up.
#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_subject_and_a_forbidden_inbox_pause_and_say_which() {
    let [subject, look_up] = rights();
    let keys = [(); 4].map(|()| KeyPair::new_user());
    let [good, mute, blind, deaf] = &keys;
    let user = |key: &KeyPair, publish: &[&String], inbox: &str| {
        let key = key.public_key();
        format!(
            "{{ nkey: {key}, permissions: {{ publish: {publish:?}, subscribe: \"{inbox}\" }} }}\n"
        )
    };
    let users = [
        user(good, &[&subject, &look_up], "_INBOX_s.>"),
        user(mute, &[&look_up], "_INBOX_s.>"),
        user(blind, &[&subject], "_INBOX_s.>"),
        user(deaf, &[&subject, &look_up], "_INBOX.>"),
    ];
    for (refused, says) in [
        (
            mute,
            format!("Permissions Violation for Publish to \"{subject}\""),
        ),
        (
            blind,
            format!("Permissions Violation for Publish to \"{look_up}\""),
        ),
        (
            deaf,
            "Permissions Violation for Subscription to \"_INBOX_s.".to_owned(),
        ),
    ] {
        let Some(ground) = with_users(&users.concat()).await else {
            return;
        };
        let secret = Secret::new(&ground, &refused.seed().unwrap());
        let target = ground
            .target("s")
            .with_credentials(Credentials::Nkey(secret.source()));
        mended(&ground, target, &says, || {
            secret.is_now(&good.seed().unwrap())
        })
        .await;
    }
}

/// Signs claims as `nsc` does.
fn jwt(issuer: &KeyPair, subject: &KeyPair, expires: Option<SystemTime>, nats: Value) -> String {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "jti": subject.public_key(), "iat": seconds(SystemClock.wall()), "name": "trial",
        "iss": issuer.public_key(), "sub": subject.public_key(), "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = seconds(expires).into();
    }
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let signed = format!("{head}.{}", part(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A `.creds` file of a user who may do this.
fn creds(
    account: &KeyPair,
    expires: Option<SystemTime>,
    publish: &[String],
    inbox: &str,
) -> String {
    let user = KeyPair::new_user();
    let nats = json!({
        "pub": {"allow": publish}, "sub": {"allow": [inbox]}, "subs": -1, "data": -1,
        "payload": -1, "type": "user", "version": 2,
    });
    let jwt = jwt(account, &user, expires, nats);
    let seed = user.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// Servers that believe an operator, and the account in which the stream is.
async fn with_operator() -> Option<(Ground, KeyPair)> {
    let (operator, account, system) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
    );
    let operator_jwt = jwt(
        &operator,
        &operator,
        None,
        json!({"type": "operator", "version": 2, "system_account": system.public_key()}),
    );
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of = |key: &KeyPair, limits: &Value| {
        let nats = json!({"limits": limits, "type": "account", "version": 2});
        format!(
            "{}: \"{}\"",
            key.public_key(),
            jwt(&operator, key, None, nats)
        )
    };
    let no_storage = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let config = format!(
        "operator: \"{operator_jwt}\"\nresolver: MEMORY\nresolver_preload {{ {}\n{} }}",
        of(&account, &limits),
        of(&system, &no_storage),
    );
    let cluster = Cluster::start(&Setup { nodes: 1, config })?;
    let admin = creds(&account, None, &[">".to_owned()], ">");
    let admin = ConnectOptions::with_credentials(&admin).unwrap();
    let client = admin.connect(addresses(&cluster)).await.unwrap();
    Some((Ground::on(cluster, client).await, account))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_pause_until_new_ones_are_there() {
    let Some((ground, account)) = with_operator().await else {
        return;
    };
    let soon = SystemClock.wall() + Duration::from_secs(4);
    let text = |expires| creds(&account, expires, &rights(), "_INBOX_s.>");
    let secret = Secret::new(&ground, &text(Some(soon)));
    let target = ground
        .target("s")
        .with_credentials(Credentials::Creds(secret.source()));
    let queue = ground.open_to("s", target).await;
    append(&queue, "s", [1]).await;
    drained(&queue).await;
    // Once they have expired, the connection is closed and none is let in again.
    let mut count = 1;
    while queue.status().pending == 0 {
        count += 1;
        append(&queue, "s", [count]).await;
        let is_over = |status: &everpost::Status| {
            status.pending == 0 || matches!(status.flusher, everpost::FlusherState::Paused { .. })
        };
        crate::ground::until(&queue, is_over).await;
    }
    let words = paused(&queue, PauseReason::Credentials).await;
    assert!(
        words.contains("Authorization Violation") || words.contains("Expired"),
        "{words}"
    );
    let requests = queue.status().requests;
    assert!(requests < count + 20, "no hot loop: {requests} for {count}");
    secret.is_now(&text(None));
    drained(&queue).await;
    close(queue).await;
    ground.assert_once("s", count).await;
}

/// A server with a certificate of its own authority: where the files are, and the authority's PEM.
pub(crate) fn certificate(dir: &Path) -> (String, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = dir.join("ca.pem");
    fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::from_params(&params, &key);
    let own = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let signed = CertificateParams::new(names)
        .unwrap()
        .signed_by(&own, &issuer)
        .unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, signed.pem()).unwrap();
    fs::write(&key, own.serialize_pem()).unwrap();
    let config = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        cert.display(),
        key.display()
    );
    (config, ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_where_the_server_or_the_address_says_so() {
    let dir = TempDir::new().unwrap();
    let (config, ca) = certificate(dir.path());
    let Some(cluster) = Cluster::start(&Setup { nodes: 1, config }) else {
        return;
    };
    let options = ConnectOptions::new().add_root_certificates(ca.clone());
    let client = options
        .require_tls(true)
        .connect(addresses(&cluster))
        .await
        .unwrap();
    let ground = Ground::on(cluster, client).await;
    let address = ground.cluster.url();
    for (round, address) in [address.clone(), address.replace("nats://", "tls://")]
        .iter()
        .enumerate()
    {
        let target = Target::parse(address, name("s")).unwrap();
        let target = target.with_names(ground.names.clone()).with_ca_file(&ca);
        let queue = ground.open_to("s", target).await;
        let from = round as u64 * 10;
        append(&queue, "s", from + 1..=from + 10).await;
        drained(&queue).await;
        close(queue).await;
    }
    ground.assert_once("s", 20).await;
    let unknown = ground.target("s").build().unwrap();
    let outcome = unknown.deliver(request(21, &[event("s", 21)])).await;
    assert_eq!(
        outcome.verdict,
        Verdict::Pause(PauseReason::Address),
        "{outcome:?}"
    );
    let words = outcome.answer.detail.unwrap_or_default();
    assert!(words.contains("no authority that is trusted"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_tls_in_the_address_nothing_is_said_in_clear() {
    let Some(ground) = Ground::one().await else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let (_, ca) = certificate(dir.path());
    let address = ground.cluster.url().replace("nats://", "tls://");
    let target = Target::parse(&address, name("s")).unwrap();
    let sink = target.with_ca_file(ca).build().unwrap();
    let outcome = sink.deliver(request(1, &[event("s", 1)])).await;
    assert_eq!(
        outcome.verdict,
        Verdict::Pause(PauseReason::Address),
        "{outcome:?}"
    );
    assert!(ground.stored().await.is_empty());
}
