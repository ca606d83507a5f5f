//! Who we are for the workspace, now: the secret may be replaced while the wrapper runs.

#![expect(clippy::disallowed_methods, reason = "a file with a secret is no part of the log")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use crate::config::{Credentials, Secret};
use crate::transport::{Symptom, TransportError};

/// The service principal of one wrapper, shared by everything that asks for tokens.
pub(crate) struct Principal {
    current: Mutex<Current>,
}

struct Current {
    /// Counts the changes: a token of an earlier generation is not used any more.
    generation: u64,
    credentials: Credentials,
}

/// What a token is asked for with.
pub(crate) struct Login {
    pub(crate) generation: u64,
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretString,
}

impl Principal {
    pub(crate) fn new(credentials: Credentials) -> Principal {
        Principal { current: Mutex::new(Current { generation: 0, credentials }) }
    }

    /// Which generation is current.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// From now on it is this one; the id stays if none is given. A file is not read any more.
    pub(crate) fn update(&self, client_id: Option<String>, client_secret: SecretString) {
        let mut current = self.lock();
        current.generation += 1;
        if let Some(client_id) = client_id {
            current.credentials.client_id = client_id;
        }
        current.credentials.secret = Secret::Given(client_secret);
    }

    /// From now on only tokens that are fetched anew are used.
    pub(crate) fn renew(&self) {
        self.lock().generation += 1;
    }

    /// Id and secret now. A file is read each time, so that a secret which is rotated there is used by the next token.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if the file cannot be read now.
    pub(crate) async fn login(&self) -> Result<Login, TransportError> {
        let (generation, Credentials { client_id, secret }) = {
            let current = self.lock();
            (current.generation, current.credentials.clone())
        };
        let client_secret = match secret {
            Secret::Given(secret) => secret,
            Secret::File(path) => {
                let read = tokio::task::spawn_blocking(move || read_secret(&path)).await;
                read.unwrap_or_else(|error| Err(error.to_string())).map_err(|reason| {
                    let text = format!("no token: client_secret_file cannot be used: {reason}");
                    TransportError::of(Symptom::SecretFile, text)
                })?
            }
        };
        Ok(Login { generation, client_id, client_secret })
    }

    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of.
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secret in a file, without the white space around it.
///
/// # Errors
///
/// Why there is none, without anything of what is in the file \[I9\].
pub(crate) fn read_secret(path: &Path) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path).map(SecretString::from);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    match text.expose_secret().trim() {
        "" => Err(format!("{}: it is blank", path.display())),
        secret => Ok(secret.to_owned().into()),
    }
}
