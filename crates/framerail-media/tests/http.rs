//! Files on a web server, read in byte ranges.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{options, read, samples};
use framerail_core::FramePool;
use framerail_media::{
    CustomSource, HttpSource, Input, InputOptions, KeyframeIndex, MediaError, MediaReader, SideStreams, http::HttpOptions,
};
use framerail_testkit::{ClipSpec, Codec, Container, free_port};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Behaviour of a server.
#[derive(Clone)]
struct Manner {
    has_ranges: bool,
    /// Partial responses do not state the size of the whole file.
    hides_size: bool,
    /// Number of responses, from the first on, that break off in the middle.
    cuts: usize,
    /// Responses with this status, from the first on.
    refusals: (usize, &'static str),
    /// The entity tag changes after this many responses.
    changes_after: usize,
}

const GOOD: Manner = Manner { has_ranges: true, hides_size: false, cuts: 0, refusals: (0, ""), changes_after: usize::MAX };

/// A small web server with one file.
struct Server {
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(bytes: Vec<u8>, manner: Manner, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("address").port();
        let (log, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (bytes, answers, own_log, own_connections) =
            (Arc::new(bytes), Arc::new(AtomicUsize::new(0)), Arc::clone(&log), Arc::clone(&connections));
        // Runs until the test process ends.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                own_connections.fetch_add(1, Ordering::Relaxed);
                let (bytes, manner, answers, log, tls) =
                    (Arc::clone(&bytes), manner.clone(), Arc::clone(&answers), Arc::clone(&own_log), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &bytes, &manner, &answers, &log),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).expect("a connection");
                        serve(rustls::StreamOwned::new(connection, stream), &bytes, &manner, &answers, &log);
                    }
                });
            }
        });
        Self { port, log, connections }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/clips/clip.mp4?token=1", self.port)
    }

    fn source(&self) -> InputOptions {
        source(&self.url(), &HttpOptions::default())
    }

    fn requests(&self) -> Vec<String> {
        self.log.lock().expect("log").clone()
    }
}

fn source(url: &str, options: &HttpOptions) -> InputOptions {
    let source = CustomSource::new(HttpSource::new(url, options).expect("good options"));
    InputOptions { side_streams: SideStreams::None, ..InputOptions::of_custom(source) }
}

/// Answers requests until the connection closes.
fn serve(stream: impl Read + Write, bytes: &[u8], manner: &Manner, answers: &AtomicUsize, log: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let number = answers.fetch_add(1, Ordering::Relaxed);
        let range = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        log.lock().expect("log").push(format!("{} {head}", range.clone().unwrap_or_default()));
        let out = stream.get_mut();
        if number < manner.refusals.0 {
            let _ = write!(out, "HTTP/1.1 {}\r\nContent-Length: 2\r\n\r\nno", manner.refusals.1);
            continue;
        }
        let tag = if number >= manner.changes_after { "new" } else { "old" };
        let part = range.filter(|_| manner.has_ranges).map(|range| {
            let (first, last) = range.split_once('-').expect("a range");
            let first: usize = first.parse().expect("a number");
            (first, last.parse::<usize>().map_or(bytes.len(), |last| bytes.len().min(last + 1)))
        });
        let (head, body) = match part {
            Some((first, end)) if first < end => {
                let size = if manner.hides_size { "*".into() } else { bytes.len().to_string() };
                let range = format!("Content-Range: bytes {first}-{}/{size}\r\n", end - 1);
                (format!("HTTP/1.1 206 Partial Content\r\n{range}"), &bytes[first..end])
            }
            Some(_) => ("HTTP/1.1 416 Range Not Satisfiable\r\n".into(), &bytes[..0]),
            None => ("HTTP/1.1 200 OK\r\n".into(), bytes),
        };
        let _ = write!(out, "{head}ETag: \"{tag}\"\r\nContent-Length: {}\r\n\r\n", body.len());
        let is_cut = number < manner.cuts;
        let sent = if is_cut { &body[..body.len() / 2] } else { body };
        if out.write_all(sent).and_then(|()| out.flush()).is_err() || is_cut {
            return;
        }
    }
}

fn clip() -> framerail_testkit::Clip {
    ClipSpec::new(Codec::H264, Container::Mp4).frames(48).gop(12).make()
}

/// A clip of several blocks.
fn large_clip(folder: &std::path::Path) -> std::path::PathBuf {
    common::ffmpeg(folder, "-f lavfi -i testsrc2=size=640x480:rate=25:duration=12 -pix_fmt yuv420p -c:v mpeg4 -q:v 1 -g 10 large.mp4");
    folder.join("large.mp4")
}

fn frames(options: &InputOptions) -> Vec<(i64, Vec<u8>)> {
    read(options).frames.iter().map(|frame| (frame.pts.0, samples(frame))).collect()
}

fn refused(options: &InputOptions) -> MediaError {
    MediaReader::open(options, &FramePool::new(2)).err().expect("refused")
}

#[test]
fn a_server_gives_what_the_file_gives() {
    let clip = clip();
    let server = Server::start(fs::read(clip.path()).expect("clip"), GOOD, None);
    let options_here = server.source();
    assert!(frames(&options_here) == frames(&options(clip.path())));
    let file = InputOptions { side_streams: SideStreams::None, ..options(clip.path()) };
    let mut input = Input::open(&options_here).expect("readable");
    let index = input.container_index().expect("readable").expect("plain tables");
    assert_eq!(index.packets, KeyframeIndex::scan(&file).expect("readable").packets);
    for place in index.keyframes() {
        assert_eq!(input.seek_packet(&index, place).expect("sought"), 0);
    }
    // The whole file is one block, shared by all readers of the source.
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
    assert_eq!(input.info().name, "clip");
}

