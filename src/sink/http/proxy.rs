//! Whether requests go through a proxy: read once, checked, decided.

use std::env::VarError;
use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::super::key::{Login, percent_decoded};
use super::address::{Address, unusable};
use crate::error::Error;

/// How a request reaches the API. Requests to this machine never go through a proxy.
///
/// In settings it is a text: `environment`, `none`, or the URL. A URL with a login is not written
/// there.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// As the environment says, in capitals or else in small letters. `HTTPS_PROXY` names the
    /// proxy, or else `ALL_PROXY`; `NO_PROXY` exempts hosts from both. For plain HTTP to another
    /// machine, where that is allowed, `HTTP_PROXY` stands in the place of `HTTPS_PROXY`. The
    /// settings of the operating system are not read. In a CGI program (`REQUEST_METHOD` is set)
    /// there is no proxy, since a client could set `HTTP_PROXY` there.
    ///
    /// The variable that applies is checked, since to go straight where a proxy was meant is no
    /// answer to a misspelt one. The others are not: what is not used cannot be wrong.
    #[default]
    Environment,
    /// Straight to the API, whatever the environment says.
    None,
    /// Through the HTTP proxy at this URL, which may carry a user and a password.
    Url(String),
}

/// Never shows the URL, since it may carry a password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::None => "None",
            Self::Url(_) => "Url(..)",
        })
    }
}

impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Environment => "environment",
            Self::None => "none",
            Self::Url(url) if url.contains('@') => {
                return Err(serde::ser::Error::custom(
                    "the URL of a proxy with a login is not written into settings; put it into \
                     the variable `HTTPS_PROXY`",
                ));
            }
            Self::Url(url) => url,
        })
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "environment" => Self::Environment,
            "none" => Self::None,
            _ => Self::Url(text),
        })
    }
}

impl Proxy {
    /// The way that requests to this base URL take.
    ///
    /// ```
    /// use everpost::http::Proxy;
    ///
    /// let proxy = Proxy::Url("http://me:secret@proxy.example:3128".into());
    /// # if cfg!(any(feature = "rustls", feature = "native-tls")) {
    /// let route = proxy.route("https://api.example/v2")?;
    /// assert_eq!(route.to_string(), "through http://proxy.example:3128");
    /// # }
    /// assert_eq!(proxy.route("http://localhost:8080/v2")?.to_string(), "straight");
    /// # Ok::<(), everpost::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Sink`] if the base URL is not usable, or the proxy that applies to it is none: its
    /// address is quoted, has a blank in it, no host, or another scheme than `http` and `https`.
    pub fn route(&self, base_url: &str) -> Result<Route, Error> {
        self.decide(&Address::from_base(base_url, false)?)
    }

    pub(in crate::sink) fn decide(&self, address: &Address) -> Result<Route, Error> {
        self.decide_by(address, |name| std::env::var(name))
    }

    fn decide_by(
        &self,
        address: &Address,
        variable: impl Fn(&str) -> Result<String, VarError>,
    ) -> Result<Route, Error> {
        match self {
            Self::Url(url) => {
                let proxy = Named::read("the proxy that was set", url)?;
                // What is meant for this machine must not leave it.
                let proxy = (!address.is_loopback).then_some(proxy);
                Ok(Route { proxy, by: None })
            }
            Self::Environment if !address.is_loopback => from_environment(address, variable),
            Self::Environment | Self::None => Ok(Route::straight(None)),
        }
    }
}

/// The way that requests take to one address: straight, or through a proxy.
#[derive(Clone)]
pub struct Route {
    proxy: Option<Named>,
    by: Option<&'static str>,
}

impl Route {
    fn straight(by: Option<&'static str>) -> Self {
        Self { proxy: None, by }
    }

    /// The proxy, without the user and the password; none if requests go straight to the API.
    #[must_use]
    pub fn proxy(&self) -> Option<&str> {
        self.proxy.as_ref().map(|proxy| proxy.shown.as_str())
    }

    /// The variable of the environment that decided, such as `HTTPS_PROXY`, or `NO_PROXY` where it
    /// exempts the address from a proxy.
    #[must_use]
    pub fn variable(&self) -> Option<&'static str> {
        self.by
    }

    pub(in crate::sink) fn login(&self) -> Option<&Login> {
        self.proxy.as_ref()?.login.as_ref()
    }

    pub(super) fn proxy_with_login(&self) -> Option<&str> {
        Some(self.proxy.as_ref()?.url.expose_secret())
    }
}

/// `straight`, or `through http://proxy:3128 (HTTPS_PROXY)`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proxy() {
            Some(proxy) => write!(f, "through {proxy}")?,
            None => f.write_str("straight")?,
        }
        match self.by {
            Some(variable) => write!(f, " ({variable})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({self})")
    }
}

