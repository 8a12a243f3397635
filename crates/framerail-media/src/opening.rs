//! Rules for what a source may open: which containers it may be, and what playlists, scripts and references in it may
//! refer to.
//!
//! FFmpeg detects a container by content, and its playlists open anything they refer to. Here a playlist is read only if it has the
//! right extension or the format is given. A playlist on disk opens nothing outside its folder, and nothing on the network. A
//! playlist on a web server opens only http and https, and private addresses only if the server has one itself. A playlist in object
//! storage opens objects of its bucket. [`Allowance`] relaxes these rules.

use std::{
    ffi::CStr,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    ptr,
    sync::OnceLock,
};

use ffmpeg_the_third::ffi;
use framerail_core::SourceUrl;

use crate::{CustomSource, InputOptions, MediaError, av, http::HttpSource, nested_io::Nested};

/// Permissions of a playlist beyond the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// A local playlist may open http and https URLs, and an SDP file may receive; a playlist on a web server may refer to private
    /// addresses.
    pub network: bool,
    /// A local playlist may open files outside its folder.
    pub outside: bool,
}

impl Allowance {
    /// Names of the possible values.
    pub const WORDS: [&str; 4] = ["nothing", "network", "outside", "all"];

    /// Parses one of [`Allowance::WORDS`].
    pub fn of(word: &str) -> Option<Self> {
        let known = Self::WORDS.contains(&word);
        known.then_some(Self { network: matches!(word, "network" | "all"), outside: matches!(word, "outside" | "all") })
    }
}

