//! What keeps a log from being opened, or is reported whenever it is: files that are not what their names say, and a lost
//! identity. Everything else `recovery` and the readers deal with by themselves.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Damage, DamageReason, OpenError,
    directory::{read_segment_header, segments, storage},
    format::{ALIGNMENT, FRAME_HEADER, FrameHeader, segment_name},
    recovery::{Role, recover},
};
use crate::{
    io::{Access, Env},
    types::Epoch,
};

/// A frame's header may lie across the end of a piece; so much is read at once.
const PIECE: usize = 1024 * 1024;

/// A file with the name of a segment that is not that segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// It is a segment of this log, under another one's name.
    Misnamed {
        /// The name that it should have.
        right: PathBuf,
    },
    /// It is of another log.
    Foreign,
    /// Nothing in it can be made out.
    Unreadable,
}

/// What is found in a directory whose epoch is known.
#[derive(Debug)]
pub(crate) struct Strays {
    /// The files, and what they are.
    pub(crate) files: Vec<(PathBuf, Stray)>,
    /// Damage that readers step over.
    pub(crate) damage: Vec<Damage>,
}

/// The epoch of the log: of its newest whole segment header or, if there is none, of its frames; none if there are
/// neither.
///
/// # Errors
///
/// [`OpenError`] if the file system fails.
pub(crate) fn epoch(env: &Env, dir: &Path) -> Result<Option<Epoch>, OpenError> {
    let ids = segments(env, dir)?.ids;
    for id in ids.iter().rev() {
        let path = dir.join(segment_name(*id));
        if let Ok(header) = read_segment_header(env, &path).map_err(storage("read", &path))? {
            return Ok(Some(header.epoch));
        }
    }
    for id in ids.iter().rev() {
        let path = dir.join(segment_name(*id));
        if let Some(epoch) = epoch_of_frames(env, &path).map_err(storage("read", &path))? {
            return Ok(Some(epoch));
        }
    }
    Ok(None)
}

fn epoch_of_frames(env: &Env, path: &Path) -> io::Result<Option<Epoch>> {
    let file = env.storage.open(path, Access::Read)?;
    let mut piece = vec![0; PIECE + FRAME_HEADER];
    let mut offset = 0;
    loop {
        let count = file.read_at(&mut piece, offset)?;
        let last = count.saturating_sub(FRAME_HEADER);
        for at in (0..=last).step_by(ALIGNMENT).take_while(|at| at + FRAME_HEADER <= count) {
            let bytes = &piece[at..at + FRAME_HEADER];
            if let Some(header) = FrameHeader::may_begin(bytes).then(|| FrameHeader::decode(bytes)).flatten()
                // A frame that was stored as the batch of another log stands somewhere else.
                && header.offset == offset + at as u64
            {
                return Ok(Some(header.epoch));
            }
        }
        if count < piece.len() {
            return Ok(None);
        }
        offset += PIECE as u64;
    }
}

/// Looks at each segment of the log with this epoch.
///
/// # Errors
///
/// [`OpenError`] if the file system fails, or a later version of this program wrote a segment.
pub(crate) fn strays(env: &Env, dir: &Path, epoch: Epoch) -> Result<Strays, OpenError> {
    let (files, damage): (Vec<Damage>, Vec<Damage>) = recover(env, dir, epoch, Role::Onlooker)?
        .report
        .damage
        .into_iter()
        .partition(|damage| matches!(damage.reason, DamageReason::Foreign | DamageReason::Unreadable));
    let mut found = Vec::new();
    for Damage { segment, reason, .. } in files {
        let header = read_segment_header(env, &segment).map_err(storage("read", &segment))?;
        let stray = match header {
            _ if reason == DamageReason::Unreadable => Stray::Unreadable,
            Ok(header) if header.epoch == epoch => {
                Stray::Misnamed { right: dir.join(segment_name(header.id)) }
            }
            _ => Stray::Foreign,
        };
        found.push((segment, stray));
    }
    Ok(Strays { files: found, damage })
}
