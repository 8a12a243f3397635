//! Files in object storage: `s3://`, `gs://`, `az://`, and `hf://` for reading.
//!
//! Reads go through the same blocks and requests as those of web servers. Outputs are written to a local file and uploaded when complete,
//! in parts if they are large; an object appears as a whole. Credentials come from the environment, as for the tools of each storage.

mod address;
#[cfg(feature = "object-storage")]
mod client;
#[cfg(feature = "object-storage")]
mod credentials;
mod mirror;
#[cfg(feature = "object-storage")]
mod store;
#[cfg(feature = "object-storage")]
mod upload;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use address::noted;
pub use address::{ObjectAddress, address_of, restored};
pub(crate) use mirror::Mirror;

#[cfg(feature = "object-storage")]
use crate::custom_io::{OpenSource, SourceFactory};
use crate::{CustomSource, InputOptions, MediaError, http::HttpSource};

/// The source that reads an address in object storage.
///
/// # Errors
/// `Io` for an address without a bucket or key, and for settings in the environment that cannot be used; `Unsupported` without the feature
/// `object-storage`.
pub(crate) fn source(options: &InputOptions) -> Result<CustomSource, MediaError> {
    let shown = options.source.to_string();
    let bad = |error: io::Error| MediaError::Io { path: shown.clone(), reason: error.to_string() };
    let address = ObjectAddress::parse(options.source.reveal()).map_err(bad)?;
    if address.is_hugging_face() {
        let (url, headers) = address.hugging_face_file().map_err(bad)?;
        let own = crate::http::HttpOptions { insecure: options.insecure, allow_private: options.allow.network, ..Default::default() };
        let agent = crate::http::client::agent(&own, crate::http::client::Redirects::Followed)?;
        return Ok(CustomSource::new(HttpSource::with(url, shown, agent, headers, options.fetched.clone())));
    }
    storage_source(address, shown, options)
}

#[cfg(feature = "object-storage")]
fn storage_source(address: ObjectAddress, shown: String, options: &InputOptions) -> Result<CustomSource, MediaError> {
    let store = store::store_of(&address).map_err(|error| MediaError::Io { path: shown.clone(), reason: error.to_string() })?;
    let key = store::key_of(&address).map_err(|error| MediaError::Io { path: shown.clone(), reason: error.to_string() })?;
    let file = crate::ranged::RangedFile::new(store::Object { store, key, shown }, options.fetched.clone());
    Ok(CustomSource::new(ObjectSource { file, address }))
}

#[cfg(not(feature = "object-storage"))]
fn storage_source(address: ObjectAddress, _: String, _: &InputOptions) -> Result<CustomSource, MediaError> {
    Err(absent(&address.to_string()))
}

#[cfg(not(feature = "object-storage"))]
fn absent(what: &str) -> MediaError {
    MediaError::Unsupported { what: what.to_owned(), reason: "this build has no object storage (feature object-storage)".into() }
}

/// An object, and for a playlist the objects of its bucket that it refers to.
#[cfg(feature = "object-storage")]
struct ObjectSource {
    file: crate::ranged::RangedFile,
    address: ObjectAddress,
}

#[cfg(feature = "object-storage")]
impl SourceFactory for ObjectSource {
    fn name(&self) -> &str {
        self.file.shown()
    }

    fn open(&self) -> io::Result<OpenSource> {
        self.file.open()
    }

    fn nested(&self, url: &str, range: Option<(u64, u64)>) -> Option<CustomSource> {
        let address = ObjectAddress::parse(url).ok().filter(|address| address.is_beside(&self.address))?;
        let (store, key) = (store::store_of(&address).ok()?, store::key_of(&address).ok()?);
        let object = store::Object { store, key, shown: address.to_string() };
        let file = crate::ranged::RangedFile::new(object, self.file.counts().clone());
        Some(CustomSource::new(crate::http::NestedFile { file, range }))
    }
}

/// A place in object storage for one output.
#[derive(Clone, Debug)]
pub(crate) struct ObjectTarget {
    address: ObjectAddress,
}

