//! Makes a request again that is recorded and may have been sent: with exactly the rows that it had, or not at all.

use super::fed::{Fed, FeedError, is_same};
use super::feed::Feed;
use super::piece::Piece;
use crate::convert::Cut;
use crate::error::ErrorCode;
use crate::ledger::{RecordedRequest, Settled};
use crate::transport::TransportError;

impl Feed {
    /// The next of the requests that are recorded.
    pub(super) fn next_recorded(&mut self, recorded: &RecordedRequest) -> Result<Option<Fed>, FeedError> {
        if self.unfinished.span.is_none() {
            self.leap();
        }
        let mut piece = std::mem::take(&mut self.unfinished);
        let filled = self.refill(&mut piece, recorded.end);
        let put = self.refusals.put();
        if !matches!(filled, Ok(true)) {
            // It goes on with what there is.
            self.unfinished = piece;
            put?;
            return filled.map(|_| None);
        }
        put?;
        self.take_damage(&mut piece);
        let span = piece.span.unwrap_or_default();
        // What is only passed is not sent, whatever it is.
        let has_same_holes = recorded.rows == 0 || piece.holes() == recorded.holes;
        if span.end != recorded.end || span.rows != recorded.rows || !has_same_holes {
            return Err(altered(&format!(
                "it had {} rows up to {}, now it has {} up to {}",
                recorded.rows,
                place(recorded.end),
                span.rows,
                place(span.end),
            )));
        }
        self.rules.recorded.pop_front();
        piece.finish()
    }

    /// Adds everything up to there to the piece; false if the log does not go so far.
    fn refill(&mut self, piece: &mut Piece, end: Settled) -> Result<bool, FeedError> {
        while self.passed < end {
            if self.chunk.is_used_up() && !self.next_chunk()? {
                if self.is_at_covered() {
                    self.take_damage(piece);
                    if self.reach_covered(piece) || self.passed >= end {
                        continue;
                    }
                    return Err(altered("a part of it is settled"));
                }
                return Ok(self.damaged_through.is_some_and(|damaged| damaged.through >= end.through));
            }
            self.settle_doubts()?;
            let Some(frame) = &self.frame else { return Ok(false) };
            if self.chunk.is_used_up() {
                // What comes next lies behind it.
                return Ok(true);
            }
            if let (Some(planned), Some(plan)) = (&piece.plan, &frame.plan)
                && !is_same(planned, plan)
            {
                return Err(altered("its frames have become rows of different messages"));
            }
            let (next, made) = (self.chunk.next(), self.chunk.made());
            let mut first = None;
            let mut records = 0;
            if let Some(Cut::Request { records: rows, framed_bytes }) = made.cut(next, usize::MAX, usize::MAX)
            {
                piece.plan = piece.plan.take().or_else(|| frame.plan.clone());
                first = Some((frame.lsn, self.chunk.row_of(next) as u32));
                records = rows.len() as u64;
                piece.framed_bytes += framed_bytes;
                piece.rows.add(made, rows);
            }
            let made_rows = made.len();
            let taken = self.chunk.take(frame, made_rows);
            self.pass(piece, first, records, taken);
        }
        Ok(true)
    }
}

fn altered(how: &str) -> FeedError {
    let text = format!("a request that may have been sent cannot be made again as it was: {how}");
    FeedError::Altered(TransportError::transient(ErrorCode::Internal, text))
}

fn place(end: Settled) -> String {
    match end.rows_of_next {
        0 => format!("the end of frame {}", end.through),
        rows => format!("row {rows} of frame {}", end.through.next()),
    }
}
