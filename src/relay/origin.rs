//! Origins: where a page in a browser comes from.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// Bytes of a host name: RFC 1035, section 2.3.4.
const HOST_BYTES_MAX: usize = 253;

/// The origin of pages in browsers, `https://example.org` or `http://localhost:8080`, exactly as the
/// header `Origin` has it: scheme, host, and the port if it is not the usual one.
///
/// Origins are compared as a whole: a name in front of a host is another origin, and there is no
/// sign that stands for several. `null`, which pages of no origin send, is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// As the header has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "it is no origin; write https://example.org or http://localhost:8080, in lower case, without a \
     path and without the usual port"
)]
pub struct OriginError(());

impl FromStr for Origin {
    type Err = OriginError;

    /// # Errors
    /// [`OriginError`], which says what to write instead.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        if is_origin(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(OriginError(()))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_origin(text: &str) -> bool {
    let (rest, usual) = match text.split_once("://") {
        Some(("https", rest)) => (rest, "443"),
        Some(("http", rest)) => (rest, "80"),
        _ => return false,
    };
    let (host, port) = match rest.rsplit_once(':') {
        // What has no port may be an address of version 6, which ends with a bracket then.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let is_port = port.is_none_or(|port| {
        let number = port.parse::<u16>();
        // One spelling alone: neither `+80` nor `080`.
        port != usual && number.is_ok_and(|number| number.to_string() == port)
    });
    is_port && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']');
        return address.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        !label.is_empty() && label.bytes().all(is_letter)
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        for good in [
            "https://example.org",
            "http://localhost:8080",
            "https://a.b.example:8443",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "https://xn--bcher-kva.example",
        ] {
            assert_eq!(good.parse::<Origin>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "null",
            "*",
            "example.org",
            "https://",
            "https://*.example.org",
            "https://example.org/",
            "https://example.org/path",
            "https://Example.org",
            "https://example.org:443",
            "http://example.org:80",
            "http://example.org:",
            "http://example.org:080",
            "http://example.org:99999",
            "https://user@example.org",
            "https://example..org",
            "https://example.org.",
            "ftp://example.org",
            "https://[::1",
            "https://exa mple.org",
            "https://example.org\r\nx: y",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
