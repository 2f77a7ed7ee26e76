//! `init --to`: the receiver of a spool, from words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use everpost::Error;
use everpost::http::{Auth, Compression, Format, Method, Proxy, Receiver, SecretRef, Wire};
use everpost::nats::Spool;
use toml::Value;

use super::stream::{Stream, is_stream};
use crate::fault::Fault;
use crate::settings::BOTANALYTICS;

/// Where the events of the spool go, and in which form.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Receiver")]
pub(crate) struct To {
    /// Where events go: `https://...` for a webhook, `otlp://HOST` for logs of OpenTelemetry,
    /// `loki://HOST`, `nats://HOST[,HOST...]` for a stream that many devices share, or `botanalytics`,
    /// which is the default.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["base_url", "channel", "key_file"])]
    to: Option<String>,

    /// The form of a request: `array`, `lines`, `single`, `wrapped`, `cloud_events`, `otlp` or
    /// `loki`.
    #[arg(long, value_name = "FORM", requires = "to")]
    form: Option<String>,

    /// What the form needs: a label of Loki, an attribute of the resource for OTLP, `source` and
    /// `type` for CloudEvents, `list` and `item` for `wrapped`.
    #[arg(long = "with", value_name = "NAME=VALUE", requires = "to", value_parser = pair)]
    with: Vec<(String, String)>,

    /// The method of a request.
    #[arg(long, requires = "to")]
    method: Option<Verb>,

    /// A header of each request; for one that is secret there is `--header-file`.
    #[arg(long, value_name = "NAME=VALUE", requires = "to", value_parser = pair)]
    header: Vec<(String, String)>,

    /// A header whose value is secret, and the file that holds it, read again before each request.
    #[arg(long, value_name = "NAME=FILE", requires = "to", value_parser = pair)]
    header_file: Vec<(String, String)>,

    /// A header whose value is secret, and the variable that holds it.
    #[arg(long, value_name = "NAME=VARIABLE", requires = "to", value_parser = pair)]
    header_env: Vec<(String, String)>,

    /// The file with the bearer token, read again before each request.
    #[arg(long, value_name = "FILE", requires = "to", group = "auth")]
    bearer_file: Option<PathBuf>,

    /// The variable with the bearer token.
    #[arg(long, value_name = "VARIABLE", requires = "to", group = "auth")]
    bearer_env: Option<String>,

    /// A user for basic authentication, and the file with the password.
    #[arg(long, value_name = "USER=FILE", requires = "to", group = "auth", value_parser = pair)]
    basic_file: Option<(String, String)>,

    /// How the body of a request is compressed.
    #[arg(long, requires = "to")]
    compress: Option<Compress>,

    /// The file with a secret that requests are signed with, as Standard Webhooks have it; twice
    /// while secrets change.
    #[arg(long, value_name = "FILE", requires = "to")]
    sign_file: Vec<PathBuf>,

    /// The certificate to show to the receiver, in PEM; its key is in --client-key.
    #[arg(long, value_name = "FILE", requires_all = ["to", "client_key"])]
    client_cert: Option<PathBuf>,

    /// The key of --client-cert, in PEM.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,

    /// Allows plain HTTP to another machine: any machine on the way can then read and change keys and
    /// events, and make up answers, for which events are removed that nothing has taken.
    #[arg(long, requires = "to")]
    allow_plain_http: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verb {
    Post,
    Put,
    Patch,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compress {
    Gzip,
    Zstd,
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write a name, `=` and what belongs to it".to_owned()),
    }
}

impl To {
    /// The value of the setting; none if no receiver is named. `there` is the name that the spool has in
    /// a stream already.
    ///
    /// # Errors
    /// A fault that names what cannot be used.
    pub(super) fn value(
        &self,
        ca_file: Option<&Path>,
        stream: &Stream,
        there: impl FnOnce() -> Option<Spool>,
    ) -> Result<Option<Value>, Fault> {
        let Some(address) = &self.to else {
            return Ok(None);
        };
        if is_stream(address) {
            self.must_have_no_form()?;
            return stream.value(address, ca_file, there()).map(Some);
        }
        stream.must_be_bare()?;
        if address.trim() == BOTANALYTICS {
            let has_more = self.form.is_some() || !self.with.is_empty();
            if has_more {
                return Err(
                    Fault::usage("the form of requests to botanalytics is its own")
                        .hint("leave --form and --with out, or name an address with --to"),
                );
            }
            return Ok(Some(Value::String(BOTANALYTICS.to_owned())));
        }
        let receiver = self.receiver(address, ca_file)?;
        check(&receiver)?;
        let value = Value::try_from(receiver);
        value
            .map(Some)
            .map_err(|error| Fault::usage(format!("--to cannot be kept: {error}")))
    }

    /// As [`value`](Self::value), for a worker: it carries events out of a stream.
    pub(crate) fn value_of_worker(&self, ca_file: Option<&Path>) -> Result<Option<Value>, Fault> {
        if self.to.as_deref().is_some_and(is_stream) {
            let text = "a worker carries events out of the stream, not into one";
            return Err(Fault::usage(text)
                .hint("name the receiver: --to botanalytics, or --to https://..."));
        }
        self.value(ca_file, &Stream::default(), || None)
    }

