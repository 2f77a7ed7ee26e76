//! The reading of what a receiver answers, the API or another, by the length of the input: status, headers, body, and bytes that are no HTTP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::OnceLock;
use std::time::Duration;

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::classify::{Classifier, Rule};
use everpost::http::{Auth, Format, Http, Proxy, SecretSource, Wire};
use everpost::{
    Answer, Batch, BoxSink, Event, Outcome, PauseReason, Request, Sink, StoredEvent, Verdict,
};

/// Its middle says that the channel is `c`.
const KEY: &str = "a.eyJjaGFubmVsIjoiYyJ9.c";

/// Longer than any answer takes that comes at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server sends when it was given a batch, to the byte, before it closes.
pub fn answer(bytes: &[u8]) {
    static LISTENER: OnceLock<Option<TcpListener>> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| TcpListener::bind("127.0.0.1:0").ok());
    let (Some(listener), Some(batch)) = (listener, batch()) else {
        panic!("no socket to listen on");
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        panic!("no runtime");
    };
    let (form, classifier) = form(bytes);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| serve(listener, bytes));
        let outcome =
            runtime.block_on(async { sink(listener, form).deliver(Request::new(batch)).await });
        // The connection ends with it, and so does the server's thread.
        drop(runtime);
        outcome
    });
    check(&outcome, bytes, &classifier);
}

fn batch() -> Option<Batch> {
    let event = Event::json("{}").ok()?;
    Batch::new(vec![StoredEvent { seq: 1, event }])
}

/// The receivers that an answer is read for: each takes an input of another length.
const FORMS: [&str; 4] = ["messages", "lines", "otlp", "loki"];

/// The form of the receiver, and what its answers mean.
fn form(bytes: &[u8]) -> (&'static str, Classifier) {
    match FORMS.get(bytes.len() % FORMS.len()) {
        Some(form @ &"lines") => (form, Classifier::webhook()),
        Some(form @ &"otlp") => (form, Classifier::otlp()),
        Some(form @ &"loki") => (form, Classifier::loki()),
        _ => ("messages", Classifier::default()),
    }
}

fn sink(listener: &TcpListener, form: &str) -> BoxSink {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let base = format!("http://127.0.0.1:{port}");
    let wire = Wire::default().request_timeout(PATIENCE).proxy(Proxy::None);
    let built = match form.parse::<Format>() {
        Err(_) => Botanalytics::builder(KeySource::value(KEY))
            .base_url(base)
            .wire(wire)
            .build()
            .map(Sink::boxed),
        Ok(format) => Http::builder(base)
            .format(format)
            .auth(Auth::Bearer(SecretSource::value(KEY)))
            .wire(wire)
            .build()
            .map(Sink::boxed),
    };
    let Ok(sink) = built else {
        panic!("{built:?}");
    };
    sink
}

/// Answers one connection. What goes wrong with it, the other side sees.
fn serve(listener: &TcpListener, bytes: &[u8]) {
    if let Ok((mut stream, _)) = listener.accept() {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        // Closed with bytes unread, the connection would be reset and take the answer with it.
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn check(outcome: &Outcome, bytes: &[u8], classifier: &Classifier) {
    let Outcome { verdict, answer } = outcome;
    check_texts(answer);
    let Some(status) = answer.status else {
        let retried = matches!(
            verdict,
            Verdict::Retry { not_before: None } | Verdict::Stalled
        );
        assert!(retried, "no answer, but {verdict:?}");
        return;
    };
    let said = ["HTTP/1.0 ", "HTTP/1.1 "].map(|version| format!("{version}{status}"));
    let was_sent = |line: &String| bytes.windows(line.len()).any(|w| w == line.as_bytes());
    assert!(said.iter().any(was_sent), "nobody said {status}");
    match (classifier.rule(status), verdict) {
        // Only an event that was refused by name is condemned under a status of success.
        (Rule::Deliver, Verdict::Poison) => assert!(
            // OTLP may say a number alone, which is a warning.
            status == 207 || !answer.errors.is_empty() || !answer.warnings.is_empty(),
            "{status} condemns without a word"
        ),
        // A 207 has a status for each event.
        (Rule::Deliver, _) if status == 207 => {}
        // HTML instead of the API's JSON: nobody took the events or looked at them.
        (Rule::Deliver, Verdict::Delivered | Verdict::Retry { .. })
        | (Rule::Poison, Verdict::Poison | Verdict::Pause(PauseReason::Address))
        | (Rule::Retry, Verdict::Retry { .. } | Verdict::Stalled)
        | (Rule::Divide, Verdict::Divide) => {}
        (Rule::Pause(reason), Verdict::Pause(paused)) if reason == *paused => {}
        (rule, verdict) => panic!("{status} is {rule:?}, but became {verdict:?}"),
    }
}

/// What is kept of an answer is bounded, fit for a log line, and without the key.
fn check_texts(answer: &Answer) {
    assert!(answer.errors.len() <= 20 && answer.warnings.len() <= 20);
    let texts = answer.errors.iter().chain(&answer.warnings);
    for text in texts.chain(&answer.request_id).chain(&answer.detail) {
        assert!(text.chars().count() <= 600, "{} bytes", text.len());
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(!text.contains(KEY), "the key is in {text:?}");
    }
}
