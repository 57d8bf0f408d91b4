//! Reads a MongoDB as a backup does, and discards what it reads: shows if the server or the repository limits a backup.
//!
//! `MONGO_URI=mongodb://127.0.0.1:27017/DATABASE cargo run --release --example read_mongodb`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Instant};

use kaleem_dr_core::{
    CancellationToken,
    engine::artifact::drain,
    operate::config::secret::{Environment, SecretRef},
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
    let source = MongoSource::new("mongo".parse()?, config, &Environment::of_process())?;
    let began = Instant::now();
    let drained = drain(&source, &CancellationToken::new()).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{} artifacts, {} bytes in {seconds:.2} s", drained.streams, drained.bytes);
    Ok(())
}
