//! Logs with a backlog: filled by a process that dies without closing them, opened by another that says what that
//! took.
//!
//! A process of its own for each step: what one leaves in memory would flatter the next.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use arrow_zerobus_sdk_wrapper::wal::{Append, Durability, PreparedFrame};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{MIB, Result, entries::Pool, machine, ours};

/// How much is handed to our log before the first answer is waited for.
const WINDOW_BYTES: usize = 64 * MIB;
const WINDOW_FRAMES: usize = 1024;
/// How much the others make durable at once.
#[cfg(feature = "crates")]
const GROUP: usize = 64;

/// Whose log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub enum Whose {
    /// Ours.
    Ours,
    /// raft-engine's.
    #[cfg(feature = "crates")]
    RaftEngine,
    /// okaywal's.
    #[cfg(feature = "crates")]
    Okaywal,
    /// fjall's.
    #[cfg(feature = "crates")]
    Fjall,
}

impl Whose {
    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Whose::Ours => "this log",
            #[cfg(feature = "crates")]
            Whose::RaftEngine => "raft-engine 0.4",
            #[cfg(feature = "crates")]
            Whose::Okaywal => "okaywal 0.3",
            #[cfg(feature = "crates")]
            Whose::Fjall => "fjall 3",
        }
    }

    /// Those of the other crates that take a backlog of gigabytes in their stride.
    pub fn others() -> Vec<Whose> {
        Whose::value_variants().iter().copied().filter(|whose| *whose != Whose::Ours).collect()
    }
}

/// One step, in a process of its own.
#[derive(Clone, Debug, Subcommand)]
pub enum Step {
    /// Appends to a log and dies.
    #[command(hide = true)]
    Fill(Fill),
    /// Opens a log, says what it took, and dies.
    #[command(hide = true)]
    Open(Open),
}

/// What to append.
#[derive(Clone, Debug, Args)]
pub struct Fill {
    /// Whose log
    pub whose: Whose,
    /// The directory of the log
    pub dir: PathBuf,
    /// The length of an entry
    pub entry_bytes: usize,
    /// How many entries
    pub entries: usize,
    /// The length of our segments
    pub segment_bytes: u64,
}

/// What to open.
#[derive(Clone, Debug, Args)]
pub struct Open {
    /// Whose log
    pub whose: Whose,
    /// The directory of the log
    pub dir: PathBuf,
    /// The length of an entry
    pub entry_bytes: usize,
    /// The length of our segments
    pub segment_bytes: u64,
}

/// What opening took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// From the first call to an open log.
    pub elapsed: Duration,
    /// By how much the process grew at most meanwhile.
    pub memory_bytes: u64,
}

impl Step {
    /// Does it, and ends the process.
    ///
    /// # Errors
    ///
    /// The first failure; then the process goes on to say so.
    pub fn run(&self) -> Result<std::convert::Infallible> {
        match self {
            Step::Fill(fill) => match fill.whose {
                Whose::Ours => fill.ours()?,
                #[cfg(feature = "crates")]
                _ => fill.other()?,
            },
            Step::Open(open) => {
                let (resident, _) = machine::resident_bytes();
                let start = Instant::now();
                let held = open.open()?;
                let elapsed = start.elapsed();
                let (_, highest) = machine::resident_bytes();
                let opened = Opened { elapsed, memory_bytes: highest.saturating_sub(resident) };
                println!("{}", serde_json::to_string(&opened)?);
                // Closing would seal what the next one is to find unsealed.
                std::mem::forget(held);
            }
        }
        // As a crash of the process would: nothing is closed.
        std::process::exit(0)
    }
}

/// Runs a step of this program in a process of its own.
///
/// # Errors
///
/// When it fails, or answers with something else.
pub fn fill(fill: &Fill) -> Result<()> {
    let Fill { whose, dir, entry_bytes, entries, segment_bytes } = fill;
    let name = whose.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let numbers = [entry_bytes.to_string(), entries.to_string(), segment_bytes.to_string()];
    child("fill", &name, dir, &numbers).map(|_| ())
}

