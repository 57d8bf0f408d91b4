//! A service whose files are backed up to a bucket and drilled, and which says over HTTP how well they are protected.
//!
//! `cargo run --example status_endpoint -- CONFIG` reads a config as the program does, makes a backup and a drill, and serves `/status` and
//! `/healthz` on a free port of the loopback until it is stopped.

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

/// Every source: its newest point, its age, and what is proven of it.
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

/// 200 while every source is as fresh and as proven, and as quickly restored, as the config asks for.
async fn healthz(State(site): State<Arc<Site>>) -> StatusCode {
    match site.status().await {
        Ok(status) if !status.sources.is_empty() && !status.is_broken() => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
