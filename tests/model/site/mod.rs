//! One log with its ledger in a simulated world, and the steps that a process and a power company can take; `fate` has those
//! that nobody takes.

use std::path::Path;

use arrow_zerobus_sdk_wrapper::{
    canary::Canary,
    io::sim::{SplitMix, World},
    ledger::{Ledger, LedgerDamage, LedgerOpened, LedgerRecord, Ranges, Settled, SettledRange, SimPlace},
    reclaim,
    types::{Epoch, Lsn},
    wal::{
        Append, AppendError, Appended, Destination, Durability, Known, LogDirectory, Next, OpenError,
        Recovery, Wal, WalOptions,
    },
};
use futures::FutureExt;

use crate::{
    batches, checks,
    oracle::{Check, Fate, Oracle},
};

mod fate;

pub(crate) use fate::{Damage, Forgery};

pub(crate) const DIR: &str = "/logs/main.default.events/writer-000";
/// Openings that fail in a row before the disk is healed.
const OPENINGS_MAX: u32 = 4;
/// A slot of the simulated ledger has room for more.
const RANGES_MAX: usize = 60;
/// What may lie about in a log that was drained, beside its newest segments.
const REST_BYTES: u64 = 96 * 1024;

/// The open log of the process that lives now.
#[derive(Debug)]
struct Process {
    wal: Wal,
    ledger: Ledger,
    /// The last frame when it was opened.
    last_before: u64,
    /// Failures that the disk had shown when it was opened.
    errors_before: u64,
    /// The same when the last step began.
    errors_before_step: u64,
}

/// Numbers of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) appends: u64,
    pub(crate) refused: u64,
    pub(crate) openings: u64,
    pub(crate) failed_openings: u64,
    pub(crate) reclaimed: u64,
    pub(crate) poisoned: u64,
    pub(crate) ledgers_restored: u64,
}

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    options: WalOptions,
    process: Option<Process>,
    epoch: Option<Epoch>,
    /// Ledgers that were durable once, with their marks.
    old_ledgers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The ledger was lost, put back or overwritten since the last opening.
    is_forged: bool,
    /// Failures that the disk had shown when the process was opened that was killed last.
    errors_before_the_killed: u64,
    /// Segments were sealed when the last process ended, so that their ends are known.
    ended_cleanly: bool,
    damaged_since_opening: u32,
    /// Decides which frames a slow stream has, when there are several streams.
    slow: Option<SplitMix>,
    /// Whether every step is printed.
    pub(crate) prints: bool,
}

pub(crate) fn destination() -> Destination {
    Destination {
        table: "main.default.events".parse().unwrap(),
        endpoint: "https://1.zerobus.eu-west-1.cloud.databricks.com".to_owned(),
        unity_catalog_url: None,
    }
}

impl Site {
    pub(crate) fn new(seed: u64, options: WalOptions, canary: Option<Canary>) -> Site {
        Site {
            world: canary.map_or_else(|| World::new(seed), |canary| World::with_canary(seed, canary)),
            oracle: Oracle::default(),
            counts: Counts::default(),
            options,
            process: None,
            epoch: None,
            old_ledgers: Vec::new(),
            is_forged: false,
            errors_before_the_killed: 0,
            ended_cleanly: false,
            damaged_since_opening: 0,
            slow: None,
            prints: false,
        }
    }

    /// Delivers with several streams from now on, of which one is slow.
    pub(crate) fn use_several_streams(&mut self, seed: u64) {
        self.slow = Some(SplitMix::new(seed));
    }

