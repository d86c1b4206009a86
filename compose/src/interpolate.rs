//! Variables in texts: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+other}`, and `$$` for a dollar.

use crate::error::ComposeError;
use crate::yaml::{Node, Value};

/// How deep defaults may lie in each other.
const DEEPEST: usize = 50;

/// What variables are set to. What is asked for and not set is remembered, for warnings.
pub trait Variables {
    /// The value of a variable.
    fn get(&self, name: &str) -> Option<String>;
    /// A variable without a value stood for an empty text.
    fn missing(&self, name: &str);
}

/// Why a text could not be interpolated.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is not well formed.
    Format,
    /// A variable has to be set and is not.
    Required {
        /// The variable.
        name: String,
        /// What its author says.
        message: String,
    },
}

/// Interpolates all texts below a node, but no keys.
///
/// # Errors
/// With the place and path of the text.
pub fn tree(node: &mut Node, path: &str, variables: &dyn Variables) -> Result<(), ComposeError> {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => match interpolate(text, variables) {
            Ok(result) => *text = result,
            Err(Failure::Format) => {
                let (place, path, text) = (node.place.clone(), path.to_owned(), text.clone());
                return Err(ComposeError::Interpolation { place, path, text });
            }
            Err(Failure::Required { name, message }) => {
                let (place, path) = (node.place.clone(), path.to_owned());
                return Err(ComposeError::RequiredVariable { place, path, name, message });
            }
        },
        Value::List(items) => {
            for item in items {
                tree(item, &format!("{path}.[]"), variables)?;
            }
        }
        Value::Map(map) => {
            for (key, item) in map {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                tree(item, &below, variables)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A text with its variables replaced.
///
/// # Errors
/// [`Failure`].
pub fn interpolate(text: &str, variables: &dyn Variables) -> Result<String, Failure> {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or(Failure::Format)?;
            result.push_str(&braced(&after[..end], variables)?);
            rest = &after[end + 1..];
        } else {
            let end = name_length(rest);
            if end == 0 {
                return Err(Failure::Format);
            }
            result.push_str(&value_or_empty(&rest[..end], variables));
            rest = &rest[end..];
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// How long the name is that a text begins with.
fn name_length(text: &str) -> usize {
    let is_part = |(index, byte): &(usize, u8)| {
        byte.is_ascii_alphabetic() || *byte == b'_' || *index > 0 && byte.is_ascii_digit()
    };
    text.bytes().enumerate().take_while(is_part).count()
}

/// Where the brace closes that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'$' if bytes.get(index + 1) == Some(&b'$') => index += 1,
            b'$' if bytes.get(index + 1) == Some(&b'{') => {
                depth += 1;
                if depth > DEEPEST {
                    return None;
                }
                index += 1;
            }
            b'}' if depth == 0 => return Some(index),
            b'}' => depth -= 1,
            _ => {}
        }
        index += 1;
    }
    None
}

/// What stands between braces.
fn braced(text: &str, variables: &dyn Variables) -> Result<String, Failure> {
    let (name, rest) = text.split_at(name_length(text));
    if name.is_empty() {
        return Err(Failure::Format);
    }
    let value = variables.get(name);
    let filled = value.clone().filter(|value| !value.is_empty());
    let operators = [":-", "-", ":?", "?", ":+", "+"];
    let Some(operator) = operators.into_iter().find(|operator| rest.starts_with(operator)) else {
        return if rest.is_empty() { Ok(value_or_empty(name, variables)) } else { Err(Failure::Format) };
    };
    let word = || interpolate(&rest[operator.len()..], variables);
    let required = |message: String| Failure::Required { name: name.to_owned(), message };
    match operator {
        ":-" => filled.map_or_else(word, Ok),
        "-" => value.map_or_else(word, Ok),
        ":?" => filled.map_or_else(|| Err(required(word()?)), Ok),
        "?" => value.map_or_else(|| Err(required(word()?)), Ok),
        ":+" => filled.map_or_else(|| Ok(String::new()), |_| word()),
        _ => value.map_or_else(|| Ok(String::new()), |_| word()),
    }
}

fn value_or_empty(name: &str, variables: &dyn Variables) -> String {
    variables.get(name).unwrap_or_else(|| {
        variables.missing(name);
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Fixed(RefCell<Vec<String>>);

    impl Variables for Fixed {
        fn get(&self, name: &str) -> Option<String> {
            [("A", "a"), ("B", "b"), ("EMPTY", "")]
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        }

        fn missing(&self, name: &str) {
            self.0.borrow_mut().push(name.to_owned());
        }
    }

    #[test]
    fn all_forms() {
        for (text, expected) in [
            ("$A-$B", "a-b"),
            ("${A}b", "ab"),
            ("$$A $${A}", "$A ${A}"),
            ("${A:-x}", "a"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${NONE-x}", "x"),
            ("${NONE:-${B}y}", "by"),
            ("${NONE:-${ALSO:-{z}}}", "{z}"),
            ("${NONE:-$$}", "$"),
            ("${A:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE+x}", ""),
            ("${A:?no}", "a"),
            ("${EMPTY?no}", ""),
            ("${NONE:-a:b}", "a:b"),
            ("ä$A", "äa"),
        ] {
            assert_eq!(interpolate(text, &Fixed::default()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_set_is_told() {
        let variables = Fixed::default();
        assert_eq!(interpolate("${X}$Y${NONE:-}", &variables).as_deref(), Ok(""));
        assert_eq!(*variables.0.borrow(), ["X", "Y"]);
    }

    #[test]
    fn mistakes() {
        for bad in ["${", "${}", "$", "a $ b", "${A", "${1}", "${A!}", "${A:b}", "$1", "${NONE:-${}"] {
            assert_eq!(interpolate(bad, &Fixed::default()), Err(Failure::Format), "{bad}");
        }
        let deep = "${NONE:-".repeat(100_000) + &"}".repeat(100_000);
        assert_eq!(interpolate(&deep, &Fixed::default()), Err(Failure::Format));
        let required =
            |message: &str| Err(Failure::Required { name: "NONE".to_owned(), message: message.to_owned() });
        assert_eq!(interpolate("${NONE:?set $A}", &Fixed::default()), required("set a"));
        assert_eq!(interpolate("${NONE?}", &Fixed::default()), required(""));
    }
}