    /// A stream has one form, and none of the ways of HTTP.
    fn must_have_no_form(&self) -> Result<(), Fault> {
        let is_typed = [
            ("--form", self.form.is_some()),
            ("--with", !self.with.is_empty()),
            ("--method", self.method.is_some()),
            ("--header", !self.header.is_empty()),
            ("--header-file", !self.header_file.is_empty()),
            ("--header-env", !self.header_env.is_empty()),
            ("--bearer-file", self.bearer_file.is_some()),
            ("--bearer-env", self.bearer_env.is_some()),
            ("--basic-file", self.basic_file.is_some()),
            ("--compress", self.compress.is_some()),
            ("--sign-file", !self.sign_file.is_empty()),
            ("--client-cert", self.client_cert.is_some()),
            ("--allow-plain-http", self.allow_plain_http),
        ];
        match is_typed.iter().find(|(_, is_typed)| *is_typed) {
            None => Ok(()),
            Some((word, _)) => Err(Fault::usage(format!("{word} is for receivers over HTTP"))
                .hint("leave it out: a stream of NATS has a form of its own")),
        }
    }

    fn receiver(&self, address: &str, ca_file: Option<&Path>) -> Result<Receiver, Fault> {
        let mut receiver = Receiver::parse(address).map_err(|error| unusable("--to", error))?;
        if let Some(form) = self.form(receiver.format())? {
            receiver = receiver.with_format(form);
        }
        if let Some(verb) = self.method {
            receiver = receiver.with_method(match verb {
                Verb::Post => Method::Post,
                Verb::Put => Method::Put,
                Verb::Patch => Method::Patch,
            });
        }
        if let Some(compress) = self.compress {
            receiver = receiver.with_compression(match compress {
                Compress::Gzip => Compression::Gzip,
                Compress::Zstd => Compression::Zstd,
            });
        }
        for (name, value) in &self.header {
            receiver = receiver.with_header(name, value);
        }
        for (name, file) in &self.header_file {
            receiver = receiver.with_secret_header(name, in_file(Path::new(file))?);
        }
        for (name, variable) in &self.header_env {
            let variable = SecretRef::Variable(variable.clone());
            receiver = receiver.with_secret_header(name, variable);
        }
        if let Some(auth) = self.auth()? {
            receiver = receiver.with_auth(auth);
        }
        for file in &self.sign_file {
            receiver = receiver.with_signing(in_file(file)?);
        }
        let wire = self.wire(receiver.wire().clone(), ca_file)?;
        Ok(receiver.with_wire(wire))
    }

    fn wire(&self, wire: Wire, ca_file: Option<&Path>) -> Result<Wire, Fault> {
        let mut wire = wire.allow_plain_http(self.allow_plain_http);
        if let Some(file) = ca_file {
            wire = wire.ca_file(whole(file)?);
        }
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            wire = wire.client_certificate(whole(certificate)?, whole(key)?);
        }
        Ok(wire)
    }

    fn auth(&self) -> Result<Option<Auth<SecretRef>>, Fault> {
        Ok(if let Some(file) = &self.bearer_file {
            Some(Auth::Bearer(in_file(file)?))
        } else if let Some(variable) = &self.bearer_env {
            Some(Auth::Bearer(SecretRef::Variable(variable.clone())))
        } else if let Some((user, file)) = &self.basic_file {
            Some(Auth::Basic {
                user: user.clone(),
                password: in_file(Path::new(file))?,
            })
        } else {
            None
        })
    }

    /// The form that is asked for, with what it needs; none if it is the one of the address.
    fn form(&self, of_address: &Format) -> Result<Option<Format>, Fault> {
        let form = match &self.form {
            Some(word) => word
                .replace('-', "_")
                .parse()
                .map_err(|error| unusable("--form", error))?,
            None if self.with.is_empty() => return Ok(None),
            None => of_address.clone(),
        };
        let given: BTreeMap<String, String> = self.with.iter().cloned().collect();
        let only = |names: &[&str]| match given.keys().find(|name| !names.contains(&name.as_str()))
        {
            Some(name) => Err(Fault::usage(format!(
                "--with {name}= is nothing that the form needs"
            ))
            .hint(match names {
                [] => "leave it out".to_owned(),
                names => format!("it needs {}", names.join(" and ")),
            })),
            None => Ok(()),
        };
        let value = |name: &str| given.get(name).cloned();
        Ok(Some(match form {
            Format::Loki { .. } => Format::Loki { labels: given },
            Format::Otlp { .. } => Format::Otlp { resource: given },
            Format::CloudEvents { source, kind } => {
                only(&["source", "type"])?;
                Format::CloudEvents {
                    source: value("source").unwrap_or(source),
                    kind: value("type").unwrap_or(kind),
                }
            }
            Format::Wrapped { list, item } => {
                only(&["list", "item"])?;
                Format::Wrapped {
                    list: value("list").unwrap_or(list),
                    item: value("item").or(item.filter(|_| !given.contains_key("list"))),
                }
            }
            other => {
                only(&[])?;
                other
            }
        }))
    }
}

/// Refuses what no sink can be built from. Secrets, which may come later, are not looked for, and
/// neither is a proxy: that is the machine's.
fn check(receiver: &Receiver) -> Result<(), Fault> {
    let wire = receiver.wire().clone().proxy(Proxy::None);
    let built = receiver.clone().with_wire(wire).builder();
    match built.wait_for_secrets().build() {
        Ok(_) => Ok(()),
        Err(error) => Err(unusable("--to", error)),
    }
}

fn unusable(word: &str, error: Error) -> Fault {
    match error {
        Error::Sink { reason } => {
            let hint = match reason.starts_with("plain HTTP") {
                true => "name it with https://, or add --allow-plain-http if that is meant",
                false => "see `everpost init --help` for how receivers are named",
            };
            Fault::usage(format!("{word} cannot be used: {reason}")).hint(hint)
        }
        error => error.into(),
    }
}

/// The service may run in another directory than this command.
pub(super) fn whole(path: &Path) -> Result<PathBuf, Fault> {
    std::path::absolute(path).map_err(|source| Fault::io("find the file", &source))
}

fn in_file(path: &Path) -> Result<SecretRef, Fault> {
    Ok(SecretRef::File(whole(path)?))
}
