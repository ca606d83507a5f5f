//! New credentials, a new attempt when somebody asks for one, and pauses.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use secrecy::SecretString;

use super::{Inner, UpdateError};
use crate::config::{ConfigError, check_client_id, check_client_secret};
use crate::pause::{self, Pause};

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

    /// Sends nothing from now on, once what is in flight is acknowledged; batches are stored all the same. It outlives
    /// this process. One that is paused already stays so since then, with the
    /// reason that was given first.
    ///
    /// Writes to the disk.
    ///
    /// # Errors
    ///
    /// When the mark of it cannot be written; then delivery is as it was.
    pub(crate) fn pause(&self, reason: Option<&str>) -> io::Result<Pause> {
        let _one_at_a_time = self.pause_mark.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = Pause::new(&self.env, reason).after(self.pause.borrow().as_ref());
        pause::mark(&self.env, &self.directory, &pause)?;
        tracing::warn!(directory = %self.directory.display(), %pause, "nothing more is sent from this log");
        self.pause.send_replace(Some(pause.clone()));
        Ok(pause)
    }

    /// Has the logs of the dead looked for now; says no if this wrapper adopts none.
    pub(crate) fn look_for_orphans(&self) -> bool {
        self.orphans_wanted.as_ref().map(|wanted| wanted.notify_one()).is_some()
    }

    /// Ends a pause if there is one. Delivery that is parked or waits tries again at once, with a token that is fetched
    /// anew.
    ///
    /// Writes to the disk.
    ///
    /// # Errors
    ///
    /// When the mark of a pause cannot be removed; then delivery stays paused.
    pub(crate) fn resume(&self) -> io::Result<()> {
        let _one_at_a_time = self.pause_mark.lock().unwrap_or_else(PoisonError::into_inner);
        // A mark that was left after this process had looked is one too.
        pause::clear(&self.env, &self.directory)?;
        if self.pause.send_replace(None).is_some() {
            tracing::warn!(directory = %self.directory.display(), "the pause is over");
        }
        if let Some(principal) = &self.principal {
            principal.renew();
        }
        self.nudge.notify_one();
        Ok(())
    }
}