    pub(crate) fn say(&self, step: impl FnOnce() -> String) {
        if self.prints {
            eprintln!("  {:>5} {}", self.world.disk().operations(), step());
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.process.is_some()
    }

    /// Whether everything that was ever appended is settled, as far as anybody knows.
    pub(crate) fn is_drained(&self) -> bool {
        self.oracle.progress.settled.through.get() >= self.oracle.last
    }

    /// Whether a failure has a cause: the disk has shown one in this step, or at some time before the log refused
    /// everything.
    fn has_cause(&self) -> bool {
        let disk = self.world.disk();
        let before = self.process.as_ref().map_or(0, |process| match process.wal.poisoned() {
            Some(_) => process.errors_before,
            None => process.errors_before_step,
        });
        disk.is_off() || disk.counts().errors() > before
    }

    fn blame(&self, what: &str, error: &dyn std::fmt::Debug) -> Check {
        if self.has_cause() { Ok(()) } else { Err(format!("R12: {what} without a cause: {error:?}")) }
    }

    fn begin_step(&mut self) {
        let errors = self.world.disk().counts().errors();
        if let Some(process) = &mut self.process {
            process.errors_before_step = errors;
        }
    }

    // ---- Opening and ending.

    /// Opens the log; heals the disk if it does not want to. Compares what is there with what was promised.
    pub(crate) fn open(&mut self) -> Check {
        if self.process.is_some() {
            return Ok(());
        }
        for attempt in 1..=OPENINGS_MAX {
            if self.try_open()? {
                return Ok(());
            }
            if self.world.disk().is_off() {
                self.end()?;
            }
            if attempt + 1 == OPENINGS_MAX {
                self.world.disk().heal();
            }
        }
        Err("R12: a healthy disk cannot be opened".to_owned())
    }

    /// Opens the log unless the disk fails.
    pub(crate) fn try_open(&mut self) -> Check<bool> {
        let errors_before = self.world.disk().counts().errors();
        self.counts.openings += 1;
        match self.open_parts() {
            Ok(opened) => {
                self.say(|| format!("open: {:?}", opened.recovery));
                self.accept(opened, errors_before)
            }
            Err(failure) => {
                self.say(|| format!("open: {failure}"));
                self.counts.failed_openings += 1;
                let disk = self.world.disk();
                if disk.is_off() || disk.counts().errors() > errors_before {
                    return Ok(false);
                }
                Err(format!("R12: opening fails without a cause: {failure}"))
            }
        }
    }

    /// As the wrapper does it.
    fn open_parts(&mut self) -> Result<OpenedParts, String> {
        let env = self.world.env();
        let dir = Path::new(DIR);
        let failed = |error: OpenError| format!("{error}: {error:?}");
        let directory = LogDirectory::open(&env, dir, &destination()).map_err(failed)?;
        let epoch = directory.epoch();
        let place = Box::new(SimPlace::of(&env.storage, dir));
        let opened = Ledger::open_at(place, epoch, env.canaries).map_err(|error| format!("{error:?}"))?;
        let LedgerOpened { ledger, record: stored, mut ranges, log_durable, damage, mark_damage, .. } =
            opened;
        let highest = stored.settled.highest().max(ranges.highest());
        let known = Known { highest, settled: stored.settled.through, durable: log_durable };
        let (wal, recovery) = Wal::open_knowing(&env, directory, self.options, known).map_err(failed)?;
        let stored_ranges = ranges.clone();
        let record = reclaim::reconcile(stored, &mut ranges, &wal, recovery.last, log_durable)
            .map_err(|error| format!("{error:?}"))?;
        Ok(OpenedParts {
            wal,
            ledger,
            epoch,
            stored: (stored, stored_ranges),
            record: (record, ranges),
            recovery,
            damage,
            mark_damage,
        })
    }

    /// Says whether the process lives: what it reads may have damage, and the power may go while it notes that.
    fn accept(&mut self, opened: OpenedParts, errors_before: u64) -> Check<bool> {
        let OpenedParts { wal, ledger, epoch, stored, record, recovery, damage, mark_damage } = opened;
        self.judge_ledger(damage.as_ref(), mark_damage.as_deref())?;
        if self.epoch.is_some_and(|known| known != epoch) && !self.oracle.disk_lies {
            return Err(format!("R10: the log's epoch was {:?} and is {epoch}", self.epoch));
        }
        self.epoch = Some(epoch);
        let disk = self.world.disk();
        // A sync that failed may have taken what only the page cache had.
        self.oracle.outlives &=
            disk.failed_syncs_arrive() || disk.counts().errors() == self.errors_before_the_killed;
        // What is read now is compared; that reads can fail is another matter.
        let mut read_errors = 0;
        self.world.disk().faults(|faults| read_errors = std::mem::take(&mut faults.read_errors));
        let compared =
            checks::opened(&mut self.oracle, &wal, &recovery, &stored, &record, self.options.durability);
        self.world.disk().faults(|faults| faults.read_errors = read_errors);
        if self.world.disk().is_off() {
            return Ok(false);
        }
        compared?;
        (self.oracle.progress, self.oracle.ranges) = record;
        let last_before = self.oracle.last;
        self.process =
            Some(Process { wal, ledger, last_before, errors_before, errors_before_step: errors_before });
        self.damaged_since_opening = 0;
        self.is_forged = false;
        self.ended_cleanly = false;
        self.check_rules_of_the_disk().map(|()| true)
    }

    /// A ledger is called damaged only if it is, and is as good as before if its mark is whole.
    fn judge_ledger(&mut self, damage: Option<&LedgerDamage>, mark_damage: Option<&str>) -> Check {
        self.say(|| format!("ledger: {damage:?}, mark: {mark_damage:?}"));
        let has_failed = self.world.disk().counts().errors() > 0;
        let excused = self.is_forged || has_failed || self.oracle.disk_lies;
        // A cut in the first write of a simulated store leaves none of its slots whole.
        let is_torn = |damage: &&LedgerDamage| damage.to_string().contains("no slot is whole");
        if let Some(damage) = damage.filter(|damage| !excused && !is_torn(damage)) {
            return Err(format!("R7: nothing has happened to the ledger, but: {damage}"));
        }
        if mark_damage.is_some() {
            // As it was before there were marks.
            if self.is_forged {
                self.believe_the_forgery();
            }
            self.oracle.nothing_vouches();
        }
        self.counts.ledgers_restored += u64::from(damage.is_some());
        Ok(())
    }

    fn believe_the_forgery(&mut self) {
        self.oracle.ledger_forged = true;
        self.oracle.checkpoint = None;
        self.oracle.nothing_vouches();
    }

    /// Ends the process in an orderly way.
    pub(crate) fn close(&mut self) -> Check {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.wal.close();
        let has_failed = self.world.disk().counts().errors() > process.errors_before;
        let durable = process.wal.durable().get();
        let is_off = self.world.disk().is_off();
        self.say(|| format!("close: {durable} is durable"));
        let is_sealed = !is_off && !has_failed && process.wal.poisoned().is_none();
        if self.options.durability != Durability::Os || is_sealed {
            self.oracle.durable(durable)?;
        }
        if is_sealed && durable != self.oracle.last {
            return Err(format!("I3: {} was appended, {durable} is durable in the end", self.oracle.last));
        }
        // One that has appended nothing leaves the last segment as it has found it.
        self.ended_cleanly = is_sealed && self.oracle.last > process.last_before;
        self.check_rules_of_the_disk()
    }

    /// The power goes.
    pub(crate) fn cut(&mut self) -> Check {
        self.observe()?;
        self.say(|| "cut".to_owned());
        self.world.crash();
        self.process = None;
        self.oracle.outlives = false;
        self.check_rules_of_the_disk()
    }

    /// The process is killed.
    pub(crate) fn kill(&mut self) -> Check {
        self.observe()?;
        self.say(|| "kill".to_owned());
        self.world.kill();
        if let Some(process) = self.process.take() {
            self.oracle.outlives = true;
            self.errors_before_the_killed = process.errors_before;
        }
        self.check_rules_of_the_disk()
    }

    /// If a planned cut or kill has come: ends what lived, and lets the power come back.
    pub(crate) fn after_the_cut(&mut self) -> Check<bool> {
        if !self.world.disk().is_off() {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    /// Ends what lived as the plan wants it.
    fn end(&mut self) -> Check {
        if self.world.disk().is_killed() { self.kill() } else { self.cut() }
    }

    fn check_rules_of_the_disk(&self) -> Check {
        self.world.disk().violations().into_iter().next().map_or(Ok(()), Err)
    }

    // ---- What a process does.

    /// Appends so many batches: the first by itself, the others in one group while the disk is held up.
    pub(crate) fn append(&mut self, count: u64) -> Check {
        self.begin_step();
        let Some(process) = &self.process else { return Ok(()) };
        let wal = process.wal.clone();
        let first = self.oracle.batches + 1;
        self.oracle.batches += count;
        self.counts.appends += count;
        let next = self.oracle.last + 1;
        if self.oracle.last_groups[1] != next {
            self.oracle.last_groups = [self.oracle.last_groups[1], next];
        }
        let answers = if count == 1 {
            vec![wal.append(batches::frame(first)).wait()]
        } else {
            self.append_group(&wal, first..first + count)
        };
        for (batch, answer) in (first..).zip(answers) {
            self.say(|| format!("append {batch}: {answer:?}"));
            self.answered(batch, answer)?;
        }
        if wal.poisoned().is_some() {
            self.counts.poisoned += 1;
        }
        self.observe()
    }

    fn append_group(&self, wal: &Wal, batches: std::ops::Range<u64>) -> Vec<Result<Appended, AppendError>> {
        let disk = self.world.disk();
        let mut batches = batches.map(batches::frame);
        disk.pause();
        let mut first = batches.next().map(|frame| wal.append(frame));
        let mut answers = Vec::new();
        while let Some(append) = &mut first
            && !disk.has_arrived()
        {
            match append.now_or_never() {
                Some(answer) => {
                    answers.push(answer);
                    first = None;
                }
                None => std::thread::yield_now(),
            }
        }
        let others: Vec<Append> = batches.map(|frame| wal.append(frame)).collect();
        disk.resume();
        answers.extend(first.into_iter().chain(others).map(Append::wait));
        answers
    }

    fn answered(&mut self, batch: u64, answer: Result<Appended, AppendError>) -> Check {
        match answer {
            Ok(appended) => {
                let is_sync = self.options.durability == Durability::Sync;
                if appended.durable != is_sync {
                    return Err(format!("I3: {appended:?} with {:?}", self.options.durability));
                }
                self.oracle.stored(batch, appended.lsn.get(), is_sync)
            }
            Err(AppendError::TooLarge { .. }) => Err(format!(
                "R12: batch {batch} is too large for a segment of {} bytes",
                self.options.segment_bytes
            )),
            Err(error) => {
                self.counts.refused += 1;
                self.oracle.fates.insert(batch, Fate::Unknown);
                self.blame("an append fails", &error)
            }
        }
    }

    /// Tries to append what no segment can hold.
    pub(crate) fn append_oversized(&mut self) -> Check {
        let Some(process) = &self.process else { return Ok(()) };
        let operations = self.world.disk().operations();
        let answer = process.wal.append(batches::oversized(self.options.segment_bytes)).wait();
        self.say(|| format!("append what is too large: {answer:?}"));
        match answer {
            Err(AppendError::TooLarge { .. }) if self.world.disk().operations() == operations => Ok(()),
            answer => Err(format!("R11: a frame that no segment can hold: {answer:?}")),
        }
    }

    /// What the log says is durable is a promise.
    pub(crate) fn observe(&mut self) -> Check {
        let Some(process) = &self.process else { return Ok(()) };
        if self.options.durability == Durability::Os {
            return Ok(());
        }
        self.oracle.durable(process.wal.durable().get())
    }

    /// Reads and delivers so many frames, as the drainer does: only what is durable. With several streams some wait, those
    /// behind them do not, and nothing that is delivered is so again.
    pub(crate) fn settle(&mut self, count: u64) -> Check {
        self.begin_step();
        let Some(process) = &self.process else { return Ok(()) };
        let wal = process.wal.clone();
        let mut reader = wal.reader(self.oracle.progress.settled.through.next());
        for _ in 0..count {
            let next = match reader.next() {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) => return self.blame("reading fails", &error),
            };
            if self.is_settled(&next) || count < u64::MAX && self.is_slow(&next) {
                continue;
            }
            self.settle_one(next, wal.durable())?;
        }
        let settled = self.oracle.progress.settled;
        self.say(|| format!("settled through {}", settled.through));
        Ok(())
    }

    /// Whether all of it is settled above the watermark.
    fn is_settled(&self, next: &Next) -> bool {
        match next {
            Next::Frame(frame) => self.oracle.ranges.has_frame(frame.lsn),
            Next::Damaged(damage) => damage.lsns.as_ref().is_some_and(|lsns| {
                (lsns.start().get()..=lsns.end().get()).all(|lsn| self.oracle.ranges.has_frame(Lsn::new(lsn)))
            }),
        }
    }

    /// Whether a slow stream has it.
    fn is_slow(&mut self, next: &Next) -> bool {
        let has_room = self.oracle.ranges.iter().len() < RANGES_MAX;
        let slow = self.slow.as_mut().filter(|_| has_room && matches!(next, Next::Frame(_)));
        slow.is_some_and(|slow| slow.below(3) == 0)
    }

    fn settle_one(&mut self, next: Next, durable: Lsn) -> Check {
        let progress = &mut self.oracle.progress;
        let mut range = SettledRange { requests: 1, ..SettledRange::default() };
        let (first, through) = match next {
            Next::Frame(frame) => {
                let batch = batches::number_of(&frame)?;
                if frame.lsn > durable {
                    return Err(format!("I1: frame {} was read, {durable} is durable", frame.lsn));
                }
                progress.delivered_frames += 1;
                progress.delivered_rows += u64::from(frame.rows);
                self.oracle.read(frame.lsn.get(), batch, self.options.durability != Durability::Os)?;
                self.oracle.deliver(batch);
                (range.frames, range.rows) = (1, u64::from(frame.rows));
                (frame.lsn, frame.lsn)
            }
            Next::Damaged(damage) => {
                self.oracle.damaged(&damage, self.options.durability)?;
                match &damage.lsns {
                    Some(lsns) => (*lsns.start(), *lsns.end()),
                    None => return Ok(()),
                }
            }
        };
        range.start = Settled { through: first.previous(), rows_of_next: 0 };
        range.end = Settled { through, rows_of_next: 0 };
        self.oracle.ranges.settle(&mut self.oracle.progress.settled, range);
        Ok(())
    }

    /// Delivers the first row of the next frame, if it has more than one.
    pub(crate) fn settle_a_row(&mut self) -> Check {
        let Some(process) = &self.process else { return Ok(()) };
        let next = process.wal.reader(self.oracle.progress.settled.through.next()).next();
        if let Ok(Some(Next::Frame(frame))) = next
            && frame.rows > 1
        {
            self.oracle.progress.settled.rows_of_next = 1;
            self.say(|| format!("settled a row of {}", frame.lsn));
        }
        Ok(())
    }

    /// Makes the progress durable and frees what it settles.
    pub(crate) fn reclaim(&mut self, roll_bytes: u64) -> Check {
        self.begin_step();
        let env = self.world.env();
        let record = self.oracle.progress;
        let Some(process) = &mut self.process else { return Ok(()) };
        process.ledger.remember_ranges(&self.oracle.ranges);
        let written = reclaim::checkpoint(&env, &mut process.ledger, &process.wal, &record);
        match written {
            Ok(()) => {
                self.oracle.checkpoint = Some((record, self.oracle.ranges.clone()));
                if self.options.durability != Durability::Os {
                    self.oracle.vouched = self.oracle.vouched.max(process.wal.durable().get());
                }
                let disk = self.world.disk();
                let (ledger, mark) = (SimPlace::file(Path::new(DIR)), SimPlace::mark(Path::new(DIR)));
                self.old_ledgers.extend(disk.platter(&ledger).zip(disk.platter(&mark)));
            }
            Err(error) => {
                self.say(|| format!("checkpoint: {error:?}"));
                // [I5] Nothing may be freed: the ledger may say this, or the one before, or nothing.
                self.oracle.checkpoint = None;
                return self.blame("a checkpoint fails", &error);
            }
        }
        let freed = reclaim::free(&process.wal, record.settled.through, roll_bytes);
        process.ledger.refill_reserve();
        self.say(|| format!("reclaim through {}: {freed:?}", record.settled.through));
        match freed {
            Ok(reclaimed) => {
                self.counts.reclaimed += reclaimed.segments as u64;
                Ok(())
            }
            Err(error) => self.blame("a reclaim fails", &error),
        }
    }

    // ---- The end.

    /// Everything heals; everything must drain, and the disk must go to nearly nothing.
    pub(crate) fn finish(&mut self) -> Check {
        self.world.disk().heal();
        self.after_the_cut()?;
        // An interval's last frames become durable at the end of a process, a poisoned log is opened again.
        self.close()?;
        self.open()?;
        self.settle(u64::MAX)?;
        let wal = self.process.as_ref().map(|process| process.wal.clone()).ok_or("R12: it is not open")?;
        let settled = self.oracle.progress.settled.through;
        if settled < wal.durable() {
            return Err(format!("R12: settled through {settled}, durable is {}", wal.durable()));
        }
        self.oracle.drained()?;
        self.reclaim(1)?;
        let count = wal.count_from(settled.next()).map_err(|error| format!("R12: {error:?}"))?;
        if count.frames > 0 || self.oracle.checkpoint.is_none() {
            return Err(format!("I6: everything is settled, and there is {count:?}"));
        }
        self.append(1)?;
        self.settle(u64::MAX)?;
        self.oracle.drained()?;
        if self.oracle.media_damage == 0 && !self.oracle.disk_lies {
            let used = self.world.disk().used_bytes();
            if used > (4 + self.options.spare_segments as u64) * self.options.segment_bytes + REST_BYTES {
                let files = self.world.disk().files(Path::new(DIR));
                return Err(format!("R11: a drained log takes {used} bytes: {files:?}"));
            }
        }
        self.close()
    }
}

struct OpenedParts {
    wal: Wal,
    ledger: Ledger,
    epoch: Epoch,
    stored: (LedgerRecord, Ranges),
    record: (LedgerRecord, Ranges),
    recovery: Recovery,
    damage: Option<LedgerDamage>,
    mark_damage: Option<String>,
}
