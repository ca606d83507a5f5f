//! `zerobus-wal emulator`: a local Zerobus to try things against.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::SecretString;
use tokio::sync::oneshot;

use crate::emulator::{Credentials, Emulator, EmulatorError, EmulatorOptions, Sink, TlsOptions};
use crate::platform::signals::EndRequests;

/// Run a local Zerobus that lands rows in Delta tables on disk.
///
/// It prints one line of JSON on stdout when it is ready, {"endpoint": …, "unity_catalog_url": …,
/// "data_dir": …}, and stops cleanly on SIGTERM or Ctrl-C. With --tls the line also has "ca_certificate_file",
/// "client_certificate_file" and "client_key_file".
///
/// It misbehaves on request: POST a rule such as {"fault": "fail_open", "code": "UNAVAILABLE", "times": 3} to
/// /control on the HTTP port. GET shows the rules and how often each has fired, DELETE removes them all.
/// docs/emulator.md lists the faults.
#[derive(Args, Debug)]
pub(super) struct EmulatorArgs {
    /// Where the tables are, as <DIR>/<catalog>/<schema>/<table>; tables that are there are served.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The gRPC port on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "P", default_value_t = 0)]
    port: u16,
    /// The port for tokens and the catalog on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "P", default_value_t = 0)]
    http_port: u16,
    /// Make a table if it is missing, such as 'main.default.events=id BIGINT NOT NULL, name STRING'.
    #[arg(long = "table", value_name = "NAME=COLUMNS", value_parser = table)]
    tables: Vec<(String, String)>,
    /// Make a missing table from the descriptor of the first stream that names it.
    #[arg(long)]
    auto_create: bool,
    /// The one client that gets tokens; without it every client does.
    #[arg(long, value_name = "ID", requires = "client_secret")]
    client_id: Option<String>,
    /// The secret of that client.
    #[arg(
        long,
        value_name = "SECRET",
        requires = "client_id",
        env = "ZEROBUS_EMULATOR_CLIENT_SECRET",
        hide_env_values = true
    )]
    client_secret: Option<SecretString>,
    /// How long rows wait for others before they are committed together.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    commit_interval_ms: u64,
    /// Where the rows go; `discard` acknowledges without keeping them, for benchmarks.
    #[arg(long, value_enum, default_value_t = SinkArg::Delta)]
    sink: SinkArg,
    /// How long a token is good for.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    token_lifetime_secs: u64,
    /// Serve both ports over TLS, with certificates of a CA that is made in the data directory.
    #[arg(long)]
    tls: bool,
    /// Take only clients with a certificate of that CA; implies --tls.
    #[arg(long)]
    client_certificates: bool,
    /// Answer UNIMPLEMENTED to the calls of persistent streams, as an older service does.
    #[arg(long)]
    no_persistent_streams: bool,
    /// Stop when stdin ends; a parent process holds the other end and cannot leave us behind.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SinkArg {
    Delta,
    Discard,
}

fn table(text: &str) -> Result<(String, String), String> {
    let (name, columns) = text.split_once('=').ok_or("expected NAME=COLUMNS")?;
    Ok((name.trim().to_owned(), columns.to_owned()))
}

impl EmulatorArgs {
    fn options(&self) -> EmulatorOptions {
        let credentials = self.client_id.clone().zip(self.client_secret.clone());
        EmulatorOptions {
            data_dir: self.data_dir.clone(),
            port: self.port,
            http_port: self.http_port,
            tables: self.tables.clone(),
            auto_create: self.auto_create,
            credentials: credentials
                .map(|(client_id, client_secret)| Credentials { client_id, client_secret }),
            commit_interval: Duration::from_millis(self.commit_interval_ms),
            sink: match self.sink {
                SinkArg::Delta => Sink::Delta,
                SinkArg::Discard => Sink::Discard,
            },
            token_lifetime: Duration::from_secs(self.token_lifetime_secs),
            tls: (self.tls || self.client_certificates)
                .then_some(TlsOptions { files: None, client_certificates: self.client_certificates }),
            persistent_streams: !self.no_persistent_streams,
        }
    }
}

/// Runs the emulator until SIGTERM, SIGINT or, if asked for, the end of stdin.
///
/// # Errors
///
/// See [`EmulatorError`]; the caller prints it.
pub(super) fn run(args: &EmulatorArgs) -> Result<(), EmulatorError> {
    let start = |source| EmulatorError::Start { source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
    // Signals are caught before the ready line, so that whoever reads it can stop us cleanly at once.
    let mut ends = {
        let _context = runtime.enter();
        EndRequests::catch().map_err(start)?
    };
    let emulator = Emulator::start(args.options())?;
    announce(&emulator).map_err(start)?;
    let (parent, mut orphaned) = oneshot::channel::<()>();
    let mut parent = Some(parent);
    if args.exit_with_parent {
        let parent = parent.take();
        std::thread::spawn(move || {
            // The end of stdin and an error both mean that nobody is there any more.
            while matches!(io::stdin().read(&mut [0; 64]), Ok(1..)) {}
            drop(parent);
        });
    }
    runtime.block_on(async {
        let mut look = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                () = ends.next() => return,
                _ = &mut orphaned => return,
                _ = look.tick() => if emulator.is_down() { return },
            }
        }
    });
    emulator.stop()
}

fn announce(emulator: &Emulator) -> io::Result<()> {
    let mut ready = serde_json::json!({
        "endpoint": emulator.endpoint(),
        "unity_catalog_url": emulator.unity_catalog_url(),
        "data_dir": emulator.data_dir(),
    });
    if let Some(authority) = emulator.ca_certificate_file() {
        ready["ca_certificate_file"] = serde_json::json!(authority);
    }
    if let Some((certificate, key)) = emulator.client_identity_files() {
        ready["client_certificate_file"] = serde_json::json!(certificate);
        ready["client_key_file"] = serde_json::json!(key);
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{ready}")?;
    stdout.flush()
}
