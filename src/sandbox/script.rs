//! The text form of faults, for scripts in files.

mod form;

use std::str::FromStr;
use std::time::Duration;

use humantime_serde::re::humantime;

use super::fault::Fault;
use super::reply::{Reply, ReplyContent};

/// The most faults one script may hold, repetitions included.
const FAULTS_MAX: usize = 1_000_000;

/// Every fault a script may name, as it is written, with what it does. Times and numbers in them are
/// examples.
pub const FAULTS: [(&str, &str); 19] = [
    ("ok", "no fault: keeps a place in the script"),
    (
        "503",
        "answers with this status, 200 to 599, and the documented body",
    ),
    (
        "429 retry-after=2",
        "the same with a header; any header name will do",
    ),
    (
        "400 error=\"no such field\"",
        "the same with an error text; more may follow",
    ),
    ("200 body=\"<x/>\"", "the same with exactly this body"),
    (
        "captive-portal",
        "answers with 200 and a page of HTML, as a hotel's network does",
    ),
    (
        "accept 504",
        "takes the batch, then answers with this; options as above",
    ),
    (
        "accept-reset",
        "takes the batch, then resets the connection before the answer",
    ),
    (
        "reset-before",
        "resets the connection at the first byte of the request",
    ),
    (
        "reset-at 100",
        "resets it after so many bytes of the request",
    ),
    (
        "reset-after",
        "reads the request, then resets the connection",
    ),
    (
        "close",
        "reads the request, then closes the connection without an answer",
    ),
    ("hang", "reads the request and keeps silent"),
    (
        "delay 2s",
        "takes the batch and answers only after this time",
    ),
    (
        "drip 50ms",
        "takes the batch and sends the answer byte by byte",
    ),
    ("truncate", "takes the batch and sends half of the answer"),
    (
        "flood 1000000",
        "takes the batch and answers with so many bytes",
    ),
    ("garbage", "answers with bytes that are not HTTP"),
    (
        "refuse 5s",
        "drops every connection and refuses new ones for this long",
    ),
];

/// Why a text is not a script. It names the line and what is wrong in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("script is not usable: {reason}. line=`{line}`")]
#[non_exhaustive]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// Reads a script: one fault for each line.
///
/// | line | fault |
/// |---|---|
/// | `ok` | [`Fault::None`] |
/// | `503` | [`Fault::Answer`] with this status, 200 to 599 |
/// | `429 retry-after=2` | the same with a header; any header name will do |
/// | `400 error="no such field" error=other` | the same with error texts |
/// | `200 content-type=text/xml body="<x/>"` | the same with a body |
/// | `captive-portal` | [`Fault::Answer`] with [`Reply::captive_portal`] |
/// | `accept 504` | [`Fault::AcceptThenAnswer`], with the same options |
/// | `hang` | [`Fault::Hang`] |
/// | `reset-before`, `reset-at 100`, `reset-after` | [`Fault::ResetBefore`], [`Fault::ResetAt`] (bytes), [`Fault::ResetAfter`] |
/// | `accept-reset` | [`Fault::AcceptThenReset`] |
/// | `close` | [`Fault::Close`] |
/// | `delay 2s`, `drip 50ms` | [`Fault::Delay`], [`Fault::Drip`] |
/// | `truncate`, `flood 1000000`, `garbage` | [`Fault::Truncate`], [`Fault::Flood`] (bytes), [`Fault::Garbage`] |
/// | `refuse 5s` | [`Fault::Refuse`] |
///
/// A last word such as `x3` repeats the line. Empty lines, and what follows a word that begins
/// with `#`, are skipped. Values with blanks go in double quotes, with the escapes of JSON. Times
/// have units: `1h 30m` in quotes, `2s`, `50ms`. A script holds at most 1,000,000 faults.
///
/// ```
/// use everpost::sandbox::{Fault, parse_script};
///
/// let script = parse_script("ok x2\n# the outage\n503 retry-after=2\naccept-reset\n")?;
/// assert_eq!(script.len(), 4);
/// assert_eq!(script[3], Fault::AcceptThenReset);
///
/// let error = parse_script("ok\nexplode\n").unwrap_err();
/// assert_eq!(error.line, 2);
/// assert!(error.reason.starts_with("there is no fault `explode`; there are `ok`, `503`, "));
/// # Ok::<(), everpost::sandbox::ScriptError>(())
/// ```
///
/// # Errors
/// [`ScriptError`] at the first line that is not a fault, or that makes the script too long.
pub fn parse_script(text: &str) -> Result<Vec<Fault>, ScriptError> {
    let mut script = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at_line = |reason| ScriptError {
            line: index + 1,
            reason,
        };
        let mut words = split_words(line).map_err(at_line)?;
        let times = take_repetition(&mut words).map_err(at_line)?;
        if words.is_empty() && times == 1 {
            continue;
        }
        let fault = parse_fault(&words).map_err(at_line)?;
        if script.len().saturating_add(times) > FAULTS_MAX {
            return Err(at_line(format!("it holds more than {FAULTS_MAX} faults")));
        }
        script.extend(std::iter::repeat_n(fault, times));
    }
    Ok(script)
}

