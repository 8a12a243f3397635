//! What keeps a server from being there.

use std::{io, net::SocketAddr};

use framerail_pipeline::ErrorKind;

/// Why a run cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No address and port.
    #[error("`{text}` is not an address to serve at; use one such as 127.0.0.1:8080, or port 0 for any free port")]
    Address {
        /// What was given.
        text: String,
    },
    /// It is said how to serve, but not where.
    #[error("the address to serve at is missing; use one such as 127.0.0.1:8080, or port 0 for any free port")]
    NoAddress,
    /// Others could reach it without a token.
    #[error(
        "{address} is reachable from other machines; set a token, preferably in the variable FRAMERAIL_SERVE_TOKEN, or serve at 127.0.0.1"
    )]
    TokenNeeded {
        /// The address.
        address: SocketAddr,
    },
    /// A token that is easily guessed, or cannot be sent.
    #[error("the token must have 8 to 256 letters, digits or -._~+/=")]
    Token,
    /// A scheme that cannot be allowed for sources.
    #[error("sources with `{scheme}` cannot be allowed; known: {known}")]
    Sources {
        /// What was given.
        scheme: String,
        /// What there is.
        known: String,
    },
    /// Something else listens there.
    #[error("{address} is in use; stop the program that listens there, or choose another port (0 = any free port)")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses the address.
    #[error("cannot serve at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no such place in the pipeline.
    #[error("{message}")]
    View {
        /// What is wrong, and what there is.
        message: String,
    },
    /// Threads or random numbers cannot be had.
    #[error("cannot start the server: {message}")]
    Start {
        /// Why.
        message: String,
    },
}

impl ServeError {
    /// What the failure calls for.
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
