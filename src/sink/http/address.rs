//! Where requests go: the base URL, checked.

use std::fmt;
use std::net::IpAddr;

use url::Url;

use crate::error::Error;

/// Where requests go: `{base without trailing /}/messages`, checked.
#[derive(Clone)]
pub(in crate::sink) struct Address {
    pub(super) url: Url,
    /// It is this machine, whatever a file of hosts or a name server says.
    pub(super) is_loopback: bool,
}

impl Address {
    /// # Errors
    /// [`Error::Sink`] if the base is no URL, carries credentials, a query or a fragment, is
    /// plain HTTP to another machine, or needs TLS that this build does not have.
    pub(in crate::sink) fn from_base(base: &str) -> Result<Self, Error> {
        let joined = format!("{}/messages", base.trim().trim_end_matches('/'));
        // The URL itself stays out of these texts until it is known to carry no credentials.
        let url = Url::parse(&joined)
            .map_err(|source| unusable(format!("base URL cannot be read: {source}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("base URL carries credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(unusable("base URL carries a query or a fragment"));
        }
        let host = url.host_str().unwrap_or_default();
        let is_loopback = is_loopback(host);
        match url.scheme() {
            "https" if !cfg!(any(feature = "rustls", feature = "native-tls")) => {
                return Err(unusable(
                    "https needs TLS, and this build has none: enable the feature `rustls` or \
                     `native-tls` of everpost",
                ));
            }
            "http" if !is_loopback => {
                return Err(unusable(format!(
                    "plain HTTP would send the key in clear; use https, or `127.0.0.1` if this \
                     machine is meant. host=`{host}`"
                )));
            }
            "https" | "http" => {}
            scheme => {
                return Err(unusable(format!(
                    "base URL is neither https nor http. scheme=`{scheme}`"
                )));
            }
        }
        Ok(Self { url, is_loopback })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

pub(in crate::sink) fn unusable(reason: impl Into<String>) -> Error {
    Error::Sink {
        reason: reason.into(),
    }
}

/// Whether a host, as a URL has it, is this machine by its name alone, without asking a name server:
/// RFC 6761 section 6.3 keeps `localhost` and every name below it for that.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return ip.to_canonical().is_loopback();
    }
    let name = bare.strip_suffix('.').unwrap_or(bare);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_joined_once() {
        for base in [
            "http://localhost:8080/v2",
            "http://localhost:8080/v2/",
            " http://localhost:8080/v2//\n",
        ] {
            let address = Address::from_base(base).unwrap();
            assert_eq!(address.url.as_str(), "http://localhost:8080/v2/messages");
        }
        let bare = Address::from_base("http://127.0.0.1").unwrap();
        assert_eq!(bare.url.as_str(), "http://127.0.0.1/messages");
    }

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:80",
            "api.LocalHost",
            "localhost.:8080",
            // Other ways to write 127.0.0.1.
            "127.1",
            "0x7f.1:80",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
            "[::ffff:127.0.0.1]",
        ] {
            let address = Address::from_base(&format!("http://{host}/v2")).unwrap();
            assert!(address.is_loopback, "{host}");
        }
        for host in [
            "api.beta.botanalytics.co",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "example.com:127",
            "192.168.0.1",
            "0.0.0.0",
            "0",
            "[::]",
            "[::ffff:0.0.0.0]",
            "[::ffff:192.168.0.1]",
            "localhost..",
            "notlocalhost",
            "localhost.example",
            "[2001:db8::1]",
        ] {
            let error = Address::from_base(&format!("http://{host}/v2")).unwrap_err();
            assert!(error.to_string().contains("plain HTTP"), "{host}: {error}");
        }
    }

    #[test]
    fn odd_bases_are_refused_without_repeating_credentials() {
        for base in [
            "",
            "localhost",
            "/v2",
            "ftp://localhost",
            "file:///tmp",
            "http://user:hunter2@localhost/",
            "http://hunter2@localhost/",
            "http://localhost/?key=hunter2",
            "http://localhost/#hunter2",
            "http://:hunter2@/",
            "http://[::1/hunter2",
        ] {
            let error = Address::from_base(base).unwrap_err();
            assert!(matches!(error, Error::Sink { .. }), "{base}: {error:?}");
            assert!(!error.to_string().contains("hunter2"), "{base}: {error}");
        }
    }

    #[test]
    fn https_needs_a_build_with_tls() {
        let address = Address::from_base("https://api.beta.botanalytics.co/v2");
        if cfg!(any(feature = "rustls", feature = "native-tls")) {
            assert!(!address.unwrap().is_loopback);
        } else {
            assert!(address.unwrap_err().to_string().contains("`rustls`"));
        }
    }
}
