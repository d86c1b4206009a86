//! Platforms: what an image runs on, how users write it, and which entry of an index fits.
//!
//! Source: OCI image-spec `image-index.md` (the `platform` object) and the normalisation that Docker
//! and containerd apply (`x86_64` is `amd64`, `aarch64` is `arm64` with variant `v8` left out).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and an architecture, normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH, for example `amd64`.
    pub architecture: String,
    /// GOOS, for example `linux`.
    pub os: String,
    /// For example `10.0.17763.1` on Windows; empty elsewhere.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features the operating system must have; in an image index only.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// For example `v7` on `arm`; empty when there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a platform: {reason} (expected os/arch or os/arch/variant, as in linux/arm64)")]
pub struct PlatformError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Platform {
    /// A normalised platform of three parts.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) =
            normalise(&architecture.to_ascii_lowercase(), &variant.to_ascii_lowercase());
        Self { architecture, os, os_version: String::new(), os_features: Vec::new(), variant }
    }

    /// The platform that this program runs on.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// Whether something built for `self` runs where `wanted` is asked for, and how well: a lower
    /// number is a better match, `None` no match. A 32-bit arm image of a lower variant also fits.
    pub fn fits(&self, wanted: &Platform) -> Option<u32> {
        if self.os != wanted.os {
            return None;
        }
        if self.architecture == wanted.architecture {
            return match self.architecture.as_str() {
                "arm" => arm_distance(&self.variant, &wanted.variant),
                "amd64" => amd64_distance(&self.variant, &wanted.variant),
                _ => (self.variant == wanted.variant).then_some(0),
            };
        }
        None
    }
}

/// How far an arm image's variant lies below the one asked for.
fn arm_distance(have: &str, wanted: &str) -> Option<u32> {
    let level = |variant: &str| match variant {
        "" => Some(7),
        other => other.strip_prefix('v')?.parse::<u32>().ok(),
    };
    level(wanted)?.checked_sub(level(have)?)
}

/// How far an amd64 micro-architecture level lies below the one asked for (`""` is `v1`).
fn amd64_distance(have: &str, wanted: &str) -> Option<u32> {
    let level = |variant: &str| match variant {
        "" => Some(1),
        other => other.strip_prefix('v')?.parse::<u32>().ok(),
    };
    level(wanted)?.checked_sub(level(have)?)
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", other) => ("amd64", other),
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("aarch64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        ("powerpc64", other) => ("ppc64", other),
        ("powerpc64le", other) => ("ppc64le", other),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = |reason| PlatformError { text: text.to_owned(), reason };
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(valid) {
            return Err(error(
                "a part is empty or has a character that is not a letter, digit, '_', '-' or '.'",
            ));
        }
        match parts.as_slice() {
            ["local"] => Ok(Self::host()),
            ["linux" | "windows" | "darwin" | "freebsd" | "wasip1"] => {
                let host = Self::host();
                Ok(Self::new(parts[0], &host.architecture, &host.variant))
            }
            [architecture] if is_known_architecture(architecture) => Ok(Self::new("linux", architecture, "")),
            [_] => Err(error("it is neither a known operating system nor a known architecture")),
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(error("it has more than three parts")),
        }
    }
}

fn is_known_architecture(text: &str) -> bool {
    let known = [
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
        "ppc64le", "riscv64", "s390x",
    ];
    known.contains(&normalise(&text.to_ascii_lowercase(), "").0.as_str())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        text.parse::<Platform>().map_or_else(|e| format!("error: {}", e.reason), |p| p.to_string())
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(parse("linux/x86_64"), "linux/amd64");
        assert_eq!(parse("linux/arm64/v8"), "linux/arm64");
        assert_eq!(parse("linux/arm"), "linux/arm/v7");
        assert_eq!(parse("Linux/ARM/6"), "linux/arm/v6");
        assert_eq!(parse("arm64"), "linux/arm64");
        assert_eq!(parse("amd64"), "linux/amd64");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "linux/", "a/b/c/d", "li nux/amd64", "plan"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn lower_arm_variants_fit_and_higher_do_not() {
        let v6 = Platform::new("linux", "arm", "v6");
        let v7 = Platform::new("linux", "arm", "v7");
        assert_eq!(v6.fits(&v7), Some(1));
        assert_eq!(v7.fits(&v7), Some(0));
        assert_eq!(v7.fits(&v6), None);
        assert_eq!(v7.fits(&Platform::new("linux", "arm64", "")), None);
    }
}
