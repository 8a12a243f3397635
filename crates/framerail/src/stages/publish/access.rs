//! Users, passwords and certificates of connections.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_pipeline::{ConfigError, Options};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The cryptography that TLS uses.
pub(in crate::stages) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Trusted certificates: those of a PEM file, or the system's, which `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(in crate::stages) fn trusted(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    match ca {
        Some(path) => certificates("ca", path),
        // Missing certificates fail when a connection is made.
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

/// All certificates of a PEM file, which must contain at least one.
fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let bad = |reason: &dyn Display| ConfigError::at(option, format_args!("{}: {reason}", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
    if found.is_empty() { Err(bad(&"it contains no certificate; name a PEM file")) } else { Ok(found) }
}

/// The value of the environment variable that an option names.
pub(in crate::stages) fn secret(options: &Options, option: &str) -> Result<Option<String>, ConfigError> {
    let Some(name) = options.optional_text(option) else { return Ok(None) };
    let value = std::env::var(name).map_err(|_| {
        ConfigError::at(option, format_args!("the environment variable {name} is not set"))
            .help(format_args!("set it before the run: export {name}=..."))
    })?;
    Ok(Some(value))
}

/// User name and password; an empty password where none is given.
pub(in crate::stages) fn credentials(options: &Options) -> Result<Option<(String, String)>, ConfigError> {
    match (options.optional_text("username"), secret(options, "password_env")?) {
        (Some(name), password) => Ok(Some((name.to_owned(), password.unwrap_or_default()))),
        (None, Some(_)) => Err(ConfigError::at("password_env", "a password needs a username").help("give username= too")),
        (None, None) => Ok(None),
    }
}

/// The files that TLS options name.
pub(in crate::stages) struct TlsFiles {
    pub(in crate::stages) ca: Option<PathBuf>,
    /// Certificate and key.
    pub(in crate::stages) own: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// `None` without TLS.
    pub(in crate::stages) fn of(options: &Options) -> Result<Option<Self>, ConfigError> {
        let path = |option: &str| options.optional_path(option).map(Path::to_path_buf);
        if !options.switch("tls") {
            return match ["ca", "cert", "key"].into_iter().find(|option| options.is_given(option)) {
                Some(option) => Err(ConfigError::at(option, format_args!("`{option}` is for TLS, and tls is off")).help("give tls=yes")),
                None => Ok(None),
            };
        }
        let own = match (path("cert"), path("key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err(ConfigError::at("tls", "a client's certificate needs its key").help("give both cert= and key=, or neither")),
        };
        Ok(Some(Self { ca: path("ca"), own }))
    }

    /// The configuration for rustls.
    pub(in crate::stages) fn client_config(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted(self.ca.as_deref())?);
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::at("tls", error))?
            .with_root_certificates(roots);
        let Some((cert, key)) = &self.own else { return Ok(Arc::new(config.with_no_client_auth())) };
        let certificates = certificates("cert", cert)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| ConfigError::at("key", format_args!("{}: {error}", key.display())))?;
        let config = config.with_client_auth_cert(certificates, key).map_err(|error| ConfigError::at("cert", error))?;
        Ok(Arc::new(config))
    }
}
