//! Where a client gets its credentials: a port that the caller implements.

use std::fmt;

/// What proves to a registry who we are. Its debug form does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password or access token.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that only the registry's token server takes, in exchange for others.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.debug_tuple("IdentityToken").finish_non_exhaustive(),
        }
    }
}

/// Finds credentials.
pub trait Credentials: Send + Sync {
    /// The credential for `registry` (as users name it, for example `docker.io`), or `None` to go as
    /// anybody. It is asked only after the registry asked for a login, and then more than once: an
    /// implementation that is slow should remember its answers.
    fn lookup(&self, registry: &str) -> Option<Credential>;
}

/// Goes as anybody, everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn lookup(&self, _registry: &str) -> Option<Credential> {
        None
    }
}
