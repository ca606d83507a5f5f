//! New credentials, and a new attempt when somebody asks for one.

use std::sync::atomic::Ordering;

use secrecy::SecretString;

use super::{Inner, UpdateError};
use crate::config::{ConfigError, check_client_id, check_client_secret};

impl Inner {
    pub(super) fn update_credentials(
        &self,
        client_id: Option<String>,
        client_secret: SecretString,
    ) -> Result<(), UpdateError> {
        self.check_process()?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(UpdateError::Closed);
        }
        client_id.as_deref().map_or(Ok(()), check_client_id)?;
        check_client_secret(&client_secret)?;
        let missing = || {
            let needed_for = "new credentials: this wrapper was opened without any, open it with them";
            ConfigError::Missing { setting: "client_id", needed_for }
        };
        self.principal.as_ref().ok_or_else(missing)?.update(client_id, client_secret);
        self.nudge.notify_one();
        Ok(())
    }

    /// Delivery that is parked or waits tries again at once, with a token that is fetched anew.
    pub(crate) fn resume(&self) {
        if let Some(principal) = &self.principal {
            principal.renew();
        }
        self.nudge.notify_one();
    }
}
