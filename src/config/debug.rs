//! The settings of the debug files: what of them is refused.

use std::time::Duration;

use super::{ConfigError, SECONDS_MAX, WaitFor, WrapperConfiguration, invalid};

/// The shortest flush interval.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(1);

impl WrapperConfiguration {
    pub(super) fn check_debug(&self) -> Result<(), ConfigError> {
        let interval = self.debug_flush_interval;
        if interval < FLUSH_INTERVAL_MIN || u128::from(interval.as_secs()) > SECONDS_MAX {
            let allowed = format!("0.001 to {SECONDS_MAX} s");
            return Err(invalid("debug_flush_interval_secs", &interval.as_secs_f64().to_string(), &allowed));
        }
        if self.debug_max_file_size == Some(0) {
            return Err(invalid("debug_max_file_size", "0", "at least 1 byte, or none for no limit"));
        }
        if self.debug_output_dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return Err(invalid("debug_output_dir", "", "a directory that this process may write"));
        }
        if self.writer_disabled && !self.debug_enabled {
            let needed_for = "writer_disabled: without it nobody would see what is stored";
            return Err(ConfigError::Missing { setting: "debug_enabled", needed_for });
        }
        if self.writer_disabled && self.wait_for == WaitFor::Delivered {
            let allowed = "\"stored\" with writer_disabled, because nothing is delivered";
            return Err(invalid("wait_for", "delivered", allowed));
        }
        if !self.debug_enabled {
            return Ok(());
        }
        if self.debug_output_dir.is_none() {
            let needed_for = "debug_enabled: give the directory of the debug files";
            return Err(ConfigError::Missing { setting: "debug_output_dir", needed_for });
        }
        if !self.debug_arrow_enabled && !self.debug_protobuf_enabled {
            let allowed = "true for it or for debug_arrow_enabled, because debug_enabled would write nothing";
            return Err(invalid("debug_protobuf_enabled", "false", allowed));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut WrapperConfiguration)) -> Result<(), String> {
        let mut configuration = WrapperConfiguration::new("http://127.0.0.1:1", "a.b.c");
        configuration.wal_dir = Some("/tmp/never-created".into());
        change(&mut configuration);
        configuration.validate().map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn debug_files_need_a_directory_and_something_to_write() {
        let error = checked(|c| c.debug_enabled = true).unwrap_err();
        assert!(error.contains("debug_output_dir is missing") && error.contains("debug_enabled"), "{error}");
        assert_eq!(
            checked(|c| c.debug_output_dir = Some("out".into())),
            Ok(()),
            "it may be switched on later"
        );
        let error = checked(|c| {
            (c.debug_enabled, c.debug_output_dir) = (true, Some("out".into()));
            (c.debug_arrow_enabled, c.debug_protobuf_enabled) = (false, false);
        });
        assert!(error.unwrap_err().contains("debug_arrow_enabled"));
        for (arrow, protobuf) in [(true, false), (false, true), (true, true)] {
            let one = checked(|c| {
                (c.debug_enabled, c.debug_output_dir) = (true, Some("out".into()));
                (c.debug_arrow_enabled, c.debug_protobuf_enabled) = (arrow, protobuf);
            });
            assert_eq!(one, Ok(()));
        }
    }

    #[test]
    fn a_writer_that_is_off_needs_no_credentials_but_debug_files_and_nobody_who_waits_for_delivery() {
        let off = |c: &mut WrapperConfiguration| {
            (c.endpoint, c.writer_disabled) = ("https://1.zerobus.eu.cloud.databricks.com".into(), true);
            (c.debug_enabled, c.debug_output_dir) = (true, Some("out".into()));
        };
        assert_eq!(checked(off), Ok(()));
        let error = checked(|c| {
            off(c);
            c.debug_enabled = false;
        });
        assert!(error.unwrap_err().contains("debug_enabled is missing"));
        let error = checked(|c| {
            off(c);
            c.wait_for = WaitFor::Delivered;
        });
        assert!(error.unwrap_err().contains("wait_for is \"delivered\""));
    }

    #[test]
    fn wrong_numbers_and_an_empty_directory_are_refused_by_name() {
        let refused = |change: fn(&mut WrapperConfiguration)| checked(change).unwrap_err();
        assert!(refused(|c| c.debug_flush_interval = Duration::ZERO).contains("debug_flush_interval_secs"));
        assert!(refused(|c| c.debug_flush_interval = Duration::MAX).contains("debug_flush_interval_secs"));
        assert!(refused(|c| c.debug_max_file_size = Some(0)).contains("debug_max_file_size is \"0\""));
        assert!(refused(|c| c.debug_output_dir = Some("".into())).contains("debug_output_dir"));
    }
}
