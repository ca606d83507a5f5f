//! Would delivery work, from here and now? Each thing that it needs is looked at by itself, and what is wrong is told with
//! what to do about it.
//!
//! ```text
//!  settings ─► disk, file_system, sync
//!          └─► dns ─► tcp ─► tls ─► clock ─► token ─► catalog ─► stream
//!                                                 waiting ◄─┘ the columns
//! ```
//!
//! What cannot be asked because something before it has failed is left out.

mod certificate;
mod disk;
#[cfg(target_os = "linux")]
mod file_system;
mod service;
mod time;
mod waiting;
mod way;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::service::Service;
use super::{Progress, StatusError};
use crate::config::{ConfigError, Validated, WrapperConfiguration, invalid};
use crate::convert::Policies;
use crate::error::{Coded, ErrorCode, chain};
use crate::io::Env;
use crate::principal;
use crate::trust::Trust;

/// Version of [`Examination`] as JSON; grows when a field changes its meaning or goes away.
pub const DOCTOR_VERSION: u32 = 1;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should know something about it.
    Warning,
    /// Delivery, or storing, does not work because of it.
    Failed,
}

impl Verdict {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `settings`, `disk`, `file_system`, `sync`, `dns`, `tcp`, `tls`, `clock`, `token`, `catalog`,
    /// `stream` or `waiting`.
    pub check: String,
    /// Of what: a directory, a host, a table.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` if there is nothing to do.
    pub advice: Option<String>,
    /// The name of the error in the table of errors, if delivery fails with one.
    pub code: Option<String>,
}

impl Finding {
    fn new(check: &str, subject: impl ToString, verdict: Verdict, found: impl ToString) -> Finding {
        Finding {
            check: check.to_owned(),
            subject: subject.to_string(),
            verdict,
            found: found.to_string(),
            advice: None,
            code: None,
        }
    }

    fn ok(check: &str, subject: impl ToString, found: impl ToString) -> Finding {
        Finding::new(check, subject, Verdict::Ok, found)
    }

    fn warning(check: &str, subject: impl ToString, found: impl ToString, advice: impl ToString) -> Finding {
        let advice = Some(advice.to_string());
        Finding { advice, ..Finding::new(check, subject, Verdict::Warning, found) }
    }

    fn failed(
        check: &str,
        subject: impl ToString,
        code: ErrorCode,
        found: impl ToString,
        advice: impl ToString,
    ) -> Finding {
        Finding {
            advice: Some(advice.to_string()),
            code: Some(code.info().name.to_owned()),
            ..Finding::new(check, subject, Verdict::Failed, found)
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// The writer directory, or where it would be made.
    pub directory: PathBuf,
    /// The table; empty if the settings name none.
    pub table: String,
    /// The endpoint; empty if the settings name none.
    pub endpoint: String,
    /// The worst verdict.
    pub verdict: Verdict,
    /// What was found, in the order in which delivery needs it.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// The error code of the first thing that has failed.
    pub fn code(&self) -> Option<ErrorCode> {
        let failed = self.findings.iter().find(|finding| finding.verdict == Verdict::Failed)?;
        let named = |code: &ErrorCode| failed.code.as_deref() == Some(code.info().name);
        Some(ErrorCode::ALL.into_iter().find(named).unwrap_or(ErrorCode::Internal))
    }
}

/// What is not looked at, and how it would be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoctorOptions {
    /// Leave out everything that needs the network.
    pub offline: bool,
}

/// Looks at everything that delivery needs from here: of the log in this directory if there is one, or of one that would be
/// made there. Takes no lock, and writes nothing but a file of its own for a moment, to see how fast the disk is. Sends no
/// row. Counts the rows that wait in `progress`.
///
/// It waits for answers, at most some tens of seconds for each; not to be called on a thread that drives a runtime.
pub fn examine(
    directory: &Path,
    configuration: &WrapperConfiguration,
    options: DoctorOptions,
    progress: &Progress,
) -> Examination {
    let env = Env::os();
    let mut findings = Vec::new();
    let settings = settings(configuration);
    findings.push(match &settings {
        Ok(_) => Finding::ok("settings", directory.display(), "a wrapper would take them"),
        Err(error) => {
            let setting = error.setting().unwrap_or("the settings");
            let advice = format!("correct {setting}; zerobus-wal doctor --help names the options");
            Finding::failed("settings", directory.display(), error.code(), chain(error), advice)
        }
    });
    disk::examine(&env, directory, configuration, &mut findings);
    let mut columns = None;
    if let (Ok((validated, trust)), false) = (&settings, options.offline) {
        let is_open = way::examine(validated, trust, &mut findings);
        if is_open {
            columns = Service::new(configuration, validated, trust, directory).examine(&mut findings);
        }
    }
    let policies = Policies { timestamp_ns: configuration.timestamp_ns, null_list: configuration.null_list };
    let asked = waiting::Asked { transport: configuration.transport, policies, columns };
    findings.extend(waiting::examine(&env, directory, asked, progress));
    Examination {
        directory: directory.to_owned(),
        table: configuration.table_name.clone(),
        endpoint: configuration.endpoint.clone(),
        verdict: findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok),
        findings,
    }
}

/// What is found if settings cannot even be read: nothing else is looked at.
pub fn unreadable_settings(directory: &Path, error: &ConfigError) -> Examination {
    let advice = "correct the file or the variable that it names";
    of_one(directory, Finding::failed("settings", directory.display(), error.code(), chain(error), advice))
}

/// What is found if a log does not say what it is for: nothing else is looked at.
pub fn unreadable_log(directory: &Path, error: &StatusError) -> Examination {
    let advice = "zerobus-wal repair says what can be mended";
    of_one(directory, Finding::failed("waiting", directory.display(), error.code(), chain(error), advice))
}

fn of_one(directory: &Path, finding: Finding) -> Examination {
    Examination {
        directory: directory.to_owned(),
        table: String::new(),
        endpoint: String::new(),
        verdict: Verdict::Failed,
        findings: vec![finding],
    }
}

/// Whether a wrapper would take these settings; what they come to.
fn settings(configuration: &WrapperConfiguration) -> Result<(Validated, Trust), ConfigError> {
    let validated = configuration.validate()?;
    let trust = Trust::read(configuration)?;
    if let Some(path) = &configuration.client_secret_file {
        principal::read_secret(path).map_err(|reason| {
            let allowed = format!("a file that holds the secret and that this process may read ({reason})");
            invalid("client_secret_file", &path.display().to_string(), &allowed)
        })?;
    }
    Ok((validated, trust))
}
