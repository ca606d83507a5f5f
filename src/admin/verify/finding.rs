//! One thing that a verification has to say: what it is, how bad that is, and what to do.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Serialize;

use super::super::inspect::Run;
use crate::types::Lsn;
use crate::wal::{Damage, DamageReason};

/// Something that is wrong with a log, or worth knowing of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What it is, for programs.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// The file that it is about.
    pub segment: Option<PathBuf>,
    /// Where in the file.
    pub offset: Option<u64>,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// The frames that it is about.
    pub lsns: Option<Run>,
    /// What it is, for people.
    pub text: String,
    /// What that means, and what to do.
    pub advice: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something that was promised is not there, or an invariant does not hold.
    Error,
    /// It is explained, and somebody should look at it.
    Warning,
    /// It is as it should be after what happened.
    Info,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// What a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// No frame can be made out where one was durable.
    Overwritten,
    /// Zeros stand where a frame was durable.
    Zeros,
    /// The last group before a crash reached the disk in part.
    Unsynced,
    /// The body of a frame does not match its checksum.
    Body,
    /// The schema of a batch is lost.
    Schema,
    /// A segment header does not match its checksum.
    SegmentHeader,
    /// A footer names other frames than there are.
    Footer,
    /// Nothing in a file can be made out.
    Unreadable,
    /// A segment is of another log, or has another one's name.
    Foreign,
    /// Frames or a segment are not there.
    Missing,
    /// Numbers belong to no frame, and nothing explains it.
    Numbers,
    /// An append was never finished.
    TornTail,
    /// A damaged segment was set aside.
    SegmentSetAside,
    /// The identity file is missing.
    Identity,
    /// The ledger cannot be read.
    Ledger,
    /// The ledger says nothing of a log that has delivered.
    LedgerMissing,
    /// The ledger names frames that the log does not have yet.
    LedgerAhead,
    /// A ledger was moved aside.
    LedgerSetAside,
    /// The mark of the ledger is damaged or gone.
    LedgerMark,
    /// Frames that are not settled were freed.
    Reclaimed,
    /// What is settled above or behind the watermark does not go with the frames.
    Settled,
    /// The counts of the ledger do not add up.
    Conservation,
    /// What is recorded of persistent streams cannot be read.
    Streams,
    /// A file in quarantine cannot be read, or is of another log.
    Quarantine,
}

impl FindingKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        use FindingKind as Kind;
        match self {
            Kind::Overwritten => "overwritten",
            Kind::Zeros => "zeros",
            Kind::Unsynced => "unsynced",
            Kind::Body => "body",
            Kind::Schema => "schema",
            Kind::SegmentHeader => "segment_header",
            Kind::Footer => "footer",
            Kind::Unreadable => "unreadable",
            Kind::Foreign => "foreign",
            Kind::Missing => "missing",
            Kind::Numbers => "numbers",
            Kind::TornTail => "torn_tail",
            Kind::SegmentSetAside => "segment_set_aside",
            Kind::Identity => "identity",
            Kind::Ledger => "ledger",
            Kind::LedgerMissing => "ledger_missing",
            Kind::LedgerAhead => "ledger_ahead",
            Kind::LedgerSetAside => "ledger_set_aside",
            Kind::LedgerMark => "ledger_mark",
            Kind::Reclaimed => "reclaimed",
            Kind::Settled => "settled",
            Kind::Conservation => "conservation",
            Kind::Streams => "streams",
            Kind::Quarantine => "quarantine",
        }
    }
}

impl Finding {
    pub(super) fn new(kind: FindingKind, severity: Severity, text: String, advice: &str) -> Finding {
        Finding {
            kind,
            severity,
            segment: None,
            offset: None,
            bytes: None,
            lsns: None,
            text,
            advice: advice.to_owned(),
        }
    }

    /// In this file.
    pub(super) fn at(self, path: PathBuf) -> Finding {
        Finding { segment: Some(path), ..self }
    }

    /// About these frames.
    pub(super) fn about(self, lsns: &RangeInclusive<Lsn>) -> Finding {
        Finding { lsns: run_of(lsns), ..self }
    }
}

pub(super) fn run_of(lsns: &RangeInclusive<Lsn>) -> Option<Run> {
    (lsns.start() <= lsns.end()).then(|| Run { first: lsns.start().get(), last: lsns.end().get() })
}

/// What damage means, by what is settled already.
pub(super) fn of_damage(damage: &Damage, settled: Lsn) -> Finding {
    let kind = match damage.reason {
        DamageReason::Overwritten => FindingKind::Overwritten,
        DamageReason::Zeros => FindingKind::Zeros,
        DamageReason::Unsynced => FindingKind::Unsynced,
        DamageReason::Body => FindingKind::Body,
        DamageReason::Schema => FindingKind::Schema,
        DamageReason::SegmentHeader => FindingKind::SegmentHeader,
        DamageReason::Footer => FindingKind::Footer,
        DamageReason::Unreadable => FindingKind::Unreadable,
        DamageReason::Foreign => FindingKind::Foreign,
        DamageReason::Missing => FindingKind::Missing,
    };
    // A crash of the machine leaves that, and no caller was told that these frames are durable.
    let severity = if kind == FindingKind::Unsynced { Severity::Warning } else { Severity::Error };
    let frames = match &damage.lsns {
        Some(lsns) if lsns.start() == lsns.end() => format!(", frame {}", lsns.start()),
        Some(lsns) => format!(", frames {} to {}", lsns.start(), lsns.end()),
        None => String::new(),
    };
    let advice = match (&damage.lsns, kind) {
        (_, FindingKind::Unsynced) => {
            "No sync had covered these bytes when the machine stopped. What can be read is delivered; rows that were stored \
             with durability = os or interval just before may be missing, so compare with their source."
        }
        (Some(lsns), _) if *lsns.end() <= settled => {
            "Delivery has passed these frames: they were delivered before the damage came, or were stepped over and are missing \
             from the table, as many as status counts as damaged. zerobus-wal export --state damaged writes what can be read \
             of them. The segment is set aside when it is freed. Look at the disk."
        }
        (Some(_), _) => {
            "The rows of these frames cannot be delivered from here: delivery steps over them, counts them, and goes on. Send \
             them again from where they came from, and look at the disk. Keep a copy of the file before anything else."
        }
        (None, FindingKind::Foreign) => {
            "The file was copied here from another log or was renamed. It is left alone and nothing of it is delivered. Move it \
             back, or away."
        }
        (None, FindingKind::Unreadable) => {
            "The file is left alone and nothing of it is delivered. If frames are missing besides, they were in it. Keep a copy \
             and look at the disk."
        }
        (None, FindingKind::Footer) => {
            "The frames that are there are whole and are delivered. This should never be: keep a copy of the file and report it."
        }
        (None, _) => "No frame is lost with it: those around it are read and delivered. Look at the disk.",
    };
    Finding {
        segment: Some(damage.segment.clone()),
        offset: Some(damage.offset),
        bytes: Some(damage.bytes),
        lsns: damage.lsns.as_ref().and_then(run_of),
        ..Finding::new(kind, severity, format!("{}{frames}", damage.reason), advice)
    }
}