#[test]
fn long_files_come_in_growing_ranges_over_one_connection() {
    let folder = common::folder();
    let path = large_clip(folder.path());
    let bytes = fs::read(&path).expect("clip");
    assert!(bytes.len() > 5 << 20, "{}", bytes.len());
    let server = Server::start(bytes.clone(), GOOD, None);
    assert!(frames(&server.source()) == frames(&options(&path)));
    let requests = server.requests();
    assert!(requests.len() < bytes.len() >> 20, "{} requests", requests.len());
    let connections = server.connections.load(Ordering::Relaxed);
    assert!(connections <= 3, "{connections} connections for {requests:?}");
    assert!(requests.iter().all(|request| request.contains("GET /clips/clip.mp4?token=1 ")));
}

#[test]
fn broken_connections_are_taken_up_again() {
    let folder = common::folder();
    let path = large_clip(folder.path());
    let server = Server::start(fs::read(&path).expect("clip"), Manner { cuts: 4, ..GOOD }, None);
    assert!(frames(&server.source()) == frames(&options(&path)));
    let busy = Server::start(fs::read(&path).expect("clip"), Manner { refusals: (2, "503 Service Unavailable"), ..GOOD }, None);
    assert_eq!(read(&busy.source()).frames.len(), 300);
}

#[test]
fn servers_without_ranges_give_a_stream() {
    let folder = common::folder();
    common::ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=2 -pix_fmt yuv420p -c:v libx264 -g 10 a.mkv");
    let path = folder.path().join("a.mkv");
    let bytes = fs::read(&path).expect("clip");
    for manner in [Manner { has_ranges: false, ..GOOD }, Manner { hides_size: true, ..GOOD }] {
        let server = Server::start(bytes.clone(), manner, None);
        let options_here = server.source();
        assert!(frames(&options_here) == frames(&options(&path)));
        let index = KeyframeIndex::scan(&options_here).expect("readable");
        let error = Input::open(&options_here).expect("opens").seek_packet(&index, 20).expect_err("no way back");
        assert!(matches!(error, MediaError::Unsupported { .. }), "{error}");
    }
    let cut = Server::start(bytes, Manner { has_ranges: false, cuts: usize::MAX, ..GOOD }, None);
    let error = KeyframeIndex::scan(&cut.source()).expect_err("cut");
    assert!(matches!(error, MediaError::Io { .. }) && error.to_string().contains("the server closed the connection early"), "{error}");
}

#[test]
fn errors_contain_the_servers_response() {
    let bytes = fs::read(clip().path()).expect("clip");
    let refusing = |status| Server::start(bytes.clone(), Manner { refusals: (usize::MAX, status), ..GOOD }, None);
    let absent = refused(&refusing("404 Not Found").source());
    assert!(matches!(absent, MediaError::NotFound { .. }), "{absent}");
    let forbidden = refused(&refusing("403 Forbidden").source());
    assert!(matches!(forbidden, MediaError::Io { .. }) && forbidden.to_string().contains("403 Forbidden"), "{forbidden}");
    let empty = refused(&Server::start(Vec::new(), GOOD, None).source());
    assert!(empty.to_string().contains("empty"), "{empty}");
    let nobody = refused(&source(&format!("http://127.0.0.1:{}/a.mp4", free_port()), &HttpOptions::default()));
    assert!(nobody.to_string().contains("refused"), "{nobody}");
    let unknown = refused(&source("http://no-such-host.invalid/a.mp4", &HttpOptions::default()));
    assert!(matches!(unknown, MediaError::Unreachable { .. }), "{unknown}");
    let header = HttpOptions { headers: vec![("X-Key".into(), "7".into())], user_agent: Some("test".into()), ..HttpOptions::default() };
    let server = Server::start(bytes, GOOD, None);
    Input::open(&source(&server.url(), &header)).expect("readable");
    let request = server.requests().concat().to_ascii_lowercase();
    assert!(request.contains("x-key: 7") && request.contains("user-agent: test"), "{request}");
}

#[test]
fn a_file_that_changes_is_noticed() {
    let folder = common::folder();
    let path = large_clip(folder.path());
    let server = Server::start(fs::read(&path).expect("clip"), Manner { changes_after: 2, ..GOOD }, None);
    let error = KeyframeIndex::scan(&server.source()).expect_err("changed");
    assert!(error.to_string().contains("changed on the server"), "{error}");
}

#[test]
fn secure_connections_are_checked() {
    let at = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name);
    let chain: Vec<_> = CertificateDer::pem_file_iter(at("server.pem")).expect("file").collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(at("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).expect("a matching key"));
    let clip = clip();
    let server = Server::start(fs::read(clip.path()).expect("clip"), GOOD, Some(config));
    let url = server.url().replace("http:", "https:");
    let trusting = HttpOptions { ca_file: Some(at("authority.pem")), ..HttpOptions::default() };
    assert!(frames(&source(&url, &trusting)) == frames(&options(clip.path())));
    let stranger = refused(&source(&url, &HttpOptions::default()));
    assert!(stranger.to_string().contains("no secure connection") && stranger.to_string().contains("SSL_CERT_FILE"), "{stranger}");
    let plain = Server::start(Vec::new(), GOOD, None);
    let error = refused(&source(&plain.url().replace("http:", "https:"), &trusting));
    assert!(matches!(error, MediaError::Io { .. }), "{error}");
    let no_certificates = HttpOptions { ca_file: Some(at("server.key")), ..HttpOptions::default() };
    assert!(matches!(HttpSource::new(url, &no_certificates), Err(MediaError::BadOption { .. })));
}
