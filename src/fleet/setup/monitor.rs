//! What only the monitoring port of a server tells: whether it syncs before it acknowledges.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::error::Error;
use crate::fleet::connect::fleet;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What a server says of itself at `/jsz`.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) server_id: String,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    meta_cluster: Option<Cluster>,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    #[serde(default)]
    cluster_size: usize,
}

impl Seen {
    pub(super) fn syncs(&self) -> bool {
        self.config.sync_always
    }

    /// How many servers there are.
    pub(super) fn servers(&self) -> usize {
        self.meta_cluster
            .as_ref()
            .map_or(1, |of| of.cluster_size.max(1))
    }
}

/// Asks the monitoring port at this address.
///
/// # Errors
/// [`Error::Fleet`] if it is no such address or nothing usable answers.
pub(super) async fn ask(address: &str) -> Result<Seen, Error> {
    let url = Url::parse(address).ok();
    let url = url.filter(|url| url.scheme() == "http");
    let host = url
        .as_ref()
        .and_then(|url| Some((url.host_str()?, url.port().unwrap_or(80))));
    let Some((host, port)) = host else {
        return Err(failed(address, "it is no address of plain HTTP"));
    };
    let asked = timeout(PATIENCE, fetch(host, port)).await;
    let body = match asked {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return Err(failed(address, &error.to_string())),
        Err(_) => return Err(failed(address, "it does not answer")),
    };
    serde_json::from_slice(&body).map_err(|_| failed(address, "its answer is not that of /jsz"))
}

/// One request as HTTP/1.0 has it: the answer ends with the connection.
async fn fetch(host: &str, port: u16) -> std::io::Result<Vec<u8>> {
    let bare = host.trim_matches(['[', ']']);
    let mut stream = TcpStream::connect((bare, port)).await?;
    let request = format!("GET /jsz HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.map_or(answer.len(), |end| end + 4);
    let status = answer.split(|byte| *byte == b' ').nth(1);
    match status == Some(b"200") {
        true => Ok(answer.split_off(body)),
        false => Err(std::io::Error::other("it answers with an error")),
    }
}

fn failed(address: &str, reason: &str) -> Error {
    // An address may hold a password.
    let shown = address.rsplit('@').next().unwrap_or_default();
    let shown: String = shown.chars().take(100).collect();
    fleet(format!(
        "the monitoring port at {shown} cannot be asked: {reason}; name the `http_port` of a server, \
         such as http://HOST:8222"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_many_servers_there_are_and_whether_this_one_syncs() {
        let seen = |text: &str| serde_json::from_str::<Seen>(text).unwrap();
        let alone = seen(r#"{"server_id":"A","config":{"sync_interval":120000000000}}"#);
        assert_eq!((alone.syncs(), alone.servers()), (false, 1));
        let one = seen(
            r#"{"server_id":"A","config":{"sync_always":true},"meta_cluster":{"cluster_size":3}}"#,
        );
        assert_eq!((one.syncs(), one.servers()), (true, 3));
    }

    #[tokio::test]
    async fn what_is_no_monitoring_port_is_named_without_a_password() {
        for address in [
            "",
            "nats://a:8222",
            "https://a",
            "http://u:secret@127.0.0.1:1",
        ] {
            let error = ask(address).await.unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
