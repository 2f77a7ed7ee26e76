//! `run --listen`: health, numbers and the page over TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use clap::Args;
use everpost::admin::{Admin, Shown};
use everpost::control::{self, Listening};
use everpost::fleet::Worker;
use everpost::relay::Port;

use crate::fault::Fault;

/// Where health and numbers are served, besides the control socket.
#[derive(Clone, Debug, Args)]
pub(crate) struct Listen {
    /// Serves /livez, /readyz and /metrics on this address, such as 127.0.0.1:9464, for probes and
    /// Prometheus, and on loopback a page for people at /: plain HTTP, read-only. With
    /// port 0 the log names the one that was picked. Can be given several times; otherwise as the
    /// settings say.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, env = "EVERPOST_LISTEN",
        value_delimiter = ',', hide_env_values = true)]
    listen: Vec<SocketAddr>,

    /// Answers requests for this host name too, besides addresses and localhost. Can be given
    /// several times.
    #[arg(long, value_name = "NAME", value_parser = name)]
    listen_host: Vec<String>,

    /// Allows addresses that other machines can reach. Who reaches one may read what is served
    /// there.
    #[arg(long)]
    listen_public: bool,
}

impl Listen {
    /// Takes the ports, all or none: those that were typed, or the one of the settings.
    pub(crate) fn bind(&self, settings: Option<SocketAddr>) -> Result<Vec<TcpListener>, Fault> {
        let mut wanted = self.listen.clone();
        if wanted.is_empty() {
            wanted.extend(settings);
        }
        if let Some(public) = wanted.iter().find(|at| !at.ip().is_loopback())
            && !self.listen_public
        {
            let text = format!("other machines can reach {public}, and read what is served there");
            return Err(Fault::usage(text)
                .hint("listen on 127.0.0.1 or [::1], or add `--listen-public` if that is meant"));
        }
        let bind = |at: &SocketAddr| TcpListener::bind(at).map_err(|error| refused(*at, &error));
        wanted.iter().map(bind).collect()
    }

    /// Serves health and numbers of the queue on these ports; and the page, where no other machine
    /// can reach it: it shows what the receiver said.
    pub(crate) fn serve(&self, shown: &Shown, ports: Vec<TcpListener>) -> Result<Vec<Open>, Fault> {
        let queue = shown.queue();
        let builder = Admin::builder().channel(shown.clone());
        let hosts = self.listen_host.iter();
        let builder = hosts.fold(builder.beside_probes_of(queue), |builder, host| {
            builder.host(host)
        });
        let admin = builder.build();
        let mut listening = Vec::new();
        for port in ports {
            let bound = port.local_addr();
            let address = bound.map_err(|error| Fault::io("listen", &error))?;
            let open = if address.ip().is_loopback() {
                let served = admin.serve(port);
                Open::Page(served.map_err(|error| Fault::io("listen", &error))?)
            } else {
                Open::Probes(control::listen(
                    queue,
                    port,
                    self.listen_host.iter().cloned(),
                )?)
            };
            tracing::info!(%address, "listening for probes and for Prometheus");
            listening.push(open);
        }
        Ok(listening)
    }
}

impl Listen {
    /// Serves health and numbers of a worker on these ports.
    pub(crate) fn serve_worker(
        &self,
        worker: &Arc<Worker>,
        ports: Vec<TcpListener>,
    ) -> Result<Vec<Open>, Fault> {
        let mut listening = Vec::new();
        for port in ports {
            let names = self.listen_host.iter().cloned();
            let open = control::listen_for_worker(worker, port, names)?;
            tracing::info!(address = %open.address(), "listening for probes and for Prometheus");
            listening.push(Open::Probes(open));
        }
        Ok(listening)
    }
}

/// A port that is served.
#[derive(Debug)]
pub(crate) enum Open {
    /// With the page.
    Page(Port),
    Probes(Listening),
}

impl Open {
    /// Closes it, once answers under way are out.
    pub(crate) async fn close(self) -> Result<(), everpost::Error> {
        match self {
            Self::Page(port) => port.close().await,
            Self::Probes(port) => port.close().await,
        }
    }
}

/// Why an address cannot be listened on, and what to do.
pub(crate) fn refused(at: SocketAddr, error: &io::Error) -> Fault {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has this port: choose another one, or 0 for any that is free"
        }
        io::ErrorKind::AddrNotAvailable => "name an address that this machine has",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on",
        _ => "see the cause; choose another address",
    };
    Fault::usage(format!("failed to listen on {at}: {error}")).hint(hint)
}

/// An address with a port. A name could stand for several, all but `localhost`.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(("localhost", port)) = text.rsplit_once(':')
        && let Ok(port) = port.parse()
    {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let wrong = "it is no address with a port; write 127.0.0.1:9464, [::1]:9464 or localhost:9464";
    text.parse().map_err(|_| wrong.to_owned())
}

/// A host name as a request has it, without a port.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_name) {
        return Ok(text.to_owned());
    }
    Err("it is no host name; write it without a scheme and without a port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_and_a_name_has_none() {
        for good in ["127.0.0.1:9464", "[::1]:0", "localhost:80", "0.0.0.0:1"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "9464",
            ":9464",
            "127.0.0.1",
            "::1:80",
            "http://127.0.0.1:80",
            "a:80",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(name("metrics.example").is_ok());
        for bad in ["", "a:80", "http://a", "a b"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
