//! How much of a segment lies behind a frame in its middle: counted from frame headers.

use super::{
    Count, ReadError,
    format::FrameKind,
    index::Segment,
    walk::{Step, Walk},
};
use crate::{
    io::{Access, Env},
    types::{Epoch, Lsn},
};

/// Adds the frames of `partial` from `from` on to what comes after that segment.
pub(super) fn with_partial(
    env: &Env,
    epoch: Epoch,
    after: Count,
    partial: Option<Segment>,
    from: Lsn,
) -> Result<Count, ReadError> {
    let Some(segment) = partial else { return Ok(after) };
    let failed = |source| ReadError { action: "count the frames of", path: segment.path.clone(), source };
    let file = env.storage.open(&segment.path, Access::Read).map_err(failed)?;
    let mut walk = Walk::new(file, epoch, segment.id, segment.end);
    let mut count = Count::default();
    loop {
        match walk.step().map_err(failed)? {
            Step::Frame(header) => {
                if header.kind == FrameKind::Batch && header.lsn >= from {
                    let bytes = header.end() - header.offset;
                    count.add(1, u64::from(header.rows), bytes, header.appended_unix_micros);
                }
                walk.pass(&header);
            }
            Step::Bad(stretch) => walk.go_to(stretch.end),
            Step::Tail { .. } | Step::End => break,
        }
    }
    if let Some(oldest) = after.oldest_unix_micros {
        count.add(after.frames, after.rows, after.bytes, oldest);
    }
    Ok(count)
}
