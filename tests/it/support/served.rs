//! A test server on loopback, on a thread of its own: a test may block on a program that uses it.

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
};

use axum::Router;
use tokio::sync::oneshot;

/// A router being served. It ends when this value is dropped.
#[derive(Debug)]
pub struct Served {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves a router on a free port.
    pub fn start(router: Router) -> Self {
        let listener =
            std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let server = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async move {
                let listener =
                    tokio::net::TcpListener::from_std(listener).expect("the socket is good");
                tokio::select! {
                    served = axum::serve(listener, router) => served.expect("the router is served"),
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), server: Some(server) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            // Its panic has been printed; a drop cannot report it.
            let _ = server.join();
        }
    }
}
