//! kaleem-dr's library: it backs up sources into a restic-format repository, replicates and proves the backups, and restores them.
//!
//! Start with a [`Site`]: one installation, with its config, its sources and its repositories. Each verb takes its own locks, ends within
//! two seconds when the site's [`CancellationToken`] is cancelled, and returns a report. An `Err` means that the verb was not carried out;
//! whether it succeeded is in the report.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use kaleem_dr_core::{Exit, Site, operate::config::secret::Environment};
//!
//! # async fn example() -> Result<(), kaleem_dr_core::SiteError> {
//! // The third argument lists the kinds of source that the config may declare: those of `kaleem-dr-sources`, or your own.
//! let config = Path::new("/etc/kaleem-dr/kaleem-dr.toml");
//! let site = Site::open(config, &[], Environment::of_process())?;
//! # Ok(())
//! # }
//! ```
//!
//! # Back up
//!
//! ```no_run
//! # use kaleem_dr_core::{Exit, Site, SiteError, operate::site::Backup};
//! # async fn example(site: Site) -> Result<(), SiteError> {
//! let run = site.backup(Backup::default()).await?;
//! for source in run.sources.iter().filter(|source| source.exit != Exit::Done) {
//!     eprintln!("{}: {:?}", source.source, source.error);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Replicate
//!
//! ```no_run
//! # use kaleem_dr_core::{Exit, Site, SiteError, operate::site::Replication};
//! # async fn example(site: Site) -> Result<(), SiteError> {
//! let done = site.replicate(&Replication::default(), |pass| println!("{pass:?}")).await?;
//! assert_eq!(done.exit, Exit::Done);
//! # Ok(())
//! # }
//! ```
//!
//! # Prove
//!
//! ```no_run
//! # use kaleem_dr_core::{Exit, Site, SiteError, operate::{job::exit_of, site::{Drill, Verification}}};
//! # async fn example(site: Site) -> Result<(), SiteError> {
//! let verified = site.verify(Verification::default()).await?;
//! assert_eq!(exit_of(&verified), Exit::Done);
//!
//! // A drill restores into scratch targets and measures how long that takes.
//! let (report, _) = site.drill(Drill::default()).await?;
//! assert_eq!(report.exit, Exit::Done);
//! # Ok(())
//! # }
//! ```
//!
//! # Restore
//!
//! ```no_run
//! # use kaleem_dr_core::{Site, operate::site::{PlannedRestore, Restore}};
//! # use kaleem_dr_core::recovery::source::{RestoreRequest, RestoreTarget};
//! # async fn example(site: Site) -> Result<(), Box<dyn std::error::Error>> {
//! // Next to the live data, under a name that the source chooses.
//! let request = RestoreRequest::whole(RestoreTarget::Beside(None));
//! let wanted = Restore::latest("mongo".parse()?, request);
//! let agree = async |planned: PlannedRestore<'_>| !planned.overwrites();
//! if let Some(report) = site.restore(wanted, agree).await? {
//!     assert!(report.is_equal(), "{:?}", report.differences);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Restore to a moment
//!
//! ```no_run
//! # use kaleem_dr_core::{Exit, Site, operate::site::{Oplog, PlannedRestore, Restore}};
//! # use kaleem_dr_core::recovery::{change_log::Moment, source::{RestoreRequest, RestoreTarget}};
//! # async fn example(site: Site) -> Result<(), Box<dyn std::error::Error>> {
//! // Every few minutes: what the change log has since the last slice.
//! let round = site.oplog(&Oplog::of(vec!["mongo".parse()?])).await?;
//! assert_eq!(round.exit, Exit::Done);
//!
//! let request = RestoreRequest::whole(RestoreTarget::Beside(None));
//! let mut wanted = Restore::latest("mongo".parse()?, request);
//! wanted.moment = Some(Moment::Before("2026-11-28T14:03:00Z".parse()?));
//! let agree = async |planned: PlannedRestore<'_>| !planned.overwrites();
//! if let Some(report) = site.restore(wanted, agree).await? {
//!     assert!(report.is_equal(), "{:?}", report.differences);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Look
//!
//! ```no_run
//! # use kaleem_dr_core::{Site, SiteError};
//! # async fn example(site: Site) -> Result<(), SiteError> {
//! let status = site.status().await?;
//! println!("a limit is exceeded: {}", status.is_broken());
//! for point in site.points().await? {
//!     println!("{point:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Your own source
//!
//! Implement [`Source`] to be backed up and [`Restorable`] to be restored, and add it with [`Site::with_source`]. The library knows no
//! concrete source, prints nothing, and reads no environment variables by itself.
//!
//! # Features
//!
//! All are on by default. Without them, the library is the engine for repositories in directories, and restores from them; it then
//! has a fifth fewer dependencies, and neither an HTTP client nor SQLite.
//!
//! - `s3`: repositories and mirrors in S3 buckets (`Location::S3`), and the check of a bucket.
//! - `ledger`: the history of jobs and proofs in SQLite, and what is computed from it: drills and objectives. Without it, a mirror's
//!   pass cannot distinguish forgotten snapshots from those of other programs, so it refuses to delete them.
//! - `operate`: [`Site`] and everything else of [`operate`]. Includes the other two.
//! - `serve`: the page of an installation (`Site::serve`). Includes `operate`.
//! - `mount`: snapshots as a read-only WebDAV file system (`Site::mount`). Includes `serve`.
//!
//! # Modules
//!
//! Each knows itself and those before it: [`ground`], [`engine`] (the repository), [`recovery`], [`operate`] (an installation).

pub mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod ground;
#[cfg(feature = "operate")]
pub mod operate;
pub mod recovery;

// What the signatures of this library need.
pub use async_trait::async_trait;
pub use bytes;
pub use jiff;
pub use secrecy;
pub use tokio_util::sync::CancellationToken;

#[cfg(feature = "operate")]
pub use self::operate::site::{Site, SiteError};
pub use self::{
    engine::{repository::Repository, source::Source},
    ground::{ArtifactPath, Exit, ProofLevel, RunId, SourceError, SourceName, error_chain},
    recovery::source::Restorable,
};
