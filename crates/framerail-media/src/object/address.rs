//! Addresses in object storage.

use std::{
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use framerail_core::{SourceUrl, is_object_scheme};

/// Server of `hf://` unless `HF_ENDPOINT` names another.
const HUGGING_FACE: &str = "https://huggingface.co";
/// Kinds of repositories of `hf://` that stand before their owner.
const REPOSITORY_KINDS: [&str; 2] = ["datasets", "spaces"];

/// A bucket and the key of an object, a folder or a pattern in it. Keys are taken as they are: `%20` is not a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAddress {
    scheme: String,
    bucket: String,
    key: String,
}

impl ObjectAddress {
    /// Takes an address apart.
    ///
    /// # Errors
    /// `InvalidInput` for one without a bucket, or with a password.
    pub fn parse(address: &str) -> io::Result<Self> {
        let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let (scheme, rest) = address
            .split_once("://")
            .filter(|(scheme, _)| is_object_scheme(scheme))
            .ok_or_else(|| bad("not an address in object storage"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad(&format!("the address has no bucket; write it as {scheme}://bucket/folder/name")));
        }
        if bucket.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(bad(
                "credentials in an address are not used; set them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The scheme in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The bucket, or container.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key, without a leading slash.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same bucket with another key.
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self.clone() }
    }

    /// The object of this name in the same folder; the folder itself for an empty name.
    pub(super) fn beside(&self, name: &str) -> Self {
        self.with_key(match self.key.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name.to_owned(),
        })
    }

    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.bucket == other.bucket
    }

    pub(super) fn is_hugging_face(&self) -> bool {
        self.scheme == "hf"
    }

    /// The last part of the key.
    pub(super) fn file_name(&self) -> OsString {
        let name = self.key.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if name.is_empty() { "object".into() } else { name.into() }
    }

    /// URL and headers of a file of a repository: `hf://datasets/OWNER/NAME@REVISION/PATH`, without `datasets/` for a model.
    ///
    /// # Errors
    /// `InvalidInput` for other forms.
    pub(super) fn hugging_face_file(&self) -> io::Result<(String, Vec<(String, String)>)> {
        let whole = format!("{}/{}", self.bucket, self.key);
        let kind = REPOSITORY_KINDS.iter().find_map(|kind| whole.strip_prefix(kind)?.strip_prefix('/').map(|rest| (*kind, rest)));
        let (kind, rest) = kind.unwrap_or(("", &whole));
        let mut parts = rest.splitn(3, '/');
        let (owner, name, path) = (parts.next(), parts.next(), parts.next().filter(|path| !path.is_empty()));
        let (Some(owner), Some(name), Some(path)) = (owner, name, path) else {
            let reason = "not a file of a repository; write it as hf://datasets/OWNER/NAME/PATH, or hf://OWNER/NAME/PATH for a model";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let server = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| HUGGING_FACE.to_owned());
        let kind = if kind.is_empty() { String::new() } else { format!("{kind}/") };
        let (server, revision, path) = (server.trim_end_matches('/'), encoded(revision), encoded(path));
        let headers = token().map(|token| ("Authorization".to_owned(), format!("Bearer {token}")));
        Ok((format!("{server}/{kind}{owner}/{name}/resolve/{revision}/{path}"), headers.into_iter().collect()))
    }
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.bucket, self.key)
    }
}

/// The token of Hugging Face: `HF_TOKEN`, or the file that `hf auth login` writes.
fn token() -> Option<String> {
    let given = std::env::var("HF_TOKEN").ok();
    let home = || {
        std::env::var_os("HF_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/huggingface")))
    };
    let kept = || fs::read_to_string(home()?.join("token")).ok();
    given.or_else(kept).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

fn encoded(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The address of an output path in object storage, also if the path was taken apart and lost one of the slashes behind its scheme; `None`
/// for files of this machine.
pub fn address_of(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let (scheme, rest) = text.split_once(":/")?;
    (is_object_scheme(scheme) && !rest.is_empty()).then(|| format!("{scheme}://{}", rest.trim_start_matches('/')))
}

/// A path as it was before it was taken apart: an address in object storage has two slashes behind its scheme.
pub fn restored(path: PathBuf) -> PathBuf {
    address_of(&path).map_or(path, PathBuf::from)
}

/// Whether a source lies in object storage, as a path in the list of a run's files.
pub(crate) fn noted(source: &str) -> Option<PathBuf> {
    SourceUrl::new(source).is_object().then(|| PathBuf::from(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_keys_stay_as_they_are() {
        for (given, bucket, key) in [
            ("s3://bucket/a/b.mp4", "bucket", "a/b.mp4"),
            ("S3://my.bucket_1/a%20b c?#é.mp4", "my.bucket_1", "a%20b c?#é.mp4"),
            ("gs://bucket", "bucket", ""),
            ("az://container/x//y", "container", "x//y"),
            ("abfss://container@account.dfs.core.windows.net/x", "container@account.dfs.core.windows.net", "x"),
        ] {
            let address = ObjectAddress::parse(given).expect(given);
            assert_eq!((address.bucket(), address.key()), (bucket, key));
            assert_eq!(ObjectAddress::parse(&address.to_string()).expect("shown"), address);
        }
        for wrong in ["s3://", "s3:///key", "https://host/x", "/s3:/x", "s3://key:secret@bucket/x"] {
            let error = ObjectAddress::parse(wrong).expect_err(wrong);
            assert!(!error.to_string().contains("secret@"), "{error}");
        }
    }

    #[test]
    fn paths_that_were_taken_apart_are_addresses_again() {
        let parts: PathBuf = Path::new("s3://bucket/a/{name}.mp4").components().collect();
        assert_eq!(restored(parts), Path::new("s3://bucket/a/{name}.mp4"));
        for local in ["out/x.mp4", "/s3:/x", "s3:", "c:/x.mp4", "https:/host/x", "s3:/"] {
            assert_eq!(restored(PathBuf::from(local)), Path::new(local));
            assert_eq!(address_of(Path::new(local)), None);
        }
    }

    #[test]
    fn files_of_repositories_have_urls() {
        let url = |given: &str| ObjectAddress::parse(given).and_then(|address| address.hugging_face_file()).map(|(url, _)| url);
        assert!(url("hf://datasets/me/clips/a b/c%.mp4").expect("a file").ends_with("/datasets/me/clips/resolve/main/a%20b/c%25.mp4"));
        assert!(url("hf://me/model@v1/x.onnx").expect("a file").ends_with("/me/model/resolve/v1/x.onnx"));
        assert!(url("hf://datasets/me/clips").is_err() && url("hf://me").is_err());
    }
}
