//! What clients send behind the question mark.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde_json::Value;

use super::ApiError;

/// The parameters of a call. A name may be there several times.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The first value of a name; what is empty is not there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a name.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// Docker's way to read yes and no: everything but these is yes.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// The same, where nothing means something.
    pub(super) fn is_true_or(&self, name: &str, otherwise: bool) -> bool {
        if self.get(name).is_some() { self.is_true(name) } else { otherwise }
    }

    /// A number.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let wrong =
            |text: &str| ApiError::bad_request(format!("invalid value {text:?} for {name}: it is no number"));
        self.get(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }

    /// The filters, as words of a command's `--filter`: `label=a=b`. Docker's clients send a map of lists, older ones a map of maps
    /// of `true`.
    ///
    /// # Errors
    /// They are neither.
    pub(super) fn filters(&self) -> Result<Vec<String>, ApiError> {
        let Some(text) = self.get("filters") else { return Ok(Vec::new()) };
        let wrong = || ApiError::bad_request(format!("invalid filter: {text:?} is no map of lists"));
        let map: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
        let mut words = Vec::new();
        for (name, values) in map {
            match values {
                Value::Array(values) => {
                    for value in values {
                        words.push(format!("{name}={}", value.as_str().ok_or_else(wrong)?));
                    }
                }
                Value::Object(values) => {
                    let wanted = values.into_iter().filter(|(_, wanted)| *wanted != Value::Bool(false));
                    words.extend(wanted.map(|(value, _)| format!("{name}={value}")));
                }
                _ => return Err(wrong()),
            }
        }
        Ok(words)
    }
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(text.as_bytes());
        Ok(Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn yes_and_no_are_read_as_docker_does() {
        let all = parameters(&[
            ("a", "1"),
            ("b", "false"),
            ("c", "0"),
            ("d", ""),
            ("e", "anything"),
            ("f", "None"),
        ]);
        let yes: Vec<&str> =
            ["a", "b", "c", "d", "e", "f", "g"].into_iter().filter(|name| all.is_true(name)).collect();
        assert_eq!(yes, ["a", "e"]);
        assert!(all.is_true_or("g", true) && !all.is_true_or("b", true));
    }

    #[test]
    fn filters_come_in_two_forms() {
        let words = |text: &str| parameters(&[("filters", text)]).filters().map_err(|error| error.message);
        assert_eq!(words(r#"{"label":["a=b","c"]}"#).unwrap(), ["label=a=b", "label=c"]);
        assert_eq!(words(r#"{"label":{"a=b":true,"c":false}}"#).unwrap(), ["label=a=b"]);
        assert_eq!(parameters(&[]).filters().unwrap(), [] as [&str; 0]);
        for text in ["[]", "{", r#"{"label":"a"}"#, r#"{"label":[1]}"#] {
            assert!(words(text).unwrap_err().starts_with("invalid filter"), "{text}");
        }
    }
}
