//! The hosts that a request over TCP may name.
//!
//! A page in a browser can reach a port of its machine under a name that it has made point there, and
//! is then taken for a page of that port. So the host has to be one that no other machine can have.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use hyper::header::HOST;
use hyper::{HeaderMap, StatusCode, Uri, Version};

/// The names under which a port may be asked, besides addresses and `localhost`; in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(Vec<String>);

/// What is wrong with the host of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Several,
    None,
    Unknown,
}

impl Hosts {
    /// With this name too.
    pub(crate) fn add(&mut self, name: String) {
        self.0.push(name.to_ascii_lowercase());
    }

    /// Whether a request for this host, with or without a port, is meant for here.
    ///
    /// An address cannot be made to point elsewhere, as a name can, so any is as good as ours: the
    /// client may be on the other side of a forwarded port.
    fn know(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            // What has no port may be an address of version 6, which ends with a bracket then.
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        match bare {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                let is_address = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4());
                is_address || name == "localhost" || self.0.iter().any(|known| known == name)
            }
        }
    }

    pub(crate) fn check(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Wrong> {
        let mut named = headers.get_all(HOST).iter();
        let host = match (uri.authority(), named.next(), named.next()) {
            (_, _, Some(_)) => return Err(Wrong::Several),
            (Some(authority), _, _) => authority.as_str(),
            (None, Some(host), None) => host.to_str().unwrap_or_default(),
            // No browser asks like that, and some balancers do.
            (None, None, None) if version == Version::HTTP_10 => return Ok(()),
            (None, None, None) => return Err(Wrong::None),
        };
        if self.know(host) {
            Ok(())
        } else {
            Err(Wrong::Unknown)
        }
    }
}

impl Wrong {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Several | Self::None => StatusCode::BAD_REQUEST,
            Self::Unknown => StatusCode::MISDIRECTED_REQUEST,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Several => "the request names more than one host",
            Self::None => "the request names no host",
            Self::Unknown => "the host that the request names is not served here",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_names_that_were_given_are_known_and_no_other() {
        let hosts = Hosts(vec!["metrics.example".to_owned()]);
        for known in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "10.1.2.3:1",
            "[::1]",
            "[::1]:9464",
            "[fe80::1]:80",
            "localhost",
            "LocalHost:9464",
            "localhost.",
            "metrics.example:80",
            "Metrics.Example",
        ] {
            assert!(hosts.know(known), "{known}");
        }
        for unknown in [
            "",
            ":80",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:80:80",
            "127.1",
            "0x7f000001",
            "2130706433",
            "[127.0.0.1]",
            "[::1",
            "[evil.example]",
            "user@localhost",
            "metrics.example.evil",
        ] {
            assert!(!hosts.know(unknown), "{unknown}");
        }
    }
}
