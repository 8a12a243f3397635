//! Errors that prevent a server from starting.

use std::{io, net::SocketAddr};

use framerail_pipeline::ErrorKind;

/// Why a run cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Not a valid address and port.
    #[error("`{text}` is not an address to serve at; use one such as 127.0.0.1:8080, or port 0 for any free port")]
    Address {
        /// The given text.
        text: String,
    },
    /// Serve options were given without an address.
    #[error("the address to serve at is missing; use one such as 127.0.0.1:8080, or port 0 for any free port")]
    NoAddress,
    /// The address is reachable from other machines, but no token is set.
    #[error(
        "{address} is reachable from other machines; set a token, preferably in the variable FRAMERAIL_SERVE_TOKEN, or serve at 127.0.0.1"
    )]
    TokenNeeded {
        /// The address.
        address: SocketAddr,
    },
    /// A token that is too short, too long or has invalid characters.
    #[error("the token must have 8 to 256 letters, digits or -._~+/=")]
    Token,
    /// A scheme that cannot be allowed for sources.
    #[error("sources with `{scheme}` cannot be allowed; known: {known}")]
    Sources {
        /// The given scheme.
        scheme: String,
        /// All known schemes.
        known: String,
    },
    /// Another program listens on the address.
    #[error("{address} is in use; stop the program that listens there, or choose another port (0 = any free port)")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system rejected the address.
    #[error("cannot serve at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The stage to show does not exist or has no frames.
    #[error("{message}")]
    View {
        /// What is wrong, and which stages exist.
        message: String,
    },
    /// No threads or random numbers available.
    #[error("cannot start the server: {message}")]
    Start {
        /// The cause.
        message: String,
    },
}

impl ServeError {
    /// Error category.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ServeError::Address { .. }
            | ServeError::NoAddress
            | ServeError::TokenNeeded { .. }
            | ServeError::Token
            | ServeError::Sources { .. }
            | ServeError::View { .. } => ErrorKind::Usage,
            ServeError::InUse { .. } | ServeError::Bind { .. } | ServeError::Start { .. } => ErrorKind::Resource,
        }
    }
}