/// Opens a log in a process of its own, with nothing of it in memory. With `everything`, nothing of any file.
///
/// # Errors
///
/// When it fails, or answers with something else.
pub fn open_cold(open: &Open, everything: bool) -> Result<Opened> {
    machine::make_cold(&machine::files_below(&open.dir)?, everything)?;
    let Open { whose, dir, entry_bytes, segment_bytes } = open;
    let name = whose.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let answer = child("open", &name, dir, &[entry_bytes.to_string(), segment_bytes.to_string()])?;
    Ok(serde_json::from_str(&answer)?)
}

fn child(step: &str, whose: &str, dir: &Path, numbers: &[String]) -> Result<String> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args([step, whose]).arg(dir).args(numbers).output()?;
    if !output.status.success() {
        return Err(format!("{step} {whose}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

impl Fill {
    fn ours(&self) -> Result<()> {
        let wal = ours::open(&self.dir, Durability::Os, self.segment_bytes)?;
        let batches = Pool::new(self.entry_bytes).batches(0)?;
        let window = (WINDOW_BYTES / self.entry_bytes).clamp(1, WINDOW_FRAMES);
        let mut waiting: VecDeque<Append> = VecDeque::with_capacity(window);
        for batch in batches.iter().cycle().take(self.entries) {
            if waiting.len() == window
                && let Some(oldest) = waiting.pop_front()
            {
                oldest.wait()?;
            }
            waiting.push_back(wal.append(PreparedFrame::new(batch)?));
        }
        for append in waiting {
            append.wait()?;
        }
        std::mem::forget(wal);
        Ok(())
    }

    #[cfg(feature = "crates")]
    fn other(&self) -> Result<()> {
        use crate::stores::{Fjall, Okaywal, RaftEngine};
        let pool = Pool::new(self.entry_bytes);
        let entries = pool.entries(0);
        let endless = entries.iter().cycle().take(self.entries);
        match self.whose {
            Whose::RaftEngine => {
                let engine = RaftEngine::open_keeping(&self.dir, &pool, 1)?;
                let mut messages = RaftEngine::messages(entries);
                let count = messages.len();
                for entry in 0..self.entries {
                    engine.write(0, &mut messages[entry % count], false)?;
                }
                std::mem::forget(engine);
            }
            Whose::Okaywal => {
                let log = Okaywal::open_keeping(&self.dir, &pool)?;
                let all: Vec<_> = endless.collect();
                for group in all.chunks(GROUP) {
                    log.commit_all(group.iter().map(|entry| &entry[..]))?;
                }
                std::mem::forget(log);
            }
            Whose::Fjall => {
                let database = Fjall::open(&self.dir, &pool)?;
                for (key, entry) in (0..).zip(endless) {
                    database.insert(key, entry)?;
                }
                database.persist()?;
                std::mem::forget(database);
            }
            Whose::Ours => self.ours()?,
        }
        Ok(())
    }
}

impl Open {
    fn open(&self) -> Result<Box<dyn std::any::Any>> {
        #[cfg(feature = "crates")]
        use crate::stores::{Fjall, Okaywal, RaftEngine};
        match self.whose {
            Whose::Ours => Ok(Box::new(ours::open(&self.dir, Durability::Sync, self.segment_bytes)?)),
            #[cfg(feature = "crates")]
            Whose::RaftEngine => {
                Ok(Box::new(RaftEngine::open_keeping(&self.dir, &Pool::none(self.entry_bytes), 1)?))
            }
            #[cfg(feature = "crates")]
            Whose::Okaywal => Ok(Box::new(Okaywal::open_keeping(&self.dir, &Pool::none(self.entry_bytes))?)),
            #[cfg(feature = "crates")]
            Whose::Fjall => Ok(Box::new(Fjall::open(&self.dir, &Pool::none(self.entry_bytes))?)),
        }
    }
}