/// Reads one line of a script, without a repetition.
impl FromStr for Fault {
    type Err = ScriptError;

    /// # Errors
    /// [`ScriptError`] if it is not exactly one fault.
    fn from_str(text: &str) -> Result<Self, ScriptError> {
        split_words(text)
            .and_then(|words| parse_fault(&words))
            .map_err(|reason| ScriptError { line: 1, reason })
    }
}

/// One word of a line. The name ends at an unquoted `=`; only options have one.
struct Word {
    name: String,
    value: Option<String>,
}

fn split_words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let mut value = None;
        rest = after;
        if let Some(after) = after.strip_prefix('=') {
            let (text, after) = split_value(after)?;
            value = Some(text);
            rest = after;
        }
        words.push(Word {
            name: name.to_owned(),
            value,
        });
        rest = rest.trim_start();
    }
    Ok(words)
}

/// Takes the value off the front of a text: a JSON string, or everything up to a blank.
fn split_value(text: &str) -> Result<(String, &str), String> {
    if !text.starts_with('"') {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Ok((value.to_owned(), rest));
    }
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match strings.next() {
        Some(Ok(value)) => {
            let rest = text.get(strings.byte_offset()..).unwrap_or_default();
            if rest.is_empty() || rest.starts_with(char::is_whitespace) {
                Ok((value, rest))
            } else {
                Err("a closing quote must be followed by a blank".to_owned())
            }
        }
        _ => Err("a quoted value does not end, or has an escape that JSON lacks".to_owned()),
    }
}

/// Takes a last word such as `x3` off the line; without one, the line counts once.
fn take_repetition(words: &mut Vec<Word>) -> Result<usize, String> {
    let Some(digits) = words
        .last()
        .filter(|word| word.value.is_none())
        .and_then(|word| word.name.strip_prefix('x'))
    else {
        return Ok(1);
    };
    let times = digits
        .parse()
        .map_err(|_| format!("`x{digits}` is not a repetition such as `x3`"))?;
    words.pop();
    Ok(times)
}

