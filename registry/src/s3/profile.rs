//! The files in which people keep access keys, by profile: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Using shared config and credentials files". What a profile says of roles, single sign-on
//! and programs is not done here; that it says so is told.

use std::collections::BTreeMap;

use super::Keys;

/// Settings with which a profile has its keys from elsewhere.
const ELSEWHERE: [&str; 5] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"];

/// What files say of one profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    settings: BTreeMap<String, String>,
}

impl Profile {
    /// Reads the profile `name` of a file. `is_config` is for files of the kind `config`, whose sections are called `profile NAME`, but for
    /// the default one.
    pub fn read(text: &str, name: &str, is_config: bool) -> Option<Self> {
        let mut found = None;
        let mut is_ours = false;
        for line in text.lines() {
            // Indented lines belong to the setting above, of which there is none that we need.
            let (indented, line) = (line.starts_with([' ', '\t']), line.trim());
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
                is_ours = is_called(section.0, name, is_config);
                if is_ours {
                    found.get_or_insert_with(Self::default);
                }
            } else if let (true, false, Some((key, value))) = (is_ours, indented, line.split_once('=')) {
                let value = value.split(" #").next().unwrap_or_default().trim().to_owned();
                let profile: &mut Self = found.get_or_insert_with(Self::default);
                profile.settings.insert(key.trim().to_ascii_lowercase(), value);
            }
        }
        found
    }

    /// Takes over what only the other file says.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (key, value) in other.settings {
            self.settings.entry(key).or_insert(value);
        }
        self
    }

    /// The keys, if there are any.
    pub fn keys(&self) -> Option<Keys> {
        Some(Keys {
            id: self.settings.get("aws_access_key_id")?.clone(),
            secret: self.settings.get("aws_secret_access_key")?.clone(),
            session_token: self.settings.get("aws_session_token").cloned(),
        })
    }

    /// The region.
    pub fn region(&self) -> Option<&str> {
        self.settings.get("region").map(String::as_str)
    }

    /// The setting that says that the keys come from elsewhere.
    pub fn elsewhere(&self) -> Option<&'static str> {
        ELSEWHERE.into_iter().find(|key| self.settings.contains_key(*key))
    }
}

fn is_called(section: &str, name: &str, is_config: bool) -> bool {
    let words: Vec<&str> = section.split_whitespace().collect();
    match words[..] {
        ["profile", own] => is_config && own.trim_matches('"') == name,
        [own] => own == name && (!is_config || name == "default"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_sections_of_two_files() {
        let credentials = "# keys\n[default]\naws_access_key_id = a\naws_secret_access_key=b=c\n\n[ci]\nAWS_ACCESS_KEY_ID = d # ours\n\
                           aws_secret_access_key = e\naws_session_token = f\n";
        let config = "[default]\nregion = eu-west-1\ns3 =\n  region = nowhere\n[profile ci]\nregion=us-west-2\n[ci]\nregion=x\n\
                      [profile sso]\nsso_session = s\n";
        let read = |name: &str| {
            let own = Profile::read(credentials, name, false).unwrap_or_default();
            own.or(Profile::read(config, name, true).unwrap_or_default())
        };
        let keys = read("default").keys().unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), keys.session_token), ("a", "b=c", None));
        assert_eq!(read("default").region(), Some("eu-west-1"));
        let keys = read("ci").keys().unwrap();
        assert_eq!((keys.id.as_str(), keys.session_token.as_deref()), ("d", Some("f")));
        assert_eq!(read("ci").region(), Some("us-west-2"));
        assert_eq!((read("sso").keys(), read("sso").elsewhere()), (None, Some("sso_session")));
        assert_eq!(Profile::read(config, "none", true), None);
        for garbage in ["[", "]=", "[x\n=", "[default]\n=", "\u{0}"] {
            assert_eq!(Profile::read(garbage, "default", false).unwrap_or_default().keys(), None);
        }
    }
}
