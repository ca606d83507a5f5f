//! Which rows of which logs somebody means: by table, number, time, state and reason.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use arrow_cast::parse::string_to_timestamp_nanos;
use serde::{Deserialize, Serialize};

use crate::config::a_time;
use crate::error::{Coded, ErrorCode};
use crate::types::{Lsn, TableName};

/// Codes that rows in quarantine have.
pub const REASONS: [&str; 4] = ["conversion", "row_too_large", "transmission", "schema"];

/// The rows that are meant. Everything that is said must apply; nothing said means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Only logs of this table.
    pub table: Option<TableName>,
    /// Only frames with these numbers.
    pub lsns: Option<Lsns>,
    /// Only what was stored then or later; rows in quarantine: what was put there then or later.
    pub since: Option<Moment>,
    /// Only what was stored before that; rows in quarantine: what was put there before that.
    pub until: Option<Moment>,
    /// In which states the rows are.
    pub states: Vec<RowState>,
    /// Only rows in quarantine with one of these codes.
    pub reasons: Vec<String>,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// In the log, still to be delivered.
    Waiting,
    /// Delivered, and kept because of `retain_delivered_secs` or `retain_delivered_bytes`, or not freed yet. A row whose
    /// file was taken out of quarantine cannot be told from these.
    Delivered,
    /// Refused for good and in quarantine.
    Quarantined,
    /// Dropped because the log was full, and not freed yet.
    Dropped,
    /// In a frame that does not match its checksum and that Arrow can read all the same: its values may be wrong.
    Damaged,
}

impl RowState {
    /// Every state.
    pub const ALL: [RowState; 5] =
        [RowState::Waiting, RowState::Delivered, RowState::Quarantined, RowState::Dropped, RowState::Damaged];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            RowState::Waiting => "waiting",
            RowState::Delivered => "delivered",
            RowState::Quarantined => "quarantined",
            RowState::Dropped => "dropped",
            RowState::Damaged => "damaged",
        }
    }
}

impl fmt::Display for RowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RowState {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<RowState, SelectionError> {
        let found = RowState::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| SelectionError::State { given: text.to_owned() })
    }
}

/// A choice that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// Numbers of frames.
    #[error(
        "{given:?} names no frames; give numbers from 1 and ranges with both ends in them: 5, 5-9, 5- or -9, \
         several with commas: 3,7-9"
    )]
    Lsns {
        /// What was given.
        given: String,
    },
    /// A time.
    #[error(
        "{given:?} is no time; give one as 2026-11-28T14:00:00Z, 2026-11-28 14:00 (UTC), or how long ago: 90s, 30m, 2h, 7d"
    )]
    Moment {
        /// What was given.
        given: String,
    },
    /// A state.
    #[error(
        "{given:?} is no state of a row; allowed are waiting, delivered, quarantined, dropped and damaged"
    )]
    State {
        /// What was given.
        given: String,
    },
    /// A reason.
    #[error(
        "{given:?} is no code of a row in quarantine; allowed are conversion, row_too_large, transmission and schema"
    )]
    Reason {
        /// What was given.
        given: String,
    },
    /// Reasons of rows that have none.
    #[error("only rows in quarantine have a reason; choose the state quarantined alone, or no reason")]
    ReasonOfOthers,
    /// A time that ends before it begins.
    #[error("nothing lies between {since} and {until}; the beginning comes first")]
    Backwards {
        /// Where it begins.
        since: String,
        /// Where it ends.
        until: String,
    },
    /// No state at all.
    #[error(
        "no state is chosen; give one or several of waiting, delivered, quarantined, dropped and damaged"
    )]
    NoState,
}

impl Coded for SelectionError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Configuration
    }
}

/// Numbers of frames: ranges in order, none of which touches another. As text: `3,7-9,12-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lsns {
    ranges: Vec<RangeInclusive<Lsn>>,
}

impl Lsns {
    /// The first of them.
    pub fn first(&self) -> Lsn {
        self.ranges.first().map_or(Lsn::FIRST, |range| *range.start())
    }

    /// Whether they have an end: `5-` asks for what is still to come too.
    pub(crate) fn is_bounded(&self) -> bool {
        self.ranges.last().is_some_and(|range| *range.end() < Lsn::new(u64::MAX))
    }

    /// Whether this frame is one of them.
    pub fn contains(&self, lsn: Lsn) -> bool {
        self.ranges.iter().any(|range| range.contains(&lsn))
    }

    /// Whether a later frame than this can be one.
    pub(crate) fn goes_beyond(&self, lsn: Lsn) -> bool {
        self.ranges.last().is_some_and(|range| *range.end() > lsn)
    }

