//! Who is let in, and by which key.

use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Uri};

use super::answer::Refusal;
use super::desk::Desk;
use super::token::Grant;
use super::{Channel, Origin, Rules};
use crate::sink::botanalytics::Key;

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    pub(super) channel: &'a Channel,
    /// What it was let in by.
    pub(super) key: Key,
    /// Whether anyone may have that, since pages show it to all the world.
    pub(super) is_published: bool,
    /// Whether it may send a body as text: a page that leaves a message behind as it goes away cannot
    /// say that it is JSON.
    pub(super) is_text_let_in: bool,
}

/// The key of a request, and whether it stands in the query.
fn presented(uri: &Uri, headers: &HeaderMap) -> Result<(Key, bool), Refusal> {
    let missing = || Refusal::unauthorized("Request is missing a valid Authorization header.");
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (text, is_in_query) = match (given.next(), given.next(), in_query(uri)) {
        (Some(header), None, None) => {
            let header = header.to_str().map_err(|_| missing())?;
            match header.split_once(' ') {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => (key, false),
                _ => return Err(missing()),
            }
        }
        (None, None, Some(token)) => (token, true),
        _ => return Err(missing()),
    };
    let key = Key::parse(text).map_err(|why| Refusal::unauthorized(why.to_string()))?;
    Ok((key, is_in_query))
}

/// What the query names as the token. It has no letter that is written otherwise there.
fn in_query(uri: &Uri) -> Option<&str> {
    uri.query()?.strip_prefix("token=")
}

impl Desk {
    /// Lets a request in, from a page of this origin, or from a program.
    pub(super) async fn admit(
        &self,
        rules: &Rules,
        origin: Option<&Origin>,
        (uri, headers): (&Uri, &HeaderMap),
    ) -> Result<Admitted<'_>, Refusal> {
        let (key, is_in_query) = presented(uri, headers)?;
        let Some(channel) = self.channel(key.channel()) else {
            return Err(Refusal::unauthorized(
                "The key is of a channel that this relay does not serve.",
            ));
        };
        let grant = self.tokens().read(&key);
        let admitted = Admitted {
            channel,
            key,
            is_published: matches!(grant, Some(Grant::Pages(_))),
            is_text_let_in: origin.is_some(),
        };
        match (grant, origin) {
            (Some(Grant::Pages(origins)), Some(origin))
                if origins.iter().any(|known| known == origin.as_str()) =>
            {
                return Ok(admitted);
            }
            (Some(Grant::Pages(_)), _) => {
                let text = "The token is for web pages of other origins.";
                return Err(Refusal::unauthorized(text));
            }
            _ if is_in_query => {
                let text = "Only a token for web pages may stand in the query.";
                return Err(Refusal::unauthorized(text));
            }
            (Some(Grant::Program), _) => return Ok(admitted),
            // A page can have made a key up, and is not let in by that.
            (None, None) if rules.is_any_key_let_in() => return Ok(admitted),
            (None, _) => {}
        }
        if channel.delivers_with(&admitted.key, self.tokens()).await {
            return Ok(admitted);
        }
        let text = "The key is none of this relay: see `everpost relay token`.";
        Err(Refusal::unauthorized(text))
    }
}
