//! What log drivers need of a container and of this program.

use std::io;
use std::net::TcpStream;

use base::{Digest, Timestamp};
use registry::encrypted::{self, Credentials};
pub use runner::logs::FillTag;
use runner::logs::LogOptions;
pub use runner::logs::remote::address::Address;
use runner::logs::remote::{Encrypted, Source};
pub use runner::logs::remote::{Remote, TlsFiles, fluentd, gelf, syslog};
use runner::shim::news::Teller;
use runner::shim::{ShimError, Surroundings};
use serde_json::json;

use super::ContainerDocument;
use crate::error::EngineError;

/// What a supervisor has of us.
pub(crate) fn surroundings(teller: impl Teller + 'static) -> Surroundings {
    Surroundings { teller: Box::new(teller), encrypt }
}

fn encrypt(stream: TcpStream, host: &str, files: &TlsFiles) -> io::Result<Box<dyn Encrypted>> {
    let credentials = Credentials {
        authorities: files.authorities.as_deref(),
        certificate: files.certificate.as_deref(),
        key: files.key.as_deref(),
        trust_all: files.trust_all,
    };
    Ok(Box::new(encrypted::encrypt(stream, host, &credentials)?))
}

/// What records elsewhere say of a container.
pub(crate) fn source(
    log: &LogOptions,
    document: &ContainerDocument,
    created: Timestamp,
    (id, name, image): (&str, &str, &Digest),
) -> Result<Source, EngineError> {
    let mut source = Source {
        id: id.to_owned(),
        name: name.to_owned(),
        image: document.image.clone(),
        image_id: image.to_string(),
        command: document.command.join(" "),
        created,
        tag: String::new(),
    };
    let image_id = image.short();
    source.tag = match log.fill_tag.filter(|_| !log.tag.is_empty()) {
        None => source.short_id().to_owned(),
        Some(fill) => {
            let fields = json!({
                "ID": source.short_id(),
                "FullID": source.id,
                "Name": source.name,
                "ImageID": image_id,
                "ImageFullID": source.image_id,
                "ImageName": source.image,
                "Command": source.command,
                // As with Docker, whose tags people go on to use.
                "DaemonName": "docker",
            });
            (fill.0)(&log.tag, &fields).map_err(|why| ShimError::Log {
                driver: log.driver.name(),
                source: io::Error::other(format!("its tag cannot be made: {why}")),
            })?
        }
    };
    Ok(source)
}