fn from_environment(
    address: &Address,
    variable: impl Fn(&str) -> Result<String, VarError>,
) -> Result<Route, Error> {
    // The same names in the same order as curl and reqwest have them (hyper-util 0.1.21
    // src/client/proxy/matcher.rs): what is set in capitals counts, even if it is empty.
    let first = |names: [&'static str; 2]| {
        let mut named = names.map(|name| (name, variable(name))).into_iter();
        named.find(|(_, value)| !matches!(value, Err(VarError::NotPresent)))
    };
    if variable("REQUEST_METHOD").is_ok() {
        return Ok(Route::straight(Some("REQUEST_METHOD")));
    }
    let own = match address.url.scheme() {
        "https" => ["HTTPS_PROXY", "https_proxy"],
        _ => ["HTTP_PROXY", "http_proxy"],
    };
    let pairs = [own, ["ALL_PROXY", "all_proxy"]];
    let empty = |value: &Result<String, VarError>| value.as_ref().is_ok_and(String::is_empty);
    let mut set = pairs.into_iter().filter_map(first);
    let Some((name, value)) = set.find(|(_, value)| !empty(value)) else {
        return Ok(Route::straight(None));
    };
    if let Some((exempting, Ok(exempt))) = first(["NO_PROXY", "no_proxy"]) {
        let matcher = Matcher::builder().all("http://proxy").no(exempt).build();
        let uri = address.url.as_str().parse();
        if uri.is_ok_and(|uri| matcher.intercept(&uri).is_none()) {
            return Ok(Route::straight(Some(exempting)));
        }
    }
    let value = value.map_err(|_| no_proxy(name, "it is not UTF-8", None))?;
    Ok(Route {
        proxy: Some(Named::read(name, &value)?),
        by: Some(name),
    })
}

/// The address of a proxy, checked.
#[derive(Clone)]
struct Named {
    /// As it was given, with the user and the password.
    url: SecretString,
    /// Without them.
    shown: String,
    login: Option<Login>,
}

impl Named {
    /// # Errors
    /// [`Error::Sink`] if the HTTP client would not take it for a proxy, or for another one.
    fn read(name: &str, value: &str) -> Result<Self, Error> {
        Self::parse(value).map_err(|what| no_proxy(name, &what, Some(value)))
    }

    fn parse(value: &str) -> Result<Self, String> {
        if value.contains(['"', '\'', '`']) {
            return Err("there are quotes in it".to_owned());
        }
        if value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("there is a blank in it".to_owned());
        }
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => {}
            "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err("SOCKS is not spoken here, only HTTP is".to_owned());
            }
            _ => return Err("its scheme is neither http nor https".to_owned()),
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if path.contains('@') || user.is_some_and(|user| user.contains('@')) {
            let what = "`@`, `/`, `?` and `#` in the user or the password must be percent-encoded";
            return Err(what.to_owned());
        }
        let shown = format!("{scheme}://{host}");
        let parsed = Url::parse(&shown).ok();
        let has_host = parsed.as_ref().and_then(Url::host_str).is_some();
        if host.starts_with(':') || host.ends_with(':') || !has_host {
            return Err("there is no host in it, or no port that can be one".to_owned());
        }
        let url = format!("{scheme}://{authority}");
        // The same reading as that of the HTTP client.
        let matcher = Matcher::builder().all(url.as_str()).build();
        let anywhere = "https://host/".parse();
        if !anywhere.is_ok_and(|uri| matcher.intercept(&uri).is_some()) {
            return Err("it cannot be read".to_owned());
        }
        let login = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            Login {
                user: percent_decoded(user),
                password: percent_decoded(password).into(),
            }
        });
        Ok(Self {
            url: url.into(),
            shown,
            login,
        })
    }
}

/// What is wrong with the address of a proxy, and what to type instead.
fn no_proxy(name: &str, what: &str, value: Option<&str>) -> Error {
    let typed = value.map(without_login).unwrap_or_default();
    // What was probably meant, if it can be guessed and there is nothing secret in it.
    let bare = typed.trim_matches(|c: char| c.is_whitespace() || "\"'`".contains(c));
    let host = bare.split_once("://").map_or(bare, |(_, host)| host);
    let meant = format!("http://{host}");
    let meant = match Named::parse(&meant) {
        Ok(Named { login: None, .. }) if !bare.starts_with("socks") => meant.as_str(),
        _ => "http://HOST:PORT",
    };
    let cure = match name.contains(' ') {
        true => format!("write `{meant}`"),
        false => format!("type `export {name}={meant}`, or `unset {name}` to go straight"),
    };
    let shown: String = typed
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect();
    unusable(format!(
        "{name} is no address of a proxy: {what}; {cure}. value=`{shown}`"
    ))
}

/// An address that may be none, without what stands before an `@`, where a password may be.
fn without_login(value: &str) -> String {
    let Some((login, rest)) = value.rsplit_once('@') else {
        return value.to_owned();
    };
    match login.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://[login]@{rest}"),
        None => format!("[login]@{rest}"),
    }
}

#[cfg(test)]
mod tests;
