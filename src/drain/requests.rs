//! The requests of a log, made ahead on the blocking pool, and how to know that nobody reads the log any more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::feed::{Fed, Feed, FeedError};
use crate::wal::Wal;

/// The tail is looked at this often even if no append announced itself.
const TAIL_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The feed, unless it is gone, and what it made.
type Made = (Option<Feed>, Result<Fed, FeedError>);

/// The requests of a log, one made ahead.
pub(super) struct Requests {
    making: Pin<Box<dyn Future<Output = Made> + Send>>,
    wal: Wal,
    reads: Reads,
    table_version: u64,
}

/// The reads that are under way. One goes on when nobody waits for what it makes.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    count: Arc<watch::Sender<usize>>,
}

/// One read.
struct Read(Reads);

impl Reads {
    pub(crate) fn new() -> Reads {
        Reads { count: Arc::new(watch::Sender::new(0)) }
    }

    fn begin(&self) -> Read {
        self.count.send_modify(|count| *count += 1);
        Read(self.clone())
    }

    /// Returns when none is under way. Whoever waits begins none meanwhile.
    pub(super) async fn none(&self) {
        // An error means that the sender is gone, and it is a field of this.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

impl Requests {
    /// What the feed makes out of this log.
    pub(super) fn from(feed: Feed, wal: &Wal, reads: &Reads) -> Requests {
        let table_version = feed.table_version();
        let making = Box::pin(make(wal.clone(), reads.clone(), feed));
        Requests { making, wal: wal.clone(), reads: reads.clone(), table_version }
    }

    /// Which version of the table they are made for.
    pub(super) fn table_version(&self) -> u64 {
        self.table_version
    }

    /// The next request, as soon as there is something to send.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing; the request goes on being made.
    pub(super) async fn next(&mut self) -> Result<Fed, FeedError> {
        let (feed, next) = (&mut self.making).await;
        self.making = match feed {
            Some(feed) => Box::pin(make(self.wal.clone(), self.reads.clone(), feed)),
            None => Box::pin(std::future::pending()),
        };
        next
    }
}

async fn make(wal: Wal, reads: Reads, mut feed: Feed) -> Made {
    let mut durable = wal.subscribe();
    loop {
        durable.mark_unchanged();
        let read = reads.begin();
        let made = spawn_blocking(move || {
            let next = feed.next();
            drop(read);
            (feed, next)
        });
        let next = match made.await {
            Ok((back, next)) => {
                feed = back;
                next
            }
            Err(error) => {
                return (None, Err(FeedError::Unreadable(format!("making a request failed: {error}"))));
            }
        };
        match next {
            Ok(Some(next)) => return (Some(feed), Ok(next)),
            Ok(None) => {
                let _ = timeout(TAIL_CHECK_INTERVAL, durable.changed()).await;
            }
            Err(error) => return (Some(feed), Err(error)),
        }
    }
}
