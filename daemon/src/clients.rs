//! What clients may do, by the names in their certificates.

use std::str::FromStr;

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// How much somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything.
    All,
    /// Only what changes nothing.
    Reading,
    /// Nothing: a client that is not on the list.
    None,
}

/// A client that may come, as `NAME` or, if it may only look, `NAME:ro`. The name is that in its certificate: the common name, or one of
/// the names of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedClient {
    name: String,
    reads_only: bool,
}

/// Why a text names no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no client: write NAME, or NAME:ro for one that may only look")]
pub struct ClientError(String);

impl FromStr for AllowedClient {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let (name, reads_only) = match text.rsplit_once(':') {
            None => (text, false),
            Some((name, "ro")) => (name, true),
            Some((name, "rw")) => (name, false),
            Some(_) => return Err(ClientError(text.to_owned())),
        };
        if name.is_empty() {
            return Err(ClientError(text.to_owned()));
        }
        Ok(Self { name: name.to_owned(), reads_only })
    }
}

/// What a client may do by its certificates, of which the first is its own. Without a list everybody may do everything.
pub(crate) fn access(allowed: &[AllowedClient], certificates: Option<&[CertificateDer<'_>]>) -> Access {
    if allowed.is_empty() {
        return Access::All;
    }
    let names = certificates.and_then(<[_]>::first).map(names).unwrap_or_default();
    let mut found = Access::None;
    for client in allowed.iter().filter(|client| names.contains(&client.name)) {
        match client.reads_only {
            false => return Access::All,
            true => found = Access::Reading,
        }
    }
    found
}

/// The names in a certificate; none in what is no certificate.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else { return Vec::new() };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.map(str::to_owned).collect();
    if let Ok(Some(others)) = certificate.subject_alternative_name() {
        names.extend(others.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_named_with_what_they_may_do() {
        let parse = |text: &str| text.parse::<AllowedClient>();
        assert_eq!(parse("ci"), Ok(AllowedClient { name: "ci".to_owned(), reads_only: false }));
        assert_eq!(parse("watch:ro"), Ok(AllowedClient { name: "watch".to_owned(), reads_only: true }));
        for bad in ["", ":ro", "a:b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_is_on_no_list_may_nothing() {
        let allowed = ["ci".parse().unwrap()];
        assert_eq!(access(&[], None), Access::All);
        assert_eq!(access(&allowed, None), Access::None);
        assert_eq!(access(&allowed, Some(&[CertificateDer::from(vec![1, 2, 3])])), Access::None);
    }
}
