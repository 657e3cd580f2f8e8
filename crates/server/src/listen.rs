//! The listening socket: plain or TLS, HTTP/1.1 and HTTP/2 on one port, bounded, stopped gracefully.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::ServiceExt;

use crate::app::{App, Peer};
use crate::auth::network;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_PEER_MAX, HEADER_TIMEOUT, STOP_TIMEOUT, STREAMS_MAX,
};
use crate::router::router;
use crate::service::Service;
use crate::web::Pages;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate and key; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Allow plain HTTP on an address that others can reach.
    pub insecure_listen: bool,
    /// Source of the agent's own findings, `organizations/1/sources/1` unless configured.
    pub source: String,
    /// Which detectors run, for the threat findings index.
    pub detectors: detect::Settings,
}

/// PEM files for TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tokens would cross the network in the clear.
    #[error(
        "will not listen on {0} without TLS, since anyone on the way could read the tokens: \
         give --tls-cert and --tls-key, or say --insecure-listen"
    )]
    Insecure(SocketAddr),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A PEM file cannot be used.
    #[error("cannot use {path} for TLS")]
    Pem {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: tokio_rustls::rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not do.
    #[error("cannot use this certificate and key for TLS")]
    Tls(#[source] tokio_rustls::rustls::Error),
    /// The store refuses.
    #[error("the store does not answer")]
    Store(#[from] store::Error),
    /// No thread.
    #[error("cannot start the server's threads")]
    Runtime(#[source] io::Error),
}

/// A running server. Dropping it stops the server too, but does not wait.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, lets those under way end, and waits for that (at most [`STOP_TIMEOUT`]).
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already, and there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// Starts the server on threads of its own. It listens when this returns.
pub fn spawn(config: Config, store: Arc<Store>) -> Result<Handle, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("server")
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = runtime.block_on(bind(&config))?;
    let address = listener.address;
    let router = routes(config, store)?;
    let thread = std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || {
            runtime.block_on(listener.run(router, async {
                // Also when the handle was dropped.
                let _ = stopped.await;
            }));
            runtime.shutdown_timeout(STOP_TIMEOUT);
        })
        .map_err(Error::Runtime)?;
    Ok(Handle {
        address,
        stop: Some(stop),
        thread: Some(thread),
    })
}

/// Serves until `stop` is ready, then lets calls under way end.
pub async fn serve(
    config: Config,
    store: Arc<Store>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let listener = bind(&config).await?;
    let router = routes(config, store)?;
    listener.run(router, stop).await;
    Ok(())
}

fn routes(config: Config, store: Arc<Store>) -> Result<Router, Error> {
    let app = App::new(Service::new(store, &config.source)?);
    let pages = Pages {
        tls: config.tls.is_some(),
        detectors: config.detectors,
    };
    Ok(router(app, pages))
}

/// A bound socket.
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

async fn bind(config: &Config) -> Result<Listener, Error> {
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    if tls.is_none() && !config.insecure_listen && !config.listen.ip().is_loopback() {
        return Err(Error::Insecure(config.listen));
    }
    let fail = |source| Error::Listen {
        address: config.listen,
        source,
    };
    let socket = TcpListener::bind(config.listen).await.map_err(fail)?;
    let address = socket.local_addr().map_err(fail)?;
    Ok(Listener {
        socket,
        address,
        tls,
    })
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let fail = |path: &PathBuf, source| Error::Pem {
        path: path.clone(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| fail(&files.certificate, source))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|source| fail(&files.key, source))?;
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(Error::Tls)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

impl Listener {
    async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let peers = Arc::new(Peers::default());
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.accept(&connections) => accepted,
            };
            let Some((stream, peer, permit)) = accepted else {
                continue;
            };
            let Some(entered) = peers.enter(peer.ip()) else {
                continue;
            };
            let (router, tls, watcher) = (router.clone(), self.tls.clone(), graceful.watcher());
            tokio::spawn(async move {
                let (_permit, _entered) = (permit, entered);
                match tls {
                    None => converse(stream, peer, router, watcher).await,
                    Some(tls) => {
                        let handshake = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream));
                        if let Ok(Ok(stream)) = handshake.await {
                            converse(stream, peer, router, watcher).await;
                        }
                    }
                }
            });
        }
        drop(self.socket);
        // Those that are not done by then are cut off; their changes still end whole.
        let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
    }

    async fn accept(
        &self,
        connections: &Arc<Semaphore>,
    ) -> Option<(
        tokio::net::TcpStream,
        SocketAddr,
        tokio::sync::OwnedSemaphorePermit,
    )> {
        let permit = Arc::clone(connections).acquire_owned().await.ok()?;
        match self.socket.accept().await {
            Ok((stream, peer)) => {
                // Small answers must not wait for more to come.
                let _ = stream.set_nodelay(true);
                Some((stream, peer, permit))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection: {error}");
                // Out of descriptors, as a rule: waiting lets some be closed.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                None
            }
        }
    }
}

/// Connections open, by address.
#[derive(Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// One connection is counted until this is dropped.
struct Entered {
    peers: Arc<Peers>,
    address: IpAddr,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, unless its address has its share.
    fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Entered> {
        let address = network(peer);
        let mut peers = self.lock();
        let open = peers.entry(address).or_default();
        if *open >= CONNECTIONS_PER_PEER_MAX {
            return None;
        }
        *open += 1;
        Some(Entered {
            peers: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut peers = self.peers.lock();
        if let Entry::Occupied(mut open) = peers.entry(self.address) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Serves one connection to its end, or until its first request is overdue.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let first = Arc::new(Notify::new());
    let arrived = Arc::clone(&first);
    let service = router.map_request(move |mut request: Request<hyper::body::Incoming>| {
        arrived.notify_one();
        request.extensions_mut().insert(Peer(peer.ip()));
        request.map(axum::body::Body::new)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(std::time::Duration::from_secs(60));
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut conversation = std::pin::pin!(watcher.watch(connection.into_owned()));
    // hyper's own limit begins once it knows the protocol, and HTTP/2 has none for the first stream: a client that sends
    // nothing, or only a greeting, would keep its place for ever.
    let ended = tokio::select! {
        ended = &mut conversation => ended,
        first = tokio::time::timeout(HEADER_TIMEOUT, first.notified()) => {
            if first.is_err() {
                tracing::debug!("no request came from {peer} in time");
                return;
            }
            conversation.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended: {error}");
    }
}
