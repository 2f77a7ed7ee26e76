//! A chat bot behind a webhook: both sides of every conversation are kept before the platform is
//! told that its message was taken, whatever the API is doing.
//!
//! ```text
//! cargo run --example chat_bot
//! ```
//!
//! The platform is a task that posts what users write and waits for the bot's answer. Half-way
//! the API goes away, and the bot does not notice. For the real API, make the sink with
//! `Botanalytics::from_env()`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use everpost::botanalytics::message::{Conversation, Message, Sender};
use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::sandbox::Sandbox;
use everpost::{Delivery, Queue, Settings};
use tokio::sync::{mpsc, oneshot};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the platform posts to the bot's webhook.
struct Post {
    user: &'static str,
    text: &'static str,
    /// The answer of the webhook: what the bot says. A platform posts again what was not
    /// answered, so the answer is given only when the message is safe.
    answer: oneshot::Sender<String>,
}

const BEFORE: [(&str, &str); 3] = [
    ("ada", "Hello"),
    ("bob", "Where is my order?"),
    ("ada", "When are you open?"),
];
const DURING: [(&str, &str); 3] = [
    ("bob", "Is it on its way?"),
    ("ada", "And on Sundays?"),
    ("bob", "Thank you"),
];

#[tokio::main]
async fn main() -> Outcome<()> {
    let home = tempfile::tempdir()?;
    let sandbox = Sandbox::start().await?;
    let sink = Botanalytics::builder(KeySource::value(sandbox.key()))
        .base_url(sandbox.base_url())
        .build()?;
    let settings = Settings {
        delivery: Delivery {
            // A demonstration is short; the defaults wait up to a minute between attempts.
            backoff_max: Duration::from_millis(500),
            ..Delivery::default()
        },
        ..Settings::default()
    };
    let queue = Queue::builder(home.path().join("spool"))
        .settings(settings)
        .sink(sink)
        .open()
        .await?;

    let (webhook, posts) = mpsc::channel(16);
    let bot = tokio::spawn(bot(queue.clone(), posts));
    for (user, text) in BEFORE {
        post(&webhook, user, text).await?;
    }
    sandbox.wait_for_accepted(6).await?;
    sandbox.go_away().await?;
    println!("* the API is away");
    for (user, text) in DURING {
        post(&webhook, user, text).await?;
    }
    println!(
        "* {} messages wait; the users noticed nothing",
        queue.status().pending
    );
    sandbox.come_back().await?;
    println!("* the API is back");
    drop(webhook);
    bot.await??;
    let closed = queue.close(Duration::from_secs(10)).await?;

    let told: Vec<String> = sandbox.accepted().iter().map(line).collect();
    println!("\nThe API knows:");
    for line in &told {
        println!("  {line}");
    }
    let expected = BEFORE
        .iter()
        .chain(&DURING)
        .flat_map(|(user, text)| [format!("{user}: {text}"), format!("bot: {}", reply(text))]);
    sandbox.stop().await;
    if !closed.drained || !told.iter().cloned().eq(expected) {
        return Err("the conversations did not arrive whole and in order".into());
    }
    Ok(())
}

/// The platform's side: a user writes, and reads what the bot answers.
async fn post(webhook: &mpsc::Sender<Post>, user: &'static str, text: &'static str) -> Outcome<()> {
    let (answer, answered) = oneshot::channel();
    let post = Post { user, text, answer };
    webhook.send(post).await.map_err(|_| "the bot has ended")?;
    println!("  {user}: {text}\n     -> {}", answered.await?);
    Ok(())
}

/// The bot's side: thinks of a reply, keeps both messages, and answers.
async fn bot(queue: Queue, mut posts: mpsc::Receiver<Post>) -> Outcome<()> {
    while let Some(post) = posts.recv().await {
        let reply = reply(post.text);
        let thread = format!("chat-{}", post.user);
        let conversation = Conversation::new().is_new(post.text == "Hello");
        let question = Message::text(post.text)
            .thread(thread.as_str())
            .conversation(conversation)
            .sender(Sender::user(post.user))
            .recipient("bot");
        let answer = Message::text(reply)
            .thread(thread.as_str())
            .sender(Sender::virtual_agent("bot"))
            .recipient(post.user);
        // One commit: a crash leaves both sides of the exchange, or none.
        queue
            .append_all([question.into_event()?, answer.into_event()?])
            .await?;
        // A user who no longer waits for the answer is the platform's affair.
        let _ = post.answer.send(reply.to_owned());
    }
    Ok(())
}

fn reply(text: &str) -> &'static str {
    match text {
        "Hello" => "Hello! What can I do for you?",
        "Thank you" => "You are welcome.",
        text if text.contains("open") => "From nine to six.",
        text if text.contains("order") || text.contains("way") => "It comes tomorrow.",
        _ => "I do not know that yet.",
    }
}

/// One accepted message as a line.
fn line(accepted: &everpost::sandbox::Accepted) -> String {
    let json = accepted.json().unwrap_or_default();
    let message: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let message = &message["message"];
    let sender = message["sender"]["id"].as_str().unwrap_or_default();
    let text = message["content"]["texts"][0]["text"].as_str();
    format!("{sender}: {}", text.unwrap_or_default())
}