fn parse_fault(words: &[Word]) -> Result<Fault, String> {
    let Some((first, rest)) = words.split_first() else {
        return Err("there is no fault in it".to_owned());
    };
    if first.value.is_some() {
        return Err(format!("`{}` must come after a status", first.name));
    }
    let simple = match first.name.as_str() {
        "ok" => Fault::None,
        "captive-portal" => Reply::captive_portal().into(),
        "hang" => Fault::Hang,
        "reset-before" => Fault::ResetBefore,
        "reset-after" => Fault::ResetAfter,
        "accept-reset" => Fault::AcceptThenReset,
        "close" => Fault::Close,
        "truncate" => Fault::Truncate,
        "garbage" => Fault::Garbage,
        "reset-at" => return bytes(&first.name, rest).map(Fault::ResetAt),
        "flood" => return bytes(&first.name, rest).map(Fault::Flood),
        "delay" => return span(&first.name, rest).map(Fault::Delay),
        "drip" => return span(&first.name, rest).map(Fault::Drip),
        "refuse" => return span(&first.name, rest).map(Fault::Refuse),
        "accept" => {
            let Some((status, options)) = rest.split_first() else {
                return Err("`accept` needs a status".to_owned());
            };
            return reply(&status.name, options).map(Fault::AcceptThenAnswer);
        }
        name if name.starts_with(|c: char| c.is_ascii_digit()) => {
            return reply(name, rest).map(Fault::Answer);
        }
        name => return Err(no_such_fault(name)),
    };
    match rest.first() {
        None => Ok(simple),
        Some(word) => Err(format!("`{}` cannot follow `{}`", word.name, first.name)),
    }
}

fn no_such_fault(name: &str) -> String {
    let known: Vec<String> = FAULTS.iter().map(|(form, _)| format!("`{form}`")).collect();
    format!("there is no fault `{name}`; there are {}", known.join(", "))
}

/// The one argument of a fault that needs one.
fn argument<'a>(fault: &str, words: &'a [Word], what: &str) -> Result<&'a str, String> {
    match words {
        [Word { name, value: None }] => Ok(name),
        _ => Err(format!("`{fault}` needs one {what}")),
    }
}

fn bytes(fault: &str, words: &[Word]) -> Result<u64, String> {
    const WHAT: &str = "number of bytes";
    let text = argument(fault, words, WHAT)?;
    text.parse()
        .map_err(|_| format!("`{fault}` needs one {WHAT}, not `{text}`"))
}

fn span(fault: &str, words: &[Word]) -> Result<Duration, String> {
    const WHAT: &str = "time such as `2s` or `50ms`";
    let text = argument(fault, words, WHAT)?;
    humantime::parse_duration(text).map_err(|_| format!("`{fault}` needs one {WHAT}, not `{text}`"))
}

fn reply(status: &str, options: &[Word]) -> Result<Reply, String> {
    let status = status
        .parse()
        .ok()
        .filter(|status| (200..600).contains(status))
        .ok_or_else(|| format!("`{status}` is not a status from 200 to 599"))?;
    let mut reply = Reply::status(status);
    let mut errors = Vec::new();
    for option in options {
        let Some(value) = option.value.clone() else {
            return Err(format!("`{}` is not an option such as `a=b`", option.name));
        };
        match option.name.as_str() {
            "error" => errors.push(value),
            "body" => reply = reply.body(value),
            name => {
                check_header(name, &value)?;
                reply = reply.header(name, value);
            }
        }
    }
    match (errors.is_empty(), reply.content()) {
        (true, _) => Ok(reply),
        (false, ReplyContent::Text(_)) => Err("`error` and `body` exclude each other".to_owned()),
        (false, _) => Ok(reply.errors(errors)),
    }
}