impl ObjectTarget {
    /// The target of an output path; `None` for files of this machine.
    ///
    /// # Errors
    /// `Io` for addresses that cannot be written; `Unsupported` without the feature `object-storage`.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, MediaError> {
        let Some(text) = address_of(path) else { return Ok(None) };
        let bad = |reason: String| MediaError::Io { path: text.clone(), reason };
        let address = ObjectAddress::parse(&text).map_err(|error| bad(error.to_string()))?;
        if address.is_hugging_face() {
            return Err(bad("hf:// is read only; write to this machine and upload with `hf upload`".into()));
        }
        #[cfg(not(feature = "object-storage"))]
        return Err(absent(&text));
        #[cfg(feature = "object-storage")]
        Ok(Some(Self { address }))
    }

    /// Where its bytes are collected: a file of this name in the folder for temporary files.
    pub(crate) fn staging_path(&self) -> PathBuf {
        std::env::temp_dir().join(self.address.file_name())
    }

    /// Whether an object of this name exists.
    ///
    /// # Errors
    /// The storage cannot be reached or refuses.
    #[cfg(feature = "object-storage")]
    pub(crate) fn exists(&self) -> io::Result<bool> {
        upload::exists(&self.address)
    }

    #[cfg(not(feature = "object-storage"))]
    pub(crate) fn exists(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Uploads a file; the object appears when all of it has arrived.
    ///
    /// # Errors
    /// `AlreadyExists` if an object must not be replaced; others of the storage, after which nothing of it remains there.
    #[cfg(feature = "object-storage")]
    pub(crate) fn put(&self, file: &Path, replaces: bool) -> io::Result<()> {
        upload::put(&self.address, file, replaces)
    }

    #[cfg(not(feature = "object-storage"))]
    pub(crate) fn put(&self, _: &Path, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Uploads bytes as an object.
    ///
    /// # Errors
    /// As [`Self::put`].
    #[cfg(feature = "object-storage")]
    pub(crate) fn put_bytes(&self, bytes: Vec<u8>, replaces: bool) -> io::Result<()> {
        upload::put_bytes(&self.address, bytes.into(), replaces)
    }

    #[cfg(not(feature = "object-storage"))]
    pub(crate) fn put_bytes(&self, _: Vec<u8>, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes the object, if it exists.
    ///
    /// # Errors
    /// The storage cannot be reached or refuses.
    #[cfg(feature = "object-storage")]
    pub(crate) fn remove(&self) -> io::Result<()> {
        upload::remove(&self.address)
    }

    #[cfg(not(feature = "object-storage"))]
    pub(crate) fn remove(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The target of this name in the same folder.
    pub(crate) fn beside(&self, name: &str) -> Self {
        Self { address: self.address.beside(name) }
    }

    /// Names of the objects in the same folder.
    ///
    /// # Errors
    /// As [`list`].
    pub(crate) fn names_beside(&self) -> Result<Vec<String>, MediaError> {
        let found = list(&self.address.beside(""), false)?;
        Ok(found.iter().filter_map(|address| address.rsplit('/').next()).map(str::to_owned).collect())
    }
}

/// All objects whose keys begin with the folder of this address, as addresses in the order of their keys; with those of folders below it
/// if `deep`.
///
/// # Errors
/// `Io` if the storage cannot be reached or refuses, or cannot list; `Unsupported` without the feature `object-storage`.
pub fn list(address: &ObjectAddress, deep: bool) -> Result<Vec<String>, MediaError> {
    if address.is_hugging_face() {
        return Err(MediaError::Io { path: address.to_string(), reason: "folders and patterns of hf:// are not read; name a file".into() });
    }
    #[cfg(feature = "object-storage")]
    return store::list(address, deep).map_err(|error| MediaError::Io { path: address.to_string(), reason: error.to_string() });
    #[cfg(not(feature = "object-storage"))]
    return {
        let _ = deep;
        Err(absent(&address.to_string()))
    };
}

/// Whether the address is that of an object, rather than of a folder or a pattern.
///
/// # Errors
/// As [`list`].
pub fn is_object(address: &ObjectAddress) -> Result<bool, MediaError> {
    let found = ObjectTarget { address: address.clone() }.exists();
    found.map_err(|error| MediaError::Io { path: address.to_string(), reason: error.to_string() })
}
