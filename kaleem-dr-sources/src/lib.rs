//! The sources that come with kaleem-dr. They are independent of each other, and each has its own
//! cargo feature.

use kaleem_dr_core::operate::config::{RecoveryStage, SourceKind};

#[cfg(feature = "command")]
pub mod command;
#[cfg(any(feature = "mongodb", feature = "qdrant", feature = "rabbitmq"))]
pub mod docker;
#[cfg(any(feature = "files", feature = "n8n"))]
mod draft_path;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(any(feature = "qdrant", feature = "rabbitmq"))]
mod http_api;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "n8n")]
pub mod n8n;
#[cfg(feature = "qdrant")]
pub mod qdrant;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;

/// Returns every kind of source that is compiled in: the valid values of `type` in a config.
#[must_use]
pub fn kinds() -> Vec<SourceKind> {
    vec![
        #[cfg(feature = "command")]
        SourceKind::new("command", |name, config: &command::CommandConfig, environment| {
            command::CommandSource::new(name, config.clone(), environment)
        })
        .running_commands(),
        #[cfg(feature = "files")]
        SourceKind::new("files", |name, config: &files::FilesConfig, _| {
            files::FilesSource::new(name, config.clone())
        })
        .drafted("DIRECTORY", files::draft::draft)
        .recovered_in(RecoveryStage::Files),
        #[cfg(feature = "mongodb")]
        SourceKind::new("mongodb", |name, config: &mongodb::MongoConfig, environment| {
            mongodb::MongoSource::new(name, config.clone(), environment)
        })
        .drafted("mongodb://USER@HOST/DATABASE", mongodb::draft::draft),
        #[cfg(feature = "n8n")]
        SourceKind::new("n8n", |name, config: &n8n::N8nConfig, environment| {
            n8n::N8nSource::new(name, config.clone(), environment)
        })
        .drafted("DIRECTORY", n8n::draft::draft)
        .recovered_in(RecoveryStage::Applications),
        #[cfg(feature = "qdrant")]
        SourceKind::new("qdrant", qdrant::QdrantSource::new)
            .drafted("http://HOST:6333", qdrant::draft::draft),
        #[cfg(feature = "rabbitmq")]
        SourceKind::new("rabbitmq", rabbitmq::RabbitmqSource::new)
            .drafted("http://USER@HOST:15672", rabbitmq::draft::draft),
    ]
}
