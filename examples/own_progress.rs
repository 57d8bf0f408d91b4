//! A service that embeds kaleem-dr shows progress in its own way and notifies its own people of the ends of jobs.
//!
//! `cargo run --example own_progress -- CONFIG` backs up and verifies what a config declares. Both jobs are watched: what the config's
//! `[monitoring]` names is notified too, and the history knows of them.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    error::Error,
    path::PathBuf,
    sync::{Arc, atomic},
};

use async_trait::async_trait;
use kaleem_dr_core::{
    Site,
    ground::progress::{ProgressSink, StageProgress, Unit},
    operate::{
        config::secret::Environment,
        job::exit_of,
        monitor::{Notice, Notifier},
        site::{Backup, Verification},
    },
};

/// A line when a stage begins, and one when it ends.
#[derive(Debug)]
struct Stages;

#[derive(Debug)]
struct Stage(String, Unit, atomic::AtomicU64);

impl ProgressSink for Stages {
    fn begin(&self, title: &str, unit: Unit, _total: Option<u64>) -> Arc<dyn StageProgress> {
        println!("begun: {title}");
        Arc::new(Stage(title.to_owned(), unit, atomic::AtomicU64::new(0)))
    }
}

impl StageProgress for Stage {
    fn advance(&self, by: u64) {
        self.2.fetch_add(by, atomic::Ordering::Relaxed);
    }

    fn set_total(&self, _total: u64) {}

    fn finish(&self) {
        println!("ended: {}, {} {:?}", self.0, self.2.load(atomic::Ordering::Relaxed), self.1);
    }
}

/// The service's own channel: here, standard output.
struct Pager;

#[async_trait]
impl Notifier for Pager {
    fn name(&self) -> String {
        "the pager".to_owned()
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        println!("paged: {} ended with {}", notice.job, notice.exit_code);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = PathBuf::from(std::env::args().nth(1).ok_or("usage: own_progress CONFIG")?);
    let site = Site::open(&config, &kaleem_dr_sources::kinds(), Environment::of_process())?
        .with_progress(Arc::new(Stages))
        .with_notifier(Arc::new(Pager));
    let run = site.watch().backup(Backup::default()).await?;
    println!("backup: {:?}", run.exit);
    let verified = site.watch().verify(Verification::default()).await?;
    println!("verify: {:?}", exit_of(&verified));
    Ok(())
}
