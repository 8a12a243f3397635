//! The HTTP server: runs on a separate thread and never blocks the run.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, runtime::Runtime, sync::watch, task::JoinSet};

use crate::{
    Content, LiveImages, ServeError,
    access::Access,
    door::{Door, Guest, Leaving},
    guarded_stream::GuardedStream,
    guesses::Guesses,
    history::History,
    live, routes,
    site::Site,
    sources::AllowedSources,
};

/// Timeout for a request head, and for idle connections.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Maximum size of a request head in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long clients have to receive pending data when the server closes.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Address and access settings of a server.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Address and port, such as `127.0.0.1:8080`; 0 = any free port.
    pub address: String,
    /// Token that clients must send; required for any address but loopback.
    pub token: Option<String>,
    /// Accepted host names, besides IP addresses, `localhost` and this machine's name.
    pub hosts: Vec<String>,
    /// URL schemes of sources that clients may add to the run, and `file` for paths. Default: [`crate::DEFAULT_SOURCES`].
    pub sources: Option<Vec<String>>,
}

/// A bound address that is not served yet.
pub struct BoundServer {
    listener: TcpListener,
    address: SocketAddr,
    is_any_port: bool,
    access: Access,
    sources: AllowedSources,
}

impl BoundServer {
    /// Binds the address.
    ///
    /// # Errors
    /// `Address`, `Sources`, `Token` and `TokenNeeded` for invalid options; `InUse`, `Bind`.
    pub fn bind(options: &ServeOptions) -> Result<Self, ServeError> {
        let no_address = || ServeError::Address { text: options.address.clone() };
        let wanted = options.address.to_socket_addrs().map_err(|_| no_address())?.next().ok_or_else(no_address)?;
        let sources = AllowedSources::new(options.sources.as_deref())?;
        // Checked before binding, and again with the assigned port.
        Access::new(wanted, options.token.as_deref(), &options.hosts)?;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse { address: wanted },
            _ => ServeError::Bind { address: wanted, source },
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let access = Access::new(address, options.token.as_deref(), &options.hosts)?;
        Ok(Self { listener, address, is_any_port: wanted.port() == 0, access, sources })
    }

    /// The bound address, with the assigned port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the system chose the port, so that the user does not know it yet.
    pub fn is_any_port(&self) -> bool {
        self.is_any_port
    }

    /// Starts serving on a separate thread.
    ///
    /// # Errors
    /// `Start`.
    pub fn serve(self, content: Content, images: &LiveImages) -> Result<Server, ServeError> {
        let start = |message: String| ServeError::Start { message };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
        let runtime = runtime.map_err(|error| start(error.to_string()))?;
        let (closing, _) = watch::channel(false);
        let history = parking_lot::Mutex::new(History::default());
        let site = Arc::new(Site {
            access: self.access,
            door: Door::default(),
            sources: self.sources,
            guesses: Guesses::default(),
            content,
            images: images.clone(),
            history,
            closing,
        });
        let (listener, served) = (self.listener, Arc::clone(&site));
        let thread = thread::Builder::new().name("serve".to_owned()).spawn(move || run(&runtime, listener, &served));
        let thread = thread.map_err(|error| start(format!("cannot start a thread: {error}")))?;
        Ok(Server { site, address: self.address, thread: Some(thread) })
    }
}

/// A running server. Dropping it closes it.
pub struct Server {
    site: Arc<Site>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends clients the final state of the run and closes; takes up to two seconds.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.site.closing.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the server's thread panicked; please report it");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(runtime: &Runtime, listener: TcpListener, site: &Arc<Site>) {
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => accept(listener, site).await,
            Err(error) => log::error!("the server failed: {error}"),
        }
    });
}

async fn accept(listener: tokio::net::TcpListener, site: &Arc<Site>) {
    let mut closing = site.closing.subscribe();
    let mut connections = JoinSet::new();
    tokio::spawn(live::keep_history(Arc::clone(site)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (site, guest) = (Arc::clone(site), site.door.knock());
                let served = Arc::clone(&site);
                let task = connections.spawn(async move {
                    let _leaving = Leaving(&served.door, guest);
                    serve_connection(stream, peer, guest, Arc::clone(&served)).await;
                });
                site.door.enter(guest, task);
            }
            // Too many open files, or the client is already gone: keep accepting.
            Err(error) => {
                log::debug!("a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
        connections.abort_all();
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, guest: Guest, site: Arc<Site>) {
    let _ = stream.set_nodelay(true);
    let mut closing = site.closing.subscribe();
    let service = service_fn(move |request| routes::handle(Arc::clone(&site), guest, peer, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(MAX_HEAD).half_close(false);
    let connection = builder.serve_connection(TokioIo::new(GuardedStream::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    // Errors of one client do not concern the server.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
