//! TLS certificates of connections.

use std::{path::Path, sync::Arc};

use framerail_pipeline::ConfigError;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The cryptography provider.
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
pub(in crate::stages) fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let bad = |reason: &dyn std::fmt::Display| ConfigError::at(option, format_args!("{}: {reason}", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
    if found.is_empty() { Err(bad(&"it contains no certificate; name a PEM file")) } else { Ok(found) }
}
