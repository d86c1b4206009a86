//! The name of a downloaded file: a plain name, whatever a server or a URL says.

use base::git_url::percent_decoded;
use reqwest::Url;

/// The most bytes of a file's name.
const MAX_NAME: usize = 255;

/// The last part of a URL's path, decoded; `None` when it has none that can name a file.
pub fn file_name_of_url(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let last = url.path_segments()?.rfind(|part| !part.is_empty())?.to_owned();
    plain(&decode(&last)?)
}

/// The file name in a `Content-Disposition` header; `filename*` wins over `filename`.
/// Source: RFC 6266, section 4.
pub(super) fn of_disposition(value: &str) -> Option<String> {
    let mut simple = None;
    for (name, value) in parameters(value) {
        match name.as_str() {
            "filename*" => {
                let (charset, encoded) = value.split_once('\'').and_then(|(charset, rest)| {
                    rest.split_once('\'').map(|(_language, encoded)| (charset, encoded))
                })?;
                let extended = charset.eq_ignore_ascii_case("utf-8").then(|| decode(encoded)).flatten();
                if let Some(name) = extended.and_then(|name| plain(&name)) {
                    return Some(name);
                }
            }
            "filename" => simple = simple.or_else(|| plain(&value)),
            _ => {}
        }
    }
    simple
}

/// The parameters of a header value, names in lower case, quoted strings unquoted.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, tail) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, tail) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), tail)
            }
        };
        found.push((name.trim_matches([' ', '\t', ';']).to_ascii_lowercase(), value));
        rest = tail;
    }
    found
}

/// A quoted string without its opening quote: its content, and what follows it. A backslash escapes only
/// quotes and itself, since some servers send paths of Windows.
fn unquote(text: &str) -> (String, &str) {
    let mut content = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (content, &text[position + 1..]),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => content.push(escaped),
                None => content.push('\\'),
            },
            other => content.push(other),
        }
    }
    (content, "")
}

/// The last part of what may be a path, if it can name a file.
fn plain(text: &str) -> Option<String> {
    let name = text.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let usable =
        !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains(char::is_control);
    usable.then(|| name.to_owned())
}

/// Undoes percent encoding; `None` when the result is not text.
fn decode(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_url_is_the_end_of_its_path() {
        let cases = [
            ("https://host/a/b.tar.gz", Some("b.tar.gz")),
            ("https://host/a/b/?x=/c", Some("b")),
            ("https://host/a%20b#c", Some("a b")),
            ("https://host/a%2Fb", Some("b")),
            ("https://host/100%", Some("100%")),
            ("https://host", None),
            ("https://host/", None),
            ("https://host/..%2f..", None),
            ("https://host/%00", None),
            ("not a url", None),
        ];
        for (url, expected) in cases {
            assert_eq!(file_name_of_url(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_disposition_gives_a_plain_name_or_none() {
        let cases = [
            ("attachment; filename=a.txt", Some("a.txt")),
            ("attachment; FILENAME=\"a b.txt\"; x=y", Some("a b.txt")),
            ("attachment; filename=\"a;b=\\\"c\\\".txt\"", Some("a;b=\"c\".txt")),
            ("attachment; filename=\"x\"; filename*=UTF-8''%e2%82%ac.txt", Some("€.txt")),
            ("attachment; filename=\"x\"; filename*=latin1''y", Some("x")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"..\\..\\evil.exe\"", Some("evil.exe")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"\"", None),
            ("attachment; filename=\"a/\"", None),
            ("attachment; filename=\"a\u{7}b\"", None),
            ("attachment; filename=\"open", Some("open")),
            ("attachment; filename*=UTF-8''..%2F..%2Fx", Some("x")),
            ("attachment; filename*=broken", None),
            ("inline", None),
            ("", None),
            (";;=;", None),
        ];
        for (value, expected) in cases {
            assert_eq!(of_disposition(value).as_deref(), expected, "{value}");
        }
        assert_eq!(of_disposition(&format!("a; filename={}", "x".repeat(256))), None);
    }
}
