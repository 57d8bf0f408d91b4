//! `notify`: test notifications, and failed systemd units.

use super::{Site, SiteError};
use crate::{ground::Exit, operate::monitor::Delivery};

/// The report of [`Site::notify_test`] and [`Site::notify_failed_unit`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Notified {
    /// Each recipient, and the reason why it did not accept the notification.
    pub deliveries: Vec<Delivery>,
    /// Exit status: 7 if a recipient did not accept it.
    pub exit: Exit,
}

impl From<Vec<Delivery>> for Notified {
    fn from(deliveries: Vec<Delivery>) -> Self {
        Self { exit: Delivery::exit_of(&deliveries), deliveries }
    }
}

impl Site {
    /// Sends a test notification to every recipient.
    ///
    /// # Errors
    /// [`SiteError::NoRecipient`] if there is none.
    pub async fn notify_test(&self) -> Result<Notified, SiteError> {
        let monitor = self.monitor();
        if !monitor.has_recipients() {
            return Err(SiteError::NoRecipient(format!(
                "{} configures no recipients",
                self.path.display()
            )));
        }
        Ok(monitor.test().await.into())
    }

    /// Reports that a systemd unit of ours failed, or failed to start. Without recipients, nothing is sent: systemd reports every
    /// failed job, and its journal has the failure.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the unit is not one of ours.
    pub async fn notify_failed_unit(&self, unit: &str) -> Result<Notified, SiteError> {
        let monitor = self.monitor();
        if !monitor.has_recipients() {
            tracing::warn!(unit, "the unit failed, and the config names no recipients for that");
            return Ok(Notified { deliveries: Vec::new(), exit: Exit::Done });
        }
        Ok(monitor.unit_failed(unit).await.map_err(SiteError::Config)?.into())
    }
}
