//! File modes as `chmod(1)` writes them: octal (`0755`) or symbolic (`u+x,go=rX`).
//!
//! Source: POSIX.1-2024, utility `chmod`. One difference: a clause without `ugoa` acts on all three, without
//! a umask, so that the result does not depend on the process that builds.

use std::str::FromStr;

/// How `--chmod` changes a mode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModeChange {
    /// These bits and no others.
    Exact(u32),
    /// Actions in order, each on what the one before left.
    Symbolic(Vec<Action>),
}

/// One action of a symbolic mode, such as `go=rX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action {
    /// Whose bits: `0o700` for `u`, `0o070` for `g`, `0o007` for `o`, together.
    classes: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Permissions {
    /// `rwx` as the bits of others (`0o007`); `X`, `s` and `t` as flags.
    Named { bits: u32, search: bool, set_id: bool, sticky: bool },
    /// The bits that a class has now; how far to shift the mode right.
    CopyOf { shift: u32 },
}

/// The text is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode \"{text}\": {why}")]
pub struct ModeError {
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl base::Faulty for ModeError {
    fn fault(&self) -> base::Fault {
        base::Fault::Input
    }
}

impl FromStr for ModeChange {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let fail = |why| ModeError { text: text.to_owned(), why };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Exact).ok_or_else(|| fail("expected octal digits, at most 7777"));
        }
        let mut actions = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut actions).map_err(fail)?;
        }
        Ok(Self::Symbolic(actions))
    }
}

impl ModeChange {
    /// The mode after the change: permission bits with setuid, setgid and sticky.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Exact(mode) => *mode,
            Self::Symbolic(actions) => actions.iter().fold(mode, |mode, action| action.apply(mode, is_dir)),
        }
    }
}

/// Parses `[ugoa]*` followed by one or more `[+-=][rwxXst]*` or `[+-=][ugo]`.
fn parse_clause(clause: &str, actions: &mut Vec<Action>) -> Result<(), &'static str> {
    let start = clause.find(['+', '-', '=']).ok_or("expected one of + - = after the classes")?;
    let (who, mut rest) = clause.split_at(start);
    let classes = parse_classes(who)?;
    while let Some(operator) = rest.chars().next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |next| next + 1);
        let permissions = parse_permissions(&rest[1..end])?;
        actions.push(Action { classes, operator, permissions });
        rest = &rest[end..];
    }
    Ok(())
}

fn parse_classes(who: &str) -> Result<u32, &'static str> {
    let mut classes = 0;
    for letter in who.chars() {
        classes |= match letter {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return Err("expected u, g, o or a before the operator"),
        };
    }
    Ok(if classes == 0 { 0o777 } else { classes })
}

fn parse_permissions(text: &str) -> Result<Permissions, &'static str> {
    match text {
        "u" => return Ok(Permissions::CopyOf { shift: 6 }),
        "g" => return Ok(Permissions::CopyOf { shift: 3 }),
        "o" => return Ok(Permissions::CopyOf { shift: 0 }),
        _ => {}
    }
    let (mut bits, mut search, mut set_id, mut sticky) = (0, false, false, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= 4,
            'w' => bits |= 2,
            'x' => bits |= 1,
            'X' => search = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return Err("expected r, w, x, X, s or t, or one of u, g and o, after the operator"),
        }
    }
    Ok(Permissions::Named { bits, search, set_id, sticky })
}

impl Action {
    fn apply(self, mode: u32, is_dir: bool) -> u32 {
        let bits = self.bits(mode, is_dir);
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => mode & !self.replaced(is_dir) | bits,
        }
    }

    /// The bits of a mode that the permissions stand for, in the classes of the action.
    fn bits(self, mode: u32, is_dir: bool) -> u32 {
        match self.permissions {
            Permissions::CopyOf { shift } => (((mode >> shift) & 7) * 0o111) & self.classes,
            Permissions::Named { bits, search, set_id, sticky } => {
                let search = search && (is_dir || mode & 0o111 != 0);
                let special = if set_id { self.set_id_bits() } else { 0 } | if sticky { 0o1000 } else { 0 };
                (((bits | u32::from(search)) * 0o111) & self.classes) | special
            }
        }
    }

    /// The bits that `=` clears. It leaves the set-id bits of a directory unless they are named.
    fn replaced(self, is_dir: bool) -> u32 {
        let sticky = if self.classes == 0o777 { 0o1000 } else { 0 };
        self.classes | if is_dir { 0 } else { self.set_id_bits() | sticky }
    }

    fn set_id_bits(self) -> u32 {
        let of = |class: u32, bit: u32| if self.classes & class != 0 { bit } else { 0 };
        of(0o700, 0o4000) | of(0o070, 0o2000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_does() {
        for (change, before, is_dir, after) in [
            ("755", 0o4600, false, 0o755),
            ("0", 0o777, false, 0),
            ("4755", 0, true, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("go=rX", 0o711, false, 0o755),
            ("go=rX", 0o600, false, 0o644),
            ("a+X", 0o600, true, 0o711),
            ("a=rX,u+w", 0o777, false, 0o755),
            ("u=rwX,go=u-w", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("o=g,g-w", 0o660, false, 0o646),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("u=rwx", 0o4755, false, 0o755),
            ("u=rwx", 0o4755, true, 0o4755),
            ("a=", 0o7777, false, 0),
            ("u+r-w+x", 0o200, false, 0o500),
        ] {
            let parsed: ModeChange = change.parse().unwrap();
            assert_eq!(parsed.apply(before, is_dir), after, "{change} on {before:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "8", "77777", "7x", "u", "u+q", "z+x", "u+x,", "u++gx", "+rg", "0o755"] {
            assert!(text.parse::<ModeChange>().is_err(), "{text:?}");
        }
        let error = "u+q".parse::<ModeChange>().unwrap_err();
        assert!(error.to_string().starts_with("invalid mode \"u+q\": expected r"), "{error}");
    }
}
