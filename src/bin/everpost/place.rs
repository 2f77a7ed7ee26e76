//! Which spool is meant, and who said so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::args::Cli;
use crate::fault::Fault;

/// The spool of the service, as the unit in `packaging/` has it.
const OF_SERVICE: &str = "/var/lib/everpost";

/// Where the relay of the machine has its spools.
const OF_RELAY: &str = "/var/lib/everpost-relay";

/// A spool and who named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// As it is shown.
    pub(crate) by: &'static str,
}

impl Place {
    /// The spool that was named; otherwise that of the service under systemd and for root, and one
    /// of the user's own for every other user.
    ///
    /// # Errors
    /// A fault if no spool is named and there is no home directory.
    pub(crate) fn of(cli: &Cli) -> Result<Self, Fault> {
        if let Some(path) = cli.spool.clone().filter(|path| *path != Path::new("")) {
            let is_variable = std::env::var_os("EVERPOST_SPOOL").is_some_and(|var| *path == *var);
            let by = if is_variable {
                "EVERPOST_SPOOL"
            } else {
                "--spool"
            };
            return Ok(Self { path, by });
        }
        Self::unnamed(is_root(), |name| std::env::var_os(name)).ok_or_else(|| {
            Fault::usage("no spool is named, and there is no home directory to have one in")
                .hint("add --spool DIR, or set EVERPOST_SPOOL")
        })
    }

    /// The directory of a relay if none is named: a spool for each channel is in it.
    ///
    /// # Errors
    /// A fault if there is no home directory.
    pub(crate) fn of_relay() -> Result<PathBuf, Fault> {
        let place = Self::unnamed(is_root(), |name| std::env::var_os(name)).ok_or_else(|| {
            Fault::usage("no directory is named, and there is no home directory to have one in")
                .hint("add --dir DIR")
        })?;
        Ok(match place.by {
            "STATE_DIRECTORY" => place.path,
            _ if place.path == Path::new(OF_SERVICE) => OF_RELAY.into(),
            _ => place.path.with_file_name("relay"),
        })
    }

    fn unnamed(is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        // The specification of the base directories wants relative ones to be passed over.
        let dir = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute())
        };
        if let Some(dirs) = variable("STATE_DIRECTORY") {
            let first = std::env::split_paths(&dirs).find(|dir| dir.is_absolute());
            if let Some(path) = first {
                let by = "STATE_DIRECTORY";
                return Some(Self { path, by });
            }
        }
        if is_root {
            let (path, by) = (OF_SERVICE.into(), "the default for root");
            return Some(Self { path, by });
        }
        let state = dir("XDG_STATE_HOME").map(|path| (path, "XDG_STATE_HOME"));
        let home = || dir("HOME").map(|home| (home.join(".local/state"), "the default"));
        let (path, by) = state.or_else(home)?;
        let path = path.join("everpost/spool");
        Some(Self { path, by })
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unnamed(is_root: bool, variables: &[(&str, &str)]) -> Option<(String, &'static str)> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let place = Place::unnamed(is_root, variable)?;
        Some((place.path.display().to_string(), place.by))
    }

    #[test]
    fn without_a_name_the_service_root_and_users_have_spools_of_their_own() {
        let service = ("STATE_DIRECTORY", "/var/lib/everpost:/var/lib/other");
        let home = ("HOME", "/home/u");
        let state = ("XDG_STATE_HOME", "/s");
        for (is_root, variables, path, by) in [
            (
                false,
                &[service, home][..],
                "/var/lib/everpost",
                "STATE_DIRECTORY",
            ),
            (true, &[home, state], OF_SERVICE, "the default for root"),
            (false, &[home, state], "/s/everpost/spool", "XDG_STATE_HOME"),
            (
                false,
                &[home, ("XDG_STATE_HOME", "relative")],
                "/home/u/.local/state/everpost/spool",
                "the default",
            ),
        ] {
            let found = unnamed(is_root, variables);
            assert_eq!(found, Some((path.to_owned(), by)), "{variables:?}");
        }
        assert_eq!(unnamed(false, &[]), None);
        assert_eq!(unnamed(false, &[("HOME", "")]), None);
    }
}
