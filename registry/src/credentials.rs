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
    /// A token that the registry itself takes.
    RegistryToken(String),
}

/// What was found of credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lookup {
    /// The credential; `None` is to go as anybody.
    pub credential: Option<Credential>,
    /// Why a credential that is configured could not be had. Going as anybody may do.
    pub problem: Option<String>,
    /// Where it is from, for people who look for a mistake.
    pub source: Option<String>,
}

impl Lookup {
    /// A credential without anything to say about it.
    pub fn found(credential: Option<Credential>) -> Self {
        Self { credential, ..Self::default() }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.debug_tuple("IdentityToken").finish_non_exhaustive(),
            Self::RegistryToken(_) => f.debug_tuple("RegistryToken").finish_non_exhaustive(),
        }
    }
}

/// Finds credentials.
pub trait Credentials: Send + Sync {
    /// The credential for a repository of `registry` (as users name it, for example `docker.io`). It is asked only after
    /// the registry asked for a login, on a thread that may block, and then more than once: an implementation that is
    /// slow should remember its answers.
    fn lookup(&self, registry: &str, repository: &str) -> Lookup;

    /// What stands for who we are to a repository of `registry`: whoever has the same is told the same there. `None` is for those who are
    /// like nobody else.
    fn identity(&self, registry: &str, repository: &str) -> Option<Vec<u8>> {
        let _ = (registry, repository);
        None
    }

    /// A token for `wanted`, from somebody who keeps the credential and exchanges it there. `None` leaves the exchange to the
    /// client.
    fn token(&self, wanted: &TokenRequest) -> Option<FetchedToken> {
        let _ = wanted;
        None
    }
}

/// What a token is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The registry, as users name it.
    pub registry: String,
    /// The address of its token server.
    pub realm: String,
    /// What that calls the registry.
    pub service: Option<String>,
    /// The rights, as in `repository:<name>:pull`.
    pub scopes: Vec<String>,
}

/// A token that somebody else has fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchedToken {
    /// The token.
    pub token: String,
    /// How long it holds, in seconds, if that is known.
    pub lifetime: Option<u64>,
}

impl fmt::Debug for FetchedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedToken").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// Goes as anybody, everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn lookup(&self, _registry: &str, _repository: &str) -> Lookup {
        Lookup::default()
    }
}
