//! `fleet rewind`: from the beginning of the stream again.

use clap::Args;
use everpost::fleet::setup;
use serde::Serialize;

use super::access::Which;
use crate::fault::Fault;
use crate::out::Out;
use crate::text::plain;

/// What is typed with `rewind`.
#[derive(Debug, Args)]
pub(crate) struct Rewind {
    /// Does it: everything that is in the stream is sent again.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    which: Which,
}

/// What was done.
#[derive(Serialize)]
struct Done<'a> {
    stream: &'a str,
    rewound: bool,
}

pub(super) async fn rewind(args: &Rewind, out: Out) -> Result<(), Fault> {
    let (access, names) = args.which.open().await?;
    if !args.yes {
        let text = "everything that is in the stream would be sent again; nothing was changed";
        return Err(Fault::usage(text).hint("add --yes to do it"));
    }
    setup::rewind(&access.connect().await?, &names).await?;
    let done = Done {
        stream: names.stream(),
        rewound: true,
    };
    out.show(&done, || {
        format!(
            "{} is delivered from its beginning again\n",
            plain(done.stream)
        )
    })
}