    /// What these and that range have in common.
    pub(crate) fn within(&self, lsns: &RangeInclusive<Lsn>) -> Vec<RangeInclusive<Lsn>> {
        let common =
            self.ranges.iter().map(|range| *range.start().max(lsns.start())..=*range.end().min(lsns.end()));
        common.filter(|range| !range.is_empty()).collect()
    }
}

impl FromStr for Lsns {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Lsns, SelectionError> {
        let wrong = || SelectionError::Lsns { given: text.to_owned() };
        let number = |digits: &str| match digits.parse::<u64>() {
            Ok(number) if number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Lsn::new(number))
            }
            _ => Err(wrong()),
        };
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            let range = match part.split_once('-') {
                None => number(part).map(|lsn| lsn..=lsn)?,
                Some(("", "")) => return Err(wrong()),
                Some(("", last)) => Lsn::FIRST..=number(last)?,
                Some((first, "")) => number(first)?..=Lsn::new(u64::MAX),
                Some((first, last)) => number(first)?..=number(last)?,
            };
            if range.is_empty() {
                return Err(wrong());
            }
            ranges.push(range);
        }
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut joined: Vec<RangeInclusive<Lsn>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if *range.start() <= last.end().next() => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => joined.push(range),
            }
        }
        Ok(Lsns { ranges: joined })
    }
}

impl fmt::Display for Lsns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.ranges.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) if last.get() == u64::MAX => write!(f, "{comma}{first}-")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl From<Lsns> for String {
    fn from(lsns: Lsns) -> String {
        lsns.to_string()
    }
}

impl TryFrom<String> for Lsns {
    type Error = SelectionError;

    fn try_from(text: String) -> Result<Lsns, SelectionError> {
        text.parse()
    }
}

/// A time of day, or how long ago something was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Moment {
    text: String,
    time: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    UnixMicros(i64),
    Ago(Duration),
}

