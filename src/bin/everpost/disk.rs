//! A disk that refused is tried again while a service runs.

use std::time::Duration;

use everpost::Queue;

/// Between two tries. Each that fails is a line in the log.
const RETRY: Duration = Duration::from_secs(60);

/// Finds out by itself that a disk works again. Otherwise the next storage work that is done finds it
/// out, and there may be none: a producer that asks whether the queue is ready, and appends only if
/// it is, would wait for ever. Ends when the queue does.
pub(crate) async fn keep_trying(queue: Queue) {
    keep_trying_every(queue, RETRY).await;
}

async fn keep_trying_every(queue: Queue, every: Duration) {
    let mut watch = queue.watch();
    while watch
        .wait_for(|status| status.storage_fault.is_some())
        .await
        .is_some()
    {
        tokio::time::sleep(every).await;
        if queue.status().storage_fault.is_some() && queue.try_disk().await.is_ok() {
            tracing::info!("the disk works again");
        }
    }
}
