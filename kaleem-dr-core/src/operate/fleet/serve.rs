//! Serves the metrics of a fleet over HTTP, for Prometheus: `GET /metrics`, and `GET /healthz` for
//! probes. The repositories are read at an interval, not at each request.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::CancellationToken;

/// Limit for the head of a request, in bytes.
const HEAD_BYTES: usize = 8 << 10;
/// Limit for a whole exchange.
const PATIENCE: Duration = Duration::from_secs(10);
/// Limit for requests at a time; further ones wait.
const AT_ONCE: usize = 16;

/// Answers requests until the cancellation. `read` returns the current text; it is called again each
/// time that `every` has passed since it ended.
///
/// # Errors
/// If no connection can be accepted any more.
pub(crate) async fn serve<R: Future<Output = String>>(
    listener: TcpListener,
    every: Duration,
    read: impl Fn() -> R,
    cancel: &CancellationToken,
) -> std::io::Result<()> {
    let (publish, text) = watch::channel::<Option<Arc<str>>>(None);
    let reading = async {
        loop {
            let text = read().await;
            publish.send_replace(Some(text.into()));
            tokio::time::sleep(every).await;
        }
    };
    let answering = async {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut exchanges = JoinSet::new();
        loop {
            while exchanges.try_join_next().is_some() {}
            let Ok(turn) = turns.clone().acquire_owned().await else { return Ok(()) };
            let (stream, _) = listener.accept().await?;
            let text = text.borrow().clone();
            exchanges.spawn(async move {
                // A client that goes away is not our concern.
                let _ = tokio::time::timeout(PATIENCE, answer(stream, text)).await;
                drop(turn);
            });
        }
    };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        () = reading => Ok(()),
        ended = answering => ended,
    }
}

async fn answer(mut stream: TcpStream, text: Option<Arc<str>>) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let (status, body) = match (line.split(' ').collect::<Vec<_>>()[..].first_chunk(), text) {
        (Some(["GET", "/metrics"]), Some(text)) => ("200 OK", text),
        (Some(["GET", "/metrics" | "/healthz"]), None) => {
            ("503 Service Unavailable", "the repositories were not read yet\n".into())
        }
        (Some(["GET", "/healthz"]), Some(_)) => ("200 OK", "ok\n".into()),
        (Some(["GET", _]), _) => ("404 Not Found", "not found\n".into()),
        _ => ("405 Method Not Allowed", "use GET\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_text_is_served_once_it_was_read_and_the_server_ends_when_it_is_cancelled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, cancel) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (go, going) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn({
            let cancel = cancel.clone();
            async move {
                let going = tokio::sync::Mutex::new(Some(going));
                let read = || async {
                    if let Some(going) = going.lock().await.take() {
                        let _ = going.await;
                    }
                    "metric 1\n".to_owned()
                };
                serve(listener, Duration::from_hours(1), read, &cancel).await
            }
        });
        let metrics = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(get(address, metrics).await.starts_with("HTTP/1.1 503 "));
        go.send(()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let found = loop {
            let found = get(address, metrics).await;
            if found.starts_with("HTTP/1.1 200 ") || std::time::Instant::now() > deadline {
                break found;
            }
        };
        assert!(found.ends_with("\r\n\r\nmetric 1\n"), "{found}");
        assert!(get(address, "GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404 "));
        assert!(get(address, "PUT /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
        assert!(get(address, "GET /healthz HTTP/1.1\r\n\r\n").await.ends_with("ok\n"));
        cancel.cancel();
        served.await.unwrap().unwrap();
    }
}
