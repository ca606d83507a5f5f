//! Which rows of a frame are in quarantine: runs of row numbers, so that a whole frame is one.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

/// Row numbers of one frame. As text: `3,5-9`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Ascending, with rows between each two.
    runs: Vec<RangeInclusive<u32>>,
}

impl Rows {
    /// These rows, in any order.
    pub(crate) fn of(rows: impl IntoIterator<Item = u32>) -> Rows {
        Rows::from_runs(rows.into_iter().map(|row| row..=row).collect())
    }

    fn from_runs(mut unordered: Vec<RangeInclusive<u32>>) -> Rows {
        unordered.retain(|run| !run.is_empty());
        if !unordered.is_sorted_by_key(|run| *run.start()) {
            unordered.sort_unstable_by_key(|run| *run.start());
        }
        let mut runs: Vec<RangeInclusive<u32>> = Vec::new();
        for run in unordered {
            match runs.last_mut() {
                Some(last) if *run.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*last.end().max(run.end());
                }
                _ => runs.push(run),
            }
        }
        Rows { runs }
    }

    /// Adds rows, some of which may be there already.
    pub(crate) fn merge(&mut self, more: &Rows) {
        let runs = std::mem::take(&mut self.runs);
        *self = Rows::from_runs(runs.into_iter().chain(more.runs.iter().cloned()).collect());
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many there are.
    #[cfg(feature = "cli")]
    pub(crate) fn count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.end() - run.start()) + 1).sum()
    }

    /// How many of these rows of the frame are among them.
    pub(crate) fn count_in(&self, rows: Range<usize>) -> u64 {
        self.runs_in(rows).map(|run| run.len() as u64).sum()
    }

    /// What of these rows of the frame is among them, in runs.
    pub(crate) fn runs_in(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let first = self.runs.partition_point(|run| (*run.end() as usize) < rows.start);
        let end = rows.end;
        let overlapping = self.runs[first..].iter().take_while(move |run| (*run.start() as usize) < end);
        overlapping.map(move |run| {
            (*run.start() as usize).max(rows.start)..(*run.end() as usize).saturating_add(1).min(end)
        })
    }

    /// What of these rows of the frame is not among them, in runs.
    pub(crate) fn gaps_in(&self, rows: Range<usize>) -> Vec<Range<usize>> {
        let mut gaps = Vec::new();
        let mut start = rows.start;
        for run in self.runs_in(rows.clone()) {
            if start < run.start {
                gaps.push(start..run.start);
            }
            start = run.end;
        }
        if start < rows.end {
            gaps.push(start..rows.end);
        }
        gaps
    }

    /// Each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().cloned().flatten()
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, run) in self.runs.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match (run.start(), run.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Rows {
    type Err = String;

    fn from_str(text: &str) -> Result<Rows, String> {
        let row = |text: &str| text.parse().map_err(|_| format!("{text:.20} is no row number"));
        let run = |part: &str| match part.split_once('-') {
            Some((first, last)) => Ok::<_, String>(row(first)?..=row(last)?),
            None => row(part).map(|row| row..=row),
        };
        text.split(',').map(run).collect::<Result<Vec<_>, _>>().map(Rows::from_runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_runs_whatever_their_order_and_survive_as_text() {
        for (rows, text) in [
            (vec![3], "3"),
            (vec![9, 3, 5, 6, 7], "3,5-7,9"),
            (vec![0, 1, 2, 2, 1], "0-2"),
            (vec![u32::MAX, u32::MAX - 1], "4294967294-4294967295"),
        ] {
            let made = Rows::of(rows);
            assert_eq!(made.to_string(), text);
            assert_eq!(text.parse(), Ok(made));
        }
        for text in ["", "x", "1,,2", "-", "1-", "4294967296"] {
            assert!(text.parse::<Rows>().is_err(), "{text:?}");
        }
        assert!("7-3".parse::<Rows>().unwrap().is_empty());
        assert_eq!("0-4294967295".parse::<Rows>().unwrap().count_in(0..5), 5, "no memory per row");
    }

    #[test]
    fn a_part_of_the_frame_has_a_part_of_the_rows() {
        let rows: Rows = "2,5-9,20".parse().unwrap();
        let text = |runs: Vec<Range<usize>>| format!("{runs:?}");
        let runs = |range| text(rows.runs_in(range).collect());
        assert_eq!(runs(0..100), "[2..3, 5..10, 20..21]");
        assert_eq!(runs(6..8), "[6..8]");
        assert_eq!(runs(3..5), "[]");
        assert_eq!(runs(9..20), "[9..10]");
        let gaps = |range| text(rows.gaps_in(range));
        assert_eq!(gaps(0..22), "[0..2, 3..5, 10..20, 21..22]");
        assert_eq!(gaps(2..10), "[3..5]");
        assert_eq!(gaps(6..8), "[]");
        assert_eq!(gaps(11..13), "[11..13]");
        assert_eq!((rows.count_in(0..100), rows.count_in(7..21)), (7, 4));
        let mut more = rows.clone();
        more.merge(&Rows::of([3, 4, 10]));
        assert_eq!(more.to_string(), "2-10,20");
        assert_eq!(rows.iter().collect::<Vec<_>>(), [2, 5, 6, 7, 8, 9, 20]);
    }
}
