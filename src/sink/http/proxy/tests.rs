use std::ffi::OsString;

use super::*;

const API: &str = "https://api.example.com/v2";

/// What the environment of these variables decides.
fn decide(base: &str, variables: &[(&str, &str)]) -> Result<Route, Error> {
    let address = Address::from_base(base, false).unwrap();
    Proxy::Environment.decide_by(&address, |name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, value)| (*value).to_owned())
            .ok_or(VarError::NotPresent)
    })
}

fn tls() -> bool {
    cfg!(any(feature = "rustls", feature = "native-tls"))
}

/// A misspelt proxy was ignored and the request went straight, past the firewall's log or into a
/// wall, and not a word was said.
#[test]
fn a_variable_that_names_no_proxy_is_refused_by_its_name() {
    if !tls() {
        return;
    }
    for (value, what, type_this) in [
        ("htp://proxy:3128", "scheme", "http://proxy:3128"),
        ("\"http://proxy:3128\"", "quotes", "http://proxy:3128"),
        ("'proxy:3128'", "quotes", "http://proxy:3128"),
        (" http://proxy:3128", "blank", "http://proxy:3128"),
        ("http://proxy:3128\n", "blank", "http://proxy:3128"),
        ("http://pro xy:3128", "blank", "http://HOST:PORT"),
        ("http://proxy:3128;", "no port", "http://HOST:PORT"),
        ("http://", "no host", "http://HOST:PORT"),
        ("http://:3128", "no host", "http://HOST:PORT"),
        ("://proxy", "scheme", "http://proxy"),
        ("//proxy:3128", "no host", "http://HOST:PORT"),
        ("http:/proxy:3128", "no port", "http://HOST:PORT"),
        ("http://proxy:99999", "no port", "http://HOST:PORT"),
        ("socks5://proxy:1080", "SOCKS", "http://HOST:PORT"),
        ("ftp://proxy", "scheme", "http://proxy"),
        ("http://[::1", "no host", "http://HOST:PORT"),
        ("http://me:p/w@proxy", "percent-encoded", "http://HOST:PORT"),
        ("http://me:p@w@proxy", "percent-encoded", "http://HOST:PORT"),
    ] {
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let error = decide(API, &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is no address")), "{error}");
            assert!(error.contains(what), "{value:?}: {error}");
            let cure = format!("type `export {name}={type_this}`, or `unset {name}`");
            assert!(error.contains(&cure), "{value:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let address = Address::from_base(API, false).unwrap();
        let error = Proxy::Url(value.into()).decide(&address).unwrap_err();
        assert!(
            error.to_string().contains("the proxy that was set is no"),
            "{error}"
        );
    }
}

#[test]
fn the_login_is_never_repeated() {
    if !tls() {
        return;
    }
    for value in [
        "htp://me:hunter2@proxy",
        "\"http://me:hunter2@proxy\"",
        "http://me:hun@ter2@proxy",
        "http://me:hun/ter2@proxy",
        "http://me:hun#ter2@",
        "me:hunter2@ proxy",
        "hunter2@",
    ] {
        let error = decide(API, &[("HTTPS_PROXY", value)]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("[login]@"), "{shown}");
        assert!(!shown.contains("hun") && !shown.contains("ter2"), "{shown}");
    }
    let good = decide(API, &[("HTTPS_PROXY", "http://me:hunt%65r2@proxy:1")]).unwrap();
    assert_eq!(
        format!("{good} {good:?}").matches("http://proxy:1").count(),
        2
    );
    assert!(!format!("{good} {good:?}").contains("hun"), "{good:?}");
    let login = good.login().unwrap();
    assert_eq!(
        (login.user.as_str(), login.password.expose_secret()),
        ("me", "hunter2")
    );
}

#[test]
fn the_variable_that_applies_decides_and_is_named() {
    if !tls() {
        return;
    }
    let cases: [(&[(&str, &str)], &str); 15] = [
        (&[], "straight"),
        (
            &[("HTTPS_PROXY", "http://a:1")],
            "through http://a:1 (HTTPS_PROXY)",
        ),
        (
            &[("https_proxy", "a:1")],
            "through http://a:1 (https_proxy)",
        ),
        (
            &[("ALL_PROXY", "https://a/")],
            "through https://a (ALL_PROXY)",
        ),
        (
            &[("HTTPS_PROXY", "HTTP://A:1"), ("https_proxy", "bad one")],
            "through http://A:1 (HTTPS_PROXY)",
        ),
        (
            &[("all_proxy", "bad one"), ("https_proxy", "http://a:1")],
            "through http://a:1 (https_proxy)",
        ),
        (
            &[("HTTPS_PROXY", ""), ("https_proxy", "http://a:1")],
            "straight",
        ),
        (
            &[("HTTPS_PROXY", ""), ("ALL_PROXY", "a")],
            "through http://a (ALL_PROXY)",
        ),
        (&[("HTTP_PROXY", "htp://bad one")], "straight"),
        (
            &[("HTTPS_PROXY", "a"), ("REQUEST_METHOD", "GET")],
            "straight (REQUEST_METHOD)",
        ),
        (
            &[("HTTPS_PROXY", "a"), ("NO_PROXY", "example.com")],
            "straight (NO_PROXY)",
        ),
        (
            &[("HTTPS_PROXY", "htp://x"), ("no_proxy", "x, .example.com")],
            "straight (no_proxy)",
        ),
        (
            &[("HTTPS_PROXY", "a"), ("NO_PROXY", "*")],
            "straight (NO_PROXY)",
        ),
        (
            &[("HTTPS_PROXY", "a"), ("NO_PROXY", "ple.com")],
            "through http://a (HTTPS_PROXY)",
        ),
        (
            &[("HTTPS_PROXY", "[::1]:1")],
            "through http://[::1]:1 (HTTPS_PROXY)",
        ),
    ];
    for (variables, expected) in cases {
        let route = decide(API, variables).unwrap();
        assert_eq!(route.to_string(), expected, "{variables:?}");
    }
}

#[test]
fn what_goes_to_this_machine_meets_no_proxy() {
    for base in [
        "http://localhost:1",
        "http://127.0.0.1",
        "http://api.localhost",
        "http://[::1]",
    ] {
        for value in ["http://proxy", "htp://bad"] {
            let route = decide(base, &[("HTTPS_PROXY", value), ("HTTP_PROXY", value)]).unwrap();
            assert_eq!((route.proxy(), route.variable()), (None, None), "{base}");
        }
        let route = Proxy::Url("http://me:hunter2@proxy".into())
            .route(base)
            .unwrap();
        assert_eq!(route.proxy(), None);
    }
    // What a program sets is looked at in any case.
    assert!(
        Proxy::Url("htp://bad".into())
            .route("http://localhost")
            .is_err()
    );
}

#[cfg(unix)]
#[test]
fn what_is_not_utf_8_is_refused_too() {
    use std::os::unix::ffi::OsStringExt as _;
    if !tls() {
        return;
    }
    let address = Address::from_base(API, false).unwrap();
    let error = Proxy::Environment.decide_by(&address, |name| match name {
        "HTTPS_PROXY" => Err(VarError::NotUnicode(OsString::from_vec(vec![255]))),
        _ => Err(VarError::NotPresent),
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("HTTPS_PROXY is no address of a proxy: it is not UTF-8"),
        "{error}"
    );
}

/// Plain HTTP to another machine, where it is allowed: the variable of the other scheme says
/// nothing about it.
#[test]
fn plain_http_has_a_variable_of_its_own() {
    let address = Address::from_url("http://example.com/in", true).unwrap();
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("HTTPS_PROXY", "a:1")], "straight"),
        (&[("HTTP_PROXY", "a:1")], "through http://a:1 (HTTP_PROXY)"),
        (&[("http_proxy", "a:1")], "through http://a:1 (http_proxy)"),
        (&[("ALL_PROXY", "a:1")], "through http://a:1 (ALL_PROXY)"),
        (
            &[("HTTP_PROXY", "a:1"), ("REQUEST_METHOD", "GET")],
            "straight (REQUEST_METHOD)",
        ),
    ];
    for (variables, expected) in cases {
        let route = Proxy::Environment.decide_by(&address, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, value)| (*value).to_owned())
                .ok_or(VarError::NotPresent)
        });
        assert_eq!(route.unwrap().to_string(), expected, "{variables:?}");
    }
}

/// Names with and without a dot in front, addresses, and networks.
#[test]
fn hosts_are_exempt_by_name_address_and_network() {
    for (host, exempt, is_exempt) in [
        ("api.example.com", "example.com", true),
        ("api.example.com", ".example.com", true),
        ("example.com", ".example.com", true),
        ("api.example.com", "EXAMPLE.COM", true),
        ("api.example.com", "other, example.com", true),
        ("badexample.com", "example.com", false),
        ("192.168.3.4", "192.168.0.0/16", true),
        ("192.169.3.4", "192.168.0.0/16", false),
        ("192.168.3.4", "192.168.3.4", true),
        ("[2001:db8::1]", "2001:db8::/32", true),
        ("api.example.com", "*", true),
        ("api.example.com", "", false),
    ] {
        let address = Address::from_url(&format!("http://{host}/in"), true).unwrap();
        let route = Proxy::Environment.decide_by(&address, |name| match name {
            "HTTP_PROXY" => Ok("proxy:1".to_owned()),
            "NO_PROXY" => Ok(exempt.to_owned()),
            _ => Err(VarError::NotPresent),
        });
        let proxy = route.unwrap().proxy().is_none();
        assert_eq!(proxy, is_exempt, "{host} {exempt}");
    }
}
