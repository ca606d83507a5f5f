//! Asks the catalog whenever somebody wants to know, and again while it does not answer; one question at a time and not too
//! often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::client::Catalog;
use super::known::KnownTable;
use crate::io::Clock;

/// An answer is believed so long. Many streams may be opened in a second, and many batches be refused.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// The one who asks.
pub(crate) struct Reader {
    pub(crate) catalog: Catalog,
    pub(crate) table: Arc<KnownTable>,
    pub(crate) clock: Arc<dyn Clock>,
    /// A catalog that did not tell is not asked again so soon: each stream would wait for it.
    pub(crate) patience: Duration,
}

impl Reader {
    /// Asks once at once, then for whoever wants it, until `stop` says true.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        self.table.rereads.ask();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            never = self.read() => match never {},
        }
        self.table.rereads.close();
    }

    async fn read(&self) -> std::convert::Infallible {
        let mut next_at = Duration::ZERO;
        let mut asked_as = self.catalog.generation();
        loop {
            tokio::select! {
                () = self.table.rereads.wanted() => {}
                // What is said of a catalog that did not answer is to be true now, and not since the last stream.
                () = tokio::time::sleep(self.patience.max(BELIEVED_FOR)), if self.table.is_unanswered() => {
                    self.table.rereads.ask();
                }
            }
            // Whoever asks from here on may mean a newer table than the one that is read now.
            let number = self.table.rereads.newest();
            let began = self.clock.monotonic();
            let generation = self.catalog.generation();
            // Who had no right secret before may be answered now.
            if began >= next_at || generation != asked_as {
                asked_as = generation;
                let outcome = self.catalog.table_schema().await;
                next_at = match &outcome {
                    Ok(_) => began + BELIEVED_FOR,
                    Err(_) => self.clock.monotonic() + self.patience,
                };
                self.table.heard(outcome, self.clock.unix_micros());
            }
            self.table.rereads.answer(number, true);
        }
    }
}
