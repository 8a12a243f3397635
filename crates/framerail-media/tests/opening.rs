//! Hostile input: which resources playlists, scripts and manifests may open, and which are refused.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
};

use common::{at, ffmpeg, folder, options, read};
use framerail_core::FramePool;
use framerail_media::{Allowance, InputOptions, MediaError, MediaReader};
use framerail_testkit::free_port;

const NETWORK: Allowance = Allowance { network: true, outside: false };
const OUTSIDE: Allowance = Allowance { network: false, outside: true };

fn refused(options: &InputOptions) -> String {
    match MediaReader::open(options, &FramePool::new(2)) {
        Err(error @ MediaError::Refused { .. }) => error.to_string(),
        Err(error) => panic!("{}: {error:?}", options.source),
        Ok(mut reader) => panic!("{}: opened, {} frames", options.source, common::read_on(&mut reader).frames.len()),
    }
}

fn frames(options: &InputOptions) -> usize {
    read(options).frames.len()
}

/// A private clip of 10 frames, and a folder that an attacker controls.
fn private() -> (tempfile::TempDir, tempfile::TempDir, String) {
    let (private, public) = (folder(), folder());
    ffmpeg(private.path(), "-f lavfi -i testsrc2=size=64x48:rate=10:duration=1 -pix_fmt yuv420p -c:v libx264 -g 5 -f mpegts private.ts");
    fs::copy(at(&private, "private.ts"), at(&public, "own.ts")).expect("copied");
    let path = at(&private, "private.ts").display().to_string();
    (private, public, path)
}

fn playlist(segment: &str) -> String {
    format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\n{segment}\n#EXT-X-ENDLIST\n")
}

#[test]
fn playlists_under_other_names_are_refused() {
    let (_private, public, path) = private();
    let write = |name: &str, text: &str| fs::write(at(&public, name), text).expect("written");
    let sdp =
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";
    let dash = "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\"></MPD>";
    for (kind, text) in [
        ("HLS playlist", playlist(&path)),
        ("HLS playlist", playlist("own.ts")),
        ("concat script", format!("ffconcat version 1.0\nfile '{path}'\n")),
        ("concat script", "ffconcat version 1.0\nfile own.ts\n".to_owned()),
        ("SDP", sdp.to_owned()),
        ("DASH", dash.to_owned()),
    ] {
        for name in ["movie.mp4", "movie.ts", "movie.jpg", "movie", "movie.m3u8.mkv"] {
            write(name, &text);
            let error = MediaReader::open(&options(&at(&public, name)), &FramePool::new(2)).err().expect("refused").to_string();
            let named = error.contains(kind);
            assert!(named || name.ends_with(".jpg") || name.ends_with(".mkv") || kind == "DASH", "{kind} as {name}: {error}");
        }
    }
    // The user allows it.
    write("movie.mp4", &playlist("own.ts"));
    assert_eq!(frames(&InputOptions { format: Some("hls".into()), ..options(&at(&public, "movie.mp4")) }), 10);
}

#[test]
fn a_local_playlist_opens_its_folder_alone() {
    let (_private, public, path) = private();
    let list = at(&public, "list.m3u8");
    fs::create_dir(at(&public, "deep")).expect("made");
    fs::copy(at(&public, "own.ts"), at(&public, "deep/own.ts")).expect("copied");
    std::os::unix::fs::symlink(&path, at(&public, "link.ts")).expect("linked");
    for inside in ["own.ts", "./own.ts", "deep/own.ts", "deep/../own.ts"] {
        fs::write(&list, playlist(inside)).expect("written");
        assert_eq!(frames(&options(&list)), 10, "{inside}");
    }
    let relative = format!("../{}/private.ts", Path::new(&path).parent().and_then(Path::file_name).expect("a folder").to_string_lossy());
    for outside in [path.as_str(), &format!("file:{path}"), &format!("file://{path}"), &relative, "link.ts", &format!("deep/../{relative}")]
    {
        fs::write(&list, playlist(outside)).expect("written");
        let error = refused(&options(&list));
        assert!(
            error.contains("list.m3u8") && (error.contains("outside its folder") || error.contains("may open only files")),
            "{outside}: {error}"
        );
    }
    for odd in [
        "concat:own.ts|own.ts",
        "subfile,,start,0,end,99999,,:own.ts",
        "tcp://127.0.0.1:1/x.ts",
        "cache:own.ts",
        "pipe:0",
        "rtsp://127.0.0.1:1/x.ts",
    ] {
        fs::write(&list, playlist(odd)).expect("written");
        let opened = MediaReader::open(&options(&list), &FramePool::new(2));
        assert!(opened.is_err(), "{odd}");
    }
    fs::write(&list, playlist(&path)).expect("written");
    assert_eq!(frames(&InputOptions { allow: OUTSIDE, ..options(&list) }), 10);
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n";
    fs::write(at(&public, "master.m3u8"), master).expect("written");
    assert!(refused(&options(&at(&public, "master.m3u8"))).contains("outside its folder"));
    fs::write(&list, playlist("own.ts")).expect("written");
    assert_eq!(frames(&options(&at(&public, "master.m3u8"))), 10);
}