/// Containers that open other files or URLs, or run scripts: never detected by content.
const LEADING: [&str; 13] =
    ["applehttp", "avisynth", "concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "vapoursynth", "vobsub"];

/// Containers by the extension of a playlist.
const PLAYLIST_ENDINGS: [(&str, &str); 6] =
    [("concat", "concat"), ("ffconcat", "concat"), ("m3u", "hls"), ("m3u8", "hls"), ("mpd", "dash"), ("sdp", "sdp")];

/// Containers by URL scheme.
const SCHEMES: [(&str, &str); 6] =
    [("rtp", "rtp"), ("rtsp", "rtsp"), ("rtsps", "rtsp"), ("sap", "sap"), ("satip", "rtsp"), ("srtp", "rtp")];

/// First bytes of a concat script.
const SCRIPT_START: &[u8; 8] = b"ffconcat";
/// Largest concat script that is read.
const MAX_SCRIPT_BYTES: u64 = 4 << 20;

/// How FFmpeg opens a source.
pub(crate) struct Opening {
    /// Options for FFmpeg's context and demuxer.
    pub(crate) options: Vec<(&'static str, String)>,
    /// What may be opened on behalf of the source.
    pub(crate) nested: Nested,
}

/// Where a source comes from.
enum Origin {
    Disk(PathBuf),
    Web(CustomSource),
    Program(CustomSource),
    Pipe,
    Other,
}

impl Opening {
    /// Decides how to open a source. `url` is what FFmpeg opens; `options` are resolved.
    ///
    /// # Errors
    /// `Refused` if the rules cannot be enforced on what the source refers to; `Unsupported`, `Io`.
    pub(crate) fn of(url: &str, options: &InputOptions) -> Result<Self, MediaError> {
        let source = SourceUrl::new(url);
        let origin = origin(&source, options);
        let leading = leading_format(&source, options);
        let allow = options.allow;
        let refuse = |reason: String| Err(MediaError::Refused { source_name: options.source.to_string(), reason });
        let mut opening = Self { options: vec![("format_whitelist", whitelist(leading.as_deref()))], nested: Nested::Nothing };
        let protocols = match (&origin, leading.as_deref()) {
            (Origin::Disk(path), Some("concat")) => {
                check_script(path, options)?;
                if allow.outside || allow.network {
                    opening.options.push(("safe", "0".into()));
                }
                Some(if allow.network { "file,crypto,data,http,https,tcp,tls" } else { "file,crypto,data" })
            }
            (Origin::Disk(_), Some("sdp")) if allow.network => Some("file,crypto,data,rtp,udp"),
            (Origin::Disk(_), Some("sdp")) => {
                return refuse("an SDP file receives video from the network; allow=network permits that".into());
            }
            (Origin::Disk(_), Some(format @ ("dash" | "imf"))) if !allow.outside => {
                return refuse(format!("files that a {format} manifest names cannot be held to its folder; allow=outside trusts it"));
            }
            (Origin::Disk(_), Some("dash")) if allow.network => Some("file,crypto,data,http,https,tcp,tls"),
            (Origin::Web(_), Some(format @ ("concat" | "dash" | "imf" | "sdp"))) if !allow.network => {
                return refuse(format!("addresses that a {format} file names cannot be checked beforehand; allow=network trusts it"));
            }
            (Origin::Web(_), Some("concat" | "dash" | "imf" | "sdp")) => Some("crypto,data,http,https,rtp,tcp,tls,udp"),
            (Origin::Disk(_), _) => Some("file,crypto,data"),
            (Origin::Web(_) | Origin::Program(_), _) => Some("crypto,data"),
            (Origin::Pipe, _) => Some(if allow.network { "data,crypto,http,https,tcp,tls" } else { "data" }),
            // The user chose the URL; its container opens nothing else.
            (Origin::Other, _) => None,
        };
        opening.options.extend(protocols.map(|protocols| ("protocol_whitelist", protocols.to_owned())));
        if leading.as_deref() == Some("hls") {
            // With either option, FFmpeg would treat a custom byte stream as its own.
            opening.options.extend([("http_persistent", "0".into()), ("http_multiple", "0".into())]);
            // Keys may have any extension; access is limited by folder.
            opening.options.push(("allowed_extensions", "ALL".into()));
        }
        opening.nested = match origin {
            Origin::Disk(path) => Nested::Folder { folder: folder_of(&path), outside: allow.outside, web: web(&source, options)? },
            Origin::Web(custom) | Origin::Program(custom) => Nested::Web(custom),
            Origin::Other => Nested::Nothing,
            Origin::Pipe => web(&source, options)?.map_or(Nested::Nothing, Nested::Web),
        };
        Ok(opening)
    }

    /// Opens a camera, a screen or a generator, whose format the user named.
    pub(crate) fn of_device() -> Self {
        Self { options: Vec::new(), nested: Nested::Nothing }
    }

    /// Whether an option was set here rather than by the user.
    pub(crate) fn is_own(name: &str) -> bool {
        matches!(
            name,
            "format_whitelist" | "protocol_whitelist" | "safe" | "http_persistent" | "http_multiple" | "allowed_extensions" | "tls_verify"
        )
    }
}

/// The reason to refuse a source that opens other resources but is not allowed to.
pub(crate) const DISGUISE: &str = "it leads to other files or addresses; name its container with the format option";

/// The reason to refuse a source whose content is a container that opens other resources, under a name without the matching
/// extension; `None` for other containers.
pub(crate) fn disguise(format: &str) -> Option<&'static str> {
    match format {
        "hls" | "applehttp" => Some("it contains an HLS playlist, which is read only with the extension .m3u8 or with format=hls"),
        "concat" => Some("it contains a concat script, which is read only with the extension .ffconcat or with format=concat"),
        "dash" => Some("it contains a DASH manifest, which is read only with the extension .mpd or with format=dash"),
        "sdp" => Some("it contains an SDP description, which is read only with the extension .sdp or with format=sdp"),
        name if LEADING.contains(&name) => Some(DISGUISE),
        _ => None,
    }
}

fn origin(source: &SourceUrl, options: &InputOptions) -> Origin {
    match &options.custom {
        Some(custom) if options.source.is_web() || options.source.is_object() => Origin::Web(custom.clone()),
        Some(custom) => Origin::Program(custom.clone()),
        None if *source == "-" => Origin::Pipe,
        None => local_path(source).map_or(Origin::Other, Origin::Disk),
    }
}

/// The path of a local file, with or without `file:`.
fn local_path(source: &SourceUrl) -> Option<PathBuf> {
    let text = source.reveal();
    let path = ["file://", "file:"].iter().find_map(|prefix| text.strip_prefix(prefix));
    path.or(Some(text).filter(|_| !source.is_url())).map(PathBuf::from)
}

/// The container that may open other resources, if the source can be one: by the user's option, its scheme or its extension.
fn leading_format(source: &SourceUrl, options: &InputOptions) -> Option<String> {
    let known = |format: &str| LEADING.iter().find(|name| format.split(',').any(|part| part == **name)).map(|name| (*name).to_owned());
    if let Some(format) = &options.format {
        return known(format);
    }
    let scheme = source.scheme();
    if let Some((_, format)) = SCHEMES.iter().find(|(name, _)| scheme.as_deref() == Some(name)) {
        return Some((*format).to_owned());
    }
    let name = if options.custom.is_some() { &options.source } else { source };
    let path = match local_path(name) {
        Some(path) => path,
        None if name.is_object() => PathBuf::from(name.reveal()),
        None if name.is_web() => PathBuf::from(name.reveal().split(['?', '#']).next().unwrap_or_default()),
        None => return None,
    };
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    PLAYLIST_ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| (*format).to_owned())
}

/// Names of all containers that open nothing else, and of this one.
fn whitelist(leading: Option<&str>) -> String {
    static PLAIN: OnceLock<String> = OnceLock::new();
    let plain = PLAIN.get_or_init(|| {
        let is_plain = |name: &String| !name.split(',').any(|part| LEADING.contains(&part));
        demuxer_names().into_iter().filter(is_plain).collect::<Vec<_>>().join(",")
    });
    match leading {
        Some("applehttp" | "hls") => format!("{plain},hls,applehttp"),
        Some(leading) => format!("{plain},{leading}"),
        None => plain.clone(),
    }
}

