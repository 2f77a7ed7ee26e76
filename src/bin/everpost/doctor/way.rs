//! The way to the API: key, address, name, connection, TLS, proxy.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everpost::botanalytics::{BASE_URL, Key, KeyError};
use everpost::clock::{Clock as _, SystemClock};
use everpost::http::Receiver;
use everpost::http::{Proxy, Route};
use everpost::{Answer, Error, Sink as _};

use super::Finding;
use crate::environment;
use crate::eyes::blocking;
use crate::fault::Fault;
use crate::settings::Effective;
use crate::text::time;

/// A key that ends sooner is worth a word.
const SOON: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A key is a few hundred bytes.
const KEY_BYTES_MAX: u64 = 64 << 10;

fn set(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

pub(super) async fn key(effective: &Effective) -> Vec<Finding> {
    let file = effective.service().key_file.clone();
    let file = file.filter(|_| !environment::is_key_in_variable(effective));
    let looked = blocking(move || Ok(look_at_key(file))).await;
    looked.unwrap_or_else(|fault| vec![Finding::of("key", fault)])
}

fn look_at_key(file: Option<PathBuf>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let read = match (file, set("BA_API_KEY")) {
        (Some(path), _) => {
            findings.extend(exposed(&path));
            let named = format!("the file {}", path.display());
            from_file(&path).map(|key| (key, named))
        }
        (None, Some(key)) => {
            let key = key.into_string().map_err(|_| KeyError::Characters);
            let key = key.and_then(Key::parse).map_err(|error| of(&error));
            key.map(|key| (key, "BA_API_KEY".to_owned()))
        }
        (None, None) => {
            let hint = "set BA_API_KEY, or BA_API_KEY_FILE to a file that holds the key";
            Err(Fault::usage("there is no key").hint(hint))
        }
    };
    findings.push(match read {
        Ok((key, source)) => held_against_the_clock(&key, &source),
        Err(fault) => Finding::of("key", fault),
    });
    findings
}

fn of(error: &KeyError) -> Fault {
    Fault::usage(error.to_string()).hint(error.hint())
}

/// Only a regular file is opened: another one may never answer.
fn from_file(path: &Path) -> Result<Key, Fault> {
    let failed = |why: String| {
        let text = format!(
            "the file with the key cannot be read: {why}. path=`{}`",
            path.display()
        );
        Fault::usage(text).hint("see that BA_API_KEY_FILE names it, and that this user may read it")
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("it is no regular file".to_owned()));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let read = file.take(KEY_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    Key::parse(text).map_err(|error| of(&error))
}

fn held_against_the_clock(key: &Key, source: &str) -> Finding {
    let now = SystemClock.wall();
    let text = format!("from {source}, for the channel `{}`", key.channel());
    match key.expires() {
        None => Finding::ok("key", format!("{text}; it does not end")),
        Some(end) if end <= now => Finding::fail(
            "key",
            format!("{text}; it ended {}", time(end)),
            "make a new key in the project's settings; if this one is new, set the clock",
        ),
        Some(end) if end <= now + SOON => Finding::warn(
            "key",
            format!("{text}; it ends {}", time(end)),
            "make a new key in the project's settings in time",
        ),
        Some(end) => Finding::ok("key", format!("{text}; it ends {}", time(end))),
    }
}

/// A key that others may read.
#[cfg(unix)]
fn exposed(path: &Path) -> Option<Finding> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o007 != 0).then(|| {
        let text = format!("every user of this machine may use it: mode {mode:04o}");
        Finding::warn("keyfile", text, format!("`chmod 0600 {}`", path.display()))
    })
}

#[cfg(not(unix))]
fn exposed(_: &Path) -> Option<Finding> {
    None
}

/// Whether the secrets of a receiver can be read.
pub(super) async fn secrets(receiver: &Receiver) -> Vec<Finding> {
    let built = receiver.clone().builder().wait_for_secrets().build();
    let sink = match built {
        Ok(sink) => sink,
        Err(error) => return vec![unusable(error)],
    };
    vec![match sink.hindrance().await {
        None => Finding::ok("secrets", "all are there that requests need"),
        Some(hindrance) => Finding::fail(
            "secrets",
            hindrance.answer.detail.unwrap_or_default(),
            "put it where the settings say; everything is kept meanwhile",
        ),
    }]
}