fn check_header(name: &str, value: &str) -> Result<(), String> {
    let good = hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok()
        && hyper::header::HeaderValue::from_str(value).is_ok();
    if good {
        Ok(())
    } else {
        Err(format!("`{name}` is not a header that HTTP can carry"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        parse_script(text).unwrap_err().reason
    }

    #[test]
    fn every_fault_reads_back_from_its_own_text() {
        for text in [
            "ok",
            "503",
            "429 retry-after=2",
            r#"503 retry-after="Wed, 21 Oct 2015 07:28:00 GMT""#,
            "302 location=https://example.org/#a=b body=",
            r#"400 error="one \"two\"" error=three"#,
            r#"200 content-type=text/html body="<p>\n""#,
            "captive-portal",
            "accept 504",
            "accept 201 error=x",
            "hang",
            "reset-before",
            "reset-at 100",
            "reset-after",
            "accept-reset",
            "close",
            "delay 2s",
            "delay 1h30m",
            "drip 50ms",
            "truncate",
            "flood 18446744073709551615",
            "garbage",
            "refuse 5s",
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), text);
            assert_eq!(parse_script(text).unwrap(), [fault]);
        }
    }

    #[test]
    fn lines_repeat_and_comments_are_skipped() {
        let script =
            parse_script("\n  # a day\nok x2 # fine\n503 error=x x3\n\nhang x0\r\n").unwrap();
        let bad: Fault = Reply::status(503).errors(["x"]).into();
        assert_eq!(
            script,
            [Fault::None, Fault::None, bad.clone(), bad.clone(), bad]
        );
        assert_eq!(parse_script("").unwrap(), []);
        let url: Fault = "302 location=/#top".parse().unwrap();
        assert_eq!(url, Reply::status(302).header("location", "/#top").into());
    }

    /// `--help` and the error named a few of them; the others were in the source alone.
    #[test]
    fn every_fault_is_listed_as_it_is_written() {
        let mut kinds = std::collections::HashSet::new();
        for (form, what) in FAULTS {
            let fault: Fault = form
                .parse()
                .unwrap_or_else(|error| panic!("{form}: {error}"));
            kinds.insert(std::mem::discriminant(&fault));
            assert!(!what.is_empty() && what.len() < 70, "{what}");
        }
        // A fault that is added shows here whether it was listed.
        assert_eq!(kinds.len(), 15);
        let told = reason("explode");
        assert!(
            told.starts_with("there is no fault `explode`; there are `ok`, `503`, "),
            "{told}"
        );
        for (form, _) in FAULTS {
            assert!(told.contains(&format!("`{form}`")), "{told}");
        }
    }

    #[test]
    fn what_is_not_a_script_is_refused_with_its_line_and_reason() {
        assert_eq!(parse_script("ok\n\nno").unwrap_err().line, 3);
        for (text, expected) in [
            ("x3", "there is no fault in it"),
            ("ok xx", "`xx` is not a repetition such as `x3`"),
            ("ok ok", "`ok` cannot follow `ok`"),
            ("100", "`100` is not a status from 200 to 599"),
            ("5xx", "`5xx` is not a status from 200 to 599"),
            ("600", "`600` is not a status from 200 to 599"),
            ("99999999", "`99999999` is not a status from 200 to 599"),
            ("retry-after=2", "`retry-after` must come after a status"),
            ("503 soon", "`soon` is not an option such as `a=b`"),
            ("503 =2", "`` is not a header that HTTP can carry"),
            ("503 a=\"\\n\"", "`a` is not a header that HTTP can carry"),
            (
                "503 error=a body=b",
                "`error` and `body` exclude each other",
            ),
            (
                "503 body=\"a",
                "a quoted value does not end, or has an escape that JSON lacks",
            ),
            (
                "503 body=\"a\"b",
                "a closing quote must be followed by a blank",
            ),
            ("accept", "`accept` needs a status"),
            ("accept hang", "`hang` is not a status from 200 to 599"),
            ("refuse", "`refuse` needs one time such as `2s` or `50ms`"),
            (
                "delay 5",
                "`delay` needs one time such as `2s` or `50ms`, not `5`",
            ),
            ("flood big", "`flood` needs one number of bytes, not `big`"),
            ("reset-at 1 2", "`reset-at` needs one number of bytes"),
            ("ok x1000001", "it holds more than 1000000 faults"),
            (
                "ok\nok x18446744073709551615",
                "it holds more than 1000000 faults",
            ),
        ] {
            assert_eq!(reason(text), expected, "{text}");
        }
        assert_eq!(
            "ok x2".parse::<Fault>().unwrap_err().reason,
            "`x2` cannot follow `ok`"
        );
        assert_eq!(
            "".parse::<Fault>().unwrap_err().reason,
            "there is no fault in it"
        );
    }
}
