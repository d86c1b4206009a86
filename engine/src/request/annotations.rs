//! What is noted on the documents of an image: `--annotation` of `lap build`, and attributes of outputs.
//!
//! Source: BuildKit, `docs/annotations.md`.

use std::collections::BTreeMap;

use base::Platform;

/// Which document of an image carries a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationPlace {
    /// The manifest.
    Manifest,
    /// The index of several manifests.
    Index,
    /// What leads to the manifest: an entry of an index, or of an archive.
    ManifestDescriptor,
    /// What leads to the index.
    IndexDescriptor,
}

impl AnnotationPlace {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "" | "manifest" => Some(Self::Manifest),
            "index" => Some(Self::Index),
            "manifest-descriptor" => Some(Self::ManifestDescriptor),
            "index-descriptor" => Some(Self::IndexDescriptor),
            _ => None,
        }
    }
}

/// A note that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid annotation \"{text}\": {why}")]
pub struct WrongAnnotation {
    /// As it was given.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Annotation {
    place: AnnotationPlace,
    /// The platform whose documents carry it; all, without one.
    platform: Option<Platform>,
    name: String,
    value: String,
}

/// Everything that is to be noted on an image. Of two notes of one name on a document, the later one holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Whether there is nothing to note.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what an attribute of an output says: `annotation[-PLACE][\[PLATFORM\]].NAME`. `false` if it is no such attribute.
    ///
    /// # Errors
    /// There is no such place or platform.
    pub fn attribute(&mut self, attribute: &str, value: &str) -> Result<bool, WrongAnnotation> {
        let Some(rest) = attribute.strip_prefix("annotation") else { return Ok(false) };
        let wrong = |why: &str| WrongAnnotation { text: attribute.to_owned(), why: why.to_owned() };
        let rest = match rest.strip_prefix('-') {
            Some(rest) => rest,
            None if rest.starts_with(['.', '[']) => rest,
            None => return Ok(false),
        };
        let end = rest.find(['.', '[']).ok_or_else(|| wrong("it has no name"))?;
        let (place, rest) = rest.split_at(end);
        let (platform, name) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (platform, rest) = rest.split_once(']').ok_or_else(|| wrong("a bracket is open"))?;
                (Some(platform), rest)
            }
            None => (None, rest),
        };
        let name = name.strip_prefix('.').filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| wrong("it has no name"))?;
        self.add(place, platform, (name, value)).map_err(|why| wrong(&why))?;
        Ok(true)
    }

    /// Adds what was typed: `[PLACE[\[PLATFORM\]],…:]NAME=VALUE`.
    ///
    /// # Errors
    /// It is none, or there is no such place or platform.
    pub fn typed(&mut self, text: &str) -> Result<(), WrongAnnotation> {
        let wrong = |why: &str| WrongAnnotation { text: text.to_owned(), why: why.to_owned() };
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("expected NAME=VALUE"))?;
        let (places, name) = key.split_once(':').unwrap_or(("", key));
        if name.is_empty() {
            return Err(wrong("it has no name"));
        }
        for place in places.split(',') {
            let (place, platform) = match place.split_once('[') {
                Some((place, rest)) => {
                    let platform = rest.strip_suffix(']').ok_or_else(|| wrong("a bracket is open"))?;
                    (place, Some(platform))
                }
                None => (place, None),
            };
            self.add(place, platform, (name, value)).map_err(|why| wrong(&why))?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        place: &str,
        platform: Option<&str>,
        (name, value): (&str, &str),
    ) -> Result<(), String> {
        let unknown =
            || format!("\"{place}\" is not one of manifest, index, manifest-descriptor and index-descriptor");
        let place = AnnotationPlace::from_name(place).ok_or_else(unknown)?;
        let is_of_index = matches!(place, AnnotationPlace::Index | AnnotationPlace::IndexDescriptor);
        if is_of_index && platform.is_some() {
            return Err("an index has no platform".to_owned());
        }
        let platform = platform.map(str::parse::<Platform>).transpose().map_err(|error| error.to_string())?;
        let (name, value) = (name.to_owned(), value.to_owned());
        self.0.push(Annotation { place, platform, name, value });
        Ok(())
    }

    /// Adds others.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().cloned());
    }

    /// What is noted in one place; for manifests, of this platform: what is said of it comes before what is said of all.
    pub(crate) fn of(&self, place: AnnotationPlace, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let fits = |own: bool| {
            self.0.iter().filter(move |one| {
                one.place == place
                    && one.platform.is_some() == own
                    && (!own || one.platform.as_ref() == platform)
            })
        };
        fits(false).chain(fits(true)).map(|one| (one.name.clone(), one.value.clone())).collect()
    }

    /// A platform that something is noted of, and that is none of these.
    pub(crate) fn stranger(&self, platforms: &[&Platform]) -> Option<&Platform> {
        self.0.iter().filter_map(|one| one.platform.as_ref()).find(|platform| !platforms.contains(platform))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(annotations: &Annotations) -> Vec<String> {
        let platform = |one: &Annotation| one.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        let line = |one: &Annotation| format!("{:?} {} {}={}", one.place, platform(one), one.name, one.value);
        annotations.0.iter().map(line).collect()
    }

    #[test]
    fn attributes_of_outputs_name_a_place() {
        let mut all = Annotations::default();
        for attribute in [
            "annotation.org.x",
            "annotation-index.a",
            "annotation-manifest[linux/arm64].b",
            "annotation[linux/amd64].c",
            "annotation-manifest-descriptor.d",
            "annotation-index-descriptor.e.f",
        ] {
            assert_eq!(all.attribute(attribute, "1"), Ok(true), "{attribute}");
        }
        let expected = [
            "Manifest  org.x=1",
            "Index  a=1",
            "Manifest linux/arm64 b=1",
            "Manifest linux/amd64 c=1",
            "ManifestDescriptor  d=1",
            "IndexDescriptor  e.f=1",
        ];
        assert_eq!(shown(&all), expected);
        assert_eq!(all.attribute("annotations", "1"), Ok(false));
        assert_eq!(all.attribute("name", "1"), Ok(false));
        for bad in [
            "annotation-.",
            "annotation-layer.a",
            "annotation[linux/amd64.a",
            "annotation-index[linux/amd64].a",
            "annotation.",
            "annotation-index",
            "annotation[a/b/c/d/e].a",
        ] {
            assert!(all.attribute(bad, "1").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_typed_may_be_for_several_places() {
        let mut all = Annotations::default();
        all.typed("a=b=c").unwrap();
        all.typed("index,manifest[linux/arm64]:org.x=").unwrap();
        assert_eq!(shown(&all), ["Manifest  a=b=c", "Index  org.x=", "Manifest linux/arm64 org.x="]);
        for bad in ["a", "layer:a=1", "manifest[:a=1", ":=1", "index:=1"] {
            assert!(all.typed(bad).is_err(), "{bad}");
        }
        let arm: Platform = "linux/arm64".parse().unwrap();
        all.typed("a=all").unwrap();
        all.typed("manifest[linux/arm64]:a=arm").unwrap();
        assert_eq!(all.of(AnnotationPlace::Manifest, Some(&arm))["a"], "arm");
        assert_eq!(all.of(AnnotationPlace::Manifest, None)["a"], "all");
        assert_eq!(all.stranger(&[]), Some(&arm));
        assert_eq!(all.stranger(&[&arm]), None);
    }
}
