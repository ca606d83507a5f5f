//! Opening a stream for a request that is made for the table as it is.

use super::LaneState;
use super::failing::Failure;
use super::fed::Request;
use super::grace::Schema;
use super::lane::Lane;
use crate::transport::{ErrorClass, TransportError};

/// What became of opening a stream for a request.
pub(super) enum Opened<S> {
    /// It is open.
    Stream(S),
    /// It is open, and what it was opened for was dropped meanwhile.
    Spare(S),
    /// It is not: the request is for another table than the one that is there now, or was dropped.
    Outdated,
}

impl Lane {
    /// Opens a stream for a request, once it is certain that the request is made for the table as it is.
    pub(super) async fn open<S>(
        &self,
        request: &Request,
        table_version: u64,
        opening: impl Future<Output = Result<S, TransportError>>,
    ) -> Result<Opened<S>, Failure> {
        if self.status.borrow().failure.is_none() {
            self.set_state(LaneState::Connecting);
        }
        if self.is_outdated(table_version).await {
            return Ok(Opened::Outdated);
        }
        let (opened, has_dropped) = self.serving_drops(opening).await;
        match opened {
            Ok(stream) => {
                self.status.send_modify(|status| status.streams_opened += 1);
                let format = request.format();
                self.grace.accepted(|it| matches!(it, Schema::Stream(refused) if *refused == *format));
                Ok(if has_dropped { Opened::Spare(stream) } else { Opened::Stream(stream) })
            }
            Err(failure) if failure.class == ErrorClass::Poison && self.table.distrust() => {
                Ok(Opened::Outdated)
            }
            Err(failure) if failure.class == ErrorClass::Poison => {
                Err(Failure::Schema(Schema::Stream(request.format().clone()), failure))
            }
            Err(failure) => Err(Failure::Other(failure)),
        }
    }

    /// Asks the catalog what the table is like now. Says whether requests that were made for this version of it have to
    /// be made anew: because of the answer, or because frames were dropped meanwhile.
    ///
    /// To be called while nothing is in flight.
    pub(super) async fn is_outdated(&self, table_version: u64) -> bool {
        let (table, has_dropped) = self.serving_drops(self.table.reread()).await;
        has_dropped || table.version != table_version
    }

    /// Waits for something, and drops frames meanwhile if somebody wants that; says whether any were. Who drops shall
    /// not keep a stream from being opened.
    ///
    /// To be called while nothing is in flight.
    pub(super) async fn serving_drops<T>(&self, work: impl Future<Output = T>) -> (T, bool) {
        let mut has_dropped = false;
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return (done, has_dropped),
                () = self.admission.drops.wanted() => has_dropped |= self.drop_oldest().await,
            }
        }
    }
}