#[test]
fn concat_scripts_open_their_folder_alone() {
    let (_private, public, path) = private();
    let script = at(&public, "all.ffconcat");
    std::os::unix::fs::symlink(&path, at(&public, "link.ts")).expect("linked");
    fs::write(at(&public, "list.mp4"), playlist(&path)).expect("written");
    fs::write(&script, "ffconcat version 1.0\nfile own.ts\nfile 'own.ts'\n").expect("written");
    assert_eq!(frames(&options(&script)), 20);
    for outside in [
        format!("file '{path}'"),
        format!("file {path}"),
        "file link.ts".into(),
        "file 'file:own.ts'".into(),
        "file ../x.ts".into(),
        "file http://127.0.0.1:1/x.ts".into(),
    ] {
        fs::write(&script, format!("ffconcat version 1.0\n{outside}\n")).expect("written");
        let error = refused(&options(&script));
        assert!(error.contains("it names"), "{outside}: {error}");
    }
    // A script that names itself would be opened without end; one inside another names files that are not checked.
    fs::write(at(&public, "inner.ts"), "ffconcat version 1.0\nfile link.ts\n").expect("written");
    for inner in ["inner.ts", "all.ffconcat"] {
        fs::write(&script, format!("ffconcat version 1.0\nfile {inner}\n")).expect("written");
        let error = refused(&options(&script));
        assert!(error.contains("another concat script"), "{error}");
    }
    // A disguised playlist inside a script.
    fs::write(&script, "ffconcat version 1.0\nfile list.mp4\n").expect("written");
    assert!(MediaReader::open(&options(&script), &FramePool::new(2)).is_err());
    fs::write(&script, format!("ffconcat version 1.0\nfile '{path}'\n")).expect("written");
    assert_eq!(frames(&InputOptions { allow: OUTSIDE, ..options(&script) }), 10);
}

/// A web server on loopback that answers each path with a function.
fn serve(answer: impl Fn(&str, u16) -> (&'static str, Vec<u8>, Option<String>) + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("address").port();
    // Runs until the test process ends.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body, location) = answer(&path, port);
            let location = location.map(|location| format!("Location: {location}\r\n")).unwrap_or_default();
            let out = reader.get_mut();
            let _ = write!(out, "HTTP/1.1 {status}\r\n{location}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = out.write_all(&body);
        }
    });
    port
}

#[test]
fn a_playlist_from_a_server_opens_http_alone() {
    let (_private, public, path) = private();
    let clip = fs::read(at(&public, "own.ts")).expect("a clip");
    let local = path.clone();
    let port = serve(move |asked, port| match asked {
        "/own.ts" | "/deep/own.ts" => ("200 OK", clip.clone(), None),
        "/good.m3u8" => ("200 OK", playlist("deep/own.ts").into_bytes(), None),
        "/absolute.m3u8" => ("200 OK", playlist(&format!("http://127.0.0.1:{port}/own.ts")).into_bytes(), None),
        "/file.m3u8" => ("200 OK", playlist(&format!("file:{local}")).into_bytes(), None),
        "/tcp.m3u8" => ("200 OK", playlist("tcp://127.0.0.1:1/x.ts").into_bytes(), None),
        "/to-file.ts" => ("302 Found", Vec::new(), Some(format!("file://{local}"))),
        "/moved.ts" => ("302 Found", Vec::new(), Some("/own.ts".into())),
        "/disguised.ts" => ("200 OK", playlist("own.ts").into_bytes(), None),
        "/script.ffconcat" => ("200 OK", b"ffconcat version 1.0\nfile own.ts\n".to_vec(), None),
        _ => ("404 Not Found", Vec::new(), None),
    });
    let url = |path: &str| InputOptions::new(format!("http://127.0.0.1:{port}/{path}"));
    for good in ["own.ts", "moved.ts", "good.m3u8", "absolute.m3u8"] {
        assert_eq!(frames(&url(good)), 10, "{good}");
    }
    assert!(refused(&url("file.m3u8")).contains("only http and https"));
    assert!(refused(&url("disguised.ts")).contains("leads to other files or addresses"));
    assert!(refused(&url("script.ffconcat")).contains("allow=network"));
    for bad in ["tcp.m3u8", "to-file.ts", "none.ts"] {
        assert!(MediaReader::open(&url(bad), &FramePool::new(2)).is_err(), "{bad}");
    }
    // A local playlist that refers to the server.
    let list = at(&public, "list.m3u8");
    fs::write(&list, playlist(&format!("http://127.0.0.1:{port}/own.ts"))).expect("written");
    assert!(refused(&options(&list)).contains("allow=network"));
    assert_eq!(frames(&InputOptions { allow: NETWORK, ..options(&list) }), 10);
}

