//! The storage behind an address, requests for parts of objects, and lists.

use std::{
    collections::BTreeMap,
    error::Error,
    ffi::OsString,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use futures_executor::block_on;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
    multipart::MultipartStore, path::Path as Key,
};

use super::{
    ObjectAddress,
    client::{Connector, RequestFailure},
    credentials::Profile,
};
use crate::{
    ForkSafe,
    ranged::{ContentRange, Failure, Ranges, Reply, retried},
};

/// What reading and writing need of a storage.
pub(super) trait Store: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Store for T {}

/// How long a storage is used before the settings in the environment and in files are read again.
const LIFETIME: Duration = Duration::from_secs(60);

/// A storage of this process, with its connections and credentials.
struct Kept {
    store: Arc<dyn Store>,
    made: Instant,
    /// A hash of the settings in the environment.
    settings: u64,
}

/// Storages by process, scheme and bucket: a forked process makes its own.
static STORES: ForkSafe<BTreeMap<(u32, String, String), Kept>> = ForkSafe::new(BTreeMap::new());

/// The storage that holds an address.
///
/// # Errors
/// `InvalidInput` for settings in the environment that cannot be used.
pub(super) fn store_of(address: &ObjectAddress) -> io::Result<Arc<dyn Store>> {
    let name = (std::process::id(), address.scheme().to_owned(), address.bucket().to_owned());
    let settings = settings();
    if let Some(kept) = STORES.lock().get(&name).filter(|kept| kept.settings == settings && kept.made.elapsed() < LIFETIME) {
        return Ok(Arc::clone(&kept.store));
    }
    let store = made(address).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, words_of(&error)))?;
    STORES.lock().insert(name, Kept { store: Arc::clone(&store), made: Instant::now(), settings });
    Ok(store)
}

/// A hash of the variables that storages read.
fn settings() -> u64 {
    let is_setting = |name: &OsString| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|start| name.to_string_lossy().starts_with(start));
    let mut found: Vec<_> = std::env::vars_os().filter(|(name, _)| is_setting(name)).collect();
    found.sort();
    let mut hasher = DefaultHasher::new();
    found.hash(&mut hasher);
    hasher.finish()
}

fn made(address: &ObjectAddress) -> object_store::Result<Arc<dyn Store>> {
    // Repeated here, where it is counted.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    Ok(match address.scheme() {
        "s3" | "s3a" => {
            let builder = Profile::from_environment().completed(AmazonS3Builder::from_env().with_disable_bulk_delete(true));
            Arc::new(builder.with_bucket_name(address.bucket()).with_http_connector(Connector).with_retry(retry).build()?)
        }
        "gs" | "gcs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(address.bucket());
            Arc::new(builder.with_http_connector(Connector).with_retry(retry).build()?)
        }
        _ => {
            let place = format!("{}://{}", address.scheme(), address.bucket());
            Arc::new(MicrosoftAzureBuilder::from_env().with_url(place).with_http_connector(Connector).with_retry(retry).build()?)
        }
    })
}

/// The key of an object.
///
/// # Errors
/// `InvalidInput` for a key that names no object, or that storage cannot address.
pub(super) fn key_of(address: &ObjectAddress) -> io::Result<Key> {
    let bad = |words: String| io::Error::new(io::ErrorKind::InvalidInput, words);
    if address.key().is_empty() || address.key().ends_with('/') {
        return Err(bad("names no object; give its whole name".into()));
    }
    Key::parse(address.key())
        .map_err(|_| bad("its key has an empty part, `.`, `..` or a control character, which are not supported".into()))
}

/// One object.
pub(super) struct Object {
    pub(super) store: Arc<dyn Store>,
    pub(super) key: Key,
    /// The address as shown in messages.
    pub(super) shown: String,
}

impl Ranges for Object {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn ask(&self, part: Option<(u64, u64)>) -> Result<Reply, Failure> {
        let range = part.map(|(start, end)| GetRange::Bounded(start..end));
        let found =
            block_on(self.store.get_opts(&self.key, GetOptions { range, ..GetOptions::default() })).map_err(|error| failure_of(&error))?;
        let range = part.map(|_| ContentRange { start: found.range.start, end: found.range.end, size_bytes: found.meta.size });
        let (is_part, entity_tag) = (range.is_some(), found.meta.e_tag.clone());
        let body = Box::new(Incoming { stream: found.into_stream(), rest: Bytes::new() });
        Ok(Reply { is_part, range, entity_tag, body })
    }

    fn body_failure(&self, error: io::Error) -> Failure {
        match error.downcast::<object_store::Error>() {
            Ok(error) => failure_of(&error),
            Err(error) => Failure::transient(error),
        }
    }
}

/// The body of an object as it arrives.
struct Incoming {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match block_on(self.stream.next()) {
                Some(bytes) => self.rest = bytes.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        if let Some(buffer) = buffer.get_mut(..count) {
            self.rest.copy_to_slice(buffer);
        }
        Ok(count)
    }
}

