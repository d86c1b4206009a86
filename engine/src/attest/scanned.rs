//! What of a build is looked through for packages besides its results.

use std::sync::{Mutex, PoisonError};

use frontend::LoweredImage;
use llb::Input;

use crate::ops::StepResult;
use crate::request::BuildRequest;

/// Stages and contexts that are looked through, by name.
type Extras = Vec<(String, StepResult)>;

/// What is looked through beside each image of a build. It is known when the build has been solved.
#[derive(Debug, Default)]
pub(crate) struct Scanned(Mutex<Vec<Extras>>);

impl Scanned {
    /// What is looked through beside these images.
    pub(crate) fn of_images(all: Vec<Extras>) -> Self {
        Self(Mutex::new(all))
    }

    /// What has to be made for that.
    pub(crate) fn wanted<'a>(
        request: &BuildRequest,
        images: &'a [LoweredImage],
    ) -> impl Iterator<Item = Input> + 'a {
        let is_wanted = request.attestations.sbom;
        images.iter().filter(move |_| is_wanted).flat_map(|image| &image.scans).map(|scan| scan.what)
    }

    /// Keeps what came of [`Self::wanted`], one after the other.
    pub(crate) fn set(&self, made: Vec<StepResult>, request: &BuildRequest, images: &[LoweredImage]) {
        let is_wanted = request.attestations.sbom;
        let mut made = made.into_iter();
        let mut extras = |image: &LoweredImage| {
            let names = image.scans.iter().filter(|_| is_wanted).map(|scan| scan.name.clone());
            names.zip(made.by_ref()).collect()
        };
        let all = images.iter().map(&mut extras).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// What is looked through beside the image of this number.
    pub(crate) fn of(&self, image: usize) -> Extras {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(image).cloned().unwrap_or_default()
    }
}
