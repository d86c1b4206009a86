//! `--filter` of `lap images`.

use base::{Reference, Timestamp};
use engine::prune::LabelFilter;
use engine::report::ImageSummary;

use super::{FilterError, label, moment};

/// All filters of one command. What is shown fits all of them, and one of the patterns if there are some.
#[derive(Debug, Default)]
pub struct ImageFilters {
    dangling: Option<bool>,
    /// Made before this.
    before: Option<Timestamp>,
    /// Made after this.
    since: Option<Timestamp>,
    labels: Vec<LabelFilter>,
    /// Patterns of names.
    references: Vec<String>,
}

impl ImageFilters {
    /// Reads filters; `now` is what ages are counted from, `images` are all that there are.
    pub fn parse(texts: &[String], now: Timestamp, images: &[ImageSummary]) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        for text in texts {
            let (name, value) = text.split_once('=').ok_or_else(|| bad(text, "it has no ="))?;
            match name {
                "dangling" => {
                    let value = base::boolean::parse(value);
                    filters.dangling = Some(value.ok_or_else(|| bad(text, "it is true or false"))?);
                }
                "until" => filters.before = earliest(filters.before, moment(text, value, now)?),
                "before" => filters.before = earliest(filters.before, made(text, value, images)?),
                "since" => filters.since = filters.since.max(Some(made(text, value, images)?)),
                "label" => filters.labels.push(label(value, true)),
                "label!" => filters.labels.push(label(value, false)),
                "reference" => filters.references.push(value.to_owned()),
                _ => return Err(bad(text, "there is no such filter")),
            }
        }
        Ok(filters)
    }

    /// Whether an image is to be shown.
    pub fn fit(&self, image: &ImageSummary) -> bool {
        let made = image.created;
        self.dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            && self.before.is_none_or(|before| made.is_none_or(|made| made < before))
            && self.since.is_none_or(|since| made.is_some_and(|made| made > since))
            && self.labels.iter().all(|label| label.fits(&image.labels))
            && (self.references.is_empty() || !image.names.is_empty())
    }

    /// Whether an image is to be shown under this name.
    pub fn fit_name(&self, name: &Reference) -> bool {
        let fits = |pattern: &String| {
            let (short, whole) = (name.familiar_repository(), name.familiar());
            matches(pattern, &short) || matches(pattern, &whole)
        };
        self.references.is_empty() || self.references.iter().any(fits)
    }
}

fn earliest(before: Option<Timestamp>, moment: Timestamp) -> Option<Timestamp> {
    Some(before.map_or(moment, |before| before.min(moment)))
}

/// When the image that a filter names was made.
fn made(filter: &str, wanted: &str, images: &[ImageSummary]) -> Result<Timestamp, FilterError> {
    let name = wanted.parse::<Reference>().map(|reference| reference.to_string()).unwrap_or_default();
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let fits = |image: &&ImageSummary| image.names.contains(&name) || image.id.hex().starts_with(hex);
    let image = images.iter().find(fits).ok_or_else(|| bad(filter, "there is no such image"))?;
    image.created.ok_or_else(|| bad(filter, "the image does not say when it was made"))
}

/// Whether `text` fits a pattern in which `*` stands for anything but a slash, and `?` for one such character.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let stop = text.find('/').unwrap_or(text.len());
            let mut ends = text.char_indices().map(|(index, _)| index).chain([text.len()]);
            ends.any(|end| end <= stop && matches(rest.as_str(), &text[end..]))
        }
        Some(wanted) => {
            let mut chars = text.chars();
            let found = chars.next();
            let fits = if wanted == '?' { found.is_some_and(|c| c != '/') } else { found == Some(wanted) };
            fits && matches(rest.as_str(), chars.as_str())
        }
    }
}

fn bad(text: &str, why: &str) -> FilterError {
    FilterError::new(
        format!("cannot use the filter \"{text}\": {why}"),
        "the filters are dangling, label, label!, until, before, since and reference",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Digest, Platform};

    fn image(name: &str, made: i64) -> ImageSummary {
        let names: Vec<String> =
            name.parse::<Reference>().ok().map(|name| name.to_string()).into_iter().collect();
        ImageSummary {
            id: Digest::of(name.as_bytes()),
            digest: Digest::of(b""),
            created: Timestamp::from_second(made).ok(),
            size: 0,
            labels: [("made".to_owned(), name.to_owned())].into(),
            platform: Platform::host(),
            names,
        }
    }

    fn shown(filters: &[&str]) -> Option<Vec<i64>> {
        let images = [image("one:1", 10), image("me/two:2", 20), image("", 30)];
        let texts: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        let filters = ImageFilters::parse(&texts, Timestamp::from_second(40).unwrap(), &images).ok()?;
        let fits = |image: &&ImageSummary| {
            let mut names = image.names.iter().filter_map(|name| name.parse::<Reference>().ok());
            filters.fit(image) && (image.names.is_empty() || names.any(|name| filters.fit_name(&name)))
        };
        Some(images.iter().filter(fits).map(|image| image.created.unwrap().as_second()).collect())
    }

    #[test]
    fn images_are_shown_that_fit_all_filters() {
        let is = |filters: &[&str], times: &[i64]| assert_eq!(shown(filters).unwrap(), times, "{filters:?}");
        is(&[], &[10, 20, 30]);
        is(&["dangling=true"], &[30]);
        is(&["dangling=0"], &[10, 20]);
        is(&["label=made"], &[10, 20, 30]);
        is(&["label=made=one:1"], &[10]);
        is(&["label!=made=one:1", "dangling=false"], &[20]);
        is(&["until=15s"], &[10, 20]);
        is(&["before=me/two:2"], &[10]);
        is(&["since=one:1"], &[20, 30]);
        is(&["since=one:1", "before=me/two:2"], &[]);
        is(&["reference=one"], &[10]);
        is(&["reference=*:1"], &[10]);
        is(&["reference=*/t?o"], &[20]);
        is(&["reference=*"], &[10]);
        is(&["reference=one", "reference=*/*:2"], &[10, 20]);
        for bad in ["dangling", "dangling=perhaps", "colour=red", "before=absent", "until=soon"] {
            assert_eq!(shown(&[bad]), None, "{bad}");
        }
    }
}