/// Addresses of objects in a folder, in the order of their keys.
pub(super) fn list(address: &ObjectAddress, deep: bool) -> io::Result<Vec<String>> {
    let store = store_of(address)?;
    let folder = address.key().trim_end_matches('/');
    let prefix = (!folder.is_empty()).then(|| Key::parse(folder)).transpose();
    let prefix = prefix
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "its folder has an empty part, `.`, `..` or a control character"))?;
    let found = retried(&crate::FetchCounts::default(), || {
        let found = match deep {
            true => block_on(store.list(prefix.as_ref()).try_collect::<Vec<_>>()),
            false => block_on(store.list_with_delimiter(prefix.as_ref())).map(|found| found.objects),
        };
        found.map_err(|error| failure_of(&error))
    })?;
    let mut keys: Vec<String> = found.into_iter().map(|found| address.with_key(found.location.as_ref()).to_string()).collect();
    keys.sort();
    Ok(keys)
}

/// A failure of the storage, in words for its users.
pub(super) fn failure_of(error: &object_store::Error) -> Failure {
    if let Some(failure) = request_failure(error) {
        let words = if failure.is_for_credentials { no_credentials() } else { failure.words.clone() };
        return Failure { error: io::Error::new(failure.kind, words), is_transient: failure.is_transient && !failure.is_for_credentials };
    }
    let text = error.to_string();
    let reason = reason_in(&text);
    let lasting = |kind, words: String| Failure::lasting(io::Error::new(kind, words));
    match error {
        _ if is_missing_bucket(error) => lasting(io::ErrorKind::Other, "the bucket does not exist".into()),
        object_store::Error::NotFound { .. } => lasting(io::ErrorKind::NotFound, "no such object".into()),
        object_store::Error::AlreadyExists { .. } => lasting(io::ErrorKind::AlreadyExists, "it exists".into()),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => lasting(
            io::ErrorKind::PermissionDenied,
            format!("the storage refuses access{reason}; check the credentials in the environment"),
        ),
        // An error in the body of an answer that begins well.
        _ if ["InternalError", "SlowDown", "RequestTimeout"].contains(&tag(&text, "Code").unwrap_or_default()) => {
            Failure::transient(io::Error::other(format!("the storage is busy{reason}")))
        }
        _ if tag(&text, "Code").is_some_and(|code| code.contains("Token") || code.contains("Credential")) => lasting(
            io::ErrorKind::PermissionDenied,
            format!("the storage refuses access{reason}; renew the credentials in the environment"),
        ),
        _ if text.contains("redirect without LOCATION") => {
            lasting(io::ErrorKind::Other, "the bucket is in another region; set AWS_REGION".into())
        }
        _ if is_empty(error) => lasting(io::ErrorKind::Other, "the storage sent no data; the object is empty or was truncated".into()),
        _ => lasting(io::ErrorKind::Other, words_of(error)),
    }
}

/// Whether an object ends before the requested position.
pub(super) fn is_empty(error: &object_store::Error) -> bool {
    let text = error.to_string();
    text.contains("416 ") || tag(&text, "Code") == Some("InvalidRange")
}

/// Whether the bucket is missing, rather than an object in it.
pub(super) fn is_missing_bucket(error: &object_store::Error) -> bool {
    ["NoSuchBucket", "ContainerNotFound"].contains(&tag(&error.to_string(), "Code").unwrap_or_default())
}

fn no_credentials() -> String {
    "no credentials found; set those of the storage in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
     AWS_SKIP_SIGNATURE=true (GOOGLE_SKIP_SIGNATURE, AZURE_SKIP_SIGNATURE) for public objects"
        .into()
}

fn request_failure(error: &object_store::Error) -> Option<&RequestFailure> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<RequestFailure>() {
            return Some(failure);
        }
        cause = error.source();
    }
    None
}

/// The storage's own code and message in an answer, such as ` (ExpiredToken: The provided token has expired.)`; empty if there are none.
pub(super) fn reason_in(text: &str) -> String {
    match (tag(text, "Code"), tag(text, "Message")) {
        (Some(code), Some(message)) => format!(" ({code}: {})", one_line(message)),
        (Some(code), None) => format!(" ({code})"),
        _ => String::new(),
    }
}

/// The content of an XML element.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(content, _)| content)
}

/// An error of the library in one line, without the length of its answers.
fn words_of(error: &object_store::Error) -> String {
    let text = error.to_string();
    let reason = reason_in(&text);
    if !reason.is_empty() {
        return format!("the storage responded{reason}");
    }
    // The library names itself before the cause, as "Generic GCS error: ".
    let is_name = |start: &str| start.starts_with("Generic ") && start.ends_with(" error");
    let cause = text.split_once(": ").filter(|(start, _)| is_name(start)).map_or(text.as_str(), |(_, cause)| cause);
    match cause.strip_prefix("GCP credential error: ") {
        Some(cause) => one_line(&format!("the credentials in the environment cannot be used: {cause}")),
        None => one_line(cause),
    }
}

fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST).collect()
}
