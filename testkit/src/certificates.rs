//! Certificates that are made for one test, by `openssl`.

use std::path::{Path, PathBuf};

use crate::judges;

/// A certificate that signs itself, and its key, as PEM files.
pub struct Certificate {
    /// The certificate.
    pub file: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A certificate of `127.0.0.1` called `name`, in files below `dir`. None without openssl; see [`judges::program`].
pub fn self_signed(dir: &Path, name: &str) -> Option<Certificate> {
    let openssl = judges::program("openssl")?;
    let file = dir.join(format!("{name}.pem"));
    let key = dir.join(format!("{name}-key.pem"));
    let (file_name, key_name) = (file.display().to_string(), key.display().to_string());
    openssl.ok([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        &format!("/CN={name}"),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &key_name,
        "-out",
        &file_name,
    ]);
    Some(Certificate { file, key })
}
