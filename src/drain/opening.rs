//! Opening a stream for a request that is made for the table as it is.

use super::LaneState;
use super::failing::Failure;
use super::fed::Request;
use super::grace::Schema;
use super::lane::Lane;
use crate::transport::{ErrorClass, Stream};

/// What became of opening a stream for a request.
pub(super) enum Opened {
    /// It is open.
    Stream(Box<dyn Stream>),
    /// It is open, and what it was opened for was dropped meanwhile.
    Spare(Box<dyn Stream>),
    /// It is not: the request is for another table than the one that is there now, or was dropped.
    Outdated,
}

impl Lane {
    /// Opens a stream for a request, once it is certain that the request is made for the table as it is.
    pub(super) async fn open(&self, request: &Request, table_version: u64) -> Result<Opened, Failure> {
        if self.status.borrow().failure.is_none() {
            self.set_state(LaneState::Connecting);
        }
        if self.is_outdated(table_version).await {
            return Ok(Opened::Outdated);
        }
        let mut has_dropped = false;
        let mut opening = self.transport.open(request.format());
        let opened = loop {
            tokio::select! {
                biased;
                opened = &mut opening => break opened,
                // Nothing is in flight; and who drops shall not keep a stream from being opened.
                () = self.admission.drops.wanted() => has_dropped |= self.drop_oldest().await,
            }
        };
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
        let mut has_dropped = false;
        let rereading = self.table.reread();
        tokio::pin!(rereading);
        loop {
            tokio::select! {
                biased;
                table = &mut rereading => return has_dropped || table.version != table_version,
                () = self.admission.drops.wanted() => has_dropped |= self.drop_oldest().await,
            }
        }
    }
}
