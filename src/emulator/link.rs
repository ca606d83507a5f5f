//! What streams of records and of batches have in common: their client, and who may have one.

use std::sync::Arc;

use futures::SinkExt as _;
use futures::channel::mpsc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::Sink;
use super::catalog::Table;
use super::connection::Cutter;
use super::faults::Faults;
use super::server::stopped;
use super::writer::Stopped;

/// Answers that may wait for the client to read them.
pub(super) const ANSWERS_MAX: usize = 16;

pub(super) type Answers<A> = mpsc::Sender<Result<A, Status>>;

/// What connects a stream with its client, and what happens on the way.
pub(super) struct Link<R, A> {
    pub(super) requests: Streaming<R>,
    pub(super) answers: Answers<A>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) connection: Option<Cutter>,
    pub(super) faults: Arc<Faults>,
    pub(super) sink: Sink,
}

impl<R, A> Link<R, A> {
    pub(super) async fn send(&mut self, answer: A) -> Result<(), Status> {
        self.answers.send(Ok(answer)).await.map_err(|_| gone())
    }

    /// Takes everything and answers nothing until the client goes or the emulator stops.
    pub(super) async fn hang(&mut self) -> Status {
        let drained = async { while let Ok(Some(_)) = self.requests.message().await {} };
        tokio::select! {
            () = stopped(&mut self.stop) => Status::unavailable("the emulator is stopping"),
            () = drained => gone(),
        }
    }

    /// Cuts the connection, if it can be.
    pub(super) fn cut(&self) {
        if let Some(connection) = &self.connection {
            connection.cut();
        }
    }
}

/// Whether the client may write to the table.
pub(super) fn check_grant(table: &Table) -> Result<(), Status> {
    match table.is_writable() {
        true => Ok(()),
        false => Err(Status::permission_denied(format!("error 4024: no MODIFY on table {}", table.name()))),
    }
}

/// Whether a stream to the table may be opened.
pub(super) fn check_opening(table: &Table) -> Result<(), Status> {
    check_grant(table)?;
    match table.refusal() {
        Some(refusal) => {
            let text = format!("table {} takes no rows: {refusal}", table.name());
            Err(Status::failed_precondition(text))
        }
        None => Ok(()),
    }
}

pub(super) fn gone() -> Status {
    Status::cancelled("the client has gone")
}

pub(super) fn writer_stopped(Stopped: Stopped) -> Status {
    Status::unavailable("the table takes no more rows")
}

/// Ends then; never without a time.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
