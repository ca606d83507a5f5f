//! What tests that kill producers have in common: what the victims said, and what is in the table.

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use chaos_tests::{Announcement, Orders, content};

/// What the victims have said, all of them together.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) intended: BTreeSet<i64>,
    pub(crate) acknowledged: BTreeSet<i64>,
    /// The rows of the batches of the life that is heard.
    batches: BTreeMap<u64, Range<i64>>,
}

impl Oracle {
    pub(crate) fn hear(&mut self, announcement: Announcement) {
        match announcement {
            Announcement::Intent { batch, first, rows, .. } => {
                self.batches.insert(batch, first..first + rows);
                self.intended.extend(first..first + rows);
            }
            Announcement::Ack { batch, .. } => self.acknowledged.extend(self.batches[&batch].clone()),
            Announcement::Refused { message, .. } | Announcement::Failed { message, .. } => {
                panic!("the victim has an error of its own: {message}")
            }
            Announcement::Ready { .. } => self.batches.clear(),
            _ => {}
        }
    }

    pub(crate) fn next_id(&self) -> i64 {
        self.intended.last().map_or(0, |last| last + 1)
    }
}

/// A victim that runs, and what it says until it ends.
pub(crate) fn start_victim(orders: &Orders) -> (Child, JoinHandle<Vec<Announcement>>) {
    let mut victim = Command::new(env!("CARGO_BIN_EXE_victim"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It stays open: its end would have the victim close.
    let input = victim.stdin.as_mut().unwrap();
    writeln!(input, "{}", serde_json::to_string(orders).unwrap()).unwrap();
    let output = BufReader::new(victim.stdout.take().unwrap());
    let listener = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
    });
    (victim, listener)
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// How often each row landed in the table of this directory; all of them as they were sent.
pub(crate) fn landed(table_path: &Path) -> BTreeMap<i64, u64> {
    let table = support::read_table(table_path);
    let mut landed: BTreeMap<i64, u64> = BTreeMap::new();
    let ids = table.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let contents = table.column_by_name("content").unwrap().as_string::<i32>();
    for row in 0..table.num_rows() {
        assert_eq!(contents.value(row), content(ids.value(row)), "a row was altered");
        *landed.entry(ids.value(row)).or_default() += 1;
    }
    landed
}
