//! A service that backs up its files to a bucket, drills them, and reports over HTTP how well they are protected.
//!
//! `cargo run --example status_endpoint -- CONFIG` reads a config like the command line, makes a backup and a drill, and serves `/status` and
//! `/healthz` on a free loopback port until it is stopped.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, path::PathBuf, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use kaleem_dr_core::{
    Exit, Site, error_chain,
    operate::{
        config::secret::Environment,
        site::{Backup, Drill},
    },
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = PathBuf::from(std::env::args().nth(1).ok_or("usage: status_endpoint CONFIG")?);
    let site = Site::open(&config, &kaleem_dr_sources::kinds(), Environment::of_process())?;

    let run = site.backup(Backup::default()).await?;
    println!("backup: {:?}", run.exit);
    let (drill, _) = site.drill(Drill::default()).await?;
    println!("drill: {:?}", drill.exit);

    let routes = Router::new()
        .route("/status", get(status))
        .route("/healthz", get(healthz))
        .with_state(Arc::new(site));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

/// Lists every source with its newest point, the point's age, and its proven level.
async fn status(State(site): State<Arc<Site>>) -> (StatusCode, Json<Value>) {
    match site.status().await {
        Ok(status) => {
            let body = json!({
                "broken": status.is_broken(),
                "sources": status.sources,
                "rto_broken": status.rto_broken,
                "alarms": status.alarms,
            });
            (StatusCode::OK, Json(body))
        }
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "error": error_chain(&error), "exit": Exit::from(&error).code() })),
        ),
    }
}

/// Returns 200 while every source satisfies the limits of the config for age, proof and recovery time.
async fn healthz(State(site): State<Arc<Site>>) -> StatusCode {
    match site.status().await {
        Ok(status) if !status.sources.is_empty() && !status.is_broken() => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
