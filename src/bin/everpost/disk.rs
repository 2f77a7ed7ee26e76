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

#[cfg(test)]
mod tests {
    use super::*;

    /// It was found out by the next append, and by nothing else.
    #[tokio::test]
    async fn a_disk_that_refused_is_tried_until_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let queue = Queue::builder(&spool).open().await.unwrap();
        // In the way of what is written.
        let obstacle = spool.join("memo.new");
        std::fs::create_dir(&obstacle).unwrap();
        queue.try_disk().await.unwrap_err();
        let mut watch = queue.watch();
        let fault = watch.wait_for(|status| status.storage_fault.is_some());
        assert!(fault.await.is_some());
        let trying = tokio::spawn(keep_trying_every(queue.clone(), Duration::from_millis(1)));
        std::fs::remove_dir(&obstacle).unwrap();
        let well = watch.wait_for(|status| status.storage_fault.is_none());
        let well = tokio::time::timeout(Duration::from_secs(60), well).await;
        assert!(well.unwrap().is_some());
        queue.close(Duration::ZERO).await.unwrap();
        trying.await.unwrap();
    }
}
