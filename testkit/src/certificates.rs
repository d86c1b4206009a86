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

/// An authority that issues certificates for one test.
pub struct Authority {
    /// Its own.
    pub certificate: Certificate,
}

impl Authority {
    /// An authority called `name`, with files below `dir`. None without openssl; see [`judges::program`].
    pub fn new(dir: &Path, name: &str) -> Option<Self> {
        let openssl = judges::program("openssl")?;
        let certificate = Certificate::named(dir, name);
        let key = certificate.key.display().to_string();
        let file = certificate.file.display().to_string();
        let subject = format!("/CN={name}");
        let extension = "basicConstraints=critical,CA:TRUE";
        let made = [
            "req", "-x509", "-days", "2", "-subj", &subject, "-addext", extension, "-keyout", &key, "-out",
            &file,
        ];
        openssl.ok(made.into_iter().chain(NEW_KEY));
        Some(Self { certificate })
    }

    /// A certificate of `127.0.0.1` called `name`, with files below `dir`, which is good for both ends of a connection.
    pub fn issue(&self, dir: &Path, name: &str) -> Certificate {
        let openssl = judges::program("openssl").expect("the authority needed it, too");
        let certificate = Certificate::named(dir, name);
        let (request, extensions) = (dir.join(format!("{name}.csr")), dir.join(format!("{name}.ext")));
        let text = "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n";
        std::fs::write(&extensions, text).expect("a file for openssl");
        let paths = [
            &request,
            &extensions,
            &certificate.file,
            &certificate.key,
            &self.certificate.file,
            &self.certificate.key,
        ];
        let [request, extensions, file, key, authority, authority_key] =
            paths.map(|path| path.display().to_string());
        let subject = format!("/CN={name}");
        let asked = ["req", "-new", "-subj", &subject, "-keyout", &key, "-out", &request];
        openssl.ok(asked.into_iter().chain(NEW_KEY));
        openssl.ok([
            "x509",
            "-req",
            "-days",
            "2",
            "-CAcreateserial",
            "-in",
            &request,
            "-CA",
            &authority,
            "-CAkey",
            &authority_key,
            "-extfile",
            &extensions,
            "-out",
            &file,
        ]);
        certificate
    }
}

/// How openssl is asked for a key.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Certificate {
    fn named(dir: &Path, name: &str) -> Self {
        Self { file: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) }
    }
}
