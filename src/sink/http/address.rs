//! Where requests go: the base URL, checked.

use std::fmt;
use std::net::IpAddr;

use url::Url;

use crate::error::Error;

/// Where requests go, checked.
#[derive(Clone)]
pub(in crate::sink) struct Address {
    pub(super) url: Url,
    /// Without the query, in which some receivers want a secret.
    pub(super) shown: String,
    /// It is this machine, whatever a file of hosts or a name server says.
    pub(super) is_loopback: bool,
}

impl Address {
    /// `{base without trailing /}/messages`.
    ///
    /// # Errors
    /// As [`Address::from_url`], and if the base carries a query.
    pub(in crate::sink) fn from_base(base: &str, allows_plain_http: bool) -> Result<Self, Error> {
        let joined = format!("{}/messages", base.trim().trim_end_matches('/'));
        let address = Self::parse("base URL", &joined, allows_plain_http)?;
        if address.url.query().is_some() {
            return Err(unusable("base URL carries a query or a fragment"));
        }
        Ok(address)
    }

    /// The URL as it stands, with its query.
    ///
    /// # Errors
    /// [`Error::Sink`] if this is no URL, carries credentials or a fragment, is plain HTTP to
    /// another machine where that is not allowed, or needs TLS that this build does not have.
    pub(in crate::sink) fn from_url(url: &str, allows_plain_http: bool) -> Result<Self, Error> {
        Self::parse("URL", url.trim(), allows_plain_http)
    }

    fn parse(what: &str, text: &str, allows_plain_http: bool) -> Result<Self, Error> {
        // The URL itself stays out of these texts until it is known to carry no credentials.
        let url = Url::parse(text)
            .map_err(|source| unusable(format!("{what} cannot be read: {source}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable(format!("{what} carries credentials")));
        }
        if url.fragment().is_some() {
            let query = if what == "URL" { "" } else { "a query or " };
            return Err(unusable(format!("{what} carries {query}a fragment")));
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
            "http" if !is_loopback && !allows_plain_http => {
                return Err(unusable(format!(
                    "plain HTTP would send the key in clear; use https, or `127.0.0.1` if this \
                     machine is meant; or set `allow_plain_http` where keys and events may be read \
                     and changed by anyone on the way. host=`{host}`"
                )));
            }
            "https" | "http" => {}
            scheme => {
                return Err(unusable(format!(
                    "{what} is neither https nor http. scheme=`{scheme}`"
                )));
            }
        }
        let mut shown = url.clone();
        shown.set_query(None);
        Ok(Self {
            url,
            shown: shown.into(),
            is_loopback,
        })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

pub(in crate::sink) fn unusable(reason: impl Into<String>) -> Error {
    Error::Sink {
        reason: reason.into(),
    }
}

/// Whether a host, as a URL has it, is this machine by its name alone, without asking a name server:
/// RFC 6761 section 6.3 keeps `localhost` and every name below it for that.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return ip.to_canonical().is_loopback();
    }
    let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
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
            let address = Address::from_base(base, false).unwrap();
            assert_eq!(address.url.as_str(), "http://localhost:8080/v2/messages");
        }
        let bare = Address::from_base("http://127.0.0.1", false).unwrap();
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
            let address = Address::from_base(&format!("http://{host}/v2"), false).unwrap();
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
            let error = Address::from_base(&format!("http://{host}/v2"), false).unwrap_err();
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
            let error = Address::from_base(base, false).unwrap_err();
            assert!(matches!(error, Error::Sink { .. }), "{base}: {error:?}");
            assert!(!error.to_string().contains("hunter2"), "{base}: {error}");
        }
    }

    #[test]
    fn https_needs_a_build_with_tls() {
        let address = Address::from_base("https://api.beta.botanalytics.co/v2", false);
        if cfg!(any(feature = "rustls", feature = "native-tls")) {
            assert!(!address.unwrap().is_loopback);
        } else {
            assert!(address.unwrap_err().to_string().contains("`rustls`"));
        }
    }

    #[test]
    fn plain_http_goes_to_other_machines_where_that_is_allowed() {
        for (host, is_here) in [
            ("192.168.0.1", false),
            ("example.com", false),
            ("127.1", true),
        ] {
            let address = Address::from_url(&format!("http://{host}/in"), true).unwrap();
            assert_eq!(address.is_loopback, is_here, "{host}");
        }
        let error = Address::from_url("http://example.com/in", false).unwrap_err();
        assert!(error.to_string().contains("`allow_plain_http`"), "{error}");
        assert!(Address::from_url("ftp://example.com/in", true).is_err());
    }

    /// Some webhooks want their token in the query.
    #[test]
    fn a_query_is_sent_and_shown_nowhere() {
        let address = Address::from_url(" http://localhost/in?token=hunter2\n", false).unwrap();
        assert_eq!(address.url.query(), Some("token=hunter2"));
        assert_eq!(format!("{address:?}"), "http://localhost/in");
        for url in [
            "http://localhost/#hunter2",
            "http://u:hunter2@localhost/",
            "hunter2",
        ] {
            let error = Address::from_url(url, true).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{url}: {error}");
        }
    }
}
