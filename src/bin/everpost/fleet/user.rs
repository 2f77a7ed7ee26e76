//! `fleet user`: who may do what on the servers.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use everpost::fleet::Rights;
use everpost::nats::Names;
use nkeys::{KeyPair, KeyPairType};
use serde::Serialize;

use crate::fault::Fault;
use crate::out::Out;

/// A seed is 58 characters.
const SEED_BYTES_MAX: u64 = 4 << 10;

/// What is typed with `user`.
#[derive(Debug, Args)]
pub(crate) struct User {
    /// What the user is for.
    role: Role,

    /// The name of the device's spool in the stream, as `everpost init --as` has it.
    #[arg(long = "as", value_name = "NAME", required_if_eq("role", "device"))]
    name: Option<String>,

    /// The file with the user's seed, which no one else needs: it is made if it is not there.
    #[arg(long, value_name = "FILE")]
    seed_file: PathBuf,

    /// The stream of events.
    #[arg(long, value_name = "NAME", default_value = Names::STREAM)]
    stream: String,

    /// How many partitions the stream was made for.
    #[arg(long, value_name = "N", default_value_t = Names::PARTITIONS)]
    partitions: u16,
}

/// What a user is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// Writes the events of one spool.
    Device,
    /// Carries events on.
    Worker,
    /// Sets the streams up, looks at them, and works on dead letters.
    Operator,
    /// Looks at the books and changes nothing, as a relay does that shows them.
    Viewer,
}

/// The user, for the configuration of the servers.
#[derive(Serialize)]
struct Shown {
    role: Role,
    /// The public key.
    nkey: String,
    #[serde(flatten)]
    rights: Rights,
    /// Whether the seed was made.
    made: bool,
}

pub(super) fn user(user: &User, out: Out) -> Result<(), Fault> {
    let names = Names::new(&user.stream, user.partitions)?;
    let rights = match (user.role, &user.name) {
        (Role::Device, Some(name)) => Rights::device(&names, &name.parse()?),
        (Role::Worker, _) => Rights::worker(&names),
        (Role::Viewer, _) => Rights::viewer(&names),
        _ => Rights::operator(&names),
    };
    let (pair, made) = seed(&user.seed_file)?;
    let shown = Shown {
        role: user.role,
        nkey: pair.public_key(),
        rights,
        made,
    };
    out.show(&shown, || {
        format!("{{ nkey: {}, {} }}\n", shown.nkey, shown.rights)
    })
}

/// The keys of the file, made if it is not there.
fn seed(path: &Path) -> Result<(KeyPair, bool), Fault> {
    let failed = |error: io::Error| {
        Fault::usage(format!(
            "the file with the seed cannot be used: {error}. path=`{}`",
            path.display()
        ))
        .hint("name a file of this user, or one that is not there yet in a directory that is")
    };
    let no_seed = || failed(io::Error::other("it holds no seed of a user (SU...)"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(mut file) => {
            let pair = KeyPair::new_user();
            let seed = pair.seed().map_err(|_| no_seed())?;
            writeln!(file, "{seed}").map_err(failed)?;
            Ok((pair, true))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if path.metadata().map_err(failed)?.len() > SEED_BYTES_MAX {
                return Err(no_seed());
            }
            let text = std::fs::read_to_string(path).map_err(failed)?;
            let pair = KeyPair::from_seed(text.trim()).map_err(|_| no_seed())?;
            match pair.key_pair_type() {
                KeyPairType::User => Ok((pair, false)),
                _ => Err(no_seed()),
            }
        }
        Err(error) => Err(failed(error)),
    }
}
