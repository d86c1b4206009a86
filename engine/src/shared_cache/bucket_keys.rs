//! Who we are at a bucket: keys that were given, those of a profile, or those that a service nearby lends for a while.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::{CancelToken, Fault, Faulty, Timestamp};
use registry::s3::{BucketOptions, KeyService, Keys, Profile};

use crate::Engine;
use crate::error::EngineError;
use crate::request::{BucketPlace, ProfileFiles};

/// The region where nobody says which; servers of others do not care.
const REGION: &str = "us-east-1";

/// Longer files are not read.
const MAX_FILE: u64 = 1 << 20;

/// How long before their end lent keys are asked for anew.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// Why there are no keys for a bucket.
#[derive(Debug, thiserror::Error)]
pub enum BucketKeysError {
    /// No file has the profile that was asked for.
    #[error("there is no profile \"{name}\" in {files}")]
    NoProfile {
        /// The profile.
        name: String,
        /// The files that were read.
        files: String,
    },
    /// The profile has no keys of its own.
    #[error(
        "the profile \"{name}\" has no access key, but {setting}, which is not understood here: give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Elsewhere {
        /// The profile.
        name: String,
        /// The setting that says where it has its keys from.
        setting: &'static str,
    },
}

impl Faulty for BucketKeysError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

/// A bucket with what is known of its keys.
pub(super) struct KeyRing {
    place: BucketPlace,
    settled: Mutex<Option<Settled>>,
}

/// What was found out.
#[derive(Clone)]
struct Settled {
    options: BucketOptions,
    /// Until when the keys are good; `None` is for ever.
    until: Option<Timestamp>,
}

impl KeyRing {
    pub(super) fn new(place: BucketPlace) -> Self {
        Self { place, settled: Mutex::default() }
    }

    /// How to get to the bucket, with keys that are good for a while yet.
    ///
    /// # Errors
    /// When a profile or a service that the user named has none.
    pub(super) fn options(
        &self,
        engine: &Engine,
        cancel: &CancelToken,
    ) -> Result<BucketOptions, EngineError> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let now = engine.clock.now();
        let is_good = |until: Option<Timestamp>| until.is_none_or(|until| now + MARGIN < until);
        if let Some(known) = settled.as_ref().filter(|known| is_good(known.until)) {
            return Ok(known.options.clone());
        }
        let found = self.settle(engine, cancel)?;
        Ok(settled.insert(found).options.clone())
    }

    fn settle(&self, engine: &Engine, cancel: &CancelToken) -> Result<Settled, EngineError> {
        let BucketPlace { options, profile, services, .. } = &self.place;
        let mut options = options.clone();
        let profile = profile.as_ref().filter(|_| options.keys.is_none() || options.region.is_empty());
        let found = profile.map(read).transpose()?.flatten().unwrap_or_default();
        if options.region.is_empty() {
            found.region().unwrap_or(REGION).clone_into(&mut options.region);
        }
        let mut until = None;
        if options.keys.is_none() {
            options.keys = profile.map(|files| keys_of(files, &found)).transpose()?.flatten();
        }
        for service in services {
            if options.keys.is_some() {
                break;
            }
            let network = engine.network()?;
            match network.wait(cancel, network.client.lent_keys(service)) {
                Ok(lent) => (options.keys, until) = (Some(lent.keys), lent.until),
                // Most machines have no role; then requests are not signed.
                Err(EngineError::Registry(_)) if matches!(service, KeyService::Machine { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Settled { options, until })
    }
}

/// What the files say of a profile.
fn read(files: &ProfileFiles) -> Result<Option<Profile>, EngineError> {
    let of = |file: &Option<PathBuf>, is_config| match file {
        Some(file) => Ok::<_, EngineError>(Profile::read(&text(file)?, &files.name, is_config)),
        None => Ok(None),
    };
    let (keys, config) = (of(&files.credentials, false)?, of(&files.config, true)?);
    if keys.is_none() && config.is_none() && files.is_asked {
        let shown = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        let listed: Vec<String> = [&files.credentials, &files.config].into_iter().filter_map(shown).collect();
        let (name, files) = (files.name.clone(), listed.join(" or "));
        return Err(BucketKeysError::NoProfile { name, files }.into());
    }
    Ok(keys.map(|keys| keys.or(config.clone().unwrap_or_default())).or(config))
}

/// The text of a file that may be missing. One that is too long is none.
fn text(file: &Path) -> Result<String, EngineError> {
    match sys::fs::read_limited(file, MAX_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

fn keys_of(files: &ProfileFiles, profile: &Profile) -> Result<Option<Keys>, EngineError> {
    match (profile.keys(), profile.elsewhere()) {
        (Some(keys), _) => Ok(Some(keys)),
        (None, Some(setting)) if files.is_asked => {
            Err(BucketKeysError::Elsewhere { name: files.name.clone(), setting }.into())
        }
        (None, _) => Ok(None),
    }
}