fn demuxer_names() -> Vec<String> {
    let mut state = ptr::null_mut();
    let mut names = Vec::new();
    // SAFETY: the state belongs to this loop; demuxers and their names are static.
    while let Some(format) = unsafe { ffi::av_demuxer_iterate(&mut state).as_ref() } {
        // SAFETY: as above.
        let name = unsafe { CStr::from_ptr(format.name) };
        names.push(name.to_string_lossy().into_owned());
    }
    names
}

/// The source that opens URLs in a local playlist, if allowed.
fn web(source: &SourceUrl, options: &InputOptions) -> Result<Option<CustomSource>, MediaError> {
    if !options.allow.network {
        return Ok(None);
    }
    let mut options = InputOptions { source: source.clone(), ..options.clone() };
    HttpSource::from_options(&mut options).map(|source| Some(CustomSource::new(source)))
}

/// The folder of a file, with links resolved.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())
}

/// Checks that the files of a concat script are in its folder, since FFmpeg opens them directly.
fn check_script(path: &Path, options: &InputOptions) -> Result<(), MediaError> {
    let refuse = |reason: String| Err(MediaError::Refused { source_name: options.source.to_string(), reason });
    let metadata = fs::metadata(path).map_err(|error| MediaError::io(path, &error))?;
    if metadata.len() > MAX_SCRIPT_BYTES {
        return refuse(format!("a concat script has at most {MAX_SCRIPT_BYTES} bytes"));
    }
    let script = fs::read(path).map_err(|error| MediaError::io(path, &error))?;
    let folder = folder_of(path);
    // FFmpeg ends lines at each of these.
    for line in String::from_utf8_lossy(&script).split(['\n', '\r', '\0']) {
        let Some(name) = line.trim_start().strip_prefix("file") else { continue };
        let name: String = name.trim().chars().filter(|letter| !matches!(letter, '\'' | '\\')).collect();
        let shown = SourceUrl::new(&name);
        let protocol = name.split(['/', '\\']).next().is_some_and(|first| first.contains(':'));
        match protocol {
            true if !options.allow.network => return refuse(format!("it names {shown}; allow=network permits network addresses")),
            true if !shown.is_web() => return refuse(format!("it names {shown}; a concat script opens files, http and https")),
            true => continue,
            false => {}
        }
        // A missing file is reported when it is opened.
        let is_inside =
            fs::canonicalize(folder.join(&name)).map_or(!name.starts_with('/') && !name.contains(".."), |file| file.starts_with(&folder));
        if !is_inside && !options.allow.outside {
            return refuse(format!("it names {shown}, which is outside its folder; allow=outside permits that"));
        }
        if is_script(&folder.join(&name)) {
            return refuse(format!("it names {shown}, another concat script; name that script's files"));
        }
    }
    Ok(())
}

/// Whether FFmpeg would take a file for a concat script: a script inside a script may name itself, or files that nobody has checked.
fn is_script(path: &Path) -> bool {
    let mut start = [0; SCRIPT_START.len()];
    let mut is_read = || fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    // Opening a named pipe would wait for its writer.
    fs::metadata(path).is_ok_and(|found| found.is_file()) && is_read() && start == *SCRIPT_START
}

/// Options that make FFmpeg verify a server's certificate; none for URLs without certificates.
///
/// # Errors
/// `Refused` if this FFmpeg cannot verify it.
pub(crate) fn tls_options(url: &str, is_insecure: bool) -> Result<Vec<(&'static str, String)>, MediaError> {
    let source = SourceUrl::new(url);
    let scheme = source.scheme().unwrap_or_default();
    if is_insecure || !matches!(scheme.as_str(), "rtsps" | "rtmps" | "rtmpts" | "tls" | "ftps" | "gophers") {
        return Ok(Vec::new());
    }
    if scheme == "rtsps" && !has_option(c"rtsp", c"tls_verify") {
        let reason = "this FFmpeg cannot verify certificates of rtsps servers; insecure=yes accepts any".to_owned();
        return Err(MediaError::Refused { source_name: source.to_string(), reason });
    }
    Ok(vec![("tls_verify", "1".into())])
}

/// Whether a demuxer has an option.
fn has_option(format: &CStr, option: &CStr) -> bool {
    av::init();
    // SAFETY: zero-terminated names; the class is static, and a pointer to it serves as a fake object of it.
    unsafe {
        let Some(format) = ffi::av_find_input_format(format.as_ptr()).as_ref() else { return false };
        let mut class = format.priv_class;
        !class.is_null()
            && !ffi::av_opt_find(ptr::addr_of_mut!(class).cast(), option.as_ptr(), ptr::null(), 0, ffi::AV_OPT_SEARCH_FAKE_OBJ).is_null()
    }
}
