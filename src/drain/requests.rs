//! The requests of a log, made ahead on the blocking pool, and how to know that nobody reads the log any more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::fed::{Fed, FeedError};
use super::feed::Feed;
use crate::catalog::KnownTable;
use crate::error::ErrorCode;
use crate::transport::TransportError;
use crate::wal::Wal;

/// The tail is looked at this often even if no append announced itself.
const TAIL_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The feed, unless it is gone, and what it made.
type Made = (Option<Feed>, Result<Fed, FeedError>);

/// The requests of a log, one made ahead.
pub(super) struct Requests {
    making: Pin<Box<dyn Future<Output = Made> + Send>>,
    source: Source,
    table_version: u64,
}

/// What the requests are made out of, besides the feed.
#[derive(Clone)]
struct Source {
    wal: Wal,
    reads: Reads,
    table: Arc<KnownTable>,
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
    /// What the feed makes out of this log, for this table.
    pub(super) fn from(feed: Feed, wal: &Wal, reads: &Reads, table: &Arc<KnownTable>) -> Requests {
        let table_version = feed.table_version();
        let source = Source { wal: wal.clone(), reads: reads.clone(), table: Arc::clone(table) };
        Requests { making: Box::pin(make(source.clone(), feed)), source, table_version }
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
            Some(feed) => Box::pin(make(self.source.clone(), feed)),
            None => Box::pin(std::future::pending()),
        };
        next
    }
}

async fn make(source: Source, mut feed: Feed) -> Made {
    let Source { wal, reads, table } = source;
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
            // The window goes on meanwhile, and the catalog is not really asked more often than once a second.
            Err(FeedError::Doubtful(error)) => match confirm(&table, feed.table_version(), error).await {
                Ok(()) => feed.confirm(),
                Err(error) => return (Some(feed), Err(error)),
            },
            Err(error) => return (Some(feed), Err(error)),
        }
    }
}

/// Asks whether the table is still the one of this version.
async fn confirm(table: &KnownTable, version: u64, error: TransportError) -> Result<(), FeedError> {
    let known = table.reread().await;
    match known.why_unconfirmed() {
        // The lane sees that too and begins anew.
        _ if known.version != version => Err(FeedError::Failed(error)),
        Some(reason) => Err(FeedError::Failed(TransportError::transient(
            ErrorCode::Connection,
            format!("{error}; the catalog cannot be asked whether the table has changed: {reason}"),
        ))),
        None => Ok(()),
    }
}
