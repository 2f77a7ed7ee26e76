//! A place to listen at, as it is typed and as a file has it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::listen;

/// Begins what stands for a Unix socket.
const UNIX: &str = "unix:";

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Spot {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Spot {
    /// The address, if other machines can reach it.
    pub(crate) fn public(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) if !address.ip().is_loopback() => Some(*address),
            _ => None,
        }
    }
}

impl TryFrom<String> for Spot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        spot(&text)
    }
}

/// An address with a port, or `unix:` and a path.
pub(crate) fn spot(text: &str) -> Result<Spot, String> {
    let Some(path) = text.strip_prefix(UNIX) else {
        return listen::address(text).map(Spot::Tcp).map_err(|error| {
            format!("{error}, or unix:/run/everpost/relay.sock for a Unix socket")
        });
    };
    let path = Path::new(path);
    if cfg!(not(unix)) {
        return Err("this system has no Unix sockets; write 127.0.0.1:7679".to_owned());
    }
    if !path.is_absolute() || path.file_name().is_none() {
        return Err("write the whole path, such as unix:/run/everpost/relay.sock".to_owned());
    }
    Ok(Spot::Unix(path.to_owned()))
}

/// The rights of a file, as `chmod` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Mode(pub(crate) u32);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        mode(&text)
    }
}

pub(crate) fn mode(text: &str) -> Result<Mode, String> {
    let is_octal =
        (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        // Its user has to be able to connect, if only to find out whether it is still served.
        Ok(mode) if is_octal && mode <= 0o777 && mode & 0o600 == 0o600 => Ok(Mode(mode)),
        _ => Err("it is no mode of a socket; write 0600, 0660 or 0666".to_owned()),
    }
}

/// Requests a second.
pub(crate) fn rate(text: &str) -> Result<NonZeroU32, String> {
    let wrong = "it is no number of requests a second; write 50";
    text.parse().map_err(|_| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_with_a_port_or_the_whole_path_of_a_socket() {
        let unix = Spot::Unix(PathBuf::from("/run/everpost/relay.sock"));
        assert_eq!(spot("unix:/run/everpost/relay.sock"), Ok(unix));
        assert!(spot("127.0.0.1:0").is_ok() && spot("localhost:1").is_ok());
        for bad in ["unix:", "unix:relay.sock", "unix:/", "127.0.0.1", "/run/x"] {
            assert!(spot(bad).unwrap_err().contains("unix:/run/"), "{bad}");
        }
        assert!(spot("0.0.0.0:1").unwrap().public().is_some());
        assert!(spot("[::1]:1").unwrap().public().is_none());
    }

    #[test]
    fn a_mode_lets_its_user_in() {
        for good in ["0660", "600", "0777"] {
            assert!(mode(good).is_ok(), "{good}");
        }
        for bad in [
            "", "0", "660 ", "0060", "1777", "rw", "+660", "00660", "888",
        ] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