impl Moment {
    /// The time of day in microseconds since 1970, if it is `now`.
    pub fn unix_micros(&self, now_unix_micros: i64) -> i64 {
        match self.time {
            Time::UnixMicros(micros) => micros,
            Time::Ago(ago) => {
                now_unix_micros.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }

    /// This time of day.
    pub fn at(unix_micros: i64) -> Moment {
        Moment { text: rfc3339(unix_micros), time: Time::UnixMicros(unix_micros) }
    }
}

/// A time of day as people and programs read it.
pub fn rfc3339(unix_micros: i64) -> String {
    use arrow_array::temporal_conversions::timestamp_us_to_datetime;
    let time = timestamp_us_to_datetime(unix_micros);
    time.map_or_else(
        || format!("{unix_micros} µs since 1970"),
        |time| format!("{}Z", time.format("%Y-%m-%dT%H:%M:%S%.6f")),
    )
}

impl FromStr for Moment {
    type Err = SelectionError;

    fn from_str(given: &str) -> Result<Moment, SelectionError> {
        let text = given.trim();
        let is_length = text.ends_with(|end: char| end.is_ascii_lowercase());
        let time = match is_length {
            true => a_time(text).map(Time::Ago),
            false => {
                string_to_timestamp_nanos(text).ok().map(|nanos| Time::UnixMicros(nanos.div_euclid(1000)))
            }
        };
        let wrong = || SelectionError::Moment { given: given.to_owned() };
        Ok(Moment { text: text.to_owned(), time: time.ok_or_else(wrong)? })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> String {
        moment.text
    }
}

impl TryFrom<String> for Moment {
    type Error = SelectionError;

    fn try_from(text: String) -> Result<Moment, SelectionError> {
        text.parse()
    }
}

impl Selection {
    /// Rows in these states.
    pub fn of(states: impl Into<Vec<RowState>>) -> Selection {
        Selection { states: states.into(), ..Selection::default() }
    }

    /// The same selection, with times of day in place of how long ago, and states in order.
    ///
    /// # Errors
    ///
    /// [`SelectionError`] if it means nothing.
    pub fn resolved(mut self, now_unix_micros: i64) -> Result<Selection, SelectionError> {
        for reason in &self.reasons {
            if !REASONS.contains(&reason.as_str()) {
                return Err(SelectionError::Reason { given: reason.clone() });
            }
        }
        self.states.sort_unstable();
        self.states.dedup();
        if self.states.is_empty() {
            return Err(SelectionError::NoState);
        }
        if !self.reasons.is_empty() && self.states != [RowState::Quarantined] {
            return Err(SelectionError::ReasonOfOthers);
        }
        let at = |moment: &Moment| moment.unix_micros(now_unix_micros);
        if let (Some(since), Some(until)) = (&self.since, &self.until)
            && at(since) >= at(until)
        {
            return Err(SelectionError::Backwards { since: since.to_string(), until: until.to_string() });
        }
        self.since = self.since.as_ref().map(|moment| Moment::at(at(moment)));
        self.until = self.until.as_ref().map(|moment| Moment::at(at(moment)));
        Ok(self)
    }

    pub(crate) fn has(&self, state: RowState) -> bool {
        self.states.contains(&state)
    }

    pub(crate) fn has_lsn(&self, lsn: Lsn) -> bool {
        self.lsns.as_ref().is_none_or(|lsns| lsns.contains(lsn))
    }

    /// Whether something that happened then is meant. To be asked of a selection that is resolved.
    pub(crate) fn has_time(&self, unix_micros: i64) -> bool {
        let at = |moment: &Moment| moment.unix_micros(0);
        self.since.as_ref().is_none_or(|since| unix_micros >= at(since))
            && self.until.as_ref().is_none_or(|until| unix_micros < at(until))
    }

    pub(crate) fn has_reason(&self, code: &str) -> bool {
        self.reasons.is_empty() || self.reasons.iter().any(|reason| reason == code)
    }

    /// Whether it names frames or a time: then something else than all is meant.
    pub fn is_limited(&self) -> bool {
        self.lsns.is_some() || self.since.is_some() || self.until.is_some() || !self.reasons.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_joined_and_survive_as_text() {
        for (text, joined) in [
            ("5", "5"),
            ("5-9", "5-9"),
            ("7-9,3", "3,7-9"),
            ("-4, 5-6, 20-", "1-6,20-"),
            ("3-8,5-6,9", "3-9"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            let lsns: Lsns = text.parse().unwrap();
            assert_eq!(lsns.to_string(), joined);
            assert_eq!(joined.parse(), Ok(lsns));
        }
        for text in ["", "0", "x", "-", "9-5", "5..9", "1,,2", "+5", "1-2-3", "18446744073709551616"] {
            let error = text.parse::<Lsns>().unwrap_err();
            assert!(error.to_string().contains("5-9"), "{error}");
        }
        let lsns: Lsns = "3,7-9".parse().unwrap();
        assert!([3, 7, 9].into_iter().all(|lsn| lsns.contains(Lsn::new(lsn))) && !lsns.contains(Lsn::new(4)));
        assert_eq!(
            lsns.within(&(Lsn::new(2)..=Lsn::new(8))),
            [Lsn::new(3)..=Lsn::new(3), Lsn::new(7)..=Lsn::new(8)]
        );
        assert!(lsns.goes_beyond(Lsn::new(8)) && !lsns.goes_beyond(Lsn::new(9)));
    }

    #[test]
    fn a_time_is_one_of_day_or_how_long_ago_it_was() {
        let now = 1_000_000_000_000_000;
        let at = |text: &str| text.parse::<Moment>().unwrap().unix_micros(now);
        assert_eq!(at("2001-09-09T01:46:40Z"), now);
        assert_eq!(at("2001-09-09T03:46:40.000001+02:00"), now + 1);
        assert_eq!(at("2001-09-09 01:46:40"), now, "UTC");
        assert_eq!(at("90s"), now - 90_000_000);
        assert_eq!(at("1.5h"), now - 5_400_000_000);
        for text in ["", "yesterday", "2h ago", "12", "-2h", "2001-13-01T00:00:00Z"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
        assert_eq!(rfc3339(now), "2001-09-09T01:46:40.000000Z");
        assert_eq!(Moment::at(now).to_string().parse::<Moment>().unwrap().unix_micros(0), now);
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_is_allowed() {
        let reason = |reason: &str, states: &[RowState]| Selection {
            reasons: vec![reason.to_owned()],
            ..Selection::of(states)
        };
        let refused = |selection: Selection| selection.resolved(0).unwrap_err();
        assert!(matches!(refused(reason("bad", &[RowState::Quarantined])), SelectionError::Reason { .. }));
        assert_eq!(refused(reason("schema", &[RowState::Waiting])), SelectionError::ReasonOfOthers);
        assert_eq!(refused(Selection::default()), SelectionError::NoState);
        let backwards = Selection {
            since: "1h".parse().ok(),
            until: "2h".parse().ok(),
            ..Selection::of([RowState::Waiting])
        };
        assert!(matches!(refused(backwards), SelectionError::Backwards { .. }));
    }
}
