//! Choosing among the platforms of an image.

use base::Platform;

use crate::error::EngineError;

/// The best of `images` for each of `wanted`; all of them if nothing is wanted.
///
/// # Errors
/// [`EngineError::NoPlatform`] when one of `wanted` has none.
pub(crate) fn choose<T>(
    images: Vec<T>,
    wanted: &[Platform],
    platform: impl Fn(&T) -> Platform,
) -> Result<Vec<T>, EngineError> {
    if wanted.is_empty() {
        return Ok(images);
    }
    let mut chosen = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let Some(index) = best_index(&images, wanted, &platform) else {
            let known = images.iter().map(|image| platform(image).to_string()).collect();
            return Err(EngineError::NoPlatform { wanted: wanted.to_string(), known });
        };
        if !chosen.contains(&index) {
            chosen.push(index);
        }
    }
    let indexed = images.into_iter().enumerate();
    Ok(indexed.filter(|(index, _)| chosen.contains(index)).map(|(_, image)| image).collect())
}

/// The best of `images` for `wanted`.
pub(crate) fn best<'a, T>(
    images: &'a [T],
    wanted: &Platform,
    platform: impl Fn(&T) -> Platform,
) -> Option<&'a T> {
    best_index(images, wanted, &platform).map(|index| &images[index])
}

fn best_index<T>(images: &[T], wanted: &Platform, platform: &impl Fn(&T) -> Platform) -> Option<usize> {
    let fits = images
        .iter()
        .enumerate()
        .filter_map(|(index, image)| platform(image).fits(wanted).map(|distance| (distance, index)));
    fits.min().map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platforms(names: &[&str]) -> Vec<Platform> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_closest_platform_is_chosen_once() {
        let have = platforms(&["linux/amd64", "linux/arm/v6", "linux/arm/v7"]);
        let chosen = |wanted: &[&str]| choose(have.clone(), &platforms(wanted), Platform::clone);
        assert_eq!(chosen(&[]).unwrap(), have);
        assert_eq!(
            chosen(&["linux/arm/v7", "linux/amd64"]).unwrap(),
            platforms(&["linux/amd64", "linux/arm/v7"])
        );
        assert_eq!(chosen(&["linux/amd64", "linux/amd64"]).unwrap().len(), 1);
        let error = chosen(&["linux/riscv64"]).unwrap_err().to_string();
        assert!(error.contains("linux/riscv64; it has linux/amd64, linux/arm/v6"), "{error}");
    }
}
