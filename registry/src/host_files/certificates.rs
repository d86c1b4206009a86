//! Directories of certificates, as Docker and Podman have them: `certs.d/HOST[:PORT]/` with authorities' certificates
//! (`*.crt`) and our own (`*.cert` with `*.key`).
//!
//! Source: Docker documentation, "Verify repository client with certificates"; `containers-certs.d(5)`.

/// The files of one directory by what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFiles {
    /// Certificates of authorities.
    pub roots: Vec<String>,
    /// Our certificates and their keys.
    pub identities: Vec<(String, String)>,
}

/// Sorts the names of a directory's files; what has another ending is not looked at.
///
/// # Errors
/// The name of a file whose other half is missing, and that.
pub fn sort(names: &[String]) -> Result<CertificateFiles, (String, String)> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_unstable();
    let mut files = CertificateFiles::default();
    for name in &names {
        let other = |from: &str, to: &str| {
            let other = format!("{}{to}", name.strip_suffix(from)?);
            Some(if names.contains(&&other) { Ok(other) } else { Err(((*name).clone(), other)) })
        };
        if name.ends_with(".crt") {
            files.roots.push((*name).clone());
        } else if let Some(key) = other(".cert", ".key") {
            files.identities.push(((*name).clone(), key?));
        } else if let Some(certificate) = other(".key", ".cert") {
            certificate?;
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Result<CertificateFiles, (String, String)> {
        sort(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn files_are_told_by_their_endings() {
        let files = sorted(&["client.key", "ca.crt", "client.cert", "README"]).unwrap();
        assert_eq!(files.roots, ["ca.crt"]);
        assert_eq!(files.identities, [("client.cert".to_owned(), "client.key".to_owned())]);
        assert_eq!(sorted(&[]), Ok(CertificateFiles::default()));
    }

    #[test]
    fn half_a_pair_is_a_mistake() {
        assert_eq!(sorted(&["c.cert"]), Err(("c.cert".to_owned(), "c.key".to_owned())));
        assert_eq!(sorted(&["c.key"]), Err(("c.key".to_owned(), "c.cert".to_owned())));
    }
}
