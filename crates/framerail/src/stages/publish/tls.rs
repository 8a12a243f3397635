//! Certificates that connections trust and show.

use std::{path::Path, sync::Arc};

use framerail_pipeline::ConfigError;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};

/// What the cryptography is done with.
pub(in crate::stages) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Certificates to trust: those of a PEM file, or the system's, which `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(in crate::stages) fn trusted(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    match ca {
        Some(path) => certificates("ca", path),
        // None at all shows when a connection is made.
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

/// Every certificate of a PEM file, of which there is at least one.
pub(in crate::stages) fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let bad = |reason: &dyn std::fmt::Display| ConfigError::at(option, format_args!("{}: {reason}", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
    if found.is_empty() { Err(bad(&"it contains no certificate; name a PEM file")) } else { Ok(found) }
}
