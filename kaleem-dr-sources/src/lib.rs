//! The sources that come with kaleem-dr. None knows another, and each is behind a cargo feature.

#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