#[test]
fn encrypted_segments_are_read_from_disk_and_server() {
    let (_private, public, _) = private();
    let key: Vec<u8> = (0..16).collect();
    fs::write(at(&public, "key.bin"), &key).expect("written");
    fs::write(at(&public, "key.txt"), format!("key.bin\n{}\n", at(&public, "key.bin").display())).expect("written");
    ffmpeg(
        public.path(),
        "-i own.ts -c copy -f hls -hls_time 1 -hls_key_info_file key.txt -hls_playlist_type vod -hls_segment_filename coded%d.ts \
         coded.m3u8",
    );
    let direct = frames(&options(&at(&public, "own.ts")));
    assert_eq!(frames(&options(&at(&public, "coded.m3u8"))), direct);
    let root = public.path().to_owned();
    let port = serve(move |asked, _| match fs::read(root.join(asked.trim_start_matches('/'))) {
        Ok(bytes) => ("200 OK", bytes, None),
        Err(_) => ("404 Not Found", Vec::new(), None),
    });
    assert_eq!(frames(&InputOptions::new(format!("http://127.0.0.1:{port}/coded.m3u8"))), direct);
}

/// A movie with its samples in another file: its data reference is a Macintosh alias with an absolute path.
fn movie_that_refers_to(movie: &[u8], path: &str) -> Vec<u8> {
    let mut alias = vec![0; 10];
    // Name of the volume, of the file, number of directory levels, and other fields.
    alias.extend([0; 28 + 12 + 64 + 16 + 4 + 16]);
    let length = u16::try_from(path.len()).expect("a short path");
    alias.extend([18u16.to_be_bytes(), length.to_be_bytes()].concat());
    alias.extend(path.as_bytes());
    alias.extend(vec![0; path.len() % 2]);
    alias.extend(u16::MAX.to_be_bytes());
    alias.extend([0; 2]);
    let entry = [&(alias.len() as u32 + 12).to_be_bytes()[..], b"alis\0\0\0\0", &alias].concat();
    let place = movie.windows(8).position(|bytes| bytes == b"url \0\0\0\x01").expect("a data reference") - 4;
    let mut changed = [&movie[..place], &entry, &movie[place + 12..]].concat();
    for kind in [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"] {
        let at = movie[..place].windows(4).rposition(|bytes| bytes == kind).expect("around it") - 4;
        let size = u32::from_be_bytes(movie[at..at + 4].try_into().expect("four bytes")) + entry.len() as u32 - 12;
        changed[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    changed
}

#[test]
fn references_in_a_movie_are_not_followed() {
    let (private, public, _) = private();
    // The index lies behind the samples, so that it can grow. A movie without samples shows only what it refers to.
    ffmpeg(private.path(), "-i private.ts -c copy private.mov");
    let mut movie = fs::read(at(&private, "private.mov")).expect("a clip");
    let index = movie.windows(4).position(|bytes| bytes == b"moov").expect("an index") - 4;
    movie[64..index].fill(0);
    let led = movie_that_refers_to(&movie, &at(&private, "private.mov").display().to_string());
    fs::write(at(&public, "led.mov"), led).expect("written");
    let ours = MediaReader::open(&options(&at(&public, "led.mov")), &FramePool::new(2)).map(|mut reader| common::read_on(&mut reader));
    assert!(ours.is_err() || ours.is_ok_and(|contents| contents.frames.is_empty()), "nothing of the private clip is shown");
}

#[test]
fn invalid_names_and_certificates_are_reported() {
    let unknown = |url: &str| MediaReader::open(&InputOptions::new(url), &FramePool::new(2)).err().expect("nobody there");
    for url in ["http://no-such-host.invalid/x.mp4", "rtsp://user:s3cr3t@no-such-host.invalid/cam?token=s3cr3t"] {
        let error = unknown(url);
        assert!(matches!(error, MediaError::Unreachable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("cannot be reached") && text.contains("resolve") && !text.contains("s3cr3t"), "{text}");
    }
    let free = free_port();
    for url in [
        format!("rtsp://u:s3cr3t@127.0.0.1:{free}/cam"),
        format!("rtmp://127.0.0.1:{free}/app/s3cr3t"),
        format!("http://u:s3cr3t@127.0.0.1:{free}/s?key=s3cr3t"),
    ] {
        let error = unknown(&url);
        assert!(matches!(error, MediaError::Unreachable { .. }), "{url}: {error:?}");
        assert!(!error.to_string().contains("s3cr3t") && !format!("{error:?}").contains("s3cr3t"), "{error:?}");
    }
}