/// The way to the API.
pub(super) async fn address(effective: &Effective, patience: Duration) -> Vec<Finding> {
    let base = effective.service().base_url.as_deref().unwrap_or(BASE_URL);
    let builder = environment::sink_builder(effective);
    let route = Proxy::Environment.route(base);
    along(base, builder.knock(), route, patience).await
}

/// The way to a receiver.
pub(super) async fn receiver(receiver: &Receiver, patience: Duration) -> Vec<Finding> {
    let address = receiver.address();
    let builder = receiver.clone().builder();
    let route = receiver.wire().route(address);
    along(address, builder.knock(), route, patience).await
}

/// Looks as far along the way as it goes.
async fn along(
    base: &str,
    knock: impl Future<Output = Result<Answer, Error>>,
    route: Result<Route, Error>,
    patience: Duration,
) -> Vec<Finding> {
    // A knock is an attempt like every other: through the proxy if there is one, with TLS.
    let knocked = tokio::time::timeout(patience * 2, knock).await;
    let answer = match knocked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return vec![unusable(error)],
        Err(_) => Answer::from_detail("no answer in time"),
    };
    let mut findings = vec![Finding::ok("address", base)];
    let route = match route {
        Ok(route) => route,
        Err(error) => return vec![unusable(error)],
    };
    if route.proxy().is_some() || route.variable().is_some() {
        findings.push(Finding::ok("proxy", format!("requests go {route}")));
    }
    if answer.status.is_some() {
        let tls = if base.starts_with("https") {
            " over TLS"
        } else {
            ""
        };
        let text = format!("an answer came{tls} ({})", crate::view::said(&answer));
        findings.push(Finding::ok("api", text));
        return findings;
    }
    // Which part of the way it is.
    if route.proxy().is_none()
        && let Some(finding) = name(base, patience).await
    {
        findings.push(finding);
    }
    let said = crate::view::said(&answer);
    let advice = advice(&said);
    findings.push(Finding::fail("api", said, advice));
    findings
}

/// What to do about no answer. What TLS dislikes is told apart by its words, which are those of
/// rustls.
fn advice(said: &str) -> &'static str {
    if said.contains("peer certificate") {
        "see that the clock is right, and that the authority which signed the certificate is among the \
         roots of this system, or in a file that SSL_CERT_FILE names; everything is kept meanwhile"
    } else if said.contains("corrupt message") {
        "what answers there speaks no TLS: see that address and port are right; everything is kept \
         meanwhile"
    } else {
        "see that the network, a firewall and the clock let requests through; everything is kept meanwhile"
    }
}

fn unusable(error: Error) -> Finding {
    Finding::of("address", error.into())
}

/// Whether the name of the host can be looked up.
async fn name(base: &str, patience: Duration) -> Option<Finding> {
    let rest = base.split_once("://")?.1;
    let host = rest.split('/').next()?.to_owned();
    let is_number = host.parse::<std::net::SocketAddr>().is_ok()
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok();
    if is_number {
        // There is nothing to look up.
        return None;
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port {
        host.clone()
    } else {
        format!("{host}:443")
    };
    let looked = tokio::time::timeout(patience, tokio::net::lookup_host(target)).await;
    Some(match looked {
        Ok(Ok(addresses)) => {
            let addresses: Vec<String> = addresses.map(|to| to.ip().to_string()).collect();
            Finding::ok("name", format!("{host} is {}", addresses.join(", ")))
        }
        Ok(Err(error)) => {
            let text = format!("{host}: {error}");
            Finding::fail(
                "name",
                text,
                "see that the name server answers (/etc/resolv.conf)",
            )
        }
        Err(_) => {
            let text = format!("{host}: the name server does not answer");
            Finding::fail(
                "name",
                text,
                "see that the name server answers (/etc/resolv.conf)",
            )
        }
    })
}
